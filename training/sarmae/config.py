"""The configuration of a pretraining run: TOML in, frozen and validated records out.

[data] what is read; [model] what is built; [sare] the extra speckle on the input; [sarc] the optical features that the
encoder is pulled towards; [train] how it is trained. `training/configs` holds configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from sar1m.store import settings
from sar1m.store.cache.bound import CacheConfig
from sar1m.store.settings import Section
from sarmae.stream.loader_settings import CropFlip, LoaderSettings

# In a wheel the configurations lie in the package, in a checkout beside it.
_LOADER_KEYS: Final = {field.name for field in fields(LoaderSettings)}
BYTES_A_GB: Final = 10**9
LARGEST_SEED: Final = 2**63 - 1  # what torch's generators take
Beta = Annotated[float, Field(ge=0, lt=1)]
CONFIG_FOLDERS: Final = (Path(__file__).parent / "configs", Path(__file__).parents[1] / "configs")


class DataConfig(Section):
    """The stream.

    stores: folders or URLs of finished stores; the command's --data goes first.
    where, bbox: only these samples, as in sarmae.stream.loader.ShardLoader. None: all.
    crop_px, align: as in sarmae.stream.loader_settings.CropFlip.
    flips: whether samples are turned upside down and mirrored, half of them each.
    cache: folder of the disk cache for remote stores, by default in the folder of the run.
    cache_gb: size of this cache at most, in units of 10^9 bytes.
    Other keys: as in sarmae.stream.loader_settings.LoaderSettings.
    """

    stores: tuple[str, ...] = ()
    where: str | None = None
    bbox: tuple[float, float, float, float] | None = None
    crop_px: int = Field(default=224, ge=32, le=2048, multiple_of=16)
    align: bool = True
    flips: bool = True
    threads: int = Field(default=2, ge=0, le=256)
    prefetch: int = Field(default=4, ge=1, le=64)
    order: Literal["auto", "full", "lanes"] = "auto"
    lanes: int | None = Field(default=None, ge=1)
    window: int | None = Field(default=None, ge=1)
    weights: tuple[float, ...] | None = None
    unpaired_share: float | None = Field(default=None, ge=0, le=1)
    max_faults: int = Field(default=0, ge=0)
    published_px: int = Field(default=256, ge=32, le=4096)
    cache: str | None = None
    cache_gb: float = Field(default=50.0, gt=0)

    @property
    def crop(self) -> CropFlip:
        """Crop and flips of these keys. ConfigError where they do not fit together."""
        return CropFlip(crop_px=self.crop_px, align=self.align, flip_rows=self.flips, flip_cols=self.flips)

    def disk_cache(self, folder: Path) -> CacheConfig:
        """The disk cache for remote stores; in the given folder unless `cache` names another."""
        return CacheConfig(
            root=folder if self.cache is None else Path(self.cache), max_bytes=round(self.cache_gb * BYTES_A_GB)
        )


class ModelConfig(Section):
    """The masked autoencoder.

    size: a ViT by its usual name. width, depth and heads, all three together, replace it.
    patch_px: side of a patch.
    mask_ratio: share of the patches that the encoder does not see.
    decode_share: share of the masked patches that are decoded and enter the loss.
    norm_pix: whether targets of pixels, as they are or lowpass, are standardised patch by patch, each by its measured
        pixels.
    target: what masked patches are predicted as; sarmae.model.targets describes each.
    mix: for target `mix`, the weights of pixel, lowpass, log_ratio and hog in the loss.
    weights: a file of published weights to begin from. with_decoder: whether its decoder is taken too.
    """

    size: Literal["tiny", "small", "base", "large", "huge"] = "base"
    width: int | None = Field(default=None, ge=4)
    depth: int | None = Field(default=None, ge=1)
    heads: int | None = Field(default=None, ge=1)
    patch_px: int = Field(default=16, ge=2, le=64)
    decoder_width: int = Field(default=512, ge=4)
    decoder_depth: int = Field(default=8, ge=1)
    decoder_heads: int = Field(default=16, ge=1)
    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    decode_share: float = Field(default=1.0, gt=0, le=1)
    norm_pix: bool = True
    target: Literal["pixel", "lowpass", "log_ratio", "hog", "mix"] = "pixel"
    mix: tuple[float, float, float, float] = (1.0, 0.0, 1.0, 0.0)
    weights: str | None = None
    with_decoder: bool = False

    @model_validator(mode="after")
    def _all_three_or_none(self) -> Self:
        given = [value is not None for value in (self.width, self.depth, self.heads)]
        if any(given) and not all(given):
            raise ValueError("width, depth and heads go together: give all three, or size alone")
        return self


class SareConfig(Section):
    """Extra speckle on the input.

    speckle: the model; sarmae.sare.Sare describes each. `none` switches it off.
    probability: that a sample gets any, as in the paper; the others are seen as they are.
    min_looks, max_looks: range of the number of looks, drawn log-uniformly for each sample. For gamma and correlated,
        the looks of the factor. For both thinnings, the looks kept of the scene's own, at most 0.9 of them.
    sigma_max: sigma of lognormal is drawn uniformly from 0 to this.
    enl: looks of the scenes, for thinning. None: those of the store, and default_enl where it has none.
    correlation_px: lag at which the intensities of the correlated models correlate by 1/e; on real Sentinel-1 chips
        of 10 m it is 1.6.
    target: of thinning. `clean` is the scene as it is; `complement` the other part of it, whose speckle is
        independent of the input's.
    """

    speckle: Literal["gamma", "correlated", "thinning", "correlated_thinning", "lognormal", "none"] = "gamma"
    probability: float = Field(default=0.5, ge=0, le=1)
    min_looks: float = Field(default=1.0, ge=0.5)
    max_looks: float = Field(default=16.0, gt=0)
    sigma_max: float = Field(default=0.7, gt=0)
    enl: float | None = Field(default=None, gt=0)
    default_enl: float = Field(default=4.4, gt=0)
    correlation_px: float = Field(default=1.6, gt=0, le=32)
    target: Literal["clean", "complement"] = "clean"

    @model_validator(mode="after")
    def _looks_in_order(self) -> Self:
        if self.min_looks > self.max_looks:
            raise ValueError(f"min_looks {self.min_looks} is above max_looks {self.max_looks}")
        return self

    @model_validator(mode="after")
    def _complement_of_thinning(self) -> Self:
        if self.target == "complement" and not self.speckle.endswith("thinning"):
            raise ValueError(f"target 'complement' goes with a thinning model, speckle is {self.speckle!r}")
        return self


class SarcConfig(Section):
    """The pull towards a frozen optical encoder, the teacher.

    teacher: `none`, `linear_patch` (a control), `efficientnet_lite0`, `dinov3_small`, `dinov3_base`, `dinov3_large`,
        `dinov3_large_sat493m`, or any timm model as timm:<name>. Two controls are made of each: stem:<teacher> is its
        learned first layer alone, untrained:<teacher> the whole network with random weights.
    weights: a file of the teacher's weights. None: those of the package (efficientnet_lite0) or of timm's hub.
    cache: folder of features that `sarmae cache-teacher` wrote, used instead of the live teacher. It needs data.align.
        data.flips = false is advised: flipped features are not those of the flipped image (results/teacher-cache.md).
    weight: lambda of the loss.
    hidden: width of the projector.
    """

    teacher: str = "none"
    weights: str | None = None
    cache: str | None = None
    weight: float = Field(default=0.1, ge=0)
    hidden: int = Field(default=1024, ge=8)


class TrainConfig(Section):
    """How it is trained.

    lr: per 256 samples; it is scaled with global_batch.
    micro_batch: samples of one forward pass on one rank. None: all samples of the rank. It changes memory and
        speed, and the result by rounding alone.
    precision: `auto` is bfloat16 where the device has it, else float32.
    clip: largest norm of the gradient. ema: decay of the moving average of the weights, which is then what is exported;
        it rises to this value over some 9 / (1 - ema) steps. None: neither.
    keep: checkpoints that stay; older ones are removed.
    max_bad_steps: steps in a row whose loss or gradient is not finite before the run ends with an error.
    """

    seed: int = Field(default=20251216, ge=0, le=LARGEST_SEED)
    steps: int = Field(default=1000, ge=1)
    global_batch: int = Field(default=64, ge=1)
    micro_batch: int | None = Field(default=None, ge=1)
    lr: float = Field(default=1.5e-4, gt=0)
    warmup_steps: int = Field(default=100, ge=0)
    min_lr_share: float = Field(default=0.0, ge=0, le=1)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    clip: float | None = Field(default=None, gt=0)
    ema: float | None = Field(default=None, gt=0, lt=1)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    device: str = "auto"
    parallel: Literal["ddp", "fsdp"] = "ddp"
    log_every: int = Field(default=10, ge=1)
    checkpoint_every: int = Field(default=500, ge=1)
    keep: int = Field(default=3, ge=1)
    probe_every: int = Field(default=0, ge=0)
    panel_every: int = Field(default=0, ge=0)
    max_bad_steps: int = Field(default=5, ge=1)


class PretrainConfig(Section):
    """All sections of a pretraining run."""

    name: str = Field(default="sarmae", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    sare: SareConfig = SareConfig()
    sarc: SarcConfig = SarcConfig()
    train: TrainConfig = TrainConfig()

    def loader_settings(self, *, optical: bool, pin_memory: bool) -> LoaderSettings:
        """The settings of the run's loader: those keys of [data] and [train] that bear their names."""
        chosen = self.data.model_dump(include=_LOADER_KEYS) | self.train.model_dump(include=_LOADER_KEYS)
        return LoaderSettings(optical=optical, pin_memory=pin_memory, **chosen)

    def digest(self) -> str:
        """blake2b-128 of the whole configuration, hexadecimal."""
        return settings.digest_of(self.model_dump(mode="json"))

    def to_toml(self) -> str:
        """The configuration as TOML, every key written out."""
        return settings.to_toml(self)


def resolve_config(name: str, overrides: Sequence[str]) -> PretrainConfig:
    """A configuration by file or by the name of one that comes with sarmae, with overrides such as train.steps=100.

    Raises ConfigError that names the key, what was found, and for an unknown key the valid ones.
    """
    path = settings.find_file(name, CONFIG_FOLDERS)
    return settings.override(settings.parse(PretrainConfig, settings.read_text(path), origin=str(path)), overrides)
