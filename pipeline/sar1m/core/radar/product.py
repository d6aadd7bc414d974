"""What a Sentinel-1 GRD product says of itself, as arrays. Lines and samples count from 0; times are seconds after the
product's epoch, the zero-Doppler time of its first line.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, annotation data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

SPEED_OF_LIGHT_M_S: Final = 299_792_458.0

GroundRangeRule = Literal["interpolated", "nearest"]
AzimuthRule = Literal["zero_doppler", "geolocation_grid"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """Which of two readings of the annotation places an image's pixels.

    ground_range: the coefficients of the slant-to-ground polynomials are interpolated linearly in time between records
    (SNAP, sarsen), or those of the record nearest in time are taken (the annotation's geolocation grid).
    azimuth: a line lies at its zero-Doppler time, or that less the bistatic term (tau - tau_ref) / 2 which the
    geolocation grid holds, where tau is the two-way slant range time.
    """

    ground_range: GroundRangeRule = "interpolated"
    azimuth: AzimuthRule = "zero_doppler"


GEOLOCATION_GRID: Final = Convention(ground_range="nearest", azimuth="geolocation_grid")


@dataclass(frozen=True, kw_only=True, eq=False)
class Orbit:
    """State vectors in an Earth-fixed frame (WGS 84): time_s (N,) rising, position_m and velocity_m_s (N, 3).

    source: `annotation`, or the name of the orbit file they come from.
    """

    time_s: F64
    position_m: F64
    velocity_m_s: F64
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundRange:
    """Slant-to-ground polynomials, one record a time: time_s (R,) rising.

    ground range in m = sum over k of srgr[r, k] (R - slant_reference_m[r])^k with R the one-way slant range in m;
    the inverse: R = sum of grsr[r, k] (ground range - ground_reference_m[r])^k. srgr, grsr: (R, K).
    Sample = ground range / range spacing.
    """

    time_s: F64
    slant_reference_m: F64
    srgr: F64
    ground_reference_m: F64
    grsr: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class GeolocationGrid:
    """The annotation's own tie points, all (n,): line and sample, geodetic degrees, ellipsoidal height in m,
    azimuth time (s after the epoch), two-way slant range time in s, incidence angle in degrees against the geocentric
    radial."""

    line: I64
    sample: I64
    lon: F64
    lat: F64
    height_m: F64
    azimuth_time_s: F64
    slant_range_time_s: F64
    incidence_deg: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdGeometry:
    """Where the pixels of an image lie. All polarisations of a product share it. name stands for it in errors."""

    name: str
    epoch: datetime
    line_interval_s: float
    lines: int
    samples: int
    range_spacing_m: float
    azimuth_spacing_m: float
    orbit: Orbit
    ground_range: GroundRange
    grid: GeolocationGrid


@dataclass(frozen=True, kw_only=True, eq=False)
class LutVectors:
    """A look-up table as annotated: at line[v] the values value[v] stand at samples sample[v]. line: (V,) rising;
    sample[v], value[v]: (n_v,), sample rising. Lines may lie before 0 or beyond the image."""

    line: I64
    sample: tuple[I64, ...]
    value: tuple[F64, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class AzimuthNoise:
    """Azimuth noise of one swath's part of the image, ends included: factor (n,) at line (n,)."""

    swath: str
    first_line: int
    last_line: int
    first_sample: int
    last_sample: int
    line: I64
    factor: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class ThermalNoise:
    """Noise power in DN^2: range vectors times the azimuth factor of the swath a pixel lies in. azimuth is empty for
    products of IPF before 2.9 and for stripmap, where the factor is 1."""

    range_power: LutVectors
    azimuth: tuple[AzimuthNoise, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdChannel:
    """One polarisation: calibration vectors (sigma0 = DN^2 / sigma^2 and so on), noise, and what it is read from.

    noise: None where the processor has removed it already. measurement: name of the TIFF below the product's root.
    """

    polarisation: str
    measurement: str
    sigma: LutVectors
    beta: LutVectors
    gamma: LutVectors
    noise: ThermalNoise | None


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdProduct:
    """A whole product without its pixels. channels: co-polarised first. ipf: such as 003.39. processed_by: the
    organisation, such as ESA. relative_orbit and orbit_state: as the manifest and annotation state them."""

    product_id: str
    platform: str
    mode: str
    ipf: str
    processed_by: str
    start: datetime
    stop: datetime
    orbit_state: str
    absolute_orbit: int
    relative_orbit: int | None
    datatake: str
    geometry: GrdGeometry
    channels: tuple[GrdChannel, ...]


@dataclass(frozen=True, kw_only=True)
class ImageWindow:
    """A rectangle of an image's pixels: first line and sample, and how many of each."""

    line: int
    sample: int
    lines: int
    samples: int
