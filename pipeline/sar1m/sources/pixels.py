"""What every source hands over for a block: its SAR pixels and its optical pixels, and the bands they are made of.

Fields have the meaning, shape and unit of the fields of BlockPixels with the same names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sar1m.records import F32, U8, BlockPixels, Bool

REGISTRATION_BANDS: Final = ("B02", "B03", "B04", "B08")  # Sentinel-2's 10 m bands; the others sit up to 1.5 px off
SWIR_BAND: Final = "B11"
CIRRUS_BAND: Final = "B10"  # water vapour leaves no light from the ground in it: its floor is the radiometric offset
SCL_CLOUD: Final = (3, 8, 9, 10)  # shadow, medium and high probability, thin cirrus
SCL_SNOW: Final = 11
USUAL_NESZ: Final = 10**-2.5  # -25 dB, the usual noise-equivalent sigma nought of IW, where a product states no noise


@dataclass(frozen=True, kw_only=True, eq=False)
class SarPixels:
    """The SAR side of a block; None for what the source does not know."""

    sar: F32
    layover_shadow: Bool | None = None
    local_incidence_deg: F32 | None = None
    incidence_deg: float | None = None
    noise_floor: tuple[float, ...]
    flags: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class OpticalPixels:
    """The optical side of a block with masks and land cover; None for what the source does not know."""

    optical: F32 | None = None
    registration_optical: F32 | None = None
    swir: F32 | None = None
    cirrus: F32 | None = None
    cloud: Bool | None = None
    cloud_source: str | None = None
    snow: Bool | None = None
    water: Bool | None = None
    land_cover: U8 | None = None
    land_cover_names: tuple[tuple[int, str], ...] = ()
    flags: frozenset[str] = frozenset()


def block_pixels(sar: SarPixels, optical: OpticalPixels) -> BlockPixels:
    """A block of its two sides, with the flags of both, sorted."""
    return BlockPixels(**{**vars(sar), **vars(optical), "flags": tuple(sorted({*sar.flags, *optical.flags}))})
