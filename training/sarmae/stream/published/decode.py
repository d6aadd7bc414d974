"""Single pictures of a published data set: 8-bit PNG or JPEG, of unknown origin, so nothing in them is trusted."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import numpy as np
from PIL import Image

from sar1m.store.errors import StoreError

_FORMATS: Final = ("PNG", "JPEG")
_MODES: Final = ("L", "LA", "P", "RGB", "RGBA")  # 8 bits a channel
_MAX_PIXELS: Final = 1 << 26  # 8192 x 8192; the scenes behind the published chips are no larger
_DAMAGE: Final = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)  # Pillow's answers to damage


def picture_size(path: Path) -> tuple[int, int]:
    """(rows, columns) from the header; no pixel is decoded. StoreError as read_centre, damage beyond the header
    excepted."""
    with _opened(path) as picture:
        return picture.height, picture.width


def read_centre(path: Path, size_px: int, colours: Literal["L", "RGB"]) -> np.ndarray:
    """(1 or 3, size_px, size_px) uint8 from the middle of a picture: rows from (height - size_px) // 2, columns alike.

    "L": grey as it is, three equal colours as that grey, others as luminance (ITU-R BT.601). "RGB": grey three times.
    Alpha is dropped. Black, 0, becomes 1, since 0 means no data in every array here, as in the pipeline's own display
    encoding. Raises StoreError where the file is missing, no PNG or JPEG, damaged, truncated, of more than 8 bits a
    channel, of more than 2^26 px (refused before it is decoded), or smaller than size_px.
    """
    with _opened(path) as picture:
        top, left = (picture.height - size_px) // 2, (picture.width - size_px) // 2
        if min(top, left) < 0:
            raise StoreError(f"{path}: {picture.height} x {picture.width} px; at least {size_px} x {size_px} expected.")
        window = picture.crop((left, top, left + size_px, top + size_px))
        window.info.pop("transparency", None)  # of palettes: dropping it is meant, and Pillow would warn
        pixels = np.maximum(np.asarray(window.convert(colours)), 1)
    return pixels[None] if colours == "L" else np.moveaxis(pixels, -1, 0)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=_FORMATS) as picture:
            if picture.mode not in _MODES:
                raise StoreError(f"{path}: pixels stored as {picture.mode}; 8 bits of grey or colour expected.")
            if picture.width * picture.height > _MAX_PIXELS:
                raise StoreError(f"{path}: {picture.height} x {picture.width} px; at most {_MAX_PIXELS} px expected.")
            yield picture
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise StoreError(f"{path}: far more than {_MAX_PIXELS} px by its header. Not decoded.") from None
    except FileNotFoundError:
        raise StoreError(f"{path}: is missing.") from None
    except _DAMAGE as error:
        raise StoreError(
            f"{path}: cannot be decoded ({type(error).__name__}); a whole PNG or JPEG picture expected."
        ) from error
