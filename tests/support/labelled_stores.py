"""A finished store of three splits with land cover and its table, by the pipeline's own functions."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.io.zarr_groups import ImageArray, group_files
from sar1m.store.chunks import encode_chunk
from sar1m.store.schema import ArrayLayout, sar_encoding
from support.small_stores import POLS, put, seal, write_shard

SLOTS, SIDE_PX = 8, 40
COVERS = ("Cropland", "Tree cover", "Built-up")
COUNTRIES = ("PRT", "ESP", "FRA")


def labelled_store(root: Path, *, counts=None, covers=COVERS, change=None) -> tuple[Path, pd.DataFrame]:
    """counts: samples by split. Land cover goes round covers, but the third class has three samples of train;
    every tenth sample knows none. Cells hold two samples; the cell of the first two of test is that of two of train.
    change: a function of the table before it is written. Returns the store and its table."""
    table = pd.concat([_rows(*item, covers) for item in (counts or {"train": 40, "val": 10, "test": 20}).items()])
    table = table.reset_index(drop=True)
    for split, rows in table.groupby("split", sort=False):
        _write_split(root / f"data/{split}.zarr", split, rows.reset_index(drop=True))
    written = table if change is None else change(table)
    sink = io.BytesIO()
    told = written.drop(columns="land_cover").sample(frac=1, random_state=0)  # rows stand in no order
    pq.write_table(pa.Table.from_pandas(told, preserve_index=False), sink)
    put(root / "samples.parquet", sink.getvalue())
    seal(root)
    return root, table


def level_of(split: str, number: int) -> int:
    """The digital number of every pixel of a sample, one of its own."""
    return 1000 + {"train": 0, "val": 200, "test": 400}[split] + number


def _rows(split, count, covers):
    numbers = np.arange(count)
    kinds = numbers % len(COVERS)
    if split == "train":
        rare = np.flatnonzero(kinds == 2)
        kinds[rare[3:]] = 0
    cells = [f"{split}-{number // 2}" for number in numbers]
    if split == "test":
        cells[:2] = ["train-0"] * 2
    return pd.DataFrame(
        {
            "sample_id": [f"{split}-{number}" for number in numbers],
            "split": split,
            "index": numbers,
            "paired": False,
            "enl": (numbers + 0.5).astype(np.float32),
            "land_cover": [
                {} if number % 10 == 9 or not covers else {covers[kind]: 0.8}
                for number, kind in zip(numbers, kinds, strict=True)
            ],
            "cell": cells,
            "country": [COUNTRIES[number // 2 % 3] for number in numbers],
            "incidence_deg": (30 + numbers / 10).astype(np.float32),
            "residual_px": pd.array([None if number % 4 else number / 100 for number in numbers], dtype="Float32"),
            "lon": numbers * 0.1,
            "lat": 40.0,
        }
    )


def _write_split(group, split, rows):
    encoding = sar_encoding("training", "gamma0")
    layout = ArrayLayout(
        name="sar",
        dims=("sample", "pol", "y", "x"),
        sample_shape=(len(POLS), SIDE_PX, SIDE_PX),
        dtype=encoding.dtype,
        shard_samples=SLOTS,
    )
    image = ImageArray(layout=layout, encoding=encoding, compression="blosc-lz4", labels=POLS)
    for name, content in group_files([image], rows, {"split": split}).items():
        put(group / name, content)
    chunks = []
    for number in range(len(rows)):
        pixels = np.full(layout.sample_shape, level_of(split, number), dtype=encoding.dtype)
        pixels[:, 0] = 0  # no data, outside of any centre window
        pixels[:, 20, 20] = 0
        pixels[:, 21, 20] += 5
        chunks.append(encode_chunk(pixels, "blosc-lz4"))
    for shard in range(-(-len(chunks) // SLOTS)):
        write_shard(group, "sar", shard, chunks[shard * SLOTS : (shard + 1) * SLOTS], SLOTS)
