"""Images with index masks, cut into tiles: Sen1Floods11, S1RTC beside LULC, AIR-PolSAR-Seg, images beside masks.

Scenes are cut into tiles of image_px from their upper left corner; what sticks out at the right and bottom is no data.
Tiles of one scene, and of scenes that are near-copies, are one group. Tiles without any labelled pixel are left out,
and a pixel without data in any channel has no label.
"""

# B batch, C channels, T tiles, H W pixels

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.errors import SourceError
from sarmae.evaluate.config import DatasetConfig
from sarmae.evaluate.datasets.mask_pairs import Pair, Pairs, find_pairs
from sarmae.evaluate.datasets.naming import LEFT_OUT, named_classes
from sarmae.evaluate.datasets.pictures import Kept, drawn, moments, root_of, stacked
from sarmae.evaluate.datasets.rasters import Scene, label_text, read_labels, read_scene, values_of
from sarmae.evaluate.near_copies import describe, find_groups
from sarmae.evaluate.records import IGNORED, Inputs, LabelledScenes
from sarmae.evaluate.splits import Samples, part_samples

# By the folder of the masks: what its numbers mean. LULC: TerraMesh's order of the 10 m map of ESRI and Impact
# Observatory, without gaps (Blumenstiel et al., arXiv 2504.11172). Sen1Floods11: Bonafilia et al., CVPRW 2020.
_LULC: Final = ("water", "trees", "flooded vegetation", "crops", "built area", "bare ground", "snow and ice", "clouds")
_MEANINGS: Final[Mapping[str, Mapping[str, str]]] = {
    "lulc": {"0": LEFT_OUT, **{str(number): name for number, name in enumerate((*_LULC, "rangeland"), start=1)}},
    "labelhand": {"0": "land", "1": "water"},
}
_REGION: Final = re.compile(r"([A-Za-z]+)[_-]")


@dataclass(frozen=True, kw_only=True, eq=False)
class _Tiles:
    """scene, row, col: (T,) int64; row and col are the upper left pixel."""

    scene: NDArray[np.int64]
    row: NDArray[np.int64]
    col: NDArray[np.int64]


class _Looked:
    """All scenes of a set, each read once and checked. scenes, labels: by number. dropped: numbers without data."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self.pairs = tuple(pairs)
        self.scenes = Kept(lambda number: read_scene(self.pairs[number].images).pixels)
        self.labels = Kept(lambda number: _ignoring(self.scenes(number), read_labels(self.pairs[number].mask)))


class TileImages:
    """(C, side, side) tiles of scenes."""

    def __init__(self, looked: _Looked, tiles: _Tiles, channels: int, side_px: int) -> None:
        self._looked, self._tiles, self._shape = looked, tiles, (channels, side_px, side_px)

    def __len__(self) -> int:
        return len(self._tiles.scene)

    def read(self, numbers: Sequence[int]) -> torch.Tensor:
        """(B, C, side, side) float32, NaN where there is no data."""
        return stacked((self._one(int(number)) for number in numbers), self._shape)

    def _one(self, number: int) -> NDArray[np.float32]:
        pixels = self._looked.scenes(int(self._tiles.scene[number]))
        cut = _cut(pixels, self._tiles, number, self._shape[1])
        tile = np.full(self._shape, np.nan, dtype=np.float32)
        tile[:, : cut.shape[1], : cut.shape[2]] = cut
        return tile
