"""The materials of the simulated ground: their reflectance, backscatter and land-cover class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.records import F32, U8

OPTICAL_BANDS: Final = ("B02", "B03", "B04", "B08")
POLARISATIONS: Final = ("VV", "VH")

# ESA WorldCover 2021 product user manual, legend
LAND_COVER_NAMES: Final = (
    (10, "Tree cover"),
    (20, "Shrubland"),
    (30, "Grassland"),
    (40, "Cropland"),
    (50, "Built-up"),
    (60, "Bare / sparse vegetation"),
    (80, "Permanent water bodies"),
    (90, "Herbaceous wetland"),
)
WATER_CLASS: Final = 80


@dataclass(frozen=True)
class Material:
    """One material.

    land_cover: class number of WorldCover.
    reflectance: in B02, B03, B04 and B08.
    gamma0_db: in VV and VH at an incidence of 38 degrees.
    falloff: exponent of cos(local incidence) in the backscatter.
    spread: relative variation from parcel to parcel.
    """

    land_cover: int
    reflectance: tuple[float, float, float, float]
    gamma0_db: tuple[float, float]
    falloff: float
    spread: float


# Typical values: reflectance after Sentinel-2 level-2A spectra by class, backscatter after C-band statistics of
# Ulaby and Dobson 1989 and Sentinel-1 global backscatter (Bauer-Marschallinger et al. 2021).
FIXED_MATERIALS: Final = {
    "broadleaf": Material(10, (0.022, 0.045, 0.028, 0.330), (-7.2, -13.0), 0.5, 0.0),
    "conifer": Material(10, (0.018, 0.030, 0.022, 0.220), (-8.0, -13.8), 0.5, 0.0),
    "shrub": Material(20, (0.045, 0.068, 0.070, 0.210), (-10.5, -17.0), 1.0, 0.0),
    "rock": Material(60, (0.110, 0.140, 0.175, 0.230), (-10.0, -20.0), 1.5, 0.0),
    "reeds": Material(90, (0.040, 0.062, 0.055, 0.180), (-9.0, -16.5), 1.0, 0.0),
    "water": Material(WATER_CLASS, (0.048, 0.040, 0.024, 0.012), (-19.0, -27.0), 8.0, 0.0),
    "road": Material(50, (0.095, 0.105, 0.115, 0.150), (-16.0, -24.0), 3.0, 0.0),
    "garden": Material(50, (0.045, 0.070, 0.058, 0.260), (-9.5, -15.5), 0.8, 0.0),
    "building": Material(50, (0.105, 0.115, 0.130, 0.190), (-5.5, -12.5), 0.3, 0.0),
}
FIXED_NAMES: Final = tuple(FIXED_MATERIALS)

# (share of parcels, material): crops in different stages, meadows, woods, ploughed soil
PARCEL_MATERIALS: Final = (
    (0.26, Material(40, (0.030, 0.062, 0.035, 0.420), (-10.5, -17.0), 1.0, 0.14)),
    (0.20, Material(40, (0.060, 0.095, 0.120, 0.260), (-11.5, -19.5), 1.2, 0.14)),
    (0.20, Material(40, (0.070, 0.095, 0.130, 0.190), (-13.0, -21.5), 1.6, 0.16)),
    (0.20, Material(30, (0.038, 0.072, 0.050, 0.300), (-12.0, -18.5), 1.0, 0.12)),
    (0.08, Material(10, (0.020, 0.040, 0.025, 0.290), (-7.5, -13.3), 0.5, 0.06)),
    (0.06, Material(60, (0.120, 0.150, 0.190, 0.260), (-12.5, -22.5), 1.6, 0.12)),
)
PARCEL_COUNT: Final = 2048  # materials drawn a world; parcels share them by hash
PARCEL_SPREAD_DB: Final = 7.0  # dB of backscatter for a relative variation of 1


@dataclass(frozen=True, kw_only=True, eq=False)
class Palette:
    """The M materials of one world by number: first those of parcels, then FIXED_NAMES.

    reflectance: (4, M) in OPTICAL_BANDS.
    log_gamma0: (2, M) natural logarithm of linear power at 38 degrees, in POLARISATIONS.
    falloff: (M,). land_cover: (M,) class numbers.
    """

    reflectance: F32
    log_gamma0: F32
    falloff: F32
    land_cover: U8

    @staticmethod
    def number(name: str) -> int:
        """Material number of one of FIXED_NAMES."""
        return PARCEL_COUNT + FIXED_NAMES.index(name)


def draw_palette(rng: np.random.Generator, *, variation: float) -> Palette:
    """Draws the materials of one world. variation: scales the differences between parcels of one kind; 0 for none."""
    shares = np.array([share for share, _ in PARCEL_MATERIALS])
    kinds = rng.choice(len(shares), size=PARCEL_COUNT, p=shares / shares.sum())
    materials = [PARCEL_MATERIALS[kind][1] for kind in kinds] + list(FIXED_MATERIALS.values())
    spread = variation * np.array([material.spread for material in materials])
    brightness, bands, backscatter = _clipped_normals(rng, len(materials))
    reflectance = np.array([material.reflectance for material in materials]).T
    gamma0_db = np.array([material.gamma0_db for material in materials]).T + PARCEL_SPREAD_DB * spread * backscatter
    return Palette(
        reflectance=(reflectance * (1 + spread * (brightness + 0.4 * bands))).astype(np.float32),
        log_gamma0=(gamma0_db * np.log(10) / 10).astype(np.float32),
        falloff=np.array([material.falloff for material in materials], dtype=np.float32),
        land_cover=np.array([material.land_cover for material in materials], dtype=np.uint8),
    )


def _clipped_normals(rng: np.random.Generator, count: int) -> tuple[npt.NDArray[np.float64], ...]:
    # beyond two standard deviations a parcel would look like another class; (M,), (4, M) and (2, M)
    draws = rng.standard_normal((7, count)).clip(-2, 2)
    return draws[0], draws[1:5], draws[5:7]
