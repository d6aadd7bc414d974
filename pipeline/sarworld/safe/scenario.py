"""The parameters of a simulated scene: acquisition, ground, signal, and accompanying files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from sar1m.core.radar.product import Convention
from sar1m.records import F32, F64, RasterGrid

OrbitState = Literal["ascending", "descending"]
DemForm = Literal["utm", "lonlat"]
Undulation = Callable[[F64, F64], F64]

SIMULATOR: Final = "SAR-1M simulator"  # the organisation that simulated manifests name
LICENCE: Final = "CC0-1.0"  # of all that is simulated
_FIRST_ORBIT: Final = {"S1A": 73, "S1B": 27}  # absolute orbit of relative orbit 1; not one number for S1C
_CYCLE_ORBITS: Final = 175


@dataclass(frozen=True, kw_only=True)
class Mode:
    """An acquisition mode.

    swaths: merged in one GRD image.
    incidence_deg: at the near and the far edge of the whole swath. Slant-to-ground polynomials are fitted over all of
        it, as in real products, although an image shows only a part.
    """

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
    """How the image is taken.

    incidence_deg: against the ellipsoid at the centre of the image.
    day: the local solar hour is that of Sentinel-1's dusk-dawn orbit.
    rule_gap_px: largest difference at mid-swath between the two ways to read the slant-to-ground polynomials
        (Convention.ground_range). It sets how much the processor's reference height varies from record to record.
    convention: the one that the pixels follow.
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
        """Time of the pass: 18:00 local solar time when ascending, 06:00 when descending."""
        hour = (18 if self.orbit_state == "ascending" else 6) - lon / 15
        seconds = (hour % 24) * 3600
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(seconds=round(seconds))

    @property
    def relative_orbit(self) -> int:
        """As the manifest states it. Platforms without a known first orbit count from absolute orbit 1."""
        return (self.absolute_orbit - _FIRST_ORBIT.get(self.platform, 1)) % _CYCLE_ORBITS + 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Surface:
    """Heights given by the caller. height_m: (rows, cols) above the ellipsoid at the cell centres of a UTM grid."""

    grid: RasterGrid
    height_m: F32


@dataclass(frozen=True, kw_only=True)
class Reflector:
    """A corner reflector. east_m, north_m: from the centre of the scene, in UTM."""

    name: str
    east_m: float
    north_m: float
    cross_section_m2: float = 20_000.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Ground:
    """The ground of the scene.

    relief_m: standard deviation of height; 0 is level ground. surface: heights to use instead.
    gamma0_db: one backscatter for all polarisations and angles, instead of that of materials.
    variation: as in WorldSpec.
    facets: number along each side into which a 10 m cell is cut to sum its echo.
    """

    relief_m: float = 40.0
    surface: Surface | None = None
    gamma0_db: float | None = None
    variation: float = 1.0
    facets: int = 4
    reflectors: tuple[Reflector, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Signal:
    """Speckle, noise, resolution and borders of the image.

    looks: equivalent number; None for an image without speckle. correlated: as in speckle_field.
    noise_scale: factor of the thermal noise in power; 0 for no noise.
    resolved: whether the image is blurred to Sentinel-1's resolution of 20 m.
    blank_px: samples without data (DN 0) at near and far range.
    border_garbage: whether these and the outermost lines hold the small numbers that early processors left there.
    """

    looks: float | None = 4.4
    correlated: bool = True
    noise_scale: float = 1.0
    resolved: bool = False
    blank_px: int = 12
    border_garbage: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Partners:
    """Files that accompany the product.

    dem: `utm` for the 10 m grid of the truth, `lonlat` for 1 arc second.
    undulation: of the geoid in m at lon, lat in degrees. With it, the DEM holds heights above the geoid and states
        EGM2008. Without it, heights are ellipsoidal, which a GeoTIFF in UTM cannot state.
    optical_shift_px: displacement (down, right) of the optical image against the ground.
    orbit_file: whether a precise orbit file is written.
    """

    dem: DemForm = "utm"
    undulation: Undulation | None = None
    optical: bool = True
    optical_shift_px: tuple[float, float] = (0.0, 0.0)
    cloudy: bool = False
    orbit_file: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneSpec:
    """A scene of lines x samples, centred at lon, lat in degrees. The ground is larger than the image on every side."""

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
