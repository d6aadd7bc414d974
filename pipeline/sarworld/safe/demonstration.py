"""A simulated product, for trying the pipeline without a real one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sar1m.config import GridConfig
from sar1m.core.grid import block_grids, cells_at, centres_lonlat, make_cells
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import Ground, Partners, SceneSpec
from sarworld.safe.whole_swath import write_whole_swath

SIDE_PX: Final = 1700  # a block of 1056 px lies turned by some 14 degrees in the image, and hills reach beyond it
SWATH_LINES: Final = 16_700
SWATH_SAMPLES: Final = 26_000


def write_demonstration(folder: Path, *, lon: float, lat: float, relief_m: float, seed: int, whole_swath: bool) -> Path:
    """Writes a zipped product, its DEM and, unless it is a whole swath, an optical image; returns the product's path.

    The scene is centred on the block of the Major TOM cell at lon, lat (degrees), and contains all of it.

    relief_m: standard deviation of height. whole_swath: whether the image has the size of a real one.
    """
    (middle_lon,), (middle_lat,) = centres_lonlat(block_grids(make_cells(*cells_at([lon], [lat])), GridConfig()))
    spec = SceneSpec(
        seed=seed,
        name="simulated",
        lon=float(middle_lon),
        lat=float(middle_lat),
        lines=SWATH_LINES if whole_swath else SIDE_PX,
        samples=SWATH_SAMPLES if whole_swath else SIDE_PX,
        ground=Ground(relief_m=relief_m),
        partners=Partners(dem="lonlat", optical_shift_px=(1.0, -2.0)),
        zipped=True,
    )
    return write_whole_swath(folder, spec) if whole_swath else write_scene(folder, spec).path
