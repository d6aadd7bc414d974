"""A store of ours as a classification task: labels, attributes in the order of the samples, held-out values."""

import sys

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.schema import sar_encoding
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.study_config import TaskConfig
from support.labelled_stores import COUNTRIES, SIDE_PX, labelled_store, level_of


def opened(path, **keys):
    dataset = {"kind": "store", "path": str(path), "image_px": 32, **keys}
    return open_dataset(TaskConfig(name="cover", kind="classification", dataset=dataset))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return labelled_store(tmp_path_factory.mktemp("labelled") / "store")


@pytest.fixture(scope="module")
def task(made):
    return opened(made[0])


def rows_of(task, table):
    """The table's row of each sample, found by its incidence angle within its split and by its cell."""
    known = list(zip(table["split"], table["incidence_deg"].astype(float), table["country"], strict=True))
    found = zip(task.splits, task.attributes["incidence_deg"], task.attributes["country"], strict=True)
    return table.iloc[[known.index((str(split), float(angle), str(country))) for split, angle, country in found]]


def test_labels_pixels_and_attributes_are_of_the_same_sample(made, task):
    rows = rows_of(task, made[1])
    assert [task.classes[label] for label in task.labels] == [
        next(iter(cover)).replace(" ", "_") for cover in rows["land_cover"]
    ]
    encoding = sar_encoding("training", "gamma0")
    levels = [level_of(split, number) for split, number in zip(rows["split"], rows["index"], strict=True)]
    images = task.images.read(range(len(levels)))
    assert images.shape == (len(levels), 2, 32, 32)
    expected = encoding.add_offset + encoding.scale_factor * np.array(levels)
    np.testing.assert_allclose(images[:, 0, 0, 0].numpy(), expected, rtol=1e-6)
    assert torch.nonzero(images[3, 0].isnan()).tolist() == [[16, 16]]  # stored at 20, 20 of 40
    np.testing.assert_allclose(task.attributes["enl"], rows["enl"])
    assert task.attributes["cell"].tolist() == rows["cell"].tolist()
    residual = task.attributes["residual_px"]
    assert np.isnan(residual).tolist() == rows["residual_px"].isna().tolist()
    assert torch.equal(task.images.read([7, 2]).nan_to_num(), images[[7, 2]].nan_to_num())


def test_what_is_unknown_rare_or_of_a_tested_cell_is_left_out(made, task):
    assert task.classes == ("Cropland", "Tree_cover")
    assert "Built-up: left out, fewer than 8 samples of train" in task.notes
    assert any("2 of" in note and "of one cell with samples of a later split" in note for note in task.notes)
    assert "train-0" not in task.attributes["cell"][task.splits == "train"]
    assert set(task.splits) == {"train", "val", "test"}
    assert all(len(set(task.splits[task.groups == group])) == 1 for group in set(task.groups))
    assert task.inputs.units == "dB"
    assert task.inputs.channels == ("VV", "VH")


def test_a_country_is_held_out_and_its_cells_never_taught(made):
    task = opened(made[0], hold_out=f"country={COUNTRIES[0]}", val_share=0.2)
    assert set(task.attributes["country"][task.splits == "test"]) == {COUNTRIES[0]}
    assert COUNTRIES[0] not in task.attributes["country"][task.splits != "test"]
    assert any(note.startswith(f"test: country={COUNTRIES[0]}") for note in task.notes)


def test_classes_are_merged_by_name(made):
    task = opened(made[0], classes={"Tree_cover": "other", "Built-up": "other", "Cropland": "field"})
    assert task.classes == ("other", "field")
    assert len(task.labels) == 61  # of 70 samples 7 know no land cover, 2 share a cell with tested ones


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"image_px": 48}, f"samples of {SIDE_PX} x {SIDE_PX} px, image_px is 48. Use at most 32"),
        ({"hold_out": "country=XXX"}, "no sample has 'XXX'"),
        ({"path": "published:somewhere"}, "carry no land cover"),
        ({"classes": {"Sea": "x"}}, "'Sea' is no label"),
    ],
)
def test_bad_configurations_are_refused(made, keys, message):
    with pytest.raises(ConfigError, match=message):
        opened(**({"path": made[0]} | keys))


def test_a_store_without_land_cover_is_refused(tmp_path):
    root, _ = labelled_store(tmp_path, covers=())
    with pytest.raises(ConfigError, match="knows no land cover"):
        opened(root)


def test_a_table_of_other_samples_is_refused(tmp_path):
    root, _ = labelled_store(tmp_path, change=lambda table: table.iloc[:-1])
    with pytest.raises(StoreError, match=r"samples\.parquet: 19 samples of test, the arrays hold 20"):
        opened(root)


def test_a_changed_table_is_refused(tmp_path):
    root, _ = labelled_store(tmp_path)
    content = bytearray((root / "samples.parquet").read_bytes())
    content[100] ^= 1
    (root / "samples.parquet").write_bytes(content)
    with pytest.raises(StoreError, match=r"samples\.parquet: damaged"):
        opened(root)


def test_too_few_samples_to_teach_are_refused(tmp_path):
    root, _ = labelled_store(tmp_path, counts={"train": 12, "test": 6})
    with pytest.raises(ConfigError, match=r"two classes with 8 samples of train"):
        opened(root)


def test_without_pyarrow_the_extra_is_named(made, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ConfigError, match=r"pip install 'sar1m\[evaluate\]'"):
        opened(made[0])
