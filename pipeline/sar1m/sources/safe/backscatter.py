"""From a SAFE product to backscatter on a block's grid: read, calibrate, mask, flatten, resample once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.config import SafeConfig
from sar1m.core.radar.border import edge_depth, edge_strips, valid_samples
from sar1m.core.radar.calibration import Quantity, calibrate, nesz
from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import Lattice, fit_lattice, node_points
from sar1m.core.radar.product import Convention, GrdChannel, GrdGeometry, GrdProduct, ImageWindow
from sar1m.core.radar.range_doppler import image_coordinates
from sar1m.core.radar.terrain import flatten, margin_px
from sar1m.io.safe.measurement import read_dn
from sar1m.records import F32, F64, U16, RasterGrid
from sar1m.sources.pixels import USUAL_NESZ, SarPixels
from sar1m.sources.safe.block_heights import LOOK_M, Terrain, coarse_look, tie_point_heights
from sar1m.sources.safe.checked_product import open_product
from sar1m.sources.safe.choose_products import product_and_orbit_digest
from sar1m.store.errors import SourceError

TIE_POINT_HEIGHTS: Final = "tie_point_heights"  # flag: relief is not accounted for
NOT_FLATTENED: Final = "gamma0_of_ellipsoid"  # flag
DEM_HOLES: Final = "dem_holes"  # flag
TERRAIN_CUT_OFF: Final = "terrain_cut_off"  # flag: what may fold or throw shadow into the block is not all known


@dataclass(frozen=True, kw_only=True)
class SafeBlock:
    """What to read of a product.

    digest: of product and orbit file, as planned. polarisations: in their order. grid: with its halo.
    """

    path: Path
    orbit_file: Path | None
    digest: str
    polarisations: tuple[str, ...]
    grid: RasterGrid


@dataclass(frozen=True, kw_only=True, eq=False)
class _Surface:
    """Ellipsoidal heights on a block, and on a wider grid that holds all terrain which can fold or throw its shadow
    into the block. margin: rows and columns by which it is wider."""

    wide: Lattice
    wide_heights_m: F64
    margin: tuple[int, int]

    @property
    def lattice(self) -> Lattice:
        return self.wide.crop(*self.margin)

    @property
    def heights_m(self) -> F64:
        """Of the block, (rows, cols)."""
        (top, left), (rows, cols) = self.margin, self.wide_heights_m.shape
        return self.wide_heights_m[top : rows - top, left : cols - left]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Measurement:
    """A product's pixels, read by windows."""

    path: Path
    product: GrdProduct
    scratch: Path

    def dn(self, channel: GrdChannel, window: ImageWindow) -> U16:
        """Digital numbers of a channel's window."""
        return read_dn(self.path, self.product, channel, window, self.scratch)


def read_block(block: SafeBlock, terrain: Terrain | None, config: SafeConfig, scratch: Path) -> SarPixels:
    """Backscatter in linear power on block.grid with masks, NaN without data; all NaN where the image is missed.

    Raises SourceError where a file is missing, damaged or not as described, a DEM does not cover the block or is
    needed, OutputError where scratch cannot be written.
    """
    product = load_product(block.path, block.orbit_file, block.digest)
    geometry = product.geometry
    surface = (
        _level(geometry, block.grid, config) if terrain is None else _relief(geometry, block.grid, terrain, config)
    )
    window = surface.lattice.window()
    flatten_gamma = terrain is not None and config.flatten_terrain and config.quantity == "gamma0"
    incidence_deg = _incidence_deg(geometry, block.grid, surface.heights_m)
    channels = [channel for name in block.polarisations for channel in product.channels if channel.polarisation == name]
    measured = _Measurement(path=block.path, product=product, scratch=scratch)
    image = _image(measured, channels, window, "beta0" if flatten_gamma else config.quantity, config)
    layover_shadow, local_incidence_deg, complete = None, None, True
    if terrain is not None and window.lines:
        seen = flatten(surface.wide, surface.wide_heights_m, surface.margin, window, resolution_px=config.resolution_px)
        layover_shadow, local_incidence_deg = seen.layover | seen.shadow, seen.incidence_deg
        complete = seen.complete
        if flatten_gamma:
            image *= seen.area_factor
    heights_m = surface.heights_m.astype(np.float32)
    remarks = {
        TIE_POINT_HEIGHTS: terrain is None,
        NOT_FLATTENED: config.quantity == "gamma0" and not flatten_gamma,
        DEM_HOLES: bool(np.isnan(heights_m).any()),
        TERRAIN_CUT_OFF: terrain is not None and (not complete or bool(np.isnan(surface.wide_heights_m).any())),
    }
    return SarPixels(
        sar=resample(image, window, surface.lattice, heights_m, config.resampling),
        layover_shadow=layover_shadow,
        local_incidence_deg=local_incidence_deg,
        incidence_deg=incidence_deg,
        noise_floor=tuple(_noise_floor(channel, window, incidence_deg, config) for channel in channels),
        flags=tuple(name for name, holds in remarks.items() if holds),
    )


@lru_cache(maxsize=4)
def load_product(path: Path, orbit_file: Path | None, planned_digest: str) -> GrdProduct:
    """The product as it was planned. The last few products are kept in the process.

    Raises SourceError as open_product does, and where its files are not those of the plan.
    """
    if product_and_orbit_digest(path, orbit_file) != planned_digest:
        raise SourceError(f"{path}: it or its orbit file has changed since the build was planned. Build again.")
    return open_product(path, orbit_file)


def _level(geometry: GrdGeometry, grid: RasterGrid, config: SafeConfig) -> _Surface:
    heights_m = tie_point_heights(geometry, grid, config)
    return _Surface(wide=_lattice(geometry, grid, heights_m, config), wide_heights_m=heights_m, margin=(0, 0))


def _relief(geometry: GrdGeometry, grid: RasterGrid, terrain: Terrain, config: SafeConfig) -> _Surface:
    """Heights of a DEM with the margin that their relief asks for. How wide that is, a coarse look at a wide area shows
    first."""
    at_most = int(LOOK_M / grid.gsd_m)
    wide, margin = grid, (0, 0)
    heights_m = terrain.heights(coarse_look(grid), strict=False)
    lattice = _lattice(geometry, grid, heights_m, config)
    while True:
        asked = margin_px(lattice, float(np.nanmax(heights_m) - np.nanmin(heights_m)))
        rows, cols = (min(max(more, known), at_most) for more, known in zip(asked, margin, strict=True))
        if (rows, cols) == margin:
            return _Surface(wide=lattice, wide_heights_m=heights_m, margin=margin)
        margin = (rows, cols)
        wide = grid.window(-rows, -cols, grid.rows + 2 * rows, grid.cols + 2 * cols)
        heights_m = terrain.heights(wide)
        lattice = _lattice(geometry, wide, heights_m, config)


def _lattice(geometry: GrdGeometry, grid: RasterGrid, heights_m: F64, config: SafeConfig) -> Lattice:
    convention = Convention(
        ground_range=config.ground_range_rule, azimuth=config.azimuth_rule, troposphere=config.troposphere
    )
    return fit_lattice(geometry, grid, (float(np.nanmin(heights_m)), float(np.nanmax(heights_m))), convention)


def _incidence_deg(geometry: GrdGeometry, grid: RasterGrid, heights_m: F64) -> float | None:
    """Angle of incidence in the middle of a block, against the ellipsoid; None where the satellite does not see it."""
    middle = np.array([(grid.rows - 1) / 2]), np.array([(grid.cols - 1) / 2])
    point = node_points(grid, *middle, np.array([np.nanmean(heights_m)]))
    angle_deg = float(image_coordinates(geometry, point, Convention()).incidence_deg.item())
    return angle_deg if math.isfinite(angle_deg) else None


def _image(
    measured: _Measurement, channels: list[GrdChannel], window: ImageWindow, quantity: Quantity, config: SafeConfig
) -> F32:
    """A quantity on a window in radar geometry, (polarisations, lines, samples) linear power, NaN without data."""
    image = np.empty((len(channels), window.lines, window.samples), np.float32)
    if not image.size:
        return image
    for number, channel in enumerate(channels):
        dn = measured.dn(channel, window)
        image[number] = calibrate(dn, window, channel, quantity, denoise=config.remove_thermal_noise)
    if config.mask_border_noise:
        geometry, co_polarised = measured.product.geometry, measured.product.channels[0]
        strips = edge_strips(window, geometry.lines, geometry.samples)
        depths = [edge_depth(measured.dn(co_polarised, strip.window), strip, co_polarised) for strip in strips]
        image[:, ~valid_samples(window, depths)] = np.nan
    return image


def _noise_floor(channel: GrdChannel, window: ImageWindow, incidence_deg: float | None, config: SafeConfig) -> float:
    """Noise-equivalent backscatter in the quantity of the image."""
    sigma0 = (nesz(channel, window) if window.lines else None) or USUAL_NESZ
    against_sight = config.quantity == "gamma0" and incidence_deg is not None
    return sigma0 / math.cos(math.radians(incidence_deg)) if against_sight and incidence_deg is not None else sigma0
