"""A split of which only some samples are seen: those that a filter on the store's table selects, numbered from 0."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from sar1m.store.errors import ConfigError, RegionError, StoreError
from sar1m.store.places.place import ByteRange, Place
from sar1m.store.sample_filter import SampleFilter
from sar1m.store.schema import SAMPLES_FILE
from sar1m.store.seal import REMEDY
from sarmae.errors import ChunkError
from sarmae.stream.batch import SplitIndex
from sarmae.stream.reader import SplitReader
from sarmae.stream.sealed import open_sealed

MAX_TABLE_BYTES = 2**33


def selected_numbers(place: Place, index: SplitIndex, samples: SampleFilter) -> npt.NDArray[np.int64]:
    """Numbers of the samples of a split that a filter selects, ascending.

    Raises ConfigError where it selects none or cannot be applied, or pyarrow is missing; StoreError where the table is
    damaged or is not that of the split.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - of this option alone
        import pyarrow.compute as pc  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ConfigError("where and bbox need pyarrow, which reads the store's table: pip install pyarrow") from error
    content = open_sealed(place).read(SAMPLES_FILE, max_bytes=MAX_TABLE_BYTES)
    shown = f"{place.location}/{SAMPLES_FILE}"
    try:
        table = pq.ParquetFile(pa.BufferReader(content))
        wanted = ["split", "index", *samples.columns(table.schema_arrow.names)]
        rows = table.read(columns=sorted(set(wanted)))
        of_split = rows.filter(pc.equal(rows.column("split"), index.split))
        found = np.sort(of_split.column("index").to_numpy()[samples.rows(of_split)])
    except (ConfigError, RegionError) as error:
        raise type(error)(f"{place.location}, split {index.split!r}: {error}") from None
    except (pa.ArrowException, KeyError) as error:
        raise StoreError(f"{shown}: cannot be read ({error}). {REMEDY}") from error
    if len(of_split) != len(index) or found[0] < 0 or found[-1] >= len(index) or (np.diff(found) == 0).any():
        raise StoreError(f"{shown}: does not list the {len(index)} samples of split {index.split!r}. {REMEDY}")
    numbers: npt.NDArray[np.int64] = found
    return numbers


def selected_index(index: SplitIndex, numbers: npt.NDArray[np.int64]) -> SplitIndex:
    """The index of these samples alone. Its digest is another one for every selection, so that a run goes on with the
    same one only."""
    digest = hashlib.blake2b(index.digest.encode() + numbers.astype("<i8").tobytes(), digest_size=32).hexdigest()
    columns = {name: getattr(index, name)[numbers] for name in ("paired", "keys", "enl", "land_cover")}
    return replace(index, digest=digest, **columns)


class SelectedReader:
    """Reads selected samples by their number in the selection. numbers: theirs in the split, ascending."""

    def __init__(self, reader: SplitReader, numbers: npt.NDArray[np.int64]) -> None:
        self._reader, self._numbers = reader, numbers

    def read_into(
        self, samples: np.ndarray, rows: np.ndarray, sar: np.ndarray, optical: np.ndarray | None
    ) -> list[ChunkError]:
        """As SplitReader.read_into; messages name a sample by its number in the split."""
        faults = self._reader.read_into(self._numbers[samples], rows, sar, optical)
        return [ChunkError(str(one), sample=int(np.searchsorted(self._numbers, one.sample))) for one in faults]

    def ranges(self, samples: np.ndarray) -> Sequence[ByteRange]:
        """As SplitReader.ranges."""
        return self._reader.ranges(self._numbers[samples])
