"""What a plan costs before any pixel is asked for: requests, bytes, quota, disk, time; and budgets that refuse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.core.grid import block_grids, make_cells
from sar1m.core.utm import FloatArray, IntArray
from sar1m.records import RasterGrid
from sar1m.sources.area.scene_plan import AreaPlan
from sar1m.sources.scene import LandCoverReader, Price, Service, land_cover_of
from sar1m.sources.services.registry import SERVICES
from sar1m.store.errors import ConfigError

PRICE_COLUMNS: Final = ("requests", "bytes", "shared_bytes", "units")
GB: Final = 1e9

# Bytes of the encoded, compressed chunks of a 256 px patch of profile training, in a store and in a staged block alike:
# means over `sar1m build --region simulated:12 --out OUT` (192 patches, 160 with optical), read off OUT/staging.
SAR_CHUNK_BYTES: Final = 162_062
OPTICAL_CHUNK_BYTES: Final = 161_153
RECORD_BYTES: Final = 6_141  # of a patch's row, in the staged block only
_MEASURED_PX: Final = 256

# CPU seconds for 1,000 pairs of 256 px, one core. In tests/benchmarks/results: safe.md for the first two,
# pipeline-stages-speedup-pack-dask.md for the others.
SAFE_CPU_S: Final = 12.1  # a SAFE product to backscatter on the grid, whole swath
WINDOW_CPU_S: Final = 6.1  # five Sentinel-2 bands of GeoTIFFs on the grid; taken for SAR windows and blocks too
PREPARE_CPU_S: Final = 10.6 + 0.7  # registration, metrics, encoding, staging
PACK_CPU_S: Final = 1.0  # reading records, tables, packing, sealing
SEARCH_S: Final = 0.004  # a scene found, over pages of 250 at a second each: assumed
ANSWER_S: Final = 0.3  # from asking to the first byte: assumed


@dataclass(frozen=True, kw_only=True, eq=False)
class RowPrices:
    """What each work item of a plan adds to the price.

    columns: for each name of PRICE_COLUMNS an array (K,), in the order of the plan's work items.
    whole_products: SAR comes in whole products, which are calibrated and geocoded here.
    """

    columns: Mapping[str, FloatArray]
    whole_products: bool

    @property
    def total(self) -> Price:
        return Price(**{name: float(self.columns[name].sum()) for name in PRICE_COLUMNS})


@dataclass(frozen=True, kw_only=True)
class Pace:
    """What the estimated time depends on: megabits a second of the line, and the number of workers."""

    mbit: float = 200.0
    workers: int = 2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a build: its seconds, and in words how they were computed."""

    name: str
    seconds: float
    arithmetic: str


@dataclass(frozen=True, kw_only=True)
class Totals:
    """A plan in numbers.

    price: its requests do not count the searches, which have been made by then.
    disk_bytes: of the store. staged_bytes: of the staged blocks beside it. The cache takes what is downloaded, at most
    download.cache_gb.
    """

    cells: int
    cells_left_out: int
    blocks: int
    paired_blocks: int
    patches: int
    paired_patches: int
    sar_scenes: int
    optical_scenes: int
    searches: int
    price: Price
    disk_bytes: float
    staged_bytes: float
    stages: tuple[Stage, ...]
    tokens: tuple[str, ...]

    @property
    def down_bytes(self) -> float:
        return self.price.bytes + self.price.shared_bytes


def price_rows(plan: AreaPlan, sar: Service, optical: Service | None, config: BuildConfig) -> RowPrices:
    """What each work item adds to the price.

    All blocks have one size, so a scene is priced once, by the first block that uses it. Costs that a scene has only
    once (the download of a whole product, and its requests) stand in the row of the first work item that uses the
    scene.
    """
    columns = {name: np.zeros(plan.cell.size) for name in PRICE_COLUMNS}
    whole_products = False
    for service, numbers in ((sar, plan.sar), (optical, plan.optical)):
        if service is None:
            continue
        scenes, first = np.unique(numbers, return_index=True)
        scenes, first = scenes[scenes >= 0], first[scenes >= 0]
        prices = _scene_prices(plan, service, scenes, first, config)
        for name in ("requests", "bytes", "units"):
            by_scene = np.zeros(len(plan.scenes) + 1)  # the last one stands for -1, no scene
            by_scene[scenes] = [getattr(price, name) for price in prices]
            columns[name] += by_scene[numbers]
        shared = np.asarray([price.shared_bytes for price in prices], dtype=np.float64)
        columns["shared_bytes"][first] += shared
        columns["requests"][first] += (shared > 0) * float(getattr(service, "requests_a_product", 1))
        whole_products |= numbers is plan.sar and bool(shared.any())
    _add_land_cover(columns, plan, land_cover_of((sar, optical)), config)
    return RowPrices(columns=columns, whole_products=whole_products)


def _add_land_cover(
    columns: dict[str, FloatArray], plan: AreaPlan, reader: LandCoverReader | None, config: BuildConfig
) -> None:
    """Adds the price of land cover to every work item: the same for all, since all blocks have one size."""
    if not config.area.land_cover or reader is None or not plan.cell.size:
        return
    (grid,) = block_grids(make_cells(plan.row[plan.cell[:1]], plan.column[plan.cell[:1]]), config.grid)
    price = reader.price(_with_halo(grid, config.grid.halo_px))
    columns["requests"] += price.requests
    columns["bytes"] += price.bytes


def _scene_prices(
    plan: AreaPlan, service: Service, scenes: IntArray, first: IntArray, config: BuildConfig
) -> list[Price]:
    cells = plan.cell[first]
    grids = block_grids(make_cells(plan.row[cells], plan.column[cells]), config.grid)
    halo = config.grid.halo_px
    return [
        service.price(plan.scenes[scene], _with_halo(grid, halo), config)
        for scene, grid in zip(scenes.tolist(), grids, strict=True)
    ]


def _with_halo(grid: RasterGrid, halo: int) -> RasterGrid:
    return grid.window(-halo, -halo, grid.rows + 2 * halo, grid.cols + 2 * halo)


def total(plan: AreaPlan, prices: RowPrices, config: BuildConfig, pace: Pace) -> Totals:
    """The plan in numbers. Every block counts with all its patches: how many screening will reject is not known yet."""
    per_block = config.grid.patches_per_side**2
    patches, paired = plan.cell.size * per_block, plan.paired * per_block
    sar_bytes, optical_bytes = chunk_bytes(config)
    disk = patches * sar_bytes + paired * optical_bytes
    price = prices.total
    by_kind = [sum(scene.kind == kind for scene in plan.scenes) for kind in ("sar", "optical")]
    lives = {record.name: record.access_life for record in SERVICES}
    return Totals(
        cells=plan.row.size,
        cells_left_out=int((plan.cell_reason != "taken").sum()),
        blocks=plan.cell.size,
        paired_blocks=plan.paired,
        patches=patches,
        paired_patches=paired,
        sar_scenes=by_kind[0],
        optical_scenes=by_kind[1],
        searches=plan.searches,
        price=price,
        disk_bytes=disk,
        staged_bytes=disk + patches * RECORD_BYTES,
        stages=stages(price, patches, plan.found, prices.whole_products, config, pace),
        tokens=tuple(f"{name}: {lives[name]}" for name in dict.fromkeys(plan.services) if name and lives.get(name)),
    )


def chunk_bytes(config: BuildConfig) -> tuple[float, float]:
    """Bytes of a patch's SAR chunk and of its optical chunk on disk.

    Computed from measured sizes (two polarisations, three bands of 256 px) by area and number of channels. The archive
    profile stores 16 bits for 8 and is taken to need twice the optical bytes.
    """
    area = (config.grid.patch_px / _MEASURED_PX) ** 2
    optical = OPTICAL_CHUNK_BYTES * area * len(config.pixels.optical_bands) / 3
    sar = SAR_CHUNK_BYTES * area * len(config.area.polarisations) / 2
    return sar, optical * (2 if config.pixels.profile == "archive" else 1)


def stages(
    price: Price, patches: int, found: int, whole_products: bool, config: BuildConfig, pace: Pace
) -> tuple[Stage, ...]:
    """Estimated time by stage, from measured rates.

    The download takes as long as the slowest of three limits: the line, the requests a second, and the wait for
    answers.
    """
    thousands = patches * (config.grid.patch_px / _MEASURED_PX) ** 2 / 1000
    reading = (SAFE_CPU_S if whole_products else WINDOW_CPU_S) + WINDOW_CPU_S
    limits = config.download
    down = price.bytes + price.shared_bytes
    ways = {
        f"{down / GB:,.1f} GB at {pace.mbit:g} Mbit/s": down * 8 / (pace.mbit * 1e6),
        f"{price.requests:,.0f} requests at {limits.requests_per_s:g} a second": price.requests / limits.requests_per_s,
        f"{price.requests:,.0f} requests of {ANSWER_S:g} s, {limits.connections} at once": (
            price.requests * ANSWER_S / limits.connections
        ),
    }
    slowest = max(ways, key=lambda way: ways[way])
    return (
        Stage(name="search", seconds=found * SEARCH_S, arithmetic=f"{found:,} scenes of {SEARCH_S * 1000:g} ms"),
        Stage(name="download", seconds=ways[slowest], arithmetic=slowest),
        _cpu_stage("read", thousands, reading, pace),
        _cpu_stage("prepare", thousands, PREPARE_CPU_S, pace),
        _cpu_stage("pack", thousands, PACK_CPU_S, pace),
    )


def _cpu_stage(name: str, thousands: float, cpu_s: float, pace: Pace) -> Stage:
    words = f"{thousands * 1000:,.0f} patches of 256 px at {cpu_s:.1f} CPU-s a 1,000, {pace.workers} workers"
    return Stage(name=name, seconds=thousands * cpu_s / pace.workers, arithmetic=words)


def require_within(totals: Totals, limits: DownloadConfig) -> None:
    """Refuses a plan that costs more than the budgets of [download], before the first byte is downloaded.

    Raises ConfigError that shows what is planned beside what is allowed, for every budget that is exceeded. A budget of
    0 allows anything. Requests include the searches that were made.
    """
    planned = {
        "max_gb": (totals.down_bytes / GB, limits.max_gb, "GB down"),
        "max_requests": (totals.price.requests + totals.searches, limits.max_requests, "requests"),
        "max_units": (totals.price.units, limits.max_units, "quota units"),
    }
    over = [
        f"{found:,.6g} {what} planned, download.{key} = {allowed:,.6g}"
        for key, (found, allowed, what) in planned.items()
        if allowed and found > allowed
    ]
    if over:
        raise ConfigError(
            f"over the budget: {'; '.join(over)}. Nothing was downloaded. Plan a smaller region, lower "
            "area.scenes_per_cell, or raise the budget."
        )


def duration(seconds: float) -> str:
    """A duration in words, such as 40 s, 12 min, 3.5 h, 12 d: in the largest unit that gives at least 2."""
    for unit, size in (("d", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.3g} {unit}"
    return f"{seconds:.3g} s"


def summary(totals: Totals) -> list[str]:
    """The totals as lines for a terminal."""
    price = totals.price
    return [
        f"cells: {totals.cells:,}, of which {totals.cells_left_out:,} find no scene",
        f"blocks: {totals.blocks:,} ({totals.paired_blocks:,} with a partner)",
        f"patches: up to {totals.patches:,}, {totals.paired_patches:,} of them with a partner",
        f"scenes: {totals.sar_scenes:,} SAR, {totals.optical_scenes:,} optical",
        f"requests: {price.requests:,.0f} (and {totals.searches:,} searches, made)",
        f"down: {totals.down_bytes / GB:,.2f} GB, of which {price.shared_bytes / GB:,.2f} GB once a scene",
        f"on disk: {totals.disk_bytes / GB:,.2f} GB store, {totals.staged_bytes / GB:,.2f} GB staged",
        f"quota: {price.units:,.0f} units",
        *(f"{stage.name}: {duration(stage.seconds)} ({stage.arithmetic})" for stage in totals.stages),
        *(f"token: {line}" for line in totals.tokens),
    ]
