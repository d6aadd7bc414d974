"""Pictures of the page: of every sample while they fit, of a spread choice beyond.

The size of a page must not grow with a release for ever. Up to PICTURES_BYTES all samples have pictures; beyond it
those that come first in an order that goes round splits, classes and countries, the same for the same samples.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from PIL import Image

from sar1m.core.table import keyed_hash
from sar1m.page.previews import PreviewReader, Rendering, Stretch
from sar1m.releases.catalogue import class_names
from sar1m.releases.explorer.encoding import Json
from sar1m.releases.explorer.rows import texts
from sar1m.store.places.folder import FolderPlace

PICTURES_BYTES: Final = 40 * 2**20  # of WebP; a third more as base64
FULL_PX, SMALL_PX = 256, 128  # longest side, with up to FULL_SIZE_MOST samples and with more
FULL_SIZE_MOST: Final = 1_000
QUALITY: Final = 62  # of WebP: speckle survives, a pair of 128 px takes some 6 kB
PART_PICTURES: Final = 48
PICTURE_COLUMNS: Final = ("split", "index", "sample_id", "paired", "bands", "sar_nodata_frac", "optical_nodata_frac")


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """positions: of the samples that have pictures, ascending. sar, optical: their WebP files in that order; optical
    None where unpaired. longest_px: of a side."""

    positions: tuple[int, ...]
    sar: tuple[bytes, ...]
    optical: tuple[bytes | None, ...]
    longest_px: int

    def parts(self) -> Iterator[Json]:
        """PART_PICTURES samples a part, as pairs of base64 texts."""
        pairs = [[_base64(sar), _base64(optical)] for sar, optical in zip(self.sar, self.optical, strict=True)]
        for start in range(0, len(pairs), PART_PICTURES):
            yield pairs[start : start + PART_PICTURES]


def draw_pictures(root: Path, samples: pd.DataFrame, stretch: Stretch) -> Pictures:
    """Reads the pixels of as many samples as fit. samples: in store order. Raises StoreError where some are missing."""
    longest_px = FULL_PX if len(samples) <= FULL_SIZE_MOST else SMALL_PX
    reader = PreviewReader(FolderPlace(root), stretch, longest_px)
    found: dict[int, tuple[bytes, bytes | None]] = {}
    left = PICTURES_BYTES
    for position in spread_order(samples):
        row = samples.iloc[position][list(PICTURE_COLUMNS)].to_dict()
        sar, optical = reader.pictures(row)
        pair = (webp(sar), None if optical is None else webp(optical))
        left -= len(pair[0]) + len(pair[1] or b"")
        if left < 0:
            break
        found[position] = pair
    positions = tuple(sorted(found))
    return Pictures(
        positions=positions,
        sar=tuple(found[position][0] for position in positions),
        optical=tuple(found[position][1] for position in positions),
        longest_px=longest_px,
    )


def spread_order(samples: pd.DataFrame) -> Sequence[int]:
    """Positions of all samples, one of every split, class and country before a second of any, by a keyed hash of the
    sample's name among equals."""
    table = pd.DataFrame(
        {
            "split": samples["split"].to_numpy(),
            "class": class_names(samples),
            "country": texts(samples, "country"),
            "draw": keyed_hash(samples["sample_id"], seed=0, purpose="explorer pictures"),
        }
    ).sort_values("draw", kind="stable")
    table["turn"] = table.groupby(["split", "class", "country"], sort=False).cumcount()
    order: list[int] = table.sort_values(["turn", "draw"], kind="stable").index.tolist()
    return order


def webp(picture: Rendering) -> bytes:
    """A WebP file, see-through where there are no data."""
    colours, valid = picture
    shown = colours if valid.all() else np.dstack([colours, np.where(valid, 255, 0).astype(np.uint8)])
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "WEBP", quality=QUALITY, method=4)
    return buffer.getvalue()


def _base64(content: bytes | None) -> str | None:
    return None if content is None else "data:image/webp;base64," + base64.b64encode(content).decode()
