"""What of a picture is registered: SAR as power, optical as bands in the order of their wavelength.

Pictures of others state little. What a file states counts; what it leaves open is decided here by type and numbers, and
can be said by the user. Registration compares edges: a monotone error of the contrast moves none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from sar1m.io.picture import Picture
from sar1m.io.stated import canonical_unit
from sar1m.records import F32, F64
from sar1m.store.errors import ConfigError, SourceError

SarUnit = Literal["auto", "db", "linear", "amplitude"]
SAR_UNITS: Final[tuple[SarUnit, ...]] = ("auto", "db", "linear", "amplitude")

MOST_CHANNELS: Final = 2  # of SAR: the second polarisation is a second witness; a third is mostly made of the two
TYPICAL_POWER: Final = 0.1  # mean of unscaled power: registration takes land to be about -10 dB
_SAMPLED_PX: Final = 2**18
_FEW: Final = 0.01
_LEAST_DB, _MOST_DB = -90.0, 60.0
_NOT_POWER = -0.5  # the noise that is taken off leaves -0.01
# Where blue, green, red and near infrared stand among Sentinel-2's bands, by their number: all of L1C, L2A without B10,
# those of 10 and 20 m.
_BY_COUNT: Final = {13: (1, 2, 3, 7), 12: (1, 2, 3, 7), 10: (0, 1, 2, 6), 4: (0, 1, 2, 3), 2: (0, 1), 1: (0,)}
_NAMES: Final = (("B02", "B2", "BLUE"), ("B03", "B3", "GREEN"), ("B04", "B4", "RED"), ("B08", "B8", "NIR"))


@dataclass(frozen=True, kw_only=True, eq=False)
class Channels:
    """Bands of a picture and how their numbers become values.

    unit: of a SAR picture, after each band's scale and offset; None for optical. gain: by which power is multiplied.
    doubt: what in the numbers speaks against the unit that somebody stated, a sentence; empty for nothing.
    """

    picture: Picture
    bands: tuple[int, ...]
    unit: SarUnit | None
    gain: float = 1.0
    doubt: str = ""

    def values(self, row: int, col: int, rows: int, cols: int) -> F32:
        """A window, (bands, rows, cols): SAR in linear power, optical as stored and scaled; NaN without data."""
        area = np.s_[row : row + rows, col : col + cols]
        missing = self.picture.missing[area]
        planes = [_scaled(self.picture, index, area) for index in self.bands]
        values = np.stack(planes) if self.unit is None else np.stack([_power(p, self.unit) for p in planes]) * self.gain
        values[:, missing] = np.nan
        return values.astype(np.float32)


def sar_channels(picture: Picture, unit: SarUnit) -> Channels:
    """The channels of a SAR picture. unit: as the user states it; auto: as the file states it, else by its numbers.

    Integers that are never negative count as amplitudes, as 8-bit pictures of SAR are stretched; numbers of which some
    are negative as decibels; other fractions as power. Equal channels count once.
    A stated unit that the numbers contradict is used and doubted: an error of the contrast moves few edges.
    Raises SourceError where the file states another unit, or its numbers can be none of these.
    """
    bands = _distinct(picture, picture.values)[:MOST_CHANNELS]
    found = _stated_unit(picture, bands)
    if found is not None and unit not in ("auto", found):
        raise SourceError(
            f"{picture.name}: states its values as {found}, --sar-unit says {unit}. Leave the option out, or correct "
            "the file with gdal_edit.py -units."
        )
    chosen = found or (_unit_by_numbers(picture, bands) if unit == "auto" else unit)
    gain = 1.0
    if found is None and chosen != "db":
        known = [values for index in bands if (values := _sampled(picture, index)).size]
        mean = float(np.mean([_power(values, chosen).mean() for values in known])) if known else 0.0
        gain = TYPICAL_POWER / mean if np.isfinite(mean) and mean > 0 else 1.0
    stated = found is not None or unit != "auto"
    doubt = _doubt(picture, bands, chosen) if stated else ""
    return Channels(picture=picture, bands=bands, unit=chosen, gain=gain, doubt=doubt)


def optical_channels(picture: Picture, bands: tuple[int, ...] | None) -> Channels:
    """The channels of an optical picture in the order of their wavelength: blue, green, red, near infrared.

    bands: numbers from 1 in that order, as the user states them; None: by the names and colours of the file's bands,
    else by their number (three: red, green, blue). Equal bands count once.
    Raises ConfigError where a stated band is not there, SourceError where nobody says which of many bands are which.
    """
    if bands is not None:
        wrong = [number for number in bands if number - 1 not in picture.values]
        if wrong:
            raise ConfigError(
                f"--optical-bands: {picture.name} has the bands of values "
                f"{', '.join(str(index + 1) for index in picture.values)}, not {wrong[0]}."
            )
        return Channels(picture=picture, bands=tuple(number - 1 for number in bands), unit=None)
    found = _distinct(picture, _by_names(picture) or _by_colours(picture) or _by_number(picture))
    return Channels(picture=picture, bands=found, unit=None)


def _by_names(picture: Picture) -> tuple[int, ...]:
    words = [text.strip().upper() for text in picture.descriptions]
    places = [next((i for i in picture.values if words[i] in names), None) for names in _NAMES]
    found = tuple(place for place in places if place is not None)
    return found if len(found) >= 3 else ()


def _by_colours(picture: Picture) -> tuple[int, ...]:
    if not {"red", "green", "blue"} <= set(picture.colours):
        return ()
    shown = tuple(picture.colours.index(name) for name in ("blue", "green", "red"))
    others = tuple(index for index in picture.values if index not in shown)
    return shown + others if len(others) == 1 else shown


def _by_number(picture: Picture) -> tuple[int, ...]:
    count = len(picture.values)
    places = (2, 1, 0) if count == 3 else _BY_COUNT.get(count)
    if places is None:
        raise SourceError(
            f"{picture.name}: has {count} bands without names, and nobody says which are blue, green, red and near "
            "infrared. Name them in the file, or give their numbers with --optical-bands."
        )
    return tuple(picture.values[place] for place in places)


def _distinct(picture: Picture, bands: tuple[int, ...]) -> tuple[int, ...]:
    kept: list[int] = []
    for index in bands:
        if not any(np.array_equal(picture.stored[index], picture.stored[other]) for other in kept):
            kept.append(index)
    return tuple(kept)


def _stated_unit(picture: Picture, bands: tuple[int, ...]) -> SarUnit | None:
    units = {canonical_unit(picture.stated[index].unit) for index in bands} - {"", "dn"}
    if len(units) > 1 or units - {"db", "1"}:
        raise SourceError(
            f"{picture.name}: states the unit {', '.join(sorted(units))}; expected decibels or linear power. Correct "
            "it with gdal_edit.py -units."
        )
    return None if not units else "db" if "db" in units else "linear"


def _unit_by_numbers(picture: Picture, bands: tuple[int, ...]) -> SarUnit:
    values = np.concatenate([_sampled(picture, index) for index in bands])
    whole = picture.stored.dtype.kind in "ui" and all(picture.stated[index].scale is None for index in bands)
    if not values.size or np.mean(values < 0) <= _FEW:
        return "amplitude" if whole else "linear"
    low, high = np.quantile(values, (_FEW, 1 - _FEW))
    if low < _LEAST_DB or high > _MOST_DB:
        raise SourceError(
            f"{picture.name}: holds numbers from {low:.4g} to {high:.4g}, which are neither decibels nor power nor "
            "amplitudes. State their scale in the file (gdal_edit.py -scale), or detect complex data first."
        )
    return "db"


def _doubt(picture: Picture, bands: tuple[int, ...], unit: SarUnit) -> str:
    values = np.concatenate([_sampled(picture, index) for index in bands])
    if not values.size:
        return ""
    low, high = np.quantile(values, (_FEW, 1 - _FEW))
    span = f"its numbers run from {low:.4g} to {high:.4g}"
    eight_bit = picture.stored.dtype.itemsize == 1 and all(picture.stated[index].scale is None for index in bands)
    if unit == "db" and (low >= 0 or low < _LEAST_DB or high > _MOST_DB):
        found = f"decibels are stated, and {span}: land has -30 to 5. Are they linear power or amplitudes?"
    elif unit == "linear" and low < _NOT_POWER:
        found = f"linear power is stated, and {span}: no power is under zero beyond its noise. Are they decibels?"
    elif unit == "linear" and eight_bit:
        found = f"linear power is stated, and {span} in 8 bits, as pictures for the eye do. Are they amplitudes?"
    elif unit == "amplitude" and low < 0:
        found = f"amplitudes are stated, and {span}: no amplitude is negative. Are they decibels?"
    else:
        return ""
    return f"{picture.name}: {found}"


def _sampled(picture: Picture, index: int) -> F64:
    """Some of a band's values that are there, (n,)."""
    step = max(1, int(np.sqrt(picture.missing.size / _SAMPLED_PX)))
    area = np.s_[::step, ::step]
    return np.asarray(_scaled(picture, index, area)[~picture.missing[area]])


def _scaled(picture: Picture, index: int, area: tuple[slice, slice]) -> F64:
    stated = picture.stated[index]
    plane = picture.stored[index][area].astype(np.float64)
    scaled: F64 = plane * (1.0 if stated.scale is None else stated.scale) + (stated.offset or 0.0)
    return scaled


def _power(values: F64, unit: SarUnit) -> F64:
    if unit == "db":
        return np.asarray(10.0 ** (np.clip(values, _LEAST_DB, _MOST_DB) / 10))
    return np.square(values) if unit == "amplitude" else values
