"""Whether the numbers of a raster can be what its description calls them, judged by quantiles and never by one value.

What one wrong word does to a whole dataset is refused here: decibels read as power, power or digital numbers read as
backscatter, percent or pictures read as reflectance. What spoils a part of a patch is measured (core/plateaus.py).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.records import F32, Bool
from sar1m.sources.layers import OpticalUnit, SarUnit
from sar1m.store.errors import SourceError

_FEW: Final = 0.01  # share of values that may lie where no measurement does
_NOT_POWER: Final = -0.5  # of noise removal -0.01 is left; decibels of land are -5 to -25
_NOTHING_DB, _BLINDING_DB = -90.0, 40.0  # single pixels of calm water reach -70, ships and reflectors 30
_LOW, _HIGH = 0.1, 0.9  # nine in ten values lie over the first, nine in ten under the second
_BRIGHTEST_DB: Final = 0.0  # nine in ten pixels of no scene are brighter
_BRIGHTEST_MEDIAN_DB: Final = 15.0
_DARKEST_DB: Final = -50.0  # nine in ten pixels of no scene are darker: calm water stays over -40
_MOST_REFLECTANCE: Final = 1.5  # in the median; fresh snow is 1.0
_LEAST_REFLECTANCE: Final = -0.02  # in the median; over-corrected haze leaves -0.01
_NOT_REFLECTANCE: Final = -1.0
_ONE_DN: Final = 1.5e-4
_LEAST_RANGE: Final = 0.1  # of reflectance; most land lies over it somewhere
_WHITE: Final = 255.5
_NAMED: Final = 0.02  # share from which a number that repeats is named in a message


def require_power(power: F32, unit: SarUnit, where: str) -> None:
    """Raises SourceError unless values can be the backscatter that they are described as.

    power: any shape, linear power as converted from unit, NaN without data. where: file and band, for messages.
    """
    valid = power[np.isfinite(power)]
    if not valid.size:
        return
    words, other = ("decibels", "linear") if unit == "db" else ("linear power", "db")
    low, median, high = (float(value) for value in np.quantile(valid, (_LOW, 0.5, _HIGH)))
    negative = _share(valid < _NOT_POWER) if unit == "linear" else 0.0
    if negative > _FEW:
        raise SourceError(
            f"{where}: described as linear power, but its median is {median:.3g} and {100 * negative:.1f} % of its "
            f"values are under {_NOT_POWER:g}{_repeated(valid)}. Negative power is a tiny leftover of noise removal. "
            "If these are decibels, state the unit db; if one number stands for no data, declare it as nodata."
        )
    if low > _power(_BRIGHTEST_DB) or median > _power(_BRIGHTEST_MEDIAN_DB):
        raise SourceError(
            f"{where}: described as {words}, but its median is {_decibels(median)} and nine in ten values are over "
            f"{_decibels(low)}{_repeated(valid)}; no scene has a median over {_BRIGHTEST_MEDIAN_DB:g} dB or nine "
            f"tenths over {_BRIGHTEST_DB:g} dB. Digital numbers, amplitudes and scaled integers do: state their scale "
            f"or calibrate them first, or state the unit {other} if they are that."
        )
    if high < _power(_DARKEST_DB):
        raise SourceError(
            f"{where}: described as {words}, but nine in ten values are under {_decibels(high)}{_repeated(valid)}; no "
            f"scene is darker than {_DARKEST_DB:g} dB. State the scale of the stored numbers (decibels times 100 have "
            "0.01), or declare the number that stands for no data."
        )
    nothing = _power(_NOTHING_DB) if unit == "db" else _NOT_POWER
    outside = _share((valid < nothing) | (valid > _power(_BLINDING_DB)))
    if outside > _FEW:
        raise SourceError(
            f"{where}: described as {words}, but {100 * outside:.1f} % of its values are not between {_NOTHING_DB:g} "
            f"and {_BLINDING_DB:g} dB{_repeated(valid)}. If one number stands for no data, declare it as nodata; else "
            "state the scale of the stored numbers."
        )


def require_room_for_reflectance(dtype: str, scale: float, where: str) -> None:
    """Raises SourceError for digital numbers of 8 bits by a scale that is of 16: 255 times 0.0001 is under any land.

    dtype: of the stored numbers.
    """
    if dtype in ("uint8", "int8") and scale * np.iinfo(dtype).max < _LEAST_RANGE:
        raise SourceError(
            f"{where}: described as dn, but stored as {dtype}, which holds no digital numbers of {scale:g} each. State "
            "the unit rgb8 for a picture, or scale and offset of the stored numbers."
        )


def require_reflectance(values: F32, unit: OpticalUnit, where: str) -> None:
    """Raises SourceError unless values can be the reflectance, or the picture, that they are described as.

    values: any shape, after scale and offset: reflectance, or 0..255 for rgb8; NaN without data. where: file and band.
    """
    valid = values[np.isfinite(values)]
    if not valid.size:
        return
    median, most = (float(value) for value in np.quantile(valid, (0.5, 0.99)))
    if unit == "rgb8":
        fractions = most <= 1 and bool(np.any(valid != np.rint(valid)))
        if most > _WHITE or median < 0 or fractions:
            raise SourceError(
                f"{where}: described as rgb8, a picture of 0 to 255, but the median is {median:.3g} and one value in a "
                f"hundred is over {most:.3g}. State the unit that they have (dn or reflectance), or write 8 bits."
            )
        return
    if median > _MOST_REFLECTANCE or median < _LEAST_REFLECTANCE:
        raise SourceError(
            f"{where}: described as {unit}, but the median reflectance is {median:.3g}{_repeated(valid)}, expected "
            f"{_LEAST_REFLECTANCE:g} to {_MOST_REFLECTANCE:g}. Percent, digital numbers, radiance and 8-bit pictures "
            "are no reflectance: state scale and offset (percent has 0.01, most digital numbers 0.0001), or the unit "
            "rgb8 for pictures."
        )
    negative = _share(valid < _NOT_REFLECTANCE)
    if negative > _FEW:
        raise SourceError(
            f"{where}: described as {unit}, but {100 * negative:.1f} % of its values are a reflectance under "
            f"{_NOT_REFLECTANCE:g}{_repeated(valid)}. If one number stands for no data, declare it as nodata."
        )
    if unit == "dn" and median >= 0 and most < _ONE_DN:
        raise SourceError(
            f"{where}: described as dn, but 99 of 100 values are at most one digital number (reflectance {most:.3g}). "
            "If the stored numbers are reflectance already, state the unit reflectance."
        )


def _share(marked: Bool) -> float:
    return float(np.mean(marked))


def _repeated(valid: F32) -> str:
    """Names the most frequent value, where it is a fill value by its share."""
    numbers, counts = np.unique(valid, return_counts=True)
    share = counts.max() / valid.size
    return f" ({numbers[counts.argmax()]:.6g} in {100 * share:.0f} % of them)" if share > _NAMED else ""


def _power(level_db: float) -> float:
    return float(10 ** (level_db / 10))


def _decibels(power: float) -> str:
    return f"{10 * np.log10(power):.1f} dB" if power > 0 else "no power at all"
