"""A table that describes one's own rasters: scenes.csv, UTF-8, commas, one row a file.

pair            required  name of the pair; rows of one pair belong together
kind            required  sar, optical, scl, cloudmask or land_cover
path            required  file, relative to the table's folder
bands           required for sar and optical: names of the file's bands in order, separated by spaces (VV VH;
                B04 B03 B02); - skips a band. Several rows of one pair and kind add their bands.
unit            required for sar (linear, db) and optical (reflectance, dn, rgb8)
quantity        required for sar: sigma0 or gamma0
scale, offset   value = scale * stored + offset; without them what the file states, else 1 and 0, for dn 0.0001 and
                what baseline says. Where file and table both state one, they must agree
baseline        Sentinel-2 processing baseline, 04.00; for dn this or an offset, here or in the file, is needed, and the
                offset (0 where DN are harmonised) where the baseline is none of ESA's, such as 99.99
datetime        acquisition, ISO 8601, UTC where no zone is given
platform, orbit_state, relative_orbit, datatake, processing   of sar
product_id, provider, licence                                 of sar and optical
classes         of land_cover: 1=water 2=trees 5=built_area, or a product of class_tables such as worldcover; without a
                class that is called water (lake, sea, ...) the share of water is unknown
labels          of sar: scene labels, separated by semicolons
attribution     of sar, and of optical where it stands alone: text that must accompany a redistribution of the pair
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from sar1m.io.header import read_header
from sar1m.io.stated import Stated
from sar1m.records import SarQuantity
from sar1m.sources.baselines import StatedOffset, parse_baseline
from sar1m.sources.class_tables import classes_of, named_table, table_names
from sar1m.sources.failures import Failing
from sar1m.sources.item_words import orbit_direction, platform_name, says_harmonised, track_number
from sar1m.sources.layers import (
    NOT_STATED,
    OPTICAL_BANDS,
    REFLECTANCE_PER_DN,
    SAR_BANDS,
    BandFile,
    ClassKind,
    ClassLayer,
    FolderPair,
    OpticalLayer,
    OpticalScene,
    OpticalUnit,
    SarLayer,
    SarUnit,
    checked_name,
    offset_in_dn,
    parse_datetime,
    resolve_inside,
    settled,
)
from sar1m.sources.placement import lonlat_outline
from sar1m.sources.sentinel_names import parse_s1_name, parse_s2_name
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_table

TABLE_NAME: Final = "scenes.csv"
REQUIRED: Final = ("pair", "kind", "path")
COLUMNS: Final = (
    *REQUIRED,
    *("bands", "unit", "quantity", "scale", "offset", "baseline", "datetime"),
    *("platform", "orbit_state", "relative_orbit", "datatake", "processing"),
    *("product_id", "provider", "licence", "classes", "labels", "attribution"),
)
_MAX_TABLE_BYTES: Final = 2**28  # some 2 million rows
_SAR_UNITS: Final[Mapping[str, SarUnit]] = {"linear": "linear", "db": "db"}
_OPTICAL_UNITS: Final[Mapping[str, OpticalUnit]] = {"reflectance": "reflectance", "dn": "dn", "rgb8": "rgb8"}
_QUANTITIES: Final[Mapping[str, SarQuantity]] = {"sigma0": "sigma0", "gamma0": "gamma0"}
_CLASS_KINDS: Final[Mapping[str, ClassKind]] = {"scl": "scl", "cloudmask": "cloudmask", "land_cover": "land_cover"}
_STATE_OFFSET: Final = (
    "Give the column offset: 0 where the numbers are harmonised already (or were made without the offset), -0.1 where "
    "1000 is still to be taken off (in units of reflectance, with scale 0.0001)."
)
_MOST_CLASS: Final = 65_535
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class _Row:
    """One row: origin such as scenes.csv line 3, cells by column without outer blanks."""

    origin: str
    cells: Mapping[str, str]

    def get(self, column: str) -> str:
        """The cell; empty where the column is absent."""
        return self.cells.get(column, "")

    def needed(self, column: str) -> str:
        """The cell. Raises SourceError where it is empty."""
        if not self.get(column):
            raise SourceError(f"{self.origin}: column {column} is empty; a row of kind {self.get('kind')} needs it.")
        return self.get(column)

    def one_of(self, column: str, choices: Mapping[str, _T]) -> _T:
        """The meaning of a cell that must be one of choices, in any case. Raises SourceError otherwise."""
        key = self.get(column).lower()
        if key not in choices:
            raise SourceError(
                f"{self.origin}: column {column} has {self.get(column)!r}; expected one of "
                f"{', '.join(choice for choice in choices if choice)}."
            )
        return choices[key]

    def number(self, column: str) -> float | None:
        """A finite number, None where the cell is empty. Raises SourceError otherwise."""
        text = self.get(column)
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value) or (column == "scale" and value == 0):
            raise SourceError(f"{self.origin}: column {column} has {text!r}; expected a number (scale: not 0).")
        return value


def table_pairs(table: Path, failing: Failing) -> list[FolderPair]:
    """Pairs of a table, sorted by name; files are opened as far as their headers.

    failing: sets a pair aside, naming line and column, where its rows are not as the module describes. Raises
    SourceError where the table as a whole is not.
    """
    pairs = []
    for name, rows in _by_name(table):
        with failing(name):
            pairs.append(_pair(table.parent, name, rows))
    return pairs


def table_optical(table: Path, failing: Failing) -> list[OpticalScene]:
    """The optical rows of a table as scenes on their own with their masks and land cover, sorted by name; rows of SAR
    are left alone. failing, and what is raised: as of table_pairs."""
    scenes = []
    for name, rows in _by_name(table):
        with failing(name, patches=0):
            scene = _optical_scene(table.parent, name, rows)
            scenes += [] if scene is None else [scene]
    return scenes


def _by_name(table: Path) -> list[tuple[str, list[_Row]]]:
    named: dict[str, list[_Row]] = {}
    for row in _rows(table):
        named.setdefault(checked_name(row.get("pair"), row.origin), []).append(row)
    return sorted(named.items())


def _rows(table: Path) -> list[_Row]:
    remedy = "Save it as CSV in UTF-8; a table that is too large as several, in folders of their own."
    lines = read_table(table, error=SourceError, remedy=remedy, max_bytes=_MAX_TABLE_BYTES)
    columns = [column.strip() for column in lines[0][1]] if lines else []
    unknown, missing = sorted(set(columns) - set(COLUMNS)), [c for c in REQUIRED if c not in columns]
    if unknown or missing or len(set(columns)) != len(columns):
        raise SourceError(
            f"{table}: the first line must name the columns, each once. Missing: {', '.join(missing) or 'none'}; "
            f"unknown: {', '.join(unknown) or 'none'}. Columns there are: {', '.join(COLUMNS)}."
        )
    return [_row(table, line, columns, cells) for line, cells in lines[1:]]


def _row(table: Path, line: int, columns: list[str], cells: list[str]) -> _Row:
    origin = f"{table} line {line}"
    if len(cells) != len(columns):
        raise SourceError(f"{origin}: has not {len(columns)} cells like the first line. Quote texts that hold commas.")
    return _Row(origin=origin, cells={c: cell.strip() for c, cell in zip(columns, cells, strict=True)})


def _pair(root: Path, name: str, rows: list[_Row]) -> FolderPair:
    _require_known_kinds(rows)
    sar = _joined_layer(root, _of_kind(rows, "sar"), _sar_layer)
    if sar is None:
        raise SourceError(f"{rows[0].origin}: the pair {name!r} has no row of kind sar. Add one, or remove the pair.")
    labels = _last(_of_kind(rows, "sar"), "labels")
    return FolderPair(
        name=name,
        described_in=rows[0].origin,
        sar=sar,
        optical=_joined_layer(root, _of_kind(rows, "optical"), _optical_layer),
        classes=tuple(_class_layer(root, row) for row in _of_kind(rows, *_CLASS_KINDS)),
        labels=tuple(label.strip() for label in labels.split(";") if label.strip()),
        attribution=_last(_of_kind(rows, "sar"), "attribution"),
    )


def _optical_scene(root: Path, name: str, rows: list[_Row]) -> OpticalScene | None:
    _require_known_kinds(rows)
    optical = _joined_layer(root, _of_kind(rows, "optical"), _optical_layer)
    if optical is None:
        return None
    return OpticalScene(
        name=name,
        described_in=rows[0].origin,
        optical=optical,
        classes=tuple(_class_layer(root, row) for row in _of_kind(rows, *_CLASS_KINDS)),
        attribution=_last(_of_kind(rows, "optical"), "attribution"),
        outline=lonlat_outline(read_header(resolve_inside(root, optical.bands[0].path, rows[0].origin))),
    )


def _require_known_kinds(rows: list[_Row]) -> None:
    for row in rows:
        if row.get("kind").lower() not in ("sar", "optical", *_CLASS_KINDS):
            raise SourceError(
                f"{row.origin}: column kind has {row.get('kind')!r}; expected sar, optical, {', '.join(_CLASS_KINDS)}."
            )


def _of_kind(rows: list[_Row], *kinds: str) -> list[_Row]:
    return [row for row in rows if row.get("kind").lower() in kinds]


def _last(rows: list[_Row], column: str) -> str:
    """The last cell of a column that is not empty."""
    return next((row.get(column) for row in reversed(rows) if row.get(column)), "")


_Layer = TypeVar("_Layer", SarLayer, OpticalLayer)


def _joined_layer(root: Path, rows: list[_Row], make: Callable[[Path, _Row], _Layer]) -> _Layer | None:
    """One layer of all rows; None of none."""
    layer: _Layer | None = None
    for row in rows:
        more = make(root, row)
        layer = more if layer is None else _joined(layer, more, row)
    return layer


def _joined(layer: _Layer, more: _Layer, row: _Row) -> _Layer:
    """The layer with more bands. Raises SourceError where a band comes twice or anything but the bands differs."""
    if {band.name for band in layer.bands} & {band.name for band in more.bands}:
        raise SourceError(f"{row.origin}: gives a band of this pair a second time. Remove one row.")
    if replace(more, bands=layer.bands) != layer:
        raise SourceError(
            f"{row.origin}: differs from the earlier row of the same pair and kind in more than path and bands. Rows "
            "that are joined must agree in unit, quantity, datetime, product and an offset of dn."
        )
    return replace(layer, bands=(*layer.bands, *more.bands))


def _bands(root: Path, row: _Row, known: tuple[str, ...]) -> tuple[BandFile, ...]:
    """The bands of a row with what the table and their file state."""
    names = [name.upper() for name in row.needed("bands").split()]
    unknown = sorted(set(names) - {*known, "-"})
    if unknown or set(names) == {"-"}:
        raise SourceError(
            f"{row.origin}: column bands has {', '.join(unknown) or 'no band'}; expected names from "
            f"{', '.join(known)}, or - to skip one."
        )
    path = row.needed("path")
    header = read_header(resolve_inside(root, path, row.origin))
    if header.bands != len(names):
        raise SourceError(f"{row.origin}: names {len(names)} band(s), but {path} has {header.bands}. Name each, or -.")
    scale, offset = row.number("scale"), row.number("offset")
    bands = []
    for number, name in enumerate(names, start=1):
        if name != "-":
            band = BandFile(name=name, path=path, number=number, scale=scale, offset=offset)
            if row.get("unit").lower() == "dn":
                band = _with_dn_offset(band, header.stated_of(number), row)
            bands.append(settled(band, header, row.origin))
    return tuple(bands)


def _sar_layer(root: Path, row: _Row) -> SarLayer:
    product = checked_name(row.get("product_id") or row.get("pair"), row.origin)
    named = parse_s1_name(product)
    spacecraft = None if named is None or not row.get("platform") else named.platform
    platform = platform_name(row.get("platform"), f"{row.origin}: column platform", spacecraft)
    return SarLayer(
        product_id=product,
        bands=_bands(root, row, SAR_BANDS),
        unit=row.one_of("unit", _SAR_UNITS),
        quantity=row.one_of("quantity", _QUANTITIES),
        acquired=parse_datetime(row.get("datetime"), row.origin) if row.get("datetime") else None,
        platform=platform,
        orbit_state=orbit_direction(row.get("orbit_state"), f"{row.origin}: column orbit_state"),
        relative_orbit=track_number(row.get("relative_orbit"), platform, f"{row.origin}: column relative_orbit"),
        datatake=row.get("datatake").upper() or None,
        processing=row.get("processing") or NOT_STATED,
        provider=row.get("provider") or NOT_STATED,
        licence=row.get("licence") or NOT_STATED,
    )


def _optical_layer(root: Path, row: _Row) -> OpticalLayer:
    unit = row.one_of("unit", _OPTICAL_UNITS)
    bands = _bands(root, row, OPTICAL_BANDS)
    return OpticalLayer(
        product_id=checked_name(row.get("product_id") or row.get("pair"), row.origin),
        bands=bands,
        unit=unit,
        offset_applied=offset_in_dn(bands[0]) if unit == "dn" else None,
        acquired=parse_datetime(row.get("datetime"), row.origin) if row.get("datetime") else None,
        processing_baseline=_baseline(row),
        provider=row.get("provider") or NOT_STATED,
        licence=row.get("licence") or NOT_STATED,
    )


def _baseline(row: _Row) -> str | None:
    """The column baseline in its usual form. Raises SourceError where it is no baseline."""
    text = row.get("baseline")
    found = parse_baseline(text) if text else None
    if text and found is None:
        raise SourceError(f"{row.origin}: column baseline has {text!r}; expected a form such as 04.00.")
    return None if found is None else str(found)


def _with_dn_offset(band: BandFile, own: Stated, row: _Row) -> BandFile:
    """A band of DN with its scale, and with the offset that table, file or baseline give it.

    own: what the file states. Raises SourceError where none of them says what the offset is.
    """
    baseline, scale = _baseline(row), band.scale or own.scale or REFLECTANCE_PER_DN
    if baseline is None and band.offset is None and own.offset is None:
        raise SourceError(
            f"{row.origin}: unit dn needs baseline or offset: from baseline 04.00 on (January 2022) Sentinel-2 DN are "
            f"1000 too high. {_STATE_OFFSET}"
        )
    offset = own.offset if baseline is None and band.offset is None else band.offset
    _require_no_doubt(row, baseline if offset is None else None)
    named = parse_s2_name(row.get("product_id"))
    to_add_dn = StatedOffset(
        where=row.origin,
        remedy=_STATE_OFFSET,
        baseline=baseline,
        named=None if named is None else named.baseline,
        offset_dn=None if offset is None else round(offset / scale, 6),
    ).to_add_dn()
    return replace(band, scale=scale, offset=to_add_dn * scale)


def _require_no_doubt(row: _Row, baseline: str | None) -> None:
    """Raises SourceError where the offset would be that of a baseline, but a name says that it is applied already.

    baseline: None where the offset is stated as such.
    """
    said = next((row.get(column) for column in ("product_id", "path") if says_harmonised(row.get(column))), None)
    if baseline is not None and said is not None:
        raise SourceError(
            f"{row.origin}: states baseline {baseline}, but its name {said!r} says that the numbers are harmonised. "
            f"{_STATE_OFFSET}"
        )


def _class_layer(root: Path, row: _Row) -> ClassLayer:
    kind = row.one_of("kind", _CLASS_KINDS)
    path = row.needed("path")
    header = read_header(resolve_inside(root, path, row.origin))
    if header.bands != 1:
        raise SourceError(f"{row.origin}: {path} has {header.bands} bands; a raster of classes has one.")
    layer = ClassLayer(kind=kind, band=BandFile(name=kind, path=path, number=1))
    if kind != "land_cover":
        return layer
    product = named_table(row.needed("classes"))
    around = () if product is None else (product.name,)
    names, water = classes_of([] if product else _class_names(row), around, row.origin)
    return replace(layer, names=names, water=water)


def _class_names(row: _Row) -> list[tuple[int, tuple[str]]]:
    """Number and name of each class as the column classes has them."""
    names = []
    for part in row.needed("classes").split():
        number, equals, name = part.partition("=")
        if not equals or not name or not number.isdecimal() or int(number) > _MOST_CLASS:
            raise SourceError(
                f"{row.origin}: column classes has {part!r}; expected a form such as 1=water 2=trees, or one of the "
                f"products {table_names()}."
            )
        names.append((int(number), (name.replace("_", " "),)))
    return names
