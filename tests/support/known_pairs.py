"""Pictures of one made-up land cover as two sensors see it, of which the shift is known: drawn, never resampled."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning
from scipy import ndimage, spatial

from support.geotiffs import write_tiff

SUPERSAMPLED = 2
MARGIN_PX = 2


def power_and_bands(key=0, size=(384, 400), shift_px=(0.0, 0.0), looks=8.0, bands=3):
    """SAR power (H, W) and optical bands (bands, H, W) in 0..1. The optical content lies shift_px lower and further
    right: the parcels are looked up at the places that the moved pixels show, four a pixel."""
    rng = np.random.default_rng([key, 5])
    seeds = rng.uniform(-30, max(size) + 30, (max(size) ** 2 // 300, 2))
    parcels = spatial.KDTree(seeds)
    seen = [_parcels_seen(parcels, size, moved_px) for moved_px in ((0.0, 0.0), shift_px)]
    power = _drawn(rng.uniform(0.01, 0.3, len(seeds))[seen[0]])
    power *= rng.gamma(looks, 1 / looks, size)
    optical = [_drawn(rng.uniform(0.1, 0.8, len(seeds))[seen[1]]) for _ in range(bands)]
    return power.astype(np.float32), np.stack(optical).astype(np.float32)


def _parcels_seen(parcels, size, moved_px):
    """Numbers of parcels, four a pixel, with a margin of MARGIN_PX."""
    step = 1 / SUPERSAMPLED
    rows, cols = (np.arange(0.5 * step - MARGIN_PX, side + MARGIN_PX, step) for side in size)
    places = np.stack(np.meshgrid(rows - moved_px[0], cols - moved_px[1], indexing="ij"), axis=-1)
    return parcels.query(places.astype(np.float32))[1]


def _drawn(fine):
    rows, cols = (side // SUPERSAMPLED for side in fine.shape)
    coarse = fine.reshape(rows, SUPERSAMPLED, cols, SUPERSAMPLED).mean(axis=(1, 3))
    return ndimage.gaussian_filter(coarse, 0.7)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]


def eight_bit_amplitude(power):
    """A picture as SAR is often passed on: amplitude over its 99 % quantile, 8 bit."""
    amplitude = np.sqrt(power)
    return np.rint(255 * np.clip(amplitude / np.quantile(amplitude, 0.99), 0, 1)).astype(np.uint8)


def eight_bit(bands):
    """(H, W, 3) display picture of three bands, the first shown blue."""
    return np.rint(255 * np.clip(bands[::-1], 0, 1)).astype(np.uint8).transpose(1, 2, 0)


def write_pictures(root: Path, name: str, *, sar="sar", optical="optical", suffix=".png", **pair) -> Path:
    """root/sar/name.png in grey and root/optical/name.suffix in colours."""
    power, bands = power_and_bands(**pair)
    for folder, end, picture in (
        (sar, ".png", eight_bit_amplitude(power)),
        (optical, suffix, eight_bit(bands)),
    ):
        path = root / folder / f"{name}{end}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, **({"quality": 93} if end == ".jpg" else {}))
    return root


def write_raster(path: Path, planes, *, transform=None, crs=None, **options) -> Path:
    """A TIFF of (bands, H, W) or (H, W). options: of its profile, or what its bands state."""
    words = {key: options.pop(key) for key in ("units", "scales", "offsets", "descriptions") if key in options}
    place = {} if transform is None else {"transform": rasterio.Affine(*transform), "crs": crs}
    write_tiff(path, planes, **place, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "r+") as dataset:
            for name, value in words.items():
                setattr(dataset, name, value)
    return path
