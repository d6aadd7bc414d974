"""The truth of a simulated scene."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sar1m.core.radar.product import GrdProduct
from sar1m.records import F32, F64, Bool, RasterGrid
from sarworld.safe.frame import Frame
from sarworld.safe.scenario import SceneSpec


@dataclass(frozen=True, kw_only=True)
class KnownReflector:
    """A corner reflector with its true position.

    x_m, y_m: UTM, in the zone of the truth's grid. lon, lat: degrees. height_m: above the ellipsoid.
    line, sample: where it shows in the image.
    energy: its beta nought summed over pixels: cross-section divided by the area of a pixel in the slant plane.
    """

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
    """True quantities on the grid of the ground, (rows, cols) or (P, rows, cols) in the order of the channels.

    height_m: above the ellipsoid.
    line, sample: where a cell centre shows, by the spec's convention; some are outside the image.
    incidence_deg: against the ellipsoid. local_incidence_deg: against the ground.
    gamma0: linear, of the ground itself: what terrain flattening should recover.
    beta0: linear, from the slope of each cell and the area that it fills in the image; NaN in layover and shadow.
    layover, shadow: found by walking along profiles (visibility.py); False outside the image. Shadow includes ground
        that faces away from the radar.
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
    """True quantities in radar geometry, (lines, samples) or (P, lines, samples).

    beta0, sigma0: means without noise, speckle and reflectors; sigma nought with the incidence on level ground.
    area_m2: illuminated area, projected along the line of sight.
    area_beta_m2: area of a pixel in the plane of slant range and azimuth.
    nesz: thermal noise as sigma nought.
    valid: pixels that hold signal.
    """

    beta0: F32
    sigma0: F32
    area_m2: F32
    area_beta_m2: F32
    nesz: F32
    valid: Bool


@dataclass(frozen=True, kw_only=True, eq=False)
class SafeTruth:
    """A scene as it was written. path: of the product, a folder or a zip."""

    spec: SceneSpec
    frame: Frame
    product: GrdProduct
    path: Path
    map: MapTruth
    image: ImageTruth
    reflectors: tuple[KnownReflector, ...]
