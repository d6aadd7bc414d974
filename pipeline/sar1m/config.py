"""A build's configuration: TOML in, frozen and validated models out, with a digest.

Sections that shape pixels (grid, pixels, registration) enter the content key of a staged block; thresholds
(screening, balance, split, pack) do not, so that changing them never reads a source again.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from sar1m.errors import ConfigError
from sar1m.schema import SCHEMA_VERSION, Profile

# In a wheel the configurations lie in the package, in a checkout beside it.
CONFIG_FOLDERS = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")

Fraction = float  # between 0 and 1; the bounds stand at each field


class Section(BaseModel):
    """Base of all sections: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)  # JSON and digests know no NaN


class GridConfig(Section):
    """Cells, patches and the margin around them."""

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
    """How the shift between SAR and optical is measured and corrected."""

    search_px: int = Field(default=16, ge=8, le=64)  # under 8 no room is left beside the peak
    min_psr: float = Field(default=5.0, gt=0)
    max_polarisation_spread_px: float = Field(default=0.75, gt=0)
    correct: Literal["integer", "none"] = "integer"
    self_test_share: float = Field(default=0.05, ge=0, le=1)


class ScreeningConfig(Section):
    """Limits on what is measured. A SAR rule rejects the sample; an optical rule leaves the partner out."""

    max_sar_nodata_frac: Fraction = Field(default=0.01, ge=0, le=1)
    min_dynamic_range_db: float = Field(default=3.0, ge=0)
    max_noise_floor_frac: Fraction = Field(default=0.5, ge=0, le=1)
    max_layover_shadow_frac: Fraction = Field(default=0.2, ge=0, le=1)
    max_water_frac: Fraction = Field(default=0.95, ge=0, le=1)
    max_optical_nodata_frac: Fraction = Field(default=0.01, ge=0, le=1)
    max_cloud_frac: Fraction = Field(default=0.05, ge=0, le=1)
    max_dt_hours: float = Field(default=15 * 24.0, ge=0)
    max_residual_px: float = Field(default=1.0, gt=0)
    on_optical_failure: Literal["unpair", "reject"] = "unpair"


class BalanceConfig(Section):
    """Shares that hold over the whole dataset."""

    max_unpaired_share: Fraction = Field(default=0.25, ge=0, le=1)
    max_water_patch_share: Fraction = Field(default=0.05, ge=0, le=1)
    water_patch_frac: Fraction = Field(default=0.5, ge=0, le=1)
    max_class_share: Fraction = Field(default=1.0, gt=0, le=1)
    duplicate_hamming: int = Field(default=4, ge=0, le=12)
    duplicate_days: float = Field(default=12.0, ge=0)


class SplitConfig(Section):
    """Geographic blocks, their shares and the gap kept between splits."""

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
    """How accepted samples become shards."""

    shard_samples: int = Field(default=512, ge=1, le=65536)
    seed: int = Field(default=20251216, ge=0)


class SafeConfig(Section):
    """The safe source: how Sentinel-1 GRD products become backscatter on the grid.

    dem, geoid, orbits, optical: files or folders; where left out, the folders dem, geoid, orbits and optical beside the
    products. heights auto: of the DEM; without one those of the product's tie points, where these differ so little
    around a block that relief moves nothing by more than max_relief_error_px; tie_points: theirs, whatever the relief.
    sea_level: where no DEM tile is, the sea's own height: auto by the coastlines that come with sar1m.
    ground_range_rule, azimuth_rule: see core/radar/product.py.
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


SAFE_PLACES: Final = ("dem", "geoid", "orbits", "optical")


class AreaConfig(Section):
    """An area of the Earth: which services, when, and how scenes are chosen for a cell.

    sar, optical: names of services (`sar1m doctor` lists them); optical none builds SAR alone. first, last: dates, last
    not included. scenes_per_cell: SAR scenes; spread over seasons quarters of the year where seasons > 1. optical
    partners within pair_days of the SAR scene. orbit any: whichever fits best, of one direction in a cell. land_cover:
    ESA WorldCover 2021 under every block, of planetary-computer; [balance] max_class_share goes by it.
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
    dhus_url: str | None = None


class DownloadConfig(Section):
    """How services are asked. Limits hold over all workers of a build. Budgets are hard; 0 means none."""

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
    """The simulated source: what the world and the sensors do."""

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
        return _digest(self.model_dump(mode="json"))

    def pixel_digest(self) -> str:
        """blake2b-128 of the parameters that shape pixels or measurements, hexadecimal."""
        shaping = ("seed", "grid", "pixels", "registration", "safe", "simulated")
        told = self.model_dump(mode="json", include=set(shaping))
        for place in SAFE_PLACES:  # where inputs stand shapes nothing; their bytes enter through the candidates
            del told["safe"][place]
        return _digest({"schema": SCHEMA_VERSION, **told})

    def portable(self) -> BuildConfig:
        """The same without this machine's folders: what a store may say of itself. The footprints to leave out keep
        their file's name; a copy as GeoJSON stands beside the configuration."""
        footprints = self.split.exclude_footprints
        named = None if footprints is None else f"{Path(footprints).stem}.geojson"
        nowhere = dict.fromkeys(SAFE_PLACES)
        return self.model_copy(
            update={
                "split": self.split.model_copy(update={"exclude_footprints": named}),
                "safe": self.safe.model_copy(update=nowhere),
            }
        )

    def to_toml(self) -> str:
        """The configuration as TOML, every key written out, keys in the order of the models."""
        top, tables = [], []
        for key, value in self.model_dump(mode="json", exclude_none=True).items():
            if isinstance(value, dict):
                lines = [f"{k} = {_toml_value(v)}" for k, v in value.items()]
                tables.append("\n".join([f"[{key}]", *lines]))
            else:
                top.append(f"{key} = {_toml_value(value)}")
        return "\n\n".join(["\n".join(top), *tables]) + "\n"


def _toml_value(value: object) -> str:
    """JSON is TOML but for two things: TOML knows no surrogate pairs, and wants DEL escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _digest(value: dict[str, Any]) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def parse_config(text: str, *, origin: str) -> BuildConfig:
    """BuildConfig from TOML text. origin names the text in errors.

    Raises ConfigError that names the key, what was found, and for an unknown key the valid ones.
    """
    try:
        return BuildConfig.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{origin}: not valid TOML: {error}") from error
    except ValidationError as error:
        raise ConfigError("\n".join(f"{origin}: {_explain(item)}" for item in error.errors())) from error


def load_config(path: Path) -> BuildConfig:
    """BuildConfig from a TOML file; files that it names stand relative to it.

    Raises ConfigError where the file is missing, unreadable or wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read: {error.strerror}. Give an existing TOML file to --config."
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not a UTF-8 text file. A configuration is a TOML file.") from error
    config = parse_config(text, origin=str(path))
    footprints = config.split.exclude_footprints
    found = None if footprints is None else str(path.parent / footprints)
    places = {key: str(path.parent / place) for key, place in config.safe.places.items()}
    return config.model_copy(
        update={
            "split": config.split.model_copy(update={"exclude_footprints": found}),
            "safe": config.safe.model_copy(update=places),
        }
    )


def resolve_config(name: str, overrides: Sequence[str]) -> BuildConfig:
    """A configuration by file or by the name of one that comes with sar1m, with overrides such as grid.patch_px=192.

    The value of an override is TOML; what is no TOML value is taken as text. Raises ConfigError.
    """
    path = Path(name)
    if not path.suffix:
        folder = next((folder for folder in CONFIG_FOLDERS if folder.is_dir()), CONFIG_FOLDERS[0])
        path = folder / f"{name}.toml"
        if not path.is_file():
            known = ", ".join(sorted(entry.stem for entry in folder.glob("*.toml")))
            raise ConfigError(f"--config {name}: no configuration of that name. Known: {known}; or give a TOML file.")
    config = load_config(path)
    if not overrides:
        return config
    changed = config.model_dump(mode="json", exclude_none=True)
    for override in overrides:
        _override(changed, override)
    try:
        return BuildConfig.model_validate(changed)
    except ValidationError as error:
        raise ConfigError("\n".join(f"--set: {_explain(item)}" for item in error.errors())) from error


def _override(changed: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted.strip():
        raise ConfigError(f"--set {override}: expected section.key=value, such as grid.patch_px=192.")
    *sections, key = dotted.strip().split(".")
    table = changed
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override}: {section} is a value, not a section.")
    try:
        table[key] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        table[key] = text


def _explain(item: ErrorDetails) -> str:
    location = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    if item["type"] == "tuple_type":
        return f'{location}: expected a list such as ["VV", "VH"] (found {item["input"]!r})'
    if item["type"] == "model_type":
        return f"{location}: is a section of keys, found the value {item['input']!r}. Set one of its keys instead."
    if item["type"] != "extra_forbidden":
        return f"{location}: {item['msg']} (found {item['input']!r})"
    parent: type[BaseModel] = BuildConfig
    for part in item["loc"][:-1]:
        annotation = parent.model_fields[str(part)].annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            parent = annotation
    return f"{location}: unknown key. Valid keys here: {', '.join(sorted(parent.model_fields))}"
