"""The pipeline's own functions from a SAFE product to a map, for comparison with a simulated scene's truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sar1m.config import SafeConfig
from sar1m.core.radar.calibration import calibrate
from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import Lattice, fit_lattice
from sar1m.core.radar.product import Convention, GrdProduct, ImageWindow
from sar1m.core.radar.terrain import Flattening, flatten, margin_px
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.product import read_product
from sar1m.records import RasterGrid
from sarworld.safe.scenario import Reflector
from sarworld.safe.truth import KnownReflector, SafeTruth


@dataclass(frozen=True, kw_only=True)
class Geocoded:
    """On grid: power (P, rows, cols), and where the block was flattened its terrain."""

    grid: RasterGrid
    power: np.ndarray
    lattice: Lattice
    window: ImageWindow
    terrain: Flattening | None


def imaged_block(truth: SafeTruth, *, keep_px: int = 40) -> tuple[slice, slice]:
    """Rows and columns of the largest centred square block of the truth's grid that shows inside the image."""
    lines, samples = truth.image.valid.shape
    seen = (truth.map.line > keep_px) & (truth.map.line < lines - keep_px)
    seen &= (truth.map.sample > keep_px) & (truth.map.sample < samples - keep_px)
    rows, cols = seen.shape
    half = min(rows, cols) // 2
    while not seen[rows // 2 - half : rows // 2 + half, cols // 2 - half : cols // 2 + half].all():
        half -= 8
    return slice(rows // 2 - half, rows // 2 + half), slice(cols // 2 - half, cols // 2 + half)


def block_grid(truth: SafeTruth, block: tuple[slice, slice]) -> RasterGrid:
    rows, cols = block
    return truth.map.grid.window(rows.start, cols.start, rows.stop - rows.start, cols.stop - cols.start)


def read_power(path: Path, product: GrdProduct, window: ImageWindow, quantity: str, scratch: Path) -> np.ndarray:
    """(P, lines, samples) linear power, denoised."""
    return np.stack(
        [
            calibrate(read_dn(path, product, channel, window, scratch), window, channel, quantity, denoise=True)
            for channel in product.channels
        ]
    )


def geocode_sigma0(
    truth: SafeTruth,
    heights_m: np.ndarray,
    block: tuple[slice, slice],
    scratch: Path,
    *,
    convention: Convention | None = None,
    method: str = "bilinear",
    quantity: str = "sigma0",
) -> Geocoded:
    """Without flattening. heights_m: (rows, cols) of the block."""
    product = read_product(truth.path)
    grid = block_grid(truth, block)
    bounds = (float(np.nanmin(heights_m)) - 1, float(np.nanmax(heights_m)) + 1)
    lattice = fit_lattice(product.geometry, grid, bounds, convention or truth.spec.acquisition.convention)
    window = lattice.window()
    power = resample(read_power(truth.path, product, window, quantity, scratch), window, lattice, heights_m, method)
    return Geocoded(grid=grid, power=power, lattice=lattice, window=window, terrain=None)


def geocode_gamma0(
    truth: SafeTruth,
    block: tuple[slice, slice],
    scratch: Path,
    *,
    method: str = "bilinear",
    resolution_px: float | None = None,
) -> Geocoded:
    """With terrain flattening, heights those of the truth's map. resolution_px: None for that of the scene's image."""
    if resolution_px is None:
        resolution_px = SafeConfig().resolution_px if truth.spec.signal.resolved else 0.0
    product = read_product(truth.path)
    grid, convention = block_grid(truth, block), truth.spec.acquisition.convention
    low_m, high_m = float(truth.map.height_m.min()), float(truth.map.height_m.max())
    coarse = fit_lattice(product.geometry, grid, (low_m, high_m), convention)
    rows, cols = margin_px(coarse, high_m - low_m)
    wide_grid = grid.window(-rows, -cols, grid.rows + 2 * rows, grid.cols + 2 * cols)
    heights_m = padded_heights(truth, wide_grid)
    wide = fit_lattice(product.geometry, wide_grid, (float(heights_m.min()), float(heights_m.max())), convention)
    lattice = wide.crop(rows, cols)
    window = lattice.window()
    terrain = flatten(wide, heights_m, (rows, cols), window, resolution_px=resolution_px)
    beta0 = read_power(truth.path, product, window, "beta0", scratch)
    inner = heights_m[rows : rows + grid.rows, cols : cols + grid.cols]
    power = resample(beta0 * terrain.area_factor, window, lattice, inner, method)
    return Geocoded(grid=grid, power=power, lattice=lattice, window=window, terrain=terrain)


def padded_heights(truth: SafeTruth, grid: RasterGrid) -> np.ndarray:
    """Heights of a grid aligned with the truth's map; NaN outside it."""
    own = truth.map.grid
    row, col = round((own.top_m - grid.top_m) / own.gsd_m), round((grid.left_m - own.left_m) / own.gsd_m)
    heights = np.full((grid.rows, grid.cols), np.nan)
    rows, cols = np.arange(grid.rows) + row, np.arange(grid.cols) + col
    inside_r, inside_c = (rows >= 0) & (rows < own.rows), (cols >= 0) & (cols < own.cols)
    heights[np.ix_(inside_r, inside_c)] = truth.map.height_m[np.ix_(rows[inside_r], cols[inside_c])]
    return heights


def reflector_grid(count: int, pitch_m: float, cross_section_m2: float = 50_000.0) -> tuple[Reflector, ...]:
    """count x count reflectors around the scene's centre, a pitch apart, each at another place within its pixel."""
    offsets = (np.arange(count) - (count - 1) / 2) * pitch_m
    return tuple(
        Reflector(
            name=f"{i}-{j}",
            east_m=float(east + 10 * ((i * 0.37 + j * 0.61) % 1)),
            north_m=float(north + 10 * ((i * 0.53 + j * 0.29) % 1)),
            cross_section_m2=cross_section_m2,
        )
        for i, north in enumerate(offsets)
        for j, east in enumerate(offsets)
    )


def position_error_px(power: np.ndarray, grid: RasterGrid, known: KnownReflector, *, reach_px: int = 6) -> np.ndarray:
    """(right, down) in pixels by which a reflector shows beside its surveyed place: centroid of the power over the
    median around, iterated on a Gaussian window so that the window's own place does not matter."""
    col, row = (known.x_m - grid.left_m) / grid.gsd_m - 0.5, (grid.top_m - known.y_m) / grid.gsd_m - 0.5
    first_r, first_c = round(row) - 2 * reach_px, round(col) - 2 * reach_px
    patch = power[first_r : first_r + 4 * reach_px + 1, first_c : first_c + 4 * reach_px + 1]
    patch = patch - np.median(patch)
    peak = np.unravel_index(np.argmax(patch), patch.shape)
    place = np.array([peak[1], peak[0]], dtype=np.float64)
    y, x = np.mgrid[: patch.shape[0], : patch.shape[1]]
    for _ in range(30):
        weight = patch * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 1.5**2))
        centre = np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()
        place = place + 2 * (centre - place)  # a window as wide as the peak halves the step
    return place + np.array([first_c - col, first_r - row])


def bias_db(measured: np.ndarray, true: np.ndarray, where: np.ndarray) -> tuple[float, int]:
    """Ratio of means in dB over where, and how many pixels."""
    use = where & np.isfinite(measured) & np.isfinite(true)
    return float(10 * np.log10(measured[use].mean(dtype=np.float64) / true[use].mean(dtype=np.float64))), int(use.sum())


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((found & true).sum() / max((found | true).sum(), 1))
