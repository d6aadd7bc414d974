"""What files and descriptions state about stored numbers, and how two statements become one.

A file states it in GDAL's terms (nodata, scale, offset, unit type; also in an .aux.xml beside it), a description in the
cells of a table or the fields of a STAC item. What only one states holds. What both state must agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from sar1m.records import Bool
from sar1m.store.errors import SourceError

Unit = Literal["as_is", "linear", "db", "reflectance", "dn", "rgb8", "m"]

_SAME: Final = 1e-6  # relative: texts and float32 keep six to seven digits
_NEVER_A_VALUE: Final = 1e30  # no measurement is this large; such numbers stand for missing data
_HUGE_ALIKE: Final = 1e-3  # relative, between numbers that large: texts of them are rounded to few digits
_EXACT_BELOW: Final = 2.0**53
# Unit names as files write them, in lower case, by the name used here. GDAL sets no list; these are those of GDAL's own
# drivers, of UDUNITS and of the STAC raster extension.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "": ("", "none", "unknown", "n/a", "not stated"),
    "1": (
        *("1", "unity", "unitless", "dimensionless", "ratio", "fraction", "linear", "power", "linear power"),
        *("intensity", "m2/m2", "m^2/m^2", "m2 m-2", "reflectance"),
    ),
    "db": ("db", "decibel", "decibels"),
    "dn": ("dn", "digital number", "digital numbers"),
    "percent": ("%", "percent", "percents", "pct"),
    "m": ("m", "metre", "metres", "meter", "meters"),
    "km": ("km", "kilometre", "kilometres", "kilometer", "kilometers"),
    "dm": ("dm", "decimetre", "decimetres", "decimeter", "decimeters"),
    "cm": ("cm", "centimetre", "centimetres", "centimeter", "centimeters"),
    "mm": ("mm", "millimetre", "millimetres", "millimeter", "millimeters"),
    "ft": ("ft", "foot", "feet", "international foot", "international feet"),
    "us-ft": ("us-ft", "ftus", "us survey foot", "us survey feet", "foot_us", "survey foot"),
}
_BY_NAME: Final = {name: unit for unit, names in _NAMES.items() for name in names}
# What one of a file's units comes to in the unit in which values are wanted.
_FACTORS: Final[dict[Unit, dict[str, float]]] = {
    "linear": {"1": 1.0},
    "db": {"db": 1.0},
    "reflectance": {"1": 1.0, "percent": 0.01},
    "dn": {"1": 1.0, "dn": 1.0, "percent": 0.01},
    "rgb8": {"1": 1.0, "dn": 1.0},
    "m": {"m": 1.0, "km": 1e3, "dm": 0.1, "cm": 0.01, "mm": 1e-3, "ft": 0.3048, "us-ft": 1200 / 3937},
}
_WANTED: Final[dict[Unit, str]] = {
    "linear": "linear power",
    "db": "decibels",
    "reflectance": "reflectance",
    "dn": "digital numbers of reflectance",
    "rgb8": "display brightness",
    "m": "metres",
}


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What one source states about the stored numbers of one band: value = scale * stored + offset, in unit.

    by: the source, for messages. None: not stated. nodata: the stored number that means that there is no data.
    unit: as it is written.
    """

    by: str
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    unit: str | None = None

    @property
    def silent(self) -> bool:
        """Whether nothing is stated."""
        return self == Stated(by=self.by)


UNDESCRIBED: Final = Stated(by="the description")


def reconciled(first: Stated, second: Stated, name: str) -> Stated:
    """What holds where two sources speak of one band: of each field what one of them states, where the other is silent.

    Scales and offsets agree to six digits, nodata as far as text keeps them, units by meaning (dB and decibel are one).
    A nodata of NaN agrees with every other: NaN is never a value.
    name: of the raster and band. Raises SourceError, naming both sources, where they disagree.
    """
    if first.silent or second.silent:
        return first if second.silent else second
    scale = _agreed(first, second, "scale", name)
    return Stated(
        by=f"{first.by} and {second.by}",
        scale=scale,
        offset=_agreed(first, second, "offset", name, tolerance=_SAME * abs(scale or 1.0)),
        nodata=_agreed(first, second, "nodata", name),
        unit=_agreed(first, second, "unit", name),
    )


def _agreed(first: Stated, second: Stated, field: str, name: str, tolerance: float = 0.0) -> Any:  # noqa: ANN401  text or number
    mine, others = getattr(first, field), getattr(second, field)
    if mine is None or others is None:
        return others if mine is None else mine
    if field == "unit":
        same = not canonical_unit(mine) or not canonical_unit(others) or canonical_unit(mine) == canonical_unit(others)
        kept = mine if canonical_unit(mine) else others
    elif field == "nodata":
        same = _same_nodata(mine, others)
        kept = others if math.isnan(mine) else mine
    else:
        same = math.isclose(mine, others, rel_tol=_SAME, abs_tol=tolerance)
        kept = mine
    if not same:
        raise SourceError(
            f"{name}: {first.by} states {field} {mine!r}, {second.by} states {field} {others!r}. Correct the one that "
            "is wrong (gdal_edit.py with -scale, -offset, -units, -a_nodata or -unsetnodata changes the file)."
        )
    return kept


def _same_nodata(one: float, other: float) -> bool:
    if math.isnan(one) or math.isnan(other) or one == other:
        return True
    whole = one.is_integer() and other.is_integer() and max(abs(one), abs(other)) < _EXACT_BELOW
    tolerance = _HUGE_ALIKE if min(abs(one), abs(other)) >= _NEVER_A_VALUE else _SAME
    return not whole and math.isclose(one, other, rel_tol=tolerance)


def is_nodata(stored: npt.NDArray[Any], nodata: float) -> Bool:
    """Where stored numbers, of any shape and real type, are the one that means no data. NaN counts elsewhere.

    A nodata that no measurement comes near, such as 3.4028235e+38, may be a text that was rounded (3.40282e+38 or
    3.4e+38): then all numbers near it count. Any other is compared after rounding to the stored type, and one that
    integers of the type cannot hold is nowhere.
    """
    if math.isnan(nodata):
        return np.zeros(stored.shape, dtype=np.bool_)
    wide = stored.astype(np.float64)
    if stored.dtype.kind != "f":
        return np.asarray(wide == nodata)
    if _NEVER_A_VALUE <= abs(nodata) < math.inf:
        return np.asarray(np.abs(wide / nodata - 1) < _HUGE_ALIKE)
    return np.asarray(stored == stored.dtype.type(nodata))


def unit_factor(stated: Stated, wanted: Unit, name: str) -> float:
    """By what values in the stated unit are multiplied to be in the wanted one; 1 where no unit is stated.

    Raises SourceError where the stated unit is not known, or measures something else than the wanted one.
    """
    unit = canonical_unit(stated.unit)
    if wanted == "as_is" or not unit:
        return 1.0
    factor = _FACTORS[wanted].get(unit)
    if factor is None:
        fitting = ", ".join(_NAMES[known][0] for known in _FACTORS[wanted])
        raise SourceError(
            f"{name}: its unit is {stated.unit!r} (stated by {stated.by}), but its values are described as "
            f"{_WANTED[wanted]} (units {fitting}). Correct the description, or the file with gdal_edit.py -units."
        )
    return factor


def canonical_unit(unit: str | None) -> str:
    """The name used here of a unit, the unit itself where it is not known, empty where none is stated."""
    written = " ".join((unit or "").lower().split())
    return _BY_NAME.get(written, written)
