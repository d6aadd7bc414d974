"""Images with index masks: layouts, tiles, missing pixels, and what is refused."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from sar1m.store.errors import ConfigError, SourceError
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.labelled_images import IGNORED
from sarmae.evaluate.study_config import TaskConfig
from support.paths import SHARED
from support.simulated_sets import write_land_cover_masks, write_tif


def opened(path, **keys):
    dataset = {"kind": "masks", "path": str(path), "image_px": 32, "val_share": 0, **keys}
    return open_dataset(TaskConfig(name="scenes", kind="segmentation", dataset=dataset))


def db(seed, shape=(2, 64, 64)):
    return np.random.default_rng(seed).normal(-12, 3, shape).astype(np.float32)


def halves(shape=(64, 64), dtype=np.uint8, values=(0, 1)):
    mask = np.full(shape, values[0], dtype=dtype)
    mask[:, shape[1] // 2 :] = values[1]
    return mask


def scenes(root, count=6, image=db, mask=halves):
    for number in range(count):
        write_tif(root / f"images/{number}.tif", image(number), ("VV", "VH"))
        write_tif(root / f"masks/{number}.tif", mask()[None])
    return root


def png(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def of_split(task, split):
    return np.flatnonzero(task.splits == split).tolist()


def test_simulated_land_cover_opens_as_tiles(tmp_path):
    task = opened(write_land_cover_masks(tmp_path, scenes=8), image_px=64, val_share=0.2)
    assert len(task.splits) == 8 * 4
    assert task.inputs.units == "dB"
    assert task.inputs.channels == ("VV", "VH")
    assert task.classes == ("0", "1", "2", "3")
    images, masks = task.images.read(range(32)), task.masks.read(range(32))
    assert images.shape == (32, 2, 64, 64)
    assert masks.shape == (32, 64, 64)
    assert (masks[images.isnan().any(dim=1)] == IGNORED).all()
    assert images.isnan().any()
    assert all(len(set(task.splits[task.groups == group])) == 1 for group in set(task.groups))
    taught = images[task.splits == "train"].transpose(0, 1).flatten(1)
    assert task.inputs.mean == pytest.approx(taught.nanmean(dim=1).tolist(), rel=1e-5)


def test_tiles_put_together_are_the_scene(tmp_path):
    scenes(tmp_path, image=lambda seed: db(seed, (2, 50, 70)), mask=lambda: halves((50, 70)))
    task = opened(tmp_path)
    first = np.flatnonzero(task.groups == task.groups[0]).tolist()
    assert len(first) == 2 * 3
    images, masks = task.images.read(first).reshape(2, 3, 2, 32, 32), task.masks.read(first).reshape(2, 3, 32, 32)
    whole = images.permute(2, 0, 3, 1, 4).reshape(2, 64, 96)
    labels = masks.permute(0, 2, 1, 3).reshape(64, 96)
    np.testing.assert_array_equal(whole[:, :50, :70].numpy(), db(0, (2, 50, 70)))
    np.testing.assert_array_equal(labels[:50, :70].numpy(), halves((50, 70)))
    assert whole[:, 50:].isnan().all()
    assert whole[:, :, 70:].isnan().all()
    assert (labels[50:] == IGNORED).all()
    assert (labels[:, 70:] == IGNORED).all()


def test_minus_one_and_255_are_no_labels(tmp_path):
    def spotted():
        mask = halves(dtype=np.int16)
        mask[0, :4], mask[1, :4] = -1, 255
        return mask

    task = opened(scenes(tmp_path, mask=spotted))
    mask = task.masks.read([0])[0]
    assert (mask[:2, :4] == IGNORED).all()
    assert (mask[2:] != IGNORED).all()


def test_a_pixel_that_one_channel_misses_has_no_label(tmp_path):
    def holed(seed):
        image = db(seed)
        image[1, 5, 6] = np.nan
        image[0, 7, 8] = -np.inf
        return image

    task = opened(scenes(tmp_path, image=holed))
    assert torch.nonzero(task.masks.read([0])[0] == IGNORED).tolist() == [[5, 6], [7, 8]]
    assert np.isfinite(task.inputs.mean).all()


def test_sen1floods11_layout_with_its_lists(tmp_path):
    for number, region in enumerate(("Ghana", "Ghana", "India", "India", "Spain", "Spain")):
        name = f"{region}_{100 + number}"
        write_tif(tmp_path / f"S1Hand/{name}_S1Hand.tif", db(number), ("VV", "VH"))
        write_tif(tmp_path / f"LabelHand/{name}_LabelHand.tif", halves(dtype=np.int16)[None])
    blank = np.full((2, 64, 64), np.nan, np.float32)
    write_tif(tmp_path / "S1Hand/Paraguay_7_S1Hand.tif", blank, ("VV", "VH"))
    write_tif(tmp_path / "LabelHand/Paraguay_7_LabelHand.tif", np.full((1, 64, 64), -1, np.int16))
    by_region = opened(tmp_path, hold_out="region=India,Spain")
    assert by_region.classes == ("land", "water")
    assert "1 images without data left out (Paraguay_7)" in by_region.notes
    assert len(of_split(by_region, "test")) == 16
    for split, names in (("train", ("Ghana_100", "India_102", "Paraguay_7")), ("test", ("Spain_104",))):
        lines = [f"{name}_S1Hand.tif,{name}_LabelHand.tif" for name in names]
        (tmp_path / f"flood_{split}_data.csv").write_text("\n".join(lines) + "\n")
    listed = opened(tmp_path)
    assert len(of_split(listed, "train")) == 8
    assert len(of_split(listed, "test")) == 4
    assert "3 images left out: no list of a split names them" in listed.notes


def test_lulc_numbers_have_names_and_can_be_merged(tmp_path):
    for number in range(4):
        write_tif(tmp_path / f"S1RTC/38D_{number}.tif", db(number).astype(np.float64))
        write_tif(tmp_path / f"LULC/38D_{number}.tif", halves(values=(4, 9))[None])
    task = opened(tmp_path)
    assert task.classes == ("crops", "rangeland")
    assert task.inputs.channels == ("VV", "VH")
    merged = opened(tmp_path, classes={"9": "green", "4": "field", "1": "water"})
    assert merged.classes == ("green", "field")
    assert (merged.masks.read([0])[0] == 1).all()  # the left half is 4


def test_a_file_a_polarisation_and_split_folders(tmp_path):
    for split, numbers in (("train", (1, 2, 3)), ("test", (4, 5))):
        for number in numbers:
            for band, pol in enumerate(("VV", "HH", "HV", "VH")):
                image = np.random.default_rng([number, band]).integers(0, 255, (48, 48)).astype(np.uint8)
                image[0, 0] = 10 * band
                png(tmp_path / split / f"images/{number}_{pol}.tiff", image)
            png(tmp_path / split / f"labels/{number}_gt.png", halves((48, 48)))
    task = opened(tmp_path)
    assert task.inputs.channels == ("HH", "HV", "VH", "VV")
    assert task.inputs.units == "picture"
    assert task.images.read([0])[0, :, 0, 0].tolist() == [10, 20, 30, 0]
    assert (len(of_split(task, "train")), len(of_split(task, "test"))) == (12, 8)


def test_colours_of_a_mask_are_classes_by_name(tmp_path):
    colours = np.zeros((64, 64, 3), np.uint8)
    colours[:, :20], colours[:, 20:40] = (0, 0, 255), (255, 0, 10)
    for number in range(4):
        grey = np.random.default_rng(number).integers(1, 255, (64, 64)).astype(np.uint8)
        png(tmp_path / f"images/{number}.png", grey)
        png(tmp_path / f"masks/{number}.png", colours)
    task = opened(tmp_path, classes={"#0000ff": "water", "#ff000a": "city", "#000000": ""})
    assert task.classes == ("water", "city")
    mask = task.masks.read([0, 1])
    assert (mask[0, :, :20] == 0).all()
    assert (mask[0, :, 20:] == 1).all()
    assert (mask[1, :, :8] == 1).all()
    assert (mask[1, :, 8:] == IGNORED).all()


def test_a_palette_is_read_by_number(tmp_path):
    scenes(tmp_path, count=4)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
        mask = Image.fromarray(halves()).convert("P")
        mask.putdata(list(halves().ravel()))
        mask.putpalette([9, 9, 9, 200, 0, 0])
        mask.save(path.with_suffix(".png"))
    assert opened(tmp_path).classes == ("0", "1")


def test_black_alone_is_the_same_class_as_elsewhere_in_a_set_of_colours(tmp_path):
    for number in range(6):
        colours = np.zeros((64, 64, 3), np.uint8)
        colours[:20] = (255, 0, 0) if number else (0, 0, 0)
        png(
            tmp_path / f"images/{number}.png", np.random.default_rng(number).integers(1, 255, (64, 64)).astype(np.uint8)
        )
        png(tmp_path / f"masks/{number}.png", colours)
    assert opened(tmp_path).classes == ("#000000", "#ff0000")


def test_255_is_a_class_where_it_is_named_and_the_message_says_so_where_not(tmp_path):
    scenes(tmp_path, mask=lambda: halves(values=(0, 255)))
    with pytest.raises(ConfigError, match="255 counts as no label; name it in `classes`"):
        opened(tmp_path)
    task = opened(tmp_path, classes={"0": "land", "255": "water"})
    assert task.classes == ("land", "water")
    assert (task.masks.read(range(len(task.splits))) != IGNORED).all()


def test_units_of_the_dataset_are_stated(tmp_path):
    scenes(tmp_path, image=lambda seed: 10 ** (db(seed) / 10))
    with pytest.raises(SourceError, match='units = "linear" or "dB"'):
        opened(tmp_path)
    task = opened(tmp_path, units="linear")
    assert task.inputs.units == "dB"
    np.testing.assert_allclose(task.inputs.mean, [-12, -12], atol=0.3)
    with pytest.raises(ValidationError, match="goes with kind = 'masks'"):
        TaskConfig(name="x", kind="detection", dataset={"kind": "coco", "path": "x", "units": "dB"})


def test_a_blank_tile_is_left_out(tmp_path):
    def quarter():
        mask = halves()
        mask[:32, :32] = 255
        return mask

    task = opened(scenes(tmp_path, count=4, mask=quarter))
    assert len(task.splits) == 4 * 3
    assert "12 tiles of 32 px out of 4 scenes, 4 without a label left out" in task.notes


def spoiled_mask(mask):
    return lambda root: write_tif(root / "masks/3.tif", mask[None])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoiled_mask(halves((64, 60))), r"masks/3\.tif: 64 x 60 px, but .*images/3\.tif has 64 x 64"),
        (spoiled_mask(np.full((64, 64), 255, np.uint8)), r"masks/3\.tif: an empty mask"),
        (spoiled_mask(halves(dtype=np.float32, values=(0, 0.5))), r"masks/3\.tif: a mask with the value 0\.5"),
        (lambda root: write_tif(root / "masks/3.tif", np.stack([halves()] * 2)), r"masks/3\.tif: 2 bands of uint8"),
        (lambda root: (root / "masks/3.tif").write_bytes(b"II*\0none"), r"masks/3\.tif: cannot be read as a picture"),
        (lambda root: (root / "images/3.tif").unlink(), r"masks/3\.tif: no image '3'"),
        (lambda root: write_tif(root / "images/3.tif", 10 ** db(3), ("VV", "VH")), r"Is it linear power\?"),
        (lambda root: write_tif(root / "images/3.tif", db(3)[:1], ("VV",)), r"images/3\.tif: dB of VV, but the first"),
        (lambda root: write_tif(root / "images/3.tif", db(3)[:1]), r"images/3\.tif: 1 float band described as None"),
        (lambda root: (root / "masks").rename(root / "answers"), r"one folder of masks expected, found none"),
    ],
)
def test_bad_scenes_are_named(tmp_path, spoil, message):
    spoil(scenes(tmp_path))
    with pytest.raises(SourceError, match=message):
        opened(tmp_path)


def test_a_label_without_a_name_is_refused_and_can_be_left_out(tmp_path):
    scenes(tmp_path, mask=lambda: halves(values=(1, 7)))
    with pytest.raises(SourceError, match=r"masks/0\.tif: label 7 has no name; there are 0, 1"):
        opened(tmp_path, classes={"0": "land", "1": "water"})
    with pytest.raises(ConfigError, match=r"1|two classes"):
        opened(tmp_path, classes={"1": "water", "7": ""})


def test_images_without_masks_are_left_out_and_reported(tmp_path):
    scenes(tmp_path)
    write_tif(tmp_path / "images/9.tif", db(9), ("VV", "VH"))
    assert "1 images without a mask left out" in opened(tmp_path).notes


def test_one_scene_cannot_be_taught_and_tested(tmp_path):
    with pytest.raises(SourceError, match=r"none in test"):
        opened(scenes(tmp_path, count=1))


def test_tiff_without_rasterio_names_the_extra(tmp_path, monkeypatch):
    scenes(tmp_path)
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"pip install 'sar1m\[evaluate\]'"):
        opened(tmp_path)


@pytest.mark.skipif(not (SHARED / "data/flood_chips").is_dir(), reason="flood chips are local only: ../shared/data")
def test_real_flood_chips_open():
    task = opened(SHARED / "data/flood_chips", image_px=128)
    assert task.classes == ("land", "water")
    assert "1 images without data left out (Paraguay_34417)" in task.notes
    assert len(np.unique(task.groups)) == 4
    assert -30 < task.inputs.mean[1] < task.inputs.mean[0] < -5


@pytest.mark.skipif(not (SHARED / "data/s1s2_rtc_pairs").is_dir(), reason="S1RTC pairs are local only: ../shared/data")
def test_real_rtc_pairs_open_with_their_land_cover():
    task = opened(SHARED / "data/s1s2_rtc_pairs", image_px=112)
    assert task.classes == ("water", "trees", "crops", "built area", "bare ground", "rangeland")
    assert task.images.read([0]).shape == (1, 2, 112, 112)
