"""Blocks of a simulated world on real Major TOM cells, with everything known about them.

Each cell holds a world of its own, keyed by the build's seed and the cell's name: its pixels depend neither on the
number of cells, nor on the order or the worker that reads them. Neighbouring cells do not continue each other.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from sar1m.config import BuildConfig
from sar1m.core.grid import block_grids, block_patches, cells_at, make_cells
from sar1m.records import F32, BlockPixels, Candidate, Cell, OpticalProduct, RasterGrid, SarProduct
from sar1m.sources.failures import PlanFailures
from sar1m.store.errors import OutputError, SourceError
from sarworld.fields import keyed_rng
from sarworld.materials import LAND_COVER_NAMES, OPTICAL_BANDS, POLARISATIONS
from sarworld.optics import Clouds, Sun
from sarworld.radar import NOISE_FLOOR_DB, View
from sarworld.world import (
    SIMULATOR_VERSION,
    World,
    WorldSpec,
    build_world,
    cover_with_clouds,
    view_optical,
    view_radar,
)

IntArray = npt.NDArray[np.int64]

LICENCE: Final = "CC0-1.0"
FIRST_DAY: Final = datetime(2019, 1, 1, tzinfo=UTC)
DAYS: Final = 5 * 365
LATE_SHARE: Final = 0.1  # of pairs whose optical partner was taken 16 to 40 days before or after

# Clusters of cells in the interior of Africa, 14 to 34 degrees east, 12 degrees south to 27 degrees north. Twelve
# clusters, 240 km and more from centre to centre, grow together from their middles; once they are full, twelve more.
CENTRE_LON_DEG: Final = 24.0
CENTRE_LAT_DEG: Final = 7.5
CLUSTER_CELLS: Final = 21  # a side
CLUSTER_PITCH_ROWS: Final = 24
CLUSTER_PITCH_DEG: Final = 2.4  # of longitude: 23.6 cells and more, so that clusters never meet
GROUP_SHAPE: Final = (3, 4)  # clusters south-north and west-east
GROUPS_SHAPE: Final = (6, 2)
MAX_CELLS: Final = CLUSTER_CELLS**2 * GROUP_SHAPE[0] * GROUP_SHAPE[1] * GROUPS_SHAPE[0] * GROUPS_SHAPE[1]


@dataclass(frozen=True)
class SimulatedSource:
    """Blocks of a simulated world, one work item each. The first k are the same for every n_cells >= k.

    Raises SourceError where n_cells is not between 1 and MAX_CELLS (63,504: a million patches).
    """

    n_cells: int
    name: str = "simulated"
    remarks: tuple[str, ...] = ()
    failures: PlanFailures = field(default_factory=PlanFailures, compare=False)

    def __post_init__(self) -> None:
        """A build of nothing would look like a finished one: it is refused."""
        if not 1 <= self.n_cells <= MAX_CELLS:
            raise SourceError(
                f"simulated: {self.n_cells} cells were asked for; give a number from 1 to {MAX_CELLS} (simulated:100)"
            )

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """One work item a cell. Raises SourceError for an optical band that the simulator does not have."""
        _band_numbers(config)
        cells = make_cells(*cluster_cells(self.n_cells))
        for cell, grid in zip(cells, block_grids(cells, config.grid), strict=True):
            yield self._candidate(cell, grid, config)

    def _candidate(self, cell: Cell, grid: RasterGrid, config: BuildConfig) -> Candidate:
        taken = _draw_circumstances(config, cell.name)
        return Candidate(
            item_id=f"{self.name}_{cell.name}",
            source=self.name,
            cell=cell.name,
            site=cell.name,
            grid=grid,
            halo_px=config.grid.halo_px,
            patches=block_patches(cell.name, config.grid),
            sar=_sar_product(cell.name, taken, config),
            optical=_optical_product(cell.name, taken, config) if taken.paired else None,
        )

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """The pixels of one block.

        The cloud mask lies where the optical image shows clouds; water, land cover, layover and shadow lie where the
        radar image shows them. truth_shift_px: by how much the optical ground is displaced against the radar's. Raises
        SourceError for the candidate of another source and for an optical band that the simulator does not have.
        """
        if candidate.source != self.name:
            raise SourceError(f"{candidate.item_id}: comes from the source {candidate.source!r}, not {self.name!r}")
        taken = _draw_circumstances(config, candidate.cell)
        spec = _world_spec(candidate, config)
        world = build_world(spec, max_shift_px=config.simulated.max_shift_px)
        radar = view_radar(world, taken.view)
        reflectance, clouds = _optical_pixels(world, taken) if candidate.optical is not None else (None, None)
        return BlockPixels(
            sar=radar.measured(spec, looks=config.simulated.enl, correlated=config.simulated.speckle_correlation),
            optical=None if reflectance is None else reflectance[_band_numbers(config)],
            registration_optical=reflectance,
            cloud=None if clouds is None else clouds.mask,
            cloud_source=None if clouds is None else "simulated",
            snow=None if clouds is None else np.zeros_like(clouds.mask),
            water=world.water(),
            layover_shadow=radar.layover_shadow,
            land_cover=world.land_cover(),
            land_cover_names=LAND_COVER_NAMES,
            incidence_deg=taken.view.incidence_deg,
            noise_floor=(10 ** (NOISE_FLOOR_DB / 10),) * len(POLARISATIONS),
            truth_shift_px=None if reflectance is None else taken.shift_px,
        )


def write_product(folder: Path, *, lon: float, lat: float, relief_m: float, seed: int, whole_swath: bool) -> Path:
    """Writes a simulated Sentinel-1 product with a DEM, and with an optical partner unless it is a whole swath.

    folder: new or empty. lon, lat: degrees; the scene lies over the nearest cell. relief_m: standard deviation of
    height. Returns the product's path. Raises OutputError where the folder holds anything.
    """
    from sarworld.safe.demonstration import write_demonstration  # noqa: PLC0415  a compiler others need not load

    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: is not empty. Give a new or empty folder.")
    return write_demonstration(folder, lon=lon, lat=lat, relief_m=relief_m, seed=seed, whole_swath=whole_swath)


def _band_numbers(config: BuildConfig) -> list[int]:
    bands = config.pixels.optical_bands
    unknown = [band for band in bands if band not in OPTICAL_BANDS]
    if unknown or not bands:
        raise SourceError(
            f"simulated: pixels.optical_bands asks for {', '.join(unknown) or 'nothing'}; "
            f"this source has {', '.join(OPTICAL_BANDS)}"
        )
    return [OPTICAL_BANDS.index(band) for band in bands]


def _world_spec(candidate: Candidate, config: BuildConfig) -> WorldSpec:
    grid, margin_px = candidate.grid, 2 * candidate.halo_px
    return WorldSpec(
        seed=config.seed,
        name=candidate.cell,
        rows=grid.rows + margin_px,
        cols=grid.cols + margin_px,
        gsd_m=grid.gsd_m,
    )


def _optical_pixels(world: World, taken: _Circumstances) -> tuple[F32, Clouds]:
    clouds = cover_with_clouds(world.spec, taken.sun, cloudy=taken.cloudy)
    return view_optical(world, taken.sun, taken.shift_px, clouds), clouds


# ---- when and how a cell was looked at ----


@dataclass(frozen=True, kw_only=True)
class _Circumstances:
    sar_acquired: datetime
    optical_acquired: datetime
    ascending: bool
    relative_orbit: int
    datatake: str
    view: View
    sun: Sun
    shift_px: tuple[float, float]
    cloudy: bool
    paired: bool


def _draw_circumstances(config: BuildConfig, cell_name: str) -> _Circumstances:
    # every number is drawn whether it is used or not, so that changing one share leaves all else as it was
    rng = keyed_rng(config.seed, cell_name, "circumstances")
    chance = rng.uniform(size=6)
    shift_px = config.simulated.max_shift_px * rng.uniform(-1, 1, size=2)
    ascending = bool(chance[0] < 0.5)
    sar_day = FIRST_DAY + timedelta(days=int(rng.integers(DAYS)))
    near, far = int(rng.integers(-3, 4)), int(rng.integers(16, 41)) * int(rng.choice([-1, 1]))
    optical_day = sar_day + timedelta(days=far if chance[1] < LATE_SHARE else near)
    orbit, datatake = rng.integers([1, 0x10000], [176, 0x7FFFF]).tolist()
    return _Circumstances(
        sar_acquired=sar_day + timedelta(hours=16 if ascending else 4, seconds=int(chance[2] * 3600)),
        optical_acquired=optical_day + timedelta(hours=8, seconds=int(chance[3] * 3600)),
        ascending=ascending,
        relative_orbit=orbit,
        datatake=f"{datatake:06X}",
        # right-looking from an orbit inclined by 98 degrees
        view=View(incidence_deg=float(rng.uniform(31, 45)), look_azimuth_deg=78.0 if ascending else 282.0),
        sun=Sun(zenith_deg=float(rng.uniform(22, 55)), azimuth_deg=float(rng.uniform(100, 170))),
        shift_px=(float(shift_px[0]), float(shift_px[1])),
        cloudy=bool(chance[4] < config.simulated.cloudy_share),
        paired=bool(chance[5] >= config.simulated.unpaired_share),
    )


def _digest(kind: str, cell_name: str, config: BuildConfig) -> str:
    """blake2b-128 of what the pixels of a product are made from."""
    made_from = {
        "kind": kind,
        "simulator": SIMULATOR_VERSION,
        "seed": config.seed,
        "cell": cell_name,
        "grid": config.grid.model_dump(mode="json"),
        "simulated": config.simulated.model_dump(mode="json"),
    }
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _sar_product(cell_name: str, taken: _Circumstances, config: BuildConfig) -> SarProduct:
    return SarProduct(
        product_id=f"SIM_SAR_{taken.sar_acquired:%Y%m%dT%H%M%S}_{cell_name}",
        digest=_digest("sar", cell_name, config),
        quantity="gamma0",
        polarisations=POLARISATIONS,
        processing="simulated gamma0 against the ellipsoid, thermal noise removed",
        provider="simulated",
        licence=LICENCE,
        acquired=taken.sar_acquired,
        platform="simulated",
        orbit_state="ascending" if taken.ascending else "descending",
        relative_orbit=taken.relative_orbit,
        datatake=taken.datatake,
    )


def _optical_product(cell_name: str, taken: _Circumstances, config: BuildConfig) -> OpticalProduct:
    return OpticalProduct(
        product_id=f"SIM_OPT_{taken.optical_acquired:%Y%m%dT%H%M%S}_{cell_name}",
        digest=_digest("optical", cell_name, config),
        quantity="reflectance",
        bands=config.pixels.optical_bands,
        provider="simulated",
        licence=LICENCE,
        acquired=taken.optical_acquired,
    )


# ---- where the cells lie ----


def cluster_cells(count: int) -> tuple[IntArray, IntArray]:
    """Rows and columns in the Major TOM grid of the first count cells."""
    lon, lat_row = _cluster_centres()
    inside = np.stack(np.meshgrid(*(np.arange(CLUSTER_CELLS) - CLUSTER_CELLS // 2,) * 2, indexing="ij"), axis=-1)
    inside = inside.reshape(-1, 2)
    outward = inside[np.lexsort((inside[:, 1], inside[:, 0], (inside**2).sum(axis=1)))]
    # (groups, cells of a cluster, clusters of a group): a group's clusters grow together
    row = lat_row[:, None, :] + outward[None, :, :1]
    _, middle = cells_at(np.broadcast_to(lon[:, None, :], row.shape), (row + 0.5) * _ROW_DEG)
    return row.ravel()[:count], (middle + outward[None, :, 1:]).ravel()[:count]


_ROW_DEG: Final = 180 / 2004  # height of a row of the Major TOM grid


def _cluster_centres() -> tuple[npt.NDArray[np.float64], IntArray]:
    """Longitudes and grid rows, both (groups, clusters of a group), the groups nearest to the centre first."""
    groups = np.array(list(np.ndindex(GROUPS_SHAPE))) - (np.array(GROUPS_SHAPE) - 1) / 2
    groups = groups[np.argsort((groups**2).sum(axis=1), kind="stable")]
    members = np.array(list(np.ndindex(GROUP_SHAPE))) - (np.array(GROUP_SHAPE) - 1) / 2
    place = groups[:, None, :] * np.array(GROUP_SHAPE) + members[None, :, :]
    lon = CENTRE_LON_DEG + CLUSTER_PITCH_DEG * place[..., 1]
    row = np.rint(CENTRE_LAT_DEG / _ROW_DEG + CLUSTER_PITCH_ROWS * place[..., 0]).astype(np.int64)
    return lon, row
