"""The settings of the stream: one record for the loader, its order and its threads, and one for the crop.

Every key has the same name here, in the sections of a configuration and in error messages.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from sar1m.store.errors import ConfigError

TOKEN_PX: Final = 16  # side of the patch that becomes one token, in the model and in the teacher cache

_LEAST: Final = {
    "seed": 0,
    "global_batch": 1,
    "block": 1,
    "lanes": 1,
    "window": 1,
    "threads": 0,
    "prefetch": 1,
    "max_faults": 0,
    "published_px": 1,
}


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How to stream. ConfigError for a value out of range.

    What decides the order of samples, beside the stores:

    seed: of all permutations.
    global_batch: samples a step over all ranks; each rank gets an equal share.
    order: `full` permutes single samples, for stores on a local disk. `lanes` reads blocks of consecutive samples, for
        remote stores. `auto` is `full` where every store is on a local disk, else `lanes`.
    block: consecutive samples that `lanes` reads in one go, some 10 MB.
    lanes: blocks that are open at once in `lanes`; a divisor of global_batch that the number of ranks divides. None:
        the largest divisor of global_batch up to 16.
    window: samples of a lane that are mixed with each other. None: 64.
    weights: one a store; a store's part of an epoch is its weight over the sum of them. None: by the stores' sizes.
    unpaired_share: part of an epoch's samples that have no optical partner, 0 to 1. None: as the stores have it.
    tail: `drop` leaves out the last, smaller batch of an epoch; `keep` gives it, for evaluation.

    What decides how it is read:

    threads: that decode; 0 reads in the caller's own thread, nothing ahead.
    prefetch: batches read ahead.
    optical: whether the optical partners are read too.
    max_faults: missing or damaged samples, each counted once, over which the stream stops. They are left out of their
        batch and listed in ShardLoader.faults, those of all workers of a DataLoader together.
    pin_memory: page-locked tensors, for copies to a GPU that overlap with its work.
    published_px: side of the window cut from pictures of the published SAR-1M.

    The defaults of block, lanes and window suit stores of `sar1m`, whose samples were shuffled when they were packed.
    For stores in the order of scenes see tests/benchmarks/results/shuffle.md.
    """

    seed: int = 0
    global_batch: int = 64
    order: Literal["auto", "full", "lanes"] = "auto"
    block: int = 32
    lanes: int | None = None
    window: int | None = None
    weights: tuple[float, ...] | None = None
    unpaired_share: float | None = None
    tail: Literal["drop", "keep"] = "drop"

    threads: int = 2
    prefetch: int = 4
    optical: bool = True
    max_faults: int = 0
    pin_memory: bool = False
    published_px: int = 256

    def __post_init__(self) -> None:
        if self.order not in {"auto", "full", "lanes"}:
            raise ConfigError(f"order is {self.order!r}, expected 'full' (local), 'lanes' (remote) or 'auto'.")
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, expected at least {least}. Raise it.")
        if self.unpaired_share is not None and not 0 <= self.unpaired_share <= 1:
            raise ConfigError(f"unpaired_share is {self.unpaired_share}, expected 0 to 1, or none to leave it be.")


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """How to crop and flip. ConfigError where crop_px is not positive, or not a multiple of 16 with align.

    crop_px: side of the square crop.
    align: cut only at multiples of 16 px, so that the features a teacher made of 16 px patches of the stored image are
        those of the crop's patches.
    flip_rows: turns half of the samples upside down.
    flip_cols: swaps left and right in half of the samples.
    """

    crop_px: int
    align: bool = True
    flip_rows: bool = True
    flip_cols: bool = True

    def __post_init__(self) -> None:
        if self.crop_px < 1:
            raise ConfigError(f"crop_px is {self.crop_px}; a positive number of pixels expected, e.g. 224.")
        if self.align and self.crop_px % TOKEN_PX:
            raise ConfigError(
                f"crop_px is {self.crop_px}, not a multiple of {TOKEN_PX}, which align asks for. "
                f"Use {max(1, round(self.crop_px / TOKEN_PX)) * TOKEN_PX}, or switch align off."
            )

    def check(self, height_px: int, width_px: int) -> None:
        """ConfigError where patches of this size cannot be cropped so. Call it before the first batch."""
        if self.crop_px > min(height_px, width_px):
            raise ConfigError(
                f"crop_px is {self.crop_px}, larger than the stored patches of {height_px} x {width_px} px. "
                f"Use at most {min(height_px, width_px)}."
            )
        if self.align and (height_px % TOKEN_PX or width_px % TOKEN_PX):
            raise ConfigError(
                f"align needs stored patches of a multiple of {TOKEN_PX} px; these are {height_px} x {width_px} px. "
                "Switch align off (a teacher cache is then of no use), or build the store with another patch size."
            )
