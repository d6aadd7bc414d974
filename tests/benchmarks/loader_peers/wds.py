"""WebDataset: tar files of 512 samples in a local folder."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import webdataset
from loader_peers.common import (
    BATCH,
    DOCUMENTED_SAMPLES,
    SHUFFLE_BUFFER,
    Batch,
    CollateEncoded,
    Contender,
    Encoded,
    Store,
    identity,
    torch_loader,
)

SHARD_SAMPLES = 512


def write(store: Store, folder: Path) -> None:
    """Raw members, no compression of the tar itself."""
    rows = store.samples()
    number = 0
    while some := list(islice(rows, SHARD_SAMPLES)):
        with tarfile.open(folder / f"{number:05d}.tar", "w") as archive:
            for row in some:
                for name, payload in (("sar", row.sar), ("opt", row.optical)):
                    if payload:
                        member = tarfile.TarInfo(f"{row.key}.{name}")
                        member.size = len(payload)
                        archive.addfile(member, io.BytesIO(payload))
        number += 1


def write_arrays(store: Store, folder: Path) -> None:
    """Members as its writer makes them: npy and cls."""
    with webdataset.ShardWriter(str(folder / "%05d.tar"), maxcount=SHARD_SAMPLES, verbose=0) as writer:
        for row in store.arrays(DOCUMENTED_SAMPLES):
            members = {"sar.npy": row["sar"], "optical.npy": row["optical"], "paired.cls": row["paired"]}
            writer.write({"__key__": str(row["key"]), **members})


class FromLists:
    """Batches as webdataset's own collation makes them, as the tuple that all contenders give."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for keys, sar, optical, paired in self.loader:
            key = torch.tensor([int(name) for name in keys])
            yield torch.as_tensor(sar), torch.as_tensor(optical), torch.as_tensor(paired).bool(), key


def load_arrays(folder: Path, workers: int) -> Iterable[Batch]:
    """As the documentation has it."""
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(SHUFFLE_BUFFER)
        .decode()
        .to_tuple("__key__", "sar.npy", "optical.npy", "paired.cls")
        .batched(BATCH, partial=False)
    )
    return FromLists(webdataset.WebLoader(dataset, batch_size=None, num_workers=workers))


class Collate:
    """Members of samples into a batch."""

    def __init__(self, decode: CollateEncoded) -> None:
        self.decode = decode

    def __call__(self, rows: list[dict[str, Any]]) -> Batch:
        return self.decode([Encoded(int(row["__key__"]), row["sar"], row.get("opt", b"")) for row in rows])


def load(folder: Path, workers: int, *, compressed: bool) -> Iterable[Batch]:
    """Shards in random order, then a buffer of SHUFFLE_BUFFER undecoded samples, then batches, all in the worker."""
    patch_px = int((folder / "patch_px.txt").read_text(encoding="utf-8"))
    shards = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = (
        webdataset.WebDataset(shards, shardshuffle=len(shards), empty_check=False)
        .shuffle(SHUFFLE_BUFFER)
        .batched(BATCH, collation_fn=Collate(CollateEncoded(patch_px, compressed)), partial=False)
    )
    return torch_loader(dataset, workers, batch_size=None, collate_fn=identity)


def load_plain(folder: Path, workers: int) -> Iterable[Batch]:
    """Uncompressed bytes."""
    return load(folder, workers, compressed=False)


def load_blosc(folder: Path, workers: int) -> Iterable[Batch]:
    """Bytes in our codec."""
    return load(folder, workers, compressed=True)


SETTINGS = f"tars of {SHARD_SAMPLES}, shuffle buffer of {SHUFFLE_BUFFER} undecoded samples, decoded into the batch"
CONTENDERS = (
    Contender(
        name="WebDataset",
        variant="none as documented",
        settings=f"{DOCUMENTED_SAMPLES} samples, npy members, decode, to_tuple, batched, WebLoader with its defaults",
        write=write_arrays,
        load=load_arrays,
        streaming=True,
    ),
    Contender(name="WebDataset", variant="none", settings=SETTINGS, write=write, load=load_plain, streaming=True),
    Contender(
        name="WebDataset",
        variant="lz4 samples",
        settings=f"{SETTINGS}; blosc-lz4 frames of ours as members",
        write=write,
        load=load_blosc,
        reads_compressed=True,
        streaming=True,
    ),
)
