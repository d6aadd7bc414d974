"""What a description of one's own rasters comes to: pairs of a SAR layer and what belongs to it.

STAC items, a table or folder names all end in these records; reading knows nothing of where they came from.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import TypeAdapter, ValidationError

from sar1m.io.files_beside import refuse_lonely_side_files
from sar1m.io.header import RasterHeader
from sar1m.io.raster import raster_digest
from sar1m.io.stated import Stated, reconciled
from sar1m.records import OpticalProduct, SarQuantity
from sar1m.store.errors import SourceError
from sar1m.store.schema import OpticalQuantity

SarUnit = Literal["linear", "db"]
OpticalUnit = Literal["reflectance", "dn", "rgb8"]
ClassKind = Literal["scl", "cloudmask", "land_cover"]

SAR_BANDS: Final = ("VV", "VH", "HH", "HV")
OPTICAL_BANDS: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
STAC_OPTICAL_KEYS: Final = {  # asset keys, in lower case: Sentinel-2's names and the common names of the eo extension
    **{name.lower(): name for name in OPTICAL_BANDS},
    "coastal": "B01",
    "blue": "B02",
    "green": "B03",
    "red": "B04",
    "nir": "B08",
    "nir08": "B8A",
    "nir09": "B09",
    "rededge1": "B05",
    "rededge2": "B06",
    "rededge3": "B07",
    "cirrus": "B10",
    "swir16": "B11",
    "swir22": "B12",
}
RGB_BANDS: Final = ("B04", "B03", "B02")
REFLECTANCE_PER_DN: Final = 1e-4  # Sentinel-2's quantification value 10000
NOT_STATED: Final = "not stated"
_ID: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")


@dataclass(frozen=True, kw_only=True)
class BandFile:
    """One band of one file: its name (VV, B04, ...), path relative to the folder, number from 1.

    scale, offset, nodata, unit: what the description states of this band, None where it does not. The file's own words
    fill them and must agree with them (stated.reconciled). value = scale * stored + offset in unit.
    """

    name: str
    path: str
    number: int
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    unit: str | None = None

    def stated(self, by: str) -> Stated:
        """What the description states of the numbers. by: the description, for messages."""
        return Stated(by=by, scale=self.scale, offset=self.offset, nodata=self.nodata, unit=self.unit)


@dataclass(frozen=True, kw_only=True)
class SarLayer:
    """Backscatter. unit: of the values of all bands, after each band's scale and offset."""

    product_id: str
    bands: tuple[BandFile, ...]
    unit: SarUnit
    quantity: SarQuantity
    acquired: datetime | None = None
    platform: str | None = None
    orbit_state: str | None = None
    relative_orbit: int | None = None
    datatake: str | None = None
    processing: str = NOT_STATED
    provider: str = NOT_STATED
    licence: str = NOT_STATED


@dataclass(frozen=True, kw_only=True)
class OpticalLayer:
    """Optical bands: reflectance after each band's scale and offset, or 0..255 for rgb8.

    unit dn: integers of which 0 means no data, with REFLECTANCE_PER_DN where neither description nor file states a
        scale. offset_applied: the radiometric offset in DN that the bands' offset stands for.
    """

    product_id: str
    bands: tuple[BandFile, ...]
    unit: OpticalUnit
    offset_applied: int | None = None
    acquired: datetime | None = None
    processing_baseline: str | None = None
    provider: str = NOT_STATED
    licence: str = NOT_STATED

    @property
    def quantity(self) -> OpticalQuantity:
        return "display" if self.unit == "rgb8" else "reflectance"


@dataclass(frozen=True, kw_only=True)
class ClassLayer:
    """A raster of class numbers. cloudmask: 0 clear, 1 cloud or shadow.

    names: of land cover, number and name of each class. water: the numbers that are water, None where nobody knows.
    """

    kind: ClassKind
    band: BandFile
    names: tuple[tuple[int, str], ...] = ()
    water: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class FolderPair:
    """One SAR scene or chip with what belongs to it. described_in: where to look when something is wrong."""

    name: str
    described_in: str
    sar: SarLayer
    optical: OpticalLayer | None = None
    classes: tuple[ClassLayer, ...] = ()
    labels: tuple[str, ...] = ()
    attribution: str = ""

    def with_partner(self, scene: OpticalScene) -> FolderPair:
        """The same with an optical scene, whose masks and land cover go before the SAR scene's."""
        classes = {layer.kind: layer for layer in (*self.classes, *scene.classes)}
        return replace(self, optical=scene.optical, classes=tuple(classes.values()))


@dataclass(frozen=True, kw_only=True)
class OpticalScene:
    """An optical scene on its own, with its masks and land cover. outline: closed ring of longitudes and latitudes,
    longitudes running on."""

    name: str
    described_in: str
    optical: OpticalLayer
    classes: tuple[ClassLayer, ...] = ()
    attribution: str = ""
    outline: tuple[tuple[float, float], ...]

    @property
    def acquired(self) -> datetime | None:
        return self.optical.acquired


def settled(band: BandFile, header: RasterHeader, described_in: str) -> BandFile:
    """The band with what its file states filled in where the description is silent.

    header: of the band's file. Raises SourceError where file and description disagree, and for a band that is not there
    or is an alpha band.
    """
    both = reconciled(header.stated_of(band.number), band.stated(described_in), f"{header.name}, band {band.number}")
    return replace(band, scale=both.scale, offset=both.offset, nodata=both.nodata, unit=both.unit)


def offset_in_dn(band: BandFile) -> int:
    """The radiometric offset in digital numbers that a settled band of unit dn has."""
    return round((band.offset or 0.0) / (band.scale or REFLECTANCE_PER_DN))


_Described = TypeVar("_Described", FolderPair, OpticalScene)
_Thing = TypeVar("_Thing")


def to_text(described: FolderPair | OpticalScene) -> str:
    """A pair or scene as JSON, for a work item's handle."""
    return json.dumps(asdict(described), default=datetime.isoformat)


def from_text(kind: type[_Described], text: str, item_id: str) -> _Described:
    """The pair or scene of a text that to_text wrote. Raises SourceError for any other text."""
    try:
        return TypeAdapter(kind).validate_json(text)
    except ValidationError as error:
        raise SourceError(f"{item_id}: not planned by this version from a folder. Plan the build again.") from error


def refuse_foreign(name: str, described_in: str) -> None:
    """Raises SourceError for a name that is an address, an absolute path or empty."""
    if re.match(r"^([A-Za-z][A-Za-z0-9+.-]*:|[/\\])", name) or not name:
        raise SourceError(
            f"{described_in}: {name!r} is not a name relative to the description. Only local files are read; download "
            "remote ones and name them by their place in the folder."
        )


def resolve_inside(root: Path, relative: str, described_in: str) -> Path:
    """The file that a description names, links followed. Raises SourceError as refuse_foreign does, and for anything
    that lies outside root in the end; and for a link with a mask or an .aux.xml beside it that its file has not."""
    refuse_foreign(relative, described_in)
    named = root / relative
    path = named.resolve()
    if not path.is_relative_to(root.resolve()):
        raise SourceError(f"{described_in}: {relative!r} leads out of {root} (by .. or a link). Copy the file into it.")
    if named.is_symlink():
        refuse_lonely_side_files(named, path)
    return path


def checked_name(name: str, described_in: str) -> str:
    """The name of a scene or pair, unchanged. Raises SourceError where it cannot name a file or a row."""
    if not _ID.fullmatch(name):
        raise SourceError(
            f"{described_in}: {name!r} cannot be an identifier. Use up to 128 letters, digits, dots, underscores and "
            "hyphens, no dot first."
        )
    return name


def parse_datetime(text: str, described_in: str) -> datetime:
    """A date and time, ISO 8601, digits beyond microseconds dropped, UTC where no zone is given."""
    shortened = re.sub(r"(\.\d{6})\d+", r"\1", text.strip())
    try:
        parsed = datetime.fromisoformat(shortened)
    except ValueError:
        raise SourceError(f"{described_in}: {text!r} is no date and time. Write it as 2017-06-13T16:50:43Z.") from None
    return parsed.replace(tzinfo=UTC) if parsed.tzinfo is None else parsed.astimezone(UTC)


class FileDigests:
    """Digests of files below root, each read once however many bands and layers use it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, str] = {}

    def of(self, layers: Sequence[SarLayer | OpticalLayer | ClassLayer], described_in: str) -> str:
        """blake2b-128, hexadecimal, of the files' bytes, of what masks and .aux.xml beside them say, and of how the
        layers say that they are to be read. Where the files lie plays no part."""
        described: list[Any] = []
        for layer in layers:
            bands = (layer.band,) if isinstance(layer, ClassLayer) else layer.bands
            fields = {k: v for k, v in asdict(layer).items() if k not in ("band", "bands")}
            files = [replace(band, path=self._file(band.path, described_in)) for band in bands]
            described.append([fields, [asdict(band) for band in files]])
        text = json.dumps(described, sort_keys=True, default=str, separators=(",", ":"))
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _file(self, relative: str, described_in: str) -> str:
        if relative not in self._known:
            self._known[relative] = raster_digest(resolve_inside(self._root, relative, described_in))
        return self._known[relative]


def require_bands(layer: OpticalLayer, bands: tuple[str, ...], described_in: str) -> None:
    """Raises SourceError where the layer lacks one of the bands that the configuration asks for, or none is asked."""
    found = [band.name for band in layer.bands]
    missing = [name for name in bands if name not in found]
    if missing or not bands:
        raise SourceError(
            f"{described_in}: band {', '.join(missing) or '(none asked for)'} of pixels.optical_bands is missing; it "
            f"has {', '.join(found)}. Change pixels.optical_bands or give the band."
        )


def product_of_layer(layer: OpticalLayer, digest: str, bands: tuple[str, ...]) -> OpticalProduct:
    """The product record of an optical layer of which these bands are read. digest: of files and reading."""
    return OpticalProduct(
        product_id=layer.product_id,
        digest=digest,
        quantity=layer.quantity,
        bands=bands,
        provider=layer.provider,
        licence=layer.licence,
        acquired=layer.acquired,
        processing_baseline=layer.processing_baseline,
        offset_applied=layer.offset_applied,
    )


def require_one_kind(pairs: Sequence[FolderPair]) -> None:
    """One build holds one quantity, one set of polarisations and one optical quantity.

    Raises SourceError that names a file of each kind where they are mixed, and where two pairs have one name.
    """
    seen: set[str] = set()
    for pair in pairs:
        if pair.name in seen:
            raise SourceError(f"{pair.described_in}: the name {pair.name!r} is used twice. Give every pair its own.")
        seen.add(pair.name)
    _require_same(pairs, "SAR quantity", lambda p: (p.sar.quantity, p.sar.bands[0].path))
    _require_same(pairs, "polarisations", lambda p: (" ".join(b.name for b in p.sar.bands), p.sar.bands[0].path))
    partners = [p.optical for p in pairs if p.optical is not None]
    _require_same(partners, "optical quantity", lambda optical: (optical.quantity, optical.bands[0].path))


def _require_same(things: Iterable[_Thing], what: str, kind: Callable[[_Thing], tuple[str, str]]) -> None:
    first: tuple[str, str] | None = None
    for thing in things:
        found = kind(thing)
        first = first or found
        if found[0] != first[0]:
            raise SourceError(
                f"Mixed {what}: {first[1]} has {first[0]}, {found[1]} has {found[0]}. One build holds one kind; keep "
                "them in separate folders and build twice."
            )
