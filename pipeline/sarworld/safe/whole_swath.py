"""Products of full size, for measuring memory and speed. A whole swath is written in strips.

The image shows level ground of one backscatter, with noise and repeated speckle. The DEM holds repeated hills, so that
geocoding and flattening have their usual work. Image and relief do not belong together; a scene that can be compared
with its truth is written by known_scene.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import rasterio
from rasterio.transform import Affine
from rasterio.windows import Window

from sar1m.core.radar.product import GrdChannel, GrdProduct
from sar1m.core.speckle import speckle_field
from sarworld.fields import fractal_field, keyed_rng
from sarworld.safe.frame import Frame, make_frame
from sarworld.safe.ground import reference_height_m
from sarworld.safe.known_scene import stated_beside
from sarworld.safe.measurement import Strip
from sarworld.safe.package import write_product
from sarworld.safe.partners import ARC_SECOND_DEG
from sarworld.safe.product import make_product
from sarworld.safe.radiometry import BETA_GAIN, level_ground, noise_power
from sarworld.safe.scenario import SceneSpec

STRIP_LINES: Final = 256
TILE_PX: Final = 2048
GAMMA0: Final = 0.08
HILLS_PX: Final = 1024  # period of the relief, 30 km; a length for which fractal fields are periodic
DEM_MARGIN_DEG: Final = 0.1


def write_whole_swath(folder: Path, spec: SceneSpec) -> Path:
    """Writes a product of level ground and a DEM of 1 arc second around it; returns the product's path.

    Memory does not grow with the number of lines.

    spec: its acquisition, signal, lines, samples and ground.relief_m are used.
    """
    frame = make_frame(spec, reference_height_m(spec))
    product = make_product(spec, frame, lambda lon, lat: np.full_like(lon + lat, frame.reference_height_m))
    path = write_product(
        folder,
        product,
        stated_beside(spec, frame),
        lambda channel: _strips(spec, frame, channel),
        zipped=spec.zipped,
    )
    _write_hills(folder / "dem", spec, product)
    return path


def _strips(spec: SceneSpec, frame: Frame, channel: GrdChannel) -> Iterator[Strip]:
    level, sample = level_ground(frame), np.arange(frame.samples)
    rng = keyed_rng(spec.seed, spec.name, f"SAFE speckle {channel.polarisation}")
    tile = speckle_field(rng, (STRIP_LINES, TILE_PX), looks=spec.signal.looks or 4.4, correlated=spec.signal.correlated)
    speckle = np.tile(tile, (1, -(-frame.samples // TILE_PX)))[:, : frame.samples]
    blank = spec.signal.blank_px
    for line in range(0, frame.lines, STRIP_LINES):
        last = min(line + STRIP_LINES, frame.lines)
        angle = np.radians(level.incidence_deg([(line + last) / 2], sample)[0])
        power = noise_power(channel, slice(line, last), frame.samples)
        power += (GAMMA0 * BETA_GAIN**2 / np.tan(angle)).astype(np.float32)
        power *= np.roll(speckle, 131 * line, axis=1)[: last - line]
        numbers = np.maximum(np.rint(np.sqrt(power)), 1).astype(np.uint16)
        numbers[:, :blank] = 0
        numbers[:, frame.samples - blank :] = 0
        yield line, numbers


def _write_hills(folder: Path, spec: SceneSpec, product: GrdProduct) -> None:
    """Writes ellipsoidal heights over the product's footprint, in strips of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    hills = fractal_field(
        keyed_rng(spec.seed, spec.name, "relief"), (HILLS_PX, HILLS_PX), slope=4.4, longest_px=300, shortest_px=4
    )
    heights = (reference_height_m(spec) + spec.ground.relief_m * hills).astype(np.float32)
    grid = product.geometry.grid
    left, top = grid.lon.min() - DEM_MARGIN_DEG, grid.lat.max() + DEM_MARGIN_DEG
    cols = round((grid.lon.max() + DEM_MARGIN_DEG - left) / ARC_SECOND_DEG)
    rows = round((top - grid.lat.min() + DEM_MARGIN_DEG) / ARC_SECOND_DEG)
    with rasterio.open(
        folder / f"{spec.name}-dem.tif",
        "w",
        driver="GTiff",
        count=1,
        height=rows,
        width=cols,
        dtype="float32",
        crs="EPSG:4979",
        transform=Affine(ARC_SECOND_DEG, 0, left, 0, -ARC_SECOND_DEG, top),
        tiled=True,
        blockxsize=512,
        blockysize=512,
    ) as dataset:
        across = np.arange(cols) % HILLS_PX
        for row in range(0, rows, 512):
            count = min(512, rows - row)
            down = np.arange(row, row + count) % HILLS_PX
            dataset.write(heights[np.ix_(down, across)], 1, window=Window(0, row, cols, count))
