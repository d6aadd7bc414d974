"""Small labelled sets made up for tests and studies: targets by class, ships with boxes, land cover with index masks.

Every function is a pure function of its arguments: the same call writes the same bytes. What is simulated is named in
each docstring; nothing here is a picture of a real place.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.transform import Affine

F64 = NDArray[np.float64]
LAND_COVER = ("water", "field", "forest", "built")
# gamma0 in dB of VV and VH by class, and looks: water is dark, forest has the least difference between the two.
_BACKSCATTER_DB = np.array([[-22.0, -28.0], [-12.0, -19.5], [-9.0, -14.0], [-4.0, -12.0]])
_TEXTURE = (np.inf, 20.0, 30.0, 2.0)  # order of the gamma texture under the speckle; built-up is the roughest


def write_target_chips(folder: Path, classes: int = 6, per_class: int = 40, side_px: int = 64, seed: int = 0) -> Path:
    """folder/type-K/NNN.png: 8-bit amplitudes of targets, each class a layout of point scatterers of its own.

    Every chip turns the layout by an angle drawn anew, moves it by up to 2 px, lets each scatterer fade and puts it in
    single-look speckle. No chip is a copy of another.
    """
    for kind in range(classes):
        layout = _layout(np.random.default_rng([seed, 1, kind]), side_px)
        (folder / f"type-{kind}").mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            rng = np.random.default_rng([seed, 2, kind, number])
            Image.fromarray(_eight_bit(_target(rng, layout, side_px))).save(folder / f"type-{kind}/{number:03d}.png")
    return folder


def write_ship_scenes(folder: Path, scenes: int = 24, side_px: int = 256, seed: int = 0) -> Path:
    """folder/images/NNNN.png and folder/annotations/{train,test}.json (COCO; every third scene is tested).

    K-distributed sea clutter, 1 to 6 bright ships 10 to 40 px long at any heading, each third scene with a corner of
    land, which holds no ship and is as bright as a dim one. Boxes span the ships' corners.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    documents = {split: _empty_coco() for split in ("train", "test")}
    for number in range(scenes):
        rng = np.random.default_rng([seed, 3, number])
        intensity, boxes = _ship_scene(rng, side_px, land=number % 3 == 1)
        name = f"{number:04d}.png"
        Image.fromarray(_eight_bit(intensity)).save(folder / "images" / name)
        _tell_coco(documents["test" if number % 3 == 2 else "train"], number, name, boxes, side_px)
    for split, document in documents.items():
        (folder / f"annotations/{split}.json").write_text(json.dumps(document))
    return folder


def write_land_cover_masks(folder: Path, scenes: int = 12, side_px: int = 128, seed: int = 0) -> Path:
    """folder/images/NNN.tif (VV, VH in dB, float32) and folder/masks/NNN.tif (uint8, positions in LAND_COVER; 255: no
    label). Regions of the nearest seed point, backscatter by class with 4-look speckle over gamma texture.

    The first rows of every fourth scene are NaN in both bands; a disc of every third has no label.
    """
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number in range(scenes):
        rng = np.random.default_rng([seed, 4, number])
        cover = _regions(rng, side_px)
        db = _backscatter(rng, cover)
        if number % 4 == 3:
            db[:, : side_px // 16] = np.nan
        if number % 3 == 2:
            rows, cols = np.mgrid[:side_px, :side_px] - side_px // 2
            cover[rows**2 + cols**2 < (side_px // 10) ** 2] = 255
        write_tif(folder / f"images/{number:03d}.tif", db.astype(np.float32), ("VV", "VH"))
        write_tif(folder / f"masks/{number:03d}.tif", cover[None])
    return folder


def write_tif(path: Path, bands: NDArray[np.generic], names: tuple[str, ...] = ()) -> None:
    """(bands, rows, cols) as a GeoTIFF with 10 m pixels in UTM zone 33."""
    count, rows, cols = bands.shape
    shape = {"count": count, "height": rows, "width": cols, "dtype": bands.dtype}
    place = {"crs": "EPSG:32633", "transform": Affine(10, 0, 5e5, 0, -10, 5e6)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **shape, **place) as raster:
        raster.write(bands)
        for band, name in enumerate(names, start=1):
            raster.set_band_description(band, name)


def speckle(rng: np.random.Generator, shape: tuple[int, ...], looks: float = 1.0) -> F64:
    """Gamma-distributed intensity of mean 1."""
    return rng.gamma(looks, 1 / looks, shape)


def _eight_bit(intensity: F64) -> NDArray[np.uint8]:
    """Amplitude, scaled so that the sea or ground of mean intensity 1 stands at 40; bright ends saturate."""
    return np.clip(40 * np.sqrt(intensity), 0, 255).astype(np.uint8)


def _layout(rng: np.random.Generator, side_px: int) -> F64:
    """(n, 3): row, column from the centre in px, and intensity of scatterers: a fuselage and what stands out of it."""
    count = int(rng.integers(8, 16))
    reach = side_px * rng.uniform(0.18, 0.3)
    body = np.linspace(-reach, reach, count)
    spread = rng.normal(0, reach * rng.uniform(0.15, 0.6), count)
    return np.stack([body, spread, rng.uniform(6, 60, count)], axis=1)


def _target(rng: np.random.Generator, layout: F64, side_px: int) -> F64:
    angle = rng.uniform(0, 2 * math.pi)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    places = layout[:, :2] @ turn.T + side_px / 2 + rng.uniform(-2, 2, 2)
    power = layout[:, 2] * rng.gamma(4, 1 / 4, len(layout))
    rows, cols = np.mgrid[:side_px, :side_px]
    distance2 = (rows[..., None] - places[:, 0]) ** 2 + (cols[..., None] - places[:, 1]) ** 2
    reflected = (power * np.exp(-distance2 / (2 * 1.3**2))).sum(axis=2)
    return speckle(rng, (side_px, side_px)) * (1 + 0.3 * reflected) + 0.7 * reflected


def _ship_scene(rng: np.random.Generator, side_px: int, *, land: bool) -> tuple[F64, list[list[float]]]:
    texture = np.kron(rng.gamma(4, 1 / 4, (side_px // 4 + 1,) * 2), np.ones((4, 4)))[:side_px, :side_px]
    mean = texture
    rows, cols = np.mgrid[:side_px, :side_px]
    if land:
        mean = np.where(rows + cols < side_px * 0.45, 6 * rng.gamma(3, 1 / 3, texture.shape), mean)
    boxes: list[list[float]] = []
    for _ in range(int(rng.integers(1, 7))):
        length, heading = rng.uniform(10, 40), rng.uniform(0, math.pi)
        row, col = rng.uniform(side_px * 0.25, side_px * 0.95, 2)
        along = (rows - row) * math.sin(heading) + (cols - col) * math.cos(heading)
        across = (cols - col) * math.sin(heading) - (rows - row) * math.cos(heading)
        hull = (np.abs(along) < length / 2) & (np.abs(across) < length / 8 + 1)
        mean = np.where(hull, 25.0, mean)
        hit_rows, hit_cols = np.nonzero(hull)
        x0, y0 = float(hit_cols.min()), float(hit_rows.min())
        boxes.append([x0, y0, float(hit_cols.max()) + 1 - x0, float(hit_rows.max()) + 1 - y0])
    return speckle(rng, mean.shape) * mean, boxes


def _empty_coco() -> dict[str, list[dict[str, object]]]:
    return {"images": [], "annotations": [], "categories": [{"id": 1, "name": "ship"}]}


def _tell_coco(
    document: dict[str, list[dict[str, object]]], number: int, name: str, boxes: list[list[float]], side_px: int
) -> None:
    document["images"].append({"id": number, "file_name": name, "height": side_px, "width": side_px})
    for box in boxes:
        told = {"image_id": number, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        document["annotations"].append({"id": number * 100 + len(document["annotations"]), **told})


def _regions(rng: np.random.Generator, side_px: int) -> NDArray[np.uint8]:
    """(side, side): the class of the nearest of 12 points; every class has at least two."""
    points = rng.uniform(0, side_px, (12, 2))
    kinds = rng.permutation(np.arange(12) % len(LAND_COVER))
    places = np.stack(np.mgrid[:side_px, :side_px], axis=-1)
    distance2 = ((places[:, :, None] - points) ** 2).sum(axis=3)
    return kinds[distance2.argmin(axis=2)].astype(np.uint8)


def _backscatter(rng: np.random.Generator, cover: NDArray[np.uint8]) -> F64:
    """(2, side, side) dB: both bands share the texture, each has 4-look speckle of its own."""
    textures = [np.ones(cover.shape) if np.isinf(order) else speckle(rng, cover.shape, order) for order in _TEXTURE]
    texture = np.choose(cover, textures)
    mean_db = _BACKSCATTER_DB[cover].transpose(2, 0, 1)
    return mean_db + 10 * np.log10(texture * speckle(rng, (2, *cover.shape), 4.0))
