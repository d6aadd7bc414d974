"""The plan of an area: which scenes serve which cells, in columns, and the work items that follow from it.

A million cells are held as numbers; work items, with their grids, patches and texts, are made one after the other.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from sar1m.config import BuildConfig
from sar1m.core.grid import block_grids, block_patches, centres_lonlat, make_cells
from sar1m.core.pairing import CellReason, Choices, CoverTable, PartnerReason
from sar1m.core.utm import IntArray
from sar1m.records import Candidate, OpticalProduct, RasterGrid, SarProduct
from sar1m.sources.baselines import KNOWN, parse_baseline, radiometric_offset_dn
from sar1m.sources.regions.countries import country_of
from sar1m.sources.scene import ASSET_WORDS, LAND_COVER_ATTRIBUTION, UNDATED, Asset, Scene, scene_to_text
from sar1m.store.errors import SourceError

PLAN_VERSION: Final = 2  # raise it when choosing or the table changes: plans of other versions are refused
CELLS_AT_ONCE: Final = 4096
SOURCE_NAME: Final = "area"
CATALOGUE_DIGEST: Final = "digest of the catalogue's facts"

CELL_WORDS: Final[dict[CellReason, str]] = {
    "taken": "taken",
    "no_sar_scene": "the catalogue has no SAR scene here in this period",
    "sar_covers_part_of_the_block": (
        "no single SAR scene covers area.min_cell_cover of the block (scenes are not joined; common at their borders)"
    ),
    "sar_only_of_other_orbit_direction": "SAR scenes of the other orbit direction only (area.orbit)",
}
PARTNER_WORDS: Final[dict[PartnerReason, str]] = {
    "paired": "paired",
    "no_optical_scene": "the service offers no optical scene under area.max_scene_cloud_frac here",
    "optical_covers_part_of_the_block": "optical scenes within area.pair_days cover a part of the block only",
    "optical_cloudy": "optical scenes within area.pair_days are over area.max_scene_cloud_frac",
    "optical_too_far_in_time": "the nearest clear optical scene is further than area.pair_days away",
}
NO_OPTICAL_SERVICE: Final = "no optical service was asked (area.optical = none)"


@dataclass(frozen=True, kw_only=True, eq=False)
class AreaPlan:
    """Which scenes serve which cells.

    row, column, cell_reason: of all cells (C,), in the order of the region.
    scenes: those that are used, by time, then by id.
    cell, sar, optical: of the work items (K,), by SAR scene, then by cell from south to north and west to east. They
    are numbers of cells and scenes; optical is -1 where there is no partner.
    sar_cover, optical_cover: fractions of the block (K,), NaN without a scene.
    searches: queries that were made. found: scenes that they gave.
    """

    region: str
    services: tuple[str, str | None]
    row: IntArray
    column: IntArray
    cell_reason: npt.NDArray[np.object_]
    scenes: tuple[Scene, ...]
    cell: IntArray
    sar: IntArray
    optical: IntArray
    sar_cover: npt.NDArray[np.float32]
    optical_cover: npt.NDArray[np.float32]
    reason: npt.NDArray[np.object_]
    searches: int
    found: int

    @property
    def paired(self) -> int:
        """Number of work items that have a partner."""
        return int((self.optical >= 0).sum())

    @cached_property
    def dt_hours(self) -> npt.NDArray[np.float64]:
        """Time of the optical scene minus time of the SAR scene (K,), NaN without a partner or without its date."""
        times_s = np.asarray([time_s(scene) for scene in self.scenes] + [np.nan])
        apart: npt.NDArray[np.float64] = (times_s[self.optical] - times_s[self.sar]) / 3600
        return apart

    def remarks(self, wanted_per_cell: int) -> list[str]:
        """What was left out and why, one line each: cells without scenes, SAR without a partner, scenes to be ordered.

        wanted_per_cell: area.scenes_per_cell.
        """
        left_out = Counter(reason for reason in self.cell_reason.tolist() if reason != "taken")
        lines = [f"{count:,} cells: {CELL_WORDS[reason]}." for reason, count in sorted(left_out.items())]
        taken = np.bincount(self.cell, minlength=self.row.size)
        if fewer := int(((taken > 0) & (taken < wanted_per_cell)).sum()):
            lines.append(f"{fewer:,} cells: fewer SAR scenes than area.scenes_per_cell = {wanted_per_cell}.")
        alone = Counter(self.reason[self.optical < 0].tolist())
        if self.services[1] is None:
            alone = Counter({NO_OPTICAL_SERVICE: sum(alone.values())})
        reasons = sorted((PARTNER_WORDS.get(reason, reason), count) for reason, count in alone.items() if count)
        lines += [f"{count:,} SAR blocks without a partner: {why}." for why, count in reasons]
        if offline := sum(not scene.online for scene in self.scenes):
            lines.append(f"{offline:,} of {len(self.scenes):,} scenes are offline and must be ordered first.")
        return lines

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """The work items, made one by one as they are asked for."""
        sar_of = lru_cache(maxsize=64)(lambda number: _sar_product(self.scenes[number], config))
        optical_of = lru_cache(maxsize=1024)(lambda number: optical_product(self.scenes[number], config))
        text_of = lru_cache(maxsize=1024)(lambda number: scene_to_text(self.scenes[number]))
        for start in range(0, self.cell.size, CELLS_AT_ONCE):
            numbers = range(start, min(start + CELLS_AT_ONCE, self.cell.size))
            for number, place in zip(numbers, self._places(numbers, config), strict=True):
                sar, optical = int(self.sar[number]), int(self.optical[number])
                partner = self.scenes[optical] if optical >= 0 else None
                yield Candidate(
                    item_id=f"{self.scenes[sar].scene_id}_{place.cell}",
                    source=SOURCE_NAME,
                    cell=place.cell,
                    site=self.scenes[sar].scene_id,
                    grid=place.grid,
                    halo_px=config.grid.halo_px,
                    patches=block_patches(place.cell, config.grid),
                    sar=sar_of(sar),
                    optical=None if partner is None else optical_of(optical),
                    attribution=_attribution(self.scenes[sar], partner, config.area.land_cover),
                    country=place.country,
                    handle=(("sar", text_of(sar)), ("optical", "" if partner is None else text_of(optical))),
                )

    def _places(self, numbers: range, config: BuildConfig) -> list[_Place]:
        cells_of = self.cell[numbers.start : numbers.stop]
        cells = make_cells(self.row[cells_of], self.column[cells_of])
        grids = block_grids(cells, config.grid)
        countries = country_of(*centres_lonlat(grids))
        return [
            _Place(cell=cell.name, grid=grid, country=country)
            for cell, grid, country in zip(cells, grids, countries, strict=True)
        ]


@dataclass(kw_only=True)
class PlanDraft:
    """A plan while it is made: boxes are added one by one. Only scenes in use are kept."""

    row: IntArray
    column: IntArray
    cell_reason: npt.NDArray[np.object_]
    searches: int = 0
    found: int = 0
    used: dict[str, tuple[int, Scene]] = field(default_factory=dict)
    parts: list[dict[str, npt.NDArray[Any]]] = field(default_factory=list)

    @staticmethod
    def of(row: IntArray, column: IntArray) -> PlanDraft:
        """An empty draft for these cells."""
        return PlanDraft(row=row, column=column, cell_reason=np.full(row.size, "", dtype=object))

    def add(
        self,
        cells: IntArray,
        sar_scenes: list[Scene],
        optical_scenes: list[Scene],
        covers: CoverTable,
        chosen: Choices,
    ) -> None:
        """Adds what was chosen for one box.

        cells: numbers of the box's cells among all cells.
        sar_scenes, optical_scenes: the scenes that the numbers in chosen stand for.
        covers: of the box's cells.
        """
        self.cell_reason[cells] = chosen.cell_reason
        partner = chosen.optical >= 0
        optical_cover = np.full(chosen.cell.size, np.nan, dtype=np.float32)
        optical_cover[partner] = covers.optical[chosen.cell[partner], chosen.optical[partner]]
        self.parts.append(
            {
                "cell": cells[chosen.cell],
                "sar": self._kept(sar_scenes, chosen.sar),
                "optical": self._kept(optical_scenes, chosen.optical),
                "sar_cover": covers.sar[chosen.cell, chosen.sar],
                "optical_cover": optical_cover,
                "reason": np.asarray(chosen.reason, dtype=object),
            }
        )

    def _kept(self, scenes: list[Scene], numbers: IntArray) -> IntArray:
        """The numbers of scenes among all scenes in use; -1 stays -1."""
        kept = np.full(len(scenes) + 1, -1, dtype=np.int64)
        for number in np.unique(numbers[numbers >= 0]).tolist():
            scene = scenes[number]
            kept[number] = self.used.setdefault(f"{scene.kind} {scene.scene_id}", (len(self.used), scene))[0]
        return kept[numbers]

    def finished(self, region: str, services: tuple[str, str | None]) -> AreaPlan:
        """The plan, with its scenes and work items in order."""
        scenes = [scene for _, scene in self.used.values()]
        in_time = sorted(range(len(scenes)), key=lambda number: (scenes[number].acquired, scenes[number].scene_id))
        rank = np.full(len(scenes) + 1, -1, dtype=np.int64)
        rank[in_time] = np.arange(len(scenes))
        empty = {"cell": np.int64, "sar": np.int64, "optical": np.int64, "reason": object}
        columns = {
            name: np.concatenate([np.empty(0, dtype=empty.get(name, np.float32)), *(part[name] for part in self.parts)])
            for name in ("cell", "sar", "optical", "sar_cover", "optical_cover", "reason")
        }
        columns["sar"], columns["optical"] = rank[columns["sar"]], rank[columns["optical"]]
        order = np.lexsort((columns["cell"], columns["sar"]))  # cells are numbered from south to north
        return AreaPlan(
            region=region,
            services=services,
            row=self.row,
            column=self.column,
            cell_reason=self.cell_reason,
            scenes=tuple(scenes[number] for number in in_time),
            searches=self.searches,
            found=self.found,
            **{name: values[order] for name, values in columns.items()},
        )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """The block of one work item: its cell, grid and country."""

    cell: str
    grid: RasterGrid
    country: str | None


def plan_digest(config: BuildConfig) -> str:
    """blake2b-128 of the version and of all keys that shape a plan: [area], [grid], pixels.optical_bands and
    safe.quantity."""
    sections = config.model_dump(mode="json", include={"area", "grid"})
    shaping = [PLAN_VERSION, sections, list(config.pixels.optical_bands), config.safe.quantity]
    return hashlib.blake2b(json.dumps(shaping, sort_keys=True).encode(), digest_size=16).hexdigest()


def scene_digest(scene: Scene) -> str:
    """blake2b-128 of what the catalogue states of a scene's pixels: service, id, how they were processed, and the name,
    size, checksum and numbers of every asset. Where the catalogue states neither size nor checksum, the asset's address
    without its query stands in.

    It stands for the bytes, which are not at hand when a build is planned: two scenes alike in all this are taken for
    the same. A scene processed anew under the same id is noticed only where size, checksum, baseline or address differ.
    """
    made = (scene.sar_quantity, scene.processing, scene.optical_quantity, scene.processing_baseline, scene.offset_dn)
    assets = sorted(_asset_facts(asset) for asset in scene.assets)
    facts = [scene.service, scene.scene_id, scene.kind, scene.acquired.isoformat(), made, assets]
    return hashlib.blake2b(json.dumps(facts).encode(), digest_size=16).hexdigest()


def time_s(scene: Scene) -> float:
    """UNIX time of a scene in seconds, NaN where it is undated."""
    return float("nan") if scene.acquired == UNDATED else scene.acquired.timestamp()


def _asset_facts(asset: Asset) -> tuple[str, str]:
    known = [str(fact) for fact in (asset.size_bytes, asset.checksum) if fact is not None]
    identity = " ".join(known) or urlsplit(asset.href)._replace(query="", fragment="").geturl()
    words = [f"{name} {fact}" for name in ASSET_WORDS if (fact := getattr(asset, name)) is not None]
    return asset.name, " ".join([identity, *words])


def _sar_product(scene: Scene, config: BuildConfig) -> SarProduct:
    """The product record of a SAR scene. Raises SourceError where the scene does not state its quantity."""
    if scene.sar_quantity is None:
        raise SourceError(
            f"{scene.service} {scene.scene_id}: states neither sigma0 nor gamma0; a store never mixes them."
        )
    return SarProduct(
        product_id=scene.scene_id,
        digest=scene_digest(scene),
        quantity=scene.sar_quantity,
        polarisations=tuple(config.area.polarisations),
        processing="; ".join(part for part in (scene.processing, CATALOGUE_DIGEST) if part),
        provider=scene.provider,
        licence=scene.licence,
        acquired=scene.acquired,
        platform=scene.platform,
        orbit_state=scene.orbit_state,
        relative_orbit=scene.relative_orbit,
        datatake=scene.datatake,
    )


def optical_product(scene: Scene, config: BuildConfig) -> OpticalProduct:
    """The product record of an optical scene. Raises SourceError where the scene does not state its quantity."""
    if scene.optical_quantity is None:
        raise SourceError(f"{scene.service} {scene.scene_id}: does not say whether it holds reflectance or a picture.")
    return OpticalProduct(
        product_id=scene.scene_id,
        digest=scene_digest(scene),
        quantity=scene.optical_quantity,
        bands=config.pixels.optical_bands,
        provider=scene.provider,
        licence=scene.licence,
        acquired=None if scene.acquired == UNDATED else scene.acquired,
        processing_baseline=scene.processing_baseline,
        offset_applied=_offset_applied(scene),
    )


def _offset_applied(scene: Scene) -> int | None:
    """The radiometric offset in the pixels as read, whether the service adds it or this program."""
    baseline = None if scene.processing_baseline is None else parse_baseline(scene.processing_baseline)
    if scene.optical_quantity != "reflectance" or baseline not in KNOWN:
        return scene.offset_dn
    return radiometric_offset_dn(baseline)


def _attribution(sar: Scene, optical: Scene | None, land_cover: bool) -> str:
    attributions = [scene.attribution for scene in (sar, optical) if scene and scene.attribution]
    return "; ".join(dict.fromkeys([*attributions, LAND_COVER_ATTRIBUTION] if land_cover else attributions))
