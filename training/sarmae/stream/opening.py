"""Opening what a location names: a finished store of ours, or a folder of the published SAR-1M.

build/portugal, file:///..., s3://bucket/prefix, https://host/path     a store that `sar1m` wrote
published:FOLDER                                                       pictures as published (sarmae.stream.published)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sar1m.store.errors import ConfigError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.opening import is_remote
from sar1m.store.places.place import Place
from sarmae.errors import ChunkError
from sarmae.stream.band_statistics import SarStatistics, read_statistics
from sarmae.stream.batch import SplitIndex
from sarmae.stream.layout import open_split
from sarmae.stream.published.index import UnusablePicture, index_published
from sarmae.stream.published.picture_reader import DISPLAY_STATISTICS, PublishedReader
from sarmae.stream.reader import SplitReader

PUBLISHED: Final = "published:"


class Reader(Protocol):
    """Pixels of samples by number, straight into the rows of a batch. Safe for threads."""

    def read_into(
        self, samples: np.ndarray, rows: np.ndarray, sar: np.ndarray, optical: np.ndarray | None
    ) -> list[ChunkError]:
        """Reads the samples into the given rows of sar and optical; returns what could not be read."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """One store of a mixture, open. remote: the reader again where there are ranges to prefetch, None on a local disk.

    optical: whether partners are read. left_out: of published pictures, what could not be used; None for a store of
    ours."""

    index: SplitIndex
    place: Place
    reader: Reader
    remote: SplitReader | None
    optical: bool
    left_out: tuple[UnusablePicture, ...] | None = None

    def statistics(self) -> SarStatistics:
        """Per-band statistics of the SAR array. Raises StoreError where the store has none."""
        if self.left_out is not None:
            return DISPLAY_STATISTICS
        return read_statistics(self.place, self.index.sar.labels)


def open_store(
    location: str,
    *,
    split: str = "train",
    optical: bool = True,
    cache: CacheConfig | None = None,
    published_px: int = 256,
) -> Store:
    """The store at a location. Raises ConfigError for a location of no known kind, StoreError for what is there.

    optical: whether the optical partners are read.
    cache: on disk, for remote stores.
    published_px: side of the window cut from published pictures.
    """
    if location.startswith(PUBLISHED):
        folder = Path(location.removeprefix(PUBLISHED))
        return _open_published(folder, split=split, optical=optical, published_px=published_px)
    place = open_cached(location, cache)
    index = open_split(place, split)
    reader = SplitReader(index, place, optical=optical)
    return Store(
        index=index, place=place, reader=reader, remote=reader if is_remote(location) else None, optical=optical
    )


def _open_published(folder: Path, *, split: str, optical: bool, published_px: int) -> Store:
    if split != "train":
        raise ConfigError(f"{PUBLISHED}{folder}: has no split {split!r}: the published pictures are all for training.")
    published = index_published(folder, published_px=published_px)
    return Store(
        index=published.split,
        place=FolderPlace(folder),
        reader=PublishedReader(published),
        remote=None,
        optical=optical,
        left_out=published.left_out,
    )
