"""COCO boxes: scaling, splits, ids in any order, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.datasets.coco_boxes import scale_into
from sarmae.evaluate.study_config import TaskConfig
from support.paths import SHARED
from support.simulated_sets import write_ship_scenes

SHIPS = SHARED / "data/ship_boxes/coco"


def opened(path, **keys):
    dataset = {"kind": "coco", "path": str(path), "image_px": 64, "val_share": 0, **keys}
    return open_dataset(TaskConfig(name="ships", kind="detection", dataset=dataset))


def grey(seed, shape=(40, 80)):
    return np.random.default_rng(seed).integers(1, 255, shape).astype(np.uint8)


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def document(numbers, shape=(40, 80)):
    """An image a number, with one box each: x 10, y 20, 30 wide, 8 high."""
    return {
        "images": [{"id": n, "file_name": f"{n}.png", "height": shape[0], "width": shape[1]} for n in numbers],
        "annotations": [
            {"id": 100 + n, "image_id": n, "category_id": 7, "bbox": [10, 20, 30, 8], "area": 240, "iscrowd": 0}
            for n in numbers
        ],
        "categories": [{"id": 7, "name": "ship"}, {"id": 2, "name": "buoy"}],
    }


def write(path, document):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def ssdd(tmp_path):
    """root/images, root/annotations/{train,test}.json; images 1 to 6, of which 5 and 6 are tested."""
    for number in range(1, 7):
        put(tmp_path / f"images/{number}.png", grey(number))
    write(tmp_path / "annotations/train.json", document((3, 1, 2, 4)))
    write(tmp_path / "annotations/test.json", document((5, 6)))
    return tmp_path


def spoil(root, change, name="train"):
    path = root / f"annotations/{name}.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_simulated_ships_open(tmp_path):
    task = opened(write_ship_scenes(tmp_path, scenes=12), image_px=256, val_share=0.2)
    assert task.classes == ("ship",)
    assert {split: int((task.splits == split).sum()) for split in ("train", "val", "test")} == {
        "train": 6,
        "val": 2,
        "test": 4,
    }
    images = task.images.read(range(12))
    boxes = sum(len(one.labels) for one in task.boxes)
    assert boxes > 20
    inside, outside = [], []
    for image, one in zip(images[:, 0], task.boxes, strict=True):
        hull = torch.zeros(256, 256, dtype=torch.bool)
        for x0, y0, x1, y1 in one.corners.astype(int).tolist():
            hull[y0:y1, x0:x1] = True
        inside.append(image[hull].mean())
        outside.append(image[~hull].mean())
    assert torch.stack(inside).mean() > 1.5 * torch.stack(outside).mean()  # boxes stand where the ships are


def test_images_and_boxes_are_scaled_alike(ssdd):
    put(ssdd / "images/1.png", bright := np.full((40, 80), 10, np.uint8))
    bright[20:28, 10:40] = 250
    put(ssdd / "images/1.png", bright)
    task = opened(ssdd)
    number = next(n for n in range(6) if task.images.read([n])[0, 0].nan_to_num(0).max() > 249.9)
    image = task.images.read([number])[0, 0]
    assert image[:32].isfinite().all()
    assert image[32:].isnan().all()
    np.testing.assert_allclose(task.boxes[number].corners, [[8, 16, 32, 22.4]], rtol=1e-6)
    ship = torch.nonzero(image > 130).float()
    assert ship.amin(dim=0).tolist() == [16, 8]
    assert ship.amax(dim=0).tolist() == [21, 31]


def test_scaling_keeps_the_mean_and_makes_larger_too():
    image = grey(0, (200, 100))
    smaller = scale_into(image, 64)
    assert np.isfinite(smaller[:, :32]).all()
    assert np.isnan(smaller[:, 32:]).all()
    assert smaller[:, :32].mean() == pytest.approx(image.mean(), rel=0.02)
    assert smaller[:, :32].std() < image.std() / 2  # antialiased: noise is averaged, not picked
    larger = scale_into(np.full((5, 10), 7, np.uint16), 32)
    assert (larger[:16] == 7).all()


def test_splits_come_from_the_names_of_the_files(ssdd):
    task = opened(ssdd)
    assert (task.splits == "train").sum() == 4
    assert "the dataset's own split" in task.notes
    again = opened(ssdd, val_share=0.5)
    assert (again.splits == "val").sum() == 2


def test_sardet_folders_a_split_may_hold_the_same_name(tmp_path):
    for split, numbers, seed in (("train", (1, 2), 0), ("val", (1,), 50), ("test", (1, 2), 90)):
        for number in numbers:
            put(tmp_path / f"JPEGImages/{split}/{number}.png", grey(seed + number))
        write(tmp_path / f"Annotations/{split}.json", document(numbers))
    task = opened(tmp_path, image_px=80)
    assert task.splits.tolist() == ["test", "test", "train", "train", "val"]
    np.testing.assert_array_equal(task.images.read([4])[0, 0, :40].numpy(), grey(51))


def test_other_files_of_the_same_images_are_not_read(ssdd):
    write(ssdd / "annotations/test_offshore.json", document((5,)))
    write(ssdd / "annotations/train_test2017.json", document((1, 5)))
    write(ssdd / "annotations/notes.json", {"hello": 1})
    task = opened(ssdd)
    assert len(task.splits) == 6
    assert "not read: test_offshore.json, train_test2017.json" in task.notes


def test_one_file_without_a_split_is_split_by_groups(ssdd):
    (ssdd / "annotations/train.json").unlink()
    (ssdd / "annotations/test.json").unlink()
    write(ssdd / "annotations/all.json", document(range(1, 7)))
    task = opened(ssdd)
    assert set(task.splits) == {"train", "test"}
    assert "near-copies of each other" in task.notes[0]


def test_a_copied_image_across_the_split_is_left_out_of_train(ssdd):
    put(ssdd / "images/2.png", np.ascontiguousarray(grey(5)[:, ::-1]))
    task = opened(ssdd)
    assert (task.splits == "train").sum() == 3
    assert "1 of 4 samples of train and val are near-copies of samples of a later split; left out" in task.notes


def test_category_ids_in_any_order_and_merged(ssdd):
    spoil(ssdd, lambda document: document["annotations"][0].update(category_id=2))
    task = opened(ssdd)
    assert task.classes == ("buoy", "ship")
    assert sorted(label for one in task.boxes for label in one.labels.tolist()) == [0, 1, 1, 1, 1, 1]
    merged = opened(ssdd, classes={"ship": "float", "buoy": "float"})
    assert merged.classes == ("float",)
    without = opened(ssdd, classes={"buoy": ""})
    assert sum(len(one.labels) for one in without.boxes) == 5


def test_boxes_are_cut_at_the_edge_and_dropped_beyond_it(ssdd):
    def move(document):
        document["annotations"][0]["bbox"] = [-10, 30, 30, 30]
        document["annotations"][1]["bbox"] = [81, 5, 10, 10]
        document["annotations"][2]["iscrowd"] = 1

    spoil(ssdd, move)
    task = opened(ssdd)
    boxes = [one for one, split in zip(task.boxes, task.splits, strict=True) if split == "train"]  # 1, 2, 3, 4
    np.testing.assert_allclose(boxes[2].corners, [[0, 24, 16, 32]], rtol=1e-6)
    assert len(boxes[0].labels) == 0
    assert boxes[0].corners.shape == (0, 4)
    assert [one.crowd.tolist() for one in boxes] == [[], [True], [False], [False]]
    assert "1 boxes that lie beyond their image left out (1.png, annotation 101)" in task.notes


def double(document):
    document["images"][1]["id"] = document["images"][0]["id"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (double, r"train\.json: image id 3 stands twice \('3\.png', '1\.png'\)"),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, 0, 4]), r"annotation 103 of image 3 has the box \[1, 2, 0"),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, 3]), r"has the box \[1, 2, 3\]; x, y, width"),
        (lambda t: t["annotations"][0].update(bbox=[1, 2, 3, float("nan")]), r"has the box"),
        (lambda t: t["annotations"][0].update(category_id=9), r"annotation 103 is of category 9; known are \[2, 7\]"),
        (lambda t: t["annotations"][0].update(image_id=99), r"annotation 103 is of image 99"),
        (
            lambda t: t["images"][0].update(file_name="no.png"),
            r"image 'no\.png': no such PNG, JPEG, TIFF or BMP file below",
        ),
        (lambda t: t["images"][0].update(height=41), r"3\.png: 40 rows of 80 px .* says 41 of 80"),
        (lambda t: t["images"][0].pop("width"), r"'width' of an entry is absent; a whole number expected"),
        (lambda t: t["categories"].append({"id": 7, "name": "tug"}), r"category id 7 stands twice"),
        (lambda t: t["annotations"].clear(), r"train has 4 images with no box"),
    ],
)
def test_bad_entries_are_named(ssdd, change, message):
    spoil(ssdd, change)
    with pytest.raises(SourceError, match=message):
        opened(ssdd)


def twice(document):
    document["annotations"] += [dict(one) for one in document["annotations"][:2]]


def rounded(document):
    document["annotations"].append({**document["annotations"][0], "bbox": [10.2, 20, 30.1, 8]})


def renumbered(document):
    document["annotations"].append({**document["annotations"][0], "id": 999})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (twice, r"train\.json: annotation id 103 stands twice, with the box .* of image 3"),
        (rounded, r"annotation id 103 stands twice"),
        (renumbered, r"annotation 103 and 999 are the same"),
        (lambda t: t["images"].append({**t["images"][0], "id": 77}), r"train\.json: image '3\.png' stands twice"),
        (
            lambda t: t["images"].append({**t["images"][0], "id": 77, "file_name": "images/3.png"}),
            r"image 'images/3\.png' is the file .*3\.png, as is '3\.png'",
        ),
        (lambda t: t["annotations"][0].update(bbox=[10**300, 2, 3, 4]), r"train\.json: holds the integer|has the box"),
        (lambda t: t["annotations"][0].update(bbox=[2**62, 2, 3, 4]), r"has the box"),
        (lambda t: t["annotations"][0].update(iscrowd="0"), r"annotation 103 has iscrowd '0'; 0 or 1 expected"),
    ],
)
def test_what_would_count_twice_or_means_nothing_is_refused(ssdd, change, message):
    spoil(ssdd, change)
    with pytest.raises(SourceError, match=message):
        opened(ssdd)


def test_one_id_for_boxes_at_different_places_is_read(ssdd):
    """As in published copies of SSDD, whose ids begin anew in every image and sometimes within one."""

    def reuse(document):
        document["annotations"].append({**document["annotations"][0], "bbox": [50, 2, 9, 9]})
        for one in document["annotations"]:
            one["id"] = 1

    spoil(ssdd, reuse)
    assert sum(len(one.labels) for one in opened(ssdd).boxes) == 7


def test_names_of_files_are_compared_by_their_letters(ssdd):
    (ssdd / "images/1.png").rename(ssdd / "images/O\u0308.png")
    spoil(ssdd, lambda document: document["images"][1].update(file_name="JPEGImages\\..\\images\\\u00d6.png"))
    assert len(opened(ssdd).splits) == 6


def test_other_bad_sets_are_named(ssdd):
    with pytest.raises(ConfigError, match=r"'tug' is no label .*buoy, ship"):
        opened(ssdd, classes={"tug": "x"})
    put(ssdd / "more/5.png", grey(5))
    with pytest.raises(SourceError, match=r"image '5\.png': 2 files of that name"):
        opened(ssdd)
    (ssdd / "annotations/train.json").write_text('{"images": [')
    with pytest.raises(SourceError, match=r"train\.json: is not JSON"):
        opened(ssdd)


def test_a_folder_without_coco_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no COCO file"):
        opened(tmp_path)


@pytest.mark.skipif(not SHIPS.is_dir(), reason="SSDD images are local only: ../shared/data/ship_boxes")
def test_real_ssdd_images_open():
    task = opened(SHIPS, image_px=512)
    assert task.classes == ("ship",)
    assert task.splits.tolist() == ["test", "test", "train", "train"]
    image, box = task.images.read([0])[0, 0], task.boxes[0].corners[0].astype(int)
    ship = image[box[1] : box[3], box[0] : box[2]]
    assert ship.mean() > 2 * image.nanmean()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([60, 30, 79, 39], r"boxes 6 reach beyond their image.*Are they x0, y0, x1 and y1"),
        ([0.1, 0.2, 0.3, 0.4], "shares"),
    ],
)
def test_boxes_that_are_not_x_y_width_and_height_in_px_are_refused(ssdd, box, said):
    for path in (ssdd / "annotations").iterdir():
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            entry["bbox"] = box
        write(path, content)
    with pytest.raises(SourceError, match=said):
        opened(ssdd)


def test_crowds_alone_are_nothing_to_train_on(ssdd):
    content = document((5, 6))
    for entry in content["annotations"]:
        entry["iscrowd"] = 1
    write(ssdd / "annotations/test.json", content)
    with pytest.raises(SourceError, match=r"test has 2 images with no box among them \(iscrowd = 1 apart\)"):
        opened(ssdd)
