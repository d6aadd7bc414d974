"""A service of scenes in memory: Sentinel-1 slices and Sentinel-2 tiles as they would cover the Earth, nothing asked
of any network. Everything is a function of the name and of what is asked."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from sar1m.config import BuildConfig
from sar1m.records import RasterGrid
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.sources.scene import Asset, Kind, Price, Query, Ring, Scene

SLICE_DEG, SWATH_KM, TRACK_STEP_KM, TILT_DEG = 1.53, 250.0, 225.0, 0.35  # 170 km of track, neighbours overlap
TILE_DEG, TILE_STEP_DEG = 0.988, 0.9  # 110 km tiles every 100 km
KM_PER_DEG = 111.2
EPOCH = datetime(2014, 10, 3, tzinfo=UTC)


def unit_hash(*parts: object) -> float:
    """0 to 1."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


@dataclass(frozen=True)
class FakeService:
    """directions: of the orbits; turned: answers in reverse, as no service should; asked: queries so far."""

    name: str = "fake"
    kinds: frozenset[Kind] = frozenset({"sar", "optical"})
    directions: tuple[str, ...] = ("ascending", "descending")
    revisit_days: tuple[int, int] = (12, 5)
    turned: bool = False
    asked: list[Query] = field(default_factory=list, compare=False)

    def search(self, query: Query) -> Iterator[Scene]:
        """Scenes by acquisition, then id."""
        self.asked.append(query)
        found = list(self._slices(query) if query.kind == "sar" else self._tiles(query))
        found.sort(key=lambda scene: (scene.acquired, scene.scene_id), reverse=self.turned)
        return iter(found)

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
        """SAR: 2 requests of 4 bytes a pixel and polarisation; optical: 4 of 2 bytes, and 1 MB shared."""
        pixels = grid.rows * grid.cols
        if scene.kind == "sar":
            return Price(requests=2, bytes=4.0 * pixels * len(config.area.polarisations), units=0.5)
        return Price(requests=4, bytes=2.0 * pixels * 4, shared_bytes=1e6)

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """Noise around -12 dB that depends on the scene and the place."""
        rng = np.random.default_rng(int(unit_hash(scene.scene_id, grid.left_m, grid.top_m) * 2**53))
        shape = (len(config.area.polarisations), grid.rows, grid.cols)
        return SarPixels(
            sar=rng.gamma(4.4, 0.06 / 4.4, shape).astype(np.float32),
            layover_shadow=None,
            local_incidence_deg=None,
            incidence_deg=38.0,
            noise_floor=(10**-2.5,) * shape[0],
            flags=(),
        )

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Grey pixels without cloud."""
        plane = np.full((len(config.pixels.optical_bands), grid.rows, grid.cols), 0.1, dtype=np.float32)
        none = np.zeros(plane.shape[1:], dtype=np.bool_)
        return OpticalPixels(
            optical=plane,
            registration_optical=plane,
            swir=None,
            cloud=none,
            cloud_source="scl",
            snow=none,
            water=None,
            land_cover=None,
            land_cover_names=(),
            flags=frozenset(),
        )

    def usable(self) -> tuple[bool, str]:
        """Always."""
        return True, "in memory"

    def _slices(self, query: Query) -> Iterator[Scene]:
        west, south, east, north = query.box
        for band in range(math.floor((south - 2 * TILT_DEG) / SLICE_DEG) - 1, math.ceil(north / SLICE_DEG) + 1):
            per_km = 1 / (KM_PER_DEG * max(math.cos(math.radians((band + 0.5) * SLICE_DEG)), 0.05))
            step, width = TRACK_STEP_KM * per_km, SWATH_KM * per_km
            for strip in range(math.floor((west - width - 1) / step), math.ceil((east + 1) / step) + 1):
                for direction in self.directions:
                    yield from self._passes(query, (band, strip), (step, width), direction)

    def _passes(
        self, query: Query, place: tuple[int, int], size: tuple[float, float], direction: str
    ) -> Iterator[Scene]:
        (band, strip), (step, width), up = place, size, direction == "ascending"
        cycle = self.revisit_days[0]
        track = (strip * 5 + (0 if up else 7)) % cycle
        tilt = -TILT_DEG if up else TILT_DEG
        for start in _repeats(query, track + (0.75 if up else 0.25) + band * 25 / 86_400, cycle):
            moved = 0.02 * (unit_hash(start) - 0.5)  # slices of a track stand some km apart from pass to pass
            x, y = strip * step, band * SLICE_DEG + moved
            top = SLICE_DEG + 0.01
            ring = ((x, y), (x + width, y - tilt), (x + width + tilt, y - tilt + top), (x + tilt, y + top), (x, y))
            if _meets(ring, query.box):
                yield self._sar_scene(start, ring, direction, (band, strip))

    def _sar_scene(self, start: datetime, ring: Ring, direction: str, place: tuple[int, int]) -> Scene:
        scene_id = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{place[0]}_{place[1]}".replace("-", "m")
        return Scene(
            scene_id=scene_id,
            service=self.name,
            kind="sar",
            acquired=start,
            footprint=ring,
            assets=tuple(Asset(name=name, href=f"https://fake.example/{scene_id}/{name}.tif") for name in ("VV", "VH")),
            licence="Copernicus Sentinel data legal notice",
            provider="nobody",
            attribution=f"Contains modified Copernicus Sentinel data {start.year}",
            platform="sentinel-1a",
            orbit_state=direction,
            relative_orbit=place[1] % 175 + 1,
            polarisations=("VV", "VH"),
            sar_quantity="gamma0",
            processing="made up",
        )

    def _tiles(self, query: Query) -> Iterator[Scene]:
        west, south, east, north = query.box
        for band in range(math.floor((south - TILE_DEG) / TILE_STEP_DEG), math.ceil(north / TILE_STEP_DEG) + 1):
            squeeze = max(math.cos(math.radians((band + 0.5) * TILE_STEP_DEG)), 0.05)
            step, width = TILE_STEP_DEG / squeeze, TILE_DEG / squeeze
            for column in range(math.floor((west - width) / step), math.ceil(east / step) + 1):
                x, y = column * step, band * TILE_STEP_DEG
                ring = ((x, y), (x + width, y), (x + width, y + TILE_DEG), (x, y + TILE_DEG), (x, y))
                if _meets(ring, query.box):
                    yield from self._tile(query, ring, f"{band}_{column}".replace("-", "m"))

    def _tile(self, query: Query, ring: Ring, tile: str) -> Iterator[Scene]:
        phase = int(unit_hash(tile) * self.revisit_days[1]) + 0.43
        for start in _repeats(query, phase, self.revisit_days[1]):
            cloud = round(unit_hash(tile, start), 3)
            if cloud <= query.max_cloud_frac:
                yield self._optical_scene(start, ring, tile, cloud)

    def _optical_scene(self, start: datetime, ring: Ring, tile: str, cloud: float) -> Scene:
        scene_id = f"S2A_MSIL2A_{start:%Y%m%dT%H%M%S}_{tile}"
        bands = ("B02", "B03", "B04", "B08", "SCL")
        return Scene(
            scene_id=scene_id,
            service=self.name,
            kind="optical",
            acquired=start,
            footprint=ring,
            assets=tuple(Asset(name=name, href=f"https://fake.example/{scene_id}/{name}.tif") for name in bands),
            licence="Copernicus Sentinel data legal notice",
            provider="nobody",
            attribution=f"Contains modified Copernicus Sentinel data {start.year}",
            platform="sentinel-2a",
            cloud_frac=cloud,
            optical_quantity="reflectance",
            processing_baseline="05.09",
            offset_dn=-1000,
        )


def _repeats(query: Query, phase_days: float, cycle_days: int) -> Iterator[datetime]:
    since_days = (query.first - EPOCH).total_seconds() / 86_400 - phase_days
    start = EPOCH + timedelta(days=phase_days + cycle_days * math.ceil(since_days / cycle_days))
    while start < query.last:
        yield start
        start += timedelta(days=cycle_days)


def _meets(ring: Ring, box: tuple[float, float, float, float]) -> bool:
    west, south, east, north = box
    lon, lat = [x for x, _ in ring], [y for _, y in ring]
    return min(lon) < east and max(lon) > west and min(lat) < north and max(lat) > south
