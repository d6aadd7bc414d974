"""One's own GeoTIFFs and COGs: `folder:<path>`, described by STAC items, by a table, or by the names of folders.

The three descriptions are tried in this order. Their modules say what they expect: item_files, scenes_csv, modality.
Rasters smaller than a block of patches are taken as chips, larger ones are cut by Major TOM cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
import shapely

from sar1m.config import BuildConfig, GridConfig
from sar1m.core.grid import block_patches, cell_names, cells_at, centres_lonlat
from sar1m.core.sphere import near_to
from sar1m.core.utm import utm_epsg, utm_from_lonlat
from sar1m.io.header import ALIGNED_PX, RasterHeader, read_header
from sar1m.records import BlockPixels, Candidate, OpticalProduct, PatchPlace, RasterGrid, SarProduct
from sar1m.sources.failures import PlanFailures
from sar1m.sources.folder.features import stac_features
from sar1m.sources.folder.item_files import stac_pairs
from sar1m.sources.folder.modality import SAR_FOLDERS, modality_folders, modality_pairs
from sar1m.sources.folder.scenes_csv import COLUMNS, TABLE_NAME, table_pairs
from sar1m.sources.layers import (
    FileDigests,
    FolderPair,
    from_text,
    product_of_layer,
    require_bands,
    require_one_kind,
    resolve_inside,
    to_text,
)
from sar1m.sources.partners import NearbyScene, PairAmongScenes, partners_of_patches
from sar1m.sources.placement import blocks_meeting, chip_block, grid_with_halo, upright_inside
from sar1m.sources.read_layers import read_pair
from sar1m.sources.regions.countries import country_of
from sar1m.sources.sentinel_names import orbit_state
from sar1m.store.errors import ConfigError, SourceError

MAX_CHIP_PX: Final = 8192  # one work item holds a whole chip in memory
UPRIGHT_SHARE: Final = 0.75  # scenes of which an upright rectangle holds less are cut by cells, also as chips
CELL_M: Final = 10_000.0  # smaller ones may lie between the cells
_SAME_SPACING: Final = 1e-6
_EDGE: Final = np.linspace(0.0, 1.0, 33)


@dataclass(frozen=True)
class FolderSource:
    """A folder of rasters. path: the folder, or its scenes.csv."""

    path: Path
    name: str = "folder"
    remarks: tuple[str, ...] = ()
    failures: PlanFailures = field(default_factory=PlanFailures, compare=False)

    @property
    def root(self) -> Path:
        """The folder that all files stand in."""
        return self.path.parent if self.path.suffix.lower() == ".csv" else self.path

    def pairs(self) -> list[PairAmongScenes]:
        """What the folder holds, in the order of work items; what cannot be used is set aside in failures.

        Raises SourceError where no description is found, where it is wrong as a whole, where quantities or
        polarisations are mixed, or where nothing can be used.
        """
        self.failures.found.clear()
        found = self._described()
        if not found:
            self.failures.refuse_all()
        require_one_kind([described.pair for described in found])
        return found

    def _described(self) -> list[PairAmongScenes]:
        if self.path != self.root:
            return _alone(table_pairs(self.path, self._failing))
        if not self.root.is_dir():
            raise SourceError(f"{self.root}: no such folder. Give an existing folder, or the scenes.csv in it.")
        if features := stac_features(self.root, self._failing):
            return stac_pairs(self.root, features, self._failing)
        if (self.root / TABLE_NAME).exists():
            return _alone(table_pairs(self.root / TABLE_NAME, self._failing))
        if SAR_FOLDERS.keys() & modality_folders(self.root).keys():
            pairs = modality_pairs(self.root, self._failing)
            if pairs or self.failures.found:
                return _alone(pairs)
        self.failures.refuse_all()
        raise SourceError(
            f"{self.root}: nothing here says what the rasters are. Expected one of: STAC items (*.json, type Feature); "
            f"a table {TABLE_NAME} with the columns {', '.join(COLUMNS)}; or a folder S1RTC or S1GRD with GeoTIFFs, "
            "and beside it S2L2A, S2L1C or S2RGB with files of the same names."
        )

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """Work items in the order of pairs, then of cells from south to north and west to east.

        Set aside, or raised where it holds for every pair: SourceError where a band of pixels.optical_bands is missing,
        ConfigError where a chip cannot hold a patch, or a raster lies between the blocks. Raises SourceError as pairs
        does.
        """
        products = _Products(FileDigests(self.root), config.pixels.optical_bands)
        planned = 0
        for described in self.pairs():
            with self._failing(described.pair.name):
                for candidate in self._candidates(described, products, config):
                    planned += 1
                    yield candidate
        if not planned:
            self.failures.refuse_all()

    def _failing(self, name: str, patches: int = 1) -> AbstractContextManager[None]:
        """Sets the pair, item or block of this name aside where it fails."""
        return self.failures.of(f"{self.name}_{name}", patches)

    def _candidates(self, described: PairAmongScenes, products: _Products, config: BuildConfig) -> Iterator[Candidate]:
        pair = described.pair
        header = read_header(resolve_inside(self.root, pair.sar.bands[0].path, pair.described_in))
        for place in _places(pair, header, config.grid):
            for part, scene in _by_partner(place, described, config.grid.patch_px):
                with self._failing(f"{pair.name}{part.suffix}", len(part.patches)):
                    own = pair if scene is None else pair.with_partner(scene.described())
                    yield self._candidate(own, part, products, config)

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """Pixels of one work item. The folder must be at the same path as when the build was planned."""
        text = dict(candidate.handle).get("pair", "")
        pair = from_text(FolderPair, text, candidate.item_id)
        return read_pair(self.root, pair, grid_with_halo(candidate), config.pixels.optical_bands)

    def _candidate(self, pair: FolderPair, place: _Place, products: _Products, config: BuildConfig) -> Candidate:
        lon, lat = centres_lonlat([place.grid])
        sar_digest, optical = products.of(pair)
        return Candidate(
            item_id=f"{self.name}_{pair.name}{place.suffix}",
            source=self.name,
            cell=place.cell or cell_names(*cells_at(lon, lat))[0],
            site=pair.name,
            grid=place.grid,
            halo_px=config.grid.halo_px,
            patches=place.patches,
            sar=_sar_product(pair, sar_digest, float(lon[0])),
            optical=optical,
            labels=pair.labels,
            attribution=pair.attribution,
            country=country_of(lon, lat)[0],
            handle=(("pair", to_text(pair)),),
        )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """One block. cell and suffix are empty for a chip."""

    grid: RasterGrid
    patches: tuple[PatchPlace, ...]
    cell: str = ""
    suffix: str = ""


@dataclass(frozen=True)
class _Products:
    """Digests and product records of pairs, each file read once. bands: of the output."""

    digests: FileDigests
    bands: tuple[str, ...]
    known: dict[FolderPair, tuple[str, OpticalProduct | None]] = field(default_factory=dict)

    def of(self, pair: FolderPair) -> tuple[str, OpticalProduct | None]:
        """Digest of the SAR side and product of the partner, of a pair that many blocks may share."""
        if pair not in self.known:
            self.known[pair] = self._sar_digest(pair), self._optical(pair)
        return self.known[pair]

    def _sar_digest(self, pair: FolderPair) -> str:
        """Of the SAR scene and the land cover that goes with it."""
        return self.digests.of([pair.sar, *(c for c in pair.classes if c.kind == "land_cover")], pair.described_in)

    def _optical(self, pair: FolderPair) -> OpticalProduct | None:
        """Of the partner and its masks. Raises SourceError where a band that is asked for is missing."""
        if pair.optical is None:
            return None
        require_bands(pair.optical, self.bands, pair.optical.bands[0].path)
        masks = [c for c in pair.classes if c.kind != "land_cover"]
        return product_of_layer(pair.optical, self.digests.of([pair.optical, *masks], pair.described_in), self.bands)


def _alone(pairs: list[FolderPair]) -> list[PairAmongScenes]:
    return [PairAmongScenes(pair=pair) for pair in pairs]


def _by_partner(
    place: _Place, described: PairAmongScenes, patch_px: int
) -> Iterator[tuple[_Place, NearbyScene | None]]:
    """A block and its partner; where patches of one block have several partners, the part of the block of each."""
    pair, around = described.pair, described.around
    if not around:
        yield place, None
        return
    chosen = partners_of_patches(place.grid, place.patches, patch_px, pair.sar.acquired, around)
    numbers = list(dict.fromkeys(chosen))
    for count, number in enumerate(numbers, start=1):
        patches = tuple(patch for patch, one in zip(place.patches, chosen, strict=True) if one == number)
        part = place if len(numbers) == 1 else _part(place, patches, patch_px, f"_part{count}")
        yield part, None if number is None else around[number]


def _part(place: _Place, patches: tuple[PatchPlace, ...], patch_px: int, suffix: str) -> _Place:
    """The part of a block around some of its patches."""
    top, left = min(patch.row for patch in patches), min(patch.col for patch in patches)
    rows = max(patch.row for patch in patches) + patch_px - top
    cols = max(patch.col for patch in patches) + patch_px - left
    moved = tuple(replace(patch, row=patch.row - top, col=patch.col - left) for patch in patches)
    return _Place(
        grid=place.grid.window(top, left, rows, cols), patches=moved, cell=place.cell, suffix=f"{place.suffix}{suffix}"
    )


def _places(pair: FolderPair, header: RasterHeader, config: GridConfig) -> Iterator[_Place]:
    """Blocks of one SAR raster: the chip itself, or the cells that meet its footprint."""
    grid, share = _target_grid(header, config.gsd_m)
    block_px = config.patches_per_side * config.patch_px
    side_px = min(grid.rows, grid.cols)
    turned = share < UPRIGHT_SHARE and side_px * config.gsd_m >= CELL_M
    if config.layout == "majortom" or (config.layout == "auto" and side_px >= block_px) or turned:
        found = list(_cell_places(header, config))
        if not found:
            raise ConfigError(
                f"{pair.name}: no block of patches meets it: blocks of {block_px} px stand in the middle of 10 km "
                "cells and leave room between them. Set grid.layout = chips, or raise grid.patches_per_side."
            )
        yield from found
        return
    if max(grid.rows, grid.cols) > MAX_CHIP_PX:
        raise ConfigError(
            f"{pair.name}: {grid.rows} x {grid.cols} px as one chip; at most {MAX_CHIP_PX} px a side are held at once. "
            "Set grid.layout = majortom."
        )
    block, patches = chip_block(grid, pair.name, config)
    yield _Place(grid=block, patches=patches)


def _target_grid(header: RasterHeader, gsd_m: float) -> tuple[RasterGrid, float]:
    """The raster's own grid where it is UTM at the wanted spacing; else an upright rectangle inside its footprint in
    the UTM zone of its centre, on whole multiples of the spacing. And the share of the footprint that it holds."""
    own = header.grid()
    if own is not None and abs(own.gsd_m / gsd_m - 1) < _SAME_SPACING:
        return own, 1.0
    lon, lat = header.lonlat([header.rows / 2], [header.cols / 2])
    epsg = int(utm_epsg(lon, lat)[0])
    edges = np.stack(utm_from_lonlat(*_outline(header), epsg), axis=-1).reshape(4, -1, 2)
    (left, bottom, right, top), share = upright_inside(edges)
    left_px, bottom_px = (np.ceil(side / gsd_m - ALIGNED_PX) for side in (left, bottom))
    right_px, top_px = (np.floor(side / gsd_m + ALIGNED_PX) for side in (right, top))
    grid = RasterGrid(
        epsg=epsg,
        left_m=float(left_px * gsd_m),
        top_m=float(top_px * gsd_m),
        gsd_m=gsd_m,
        rows=max(int(top_px - bottom_px), 0),
        cols=max(int(right_px - left_px), 0),
    )
    return grid, share


def _outline(header: RasterHeader) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes along the four edges of a raster, of each edge equally many."""
    down = np.concatenate([_EDGE * 0, _EDGE, _EDGE * 0 + 1, _EDGE[::-1]])
    across = np.concatenate([_EDGE, _EDGE * 0 + 1, _EDGE[::-1], _EDGE * 0])
    return header.lonlat(down * header.rows, across * header.cols)


def _cell_places(header: RasterHeader, config: GridConfig) -> Iterator[_Place]:
    """Every block whose pixels meet the footprint, with all its patches."""
    lon, lat = _outline(header)
    footprint = shapely.Polygon(np.column_stack([near_to(lon, lon[0]), lat]))
    for cell, grid in blocks_meeting(footprint, config):
        yield _Place(grid=grid, patches=block_patches(cell.name, config), cell=cell.name, suffix=f"_{cell.name}")


def _sar_product(pair: FolderPair, digest: str, lon: float) -> SarProduct:
    layer = pair.sar
    sentinel = (layer.platform or "").startswith("sentinel-1")
    seen = orbit_state(layer.acquired, lon) if sentinel and layer.acquired is not None else None
    return SarProduct(
        product_id=layer.product_id,
        digest=digest,
        quantity=layer.quantity,
        polarisations=tuple(band.name for band in layer.bands),
        processing=layer.processing,
        provider=layer.provider,
        licence=layer.licence,
        acquired=layer.acquired,
        platform=layer.platform,
        orbit_state=layer.orbit_state or seen,
        relative_orbit=layer.relative_orbit,
        datatake=layer.datatake,
    )
