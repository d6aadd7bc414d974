"""Which products of a folder are used, and why the others are not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Protocol, TypeVar

import numpy as np
import shapely

from sar1m.config import SafeConfig
from sar1m.core.radar.product import GeolocationGrid, GrdProduct
from sar1m.core.sphere import near_to
from sar1m.io.raster import file_digest
from sar1m.io.safe.orbit_file import find_orbit
from sar1m.io.safe.product import product_digest, read_product
from sar1m.sources.failures import PlanFailures
from sar1m.sources.known_bad import known_fault
from sar1m.sources.safe.checked_product import open_product, require_measurements
from sar1m.sources.safe.product_terms import ProductTerms, product_terms
from sar1m.store.errors import SourceError

SAME_ACQUISITION: Final = timedelta(seconds=3)  # processings start fractions of a second apart, slices 25 s


@dataclass(frozen=True, kw_only=True, eq=False)
class SafeScene:
    """One product that is used.

    path: zip or folder. orbit_file: replaces the state vectors of the annotation.
    footprint: in degrees, longitudes running on around the first tie point. polarisations: those to be read.
    """

    path: Path
    product: GrdProduct
    digest: str
    orbit_file: Path | None
    polarisations: tuple[str, ...]
    footprint: shapely.Polygon
    terms: ProductTerms

    @property
    def platform(self) -> str:
        return _platform(self.product)


def survey(
    root: Path, paths: list[Path], config: SafeConfig, orbits: Path | None, failures: PlanFailures
) -> tuple[list[SafeScene], tuple[str, ...]]:
    """Scenes of the products at paths in the order of acquisition and name, and a remark on each that is left out.

    Left out are known bad acquisitions and all but the newest processing of one acquisition. A product that cannot be
    read, or has not the polarisations asked for, is set aside in failures. Raises SourceError where there is no product
    in root or none can be used.
    """
    if not paths:
        raise SourceError(
            f"{root}: no Sentinel-1 product here. Expected *.SAFE folders or zip files with one each, as services "
            "deliver them."
        )
    products: list[tuple[Path, GrdProduct]] = []
    for path in paths:
        with failures.of(path.stem):
            products.append((path, read_product(path)))
    newest, remarks = usable_products(products, config)
    if not newest:
        failures.refuse_all()
        raise SourceError(f"{root}: every product is left out: {'; '.join(remarks)}")
    scenes: list[SafeScene] = []
    for path, product in newest:
        with failures.of(product.product_id):
            scenes.append(_scene(path, product, config, orbits))
    if not scenes:
        failures.refuse_all()
    scenes.sort(key=lambda scene: (scene.product.start, scene.product.product_id))
    return scenes, tuple(remarks)


class Acquisition(Protocol):
    """The facts that decide whether a product is used, from its annotation or from a catalogue.

    platform: such as S1A. ipf: version of the processor, empty where it is not stated.
    """

    @property
    def product_id(self) -> str: ...
    @property
    def platform(self) -> str: ...
    @property
    def datatake(self) -> str: ...
    @property
    def start(self) -> datetime: ...
    @property
    def ipf(self) -> str: ...


T = TypeVar("T")
A = TypeVar("A", bound=Acquisition)


def usable_products(products: Iterable[tuple[T, A]], config: SafeConfig) -> tuple[list[tuple[T, A]], list[str]]:
    """Products that are used, and a remark on each that is left out.

    products: pairs of anything and the product's facts; the pairs come back. Left out are known bad acquisitions, and
    all but the newest processing of one acquisition.
    """
    good, remarks = _without_known_bad(products) if config.skip_known_bad else (products, [])
    newest, more = _newest_processing(good)
    return newest, remarks + more


def _without_known_bad(products: Iterable[tuple[T, A]]) -> tuple[list[tuple[T, A]], list[str]]:
    good, remarks = [], []
    for found, product in products:
        fault = known_fault(_platform(product), product.start)
        if fault is None:
            good.append((found, product))
        else:
            remarks.append(f"{product.product_id}: left out, known to be wrong: {fault}")
    return good, remarks


def _newest_processing(products: Iterable[tuple[T, A]]) -> tuple[list[tuple[T, A]], list[str]]:
    """One product for each acquisition: the one of the highest processor version; of equal versions the one of the
    highest name."""
    groups: list[list[tuple[T, A]]] = []
    for found in sorted(products, key=lambda one: (one[1].platform, one[1].datatake, one[1].start)):
        last = groups[-1][-1][1] if groups else None
        same = last is not None and (last.platform, last.datatake) == (found[1].platform, found[1].datatake)
        if same and last is not None and found[1].start - last.start < SAME_ACQUISITION:
            groups[-1].append(found)
        else:
            groups.append([found])
    kept, remarks = [], []
    for group in groups:
        *older, newest = sorted(group, key=lambda one: (_version(one[1].ipf), one[1].product_id))
        kept.append(newest)
        made = f"{newest[1].product_id} is the same acquisition by IPF {newest[1].ipf or 'not stated'}"
        remarks += [f"{product.product_id}: left out, {made}" for _, product in older]
    return kept, remarks


def _platform(product: Acquisition) -> str:
    return f"sentinel-{product.platform[1:].lower()}"


def _version(ipf: str) -> tuple[int, ...]:
    return tuple(int(part) for part in ipf.split(".") if part.isdigit())


def _scene(path: Path, product: GrdProduct, config: SafeConfig, orbits: Path | None) -> SafeScene:
    there = tuple(channel.polarisation for channel in product.channels)
    if not config.polarisations and len(there) < _stated_polarisations(product):
        raise SourceError(
            f"{path}: its name says two polarisations, but it holds {', '.join(there)} alone. Fetch it again, or set "
            f'safe.polarisations = ["{there[0]}"] to use what is there.'
        )
    missing = [name for name in config.polarisations if name not in there]
    if missing:
        raise SourceError(
            f"{path}: has no {', '.join(missing)}, it holds {', '.join(there)}. Change safe.polarisations, or keep "
            "products of other polarisations in another folder."
        )
    orbit_file = None if orbits is None else find_orbit(orbits, product)
    require_measurements(path, product, config.polarisations or there)
    return SafeScene(
        path=path,
        product=open_product(path, orbit_file),
        digest=product_and_orbit_digest(path, orbit_file),
        orbit_file=orbit_file,
        polarisations=config.polarisations or there,
        footprint=footprint(product.geometry.grid),
        terms=product_terms(path, product),
    )


def _stated_polarisations(product: GrdProduct) -> int:
    """2 for ..1SDV_, ..1SDH_; 1 for all others."""
    return 2 if product.product_id.split("_")[3][2:3] == "D" else 1


def product_and_orbit_digest(path: Path, orbit_file: Path | None) -> str:
    """blake2b-128, hexadecimal, of the bytes of a product and of the orbit file that goes with it."""
    parts = [product_digest(path)] if orbit_file is None else [product_digest(path), file_digest(orbit_file)]
    return hashlib.blake2b(" ".join(parts).encode(), digest_size=16).hexdigest()


def footprint(grid: GeolocationGrid) -> shapely.Polygon:
    """The area of the tie points in degrees, longitudes within 180 of the first one's, which may pass +-180."""
    return shapely.convex_hull(shapely.MultiPoint(np.column_stack([near_to(grid.lon, grid.lon[0]), grid.lat])))
