"""Services that deliver whole Sentinel-1 GRD products: listed by a catalogue, downloaded once into the cache, read by
blocks like the products of a folder (sources/safe).

What is used is decided by the catalogue's answer: known bad acquisitions and older processings of one acquisition are
left out. Whether a product's parts are whole and belong together is checked in the product itself, before the cache
accepts it; so is whether a block needs a DEM.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import numpy as np

from sar1m.config import BuildConfig, SafeConfig
from sar1m.core.sphere import Box, boxes_within_world
from sar1m.core.utm import utm_epsg, utm_from_lonlat
from sar1m.io.net.exchange import Auth
from sar1m.io.net.fetch import Fetcher
from sar1m.io.raster_open import TIFF_MAGIC
from sar1m.io.safe.archive import MAX_MEASUREMENT_BYTES, open_archive
from sar1m.io.safe.measurement import MAX_INFLATION
from sar1m.io.safe.orbit_file import find_orbit
from sar1m.io.safe.product import read_product
from sar1m.records import RasterGrid
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.sources.safe.backscatter import SafeBlock, read_block
from sar1m.sources.safe.block_heights import Terrain, named_place, open_terrain_once
from sar1m.sources.safe.choose_products import product_and_orbit_digest, usable_products
from sar1m.sources.safe.source import processing_steps
from sar1m.sources.scene import Asset, Kind, Price, Query, Ring, Scene
from sar1m.sources.sentinel_names import COPERNICUS_ATTRIBUTION, COPERNICUS_LICENCE
from sar1m.sources.services.products.names import ListedProduct, Page, channels_of
from sar1m.store.errors import ConfigError, SourceError

PRODUCT: Final = "product"  # name of the one asset
USUAL_BYTES: Final = 1.0e9  # of a zip of an IW GRDH product in two polarisations, where the catalogue gives no size
MOST_DOWNLOADS: Final = 256
MIN_WINDOW: Final = timedelta(minutes=1)  # a satellite starts two slices in it
COARSE_M: Final = 1000.0
_FETCH: Final = "Fetch the product again."


@dataclass(frozen=True, kw_only=True)
class ProductService(ABC):
    """A Service of whole products, whatever its catalogue.

    safe: how products are processed. read_sar refuses scenes that were planned for another quantity.
    remarks: what search left out and why, complete once it has run to its end.
    Measurements are inflated in a folder beside the downloads.
    """

    fetcher: Fetcher
    safe: SafeConfig
    remarks: list[str] = field(default_factory=list, compare=False)

    @property
    @abstractmethod
    def name(self) -> str:
        """Such as cdse."""

    @property
    def downloads_at_once(self) -> int:
        """How many downloads the service allows an account at one time."""
        return MOST_DOWNLOADS

    @property
    def kinds(self) -> frozenset[Kind]:
        return frozenset(("sar",))

    @abstractmethod
    def page(self, box: Box, first: datetime, last: datetime) -> Page:
        """IW GRDH products that meet a box and start in first <= t < last; some others may be among them.

        box: longitudes within +-180. Raises SourceError.
        """

    @abstractmethod
    def auth(self) -> Auth:
        """What adds the credentials of this process to downloads. Raises SourceError where there are none."""

    @abstractmethod
    def usable(self) -> tuple[bool, str]:
        """Whether credentials are there, and one line that says with what, or what to do."""

    def search(self, query: Query) -> Iterator[Scene]:
        """Scenes in the order of acquisition, then of id, each once.

        No scene is given before the whole answer is known: which processing is the newest depends on it. Raises
        SourceError where the service fails, and ConfigError before anything is asked where a file that the
        configuration names is not there.
        """
        if query.kind != "sar":
            return
        terrain = terrain_of(self.safe)
        found: dict[str, ListedProduct] = {}
        for box in boxes_within_world(query.box):
            found |= {one.product_id: one for one in self._all_listed(box, query.first, query.last)}
        wanted = [one for one in found.values() if query.first <= one.start < query.last]
        wanted = [one for one in wanted if set(query.polarisations) <= set(one.polarisations)]
        chosen, remarks = usable_products(((one, one) for one in wanted), self.safe)
        self.remarks.extend(remark for remark in remarks if remark not in self.remarks)
        for one, _ in sorted(chosen, key=lambda pair: (pair[0].start, pair[0].product_id)):
            yield self._scene(one, terrain)

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:  # noqa: ARG002 - the same for all
        """All bytes are the scene's, none the block's: one download serves all blocks."""
        return Price(requests=0.0, bytes=0.0, shared_bytes=float(scene.asset(PRODUCT).size_bytes or USUAL_BYTES))

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """SAR pixels of config.area.polarisations, in their order. The first block of a scene waits for its download.

        Raises SourceError where the product cannot be had, is damaged or not the one that was planned, ConfigError
        where a file that the configuration names is not there.
        """
        self._check_plan(scene, config)
        terrain, path = terrain_of(config.safe), self.product(scene)
        orbit_file, digest = _orbit_and_digest(path, named_place("orbits", config.safe))
        block = SafeBlock(
            path=path,
            orbit_file=orbit_file,
            digest=digest,
            polarisations=config.area.polarisations,
            grid=grid,
        )
        return read_block(block, terrain, config.safe, self.fetcher.settings.root / "measurements")

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:  # noqa: ARG002
        """Raises SourceError: such a service has no optical scenes."""
        raise SourceError(f"{self.name} {scene.scene_id}: SAR products only. Set area.optical to another service.")

    def product(self, scene: Scene) -> Path:
        """The product's zip in the cache, downloaded where it is not there yet: once, whatever the number of workers.

        Raises SourceError where it must be ordered first, cannot be fetched, or what came is not the product.
        """
        asset = scene.asset(PRODUCT)
        if not scene.online:
            raise self.offline(scene)
        return self._few_at_once().download(
            asset.href,
            name=f"{scene.scene_id}.zip",
            auth=self.auth(),
            size=asset.size_bytes,
            checksum=asset.checksum,
            check=partial(check_product, product_id=scene.scene_id),
        )

    def _few_at_once(self) -> Fetcher:
        """A downloader that uses only the first of the slots that all workers share."""
        settings = self.fetcher.settings
        connections = min(settings.limits.connections, self.downloads_at_once)
        limits = settings.limits.model_copy(update={"connections": connections})
        return Fetcher(replace(settings, limits=limits))

    def offline(self, scene: Scene) -> SourceError:
        """The error for a product that is not on the service's disks."""
        return SourceError(
            f"{self.name} {scene.scene_id}: is not online, says the catalogue. Order it on the service's own site and "
            "build again later, or search another service."
        )

    def _all_listed(self, box: Box, first: datetime, last: datetime) -> Iterable[ListedProduct]:
        """All products of a span of time. Where an answer is full, both halves of the span are asked for. Links in
        answers are not followed."""
        page = self.page(box, first, last)
        if not page.full:
            return page.products
        if last - first < 2 * MIN_WINDOW:
            raise SourceError(
                f"{self.name}: more products between {first.isoformat()} and {last.isoformat()} than one answer holds; "
                "a satellite takes two a minute. The catalogue's answer is not used."
            )
        middle = first + (last - first) / 2
        return [*self._all_listed(box, first, middle), *self._all_listed(box, middle, last)]

    def _scene(self, one: ListedProduct, terrain: Terrain | None) -> Scene:
        copernicus = f"{COPERNICUS_ATTRIBUTION} {one.start.year}"
        return Scene(
            scene_id=one.product_id,
            service=self.name,
            kind="sar",
            acquired=one.start,
            footprint=one.footprint,
            assets=(Asset(name=PRODUCT, href=one.href, size_bytes=one.size_bytes, checksum=one.checksum),),
            licence=COPERNICUS_LICENCE,
            provider=f"ESA, by {self.name}",
            attribution="; ".join([copernicus, *([terrain.attribution] if terrain and terrain.attribution else [])]),
            platform=f"sentinel-{one.platform[1:].lower()}",
            orbit_state=one.orbit_state,
            relative_orbit=one.relative_orbit,
            datatake=one.datatake,
            polarisations=one.polarisations,
            sar_quantity=self.safe.quantity,
            processing=self._processing(one, terrain),
            online=one.online,
        )

    def _processing(self, one: ListedProduct, terrain: Terrain | None) -> str:
        orbits = named_place("orbits", self.safe)
        orbit = "orbit annotated" if orbits is None else f"orbit of {orbits.name} where it has one, else annotated"
        steps = processing_steps(f"IW GRD, IPF {one.ipf or 'not told'}", orbit, terrain, self.safe)
        beside = _files_beside(one.footprint, terrain, orbits)
        return f"{steps}; {beside}" if beside else steps

    def _check_plan(self, scene: Scene, config: BuildConfig) -> None:
        missing = [name for name in config.area.polarisations if name not in scene.polarisations]
        if scene.sar_quantity != config.safe.quantity or missing:
            raise SourceError(
                f"{self.name} {scene.scene_id}: planned as {scene.sar_quantity} of {', '.join(scene.polarisations)}, "
                f"asked for {config.safe.quantity} of {', '.join(config.area.polarisations)}. Plan the build again."
            )
        beside = _files_beside(scene.footprint, terrain_of(config.safe), named_place("orbits", config.safe))
        if not scene.processing.endswith(beside):
            raise SourceError(
                f"{self.name} {scene.scene_id}: the DEM, the geoid grid or the orbit files are not those that the "
                "build was planned with. Plan it again; workers on other machines need the same files."
            )


def _files_beside(footprint: Ring, terrain: Terrain | None, orbits: Path | None) -> str:
    """A digest of the heights over the footprint and of the names of orbit files; empty without any.

    It is part of the scene's processing, so that other files give other work items.
    """
    if terrain is None and orbits is None:
        return ""
    parts = [] if terrain is None else [terrain.digest(_grid_around(footprint))]
    parts += [] if orbits is None else sorted(path.name for path in orbits.iterdir())
    return f"heights and orbits {hashlib.blake2b(' '.join(parts).encode(), digest_size=8).hexdigest()}"


def _grid_around(footprint: Ring) -> RasterGrid:
    """A raster of 1 km pixels that holds a footprint."""
    lon, lat = np.asarray(footprint, dtype=np.float64).T
    epsg = int(utm_epsg(lon[0], lat[0]))
    x_m, y_m = utm_from_lonlat(lon, lat, epsg)
    return RasterGrid(
        epsg=epsg,
        left_m=float(x_m.min()),
        top_m=float(y_m.max()),
        gsd_m=COARSE_M,
        rows=int(np.ptp(y_m) / COARSE_M) + 1,
        cols=int(np.ptp(x_m) / COARSE_M) + 1,
    )


@lru_cache(maxsize=8)
def _orbit_and_digest(path: Path, orbits: Path | None) -> tuple[Path | None, str]:
    """The orbit file for a product in the cache, and the digest of both. What is in the cache never changes."""
    orbit_file = None if orbits is None else find_orbit(orbits, read_product(path))
    return orbit_file, product_and_orbit_digest(path, orbit_file)


def terrain_of(config: SafeConfig) -> Terrain | None:
    """The terrain that safe.dem and safe.geoid name, opened once a process."""
    return open_terrain_once(named_place("dem", config), named_place("geoid", config), config)


def check_product(path: Path, *, product_id: str) -> None:
    """Reads a product's tables and inflates its images to the end, checking their CRC.

    Raises SourceError where the zip is not whole, or holds another product. A matching checksum does not replace this
    check: it is the service's own of what it keeps.
    """
    product = read_product(path)
    polarisations = tuple(channel.polarisation for channel in product.channels)
    expected = (product_id, channels_of(product_id))
    if (product.product_id, polarisations) != expected:
        raise SourceError(
            f"{path}: holds {product.product_id} with {', '.join(polarisations)}; expected {expected[0]} with "
            f"{', '.join(expected[1])}. {_FETCH}"
        )
    with open_archive(path) as archive:
        for channel in product.channels:
            with archive.stream(channel.measurement, MAX_MEASUREMENT_BYTES, MAX_INFLATION) as pieces:
                if next(pieces, b"")[:4] not in TIFF_MAGIC:
                    raise SourceError(f"{archive.label(channel.measurement)}: is empty or no TIFF. {_FETCH}")
                deque(pieces, maxlen=0)


def address_from(variable: str, usual: str) -> str:
    """The address of a service: that of an environment variable where it is set, else the usual one. No slash at its
    end.

    Raises ConfigError where it holds a user name or a query, since it goes into plans. Whether it may be asked at all
    (https, public host) is decided by the downloader.
    """
    address = os.environ.get(variable) or usual
    parts = urlsplit(address)
    if not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(f"{variable}: expected an address without user name and query, such as {usual}.")
    return address.rstrip("/")


def host_of(address: str) -> str:
    """host[:port] of an address, as requests name it: in lower case, without the usual port."""
    return urlsplit(address).netloc.lower().removesuffix(":443")
