"""Heights of a block: of a DEM, of the sea beside it, or of a product's tie points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np
from scipy.interpolate import RegularGridInterpolator

from sar1m.config import SafeConfig
from sar1m.core.grid import bounds_lonlat
from sar1m.core.radar.product import GrdGeometry
from sar1m.core.radar.tie_points import annotated_tie_points, fit_tie_points, relief_error_px, tie_point_coordinates
from sar1m.core.sphere import KM_PER_DEGREE, east_of, turns_to
from sar1m.core.utm import lonlat_from_utm
from sar1m.io.dem.heights import Dem, open_dem
from sar1m.io.dem.sheets import parse_copernicus_name
from sar1m.records import F64, RasterGrid
from sar1m.sources.regions.countries import touches_land
from sar1m.store.errors import ConfigError, SourceError

LOOK_M: Final = 12_000.0  # around a block: 4 km high mountains fold that far at 18 degrees, where EW begins
COARSE_M: Final = 90.0
NODE_PX: Final = 64  # tie points stand a thousand pixels apart, and between them heights are linear
AROUND_M: Final = 30_000.0  # tie points stand 10 to 25 km apart
COPERNICUS_DEM: Final = (
    "DEM: produced using Copernicus WorldDEM-30 (c) DLR e.V. 2010-2014 and (c) Airbus Defence and Space GmbH 2014-2018 "
    "provided under COPERNICUS by the European Union and ESA; all rights reserved"
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Terrain:
    """Ellipsoidal heights from a DEM. sea_level: safe.sea_level of the configuration."""

    dem: Dem
    sea_level: str

    @property
    def description(self) -> str:
        """Name of the model, its datum and the geoid, for provenance."""
        return self.dem.description

    @property
    def attribution(self) -> str:
        """What must be printed where these heights shaped pixels; empty where nothing is known."""
        return COPERNICUS_DEM if "COP-DEM" in self.dem.description else ""

    def digest(self, grid: RasterGrid) -> str:
        """Of all that decides the heights on a grid and within LOOK_M around it."""
        return self.dem.digest(coarse_look(grid))

    def heights(self, grid: RasterGrid, *, strict: bool = True) -> F64:
        """Metres above the ellipsoid, (rows, cols), NaN in holes of the DEM, and without strict in missing tiles.

        Raises SourceError where a tile is missing over land, or the DEM has not one height on grid.
        """
        missing = self.dem.missing_tiles(grid)
        on_land = [name for name in missing if _holds_land(name, grid)] if self.sea_level == "auto" else []
        at_sea = self.sea_level == "always" or (self.sea_level == "auto" and bool(missing) and not on_land)
        heights_m = self.dem.heights(grid, sea_level_outside=at_sea)
        nowhere = not np.isfinite(heights_m).any()
        if on_land and (strict or nowhere):
            raise SourceError(
                f"{self.description}: no tile {', '.join(on_land)}, which this block or the terrain around it needs. "
                "Add it to the DEM's folder, or set safe.sea_level = always where there is nothing but sea."
            )
        if nowhere:
            west, south, east, north = bounds_lonlat([grid])[0]
            raise SourceError(
                f"{self.description}: has no height between {west:.3f} and {east:.3f} deg east, {south:.3f} and "
                f"{north:.3f} deg north. Give a DEM that covers the scene, or set safe.heights = tie_points."
            )
        return heights_m


def open_terrain(dem: Path | None, geoid: Path | None, config: SafeConfig) -> Terrain | None:
    """The terrain of a build; None where there is no DEM or heights are to be those of the tie points.

    Raises ConfigError where a DEM is demanded and there is none, and as io.dem.open_dem does.
    """
    if config.heights == "tie_points":
        return None
    if dem is None:
        if config.heights == "dem":
            raise ConfigError("safe.heights = dem, but there is no DEM. Put one into the folder dem, or set safe.dem.")
        return None
    found = open_dem([dem], datum=config.dem_datum, geoid=geoid)
    return Terrain(dem=found, sea_level=config.sea_level)


open_terrain_once = lru_cache(maxsize=4)(open_terrain)  # a worker reads hundreds of blocks over one terrain


def named_place(key: str, config: SafeConfig) -> Path | None:
    """The file or folder of dem, geoid, orbits or optical that the configuration names, None where it names none.
    Raises ConfigError where it is not there."""
    named = config.places.get(key)
    if named is None:
        return None
    if not Path(named).exists():
        raise ConfigError(f"safe.{key} = {named}: no such file or folder. Correct the path, or leave the key out.")
    return Path(named).absolute()


def coarse_look(grid: RasterGrid) -> RasterGrid:
    """A block and LOOK_M around it, in pixels of COARSE_M."""
    rows, cols = (math.ceil((size * grid.gsd_m + 2 * LOOK_M) / COARSE_M) for size in (grid.rows, grid.cols))
    return RasterGrid(
        epsg=grid.epsg,
        left_m=grid.left_m - LOOK_M,
        top_m=grid.top_m + LOOK_M,
        gsd_m=COARSE_M,
        rows=rows,
        cols=cols,
    )


def _holds_land(tile: str, grid: RasterGrid) -> bool:
    """Whether the part of a Copernicus tile that grid touches meets land."""
    name = parse_copernicus_name(Path(tile))
    if name is None:
        return True
    west, south, east, north = bounds_lonlat([grid])[0]
    tile_west, tile_south, tile_east, tile_north = name.edges_deg
    turn = float(turns_to(tile_west, west))
    east = east if east >= west else east + 360.0
    return touches_land(
        max(west, tile_west + turn), max(south, tile_south), min(east, tile_east + turn), min(north, tile_north)
    )


def tie_point_heights(geometry: GrdGeometry, grid: RasterGrid, config: SafeConfig) -> F64:
    """Heights between a product's tie points, (rows, cols): the ellipsoid lifted to the terrain's mean.

    Raises SourceError where safe.heights is auto and the tie points around differ by more than
    safe.max_relief_error_px allows: there a DEM is needed.
    """
    rows, cols = (np.linspace(0.5, size - 0.5, -(-size // NODE_PX) + 1) for size in (grid.rows, grid.cols))
    x_m, y_m = grid.left_m + cols * grid.gsd_m, grid.top_m - rows[:, None] * grid.gsd_m
    lon, lat = lonlat_from_utm(x_m, y_m, grid.epsg)
    if config.heights == "auto":
        _require_level(geometry, float(lon.mean()), float(lat.mean()), config)
    node_m = tie_point_coordinates(fit_tie_points(annotated_tie_points(geometry)), lon, lat).height_m
    pixels = np.meshgrid(np.arange(grid.rows) + 0.5, np.arange(grid.cols) + 0.5, indexing="ij", sparse=True)
    heights_m: F64 = RegularGridInterpolator((rows, cols), node_m)(tuple(pixels))
    return heights_m


def _require_level(geometry: GrdGeometry, lon: float, lat: float, config: SafeConfig) -> None:
    grid = geometry.grid
    east_deg = east_of(grid.lon, lon) * np.cos(np.radians(lat))
    away_m = np.hypot(east_deg, grid.lat - lat) * (1000 * KM_PER_DEGREE)
    near = away_m <= max(AROUND_M, float(np.sort(away_m)[3]))
    relief_m = float(np.ptp(grid.height_m[near]))
    error_px = float(relief_error_px(np.array(relief_m), grid.incidence_deg[near].min(), geometry.range_spacing_m))
    if error_px > config.max_relief_error_px:
        raise SourceError(
            f"{geometry.name}: without a DEM, and the tie points around differ by {relief_m:.0f} m in height, which "
            f"misplaces pixels by up to {error_px:.1f} px (safe.max_relief_error_px = {config.max_relief_error_px:g}). "
            "Put a DEM into the folder dem beside the products, or set safe.heights = tie_points to accept it."
        )
