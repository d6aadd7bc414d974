"""MosaicML Streaming: MDS shards in a local folder."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loader_peers.common import (
    BATCH,
    DOCUMENTED_SAMPLES,
    Batch,
    CollateEncoded,
    Contender,
    Encoded,
    FromDicts,
    Store,
    torch_loader,
)
from streaming import MDSWriter, StreamingDataset
from streaming.base.util import clean_stale_shared_memory
from torch.utils.data import DataLoader

COLUMNS = {"key": "int", "sar": "bytes", "optical": "bytes"}


def write(store: Store, folder: Path, compression: str | None = None) -> None:
    """64 MB shards, the default; no hashes, which are not checked on reading either."""
    with MDSWriter(out=str(folder), columns=COLUMNS, compression=compression, size_limit=1 << 26) as writer:
        for sample in store.samples():
            writer.write(sample._asdict())


def write_zipped(store: Store, folder: Path) -> None:
    """Shards compressed by MDS itself."""
    write(store, folder, "zstd:1")


def write_arrays(store: Store, folder: Path) -> None:
    """Fields as arrays, with MDS's other defaults."""
    side = store.patch_px
    columns = {"key": "int", "paired": "int", "sar": f"ndarray:uint16:2,{side},{side}"}
    columns["optical"] = f"ndarray:uint16:3,{side},{side}"
    with MDSWriter(out=str(folder), columns=columns) as writer:
        for row in store.arrays(DOCUMENTED_SAMPLES):
            writer.write(row)


def load_arrays(folder: Path, workers: int) -> Iterable[Batch]:
    """As the documentation has it."""
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(folder), shuffle=True, batch_size=BATCH)
    return FromDicts(DataLoader(dataset, batch_size=BATCH, num_workers=workers, drop_last=True))


class Samples(StreamingDataset):
    """Bytes as they are stored; the collate function decodes them into the batch."""

    def __getitem__(self, at: int) -> Any:
        return Encoded(**super().__getitem__(at))


def load(folder: Path, workers: int, *, compressed: bool) -> Iterable[Batch]:
    """Shuffled by the default algorithm, over all samples of one node."""
    clean_stale_shared_memory()
    dataset = Samples(
        local=str(folder), shuffle=True, batch_size=BATCH, num_canonical_nodes=1, keep_zip=True, validate_hash=None
    )
    return torch_loader(
        dataset, workers, batch_size=BATCH, drop_last=True, collate_fn=CollateEncoded(patch_px(folder), compressed)
    )


def patch_px(folder: Path) -> int:
    """Side of the patches, kept beside the shards by whoever wrote them."""
    return int((folder / "patch_px.txt").read_text(encoding="utf-8"))


def load_plain(folder: Path, workers: int) -> Iterable[Batch]:
    """Uncompressed bytes."""
    return load(folder, workers, compressed=False)


def load_blosc(folder: Path, workers: int) -> Iterable[Batch]:
    """Bytes in our codec."""
    return load(folder, workers, compressed=True)


def forget_unpacked(folder: Path) -> None:
    """Back to the state before the first epoch."""
    for path in folder.glob("*.mds"):
        path.unlink()


SETTINGS = "fields as bytes, 64 MB shards, shuffle py1e (default), decoded into the batch by its collate function"
CONTENDERS = (
    Contender(
        name="MosaicML Streaming", variant="none", settings=SETTINGS, write=write, load=load_plain, streaming=True
    ),
    Contender(
        name="MosaicML Streaming",
        variant="lz4 samples",
        settings=f"{SETTINGS}; blosc-lz4 frames of ours as the fields' bytes",
        write=write,
        load=load_blosc,
        reads_compressed=True,
        streaming=True,
    ),
    Contender(
        name="MosaicML Streaming",
        variant="none as documented",
        settings=f"{DOCUMENTED_SAMPLES} samples, ndarray fields, DataLoader with torch's collate and defaults",
        write=write_arrays,
        load=load_arrays,
        streaming=True,
    ),
    Contender(
        name="MosaicML Streaming",
        variant="zstd shards",
        settings=f"{SETTINGS}; its own zstd:1, which unpacks whole shards to disk at their first use",
        write=write_zipped,
        load=load_plain,
        streaming=True,
        once_only=True,
        reset=forget_unpacked,
    ),
)
