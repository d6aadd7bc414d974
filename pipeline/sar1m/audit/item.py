"""One pair, from its pixels to a row of the table; written aligned where that is asked for."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sar1m.audit.align import align
from sar1m.audit.channels import SAR_UNITS
from sar1m.audit.measure import PairShift, measure
from sar1m.audit.pair_files import FilePair, PictureAt
from sar1m.audit.reading import HowRead, OpenPair, PairSource, open_pair
from sar1m.audit.stored import StoredPair
from sar1m.config import RegistrationConfig
from sar1m.core.sphere import box_around
from sar1m.io.picture import Georeference, Picture, write_picture, written_suffix
from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.settings import override

FORMAT = 2  # of a row; former rows are measured again where it differs


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """What was found of one pair: columns of the table (table.COLUMNS describes them).

    key: of all that decides the row. NaN and "" where there is nothing.
    """

    pair: str
    key: str
    sar: str = ""
    optical: str = ""
    status: str
    row_px: float = math.nan
    col_px: float = math.nan
    sigma_px: float = math.nan
    psr: float = math.nan
    windows: int = 0
    windows_measured: int = 0
    windows_apart_px: float = math.nan
    rows: int = 0
    cols: int = 0
    shift_m: float = math.nan
    bounds: tuple[float, ...] = ()
    doubt: str = ""
    cause: str = ""
    written: str = ""
    moved_row_px: float = math.nan
    moved_col_px: float = math.nan

    @property
    def shift_px(self) -> float:
        """Length of the shift."""
        return math.hypot(self.row_px, self.col_px)

    def to_json(self) -> str:
        """One line; NaN as null."""
        values = asdict(self)
        return json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in values.items()})

    @classmethod
    def from_json(cls, line: str) -> PairRow:
        """A row from its line. Raises ValueError or TypeError where it is none."""
        values: dict[str, Any] = json.loads(line)
        values["bounds"] = tuple(values["bounds"])
        found: dict[str, Any] = {name: math.nan if value is None else value for name, value in values.items()}
        return cls(**found)


@dataclass(frozen=True, kw_only=True)
class PairWork:
    """How pairs are worked on. write_to: folder for the aligned pictures, "" for none; resample: also by the
    fraction."""

    registration: RegistrationConfig
    how: HowRead = field(default_factory=HowRead)
    write_to: str = ""
    resample: bool = False

    def key_of(self, source: PairSource) -> str:
        """Of a pair's files and of all that decides its row."""
        state: list[object] = [FORMAT, self.registration.model_dump(mode="json"), asdict(self.how), source.state()]
        state += [os.path.realpath(self.write_to), self.resample] if self.write_to else []
        return hashlib.blake2b(json.dumps(state, sort_keys=True).encode(), digest_size=16).hexdigest()

    def __call__(self, source: PairSource) -> PairRow:
        """The row of a pair, which is also written where that is asked for.

        A pair that cannot be read raises; one that cannot be written aligned keeps its row, with the cause.
        """
        opened = open_pair(source, self.how)
        found = measure(opened.sar, opened.optical, opened.size, self.registration)
        row = _row(source, self.key_of(source), opened, found)
        if not self.write_to or row.status != "measured":
            return row
        try:
            return self._written(source, opened, row)
        except SourceError as error:
            return replace(row, cause=f"not written: {error}")

    def _written(self, source: PairSource, opened: OpenPair, row: PairRow) -> PairRow:
        if opened.overlap is None or not isinstance(source, FilePair) or source.sar is None or source.optical is None:
            raise SourceError(opened.why_not)
        cut = align(opened.overlap, row.row_px, row.col_px, resample=self.resample)
        entry: dict[str, Any] = {"name": row.pair}
        for side, at, picture in (("sar", source.sar, cut.sar), ("optical", source.optical, cut.optical)):
            entry[side] = _written_name(at, picture)
            write_picture(Path(self.write_to, entry[side]), picture)
        if source.corners and cut.sar.ground is not None:
            entry[f"corners_epsg{source.corners[0]:.0f}"] = _corners(cut.sar.ground, cut.sar.size)
        entry |= {"first_row": cut.row, "first_col": cut.col}
        entry |= {"moved_row_px": cut.moved_row_px, "moved_col_px": cut.moved_col_px, "sigma_px": _plain(row.sigma_px)}
        return replace(
            row,
            written=json.dumps(entry, sort_keys=True),
            moved_row_px=cut.moved_row_px,
            moved_col_px=cut.moved_col_px,
        )


def pair_work(
    search_px: int, sar_unit: str, optical_bands: Sequence[int] | None, *, resample: bool = False
) -> PairWork:
    """The work as a person asks for it. sar_unit: one of SAR_UNITS. optical_bands: numbers from 1. Raises ConfigError
    for a unit that is none and for a search that the registration cannot do."""
    unit = next((known for known in SAR_UNITS if known == sar_unit), None)
    if unit is None:
        raise ConfigError(f"--sar-unit {sar_unit}: expected one of {', '.join(SAR_UNITS)}.")
    how = HowRead(sar_unit=unit, optical_bands=None if optical_bands is None else tuple(optical_bands))
    registration = override(RegistrationConfig(), [f"search_px={search_px}"])
    return PairWork(registration=registration, how=how, resample=resample)


def _row(source: PairSource, key: str, opened: OpenPair, found: PairShift) -> PairRow:
    shift, (rows, cols) = found.shift, opened.size
    sar, optical = _shown(source)
    return PairRow(
        pair=source.name,
        key=key,
        sar=sar,
        optical=optical,
        status="measured" if shift.status == "measured" else "unmeasurable",
        row_px=shift.row_px,
        col_px=shift.col_px,
        sigma_px=shift.sigma_px,
        psr=shift.psr,
        windows=found.windows,
        windows_measured=found.measured,
        windows_apart_px=found.windows_apart_px,
        rows=rows,
        cols=cols,
        shift_m=_metres(opened.ground, (rows, cols), (shift.row_px, shift.col_px)),
        bounds=() if opened.ground is None else _bounds(opened.ground, (rows, cols)),
        doubt=opened.doubt,
    )


def _shown(source: PairSource) -> tuple[str, str]:
    if isinstance(source, FilePair):
        return (source.sar.shown if source.sar else "", source.optical.shown if source.optical else "")
    if isinstance(source, StoredPair):
        return source.sar, source.optical
    optical = source.candidate.optical
    return source.candidate.sar.product_id, "" if optical is None else optical.product_id


def _written_name(at: PictureAt, picture: Picture) -> str:
    path = PurePosixPath(at.shown)
    if path.is_absolute() or ".." in path.parts:
        raise SourceError(f"{at.shown}: leads out of the folder to write to")
    return str(path.with_suffix(written_suffix(picture, path.suffix)))


def _metres(ground: Georeference | None, size: tuple[int, int], shift_px: tuple[float, float]) -> float:
    if ground is None or not all(map(math.isfinite, shift_px)):
        return math.nan
    middle = (size[0] / 2, size[1] / 2)
    return ground.distance_m(middle, (middle[0] + shift_px[0], middle[1] + shift_px[1]))


def _bounds(ground: Georeference, size: tuple[int, int]) -> tuple[float, ...]:
    """West, south, east, north; nothing where the system does not reach. West is over east across 180 degrees."""
    rows, cols = size
    lon, lat = ground.lonlat([0, 0, rows, rows], [0, cols, 0, cols])
    if not (np.isfinite(lon).all() and np.isfinite(lat).all()):
        return ()
    return box_around(np.stack([lon, lat, lon, lat], axis=-1))


def _corners(ground: Georeference, size: tuple[int, int]) -> list[list[float]]:
    rows, cols = size
    a, b, c, d, e, f = ground.transform
    places = ((0, 0), (0, cols), (rows, cols), (rows, 0))
    return [[a * col + b * row + c, d * col + e * row + f] for row, col in places]


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else value
