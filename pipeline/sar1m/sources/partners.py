"""Which optical scene of a folder belongs to a block: cover by the rasters' outlines, choice by core.pairing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import numpy as np
import shapely

from sar1m.core.cover import block_shapes, cover_fractions
from sar1m.core.grid import centres_lonlat
from sar1m.core.pairing import MIN_PARTNER_COVER, nearest_partner
from sar1m.core.sphere import turns_to
from sar1m.records import F32, PatchPlace, RasterGrid
from sar1m.sources.layers import FolderPair, OpticalScene

Outline = tuple[tuple[float, float], ...]  # a closed ring in degrees, longitudes running on


class Outlined(Protocol):
    """What the choice needs of an optical scene."""

    @property
    def name(self) -> str: ...
    @property
    def acquired(self) -> datetime | None: ...
    @property
    def outline(self) -> Outline: ...


@dataclass(frozen=True, kw_only=True)
class NearbyScene:
    """An optical scene that a block may take. described: reads its description; only a scene that is taken needs it."""

    name: str
    acquired: datetime | None
    outline: Outline
    described: Callable[[], OpticalScene]


@dataclass(frozen=True, kw_only=True)
class PairAmongScenes:
    """A pair, and the optical scenes of which each of its blocks takes its own; none where the pair has its partner."""

    pair: FolderPair
    around: tuple[NearbyScene, ...] = ()


def partner_of(grid: RasterGrid, acquired: datetime | None, scenes: Sequence[Outlined]) -> int | None:
    """Number of the scene that a block takes; None where none covers enough of it.

    grid: of the block, without halo. acquired: time of its SAR scene.
    """
    return _chosen(covers([grid], scenes)[0], acquired, scenes)


def partners_of_patches(
    grid: RasterGrid,
    patches: Sequence[PatchPlace],
    patch_px: int,
    acquired: datetime | None,
    scenes: Sequence[Outlined],
) -> list[int | None]:
    """Number of the scene that each patch of a block takes; None for a patch that none covers enough.

    All patches take the block's own partner, but for those that it does not cover enough and another scene does.
    """
    whole = partner_of(grid, acquired, scenes)
    of_patches = covers([grid.window(place.row, place.col, patch_px, patch_px) for place in patches], scenes)
    found = []
    for cover in of_patches:
        kept = whole is not None and cover[whole] >= MIN_PARTNER_COVER
        own = None if kept else _chosen(cover, acquired, scenes)
        found.append(whole if own is None else own)
    return found


def meeting(outline: Outline, scenes: Sequence[NearbyScene]) -> tuple[NearbyScene, ...]:
    """Scenes whose outlines meet an outline."""
    area = shapely.Polygon(outline)
    near = []
    for scene in scenes:
        ring = np.asarray(scene.outline)
        ring[:, 0] += turns_to(ring[:, 0].mean(), area.centroid.x)
        if area.intersects(shapely.Polygon(ring)):
            near.append(scene)
    return tuple(near)


def covers(grids: Sequence[RasterGrid], scenes: Sequence[Outlined]) -> F32:
    """Shares of grids (N,) that scenes (S,) cover, (N, S), in 0..1."""
    lon, _ = centres_lonlat(grids)
    return cover_fractions(block_shapes(grids, float(lon[0])), [scene.outline for scene in scenes])


def _chosen(cover: F32, acquired: datetime | None, scenes: Sequence[Outlined]) -> int | None:
    apart_s = [_apart_s(scene.acquired, acquired) for scene in scenes]
    return nearest_partner(apart_s, np.asarray(cover).tolist(), [scene.name for scene in scenes])


def _apart_s(optical: datetime | None, sar: datetime | None) -> float | None:
    return None if optical is None or sar is None else (optical - sar).total_seconds()
