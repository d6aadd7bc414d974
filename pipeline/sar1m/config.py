"""A build's configuration: TOML in, frozen and validated models out, with a digest.

Sections that shape pixels (PIXEL_SECTIONS) are part of the content key of a staged block. Thresholds (screening,
balance, split, pack) are not, so that a change of them never reads a source again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, model_validator

from sar1m.store import settings
from sar1m.store.schema import SCHEMA_VERSION, Profile
from sar1m.store.settings import Section

# In a wheel the configurations lie in the package, in a checkout beside it.
CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")
PIXEL_SECTIONS: Final = ("grid", "pixels", "registration", "safe", "simulated")
SAFE_PLACES: Final = ("dem", "geoid", "orbits", "optical")  # keys of [safe] that name files or folders

Fraction = float  # between 0 and 1; the bounds stand at each field


class GridConfig(Section):
    """Cells, patches and the margin around them.

    layout: majortom cuts scenes into Major TOM cells of 10 km; chips makes one block of each input raster, but not of a
    large one of which an upright block in UTM would lose a quarter; auto does so with rasters smaller than a block.
    patch_px: side of a patch. patches_per_side: of a block. gsd_m: size of a pixel.
    halo_px: margin read around a block, so that correcting the shift loses no edge.
    """

    layout: Literal["auto", "majortom", "chips"] = "auto"
    patch_px: int = Field(default=256, ge=32, le=2048, multiple_of=16)
    patches_per_side: int = Field(default=4, ge=1, le=32)
    gsd_m: float = Field(default=10.0, gt=0)
    halo_px: int = Field(default=16, ge=0, le=256)


class PixelsConfig(Section):
    """What is stored and how finely."""

    profile: Profile = "training"
    compression: Literal["blosc-lz4", "none"] = "blosc-lz4"
    optical_bands: tuple[str, ...] = ("B04", "B03", "B02")
    terrain_layers: bool = False  # stores local incidence and the mask of layover and shadow, pixel by pixel


class RegistrationConfig(Section):
    """How the shift between SAR and optical is measured and corrected.

    search_px: the largest shift that is searched.
    min_psr: peak to sidelobe ratio from which a shift counts as measured.
    max_polarisation_spread_px: how far the shifts of both polarisations may lie from their mean.
    field: auto gives each patch a correction of its own where the patches of a block do not share one shift; none
        corrects all patches of a block alike.
    correct: integer moves the optical window by whole pixels.
    self_test_share: of the measured pairs, into which a known shift is injected and recovered.
    second_estimator_share: of the measured pairs, which mutual information measures too; some 0.1 CPU-s each.
    """

    search_px: int = Field(default=16, ge=8, le=64)  # under 8 no room is left beside the peak
    min_psr: float = Field(default=5.0, gt=0)
    max_polarisation_spread_px: float = Field(default=0.75, gt=0)
    field: Literal["auto", "none"] = "auto"
    correct: Literal["integer", "none"] = "integer"
    self_test_share: float = Field(default=0.05, ge=0, le=1)
    second_estimator_share: float = Field(default=0.01, ge=0, le=1)


class ScreeningConfig(Section):
    """Limits on what is measured.

    A sample that breaks a SAR rule is rejected. One that breaks an optical rule (max_optical_nodata_frac and those
    after it) loses its partner, or is rejected where on_optical_failure is reject.

    max_plateau_frac, max_optical_plateau_frac: share of a patch that holds one number, as a fill value does that nobody
    declared. max_saturated_frac: of reflectance; the white of display pictures breaks no rule.
    max_optical_floor, min_optical_floor: reflectance of the darkest hundredth of a partner's pixels: of B10 where there
    is B10, else of all 10 m bands. From max_optical_floor to 0.04 over it in all of these bands the partner carries the
    radiometric offset of 1000 DN that its description denies; under min_optical_floor it was taken off twice. State the
    offset in the description (scenes.csv, STAC item); 1 and -1 switch the two tests off.
    """

    max_sar_nodata_frac: Fraction = Field(default=0.01, ge=0, le=1)
    min_dynamic_range_db: float = Field(default=3.0, ge=0)
    max_noise_floor_frac: Fraction = Field(default=0.5, ge=0, le=1)
    max_plateau_frac: Fraction = Field(default=0.2, ge=0, le=1)
    max_layover_shadow_frac: Fraction = Field(default=0.2, ge=0, le=1)
    max_water_frac: Fraction = Field(default=0.95, ge=0, le=1)
    max_optical_nodata_frac: Fraction = Field(default=0.01, ge=0, le=1)
    max_optical_plateau_frac: Fraction = Field(default=0.3, ge=0, le=1)
    max_saturated_frac: Fraction = Field(default=0.02, ge=0, le=1)
    max_optical_floor: float = Field(default=0.095, ge=0, le=1)
    min_optical_floor: float = Field(default=-0.05, ge=-1, le=0)
    max_cloud_frac: Fraction = Field(default=0.05, ge=0, le=1)
    max_dt_hours: float = Field(default=15 * 24.0, ge=0)
    max_residual_px: float = Field(default=1.0, gt=0)
    on_optical_failure: Literal["unpair", "reject"] = "unpair"


class BalanceConfig(Section):
    """Limits on shares of the whole dataset, and near-duplicates.

    water_patch_frac: share of water from which a patch counts as a water patch.
    ecoregions: a file of polygons. Every sample gets the name of the polygon it lies in, and max_ecoregion_share limits
    the share of each name.
    ecoregion_name: the attribute that holds the names (ECO_NAME in RESOLVE Ecoregions 2017 and WWF TEOW).
    duplicate_hamming: bits by which the perceptual hashes of near-duplicates differ at most.
    duplicate_days: samples of one place and orbit within so many days count as duplicates.
    """

    max_unpaired_share: Fraction = Field(default=0.25, ge=0, le=1)
    max_water_patch_share: Fraction = Field(default=0.05, ge=0, le=1)
    water_patch_frac: Fraction = Field(default=0.5, ge=0, le=1)
    max_class_share: Fraction = Field(default=1.0, gt=0, le=1)
    ecoregions: str | None = None
    ecoregion_name: str = "ECO_NAME"
    max_ecoregion_share: Fraction = Field(default=1.0, gt=0, le=1)
    duplicate_hamming: int = Field(default=4, ge=0, le=12)
    duplicate_days: float = Field(default=12.0, ge=0)


class SplitConfig(Section):
    """Geographic blocks, their shares and the gap kept between splits.

    block_km: side of a block; all of its samples belong to one split. buffer_km: least distance between two splits.
    exclude_footprints: a file of polygons; samples in one, or within exclude_buffer_km of it, are rejected.
    """

    block_km: float = Field(default=50.0, gt=0)
    buffer_km: float = Field(default=5.0, ge=0)
    val_share: Fraction = Field(default=0.05, ge=0, lt=1)
    test_share: Fraction = Field(default=0.05, ge=0, lt=1)
    exclude_footprints: str | None = None
    exclude_buffer_km: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _shares_leave_room(self) -> SplitConfig:
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"val_share + test_share is {self.val_share + self.test_share:g}; it must stay under 1")
        return self


class PackConfig(Section):
    """How accepted samples become shards. seed: of their order."""

    shard_samples: int = Field(default=512, ge=1, le=65536)
    seed: int = Field(default=20251216, ge=0)


class SafeConfig(Section):
    """The safe source: how Sentinel-1 GRD products become backscatter on the grid.

    dem, geoid, orbits, optical: files or folders. A key left out: the folder of that name beside the products.
    heights: dem takes heights from the DEM, tie_points from the product's tie points. auto takes the DEM; without one,
    the tie points for blocks where relief displaces nothing by more than max_relief_error_px.
    sea_level: whether a place without a DEM tile has the height of the sea; auto decides by the coastlines that come
    with sar1m.
    ground_range_rule, azimuth_rule, troposphere: ground_range, azimuth (bistatic term) and troposphere of Convention in
    core/radar/product.py. Neither correction is on by default, until real pixels have shown it.
    skip_known_bad: leaves out products that are known to be faulty.
    """

    quantity: Literal["gamma0", "sigma0"] = "gamma0"
    polarisations: tuple[Literal["VV", "VH", "HH", "HV"], ...] = ()  # empty: all that the products have
    remove_thermal_noise: bool = True
    mask_border_noise: bool = True
    flatten_terrain: bool = True
    resolution_px: float = Field(default=2.2, ge=0, le=3)  # of the image; IW GRDH: 20 x 22 m on pixels of 10 m
    resampling: Literal["nearest", "bilinear", "cubic"] = "bilinear"
    heights: Literal["auto", "dem", "tie_points"] = "auto"
    sea_level: Literal["auto", "always", "never"] = "auto"
    max_relief_error_px: float = Field(default=0.5, gt=0)
    ground_range_rule: Literal["interpolated", "nearest"] = "interpolated"
    azimuth_rule: Literal["zero_doppler", "geolocation_grid"] = "zero_doppler"
    troposphere: Literal["none", "standard_atmosphere"] = "none"
    dem: str | None = None
    dem_datum: Literal["auto", "egm2008", "egm96", "ellipsoid"] = "auto"
    geoid: str | None = None
    orbits: str | None = None
    optical: str | None = None
    skip_known_bad: bool = True

    @model_validator(mode="after")
    def _each_polarisation_once(self) -> SafeConfig:
        if len(set(self.polarisations)) != len(self.polarisations):
            raise ValueError(f"polarisations {', '.join(self.polarisations)}: name each once")
        return self

    @property
    def places(self) -> dict[str, str]:
        """Files and folders that are named, by key."""
        named = {key: getattr(self, key) for key in SAFE_PLACES}
        return {key: place for key, place in named.items() if place is not None}


class AreaConfig(Section):
    """An area of the Earth: which services, when, and how scenes are chosen for a cell.

    sar, optical: names of services (`sar1m doctor` lists them). With optical = "none" the samples are SAR alone.
    first, last: dates; last is not included.
    orbit: any takes the direction that fits a cell best, one direction a cell.
    scenes_per_cell: number of SAR scenes. seasons: quarters of the year over which they are spread.
    pair_days: the most days between a SAR scene and its optical partner.
    max_scene_cloud_frac: of an optical scene, as its catalogue states it.
    min_cell_cover: share of a cell that a scene must cover.
    land_cover: ESA WorldCover 2021 for every block, from planetary-computer; [balance] max_class_share uses it.
    """

    sar: str = "planetary-computer"
    optical: str = "planetary-computer"
    first: date = date(2023, 1, 1)
    last: date = date(2024, 1, 1)
    polarisations: tuple[Literal["VV", "VH", "HH", "HV"], ...] = ("VV", "VH")
    orbit: Literal["any", "ascending", "descending"] = "any"
    scenes_per_cell: int = Field(default=1, ge=1, le=64)
    seasons: int = Field(default=1, ge=1, le=4)
    pair_days: float = Field(default=15.0, ge=0)
    max_scene_cloud_frac: Fraction = Field(default=0.2, ge=0, le=1)
    min_cell_cover: Fraction = Field(default=0.99, ge=0, le=1)
    land_cover: bool = False
    tiles_url: str | None = None  # of licensed tiles: https://.../{z}/{x}/{y}.png
    tiles_licence: str = "recipe-only"
    stac_url: str | None = None  # of the services stac and stac-static
    cdse_search: Literal["odata", "stac"] = "odata"  # of the service cdse; stac and s3 take the products' COG editions
    cdse_access: Literal["zipper", "s3"] = "zipper"  # whole zips, or the files that are needed from the object store
    dhus_url: str | None = None


class DownloadConfig(Section):
    """How services are asked. Limits hold for all workers of a build together.

    max_gb, max_requests, max_units: budgets; the build stops before the request that would exceed one. 0: no budget.
    """

    connections: int = Field(default=8, ge=1, le=256)
    requests_per_s: float = Field(default=20.0, gt=0)
    attempts: int = Field(default=6, ge=1, le=50)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    read_timeout_s: float = Field(default=60.0, gt=0)
    cache_gb: float = Field(default=50.0, gt=0)
    max_gb: float = Field(default=0.0, ge=0)
    max_requests: int = Field(default=0, ge=0)
    max_units: float = Field(default=0.0, ge=0)


class SimulatedConfig(Section):
    """The simulated source: what its world and its sensors do."""

    enl: float = Field(default=4.4, gt=0)
    speckle_correlation: bool = True
    max_shift_px: float = Field(default=3.0, ge=0)
    cloudy_share: Fraction = Field(default=0.15, ge=0, le=1)
    unpaired_share: Fraction = Field(default=0.1, ge=0, le=1)


class BuildConfig(Section):
    """All sections of a build."""

    name: str = Field(default="sar1m", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    seed: int = Field(default=20251216, ge=0)
    grid: GridConfig = GridConfig()
    pixels: PixelsConfig = PixelsConfig()
    registration: RegistrationConfig = RegistrationConfig()
    screening: ScreeningConfig = ScreeningConfig()
    balance: BalanceConfig = BalanceConfig()
    split: SplitConfig = SplitConfig()
    pack: PackConfig = PackConfig()
    safe: SafeConfig = SafeConfig()
    area: AreaConfig = AreaConfig()
    download: DownloadConfig = DownloadConfig()
    simulated: SimulatedConfig = SimulatedConfig()

    def digest(self) -> str:
        """blake2b-128 of the whole configuration, hexadecimal."""
        return settings.digest_of(self.model_dump(mode="json"))

    def pixel_digest(self) -> str:
        """blake2b-128 of the parameters that shape pixels or measurements, hexadecimal."""
        shaping = self.model_dump(mode="json", include={"seed", *PIXEL_SECTIONS})
        for place in SAFE_PLACES:  # where inputs lie shapes nothing; their bytes enter through the candidates
            del shaping["safe"][place]
        return settings.digest_of({"schema": SCHEMA_VERSION, **shaping})

    def portable(self) -> BuildConfig:
        """The same without folders of this machine, as a store may hold it.

        The ecoregions keep the name of their file. The footprints to leave out take the name of their copy as GeoJSON,
        which the store holds beside the configuration.
        """
        footprints, ecoregions = self.split.exclude_footprints, self.balance.ecoregions
        named = None if footprints is None else f"{Path(footprints).stem}.geojson"
        named_regions = None if ecoregions is None else Path(ecoregions).name
        return self._with_places(named, named_regions, dict.fromkeys(SAFE_PLACES))

    def beside(self, folder: Path) -> BuildConfig:
        """The same with every file that it names taken relative to a folder."""
        footprints, ecoregions = self.split.exclude_footprints, self.balance.ecoregions
        return self._with_places(
            None if footprints is None else str(folder / footprints),
            None if ecoregions is None else str(folder / ecoregions),
            {key: str(folder / place) for key, place in self.safe.places.items()},
        )

    def _with_places(
        self, footprints: str | None, ecoregions: str | None, inputs: Mapping[str, str | None]
    ) -> BuildConfig:
        return self.model_copy(
            update={
                "balance": self.balance.model_copy(update={"ecoregions": ecoregions}),
                "split": self.split.model_copy(update={"exclude_footprints": footprints}),
                "safe": self.safe.model_copy(update=inputs),
            }
        )

    def to_toml(self) -> str:
        """The configuration as TOML, every key written out, keys in the order of the models."""
        return settings.to_toml(self)


def parse_config(text: str, *, origin: str) -> BuildConfig:
    """BuildConfig from TOML text. origin names the text in errors. Raises ConfigError, see sar1m.store.settings."""
    return settings.parse(BuildConfig, text, origin=origin)


def load_config(path: Path) -> BuildConfig:
    """BuildConfig from a TOML file. Files that it names are relative to its folder.

    Raises ConfigError where the file is missing, unreadable or wrong.
    """
    return parse_config(settings.read_text(path), origin=str(path)).beside(path.parent)


def stored_config(path: Path) -> BuildConfig:
    """BuildConfig of a finished store. Keys that this version of the code does not know are left out: a later one wrote
    them. Raises ConfigError as load_config."""
    return settings.parse(BuildConfig, settings.read_text(path), origin=str(path), known_keys_only=True).beside(
        path.parent
    )


def resolve_config(name: str, overrides: Sequence[str]) -> BuildConfig:
    """A configuration by the path of a file, or by the name of one that comes with sar1m (sar1m, chips, sample).

    overrides: such as grid.patch_px=192. Raises ConfigError.
    """
    return settings.override(load_config(settings.find_file(name, CONFIG_FOLDERS)), overrides)
