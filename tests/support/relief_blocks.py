"""Simulated blocks whose SAR side was geocoded with a wrong DEM: each place is displaced by what its height is off."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sar1m.config import BuildConfig
from sar1m.records import BlockPixels, Candidate
from sar1m.sources.simulated import SimulatedSource
from sarworld.optics import Sun, clear_sky
from sarworld.radar import View
from sarworld.world import WorldSpec, build_world, view_optical, view_radar

VIEW = View(incidence_deg=38.0, look_azimuth_deg=78.0)
SUN = Sun(zenith_deg=35.0, azimuth_deg=140.0)
LOOKS = 4.4


@dataclass(frozen=True, kw_only=True, eq=False)
class ReliefBlock:
    """candidate and pixels of one block. truth_px: (n, 2) shift of the optical content against the SAR's, rows and
    columns, the mean over each patch. within_px: (n,) its standard deviation over the pixels of a patch."""

    candidate: Candidate
    pixels: BlockPixels
    truth_px: npt.NDArray[np.float64]
    within_px: npt.NDArray[np.float64]


def relief_block(
    config: BuildConfig,
    *,
    number: int,
    relief_m: float,
    tilt_m: float = 0.0,
    common_px: tuple[float, float] = (0.0, 0.0),
) -> ReliefBlock:
    """A block geocoded with a DEM that knows no relief and is tilted.

    Ground dh higher than the DEM is displaced towards the radar by dh / tan(incidence).

    number: of the block and its world. relief_m: standard deviation of height, 0 for level ground. tilt_m: by how much
    lower the DEM lies in the east than in the west. common_px: shift of the optical image as a whole.
    """
    candidate = list(SimulatedSource(number + 1).candidates(config))[number]
    side = candidate.grid.rows + 2 * candidate.halo_px
    gsd_m = candidate.grid.gsd_m
    spec = WorldSpec(seed=3, name=candidate.cell, rows=side, cols=side, gsd_m=gsd_m, relief_m=relief_m)
    world = build_world(spec, max_shift_px=8)
    margin = np.s_[world.margin_px : -world.margin_px, world.margin_px : -world.margin_px]
    height_m = world.height_m[margin].astype(np.float64)
    error_m = height_m - height_m.mean() + tilt_m * np.linspace(-0.5, 0.5, side)
    towards_px = error_m / np.tan(np.radians(VIEW.incidence_deg)) / gsd_m
    azimuth = np.radians(VIEW.look_azimuth_deg)
    displaced_px = np.stack([towards_px * np.cos(azimuth), -towards_px * np.sin(azimuth)])
    radar = view_radar(world, VIEW)
    # an image point shows what lies where its displacement started; relief is smooth against one displacement
    started = np.mgrid[:side, :side] - displaced_px
    moved = np.stack([ndimage.map_coordinates(p, started, order=1, mode="nearest") for p in radar.mean_power])
    sar = replace(radar, mean_power=moved).measured(spec, looks=LOOKS, correlated=False)
    optical = view_optical(world, SUN, common_px, clear_sky((side, side)))
    pixels = BlockPixels(sar=sar, optical=optical[:3], registration_optical=optical)
    patch, halo = config.grid.patch_px, candidate.halo_px
    areas = [
        np.s_[:, halo + place.row : halo + place.row + patch, halo + place.col : halo + place.col + patch]
        for place in candidate.patches
    ]
    shifts = np.array(common_px)[:, None, None] - displaced_px
    return ReliefBlock(
        candidate=candidate,
        pixels=pixels,
        truth_px=np.array([shifts[area].mean(axis=(1, 2)) for area in areas]),
        within_px=np.array([np.hypot(*shifts[area].std(axis=(1, 2))) for area in areas]),
    )
