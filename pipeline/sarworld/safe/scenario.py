"""What a simulated scene is made from: how the radar flies, what the ground is, what the signal carries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from sar1m.core.radar.product import Convention
from sar1m.records import F32, RasterGrid

F64 = npt.NDArray[np.float64]
OrbitState = Literal["ascending", "descending"]
DemForm = Literal["utm", "lonlat"]
Undulation = Callable[[F64, F64], F64]

SIMULATOR: Final = "SAR-1M simulator"  # the organisation that simulated manifests name
_FIRST_ORBIT: Final = {"S1A": 73, "S1B": 27}  # absolute orbit of relative orbit 1; not one number for S1C
_CYCLE_ORBITS: Final = 175


@dataclass(frozen=True, kw_only=True)
class Mode:
    """An acquisition mode. swaths: merged in one GRD image. incidence_deg: where the whole swath begins and ends;
    the slant-to-ground polynomials are fitted over all of it, as on real products, although an image shows a part."""

    name: str
    resolution: str
    swaths: tuple[str, ...]
    spacing_m: float
    incidence_deg: tuple[float, float]


MODES: Final = {
    "IW": Mode(name="IW", resolution="H", swaths=("IW1", "IW2", "IW3"), spacing_m=10.0, incidence_deg=(29.0, 46.5)),
    "EW": Mode(
        name="EW",
        resolution="M",
        swaths=("EW1", "EW2", "EW3", "EW4", "EW5"),
        spacing_m=40.0,
        incidence_deg=(18.0, 47.5),
    ),
    "S4": Mode(name="S4", resolution="H", swaths=("S4",), spacing_m=10.0, incidence_deg=(33.0, 43.5)),
}


@dataclass(frozen=True, kw_only=True)
class AcquisitionSpec:
    """How the image is taken. incidence_deg: against the ellipsoid at the image's centre.

    rule_gap_px: largest difference between the two readings of the slant-to-ground polynomials, at mid-swath, set by
    how far the processor's reference height wanders from record to record. convention: the one that the pixels follow.
    day: the local solar hour is that of Sentinel-1's dusk-dawn orbit.
    """

    platform: str = "S1A"
    mode: str = "IW"
    polarisations: tuple[str, ...] = ("VV", "VH")
    orbit_state: OrbitState = "ascending"
    incidence_deg: float = 38.0
    day: date = date(2021, 8, 9)
    absolute_orbit: int = 39156
    datatake: int = 0x049F13
    ipf: str = "003.31"
    rule_gap_px: float = 2.0
    convention: Convention = field(default_factory=Convention)

    def centre_time(self, lon: float) -> datetime:
        """When the radar passes: 18:00 local solar time northward, 06:00 southward."""
        hour = (18 if self.orbit_state == "ascending" else 6) - lon / 15
        seconds = (hour % 24) * 3600
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(seconds=round(seconds))

    @property
    def relative_orbit(self) -> int:
        """As the manifest states it; platforms without a known first orbit count from absolute orbit 1."""
        return (self.absolute_orbit - _FIRST_ORBIT.get(self.platform, 1)) % _CYCLE_ORBITS + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Ground given by the caller: ellipsoidal height at the cell centres of a UTM grid, (rows, cols) in m."""

    grid: RasterGrid
    height_m: F32


@dataclass(frozen=True, kw_only=True)
class Reflector:
    """A corner reflector: metres east and north of the scene's centre in UTM, radar cross-section in m^2."""

    name: str
    east_m: float
    north_m: float
    cross_section_m2: float = 20_000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """What is looked at. relief_m: standard deviation of height (0 is level ground). surface: heights given instead.

    gamma0_db: one backscatter for all polarisations and angles, in place of materials. variation: as in WorldSpec.
    facets: pieces a side into which each 10 m cell is cut when its echo is summed.
    """

    relief_m: float = 40.0
    surface: Surface | None = None
    gamma0_db: float | None = None
    variation: float = 1.0
    facets: int = 4
    reflectors: tuple[Reflector, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Signal:
    """What the receiver adds. looks: equivalent number, None for an image without speckle. noise_scale: of the thermal
    noise in power; 0 writes no noise. resolved: blur to Sentinel-1's 20 m resolution, else pixels stay sharp.

    blank_px: samples without data (DN 0) at near and far range. border_garbage: they and the outermost lines hold the
    small numbers that early processors left there.
    """

    looks: float | None = 4.4
    correlated: bool = True
    noise_scale: float = 1.0
    resolved: bool = False
    blank_px: int = 12
    border_garbage: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Partners:
    """What lies beside the product. dem: its grid, the truth's own at 10 m or 1 arc second.

    undulation: of the geoid in m at lon, lat in degrees. Given, the DEM holds orthometric heights and states EGM2008;
    else ellipsoidal ones, which a GeoTIFF in UTM has no keys to state.
    optical_shift_px: displacement (down, right) of the optical image against the ground. orbit_file: a precise orbit.
    """

    dem: DemForm = "utm"
    undulation: Undulation | None = None
    optical: bool = True
    optical_shift_px: tuple[float, float] = (0.0, 0.0)
    cloudy: bool = False
    orbit_file: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneSpec:
    """A scene around lon, lat of lines x samples. The ground is larger than the image on every side."""

    seed: int = 0
    name: str = "scene"
    lon: float = 11.5
    lat: float = 47.3
    lines: int = 1200
    samples: int = 1400
    acquisition: AcquisitionSpec = field(default_factory=AcquisitionSpec)
    ground: Ground = field(default_factory=Ground)
    signal: Signal = field(default_factory=Signal)
    partners: Partners = field(default_factory=Partners)
    zipped: bool = False

    @property
    def mode(self) -> Mode:
        """The acquisition mode. Raises KeyError for one that is not simulated."""
        return MODES[self.acquisition.mode]
