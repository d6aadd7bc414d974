"""Class folders as people have them: layouts, depths, sizes, copies, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.datasets.pictures import read_grey
from sarmae.evaluate.study_config import TaskConfig
from support.paths import SHARED
from support.simulated_sets import write_target_chips

CHIPS = SHARED / "data/aircraft_chips"


def opened(path, kind="classification", **keys):
    dataset = {"kind": "folders", "path": str(path), "image_px": 32, **keys}
    return open_dataset(TaskConfig(name="chips", kind=kind, dataset=dataset))


def noise(seed, shape=(40, 40), dtype=np.uint8):
    most = 255 if dtype == np.uint8 else 60000
    return np.random.default_rng([seed, 1]).gamma(1, most / 8, shape).clip(0, most).astype(dtype)


def put(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def chips(root, classes=("boat", "tank"), per_class=8, **options):
    for kind, name in enumerate(classes):
        for number in range(per_class):
            put(root / name / f"{number}.png", noise(100 * kind + number, **options))
    return root


def test_simulated_targets_open_as_a_task(tmp_path):
    task = opened(write_target_chips(tmp_path, classes=3, per_class=20), image_px=64)
    assert task.classes == ("type-0", "type-1", "type-2")
    assert np.bincount(task.labels).tolist() == [20] * 3
    assert set(task.splits) == {"train", "val", "test"}
    assert task.inputs.units == "picture"
    assert task.inputs.channels == ("grey",)
    images = task.images.read(range(60))
    assert images.shape == (60, 1, 64, 64)
    taught = images[torch.from_numpy(task.splits == "train")]
    assert task.inputs.mean[0] == pytest.approx(taught.mean().item(), rel=1e-5)
    assert task.inputs.std[0] == pytest.approx(taught.std().item(), rel=1e-3)
    assert torch.equal(task.images.read([5, 3]), images[[5, 3]])


def test_the_same_folder_opens_the_same_way_twice(tmp_path):
    chips(tmp_path)
    one, other = opened(tmp_path), opened(tmp_path)
    assert (one.splits == other.splits).all()
    assert one.inputs == other.inputs
    assert one.notes == other.notes


def test_images_are_cut_around_their_middle_and_never_stretched(tmp_path):
    for kind in "ab":
        for number in range(6):
            put(tmp_path / f"{kind}/{number}.png", noise(number + ord(kind), shape=(50, 21)))
    task = opened(tmp_path)
    image = task.images.read([0])[0, 0].numpy()
    stored = np.array(Image.open(tmp_path / "a/0.png"))
    np.testing.assert_array_equal(image[:, 5:26], stored[9:41])
    assert np.isnan(image[:, :5]).all()
    assert np.isnan(image[:, 26:]).all()
    assert "of 12 images 12 cropped, 12 padded" in task.notes[-1]
    assert task.attributes["cols_px"].tolist() == [21.0] * 12


def test_mstar_folders_give_split_class_and_depression(tmp_path):
    for split, angle, start in (("TRAIN", "17_DEG", 0), ("TEST", "15_DEG", 50)):
        for kind in ("BMP2", "T72"):
            for number in range(6):
                seed = start + number + 100 * (kind == "T72")
                put(tmp_path / f"MSTAR/{split}/{angle}/{kind}/SN_{number % 2}/HB{number}.jpeg", noise(seed))
    task = opened(tmp_path, val_share=0.2)
    assert task.classes == ("BMP2", "T72")
    assert set(task.attributes["depression_deg"][task.splits == "test"]) == {15.0}
    assert set(task.attributes["depression_deg"][task.splits != "test"]) == {17.0}
    assert set(task.attributes["folder"]) == {f"{kind}/SN_{n}" for kind in ("BMP2", "T72") for n in (0, 1)}
    held = opened(tmp_path, hold_out="folder=BMP2/SN_0,T72/SN_0")
    assert set(held.attributes["folder"][held.splits == "test"]) == {"BMP2/SN_0", "T72/SN_0"}


def test_copies_never_lie_across_a_drawn_split(tmp_path):
    for kind in "ab":
        for number in range(10):
            image = noise(number + 300 * (kind == "a"))
            put(tmp_path / f"{kind}/{number}.png", image)
            put(tmp_path / f"{kind}/{number}-turned.png", np.rot90(image)[:, ::-1])
            put(tmp_path / f"{kind}/{number}-darker.bmp", (image * 0.5).astype(np.uint8))
    task = opened(tmp_path)
    assert len(np.unique(task.groups)) == 20
    assert np.bincount(task.groups).tolist() == [3] * 20
    assert all(len(set(task.splits[task.groups == group])) == 1 for group in range(20))


def test_a_copy_across_the_datasets_own_split_is_left_out_of_train(tmp_path):
    for kind in "ab":
        for number in range(8):
            split = "train" if number < 5 else "test"
            put(tmp_path / f"{split}/{kind}/{number}.png", noise(number + 20 * (kind == "a")))
    put(tmp_path / "train/a/leak.png", np.ascontiguousarray(noise(27)[:, ::-1]))
    task = opened(tmp_path, val_share=0)
    assert np.bincount(task.labels[task.splits == "train"]).tolist() == [5, 5]
    assert any("1 of 11 samples" in note and "left out" in note for note in task.notes)
    trusted = opened(tmp_path, val_share=0, trust_split=True)
    assert np.bincount(trusted.labels[trusted.splits == "train"]).tolist() == [6, 5]


def test_classes_are_renamed_merged_and_left_out(tmp_path):
    chips(tmp_path, classes=("cargo", "tanker", "tug", "junk"), per_class=4)
    put(tmp_path / "cargo/bulk/9.png", noise(900))
    put(tmp_path / "cargo/bulk/8.png", noise(901))
    renamed = opened(tmp_path, classes={"tanker": "large", "cargo": "large", "cargo/bulk": "bulk"})
    assert renamed.classes == ("large", "bulk")
    assert np.bincount(renamed.labels).tolist() == [8, 2]
    assert "left out: junk, tug" in renamed.notes
    fewer = opened(tmp_path, classes={"junk": ""})
    assert fewer.classes == ("cargo", "tanker", "tug")


def test_sixteen_bits_are_read_as_they_are(tmp_path):
    chips(tmp_path, dtype=np.uint16)
    task = opened(tmp_path)
    image = task.images.read([0])[0, 0].numpy()
    np.testing.assert_array_equal(image, np.array(Image.open(tmp_path / "boat/0.png"))[4:36, 4:36])
    assert image.max() > 10000


def test_float_pictures_keep_their_missing_pixels(tmp_path):
    for kind in "ab":
        for number in range(5):
            image = noise(number + ord(kind)).astype(np.float32)
            image[20, 20] = np.nan
            put(tmp_path / f"{kind}/{number}.tiff", image)
    task = opened(tmp_path)
    assert int(torch.isnan(task.images.read([0])).sum()) == 1
    assert np.isfinite(task.inputs.mean).all()


def test_equal_channels_are_one_and_colours_are_refused(tmp_path):
    grey = noise(1)
    put(tmp_path / "grey.png", np.stack([grey] * 3, axis=2))
    np.testing.assert_array_equal(read_grey(tmp_path / "grey.png").pixels, grey)
    coloured = np.stack([grey, grey // 2, grey], axis=2)
    put(tmp_path / "coloured.png", coloured)
    with pytest.raises(SourceError, match=r"coloured\.png: a coloured picture"):
        read_grey(tmp_path / "coloured.png")


def test_most_draws_that_many(tmp_path):
    task = opened(chips(tmp_path, per_class=20), most=16)
    assert len(task.labels) == 16
    assert "16 images drawn (most = 16)" in task.notes


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda root: put(root / "lonely/0.png", noise(7)), SourceError, r"class 'lonely' has 1 image; at least 2"),
        (lambda root: (root / "empty").mkdir(), SourceError, r"empty: a class folder without pictures"),
        (lambda root: (root / "boat/0.png").write_bytes(b"\x89PNG no"), SourceError, r"boat/0\.png: cannot be read"),
        (lambda root: put(root / "stray.png", noise(7)), SourceError, r"stray\.png: lies in no class folder"),
        (lambda root: put(root / "boat/deep.png", noise(7, dtype=np.uint16)), SourceError, r"no common scale"),
        (lambda root: put(root / "train/x/0.png", noise(7)), SourceError, r"SPLIT/CLASS"),
    ],
)
def test_bad_folders_are_named(tmp_path, spoil, error, message):
    spoil(chips(tmp_path, per_class=3))
    with pytest.raises(error, match=message):
        opened(tmp_path)


def test_a_truncated_picture_is_named(tmp_path):
    chips(tmp_path, per_class=3)
    whole = (tmp_path / "tank/1.png").read_bytes()
    (tmp_path / "tank/1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"tank/1\.png: cannot be read as a picture"):
        opened(tmp_path)


def test_a_class_of_copies_alone_cannot_be_taught_and_tested(tmp_path):
    image = noise(5)
    for number in range(4):
        put(tmp_path / f"a/{number}.png", (image * (0.5 + 0.1 * number)).astype(np.uint8))
    for number in range(4):
        put(tmp_path / f"b/{number}.png", noise(number))
    with pytest.raises(SourceError, match=r"test has no sample of class 'a' once near-copies"):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "/nowhere/at/all"}, "no such folder"),
        ({"classes": {"car": "x"}}, r"'car' is no label.*boat, tank"),
        ({"classes": {"boat": "x", "tank": "x"}}, "two classes that are the least"),
    ],
)
def test_bad_configurations_are_refused(tmp_path, keys, message):
    chips(tmp_path, per_class=3)
    with pytest.raises(ConfigError, match=message):
        opened(**({"path": tmp_path} | keys))


@pytest.mark.parametrize(
    ("task", "dataset"),
    [("segmentation", "folders"), ("detection", "store"), ("classification", "coco"), ("classification", "masks")],
)
def test_a_dataset_that_cannot_serve_the_task_is_refused(tmp_path, task, dataset):
    with pytest.raises(ValidationError, match=f"{task} cannot use a dataset of kind '{dataset}'; '.*' expected"):
        TaskConfig(name="chips", kind=task, dataset={"kind": dataset, "path": str(tmp_path)})


def test_an_empty_root_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no pictures below it"):
        opened(tmp_path)


@pytest.mark.skipif(not CHIPS.is_dir(), reason="SAR-ACD is local only: put it into ../shared/data/aircraft_chips")
def test_real_aircraft_chips_open(tmp_path):
    for kind in ("A220", "ARJ21"):
        (tmp_path / kind).mkdir()
        for path in sorted((CHIPS / kind).iterdir())[:60]:
            (tmp_path / kind / path.name).symlink_to(path)
    task = opened(tmp_path, image_px=96)
    assert task.classes == ("A220", "ARJ21")
    assert len(np.unique(task.groups)) < 120
    assert task.images.read([0]).shape == (1, 1, 96, 96)
