"""Scenes and class masks from GeoTIFF and picture files.

Float rasters are backscatter in dB; integer rasters are pictures. In a mask, -1, 255 and NaN mean that there is no
label. TIFF files need rasterio, of the extra `evaluate`.
"""

# C channels, H W pixels

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sar1m.store.errors import SourceError
from sarmae.evaluate.datasets.mask_pairs import POLARISATIONS
from sarmae.evaluate.datasets.pictures import COLOURED, read_grey
from sarmae.evaluate.extra_packages import extra_package
from sarmae.evaluate.labelled_images import IGNORED, Units

_TIFF: Final = (".tif", ".tiff")
_NO_LABEL: Final = (-1, 255)
_TWO_BANDS: Final = ("VV", "VH")  # of Sentinel-1 products in this order; TerraMesh and Sen1Floods11 keep it
GREY: Final = ("grey",)


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterImage:
    """pixels: (C, H, W) float32, NaN where there is no data. channels: polarisations, or GREY."""

    pixels: NDArray[np.float32]
    units: Units
    channels: tuple[str, ...]


def read_scene(files: Mapping[str, Path]) -> RasterImage:
    """A scene from one file, or from one file for each polarisation. Infinite dB (no power) become no data.

    Raises SourceError where a file is broken, a band has no known polarisation, files differ in size or depth, or a
    float raster seems to be linear power. Raises ConfigError where rasterio is needed and not installed.
    """
    if tuple(files) == ("",):
        return _read_one(files[""])
    order = [name for name in POLARISATIONS if name in files]
    scenes = [_read_one(files[name], (name,)) for name in order]
    for name, scene in zip(order, scenes, strict=True):
        if scene.pixels.shape != scenes[0].pixels.shape or scene.units != scenes[0].units:
            raise SourceError(
                f"{files[name]}: {scene.pixels.shape} {scene.units}, but {files[order[0]]} is {scenes[0].pixels.shape} "
                f"{scenes[0].units}. The polarisations of a scene must lie on one grid."
            )
    return RasterImage(
        pixels=np.concatenate([scene.pixels for scene in scenes]), units=scenes[0].units, channels=tuple(order)
    )


def read_labels(path: Path) -> NDArray[np.int64]:
    """(H, W) class numbers, IGNORED where there is no label. A coloured mask gives 2^24 + 65536 red + 256 green + blue.

    Raises SourceError where the file is broken, has several bands that are not colours, or has fractional values.
    """
    values = _tiff(path)[0] if path.suffix.lower() in _TIFF else _picture_mask(path)
    if values.ndim == 3 and values.shape[0] >= 3 and values.dtype == np.uint8:
        values = _coloured(values[:3].astype(np.int64))
    elif values.ndim == 3:
        if values.shape[0] != 1:
            raise SourceError(f"{path}: {values.shape[0]} bands of {values.dtype}; one band of class numbers expected.")
        values = values[0]
    return _whole_numbers(path, values)


def label_text(label: int) -> str:
    """A label as `classes` names it: its number, or #rrggbb."""
    return f"#{label - (1 << 24):06x}" if label >= 1 << 24 else str(label)


def _coloured(channels: NDArray[np.int64]) -> NDArray[np.int64]:
    if (channels.max(axis=0) == channels.min(axis=0)).all():
        return np.asarray(channels[0])
    return np.asarray((1 << 24) + (channels[0] << 16) + (channels[1] << 8) + channels[2])


def _whole_numbers(path: Path, values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind == "f":
        known = np.where(np.isnan(values), IGNORED, values)
        if (fraction := known[known != np.floor(known)]).size or not np.isfinite(known).all():
            raise SourceError(
                f"{path}: a mask with the value {fraction[0] if fraction.size else 'inf'}; whole class numbers "
                "expected. Was it resampled? Use the nearest neighbour for masks."
            )
        values = known
    labels = values.astype(np.int64)
    return np.where(np.isin(labels, _NO_LABEL), IGNORED, labels)


def _picture_mask(path: Path) -> NDArray[Any]:
    """(H, W) or (channels, H, W). Of a palette, the numbers, not the colours."""
    try:
        with Image.open(path) as picture:
            if picture.mode in ("RGB", "RGBA"):
                return np.array(picture.convert("RGB")).transpose(2, 0, 1)
            return np.array(picture)
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read as a mask ({error}). Get the file again.") from None


def _read_one(path: Path, names: tuple[str, ...] = ()) -> RasterImage:
    if path.suffix.lower() not in _TIFF:
        return RasterImage(pixels=_float32(read_grey(path)[None]), units="picture", channels=names or GREY)
    bands, descriptions = _tiff(path)
    if bands.dtype.kind != "f":
        return RasterImage(pixels=_float32(_one_grey(path, bands)), units="picture", channels=names or GREY)
    pixels = _float32(bands)
    pixels[~np.isfinite(pixels)] = np.nan
    measured = pixels[~np.isnan(pixels)]
    if measured.size and measured.min() >= 0:
        raise SourceError(
            f"{path}: float values from {measured.min():g} to {measured.max():g}, none below 0; backscatter in dB "
            "expected. Is it linear power? Write 10 log10 of it. Pictures must be of 8 or 16 bits."
        )
    return RasterImage(pixels=pixels, units="dB", channels=names or _channels(path, len(bands), descriptions))


def _float32(pixels: NDArray[Any]) -> NDArray[np.float32]:
    return pixels.astype(np.float32)


def _one_grey(path: Path, bands: NDArray[Any]) -> NDArray[Any]:
    """(1, H, W) of one band, or of three that are equal."""
    spread = int(np.ptp(bands[:3].astype(np.int64), axis=0).max())
    if len(bands) != 1 and (len(bands) not in (3, 4) or spread > COLOURED):
        raise SourceError(
            f"{path}: {len(bands)} bands of {bands.dtype} that differ; one grey band, or float bands in dB, expected."
        )
    return bands[:1]


def _channels(path: Path, count: int, descriptions: Sequence[str | None]) -> tuple[str, ...]:
    named = tuple((text or "").upper() for text in descriptions)
    if all(name in POLARISATIONS for name in named) and len(set(named)) == count:
        return named
    if count == len(_TWO_BANDS):
        return _TWO_BANDS
    raise SourceError(
        f"{path}: {count} float band{'s' * (count != 1)} described as {', '.join(map(repr, descriptions))}; one of "
        f"{', '.join(POLARISATIONS)} each expected. Write it into the bands' descriptions."
    )


def _tiff(path: Path) -> tuple[NDArray[Any], tuple[str | None, ...]]:
    """(bands, H, W) in the type of the file, with NaN for the nodata of float bands; and the descriptions of the
    bands.
    """
    rasterio = extra_package("rasterio", f"{path}: reading a TIFF")
    try:
        with warnings.catch_warnings():
            # where a chip lies does not matter here
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as raster:
                bands, nodata, descriptions = raster.read(), raster.nodata, raster.descriptions
    except rasterio.errors.RasterioError as error:
        raise SourceError(f"{path}: cannot be read as a TIFF ({error}). Get the file again, or remove it.") from None
    if nodata is not None and bands.dtype.kind == "f":
        bands = np.where(bands == nodata, np.nan, bands)
    return bands, descriptions
