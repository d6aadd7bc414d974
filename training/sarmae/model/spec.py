"""The shape of a model in one frozen record: enough to build the model again, and part of every checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from sar1m.store.errors import ConfigError

# width, depth, heads. Sources: Dosovitskiy et al. 2021, table 1 (base, large, huge); Touvron et al. 2021, table 1.
ENCODER_SIZES: Final = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
TARGETS: Final = ("pixel", "lowpass", "log_ratio", "hog")  # and "mix", of them all; sarmae.model.targets makes them
STANDARDISED: Final = ("pixel", "lowpass")  # what norm_pix standardises patch by patch
RATIO_SIZES_PX: Final = (9, 13, 17)  # as SARATR-X-v2 (arXiv 2607.23238) found best; speckle correlates over 1.6 px
HOG_BINS: Final = 9


def encoder_size(name: str) -> tuple[int, int, int]:
    """Width, depth and heads of a ViT by its usual name. ConfigError for a name not in ENCODER_SIZES."""
    if name not in ENCODER_SIZES:
        known = ", ".join(ENCODER_SIZES)
        raise ConfigError(f"encoder size '{name}' is not known; give one of {known}, or width, depth and heads")
    return ENCODER_SIZES[name]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Shape of a model and what its training step computes. ConfigError where the numbers do not fit together.

    image_px: side of the square input, a multiple of patch_px.
    polarisations: names of the input channels, in order.
    mask_ratio: share of the patches hidden from the encoder.
    decode_share: share of the hidden patches that are decoded and enter the loss; 1, as in MAE, is all of them.
    norm_pix: whether targets of pixels, as they are or lowpass, are standardised patch by patch.
    target: one of TARGETS, or mix. mix: weights of TARGETS in a mix.
    The defaults are ViT-B and the decoder of MAE (He et al. 2021).
    """

    image_px: int = 224
    patch_px: int = 16
    polarisations: tuple[str, ...] = ("VV", "VH")
    width: int = 768
    depth: int = 12
    heads: int = 12
    decoder_width: int = 512
    decoder_depth: int = 8
    decoder_heads: int = 16
    mask_ratio: float = 0.75
    decode_share: float = 1.0
    norm_pix: bool = True
    target: str = "pixel"
    mix: tuple[float, ...] = (1.0, 0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        for name in ("polarisations", "mix"):  # JSON, in which checkpoints keep it, has lists alone
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.patch_px < 1 or self.image_px < self.patch_px or self.image_px % self.patch_px:
            raise ConfigError(
                f"image_px = {self.image_px} is not a multiple of patch_px = {self.patch_px}; "
                f"the nearest below is {self.image_px // max(self.patch_px, 1) * self.patch_px}"
            )
        if not self.polarisations or len(set(self.polarisations)) < len(self.polarisations):
            raise ConfigError(f"polarisations = {list(self.polarisations)}: expected at least one name, none twice")
        self._check_transformer("", self.width, self.depth, self.heads)
        self._check_transformer("decoder_", self.decoder_width, self.decoder_depth, self.decoder_heads)
        self._check_shares()
        self._check_target()

    @staticmethod
    def _check_transformer(prefix: str, width: int, depth: int, heads: int) -> None:
        if depth < 1 or heads < 1 or width < 4 or width % heads or width % 4:
            raise ConfigError(
                f"{prefix}width = {width}, {prefix}depth = {depth}, {prefix}heads = {heads}: expected at least one "
                "block and one head, and a width that is a multiple of the heads and of 4 (sine and cosine, two axes)"
            )

    def _check_shares(self) -> None:
        if not 0 < self.mask_ratio < 1 or not 0 < self.kept < self.patches:
            raise ConfigError(
                f"mask_ratio = {self.mask_ratio} of {self.patches} patches leaves {self.kept} visible and "
                f"{self.patches - self.kept} masked; at least one of each is needed"
            )
        if not 0 < self.decode_share <= 1:
            raise ConfigError(f"decode_share = {self.decode_share}; expected a share above 0 and up to 1")

    def _check_target(self) -> None:
        if self.target not in (*TARGETS, "mix"):
            raise ConfigError(f"target = {self.target!r}; expected one of {', '.join(TARGETS)} and mix")
        sound = len(self.mix) == len(TARGETS) and all(0 <= weight < math.inf for weight in self.mix)
        if not sound or not sum(self.mix):
            raise ConfigError(
                f"mix = {list(self.mix)}; expected one weight for each of {', '.join(TARGETS)}, none negative, at "
                "least one above 0"
            )

    @property
    def grid(self) -> int:
        """Patches along one side."""
        return self.image_px // self.patch_px

    @property
    def patches(self) -> int:
        """N: patches of an image."""
        return self.grid**2

    @property
    def kept(self) -> int:
        """K: patches the encoder sees."""
        return self.patches - round(self.patches * self.mask_ratio)

    @property
    def decoded(self) -> int:
        """M: masked patches that are decoded, at least one."""
        return max(1, round((self.patches - self.kept) * self.decode_share))

    @property
    def patch_values(self) -> int:
        """Pixel values of one patch, all polarisations."""
        return self.patch_px**2 * len(self.polarisations)

    @property
    def target_parts(self) -> tuple[str, ...]:
        """The targets that are predicted, in the order of their values."""
        if self.target != "mix":
            return (self.target,)
        return tuple(name for name, weight in zip(TARGETS, self.mix, strict=True) if weight)

    @property
    def target_values(self) -> int:
        """V: values that are predicted of one patch."""
        return sum(self.part_values(name) for name in self.target_parts)

    def part_values(self, name: str) -> int:
        """Values of one target of one patch."""
        places = {"pixel": self.patch_px, "hog": self.hog_cells}.get(name, self.places)
        return places**2 * self.part_features(name)

    def part_features(self, name: str) -> int:
        """Values of one target at one place of a patch, all polarisations."""
        return {"log_ratio": 2 * len(RATIO_SIZES_PX), "hog": HOG_BINS}.get(name, 1) * len(self.polarisations)

    def part_scale(self, name: str) -> float:
        """By what a target is multiplied before its error is squared: 1 alone; in a mix, the mean over all values is
        then the mean of the parts' own means by their weights, however many values each has."""
        if self.target != "mix":
            return 1.0
        weight = self.mix[TARGETS.index(name)] / sum(self.mix)
        return math.sqrt(weight * self.target_values / self.part_values(name))

    def standardises(self, name: str) -> bool:
        """Whether a target is standardised patch by patch."""
        return self.norm_pix and name in STANDARDISED

    @property
    def places(self) -> int:
        """Along a side of a patch, where lowpass and log_ratio are taken: 4, or what divides the patch below that."""
        return next(count for count in (4, 2, 1) if self.patch_px % count == 0)

    @property
    def hog_cells(self) -> int:
        """Histograms along a side of a patch."""
        return 2 if self.patch_px % 2 == 0 else 1
