"""What the parts of the stream hand to each other: the encoding of an array, the index of a split, and the batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch

from sar1m.store.schema import LinearEncoding

Codec = Literal["blosc-lz4", "none", "zarr"]  # zarr: anything else, read through zarr-python


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """One image array of a split: how a sample is shaped, encoded and stored.

    labels: names on the first axis of a sample (polarisations or bands), in order.
    scale_factor, add_offset: the physical value is add_offset + scale_factor * DN; DN 0 means no data.
    slots: samples a shard has room for.
    """

    name: str
    labels: tuple[str, ...]
    sample_shape: tuple[int, int, int]
    dtype: Literal["uint8", "uint16"]
    scale_factor: float
    add_offset: float
    units: str
    slots: int
    codec: Codec

    @property
    def encoding(self) -> LinearEncoding:
        """The encoding as the contract has it, to decode by."""
        return LinearEncoding(
            dtype=self.dtype,
            scale_factor=self.scale_factor,
            add_offset=self.add_offset,
            units=self.units,
            long_name=self.name,
        )

    @property
    def sample_bytes(self) -> int:
        """Bytes of one decoded sample."""
        return int(np.prod(self.sample_shape)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitIndex:
    """What a reader knows of one split of one store before it reads pixels. S samples.

    location: path or URL of the store.
    digest: of the store's manifest; two stores with the same digest hold the same bytes.
    files: size in bytes of every file of the split, by name relative to the store.
    paired: (S,) bool, whether the sample has an optical partner.
    keys: (S,) int64, 63-bit hash of the sample_id.
    enl: (S,) float32, equivalent number of looks, NaN where unmeasured.
    checksums: by image array, (S,) uint32: the crc32c of each sample's chunk; without arrays of a schema before 1.3.
    land_cover: (S,) uint8, the class that covers most of the sample, a position in land_cover_names; 0 is unknown.
    """

    location: str
    split: str
    digest: str
    files: dict[str, int]
    sar: ImageSpec
    optical: ImageSpec | None
    paired: np.ndarray
    keys: np.ndarray
    enl: np.ndarray
    land_cover: np.ndarray
    land_cover_names: tuple[str, ...]
    checksums: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(kw_only=True)
class Batch:
    """B samples. The tensors belong to their holder: the loader never overwrites them.

    sar: (B, P, H, W) digital numbers; after transforms.Dequantise float32 decibels.
    optical: (B, C, H, W) digital numbers, after Dequantise float32 brightness; None where none was asked for. Of an
        unpaired sample all 0, which must not be used.
    paired: (B,) bool, whether the sample has an optical partner.
    id: (B,) int64, the store's sample_key.
    enl: (B,) float32, equivalent number of looks, NaN where unmeasured.
    epoch, step: the epoch these samples were drawn in, and the number of the batch in it. Both are part of the key of
        every random draw.
    """

    sar: torch.Tensor
    optical: torch.Tensor | None
    paired: torch.Tensor
    id: torch.Tensor
    enl: torch.Tensor
    epoch: int
    step: int

    def __len__(self) -> int:
        return self.sar.shape[0]

    def to(self, device: torch.device | str, *, non_blocking: bool = True) -> Batch:
        """The same batch on a device; non_blocking copies overlap with work where the memory is pinned."""
        return self._mapped(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def select(self, rows: torch.Tensor) -> Batch:
        """The samples of a (B,) mask or of a (K,) index, copied."""
        return self._mapped(lambda tensor: tensor[rows])

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory. Lightning and torch's own loaders call this by its name."""
        return self._mapped(torch.Tensor.pin_memory)

    def _mapped(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
        return replace(
            self,
            sar=change(self.sar),
            optical=None if self.optical is None else change(self.optical),
            paired=change(self.paired),
            id=change(self.id),
            enl=change(self.enl),
        )
