"""Where patches stand on chips (rasters too small for a whole cell), margins, and the outlines of rasters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import shapely

from sar1m.config import GridConfig
from sar1m.core.grid import block_grids, cells_in_box, make_cells
from sar1m.core.sphere import near_to, wrapped
from sar1m.core.utm import lonlat_from_utm
from sar1m.io.header import RasterHeader
from sar1m.records import F64, Candidate, Cell, PatchPlace, RasterGrid
from sar1m.store.errors import ConfigError

_EDGE: Final = np.linspace(0.0, 1.0, 9)
_ASPECTS: Final = np.linspace(0.0, np.pi / 2, 35)[1:-1]  # of rectangles that are tried, as angles of their diagonals
_FIT: Final = 1e-4  # of the outline's size
_PATCH_STEP_PX = 16  # patch_px is a multiple of it


def chip_block(chip: RasterGrid, stem: str, config: GridConfig) -> tuple[RasterGrid, tuple[PatchPlace, ...]]:
    """The central part of a chip that holds as many whole patches as fit beside the halo, and those patches.

    A single patch takes the name of the chip; several are named `<chip>_<column from the west>_<row from the north>`.
    Raises ConfigError where not even one fits, naming the largest patch that would.
    """
    down, across = ((side - 2 * config.halo_px) // config.patch_px for side in (chip.rows, chip.cols))
    if down < 1 or across < 1:
        room_px = min(chip.rows, chip.cols) - 2 * config.halo_px
        largest_px = max(room_px // _PATCH_STEP_PX * _PATCH_STEP_PX, 0)
        raise ConfigError(
            f"{stem}: {chip.rows} x {chip.cols} px of {chip.gsd_m:g} m are too small for grid.patch_px = "
            f"{config.patch_px} with grid.halo_px = {config.halo_px} on each side. The largest patch here is "
            f"{largest_px} px at this halo; lower grid.patch_px or grid.halo_px."
        )
    rows, cols = down * config.patch_px, across * config.patch_px
    block = chip.window((chip.rows - rows) // 2, (chip.cols - cols) // 2, rows, cols)
    places = tuple(
        PatchPlace(
            name=stem if down * across == 1 else f"{stem}_{column}_{row}",
            row=row * config.patch_px,
            col=column * config.patch_px,
        )
        for row in range(down)
        for column in range(across)
    )
    return block, places


def blocks_meeting(footprint: shapely.Polygon, config: GridConfig) -> Iterator[tuple[Cell, RasterGrid]]:
    """The cells whose block meets a footprint, each with the block's grid, from south to north and west to east.

    footprint: in degrees, longitudes running on.
    """
    west, south, east, north = footprint.bounds
    cells = make_cells(*cells_in_box(float(wrapped(west)), south, float(wrapped(east)), north))
    shapely.prepare(footprint)
    for cell, grid in zip(cells, block_grids(cells, config), strict=True):
        if footprint.intersects(block_outline(grid, west)):
            yield cell, grid


def upright_inside(edges: F64) -> tuple[tuple[float, float, float, float], float]:
    """A large upright rectangle inside the outline of a raster on a map: left, bottom, right, top; and the
    share of the outline that it holds.

    edges: (4, n, 2) points along the four edges, in order. Where these stand nearly upright, it is the largest
    rectangle that they leave; where that holds less than half, the largest about the middle.
    """
    outline = shapely.Polygon(edges.reshape(-1, 2))
    west, *_, east = sorted(edges, key=lambda edge: float(edge[:, 0].mean()))
    south, *_, north = sorted(edges, key=lambda edge: float(edge[:, 1].mean()))
    left, bottom, right, top = map(float, (west[:, 0].max(), south[:, 1].max(), east[:, 0].min(), north[:, 1].min()))
    if left < right and bottom < top and (right - left) * (top - bottom) >= outline.area / 2:
        return (left, bottom, right, top), (right - left) * (top - bottom) / outline.area
    x, y = shapely.get_coordinates(outline.centroid)[0].tolist()
    shapely.prepare(outline)
    best, longest = (x, y, x, y), math.hypot(*np.ptp(edges.reshape(-1, 2), axis=0).tolist())
    for wide, high in zip(np.sin(_ASPECTS).tolist(), np.cos(_ASPECTS).tolist(), strict=True):
        inside, outside = 0.0, longest
        while outside - inside > longest * _FIT:
            half = (inside + outside) / 2
            box = shapely.box(x - half * wide, y - half * high, x + half * wide, y + half * high)
            inside, outside = (half, outside) if outline.contains(box) else (inside, half)
        if 4 * inside**2 * wide * high > (best[2] - best[0]) * (best[3] - best[1]):
            best = (x - inside * wide, y - inside * high, x + inside * wide, y + inside * high)
    return best, (best[2] - best[0]) * (best[3] - best[1]) / outline.area


def block_outline(grid: RasterGrid, near_lon: float) -> shapely.Polygon:
    """The corners of a UTM grid in degrees, longitudes within 180 of near_lon."""
    left, bottom, right, top = grid.bounds_m
    lon, lat = lonlat_from_utm([left, right, right, left], [top, top, bottom, bottom], grid.epsg)
    return shapely.Polygon(np.column_stack([near_to(lon, near_lon), lat]))


def grid_with_halo(candidate: Candidate) -> RasterGrid:
    """The grid that a work item's pixels cover: its block and the halo around it."""
    halo, grid = candidate.halo_px, candidate.grid
    return grid.window(-halo, -halo, grid.rows + 2 * halo, grid.cols + 2 * halo)


def lonlat_outline(header: RasterHeader) -> tuple[tuple[float, float], ...]:
    """Footprint of a raster: a closed ring of longitudes and latitudes, longitudes running on."""
    there, back, near, far = _EDGE[:-1], _EDGE[:0:-1], 0 * _EDGE[:-1], 0 * _EDGE[:-1] + 1
    rows = np.concatenate([near, there, far, back, [0.0]]) * header.rows
    cols = np.concatenate([there, far, back, near, [0.0]]) * header.cols
    lon, lat = header.lonlat(rows, cols)
    return tuple(zip(near_to(lon, lon[0]).tolist(), lat.tolist(), strict=True))
