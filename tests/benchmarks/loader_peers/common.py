"""What all contenders share: the samples they are written from, the batch they must yield, the loader of torch.

A batch is (sar, optical, paired, id): uint16 (B, 2, H, W), uint16 (B, 3, H, W), bool (B,), int64 (B,), owned by whoever
takes it. An unpaired sample's optical is all 0; every format leaves it out of its files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numcodecs import blosc
from torch.utils.data import DataLoader, get_worker_info

BATCH = 64
PREFETCH = 4  # batches ahead of a worker
DOCUMENTED_SAMPLES = 2048  # written for the variants that follow a library's documentation
SHUFFLE_BUFFER = 512  # samples, where a format cannot be read in any order
CHECKSUM_BYTES = 4
SAR, OPTICAL = np.dtype("<u2"), np.dtype("<u2")

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
Item = TypeVar("Item")


class Encoded(NamedTuple):
    """One sample as bytes: raw pixels or a blosc frame. optical is empty where there is no partner."""

    key: int
    sar: bytes
    optical: bytes


@dataclass(frozen=True, kw_only=True)
class Store:
    """The train split of a finished store of ours, read here without our reader."""

    root: Path
    patch_px: int
    compressed: bool
    keys: np.ndarray
    paired: np.ndarray
    slots: int

    @staticmethod
    def open(root: Path, limit: int | None = None) -> Store:
        """Reads metadata only. limit: samples to know of, from the first; None for all."""
        group = root / "data" / "train.zarr"
        described = json.loads((group / "sar" / "zarr.json").read_text(encoding="utf-8"))
        sharding = described["codecs"][0]["configuration"]
        return Store(
            root=root,
            patch_px=described["shape"][-1],
            compressed=any(codec["name"] == "blosc" for codec in sharding["codecs"]),
            keys=_column(group / "sample_key", "<i8")[:limit],
            paired=_column(group / "paired", "u1").astype(bool)[:limit],
            slots=described["chunk_grid"]["configuration"]["chunk_shape"][0],
        )

    def sample(self, number: int) -> Encoded:
        """One sample's chunks, without their checksums."""
        sar = self._chunk("sar", number)
        optical = self._chunk("optical", number) if self.paired[number] else b""
        return Encoded(int(self.keys[number]), sar, optical)

    def samples(self, count: int | None = None) -> Iterator[Encoded]:
        """The first count samples in their order, or all."""
        return (self.sample(number) for number in range(len(self.keys))[:count])

    def arrays(self, count: int | None = None) -> Iterator[dict[str, Any]]:
        """As samples, decoded: key, paired (0 or 1), sar, optical."""
        for sample in self.samples(count):
            sar = np.empty((2, self.patch_px, self.patch_px), SAR)
            optical = np.empty((3, self.patch_px, self.patch_px), OPTICAL)
            decode_into(sample.sar, self.compressed, sar)
            decode_into(sample.optical, self.compressed, optical)
            yield {"key": sample.key, "paired": int(bool(sample.optical)), "sar": sar, "optical": optical}

    def _chunk(self, array: str, number: int) -> bytes:
        shard, slot = divmod(number, self.slots)
        path = self.root / "data" / "train.zarr" / array / "c" / str(shard) / "0" / "0" / "0"
        with path.open("rb") as stream:
            stream.seek(-(16 * self.slots + CHECKSUM_BYTES) + 16 * slot, 2)
            offset, length = np.frombuffer(stream.read(16), "<u8").tolist()
            stream.seek(offset)
            return stream.read(length - CHECKSUM_BYTES)


def _column(array: Path, dtype: str) -> np.ndarray:
    return np.frombuffer((array / "c" / "0").read_bytes()[:-CHECKSUM_BYTES], dtype)


def decode_into(payload: bytes, compressed: bool, slot: np.ndarray) -> None:
    """Pixels of a chunk into a slot of a batch; all 0 where there is no chunk."""
    if not payload:
        slot[...] = 0
    elif compressed:
        blosc.decompress(payload, slot)
    else:
        slot[...] = np.frombuffer(payload, slot.dtype).reshape(slot.shape)


def empty_batch(count: int, patch_px: int) -> Batch:
    """Room for a batch; in a worker it is shared memory from the start, as torch's own collate does, so that handing it
    over copies nothing."""
    sar = _empty((count, 2, patch_px, patch_px), torch.uint16)
    optical = _empty((count, 3, patch_px, patch_px), torch.uint16)
    return sar, optical, torch.empty(count, dtype=torch.bool), torch.empty(count, dtype=torch.int64)


def _empty(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    if get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    nbytes = int(np.prod(shape)) * dtype.itemsize
    return torch.empty(0, dtype=dtype).set_(torch.UntypedStorage._new_shared(nbytes), 0, shape)


@dataclass(frozen=True)
class CollateEncoded:
    """Decodes samples straight into their slots of the batch: no peer has to make an array a sample first."""

    patch_px: int
    compressed: bool

    def __call__(self, rows: Sequence[Encoded]) -> Batch:
        batch = empty_batch(len(rows), self.patch_px)
        sar, optical = batch[0].numpy(), batch[1].numpy()
        for slot, row in enumerate(rows):
            decode_into(row.sar, self.compressed, sar[slot])
            decode_into(row.optical, self.compressed, optical[slot])
            batch[2][slot], batch[3][slot] = bool(row.optical), row.key
        return batch


def torch_loader(dataset: Any, workers: int, **settings: Any) -> Iterable[Batch]:
    """torch's DataLoader as one tunes it: persistent workers, PREFETCH batches ahead of each."""
    ahead = {"prefetch_factor": PREFETCH, "persistent_workers": True} if workers else {}
    return DataLoader(dataset, num_workers=workers, **ahead, **settings)


class FromDicts:
    """Batches that torch's default collate made of dicts, as the tuple that all contenders give."""

    def __init__(self, loader: Iterable[dict[str, torch.Tensor]]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Batch]:
        for batch in self.loader:
            yield batch["sar"], batch["optical"], batch["paired"].bool(), batch["key"]


def identity(batch: Item) -> Item:
    """For datasets that yield whole batches."""
    return batch


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One loader in one variant. settings: told in the report. write: data into a folder, from the compressed and from
    the uncompressed store; None where it reads one of the two as it is. load: folder and workers to an iterable of
    batches, iterated once an epoch. streaming: one of the peers that ours is compared with. exact: gives the store's
    pixels, not approximations. once_only: measured cold alone, since later epochs read what the first unpacked."""

    name: str
    variant: str
    settings: str
    load: Callable[[Path, int], Iterable[Batch]]
    write: Callable[[Store, Path], None] | None = None
    reads_compressed: bool = False
    workers: tuple[int, ...] = (0, 2)
    streaming: bool = False
    exact: bool = True
    once_only: bool = False
    reset: Callable[[Path], None] | None = None

    @property
    def label(self) -> str:
        """Unique name, also of its folder."""
        return f"{self.name} {self.variant}".lower().replace(" ", "-").replace("/", "-")
