"""GRD products as catalogues list them: what is taken from a name, what from the catalogue, and what must agree."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeVar

import numpy as np
import shapely
from pydantic import BaseModel, ValidationError

from sar1m.core.sphere import near_to
from sar1m.sources.scene import Ring
from sar1m.sources.sentinel_names import S1Name, parse_s1_name
from sar1m.store.errors import SourceError, printable

# Interferometric wide swath at high resolution, pixels of 10 m. The COG edition that the Data Space keeps beside every
# product (..._COG) has the same pixels and would make each scene appear twice.
_IW_GRDH: Final = re.compile(
    r"(?P<platform>S1[A-D])_IW_GRDH_1S(?P<polarisation>S[HV]|D[HV])_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}_[0-9A-F]{4}"
)
COG: Final = "_COG"
_CHANNELS: Final = {"SV": ("VV",), "SH": ("HH",), "DV": ("VV", "VH"), "DH": ("HH", "HV")}
_NAME_S: Final = timedelta(seconds=2)  # a name holds whole seconds, and processings differ by fractions of one


@dataclass(frozen=True, kw_only=True)
class ListedProduct:
    """A product as a catalogue lists it.

    start: UTC. ipf: processor version, empty where the catalogue gives none. checksum: such as md5:0f..., None where
    the catalogue gives none.
    """

    product_id: str
    start: datetime
    footprint: Ring
    href: str
    orbit_state: str | None = None
    relative_orbit: int | None = None
    ipf: str = ""
    size_bytes: int | None = None
    checksum: str | None = None
    online: bool = True

    @property
    def platform(self) -> str:
        return self.product_id[:3]

    @property
    def datatake(self) -> str:
        return self.product_id.split("_")[7]

    @property
    def polarisations(self) -> tuple[str, ...]:
        """By the class in the name, co-polarised first."""
        return channels_of(self.product_id)


@dataclass(frozen=True, kw_only=True)
class Page:
    """One answer of a catalogue. full: it may have left products out."""

    products: tuple[ListedProduct, ...]
    full: bool


class Polygon(BaseModel):
    """GeoJSON, RFC 7946."""

    type: Literal["Polygon"]
    coordinates: list[list[list[float]]]

    @property
    def rings(self) -> list[list[list[float]]]:
        return self.coordinates[:1]


class MultiPolygon(BaseModel):
    """GeoJSON, RFC 7946."""

    type: Literal["MultiPolygon"]
    coordinates: list[list[list[list[float]]]]

    @property
    def rings(self) -> list[list[list[float]]]:
        return [ring for polygon in self.coordinates for ring in polygon[:1]]


M = TypeVar("M", bound=BaseModel)


def parsed(model: type[M], body: bytes, service: str) -> M:
    """A catalogue's answer as a record. Raises SourceError that names the first field that is not as expected, without
    its value."""
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part)[:60] for part in first["loc"]) or "the whole answer"
        raise SourceError(
            f"{service}: the catalogue's answer is not as its interface describes: {printable(place)}: "
            f"{printable(first['msg'][:200])}. Try "
            "again later; where it stays so, the service has changed."
        ) from None  # the cause would print what the server sent


def product_name(product_id: str, service: str) -> S1Name | None:
    """What the name of an IW GRDH product says; None for another Sentinel-1 product.

    Raises SourceError where it is not the name of a Sentinel-1 product.
    """
    name = parse_s1_name(product_id)
    if name is None:
        raise SourceError(
            f"{service}: the catalogue lists a product named {product_id[:100]!r}; expected a Sentinel-1 name such as "
            "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8. Its answer is not used."
        )
    return name if _IW_GRDH.fullmatch(product_id) else None


def channels_of(product_id: str) -> tuple[str, ...]:
    """Polarisations of an IW GRDH product or its COG edition, by its name; empty for any other name."""
    matched = _IW_GRDH.fullmatch(product_id.removesuffix(COG))
    return () if matched is None else _CHANNELS[matched["polarisation"]]


def version(answer: object) -> str:
    """A processor version such as 003.71, empty where the catalogue's answer is none."""
    return answer if isinstance(answer, str) and re.fullmatch(r"[0-9.]{1,16}", answer) else ""


def direction(answer: object) -> str | None:
    """ascending or descending in lower case, None where the catalogue's answer is neither."""
    lower = answer.lower() if isinstance(answer, str) else ""
    return lower if lower in ("ascending", "descending") else None


def checked_start(stated: datetime, name: S1Name, product_id: str, service: str) -> datetime:
    """The catalogue's time of the first line, UTC. Raises SourceError where the product's name holds another time."""
    try:
        start = stated.astimezone(UTC) if stated.tzinfo else stated.replace(tzinfo=UTC)
    except OverflowError:  # the first and the last day there are, in another zone
        start = stated.replace(tzinfo=UTC)
    if abs(start - name.acquired) > _NAME_S:
        raise SourceError(
            f"{service} {product_id}: the catalogue says it starts at {start.isoformat()}, its name says "
            f"{name.acquired.isoformat()}. The catalogue's answer is not used."
        )
    return start


def one_ring(rings: Iterable[Sequence[Sequence[float]]], product_id: str, service: str) -> Ring:
    """The convex hull of a footprint's outer rings of lon, lat in degrees, closed, longitudes running on.

    A product that crosses +-180 comes in two parts, or with longitudes that jump: each is put within half a turn of
    the first point. Raises SourceError where the points make no area or leave the world.
    """
    points = [(float(point[0]), float(point[1])) for ring in rings for point in ring if len(point) >= 2]
    if len(points) < 3 or not all(math.isfinite(lon) and abs(lat) <= 90.0 and abs(lon) <= 360.0 for lon, lat in points):
        raise _no_area(product_id, service)
    lon, lat = np.array(points).T
    hull = shapely.convex_hull(shapely.MultiPoint(np.column_stack([near_to(lon, lon[0]), lat])))
    if not isinstance(hull, shapely.Polygon) or hull.area <= 0:
        raise _no_area(product_id, service)
    return tuple((float(x), float(y)) for x, y in hull.exterior.coords)


def _no_area(product_id: str, service: str) -> SourceError:
    return SourceError(
        f"{service} {product_id}: its footprint in the catalogue is no area in degrees. The answer is not used."
    )
