"""STAC items beside one's own rasters: *.json of type Feature or FeatureCollection, anywhere below the folder.

Assets count by key: vv vh hh hv (also vv-rtc, vh-rtc); red green blue nir, B01 ... B12; visual; scl; cloudmask;
land_cover, landcover, lulc or a product of class_tables (worldcover, corine, ...). hrefs are local, from their item.
A SAR item needs a quantity: `sar1m:quantity` (sigma0, gamma0), or sar:product_type RTC, NRB or GRD, or a collection
with rtc in its name. Its unit is what raster:bands or bands say (dB), else linear power. Optical scale and offset come
from raster:bands; integers without them are Sentinel-2 DN, and then s2:processing_baseline is needed. Each block of
a SAR item takes one of the optical items that cover at least half of it (partners.py); masks and land cover come from
either item. What items say of their rasters: item_words.py.
Of a raster with several bands an asset is the one that bands, eo:bands or raster:bands name like it (VV, B04, red).
Source: STAC 1.0 and 1.1, extensions sar, sat, raster, eo, classification.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

from sar1m.io.header import RasterHeader, read_header
from sar1m.records import SarQuantity
from sar1m.sources.class_tables import TABLES, classes_of
from sar1m.sources.failures import Failing
from sar1m.sources.folder.features import LONGEST_NAME, stac_features
from sar1m.sources.item_words import (
    band_names,
    band_words,
    class_entries,
    offset_applied_dn,
    optical_offset_dn,
    orbit_direction,
    platform_name,
    product_name,
    sar_unit,
    stated_baseline,
    track_number,
    with_harmonised,
)
from sar1m.sources.layers import (
    NOT_STATED,
    REFLECTANCE_PER_DN,
    RGB_BANDS,
    SAR_BANDS,
    STAC_OPTICAL_KEYS,
    BandFile,
    ClassKind,
    ClassLayer,
    FolderPair,
    OpticalLayer,
    OpticalScene,
    SarLayer,
    SarUnit,
    checked_name,
    offset_in_dn,
    parse_datetime,
    refuse_foreign,
    resolve_inside,
    settled,
)
from sar1m.sources.partners import NearbyScene, Outline, PairAmongScenes, meeting
from sar1m.sources.placement import lonlat_outline
from sar1m.sources.sentinel_names import parse_s1_name
from sar1m.store.errors import SourceError, printable

_SAR_KEYS: Final = {key: name for name in SAR_BANDS for key in (name.lower(), f"{name.lower()}-rtc")}
_CLASS_KEYS: Final[Mapping[str, ClassKind]] = {
    "scl": "scl",
    "cloudmask": "cloudmask",
    "cloud_mask": "cloudmask",
    "land_cover": "land_cover",
    "landcover": "land_cover",
    "lulc": "land_cover",
    **{table.name.replace("-", "_"): "land_cover" for table in TABLES},
}
_PRODUCT_TYPES: Final[Mapping[str, SarQuantity]] = {"RTC": "gamma0", "NRB": "gamma0", "GRD": "sigma0"}
_NAMED: Final[Mapping[str, SarQuantity]] = {"sigma0": "sigma0", "gamma0": "gamma0"}


@dataclass(frozen=True, kw_only=True)
class _Asset:
    """One asset. key: in lower case. path: relative to the root. about: its JSON. header: of its raster."""

    key: str
    path: str
    about: Mapping[str, Any]
    header: RasterHeader


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One STAC item. assets: those with known keys. outline: of the first raster, a closed ring in degrees."""

    name: str
    origin: str
    properties: Mapping[str, Any]
    collection: str
    acquired: datetime | None
    assets: Mapping[str, _Asset]
    outline: Outline

    def text(self, field: str) -> str | None:
        """A property as text; None where absent or empty."""
        value = self.properties.get(field)
        return str(value) if value not in (None, "") else None


def stac_pairs(root: Path, features: list[tuple[Path, dict[str, Any]]], failing: Failing) -> list[PairAmongScenes]:
    """One pair for each SAR item, sorted by item id, among the optical items that meet it.

    failing: sets an item aside by its id where an asset leads out of root or cannot be opened, or where quantity or
    baseline are needed and missing. Raises SourceError where there is no SAR item.
    """
    items = _items(root, features, failing)
    sar = sorted((item for item in items if _SAR_KEYS.keys() & item.assets.keys()), key=lambda item: item.name)
    optical = [item for item in items if {*STAC_OPTICAL_KEYS, "visual"} & item.assets.keys() and item not in sar]
    if not sar and not any(_has_sar(feature) for _, feature in features):
        raise SourceError(f"{root}: none of its STAC items has an asset vv, vh, hh or hv. Name the SAR assets so.")
    scenes = [_nearby(item) for item in sorted(optical, key=lambda item: item.name)]
    pairs = []
    for item in sar:
        with failing(item.name):
            pairs.append(PairAmongScenes(pair=_pair(item), around=meeting(item.outline, scenes)))
    return pairs


def stac_optical(root: Path, failing: Failing) -> list[OpticalScene]:
    """Optical items below root, sorted by id, each with its own masks and land cover. failing: as of stac_pairs."""
    items = _items(root, stac_features(root, failing), failing)
    optical = [item for item in items if {*STAC_OPTICAL_KEYS, "visual"} & item.assets.keys()]
    scenes = []
    for item in sorted(optical, key=lambda item: item.name):
        with failing(item.name, patches=0):
            scenes.append(_scene(item))
    return scenes


def _pair(item: _Item) -> FolderPair:
    return FolderPair(
        name=item.name,
        described_in=item.origin,
        sar=_sar_layer(item),
        classes=tuple(_masks(item).values()),
        attribution=item.text("attribution") or "",
    )


def _nearby(item: _Item) -> NearbyScene:
    return NearbyScene(
        name=item.name, acquired=item.acquired, outline=item.outline, described=cache(partial(_scene, item))
    )


def _scene(item: _Item) -> OpticalScene:
    return OpticalScene(
        name=item.name,
        described_in=item.origin,
        optical=_optical_layer(item),
        classes=tuple(_masks(item).values()),
        attribution=item.text("attribution") or "",
        outline=item.outline,
    )


def _items(root: Path, features: list[tuple[Path, dict[str, Any]]], failing: Failing) -> list[_Item]:
    """Items that can be used here. One without SAR that cannot has no patch of its own."""
    items: list[_Item] = []
    for path, feature in features:
        name = printable(str(feature.get("id") or path.stem))[:LONGEST_NAME]
        with failing(name, patches=1 if _has_sar(feature) else 0):
            items += _item(root, path, feature)
    return items


def _has_sar(feature: Mapping[str, Any]) -> bool:
    assets = feature["assets"]
    return isinstance(assets, dict) and any(str(key).lower() in _SAR_KEYS for key in assets)


def _item(root: Path, path: Path, feature: Mapping[str, Any]) -> Iterator[_Item]:
    """The item of a GeoJSON feature; nothing where no asset of it can be used here."""
    name = checked_name(str(feature.get("id", "")), str(path))
    origin = f"{path}, item {name}"
    properties, assets = feature.get("properties"), feature["assets"]
    if not isinstance(properties, dict) or not isinstance(assets, dict):
        raise SourceError(f"{origin}: properties and assets must be objects. Write the item as STAC 1.0 describes.")
    known = {*_SAR_KEYS, *STAC_OPTICAL_KEYS, *_CLASS_KEYS, "visual"}
    found = {
        key.lower(): _asset(root, path, key, about, origin)
        for key, about in sorted(assets.items())
        if key.lower() in known
    }
    if not found:
        return
    when = properties.get("datetime") or properties.get("start_datetime")
    yield _Item(
        name=name,
        origin=origin,
        properties=with_harmonised(properties, str(feature.get("collection") or ""), origin),
        collection=str(feature.get("collection") or ""),
        acquired=parse_datetime(str(when), origin) if when else None,
        assets=found,
        outline=lonlat_outline(next(iter(found.values())).header),
    )


def _asset(root: Path, path: Path, key: str, about: object, origin: str) -> _Asset:
    href = about.get("href") if isinstance(about, dict) else None
    if not isinstance(about, dict) or not isinstance(href, str):
        raise SourceError(f"{origin}: asset {key} has no href. Give the raster's name relative to the item.")
    refuse_foreign(href, origin)
    folder = path.parent.relative_to(root).as_posix()
    relative = posixpath.normpath(posixpath.join(folder, href))
    return _Asset(
        key=key.lower(), path=relative, about=about, header=read_header(resolve_inside(root, relative, origin))
    )


def _masks(item: _Item) -> dict[str, ClassLayer]:
    """Masks and land cover of an item by kind."""
    named = {key: kind for key, kind in _CLASS_KEYS.items() if key in item.assets}
    return {kind: _class_layer(kind, item.assets[key], item) for key, kind in named.items()}


def _sar_layer(item: _Item) -> SarLayer:
    assets = {name: asset for key, asset in item.assets.items() if (name := _SAR_KEYS.get(key))}
    bands = tuple(_band(item, name, assets[name]) for name in SAR_BANDS if name in assets)
    parsed = parse_s1_name(item.name)
    platform = platform_name(
        item.text("platform"), f"{item.origin}: platform", None if parsed is None else parsed.platform
    )
    quantity = _sar_quantity(item)
    return SarLayer(
        product_id=item.name,
        bands=bands,
        unit=_sar_unit(item, bands),
        quantity=quantity,
        acquired=item.acquired or (parsed.acquired if parsed is not None else None),
        platform=platform,
        orbit_state=orbit_direction(item.text("sat:orbit_state"), f"{item.origin}: sat:orbit_state"),
        relative_orbit=_track(item, platform) or (None if parsed is None else parsed.relative_orbit),
        datatake=parsed.datatake if parsed is not None else None,
        processing=item.text("processing:level") or f"{quantity} as described by the STAC item",
        provider=_provider(item),
        licence=item.text("license") or NOT_STATED,
    )


def _track(item: _Item, platform: str | None) -> int | None:
    return track_number(item.properties.get("sat:relative_orbit"), platform, f"{item.origin}: sat:relative_orbit")


def _sar_unit(item: _Item, bands: tuple[BandFile, ...]) -> SarUnit:
    """The unit of all bands. Raises SourceError where they have several, or one that is neither power nor decibels."""
    units = {band.name.lower(): sar_unit(band.unit, f"{item.origin}, asset {band.name.lower()}") for band in bands}
    if len({*units.values()}) > 1:
        said = ", ".join(f"{name} {unit}" for name, unit in units.items())
        raise SourceError(f"{item.origin}: its assets have several units: {said}. Convert them to one, or correct it.")
    return next(iter(units.values()))


def _sar_quantity(item: _Item) -> SarQuantity:
    stated = item.text("sar1m:quantity")
    product = (item.text("sar:product_type") or "").upper()
    if stated is not None and stated in _NAMED:
        return _NAMED[stated]
    rtc_key = any(key.endswith("-rtc") for key in item.assets)
    if stated is None and (rtc_key or "rtc" in item.collection.lower()):
        return "gamma0"
    if stated is None and product in _PRODUCT_TYPES:
        return _PRODUCT_TYPES[product]
    raise SourceError(
        f"{item.origin}: does not say whether it holds sigma nought or gamma nought (sar1m:quantity {stated!r}, "
        f"sar:product_type {product!r}). Add the property sar1m:quantity with sigma0 or gamma0."
    )


def _optical_layer(item: _Item) -> OpticalLayer:
    assets = {name: asset for key, asset in item.assets.items() if (name := STAC_OPTICAL_KEYS.get(key))}
    if not assets:
        return _display_layer(item)
    integers = "int" in assets[min(assets)].header.dtype
    product = product_name(item.properties, item.name)
    bands = tuple(
        _dn_band(item, name, assets[name], product) if integers else _band(item, name, assets[name])
        for name in sorted(assets)
    )
    return OpticalLayer(
        product_id=item.name,
        bands=bands,
        unit="dn" if integers else "reflectance",
        offset_applied=offset_applied_dn(item.properties, product, offset_in_dn(bands[0])) if integers else None,
        acquired=item.acquired,
        processing_baseline=stated_baseline(item.properties, product),
        provider=_provider(item),
        licence=item.text("license") or NOT_STATED,
    )


def _display_layer(item: _Item) -> OpticalLayer:
    asset = item.assets["visual"]
    if asset.header.bands != len(RGB_BANDS) or asset.header.dtype != "uint8":
        raise SourceError(
            f"{item.origin}: asset visual has {asset.header.bands} bands of {asset.header.dtype}; expected red, green "
            "and blue of uint8."
        )
    return OpticalLayer(
        product_id=item.name,
        bands=tuple(_band(item, name, asset, number) for number, name in enumerate(RGB_BANDS, start=1)),
        unit="rgb8",
        acquired=item.acquired,
        provider=_provider(item),
        licence=item.text("license") or NOT_STATED,
    )


def _class_layer(kind: ClassKind, asset: _Asset, item: _Item) -> ClassLayer:
    """A mask or land cover; class names from classification:classes, else from the product that the texts name."""
    layer = ClassLayer(kind=kind, band=_band(item, kind, asset))
    if kind != "land_cover":
        return layer
    where, title = f"{item.origin}, asset {asset.key}", str(asset.about.get("title") or "")
    around = (item.collection, asset.key, posixpath.basename(asset.path), title)
    names, water = classes_of(class_entries(asset.about, where), around, where)
    return replace(layer, names=names, water=water)


def _band(item: _Item, name: str, asset: _Asset, number: int | None = None) -> BandFile:
    """A band with what item and file state of it. number: where the asset has several."""
    number = number or _band_number(item, name, asset)
    words = band_words(asset.about, item.properties, f"{item.origin}, asset {asset.key}", number)
    band = BandFile(name=name, path=asset.path, number=number, **asdict(words))
    return settled(band, asset.header, item.origin)


def _dn_band(item: _Item, name: str, asset: _Asset, product: str) -> BandFile:
    """A band of digital numbers of reflectance, with the radiometric offset that item, file or baseline give it."""
    number = _band_number(item, name, asset)
    words = band_words(asset.about, item.properties, f"{item.origin}, asset {asset.key}", number)
    own = asset.header.stated_of(number)
    scale = words.scale or own.scale or REFLECTANCE_PER_DN
    silent = words.offset is None and stated_baseline(item.properties, product) is None
    said = replace(words, offset=own.offset) if silent else words
    offset = optical_offset_dn(item.properties, product, said, item.origin, scale) * scale
    words = replace(words, scale=scale, offset=offset)
    band = BandFile(name=name, path=asset.path, number=number, **asdict(words))
    return settled(band, asset.header, item.origin)


def _band_number(item: _Item, name: str, asset: _Asset) -> int:
    """The only band of values that an asset has, or the one that the item names like the asset."""
    of_values = [number for number in range(1, asset.header.bands + 1) if number not in asset.header.alpha]
    if len(of_values) == 1:
        return of_values[0]
    wanted = {name.lower(), asset.key}
    named = [number for number in of_values if wanted & band_names(asset.about, number)]
    if len(named) != 1:
        raise SourceError(
            f"{item.origin}, asset {asset.key}: {asset.path} has {len(of_values)} bands, and the item does not "
            f"say which is {name}. Name them in the item (bands: a list with the name of each), or give each its own "
            "file."
        )
    return named[0]


def _provider(item: _Item) -> str:
    listed = item.properties.get("providers")
    names = [str(entry.get("name")) for entry in listed or () if isinstance(entry, dict)] if listed else []
    return ", ".join(names) or NOT_STATED
