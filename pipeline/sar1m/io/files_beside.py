"""Files that GDAL reads beside a GeoTIFF: masks (.msk) and what .aux.xml states.

GDAL itself is kept from reading them (raster_open.py). They are looked for here, so that what shapes pixels is known
by name and counts in the digest of a file. Overviews (.ovr) are never read, statistics and histograms shape no pixels.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

from sar1m.io.raster_open import MAX_BANDS
from sar1m.io.safe.xml import parse_xml
from sar1m.io.stated import Stated
from sar1m.store.errors import SourceError
from sar1m.store.side_files import read_bytes

_MAX_AUX_BYTES: Final = 2**24  # histograms and attribute tables of classes stay far below


@dataclass(frozen=True, kw_only=True)
class AuxWords:
    """What an .aux.xml states.

    bands: by number from 1, of those of which it states something. alpha: numbers of alpha bands.
    crs, transform (left, a, b, top, d, e of pixel corners): None where not stated. points: whether it has ground
    control points.
    """

    name: str
    bands: Mapping[int, Stated]
    alpha: tuple[int, ...]
    crs: str | None
    transform: tuple[float, ...] | None
    points: bool


def mask_beside(path: Path) -> Path | None:
    """The mask beside a raster, as GDAL names it: chip.tif.msk for chip.tif. None where there is none.

    Raises SourceError for chip.msk, which GDAL does not read and which may still be meant so.
    """
    for suffix in (".msk", ".MSK"):
        found, other = path.with_name(path.name + suffix), path.with_suffix(suffix)
        if found.is_file():
            return found
        if other != path and other.is_file():
            raise SourceError(
                f"{other}: a mask beside {path.name}, but not under the name that GDAL reads. Rename it "
                f"{path.name}.msk where it belongs to {path.name}, or remove it."
            )
    return None


def aux_words(path: Path) -> AuxWords | None:
    """What the .aux.xml beside a raster states; None where there is none. Raises SourceError where it is not XML, or a
    number in it is none."""
    beside = path.with_name(path.name + ".aux.xml")
    if not beside.exists():
        return None
    content = read_bytes(beside, error=SourceError, remedy="Check or remove it.", max_bytes=_MAX_AUX_BYTES)
    try:
        root = parse_xml(content, str(beside))
    except SourceError as error:
        raise SourceError(
            f"{beside}: may state nodata, scale or unit of {path.name}, but cannot be understood. Remove or correct "
            f"it. ({error})"
        ) from error
    bands = {_band_number(band, str(beside)): band for band in root.element.findall("PAMRasterBand")}
    stated = {number: _stated(band, str(beside), number) for number, band in bands.items()}
    return AuxWords(
        name=str(beside),
        bands={number: words for number, words in stated.items() if not words.silent},
        alpha=tuple(n for n, band in bands.items() if _text(band, "ColorInterp").lower() == "alpha"),
        crs=_text(root.element, "SRS") or None,
        transform=_transform(root.element, str(beside)),
        points=root.element.find("GCPList") is not None,
    )


def _transform(root: Element, name: str) -> tuple[float, ...] | None:
    text = _text(root, "GeoTransform")
    if not text:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != 6 or not all(map(math.isfinite, numbers)):
        raise SourceError(f"{name}: GeoTransform is {text[:80]!r}; expected six numbers with commas. Remove it.")
    return numbers


def _band_number(band: Element, name: str) -> int:
    number = band.get("band", "")
    if not number.isdecimal() or not 1 <= int(number[:6]) <= MAX_BANDS:
        raise SourceError(f"{name}: PAMRasterBand has band {number[:40]!r}; expected 1 to {MAX_BANDS}. Remove it.")
    return int(number)


def _text(band: Element, tag: str) -> str:
    return (band.findtext(tag) or "").strip()


def _stated(band: Element, name: str, number: int) -> Stated:
    scale, offset = (_number(band, tag, name, number) for tag in ("Scale", "Offset"))
    usual = (scale in (None, 1.0)) and (offset in (None, 0.0))  # a pair that says nothing
    return Stated(
        by=name,
        scale=None if usual else (1.0 if scale is None else scale),
        offset=None if usual else (offset or 0.0),
        nodata=_number(band, "NoDataValue", name, number),
        unit=_text(band, "UnitType") or None,
    )


def _number(band: Element, tag: str, name: str, number: int) -> float | None:
    """A number, None where absent. Only a nodata may be infinite or NaN, and a scale is not 0."""
    text, value = _text(band, tag), None
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = None
    if value is None or (tag != "NoDataValue" and not math.isfinite(value)) or (tag == "Scale" and value == 0):
        raise SourceError(f"{name}: {tag} of band {number} is {text[:40]!r}; expected a number (scale: not 0).")
    return value


def refuse_lonely_side_files(link: Path, target: Path) -> None:
    """Raises SourceError where a link has a mask or an .aux.xml beside it that its target has not: what stands beside
    the target is read."""
    for suffix in (".msk", ".aux.xml"):
        beside, read = (path.with_name(path.name + suffix) for path in (link, target))
        if beside.exists() and not (read.exists() and beside.samefile(read)):
            raise SourceError(
                f"{beside}: stands beside a link, but not beside its file {target}, where it is looked for. Put it "
                "there, or remove it."
            )


def side_digest(path: Path) -> str:
    """blake2b-128, hexadecimal, of what the files beside a raster say of its pixels; empty where they say nothing.

    A mask counts with its bytes, an .aux.xml with what it states: statistics that a viewer adds change nothing.
    """
    mask, words = mask_beside(path), aux_words(path)
    stated = None if words is None or not (words.bands or words.alpha) else words
    if mask is None and stated is None:
        return ""
    digest = hashlib.blake2b(digest_size=16)
    if mask is not None:
        with mask.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, hashlib.blake2b).digest())
    if stated is not None:
        said = {number: {k: v for k, v in asdict(band).items() if k != "by"} for number, band in stated.bands.items()}
        digest.update(json.dumps([said, stated.alpha], sort_keys=True).encode())
    return digest.hexdigest()
