"""Scenes from STAC items. Nothing of an item is believed that could name a file or a host, or place a scene wrongly.

Source: STAC 1.0 and 1.1, extensions sar, sat, eo, projection, file; `s2:` properties of Planetary Computer and Element
84; `earthsearch:boa_offset_applied`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import shapely

from sar1m.core.sphere import running_on, turns_home, turns_to
from sar1m.records import SarQuantity
from sar1m.sources.item_words import (
    BandWords,
    band_words,
    optical_offset_dn,
    orbit_direction,
    platform_name,
    product_name,
    sar_unit,
    stated_baseline,
    track_number,
)
from sar1m.sources.layers import NOT_STATED, SAR_BANDS, STAC_OPTICAL_KEYS, parse_datetime
from sar1m.sources.scene import Asset, Kind, Ring, Scene
from sar1m.sources.sentinel_names import parse_s1_name
from sar1m.store.errors import SourceError

MAX_VERTICES: Final = 10_000
MAX_HREF: Final = 2_048
LOOPBACK: Final = "127.0.0.1"
YEARS: Final = range(2014, 2101)  # Sentinel-1A flies since April 2014
_SHOWN: Final = 140  # characters of a stranger's text that a message repeats
_SAR_KEYS: Final[Mapping[str, str]] = {
    form.format(name.lower()): name for name in SAR_BANDS for form in ("{}", "{}-rtc", "gamma0_{}")
}
_OPTICAL_KEYS: Final[Mapping[str, str]] = {**STAC_OPTICAL_KEYS, "scl": "SCL"}
_PLATFORM: Final = re.compile(r"sentinel-([12])[a-d]")
_DATASTRIP_START: Final = re.compile(r"_S(\d{8}T\d{6})_")


@dataclass(frozen=True, kw_only=True)
class ItemRule:
    """How the items of one service are read.

    hosts: those that assets may stand on; where it is empty, any host (the downloader refuses private ones).
    sar_quantity: of all SAR items. None: gamma nought for items that say RTC or NRB; the others are left out.
    """

    service: str
    hosts: frozenset[str]
    provider: str | None = None
    licence: str | None = None
    attribution: str = ""
    sar_quantity: SarQuantity | None = None
    sar_processing: str | None = None


class AddressError(SourceError):
    """An asset has an address that nothing is fetched from: another host, a file, or not a plain address."""


@dataclass(frozen=True, kw_only=True)
class FoundScene:
    """A scene of a catalogue. twin: the same text for all processings of one acquisition; empty where unknown."""

    scene: Scene
    twin: str = ""


@dataclass(frozen=True, kw_only=True)
class _Item:
    """A STAC item. where: its name in messages. fields: its properties."""

    where: str
    name: str
    collection: str
    fields: Mapping[str, Any]
    assets: Mapping[str, Any]
    geometry: object
    rule: ItemRule

    def wrong(self, what: str, found: object, expected: str) -> SourceError:
        """The error for a fact that cannot be right. The catalogue's answer is not used."""
        return SourceError(
            f"{self.where}: {what} is {repr(found)[:_SHOWN]}; expected {expected}. The catalogue's answer is not used."
        )

    def text(self, field: str) -> str | None:
        """A property as text without control characters, None where absent."""
        value = self.fields.get(field)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > _SHOWN or not value.isprintable():
            raise self.wrong(field, value, f"at most {_SHOWN} printable characters")
        return value or None

    def number(self, field: str, least: float, most: float) -> float | None:
        """A property between two numbers, None where absent."""
        value = self.fields.get(field)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.wrong(field, value, f"a number from {least:g} to {most:g}")
        return float(value)


def found_in(item: object, rule: ItemRule, kind: Kind) -> FoundScene | None:
    """The scene of an item, or None where it is of another kind, level or sensor.

    Raises SourceError where id, times, footprint, numbers or addresses are not fit to be used.
    """
    opened = _open(item, rule)
    platform = platform_name(opened.text("platform"), f"{opened.where}: platform") or ""
    match = _PLATFORM.fullmatch(platform)
    if match is None or (kind, match[1]) not in (("sar", "1"), ("optical", "2")):
        return None
    return _sar_scene(opened, platform) if kind == "sar" else _optical_scene(opened, platform)


def _open(item: object, rule: ItemRule) -> _Item:
    if (
        not isinstance(item, dict)
        or not isinstance(item.get("id"), str)
        or not isinstance(item.get("properties"), dict)
        or not isinstance(item.get("assets"), dict)
    ):
        raise SourceError(f"{rule.service}: answers what is no STAC item. Check the address of the catalogue.")
    name = str(item["id"])
    return _Item(
        where=f"{rule.service} {name[:_SHOWN]!r}",
        name=name,
        collection=str(item.get("collection") or "")[:_SHOWN],
        fields=item["properties"],
        assets=item["assets"],
        geometry=item.get("geometry"),
        rule=rule,
    )


def _sar_scene(item: _Item, platform: str) -> FoundScene | None:
    quantity = item.rule.sar_quantity or _said_quantity(item)
    bands = tuple(_assets(item, _SAR_KEYS))
    if quantity is None or not bands:
        return None
    order = sorted(bands, key=lambda asset: SAR_BANDS.index(asset.name))
    if len({sar_unit(asset.unit, item.where) for asset in bands}) > 1:
        raise item.wrong("the unit of its bands", {asset.name: asset.unit for asset in bands}, "one for all")
    named = parse_s1_name(item.name)
    platform = platform_name(platform, f"{item.where}: platform", None if named is None else named.platform) or platform
    scene = Scene(
        **_common(item, "sar"),
        platform=platform,
        assets=tuple(order),
        polarisations=tuple(asset.name for asset in order),
        orbit_state=orbit_direction(item.text("sat:orbit_state"), f"{item.where}: sat:orbit_state"),
        relative_orbit=_track(item, platform) or (None if named is None else named.relative_orbit),
        datatake=None if named is None else named.datatake,
        sar_quantity=quantity,
        processing=item.rule.sar_processing or item.text("sar:product_type") or NOT_STATED,
    )
    return FoundScene(scene=scene)


def _said_quantity(item: _Item) -> SarQuantity | None:
    """gamma0 where the item says that it is terrain corrected. Digital numbers of GRD are no backscatter: None."""
    said = (item.text("sar:product_type") or "").upper()
    return "gamma0" if said in ("RTC", "NRB") or (said == "GRD" and "rtc" in item.collection.lower()) else None


def _track(item: _Item, platform: str) -> int | None:
    return track_number(item.fields.get("sat:relative_orbit"), platform, f"{item.where}: sat:relative_orbit")


def _optical_scene(item: _Item, platform: str) -> FoundScene | None:
    if not _is_surface_reflectance(item):
        return None
    bands = tuple(sorted(_assets(item, _OPTICAL_KEYS), key=lambda asset: asset.name))
    if not bands:
        return None
    cloud_percent = item.number("eo:cloud_cover", 0, 100)
    scene = Scene(
        **_common(item, "optical"),
        platform=platform,
        assets=bands,
        relative_orbit=_track(item, platform),
        processing="L2A",
        cloud_frac=None if cloud_percent is None else cloud_percent / 100,
        optical_quantity="reflectance",
        processing_baseline=stated_baseline(item.fields, _product(item)),
        offset_dn=_offset_dn(item, bands),
    )
    return FoundScene(scene=scene, twin=_twin(item))


def _is_surface_reflectance(item: _Item) -> bool:
    """Whether an item is of level 2A: by its product type, else its product's name, else its own name."""
    said = item.text("s2:product_type")
    if said is not None:
        return said == "S2MSI2A"
    return "L2A" in (item.text("s2:product_uri") or item.name).upper() or "l2a" in item.collection.lower()


def _product(item: _Item) -> str:
    return product_name(item.fields, item.name)


def _offset_dn(item: _Item, bands: Sequence[Asset]) -> int:
    """What is to be added to the digital numbers of all bands alike. Raises SourceError where nobody knows, and where
    bands differ."""
    offsets = {}
    for asset in (one for one in bands if one.name != "SCL"):
        words = BandWords(scale=asset.scale, offset=asset.offset)
        offsets[asset.name] = optical_offset_dn(item.fields, _product(item), words, item.where)
    if len({*offsets.values()}) != 1 or not next(iter(offsets.values())).is_integer():
        raise item.wrong("the offset in DN of its bands", offsets, "one whole number for all")
    return int(next(iter(offsets.values())))


def _twin(item: _Item) -> str:
    """Tile and start of the data strip that the item was cut from: the same for a product and its reprocessed
    successor."""
    strip = _DATASTRIP_START.search(item.text("s2:datastrip_id") or "")
    tile = item.text("s2:mgrs_tile") or (item.text("grid:code") or "").removeprefix("MGRS-")
    return f"{tile}_{strip[1]}" if strip is not None and tile else ""


def _common(item: _Item, kind: Kind) -> dict[str, Any]:
    """Fields of Scene that both kinds have."""
    rule = item.rule
    return {
        "scene_id": item.name,
        "service": rule.service,
        "kind": kind,
        "acquired": _acquired(item),
        "footprint": _footprint(item),
        "licence": rule.licence or item.text("license") or NOT_STATED,
        "provider": rule.provider or NOT_STATED,
        "attribution": rule.attribution,
    }


def _acquired(item: _Item) -> datetime:
    """The time start_datetime, or datetime where the former is absent."""
    field = "datetime" if item.fields.get("start_datetime") is None else "start_datetime"
    stated = item.text(field)
    if stated is None:
        raise item.wrong(field, stated, "a date and time")
    try:
        acquired = parse_datetime(stated, item.where)
    except OverflowError:  # the first and the last day there are, in another zone
        raise item.wrong(field, stated, "a time of this age") from None
    if acquired.year not in YEARS:
        raise item.wrong(field, stated, f"a year from {YEARS.start} to {YEARS.stop - 1}")
    return acquired


def _footprint(item: _Item) -> Ring:
    """A closed ring whose longitudes run on. For several parts, or a ring that crosses itself, their convex hull."""
    rings = [_unwrapped(item, ring) for ring in _outer_rings(item)]
    middle = rings[0][:, 0].mean()
    for ring in rings:
        ring[:, 0] += turns_to(ring[:, 0].mean(), middle)
    shape = shapely.Polygon(rings[0])
    if len(rings) > 1 or not shape.is_valid:
        shape = shapely.convex_hull(shapely.MultiPoint(np.concatenate(rings)))
    if shape.geom_type != "Polygon" or not shape.area > 0:
        raise item.wrong("its footprint", shape.geom_type, "an area")
    corners = shapely.get_coordinates(shape)
    corners[:, 0] += turns_home(corners[:, 0].min())
    return tuple((float(lon), float(lat)) for lon, lat in corners)


def _outer_rings(item: _Item) -> list[list[Any]]:
    geometry = item.geometry if isinstance(item.geometry, dict) else {}
    coordinates = geometry.get("coordinates")
    polygons = {"Polygon": [coordinates], "MultiPolygon": coordinates}.get(str(geometry.get("type")))
    rings = [polygon[0] if isinstance(polygon, list) and polygon else None for polygon in _listed(polygons)]
    if not rings or not all(isinstance(ring, list) and len(ring) >= 4 for ring in rings):
        raise item.wrong("its geometry", geometry.get("type"), "a Polygon or MultiPolygon of longitudes and latitudes")
    outer = [_listed(ring) for ring in rings]
    if sum(len(ring) for ring in outer) > MAX_VERTICES:
        raise item.wrong("its geometry", "a ring of very many points", f"at most {MAX_VERTICES}")
    return outer


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _unwrapped(item: _Item, ring: Sequence[Any]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Corners of a ring (points, 2), longitude and latitude, longitudes running on."""
    corners = np.empty((len(ring), 2))
    for place, corner in enumerate(ring):
        pair = corner[:2] if isinstance(corner, list) else []
        if len(pair) != 2 or not all(isinstance(x, int | float) and not isinstance(x, bool) for x in pair):
            raise item.wrong("a corner of its geometry", corner, "longitude and latitude")
        if not (abs(pair[0]) <= 180 and abs(pair[1]) <= 90):  # refuses NaN too
            raise item.wrong("a corner of its geometry", pair, "degrees within -180..180 and -90..90")
        corners[place] = pair
    corners[:, 0] = running_on(corners[:, 0])
    if abs(corners[0, 0] - corners[-1, 0]) > 180:
        raise item.wrong("its footprint", "a ring around a pole", "one that can be drawn on a map")
    corners[-1] = corners[0]
    return corners


def _assets(item: _Item, names: Mapping[str, str]) -> Iterator[Asset]:
    """Rasters whose keys are known, each name once."""
    taken: set[str] = set()
    for key, about in item.assets.items():
        name = names.get(str(key).lower())
        if name is None or name in taken or not isinstance(about, dict) or not _is_tiff(about):
            continue
        taken.add(name)
        words = band_words(about, item.fields, f"{item.where}, asset {str(key)[:_SHOWN]}")
        yield Asset(
            name=name,
            href=checked_href(about.get("href"), item.rule, item.where),
            size_bytes=_size(about),
            scale=words.scale,
            offset=words.offset,
            nodata=None if words.nodata is None or math.isnan(words.nodata) else words.nodata,  # NaN never is a value
            unit=words.unit,
        )


def _is_tiff(about: Mapping[str, Any]) -> bool:
    """Whether an asset is a GeoTIFF by its media type, or by its name where it has none."""
    media = about.get("type")
    if isinstance(media, str):
        return media.startswith("image/tiff")
    return str(about.get("href")).lower().endswith((".tif", ".tiff"))


def _size(about: Mapping[str, Any]) -> int | None:
    size = about.get("file:size")
    return size if isinstance(size, int) and not isinstance(size, bool) and size > 0 else None


def checked_href(href: object, rule: ItemRule, where: str) -> str:
    """An address on one of the service's hosts: https, without user, query or fragment, without a step upwards.

    Plain http is allowed on this machine alone, and only where the service itself was put there. Raises AddressError.
    """
    text = href if isinstance(href, str) else ""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port, parts = "", None, urlsplit("")
    local = host == LOOPBACK and LOOPBACK in rule.hosts
    plain = text.isascii() and text.isprintable() and not re.search(r"[\s\\?#@]", text) and len(text) <= MAX_HREF
    fits = (parts.scheme == "https" and port in (None, 443)) or (parts.scheme == "http" and local)
    steps = ".." in parts.path.split("/")
    if not (host and plain and fits) or steps or (rule.hosts and host not in rule.hosts):
        allowed = ", ".join(sorted(rule.hosts)) or "a public host"
        raise AddressError(
            f"{where}: an asset stands at {text.partition('?')[0][:_SHOWN]!r}; expected a plain https address on "
            f"{allowed}. It is not fetched."
        )
    return text
