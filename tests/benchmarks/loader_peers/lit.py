"""LitData: optimised chunks in a local folder, read by its own loader."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import litdata
import torch
from loader_peers.common import (
    BATCH,
    DOCUMENTED_SAMPLES,
    PREFETCH,
    Batch,
    CollateEncoded,
    Contender,
    Encoded,
    FromDicts,
    Store,
)

CACHE = "unpacked"


def _rows(_number: int, *, root: str, samples: int) -> Iterator[Any]:
    yield from (tuple(sample) for sample in Store.open(Path(root), samples).samples())


def _arrays(_number: int, *, root: str, samples: int) -> Iterator[Any]:
    for row in Store.open(Path(root), samples).arrays():
        yield row | {name: torch.from_numpy(row[name]) for name in ("sar", "optical")}


def write(store: Store, folder: Path) -> None:
    """64 MB chunks, its recommendation."""
    _optimize(partial(_rows, root=str(store.root), samples=len(store.keys)), folder)


def write_arrays(store: Store, folder: Path) -> None:
    """Dicts of tensors: of numpy arrays it decodes whole windows for a shuffled sample, at nine times the price."""
    _optimize(partial(_arrays, root=str(store.root), samples=DOCUMENTED_SAMPLES), folder)


def write_zstd(store: Store, folder: Path) -> None:
    """Dicts of tensors, each sample compressed by LitData itself; rows of bytes it leaves uncompressed."""
    rows = partial(_arrays, root=str(store.root), samples=DOCUMENTED_SAMPLES)
    _optimize(rows, folder, compression="zstd:1", compression_level="sample")


def _optimize(rows: Any, folder: Path, **compression: str) -> None:
    litdata.optimize(
        fn=rows,
        inputs=[0],
        output_dir=str(folder / "chunks"),
        chunk_bytes="64MB",
        num_workers=1,
        verbose=False,
        **compression,
    )


def load_arrays(folder: Path, workers: int) -> Iterable[Batch]:
    """As the documentation has it."""
    dataset = litdata.StreamingDataset(str(folder / "chunks"), cache_dir=str(folder / CACHE), shuffle=True)
    return FromDicts(litdata.StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True))


class Collate:
    """Rows of bytes into a batch."""

    def __init__(self, decode: CollateEncoded) -> None:
        self.decode = decode

    def __call__(self, rows: list[Any]) -> Batch:
        return self.decode([Encoded(*row) for row in rows])


def load(folder: Path, workers: int, *, compressed: bool) -> Iterable[Batch]:
    """Shuffled, chunks read where they lie."""
    patch_px = int((folder / "patch_px.txt").read_text(encoding="utf-8"))
    dataset = litdata.StreamingDataset(
        str(folder / "chunks"), cache_dir=str(folder / CACHE), shuffle=True, drop_last=True, max_cache_size="100GB"
    )
    ahead = {"prefetch_factor": PREFETCH, "persistent_workers": True} if workers else {}
    return litdata.StreamingDataLoader(
        dataset,
        batch_size=BATCH,
        num_workers=workers,
        drop_last=True,
        collate_fn=Collate(CollateEncoded(patch_px, compressed)),
        **ahead,
    )


def load_plain(folder: Path, workers: int) -> Iterable[Batch]:
    """Uncompressed bytes."""
    return load(folder, workers, compressed=False)


def load_blosc(folder: Path, workers: int) -> Iterable[Batch]:
    """Bytes in our codec."""
    return load(folder, workers, compressed=True)


def forget_unpacked(folder: Path) -> None:
    """Back to the state before the first epoch."""
    shutil.rmtree(folder / CACHE, ignore_errors=True)


SETTINGS = "bytes fields, 64 MB chunks, shuffle=True, StreamingDataLoader, decoded into the batch by its collate"
CONTENDERS = (
    Contender(
        name="LitData",
        variant="none",
        settings=SETTINGS,
        write=write,
        load=load_plain,
        streaming=True,
        reset=forget_unpacked,
    ),
    Contender(
        name="LitData",
        variant="lz4 samples",
        settings=f"{SETTINGS}; blosc-lz4 frames of ours as the fields' bytes",
        write=write,
        load=load_blosc,
        reads_compressed=True,
        streaming=True,
        reset=forget_unpacked,
    ),
    Contender(
        name="LitData",
        variant="none as documented",
        settings=f"{DOCUMENTED_SAMPLES} samples, dicts of tensors, StreamingDataLoader with its collate and defaults",
        write=write_arrays,
        load=load_arrays,
        streaming=True,
        reset=forget_unpacked,
    ),
    Contender(
        name="LitData",
        variant="zstd as documented",
        settings=f"{DOCUMENTED_SAMPLES} samples, as before with its own zstd:1, compression_level=sample",
        write=write_zstd,
        load=load_arrays,
        streaming=True,
        reset=forget_unpacked,
    ),
)
