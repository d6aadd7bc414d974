"""Which samples of a store are wanted, by the columns of its table and by a box: for downloads and for training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from sar1m.store.errors import ConfigError, RegionError
from sar1m.store.where import Where

if TYPE_CHECKING:
    import pyarrow as pa

Box = tuple[float, float, float, float]  # west, south, east, north


@dataclass(frozen=True, kw_only=True)
class SampleFilter:
    """Samples that meet a condition and whose centre lies in a box. Raises ConfigError and RegionError where one of
    them cannot be used.

    where: see sar1m.store.where; None for all samples.
    bbox: west, south, east, north in degrees of longitude and latitude, edges included; west > east is a box across
        180 degrees. None for the whole Earth.
    """

    where: str | None = None
    bbox: Box | None = None

    def __post_init__(self) -> None:
        if self.where is not None:
            self._parsed  # noqa: B018 - refuses what is no condition
        if self.bbox is not None:
            object.__setattr__(self, "bbox", checked_box(self.bbox))

    @cached_property
    def _parsed(self) -> Where:
        return Where(self.where or "")

    @property
    def takes_all(self) -> bool:
        """Whether it leaves out nothing."""
        return self.where is None and self.bbox is None

    @property
    def words(self) -> str:
        """As messages name it."""
        box = None if self.bbox is None else f"in the box {','.join(f'{edge:.10g}' for edge in self.bbox)}"
        return " ".join(part for part in (self.where, box) if part) or "all samples"

    def to_json(self) -> dict[str, Any]:
        """As a marker states it."""
        return {"where": self.where, "bbox": None if self.bbox is None else list(self.bbox)}

    def columns(self, held: Sequence[str]) -> list[str]:
        """Which of a table's columns it needs, in the table's order. Raises ConfigError naming a column that no table
        has."""
        wanted = {"lon", "lat"} if self.bbox is not None else set()
        if self.where is not None:
            self._parsed.check_columns(held)
            wanted |= self._parsed.columns
        return [name for name in held if name in wanted]

    def rows(self, table: pa.Table) -> npt.NDArray[np.bool_]:
        """(n,) whether each row of a table of samples is wanted; the table has at least what `columns` names.

        Raises ConfigError for a column that cannot be compared so, or where no row is left.
        """
        chosen = np.ones(len(table), dtype=np.bool_)
        if self.where is not None:
            chosen &= self._parsed.holds(table).to_numpy(zero_copy_only=False)
        if self.bbox is not None:
            chosen &= _inside(self.bbox, *(table.column(name).to_numpy() for name in ("lon", "lat")))
        if not chosen.any():
            raise ConfigError(f"{self.words}: none of {len(table):,} samples. Ask for more.")
        return chosen


ALL_SAMPLES: Final = SampleFilter()


def parse_box(text: str) -> Box:
    """A box as the command line has it: west,south,east,north. Raises RegionError for anything else."""
    try:
        return checked_box([float(part) for part in text.split(",")])
    except ValueError:
        raise RegionError(f"box {text[:80]!r}: expected four numbers west,south,east,north in degrees.") from None


def checked_box(edges: Iterable[float]) -> Box:
    """A box whose edges lie in the world. Raises RegionError naming what is wrong."""
    try:
        found = tuple(float(edge) for edge in edges)
    except (TypeError, ValueError):
        raise RegionError(f"box {str(edges)[:80]!r}: expected four numbers west,south,east,north in degrees.") from None
    shown = ",".join(f"{edge:.10g}" for edge in found)
    if len(found) != 4 or not all(math.isfinite(edge) for edge in found):
        raise RegionError(f"box {shown[:80]!r}: expected four numbers west,south,east,north in degrees.")
    west, south, east, north = found
    if max(abs(west), abs(east)) > 180 or max(abs(south), abs(north)) > 90:
        raise RegionError(f"box {shown!r}: lies outside the world: longitudes -180..180, latitudes -90..90.")
    if south > north:
        raise RegionError(f"box {shown!r}: south ({south:g}) is over north ({north:g}). Swap them.")
    return west, south, east, north


def _inside(box: Box, lon: npt.NDArray[np.float64], lat: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    west, south, east, north = box
    along = (lon >= west) & (lon <= east) if west <= east else (lon >= west) | (lon <= east)
    inside: npt.NDArray[np.bool_] = along & (lat >= south) & (lat <= north)
    return inside
