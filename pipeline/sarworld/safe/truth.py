"""What is known of a simulated scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sar1m.core.radar.product import F64, GrdProduct
from sar1m.records import F32, Bool, RasterGrid
from sarworld.safe.frame import Frame
from sarworld.safe.scenario import SceneSpec


@dataclass(frozen=True, kw_only=True)
class KnownReflector:
    """A corner reflector as surveyed: UTM metres on the truth's grid, degrees, ellipsoidal height; where it shows.
    energy: its beta nought summed over the pixels, the cross-section over a pixel's area in slant range and azimuth."""

    name: str
    x_m: float
    y_m: float
    lon: float
    lat: float
    height_m: float
    line: float
    sample: float
    cross_section_m2: float
    energy: float


@dataclass(frozen=True, kw_only=True, eq=False)
class MapTruth:
    """On the grid of the ground, (rows, cols) or (P, rows, cols), P in the order of the product's channels.

    height_m: ellipsoidal. line, sample: where a cell centre shows, under the spec's convention; some lie outside the
    image. incidence_deg: against the ellipsoid. local_incidence_deg: against the ground. gamma0: linear, of the ground
    itself, what terrain flattening should recover. beta0: of each cell's slope by the area that it fills in the image,
    NaN in layover and shadow. layover, shadow: by walking along profiles (visibility.py), False off the image; shadow
    includes ground that faces away.
    """

    grid: RasterGrid
    height_m: F32
    line: F64
    sample: F64
    incidence_deg: F32
    local_incidence_deg: F32
    gamma0: F32
    beta0: F32
    layover: Bool
    shadow: Bool


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTruth:
    """In radar geometry, (lines, samples) or (P, lines, samples).

    beta0, sigma0: means, free of noise, speckle and reflectors; sigma nought by the incidence on level ground.
    area_m2: illuminated, projected along the line of sight. area_beta_m2: of a pixel in the plane of slant range and
    azimuth. nesz: noise as sigma nought. valid: pixels that hold signal.
    """

    beta0: F32
    sigma0: F32
    area_m2: F32
    area_beta_m2: F32
    nesz: F32
    valid: Bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SafeTruth:
    """A scene as it was written. path: of the product, folder or zip."""

    spec: SceneSpec
    frame: Frame
    product: GrdProduct
    path: Path
    map: MapTruth
    image: ImageTruth
    reflectors: tuple[KnownReflector, ...]
