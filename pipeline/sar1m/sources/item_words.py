"""What a STAC item says of its rasters, read alike from items in a folder and from a service's answers.
Platform, orbit state and track of a scenes.csv are read by the same functions; where then names the item and the field.

A word that is not understood is refused by name: a scale, a unit or a track that is passed over gives wrong pixels.
Source: STAC 1.0 with raster 1.1 (`raster:bands`), STAC 1.1 with raster 2.0 (`bands`, fields of the asset itself, of the
item's properties), sat, classification; `earthsearch:boa_offset_applied` of Element 84's Earth Search.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sar1m.io.stated import canonical_unit
from sar1m.sources.baselines import KNOWN, StatedOffset, parse_baseline, radiometric_offset_dn
from sar1m.sources.layers import REFLECTANCE_PER_DN, SarUnit
from sar1m.sources.sentinel_names import parse_s2_name
from sar1m.store.errors import SourceError

HARMONISED: Final = "earthsearch:boa_offset_applied"
STATE_OFFSET: Final = (
    f"State it in the item: s2:processing_baseline; or {HARMONISED} true, or an offset of 0 in raster:bands, where the "
    "numbers are harmonised already; or scale 0.0001 and offset -0.1 where 1000 is still to be taken off."
)
_MOST: Final = 1e300  # a JSON number of any length is read; larger ones do not fit into a float
_NOT_FINITE: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}  # as STAC writes them in JSON
_HARMONISED_WORD: Final = re.compile(r"harmoni[sz]ed", re.IGNORECASE)
_SENTINEL: Final = re.compile(r"s(?:entinel)?[\s_-]*([12])[\s_-]*([a-z]?)")
_SAR_UNITS: Final[dict[str, SarUnit]] = {"db": "db", "1": "linear"}
_STATES: Final = {"ascending": "ascending", "asc": "ascending", "descending": "descending", "desc": "descending"}
_TRACKS: Final = {"1": 175, "2": 143}  # relative orbits of Sentinel-1 and -2
_MOST_TRACKS: Final = 1000  # no other satellite of this trade repeats later


@dataclass(frozen=True, kw_only=True)
class BandWords:
    """What is said of one band; None for what is not said. value = scale * stored + offset, in unit."""

    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    unit: str | None = None


def band_words(about: Mapping[str, Any], properties: Mapping[str, Any], where: str, number: int = 1) -> BandWords:
    """The words of an asset's band.

    about: the asset's JSON. properties: of its item. number: of the band, from 1.
    What a band says goes before what its asset says, and that before the item. Raises SourceError where raster:bands
    and bands differ, and for what is no number, a scale of 0, or a unit that is no text.
    """
    return BandWords(
        nodata=_number(band_field(about, "nodata", where, number, properties), "nodata", where, finite=False),
        scale=_number(band_field(about, "scale", where, number, properties), "scale", where),
        offset=_number(band_field(about, "offset", where, number, properties), "offset", where),
        unit=_unit(band_field(about, "unit", where, number, properties), where),
    )


def band_field(
    about: Mapping[str, Any], name: str, where: str, number: int = 1, properties: Mapping[str, Any] | None = None
) -> Any:  # noqa: ANN401  whatever JSON holds
    """A field of a band, else of its asset, else of its item; with or without the prefix raster:. None where absent.

    Raises SourceError where raster:bands and bands give it different values.
    """
    entries = [_entry(about.get(listing), number) for listing in ("raster:bands", "bands")]
    found = [value for entry in entries if (value := _field(entry, name)) is not None]
    if len(found) == 2 and found[0] != found[1]:
        raise SourceError(f"{where}: raster:bands says {name} {found[0]!r}, bands says {found[1]!r}. Correct one.")
    if found:
        return found[0]
    own = _field(about, name)
    return own if own is not None else _field(properties or {}, name)


def band_names(about: Mapping[str, Any], number: int) -> set[str]:
    """What an asset calls a band, in lower case. number: from 1."""
    entries = [_entry(about.get(listing), number) for listing in ("bands", "eo:bands", "raster:bands")]
    said = [entry.get(field) for entry in entries for field in ("name", "common_name", "eo:common_name")]
    return {name.strip().lower() for name in said if isinstance(name, str)}


def says_harmonised(text: str) -> bool:
    """Whether a name, such as that of Earth Engine's collection S2_SR_HARMONIZED, says that the offset is applied."""
    return _HARMONISED_WORD.search(text) is not None


def with_harmonised(properties: Mapping[str, Any], collection: str, where: str) -> Mapping[str, Any]:
    """The properties of an item, with what its collection's name says of the offset.

    Raises SourceError where the item says the contrary.
    """
    if not says_harmonised(collection):
        return properties
    if properties.get(HARMONISED) is False:
        raise SourceError(f"{where}: {HARMONISED} is false, but its collection is {collection!r}. Correct one of them.")
    return {**properties, HARMONISED: True}


def optical_offset_dn(
    properties: Mapping[str, Any], product: str, words: BandWords, where: str, scale: float = REFLECTANCE_PER_DN
) -> float:
    """What is to be added to a band's Sentinel-2 DN: 0 where the item says that the offset is applied, whatever offset
    its bands state beside that; else the offset stated; else what the processing baseline brings.

    product: the product's name, or the item's. scale: where the band states none.
    Raises SourceError where these contradict each other, or where none of them answers.
    """
    harmonised = properties.get(HARMONISED)
    if harmonised is not None and not isinstance(harmonised, bool):
        raise SourceError(f"{where}: {HARMONISED} is {repr(harmonised)[:40]}; expected true or false.")
    baseline, named = properties.get("s2:processing_baseline"), parse_s2_name(product)
    if baseline is not None and not isinstance(baseline, str):
        raise SourceError(f"{where}: s2:processing_baseline is {repr(baseline)[:40]}; expected a text such as '05.09'.")
    per_dn = words.scale or scale
    return StatedOffset(
        where=where,
        remedy=STATE_OFFSET,
        baseline=baseline or None,
        named=None if named is None else named.baseline,
        offset_dn=None if words.offset is None else round(words.offset / per_dn, 6),
        harmonised=harmonised,
    ).to_add_dn()


def stated_baseline(properties: Mapping[str, Any], product: str) -> str | None:
    """The processing baseline of an item, of its property or else of its product's name, in the form 05.09; None where
    neither states one."""
    stated, named = properties.get("s2:processing_baseline"), parse_s2_name(product)
    text = stated if isinstance(stated, str) and stated else None if named is None else named.baseline
    found = None if text is None else parse_baseline(text)
    return None if found is None else str(found)


def offset_applied_dn(properties: Mapping[str, Any], product: str, added_dn: int) -> int:
    """The offset in the pixels as read, whether who wrote them or this program added it. added_dn: by this program."""
    baseline = parse_baseline(stated_baseline(properties, product) or "")
    harmonised = properties.get(HARMONISED) is True
    return radiometric_offset_dn(baseline) if harmonised and baseline in KNOWN else added_dn


def platform_name(text: str | None, where: str, named: str | None = None) -> str | None:
    """A satellite's name: sentinel-1a for S1A, SENTINEL-1A or Sentinel-1 A; others in lower case.

    named: the satellite of the product's own name. Raises SourceError where the two differ, or for a Sentinel-1 or -2
    that there is not.
    """
    if text is None or not text.strip():
        return named
    match = _SENTINEL.fullmatch(text.strip().lower())
    if match is None:
        return text.strip().lower()
    if match[2] not in "abcd":
        raise SourceError(f"{where} is {text[:40]!r}; expected one such as sentinel-1a, units A to D.")
    found = f"sentinel-{match[1]}{match[2]}"
    if named is not None and not named.startswith(found):
        raise SourceError(f"{where} is {text[:40]!r}, but its name is of {named}. Correct one of them.")
    return named or found


def orbit_direction(text: str | None, where: str) -> str | None:
    """ascending or descending, however it is written; None where absent. Raises SourceError for any other word."""
    if text is None or not text.strip():
        return None
    found = _STATES.get(text.strip().lower())
    if found is None:
        raise SourceError(f"{where} is {text[:40]!r}; expected ascending or descending.")
    return found


def track_number(value: object, platform: str | None, where: str) -> int | None:
    """The relative orbit: from 1 to 175 for Sentinel-1 and where the satellite is unknown, to 143 for Sentinel-2.

    value: a number, or its digits. None where absent. Raises SourceError for anything else.
    """
    if value is None or value == "":
        return None
    match = _SENTINEL.fullmatch(platform or "sentinel-1")
    most = _MOST_TRACKS if match is None else _TRACKS[match[1]]
    found = _whole(value)
    if found is None or not 1 <= found <= most:
        raise SourceError(f"{where} is {repr(value)[:40]}; expected 1 to {most}.")
    return found


def product_name(properties: Mapping[str, Any], item_id: str) -> str:
    """The name of the product that an item was made of, else the item's own."""
    stated = (properties.get(field) for field in ("s2:product_uri", "sentinel:product_id"))
    return next((name for name in stated if isinstance(name, str) and name), item_id)


def class_entries(about: Mapping[str, Any], where: str) -> list[tuple[int, list[str]]]:
    """Number and all names of each class in classification:classes of an asset or its first band; a class without names
    has its number as name. Raises SourceError for numbers that are none."""
    listed = band_field(about, "classification:classes", where)
    found = []
    for entry in listed if isinstance(listed, list) else ():
        number = _whole(entry.get("value")) if isinstance(entry, dict) else None
        if number is None or not 0 <= number < 2**16:
            raise SourceError(f"{where}: a class is {repr(entry)[:80]}; expected a value, a whole number, 0 to 65535.")
        labels = [str(entry[field]) for field in ("name", "title", "description") if entry.get(field)]
        found.append((number, labels or [str(number)]))
    return found


def sar_unit(text: str | None, where: str) -> SarUnit:
    """db or linear, which is also what no unit means. Raises SourceError for any other word."""
    unit = canonical_unit(text) or "1"
    if unit not in _SAR_UNITS:
        raise SourceError(f"{where}: unit {text!r}; expected dB or linear.")
    return _SAR_UNITS[unit]


def _entry(listing: object, number: int) -> Mapping[str, Any]:
    entry = listing[number - 1] if isinstance(listing, list) and len(listing) >= number else None
    return entry if isinstance(entry, dict) else {}


def _field(holder: Mapping[str, Any], name: str) -> Any:  # noqa: ANN401  whatever JSON holds
    found = holder.get(name)
    return holder.get(f"raster:{name}") if found is None else found


def _number(value: object, name: str, where: str, *, finite: bool = True) -> float | None:
    if value is None:
        return None
    if not finite and isinstance(value, str) and value.lower() in _NOT_FINITE:
        return _NOT_FINITE[value.lower()]
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not abs(value) < _MOST
        or (name, value) == ("scale", 0)
    ):
        raise SourceError(f"{where}: {name} is {repr(value)[:40]}; expected a number (scale: not 0).")
    return float(value)


def _whole(value: object) -> int | None:
    """A whole number, or the digits of one; None for anything else."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdecimal() and len(value) <= 4 else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _MOST:
        return None
    return int(value) if value == int(value) else None


def _unit(value: object, where: str) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise SourceError(f"{where}: unit is {repr(value)[:40]}; expected a text.")
    return value
