"""STAC items beside one's own rasters: *.json of type Feature or FeatureCollection, anywhere below the folder.

Assets count by key: vv vh hh hv (also vv-rtc, vh-rtc); red green blue nir, B01 ... B12; visual; scl; cloudmask;
land_cover, landcover, lulc or a product of class_tables (worldcover, corine, ...). hrefs are local, from their item.
A SAR item needs a quantity: `sar1m:quantity` (sigma0, gamma0), or sar:product_type RTC, NRB or GRD, or a collection
with rtc in its name. Its unit is what raster:bands or bands say (dB), else linear power. Optical scale and offset come
from raster:bands; integers without them are Sentinel-2 DN, and then s2:processing_baseline is needed. Each SAR item is
paired with the optical item that covers at least half of it with the least difference in time; masks and land cover
come from either item.
Source: STAC 1.0 and 1.1, extensions sar, sat, raster, eo, classification.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sar1m.core.pairing import nearest_partner
from sar1m.core.sphere import turns_to
from sar1m.io.header import RasterHeader, read_header
from sar1m.records import SarQuantity
from sar1m.sources.class_tables import TABLES, classes_of
from sar1m.sources.item_words import band_words, class_entries, optical_offset_dn, product_name, stated_baseline
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
    checked_name,
    offset_in_dn,
    parse_datetime,
    refuse_foreign,
    resolve_inside,
    settled,
)
from sar1m.sources.placement import lonlat_box
from sar1m.sources.sentinel_names import parse_s1_name
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_json

_MAX_ITEM_BYTES: Final = 2**24
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

    def raster_field(self, name: str) -> Any:  # noqa: ANN401  whatever JSON holds
        """A field of the first entry of bands (STAC 1.1) or raster:bands, else of the asset itself."""
        for listing in ("raster:bands", "bands"):
            entries = self.about.get(listing)
            if isinstance(entries, list) and entries and isinstance(entries[0], dict):
                for field in (name, f"raster:{name}"):
                    if field in entries[0]:
                        return entries[0][field]
        return self.about.get(f"raster:{name}", self.about.get(name))


@dataclass(frozen=True, kw_only=True)
class _Item:
    """One STAC item. assets: those with known keys. box: footprint of the first raster, west, south, east, north in
    degrees."""

    name: str
    origin: str
    properties: Mapping[str, Any]
    collection: str
    acquired: datetime | None
    assets: Mapping[str, _Asset]
    box: tuple[float, float, float, float]

    def text(self, field: str) -> str | None:
        """A property as text; None where absent or empty."""
        value = self.properties.get(field)
        return str(value) if value not in (None, "") else None


def stac_features(root: Path) -> list[tuple[Path, dict[str, Any]]]:
    """STAC items below root with the files that hold them, in the order of file names. Other JSON is left alone."""
    return [(path, feature) for path in sorted(root.rglob("*.json")) for feature in _features(path)]


def stac_pairs(root: Path, features: list[tuple[Path, dict[str, Any]]]) -> list[FolderPair]:
    """One pair for each SAR item, sorted by item id.

    Raises SourceError that names the item where an asset leads out of root or cannot be opened, where quantity or
    baseline are needed and missing, or where there is no SAR item.
    """
    items = [item for path, feature in features for item in _item(root, path, feature)]
    sar = sorted((item for item in items if _SAR_KEYS.keys() & item.assets.keys()), key=lambda item: item.name)
    optical = [item for item in items if {*STAC_OPTICAL_KEYS, "visual"} & item.assets.keys() and item not in sar]
    if not sar:
        raise SourceError(f"{root}: none of its STAC items has an asset vv, vh, hh or hv. Name the SAR assets so.")
    return [_pair(item, _partner(item, optical)) for item in sar]


def stac_optical(root: Path) -> list[OpticalScene]:
    """Optical items below root, sorted by id, each with its own masks and land cover. Raises SourceError as stac_pairs
    does."""
    items = [item for path, feature in stac_features(root) for item in _item(root, path, feature)]
    optical = [item for item in items if {*STAC_OPTICAL_KEYS, "visual"} & item.assets.keys()]
    return [
        OpticalScene(
            name=item.name,
            described_in=item.origin,
            optical=_optical_layer(item),
            classes=tuple(_masks(item).values()),
            attribution=item.text("attribution") or "",
            box=item.box,
        )
        for item in sorted(optical, key=lambda item: item.name)
    ]


def _features(path: Path) -> Iterator[dict[str, Any]]:
    try:
        document = read_json(path, error=SourceError, remedy="", max_bytes=_MAX_ITEM_BYTES)
    except SourceError:
        return
    if isinstance(document, dict) and document.get("type") == "Feature" and "assets" in document:
        yield document
    if isinstance(document, dict) and document.get("type") == "FeatureCollection":
        features = document.get("features")
        found = features if isinstance(features, list) else []
        yield from (f for f in found if isinstance(f, dict) and "assets" in f)


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
        properties=properties,
        collection=str(feature.get("collection") or ""),
        acquired=parse_datetime(str(when), origin) if when else None,
        assets=found,
        box=lonlat_box(next(iter(found.values())).header),
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


def _overlap(sar: _Item, other: _Item) -> float:
    """The share of the SAR item's box that the box of another item covers."""
    west, south, east, north = sar.box
    turn = float(turns_to(other.box[0], west))  # the same meridian may be written 179.9 and -180.1
    width = min(east, other.box[2] + turn) - max(west, other.box[0] + turn)
    height = min(north, other.box[3]) - max(south, other.box[1])
    return max(width, 0.0) * max(height, 0.0) / ((east - west) * (north - south))


def _partner(sar: _Item, optical: list[_Item]) -> _Item | None:
    """The optical item nearest in time among those that cover enough of the SAR item; None where none does."""
    apart_s = [
        None if sar.acquired is None or item.acquired is None else abs((item.acquired - sar.acquired).total_seconds())
        for item in optical
    ]
    best = nearest_partner(apart_s, [_overlap(sar, item) for item in optical], [item.name for item in optical])
    return None if best is None else optical[best]


def _pair(sar: _Item, optical: _Item | None) -> FolderPair:
    masks = _masks(sar) | ({} if optical is None else _masks(optical))
    return FolderPair(
        name=sar.name,
        described_in=sar.origin,
        sar=_sar_layer(sar),
        optical=None if optical is None else _optical_layer(optical),
        classes=tuple(masks.values()),
        attribution=sar.text("attribution") or "",
    )


def _masks(item: _Item) -> dict[str, ClassLayer]:
    """Masks and land cover of an item by kind."""
    named = {key: kind for key, kind in _CLASS_KEYS.items() if key in item.assets}
    return {kind: _class_layer(kind, item.assets[key], item) for key, kind in named.items()}


def _sar_layer(item: _Item) -> SarLayer:
    assets = {name: asset for key, asset in item.assets.items() if (name := _SAR_KEYS.get(key))}
    bands = tuple(_band(item, name, assets[name]) for name in SAR_BANDS if name in assets)
    parsed = parse_s1_name(item.name)
    orbit = item.properties.get("sat:relative_orbit")
    unit = str(bands[0].unit or "linear").lower()
    if unit not in ("db", "decibel", "linear", "1"):
        raise SourceError(f"{item.origin}: unit {unit!r} of asset {bands[0].name.lower()}; expected dB or linear.")
    quantity = _sar_quantity(item)
    return SarLayer(
        product_id=item.name,
        bands=bands,
        unit="db" if unit.startswith("d") else "linear",
        quantity=quantity,
        acquired=item.acquired or (parsed.acquired if parsed is not None else None),
        platform=(item.text("platform") or "").lower() or (parsed.platform if parsed is not None else None),
        orbit_state=item.text("sat:orbit_state"),
        relative_orbit=int(orbit)
        if isinstance(orbit, int)
        else (parsed.relative_orbit if parsed is not None else None),
        datatake=parsed.datatake if parsed is not None else None,
        processing=item.text("processing:level") or f"{quantity} as described by the STAC item",
        provider=_provider(item),
        licence=item.text("license") or NOT_STATED,
    )


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
        offset_applied=offset_in_dn(bands[0]) if integers else None,
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
        bands=tuple(BandFile(name=n, path=asset.path, number=i) for i, n in enumerate(RGB_BANDS, start=1)),
        unit="rgb8",
        acquired=item.acquired,
        provider=_provider(item),
        licence=item.text("license") or NOT_STATED,
    )


def _class_layer(kind: ClassKind, asset: _Asset, item: _Item) -> ClassLayer:
    """A mask or land cover; class names from classification:classes, else from the product that the texts name."""
    layer = ClassLayer(kind=kind, band=BandFile(name=kind, path=asset.path, number=1))
    if kind != "land_cover":
        return layer
    where = f"{item.origin}, asset {asset.key}"
    listed = [(_class_number(entry, where), _labels(entry)) for entry in class_entries(asset.about, where)]
    around = (
        item.collection,
        asset.key,
        asset.path,
        str(asset.about.get("title") or ""),
        item.text("sar1m:classes") or "",
    )
    names, water = classes_of(listed, around, where)
    return replace(layer, names=names, water=water)


def _class_number(entry: Mapping[str, Any], where: str) -> int:
    value = entry.get("value")
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**16:
        raise SourceError(f"{where}: a class has the value {value!r}; expected a whole number, 0 to 65535.")
    return value


def _labels(entry: Mapping[str, Any]) -> list[str]:
    """All names of a class, its number where it has none."""
    found = [str(entry[field]) for field in ("name", "title", "description") if entry.get(field)]
    return found or [str(entry.get("value"))]


def _band(item: _Item, name: str, asset: _Asset) -> BandFile:
    """A band with what item and file state of it."""
    words = band_words(asset.about, item.properties, f"{item.origin}, asset {asset.key}")
    band = BandFile(name=name, path=asset.path, number=1, **asdict(words))
    return settled(band, asset.header, item.origin)


def _dn_band(item: _Item, name: str, asset: _Asset, product: str) -> BandFile:
    """A band of digital numbers of reflectance, with the radiometric offset that item, file or baseline give it."""
    words = band_words(asset.about, item.properties, f"{item.origin}, asset {asset.key}")
    own = asset.header.stated_of(1)
    scale = words.scale or own.scale or REFLECTANCE_PER_DN
    silent = words.offset is None and stated_baseline(item.properties, product) is None
    said = replace(words, offset=own.offset) if silent else words
    offset = optical_offset_dn(item.properties, product, said, item.origin, scale) * scale
    words = replace(words, scale=scale, offset=offset)
    band = BandFile(name=name, path=asset.path, number=1, **asdict(words))
    return settled(band, asset.header, item.origin)


def _provider(item: _Item) -> str:
    listed = item.properties.get("providers")
    names = [str(entry.get("name")) for entry in listed or () if isinstance(entry, dict)] if listed else []
    return ", ".join(names) or NOT_STATED
