"""Which pixels of a raster hold no data: by nodata, by masks in the file or beside it, and by alpha bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import MaskFlags
from rasterio.windows import Window

from sar1m.io.files_beside import mask_beside
from sar1m.io.raster_open import RasterInput, input_name, opened
from sar1m.records import Bool
from sar1m.store.errors import SourceError

# What an alpha band holds where a pixel is opaque, by its type, as GDAL writes it; 255 in any other type.
_OPAQUE: Final = {"uint16": 65_535, "int16": 32_767}


def missing_by_mask(
    dataset: rasterio.DatasetReader, source: RasterInput, bands: Sequence[int], window: Window, alpha: Sequence[int]
) -> Bool:
    """Where a mask or an alpha band says that there is no data, (bands, rows, cols).

    A mask in the file or beside it marks missing pixels by 0, an alpha band by anything that is not opaque: nobody
    knows what would shine through.
    alpha: numbers of alpha bands.
    Raises SourceError where a mask beside the file is not of its size, or an alpha band holds 0 and 1.
    """
    missing = np.zeros((len(bands), window.height, window.width), dtype=np.bool_)
    for index, band in enumerate(bands):
        flags = set(dataset.mask_flag_enums[band - 1])
        if not flags & {MaskFlags.all_valid, MaskFlags.nodata, MaskFlags.alpha}:
            missing[index] |= dataset.read_masks(band, window=window) == 0
    for band in alpha:
        missing |= _transparent(dataset.read(band, window=window), input_name(source), band)
    beside = mask_beside(source) if isinstance(source, Path) else None
    if beside is not None:
        with opened(beside) as mask:
            if (mask.height, mask.width) != (dataset.height, dataset.width) or mask.count not in (1, dataset.count):
                raise SourceError(
                    f"{beside}: a mask of {mask.height} x {mask.width} px and {mask.count} band(s) beside a raster of "
                    f"{dataset.height} x {dataset.width} px and {dataset.count}. Remove it, or make it again."
                )
            for index, band in enumerate(bands):
                missing[index] |= mask.read(band if mask.count > 1 else 1, window=window) == 0
    return missing


def _transparent(alpha: npt.NDArray[Any], name: str, band: int) -> Bool:
    opaque = _OPAQUE.get(alpha.dtype.name, 255)
    if alpha.size and alpha.max() == 1:
        raise SourceError(
            f"{name}: the alpha band {band} holds no more than 1, where {opaque} means opaque. Write {opaque} for "
            "valid pixels, or make it an internal mask with gdal_translate -mask."
        )
    return np.asarray(alpha < opaque)
