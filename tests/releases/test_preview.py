"""preview.parquet: which samples it shows, that its pictures are theirs, that the hub's viewer finds them."""

import io
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import zarr
from PIL import Image

from sar1m.releases.preview import PREVIEW_ROWS, choose_rows, preview_files
from sar1m.store.errors import StoreError
from support.release_facts import small_facts, with_column


@pytest.fixture
def facts(tmp_path_factory):
    return small_facts(tmp_path_factory)


def table_of(facts):
    return pq.read_table(io.BytesIO(preview_files(facts)["preview.parquet"]))


def picture(cell):
    with Image.open(io.BytesIO(cell["bytes"])) as image:
        return np.array(image.convert("RGBA"))


def test_pictures_are_the_samples_own_between_the_releases_percentiles(facts):
    preview = table_of(facts).to_pylist()
    assert len(preview) == len(facts.samples)
    vv = facts.normalisation["sar"]["VV"]
    low, high = max(vv["p02_db"], vv["p50_db"] - 14), min(vv["p98_db"], vv["p50_db"] + 14)
    for shown in preview:
        array = zarr.open_group(facts.root / f"data/{shown['split']}.zarr", mode="r")["sar"]
        dn = np.asarray(array[shown["index"]])[0].astype(float)
        db = array.attrs["add_offset"] + array.attrs["scale_factor"] * dn
        expected = 255 * np.clip((db - low) / (high - low), 0, 1)
        grey = picture(shown["sar"]).astype(float)
        assert grey.shape == (64, 64, 4)
        assert np.ptp(grey[..., :3], axis=2).max() == 0
        assert np.abs(grey[..., 0] - expected).max() <= 0.51
        assert shown["sar"]["path"] == f"{shown['sample_id']}_sar.png"
        assert np.ptp(picture(shown["optical"])[..., :3], axis=2).max() > 20  # colours
        assert (picture(shown["optical"])[..., 3] == 255).all()


def test_the_same_facts_give_the_same_bytes(facts):
    assert preview_files(facts) == preview_files(facts)


def test_the_hubs_viewer_is_told_which_columns_are_pictures(facts):
    table = table_of(facts)
    features = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert list(features) == table.column_names
    assert {name for name, kind in features.items() if kind["_type"] == "Image"} == {"sar", "optical"}
    assert features["enl"] == {"dtype": "float32", "_type": "Value"}


def test_a_sample_without_partner_has_no_optical_picture(facts):
    lone = with_column(facts, "paired", facts.samples["index"] > 0)
    optical = table_of(lone).column("optical").to_pylist()
    assert [picture is None for picture in optical] == (lone.samples["index"] == 0).tolist()


def test_a_missing_shard_is_an_error_and_no_black_picture(facts, tmp_path):
    split = facts.samples["split"].iloc[0]
    empty = zarr.create_group(tmp_path / f"data/{split}.zarr")
    array = empty.create_array("sar", shape=(9, 2, 64, 64), chunks=(1, 2, 64, 64), dtype="u2")
    array.attrs.update({"scale_factor": 0.05, "add_offset": -60.0})
    with pytest.raises(StoreError, match="holds no data"):
        preview_files(replace(facts, root=tmp_path))


def many(samples):
    """A table of many samples: most of them train and forest."""
    number = np.arange(samples)
    cover = np.where(number % 100 == 7, "Mangroves", "Tree cover")
    return pd.DataFrame(
        {
            "sample_id": [f"sample {n}" for n in number],
            "split": np.where(number % 50 == 0, "val", np.where(number % 50 == 1, "test", "train")),
            "land_cover": [{name: 1.0} for name in cover],
            "labels": [[]] * samples,
        }
    )


def test_rows_are_spread_over_splits_and_classes_and_come_in_store_order():
    table = many(5000)
    chosen = choose_rows(table)
    assert len(chosen) == PREVIEW_ROWS
    assert chosen == sorted(set(chosen))
    shown = table.iloc[chosen]
    assert shown["split"].value_counts().to_dict() == {"train": 100, "val": 100, "test": 100}
    rare = [next(iter(cover)) for cover in shown["land_cover"]].count("Mangroves")
    assert rare == 50  # half of the training split's, of 1 % of the samples


def test_the_choice_follows_the_samples_not_their_places():
    table = many(2000)
    shuffled = table.sample(frac=1, random_state=3).reset_index(drop=True)
    assert set(table.iloc[choose_rows(table)]["sample_id"]) == set(shuffled.iloc[choose_rows(shuffled)]["sample_id"])
    assert choose_rows(table.iloc[:0]) == []
