"""Sentinel-1 GRD products: `safe:<path>` of a folder with *.SAFE folders or zip files, or of one product.

Beside the products, each optional and each replaced by a key of [safe] where that is given:
dem        heights: Copernicus GLO-30 or GLO-90 tiles as they are delivered, or any GeoTIFF (io/dem)
geoid      the grid that takes heights above the geoid to heights above the ellipsoid (io/geoid.py)
orbits     precise or restituted orbit files, *.EOF (io/safe/orbit_file.py)
optical    partners: GeoTIFFs with STAC items or a scenes.csv, as `folder` reads them; the SAR rows are not needed

A file NAME.terms.toml beside the product NAME states licence and attribution of a product that others than Copernicus
made (product_terms.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sar1m.config import BuildConfig, SafeConfig
from sar1m.core.grid import block_patches, centres_lonlat
from sar1m.io.dem.heights import ZERO_GEOID
from sar1m.io.safe.product import find_products
from sar1m.records import BlockPixels, Candidate, Cell, OpticalProduct, RasterGrid, SarProduct
from sar1m.sources.failures import PlanFailures, refusal
from sar1m.sources.folder.item_files import stac_optical
from sar1m.sources.folder.scenes_csv import TABLE_NAME, table_optical
from sar1m.sources.layers import FileDigests, OpticalScene, from_text, product_of_layer, require_bands, to_text
from sar1m.sources.partners import partner_of
from sar1m.sources.pixels import OpticalPixels, block_pixels
from sar1m.sources.placement import blocks_meeting, grid_with_halo
from sar1m.sources.read_layers import folder_bands, read_optical
from sar1m.sources.regions.countries import country_of
from sar1m.sources.safe.backscatter import SafeBlock, read_block
from sar1m.sources.safe.block_heights import Terrain, named_place, open_terrain, open_terrain_once
from sar1m.sources.safe.choose_products import SafeScene, survey
from sar1m.store.errors import ConfigError, SourceError


@dataclass(frozen=True)
class SafeSource:
    """Products of a folder, or one product.

    scratch: the folder where measurements are inflated; only reading pixels needs it.
    remarks: what candidates left out and why, complete once it has run. failures: what it could not use.
    """

    path: Path
    scratch: Path | None = None
    name: str = "safe"
    remarks: list[str] = field(default_factory=list, compare=False)
    failures: PlanFailures = field(default_factory=PlanFailures, compare=False)

    @property
    def base(self) -> Path:
        """The folder that dem, geoid, orbits and optical are looked for in."""
        return self.path if self.path.is_dir() and self.path.suffix != ".SAFE" else self.path.parent

    def place(self, key: str, config: SafeConfig) -> Path | None:
        """The file or folder of dem, geoid, orbits or optical. Raises ConfigError where the configuration names one
        that is not there."""
        beside = self.base / key
        return named_place(key, config) or (beside if beside.exists() else None)

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """Work items in the order of scenes, then of cells from south to north and west to east.

        A product or an optical scene that cannot be read is set aside in failures. Raises SourceError where no product
        can be used, or no optical scene where there are some, or the terrain cannot be used; ConfigError where the
        configuration does not fit this source.
        """
        if config.grid.layout == "chips":
            raise ConfigError("grid.layout = chips: SAFE products are cut by cells. Set grid.layout = majortom.")
        paths = find_products(self.path) if self.base == self.path else [self.path]
        self.failures.found.clear()
        scenes, remarks = survey(self.base, paths, config.safe, self.place("orbits", config.safe), self.failures)
        self.remarks[:] = remarks
        partners = self._partners(config)
        if not partners and config.balance.max_unpaired_share < 1:
            self.remarks.append(
                f"No optical scene beside the products: balance.max_unpaired_share = "
                f"{config.balance.max_unpaired_share:g} rejects samples without a partner. Set it to 1 to keep them."
            )
        terrain = open_terrain(self.place("dem", config.safe), self.place("geoid", config.safe), config.safe)
        if terrain is not None and ZERO_GEOID in terrain.description:
            self.remarks.append(
                f"{terrain.description}: no geoid is. Heights stay above the model's own datum, which moves pixels by "
                "up to 10 px. Give a real grid as safe.geoid."
            )
        for scene in scenes:
            for cell, grid in blocks_meeting(scene.footprint, config.grid):
                best = partner_of(grid, scene.product.start, [partner.scene for partner in partners])
                partner = None if best is None else partners[best]
                yield self._candidate(scene, cell, grid, partner, terrain, config)

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """Pixels of one work item. Needs the folders at the same paths as when it was planned.

        Raises SourceError where a file is missing, damaged or not as described, or terrain is needed and not there.
        """
        handle = dict(candidate.handle)
        if self.scratch is None:
            raise SourceError(f"{candidate.item_id}: no scratch folder was given to inflate measurements in.")
        block = SafeBlock(
            path=self.base / handle["product"],
            orbit_file=Path(handle["orbit"]) if handle["orbit"] else None,
            digest=handle["digest"],
            polarisations=candidate.sar.polarisations,
            grid=grid_with_halo(candidate),
        )
        terrain = self._planned_terrain(handle["terrain"], candidate, config.safe)
        sar = read_block(block, terrain, config.safe, self.scratch)
        return block_pixels(sar, self._read_partner(handle["optical"], candidate, block.grid, config))

    def _planned_terrain(self, digest: str, candidate: Candidate, config: SafeConfig) -> Terrain | None:
        """The terrain that the build was planned with. Raises SourceError where the files here are others."""
        places = self.place("dem", config), self.place("geoid", config), config
        for forget in (False, True):
            if forget:
                open_terrain_once.cache_clear()  # files may have changed since it was opened
            terrain = open_terrain_once(*places)
            if (terrain.digest(candidate.grid) if terrain is not None else "") == digest:
                return terrain
        raise SourceError(
            f"{candidate.item_id}: the DEM or the geoid grid is not the one that the build was planned with. Build "
            "again; workers on other machines need the same files."
        )

    def _read_partner(self, text: str, candidate: Candidate, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        bands = config.pixels.optical_bands
        root = self.place("optical", config.safe) or self.base
        if not text:
            return read_optical(folder_bands(root, grid, candidate.item_id), None, (), bands)
        scene = from_text(OpticalScene, text, candidate.item_id)
        return read_optical(
            folder_bands(_folder_of(root), grid, scene.described_in), scene.optical, scene.classes, bands
        )

    def _partners(self, config: BuildConfig) -> list[_Partner]:
        root = self.place("optical", config.safe)
        if root is None:
            return []
        table = _folder_of(root) / TABLE_NAME if root.is_dir() else root
        failures, before = self.failures, len(self.failures.found)
        scenes = table_optical(table, failures.of) if table.is_file() else stac_optical(root, failures.of)
        if not scenes and failures.found[before:]:
            raise refusal(failures.found[before:])
        if not scenes:
            raise SourceError(
                f"{root}: nothing here describes an optical scene. Expected STAC items (*.json, type Feature) or a "
                f"{TABLE_NAME} with rows of kind optical; remove the folder to build without partners."
            )
        digests, bands = FileDigests(_folder_of(root)), config.pixels.optical_bands
        partners = []
        for scene in scenes:
            with failures.of(scene.name, patches=0):
                require_bands(scene.optical, bands, scene.described_in)
                digest = digests.of([scene.optical, *scene.classes], scene.described_in)
                partners.append(_Partner(scene=scene, product=product_of_layer(scene.optical, digest, bands)))
        if not partners:
            raise refusal(failures.found[before:])
        return partners

    def _candidate(
        self,
        scene: SafeScene,
        cell: Cell,
        grid: RasterGrid,
        partner: _Partner | None,
        terrain: Terrain | None,
        config: BuildConfig,
    ) -> Candidate:
        item_id = f"{scene.product.product_id}_{cell.name}"
        lon, lat = centres_lonlat([grid])
        optical = None if partner is None else partner.scene
        return Candidate(
            item_id=item_id,
            source=self.name,
            cell=cell.name,
            site=scene.product.product_id,
            grid=grid,
            halo_px=config.grid.halo_px,
            patches=block_patches(cell.name, config.grid),
            sar=_sar_product(scene, grid, terrain, config.safe),
            optical=None if partner is None else partner.product,
            attribution=_attribution(scene, terrain, optical),
            country=country_of(lon, lat)[0],
            handle=(
                ("product", scene.path.relative_to(self.base).as_posix()),
                ("orbit", "" if scene.orbit_file is None else str(scene.orbit_file)),
                ("digest", scene.digest),
                ("terrain", "" if terrain is None else terrain.digest(grid)),
                ("optical", "" if optical is None else to_text(optical)),
            ),
        )


def _folder_of(place: Path) -> Path:
    return place if place.is_dir() else place.parent


@dataclass(frozen=True, kw_only=True)
class _Partner:
    """An optical scene and its product record."""

    scene: OpticalScene
    product: OpticalProduct


def _sar_product(scene: SafeScene, grid: RasterGrid, terrain: Terrain | None, config: SafeConfig) -> SarProduct:
    product = scene.product
    inputs = [scene.digest] if terrain is None else [scene.digest, terrain.digest(grid)]
    return SarProduct(
        product_id=product.product_id,
        digest=hashlib.blake2b(" ".join(inputs).encode(), digest_size=16).hexdigest(),
        quantity=config.quantity,
        polarisations=scene.polarisations,
        processing=_processing(scene, terrain, config),
        provider=product.processed_by,
        licence=scene.terms.licence,
        acquired=product.start,
        platform=scene.platform,
        orbit_state=product.orbit_state,
        relative_orbit=product.relative_orbit,
        datatake=product.datatake,
    )


def _processing(scene: SafeScene, terrain: Terrain | None, config: SafeConfig) -> str:
    product, orbit = scene.product, "annotated" if scene.orbit_file is None else scene.orbit_file.name
    return processing_steps(f"{product.mode} GRD, IPF {product.ipf}", f"orbit {orbit}", terrain, config)


def processing_steps(made: str, orbit: str, terrain: Terrain | None, config: SafeConfig) -> str:
    """What is done to the pixels of every block of a scene. What differs by block stands in the block's flags.

    made: which processor made the product. orbit: which orbit places the pixels.
    """
    flat = config.quantity == "gamma0" and config.flatten_terrain and terrain is not None
    steps = [
        made,
        orbit,
        "thermal noise removed" if config.remove_thermal_noise else "thermal noise kept",
        "border noise masked" if config.mask_border_noise else "border noise kept",
        "tie points" if terrain is None else f"range-Doppler on {terrain.description}",
        f"lines {config.azimuth_rule}, ground range {config.ground_range_rule}, {config.resampling}",
        *([] if config.troposphere == "none" else ["tropospheric delay of the standard atmosphere taken off"]),
        f"{config.quantity} {'terrain-flattened (Small 2011)' if flat else 'against the ellipsoid'}",
    ]
    return "; ".join(steps)


def _attribution(scene: SafeScene, terrain: Terrain | None, optical: OpticalScene | None) -> str:
    parts = (
        scene.terms.attribution,
        "" if terrain is None else terrain.attribution,
        "" if optical is None else optical.attribution,
    )
    return "; ".join(part for part in parts if part)
