"""A simulated scene over one block, for tests of the source `safe` and of builds from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig, SafeConfig
from sar1m.core.grid import block_grids, cells_at, centres_lonlat, make_cells
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import Ground, Partners, SceneSpec
from sarworld.safe.truth import SafeTruth

CONFIG = BuildConfig(
    grid=GridConfig(patch_px=64, patches_per_side=2, halo_px=8),
    registration=RegistrationConfig(search_px=8),
    safe=SafeConfig(dem_datum="ellipsoid"),
)
SHIFT_PX = (1.0, -2.0)


def with_safe(config: BuildConfig = CONFIG, **keys: object) -> BuildConfig:
    """A configuration with some keys of [safe] changed."""
    return config.model_copy(update={"safe": config.safe.model_copy(update=keys)})


def block_scene(folder: Path, **changes: object) -> SafeTruth:
    """Writes a scene of some 3 km around the middle of a block in the Alps, hills of 60 m, and its partners."""
    lon, lat = centres_lonlat(block_grids(make_cells(*cells_at([11.5], [47.3])), CONFIG.grid))
    spec = SceneSpec(
        seed=2,
        name="small",
        lon=float(lon[0]),
        lat=float(lat[0]),
        lines=300,
        samples=320,
        ground=Ground(relief_m=60.0),
        partners=Partners(optical_shift_px=SHIFT_PX),
        zipped=True,
    )
    return write_scene(folder, replace(spec, **changes))
