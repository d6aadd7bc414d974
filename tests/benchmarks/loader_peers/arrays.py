"""Array files through a torch Dataset that fetches whole batches: npy memory maps, HDF5, zarr-python."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zarr
from loader_peers.common import (
    BATCH,
    OPTICAL,
    SAR,
    Batch,
    Contender,
    Store,
    decode_into,
    empty_batch,
    identity,
    torch_loader,
)
from torch.utils.data import Dataset

SHAPES = {"sar": (2, SAR), "optical": (3, OPTICAL)}
H5_NAME = "samples.h5"


class BatchDataset(Dataset[Any]):
    """Samples by number. torch hands __getitems__ all numbers of a batch: each sample is copied once, into its slot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._opened: Any = None

    def open(self) -> Any:
        """Mapping of sar, optical, paired, sample_key: in each worker its own."""
        raise NotImplementedError

    def read(self, array: Any, number: int, slot: np.ndarray) -> None:
        """One sample of an array into a slot."""
        slot[...] = array[number]

    def opened(self) -> Any:
        """The arrays, opened at the first use in this process."""
        self._opened = self.open() if self._opened is None else self._opened
        return self._opened

    def __len__(self) -> int:
        return len(np.load(self.folder / "paired.npy", mmap_mode="r"))

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        arrays = self.opened()
        batch = empty_batch(len(numbers), arrays["sar"].shape[-1])
        for position, name in enumerate(("sar", "optical")):
            slots, array = batch[position].numpy(), arrays[name]
            for slot, number in enumerate(numbers):
                self.read(array, number, slots[slot])
        batch[2].numpy()[:] = arrays["paired"][numbers]
        batch[3].numpy()[:] = arrays["sample_key"][numbers]
        return batch


def loader(dataset: BatchDataset, workers: int) -> Iterable[Batch]:
    """Batches in a new random order every epoch."""
    return torch_loader(dataset, workers, batch_size=BATCH, shuffle=True, drop_last=True, collate_fn=identity)


def _write_columns(store: Store, folder: Path) -> None:
    np.save(folder / "paired.npy", store.paired)
    np.save(folder / "sample_key.npy", store.keys)


def _columns(folder: Path) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{name}.npy") for name in ("paired", "sample_key")}


# ---- npy ----


def write_npy(store: Store, folder: Path) -> None:
    """Two whole arrays; rows of unpaired samples are holes of the file."""
    _write_columns(store, folder)
    side = store.patch_px
    for name, (channels, dtype) in SHAPES.items():
        shape = (len(store.keys), channels, side, side)
        array = np.lib.format.open_memmap(folder / f"{name}.npy", mode="w+", dtype=dtype, shape=shape)
        for number, sample in enumerate(store.samples()):
            payload = getattr(sample, name)
            if payload:
                decode_into(payload, store.compressed, array[number])
        array.flush()


class NpyDataset(BatchDataset):
    """Memory maps."""

    def open(self) -> Any:
        maps = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in SHAPES}
        return maps | _columns(self.folder)


def load_npy(folder: Path, workers: int) -> Iterable[Batch]:
    """The memory maps' loader."""
    return loader(NpyDataset(folder), workers)


# ---- HDF5 ----


def write_h5(store: Store, folder: Path) -> None:
    """Contiguous arrays from the uncompressed store, one chunk a sample in our codec from the compressed one."""
    _write_columns(store, folder)
    side = store.patch_px
    codec = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE) if store.compressed else {}
    with h5py.File(folder / H5_NAME, "w", libver="latest") as file:
        for name, (channels, dtype) in SHAPES.items():
            shape = (channels, side, side)
            chunks = (1, *shape) if store.compressed else None
            array = file.create_dataset(name, (len(store.keys), *shape), dtype, chunks=chunks, **codec)
            pixels = np.empty(shape, dtype)
            for number, sample in enumerate(store.samples()):
                payload = getattr(sample, name)
                if payload:
                    decode_into(payload, store.compressed, pixels)
                    array[number] = pixels


class H5Dataset(BatchDataset):
    """h5py, straight into the slot."""

    def open(self) -> Any:
        file = h5py.File(self.folder / H5_NAME, "r", libver="latest", rdcc_nbytes=0)
        return {name: file[name] for name in SHAPES} | _columns(self.folder)

    def read(self, array: Any, number: int, slot: np.ndarray) -> None:
        array.read_direct(slot, np.s_[number])


def load_h5(folder: Path, workers: int) -> Iterable[Batch]:
    """The HDF5 file's loader."""
    return loader(H5Dataset(folder), workers)


# ---- zarr-python on our own store ----


class ZarrDataset(BatchDataset):
    """Our store as zarr-python reads it, sample by sample; `oindex` over a batch is slower by far."""

    def open(self) -> Any:
        group = zarr.open_group(self.folder / "data" / "train.zarr", mode="r")
        columns = {name: np.asarray(group[name][:]) for name in ("paired", "sample_key")}
        return {name: group[name] for name in SHAPES} | columns

    def __len__(self) -> int:
        return len(Store.open(self.folder).keys)


def load_zarr(folder: Path, workers: int) -> Iterable[Batch]:
    """zarr-python's loader."""
    return loader(ZarrDataset(folder), workers)


WHOLE = "DataLoader(shuffle=True) over __getitems__, each sample straight into its slot of the batch"
CONTENDERS = (
    Contender(name="npy memmap", variant="none", settings=WHOLE, write=write_npy, load=load_npy),
    Contender(name="HDF5", variant="none", settings=f"{WHOLE} (read_direct); contiguous", write=write_h5, load=load_h5),
    Contender(
        name="HDF5",
        variant="lz4",
        settings=f"{WHOLE} (read_direct); one chunk a sample, hdf5plugin blosc-lz4 with bit shuffle, no chunk cache",
        write=write_h5,
        load=load_h5,
        reads_compressed=True,
    ),
    Contender(name="zarr-python", variant="none", settings=f"{WHOLE}; our own store", load=load_zarr),
    Contender(
        name="zarr-python", variant="lz4", settings=f"{WHOLE}; our own store", load=load_zarr, reads_compressed=True
    ),
)
