"""The metadata of a Sentinel-1 GRD product, as arrays.

Lines and samples count from 0. Times are seconds after the product's epoch, the zero-Doppler time of its first line.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, annotation data sets.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sar1m.records import F64, I64

SPEED_OF_LIGHT_M_S: Final = 299_792_458.0

GroundRangeRule = Literal["interpolated", "nearest"]
AzimuthRule = Literal["zero_doppler", "geolocation_grid"]
Troposphere = Literal["none", "standard_atmosphere"]


@dataclass(frozen=True, kw_only=True)
class Convention:
    """How an image's pixels are placed. The specification leaves two questions on the annotation open.

    ground_range: `interpolated` interpolates the coefficients of the slant-to-ground polynomials linearly in time
        between records (as SNAP and sarsen do); `nearest` takes the record nearest in time (as the annotation's
        geolocation grid does).
    azimuth: `zero_doppler` puts a line at its zero-Doppler time; `geolocation_grid` subtracts the bistatic term
        (tau - tau_ref) / 2 that the geolocation grid contains, where tau is the two-way slant range time. It is what
        the processor leaves: it corrects the whole image by the delay at one range, tau_ref, in the middle of the swath
        (A. Schubert et al., Remote Sensing 7, 2015; C. Gisinger et al., IEEE TGRS 59, 2021).
    troposphere: `none` takes slant ranges as geometric; `standard_atmosphere` adds the delay of troposphere.py, which
        the processor does not take off.
    """

    ground_range: GroundRangeRule = "interpolated"
    azimuth: AzimuthRule = "zero_doppler"
    troposphere: Troposphere = "none"


GEOLOCATION_GRID: Final = Convention(ground_range="nearest", azimuth="geolocation_grid")


@dataclass(frozen=True, kw_only=True, eq=False)
class Orbit:
    """State vectors in an Earth-fixed frame (WGS 84).

    time_s: (N,) rising. position_m, velocity_m_s: (N, 3).
    source: `annotation`, or the name of the orbit file that they come from.
    """

    time_s: F64
    position_m: F64
    velocity_m_s: F64
    source: str


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundRange:
    """Polynomials between slant range and ground range, one record for each time.

    With s the one-way slant range and g the ground range, both in m, record r states
        g = sum over k of srgr[r, k] (s - slant_reference_m[r])^k, and inversely
        s = sum over k of grsr[r, k] (g - ground_reference_m[r])^k.
    Sample = g / range spacing.

    time_s: (R,) rising. slant_reference_m, ground_reference_m: (R,). srgr, grsr: (R, K).
    """

    time_s: F64
    slant_reference_m: F64
    srgr: F64
    ground_reference_m: F64
    grsr: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class GeolocationGrid:
    """The tie points of the annotation, all (n,).

    lon, lat: geodetic degrees. height_m: above the ellipsoid.
    slant_range_time_s: two-way.
    incidence_deg: against the radial from the Earth's centre, not against the ellipsoid's normal.
    """

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
    """The geometry of an image, shared by all polarisations of a product. name: of the product, for messages."""

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
    """A look-up table as annotated: vector v holds the values value[v] at the samples sample[v] of line[v].

    line: (V,) rising; lines may lie before 0 or beyond the image.
    sample: V arrays (n_v,), rising. value: V arrays (n_v,).
    """

    line: I64
    sample: tuple[I64, ...]
    value: tuple[F64, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class AzimuthNoise:
    """Azimuth noise in one block of the image, which belongs to one swath; first and last are included.

    factor: (n,) at the lines `line` (n,).
    """

    swath: str
    first_line: int
    last_line: int
    first_sample: int
    last_sample: int
    line: I64
    factor: F64


@dataclass(frozen=True, kw_only=True, eq=False)
class ThermalNoise:
    """Noise power in DN^2: range vectors times the azimuth factor of the block that a pixel lies in.

    azimuth: empty for products of IPF before 2.9 and for stripmap products, where the factor is 1.
    """

    range_power: LutVectors
    azimuth: tuple[AzimuthNoise, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdChannel:
    """One polarisation of a product.

    measurement: name of the TIFF below the product's root.
    sigma, beta, gamma: calibration vectors; sigma0 = DN^2 / sigma^2, and likewise beta0 and gamma0.
    noise: None where the processor has already removed the noise.
    """

    polarisation: str
    measurement: str
    sigma: LutVectors
    beta: LutVectors
    gamma: LutVectors
    noise: ThermalNoise | None


@dataclass(frozen=True, kw_only=True, eq=False)
class GrdProduct:
    """A product without its pixels.

    ipf: version of the processor, such as 003.39. processed_by: an organisation, such as ESA.
    start, stop: zero-Doppler times of the first and last line.
    orbit_state: ascending or descending. relative_orbit: as the manifest states it.
    channels: co-polarised first.
    """

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
    """A rectangle of an image's pixels: its first line and sample, and its number of lines and samples."""

    line: int
    sample: int
    lines: int
    samples: int
