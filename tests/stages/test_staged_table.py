"""The table of staged records against the rows and statistics that were staged, kept here as plain Python objects."""

import io
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sar1m.config import BalanceConfig, ScreeningConfig, SplitConfig
from sar1m.core.select import DECIDING_COLUMNS, select
from sar1m.io import tables
from sar1m.stages import staged_table
from sar1m.stages.staged import StagedRecord, write_staged
from sar1m.stages.staged_table import StagedTable
from sar1m.stages.statistics import ChannelTotals, channel_statistics
from sar1m.store.errors import StoreError
from sar1m.store.outputs.folder import FolderOutput
from sar1m.store.schema import optical_encoding, sar_encoding
from sar1m.store.table_columns import CANDIDATE_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS
from support.candidate_tables import candidate_table

ENCODINGS = {"sar": sar_encoding("training", "gamma0"), "optical": optical_encoding("training", "reflectance")}
ROUND = 5  # rows a block, beside an empty block


@pytest.fixture
def small_groups(monkeypatch):
    """Row groups, batches and buckets of which a small table fills several."""
    for module in (tables, staged_table):
        monkeypatch.setattr(module, "ROW_GROUP", 16)
    monkeypatch.setattr(staged_table, "BLOCKS_A_BATCH", 3)
    monkeypatch.setattr(staged_table, "MOST_BUCKETS", 3)


def plain_rows(seed, count):
    """Rows as a block states them: some without numbers, partners or land cover, some across the antimeridian."""
    rng = np.random.default_rng(seed)
    lon, lat = rng.uniform(-180, 180, count), rng.uniform(-70, 70, count)
    table = candidate_table(count, lon=lon, lat=lat, phash=rng.integers(-(2**62), 2**62, count))
    rows = []
    for number, row in enumerate(table.to_dict("records")):
        plain = {name: _plain(value) for name, value in row.items() if name != "key"}
        west, east = plain["lon"] - 0.01, plain["lon"] + 0.01
        plain["bounds_lonlat"] = [west if west >= -180 else west + 360, plain["lat"], east, plain["lat"] + 0.02]
        if number % 17 == 0:
            plain["bounds_lonlat"] = [179.99, plain["lat"], -179.99, plain["lat"] + 0.02]
        if number % 3 == 0:
            plain |= {
                "optical_product": None,
                "optical_nodata_frac": None,
                "cloud_frac": None,
                "optical_datetime": None,
            }
        if number % 7 == 0:
            plain |= {"land_cover": {}, "mean_db": [-10.0, None], "relative_orbit": None, "sar_datetime": None}
        if number % 11 == 0:
            plain |= {"land_cover": {"water": 0.25, "crop": 0.5}, "labels": ["port", "sea"], "enl": None}
        rows.append(plain)
    return rows


def _plain(value):
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    if isinstance(value, np.generic):
        value = value.item()
    missing = value is pd.NaT or (isinstance(value, float) and math.isnan(value))
    return None if missing else value


def statistics_of(rows, rng):
    """Channel statistics of pixels that are drawn, and the pixels."""
    pixels = {
        row["patch"]: {
            name: rng.integers(0, 200, (2, 4, 4), dtype=np.uint16)
            for name in ENCODINGS
            if name == "sar" or row["optical_product"] is not None
        }
        for row in rows
    }
    stated = [
        {"patch": patch, **{name: channel_statistics(dn, ENCODINGS[name]) for name, dn in arrays.items()}}
        for patch, arrays in pixels.items()
    ]
    return stated, pixels


def staged(folder, seed, count):
    """A staged table, the rows in it with their keys, and their pixels by key."""
    rng, output, rows, keys, pixels = np.random.default_rng(seed), FolderOutput(folder), [], [], {}
    given = plain_rows(seed, count)
    for number in range(-(-count // ROUND) + 1):  # the last block has no row
        key = f"{number:032x}"
        block = given[number * ROUND : (number + 1) * ROUND]
        statistics, drawn = statistics_of(block, rng)
        write_staged(output, key, StagedRecord(rows=block, statistics=statistics, self_test=[{"sample_id": key}]), {})
        keys.append(key)
        rows += [{**row, "key": f"{key}/{row['patch']}"} for row in block]
        pixels |= {f"{key}/{patch}": arrays for patch, arrays in drawn.items()}
    return StagedTable(output, keys), rows, pixels


def expected(value, column):
    if column.type == "timestamp":
        return None if value is None else pd.Timestamp(value).tz_convert("UTC")
    if column.type == "float32":
        return None if value is None else float(np.float32(value))
    if column.type == "map<float32>":
        return [(name, float(np.float32(part))) for name, part in sorted((value or {}).items())]
    return value


@pytest.mark.parametrize(("seed", "count"), [(0, 0), (1, 1), (2, 16), (3, 17), (4, 48), (5, 49), (6, 190)])
def test_its_parquet_holds_the_staged_rows_in_the_order_that_is_asked_for(tmp_path, small_groups, seed, count):
    table, rows, _ = staged(tmp_path, seed, count)
    assert [one["sample_id"] for one in table.recoveries] == [f"{n:032x}" for n in range(-(-count // ROUND) + 1)]
    order = np.random.default_rng(seed).permutation(count)[: count - count // 4]
    frame = table.frame(["bounds_lonlat"]).iloc[order].reset_index(drop=True)
    names = [f"place {number}" for number in range(len(order))]
    frame = frame.assign(
        ecoregion=names, reason="r", measured=np.arange(len(order)) / 3, limit=np.nan, duplicates_of=""
    )
    content = b"".join(table.parquet(frame, REJECTED_COLUMNS))
    found = pq.read_table(io.BytesIO(content))
    assert pq.ParquetFile(io.BytesIO(content)).metadata.num_row_groups == max(-(-len(order) // 16), 1)
    for column in CANDIDATE_COLUMNS:
        wanted = [expected(rows[number].get(column.name), column) for number in order]
        assert found[column.name].to_pylist() == (names if column.name == "ecoregion" else wanted), column.name
    assert found["measured"].to_pylist() == (np.arange(len(order)) / 3).tolist()
    geometry = [rows[number]["bounds_lonlat"] for number in order]
    assert len(found["geometry"]) == len(geometry)


@pytest.mark.parametrize("seed", range(6))
def test_selection_and_bytes_are_those_of_the_whole_table_in_memory(tmp_path, small_groups, seed):
    table, rows, _ = staged(tmp_path, seed, 150)
    objects = pa.Table.from_batches([tables.candidate_batch(rows)]).to_pandas(maps_as_pydicts="strict")
    whole = objects.assign(row=np.arange(150))
    settings = {
        "screening": ScreeningConfig(),
        "balance": BalanceConfig(max_class_share=0.4, max_unpaired_share=0.3),
        "split": SplitConfig(val_share=0.2, test_share=0.2, exclude_buffer_km=400),
        "seed": seed,
        "excluded": np.array([[179.0, -20.0, -179.0, 20.0], [0.0, 0.0, 5.0, 5.0]]),
    }
    simple, slim = select(whole, **settings), select(table.frame(DECIDING_COLUMNS), **settings)
    assert slim.audit == simple.audit
    for name, columns in (("samples", SAMPLE_COLUMNS), ("rejected", REJECTED_COLUMNS)):
        one, other = getattr(simple, name), getattr(slim, name)
        one, other = (frame.assign(shard=np.int32(0), index=np.arange(len(frame))) for frame in (one, other))
        assert len(one) > 10
        assert b"".join(table.parquet(other, columns)) == tables.parquet_bytes(one, columns)


@pytest.mark.parametrize("seed", range(3))
def test_channel_statistics_are_numpys_over_the_pixels_of_the_chosen(tmp_path, small_groups, seed):
    table, rows, pixels = staged(tmp_path, seed, 60)
    wanted = np.random.default_rng(seed).random(60) < 0.5
    totals = {name: ChannelTotals(("a", "b"), encoding) for name, encoding in ENCODINGS.items()}
    for array, channels in table.channels(wanted):
        totals[array].add_all(channels)
    for name, total in totals.items():
        chosen = [pixels[row["key"]].get(name) for row, take in zip(rows, wanted, strict=True) if take]
        dn = np.concatenate([one.reshape(2, -1) for one in chosen if one is not None], axis=1).astype(object)
        for channel, found in zip(dn, total.rows(), strict=True):
            valid = channel[channel != 0]
            assert (found["count"], found["sum_dn"]) == (len(valid), sum(valid))
            assert found["sum_squares_dn"] == sum(valid**2)
            assert sum(found["histogram"]) == len(valid)


def test_statistics_beyond_the_encoding_are_refused(tmp_path):
    output, row = FolderOutput(tmp_path), plain_rows(0, 1)[0]
    channel = {"count": 1, "sum_dn": 1, "sum_squares_dn": 1, "first_bin": 70_000, "histogram": [1]}
    record = StagedRecord(rows=[row], statistics=[{"patch": row["patch"], "sar": [channel]}], self_test=[])
    write_staged(output, "0" * 32, record, {})
    total = ChannelTotals(("VV",), ENCODINGS["sar"])
    [(_, channels)] = StagedTable(output, ["0" * 32]).channels(np.array([True]))
    with pytest.raises(StoreError, match="bin 70000"):
        total.add_all(channels)


def test_nothing_is_left_on_the_disk(tmp_path):
    table, *_ = staged(tmp_path, 1, 20)
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".zip"}
    assert len(table.frame(["key"])) == 20
