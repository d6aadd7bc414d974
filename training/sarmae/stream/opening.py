"""Opening what a location names: a finished store of ours, or a folder of the published SAR-1M.

build/portugal, file:///..., s3://bucket/prefix, https://host/path     a store that `sar1m` wrote
published:FOLDER                                                       pictures as published (sarmae.stream.published)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sar1m.store.errors import ConfigError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.opening import is_remote
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.sample_filter import ALL_SAMPLES, SampleFilter
from sarmae.errors import ChunkError
from sarmae.stream.band_statistics import SarStatistics, read_statistics
from sarmae.stream.batch import SplitIndex
from sarmae.stream.layout import open_split
from sarmae.stream.published.index import UnusablePicture, index_published
from sarmae.stream.published.picture_reader import DISPLAY_STATISTICS, PublishedReader
from sarmae.stream.reader import SplitReader
from sarmae.stream.selected import SelectedReader, selected_index, selected_numbers

PUBLISHED: Final = "published:"


class Reader(Protocol):
    """Pixels of samples by number, straight into the rows of a batch. Safe for threads."""

    def read_into(
        self, samples: np.ndarray, rows: np.ndarray, sar: np.ndarray, optical: np.ndarray | None
    ) -> list[ChunkError]:
        """Reads the samples into the given rows of sar and optical; returns what could not be read."""


class RemoteReader(Reader, Protocol):
    """The same over a network, where bytes are better fetched before they are read."""

    def ranges(self, samples: np.ndarray) -> Sequence[ByteRange]:
        """The byte ranges to prefetch before read_into reads these samples."""


@dataclass(frozen=True, kw_only=True)
class Store:
    """One store of a mixture, open. remote: the reader again where there are ranges to prefetch, None on a local disk.

    optical: whether partners are read. left_out: of published pictures, what could not be used; None for a store of
    ours."""

    index: SplitIndex
    place: Place
    reader: Reader
    remote: RemoteReader | None
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
    samples: SampleFilter = ALL_SAMPLES,
) -> Store:
    """The store at a location. Raises ConfigError for a location of no known kind, StoreError for what is there.

    optical: whether the optical partners are read.
    cache: on disk, for remote stores.
    published_px: side of the window cut from published pictures.
    samples: which are seen, numbered anew from 0; published pictures have no columns to choose by.
    """
    if location.startswith(PUBLISHED) and not samples.takes_all:
        raise ConfigError(f"{location}: published pictures have no table of samples. Leave out where and bbox.")
    if location.startswith(PUBLISHED):
        folder = Path(location.removeprefix(PUBLISHED))
        return _open_published(folder, split=split, optical=optical, published_px=published_px)
    place = open_cached(location, cache)
    index = open_split(place, split)
    reader: RemoteReader = SplitReader(index, place, optical=optical)
    if not samples.takes_all:
        numbers = selected_numbers(place, index, samples)
        reader = SelectedReader(SplitReader(index, place, optical=optical), numbers)
        index = selected_index(index, numbers)
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
