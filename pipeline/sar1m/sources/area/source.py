"""An area of the Earth, served by services of scenes: search, choose, and read block by block.

Cells are searched together: boxes of about 5 degrees a side at the equator, which follow the cells wherever they lie,
one query a box and service. What a cell takes depends on the scenes that cover it alone, not on the box it was in.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Final

import numpy as np

from sar1m.config import AreaConfig, BuildConfig
from sar1m.core.cover import BlockShapes, block_shapes, cover_fractions
from sar1m.core.grid import block_grids, corners_lonlat, make_cells
from sar1m.core.pairing import CoverTable, OpticalPasses, PairingRules, SarPasses, choose_scenes
from sar1m.core.sphere import east_of, turns_home, widest_gap
from sar1m.core.utm import FloatArray, IntArray
from sar1m.records import BlockPixels, Candidate, RasterGrid
from sar1m.sources.area.pricing import Pace, price_rows, require_within, total
from sar1m.sources.area.scene_plan import AreaPlan, PlanDraft, time_s
from sar1m.sources.failures import PlanFailures
from sar1m.sources.pixels import OpticalPixels, block_pixels
from sar1m.sources.placement import grid_with_halo
from sar1m.sources.regions.region import Region, cell_indices
from sar1m.sources.scene import Query, Scene, Service, land_cover_of, scene_from_text
from sar1m.store.errors import ConfigError, RegionError, SourceError

BOX_DEG: Final = 5.0  # side of a box that is searched at once
MAX_BOX_LON_DEG: Final = 60.0


@dataclass(frozen=True)
class AreaSource:
    """Work items of an area of the Earth.

    region: of kind area. sar, optical: services; without an optical service SAR is built alone.
    remarks: what was left out and why, complete once candidates has run to its end.
    """

    region: Region
    sar: Service
    optical: Service | None = None
    box_deg: float = BOX_DEG
    remarks: list[str] = field(default_factory=list, compare=False)
    failures: PlanFailures = field(default_factory=PlanFailures, compare=False)

    def __reduce__(self) -> tuple[type[AreaSource], tuple[Region, Service, Service | None]]:
        """Workers only read: the outline of the region, which may be megabytes, is not sent to them."""
        return AreaSource, (replace(self.region, geometry=None), self.sar, self.optical)

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """Work items by SAR scene, in the order of acquisition, then by cells from south to north and west to east.

        Raises what plan raises.
        """
        return self.candidates_of(self.plan(config), config)

    def candidates_of(self, plan: AreaPlan, config: BuildConfig) -> Iterator[Candidate]:
        """Work items of a plan that was made before. Raises ConfigError where they cost more than the budgets of
        [download] allow."""
        self.remarks[:] = [*plan.remarks(config.area.scenes_per_cell), *self._service_remarks()]
        require_within(total(plan, price_rows(plan, self.sar, self.optical, config), config, Pace()), config.download)
        return plan.candidates(config)

    def _service_remarks(self) -> list[str]:
        """What the services left out while they were searched, each remark once."""
        remarks = (line for service in (self.sar, self.optical) for line in getattr(service, "remarks", ()))
        return list(dict.fromkeys(remarks))  # both may be one service

    def plan(self, config: BuildConfig) -> AreaPlan:
        """Searches the services and chooses scenes for every cell; no pixel is read.

        Raises ConfigError where period, layout or services do not fit, RegionError where the region is no area,
        SourceError where a service fails.
        """
        _require_usable(config, self.sar, self.optical)
        if self.region.geometry is None:
            raise RegionError(f"{self.region.label}: is no area of the Earth; services are asked for areas only.")
        row, column = cell_indices(self.region.geometry)
        lon, _ = corners_lonlat(row, column)
        draft = PlanDraft.of(row, column)
        for numbers in search_boxes(row, column, self.box_deg):
            grids = block_grids(make_cells(row[numbers], column[numbers]), config.grid)
            self._plan_box(numbers, block_shapes(grids, float(lon[numbers[0]])), config.area, draft)
        return draft.finished(self.region.label, (self.sar.name, self.optical.name if self.optical else None))

    def _plan_box(self, numbers: IntArray, blocks: BlockShapes, area: AreaConfig, draft: PlanDraft) -> None:
        sar, optical = self._search(_box_around(blocks), area)
        draft.searches += 1 + (self.optical is not None and bool(sar))
        draft.found += len(sar) + len(optical)
        covers = CoverTable(
            sar=cover_fractions(blocks, [scene.footprint for scene in sar]),
            optical=cover_fractions(blocks, [scene.footprint for scene in optical]),
        )
        chosen = choose_scenes(_sar_passes(sar), _optical_passes(optical), covers, rules(area))
        draft.add(numbers, sar, optical, covers, chosen)

    def _search(self, box: tuple[float, float, float, float], area: AreaConfig) -> tuple[list[Scene], list[Scene]]:
        """SAR scenes of the period, and optical scenes of the period and area.pair_days before and after it."""
        first, last, wanted = _midnight(area.first), _midnight(area.last), tuple(area.polarisations)
        found = self.sar.search(Query(kind="sar", box=box, first=first, last=last, polarisations=wanted))
        sar = [scene for scene in _each_once(found) if set(wanted) <= set(scene.polarisations)]
        if self.optical is None or not sar:
            return sar, []
        margin, cloud = timedelta(days=area.pair_days), area.max_scene_cloud_frac
        query = Query(kind="optical", box=box, first=first - margin, last=last + margin, max_cloud_frac=cloud)
        return sar, _each_once(self.optical.search(query))

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """Pixels of one work item from the services. Raises SourceError as they do, and where the work item was planned
        with other services."""
        grid, handle = grid_with_halo(candidate), dict(candidate.handle)
        sar_scene = self._scene(handle["sar"], candidate.item_id, self.sar)
        partner = OpticalPixels()
        if handle["optical"]:
            if self.optical is None:
                raise SourceError(f"{candidate.item_id}: planned with an optical partner, but area.optical is none.")
            scene = self._scene(handle["optical"], candidate.item_id, self.optical)
            partner = self.optical.read_optical(scene, grid, config)
        sar = self.sar.read_sar(sar_scene, grid, config)
        if config.area.land_cover:
            partner = self._with_land_cover(partner, grid)
        return block_pixels(sar, partner)

    def _with_land_cover(self, partner: OpticalPixels, grid: RasterGrid) -> OpticalPixels:
        reader = land_cover_of((self.sar, self.optical))
        if reader is None:
            raise _no_land_cover(self.sar, self.optical)
        cover = reader.read(grid)
        return replace(
            partner,
            land_cover=cover.land_cover,
            land_cover_names=cover.land_cover_names,
            water=cover.water,
            flags=partner.flags | cover.flags,
        )

    def _scene(self, text: str, item_id: str, service: Service) -> Scene:
        scene = scene_from_text(text, item_id)
        if scene.service != service.name:
            raise SourceError(
                f"{item_id}: planned with {scene.service}, read with {service.name}. Set area.sar and area.optical to "
                "the services of the plan, or plan again."
            )
        return scene


def rules(area: AreaConfig) -> PairingRules:
    """The rules of pairing that the configuration sets."""
    return PairingRules(
        scenes_per_cell=area.scenes_per_cell,
        seasons=area.seasons,
        pair_days=area.pair_days,
        max_cloud_frac=area.max_scene_cloud_frac,
        min_cover=area.min_cell_cover,
        orbit=area.orbit,
    )


def search_boxes(row: IntArray, column: IntArray, side_deg: float) -> list[IntArray]:
    """Numbers of the cells (C,) that one search takes together, each cell once.

    Cells are grouped in bands of latitude, from the southernmost cell on. In a band, boxes run from west to east and
    start east of the widest gap: a country on both sides of the antimeridian is not searched around the world.
    """
    if not row.size:
        return []
    lon, lat = corners_lonlat(row, column)
    band = np.floor((lat - lat.min()) / side_deg).astype(np.int64)
    boxes = []
    for one in np.unique(band).tolist():
        numbers = np.flatnonzero(band == one)
        turned = east_of(lon[numbers], widest_gap(lon[numbers])[0], least=0.0)
        east_first = np.argsort(turned, kind="stable")
        widest = min(side_deg / max(np.cos(np.radians(np.abs(lat[numbers]).max())), 0.01), MAX_BOX_LON_DEG)
        boxes += _cut(numbers[east_first], turned[east_first], widest)
    return boxes


def _cut(numbers: IntArray, lon: FloatArray, widest_deg: float) -> list[IntArray]:
    """Cells in groups that are at most widest_deg wide.

    numbers, lon: (n,), in the order of rising longitude. Returns the numbers of each group, sorted.
    """
    runs, start = [], 0
    while start < numbers.size:
        end = int(np.searchsorted(lon, lon[start] + widest_deg, side="right"))
        runs.append(np.sort(numbers[start:end]))
        start = end
    return runs


def _require_usable(config: BuildConfig, sar: Service, optical: Service | None) -> None:
    area = config.area
    if config.grid.layout == "chips":
        raise ConfigError("grid.layout = chips: an area is cut by cells. Set grid.layout = majortom.")
    if area.first >= area.last:
        raise ConfigError(f"area.first = {area.first} is not before area.last = {area.last}, which is not included.")
    for key, service, kind in (("sar", sar, "sar"), ("optical", optical, "optical")):
        if service is not None and kind not in service.kinds:
            raise ConfigError(f"area.{key} = {service.name}: offers {', '.join(sorted(service.kinds))} scenes only.")
    if area.land_cover and land_cover_of((sar, optical)) is None:
        raise _no_land_cover(sar, optical)
    if optical is None and config.balance.max_unpaired_share < 1:
        raise ConfigError(
            f"area.optical = none leaves every sample unpaired, and balance.max_unpaired_share = "
            f"{config.balance.max_unpaired_share:g} rejects them all. Set balance.max_unpaired_share = 1."
        )


def _no_land_cover(sar: Service, optical: Service | None) -> ConfigError:
    return ConfigError(
        f"area.land_cover: neither {sar.name} nor {optical.name if optical else 'none'} has land cover. Set area.sar "
        "or area.optical to planetary-computer, or area.land_cover to false."
    )


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _box_around(blocks: BlockShapes) -> tuple[float, float, float, float]:
    """A box around all blocks: west within -180..180, east beyond 180 where it crosses the antimeridian."""
    west, south = (blocks.centre - blocks.half_span).min(axis=0).tolist()
    east, north = (blocks.centre + blocks.half_span).max(axis=0).tolist()
    turns = float(turns_home(west))
    return west + turns, max(south, -90.0), east + turns, min(north, 90.0)


def _each_once(scenes: Iterator[Scene]) -> list[Scene]:
    return list({scene.scene_id: scene for scene in scenes}.values())


def _sar_passes(scenes: list[Scene]) -> SarPasses:
    return SarPasses(
        name=[scene.scene_id for scene in scenes],
        time_s=np.asarray([scene.acquired.timestamp() for scene in scenes], dtype=np.float64),
        direction=[scene.orbit_state or "" for scene in scenes],
        quarter=np.asarray([scene.acquired.month % 12 // 3 for scene in scenes], dtype=np.int64),
    )


def _optical_passes(scenes: list[Scene]) -> OpticalPasses:
    cloud = [np.nan if scene.cloud_frac is None else scene.cloud_frac for scene in scenes]
    return OpticalPasses(
        name=[scene.scene_id for scene in scenes],
        time_s=np.asarray([time_s(scene) for scene in scenes], dtype=np.float64),
        cloud_frac=np.asarray(cloud, dtype=np.float64),
    )
