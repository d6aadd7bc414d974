"""Teachers by name, and controls made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

from torch import nn

from sar1m.store.errors import ConfigError
from sarmae.config import SarcConfig
from sarmae.sarc.frozen_encoders import (
    EmbedTrunk,
    FirstLayersTrunk,
    FrozenTeacher,
    PatchTrunk,
    Pyramid,
    PyramidTrunk,
    TokenTrunk,
    Transformer,
)
from sarmae.sarc.timm_networks import (
    EFFICIENTNET,
    TIMM_PREFIX,
    NetworkRequest,
    efficientnet_at_hand,
    open_network,
    timm_name,
    untrained_network,
)
from sarmae.stream.loader_settings import TOKEN_PX

NO_TEACHER: Final = "none"
LINEAR_PATCH: Final = "linear_patch"
STEM_PREFIX: Final = "stem:"
UNTRAINED_PREFIX: Final = "untrained:"
DINOV3: Final = {
    "dinov3_small": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_base": "vit_base_patch16_dinov3.lvd1689m",
    "dinov3_large": "vit_large_patch16_dinov3.lvd1689m",
    "dinov3_large_sat493m": "vit_large_patch16_dinov3.sat493m",
}

LINEAR_WIDTH: Final = 256
LINEAR_SEED: Final = 2021  # part of the control's definition: one control for all runs, whatever their seed
# timm's names of what comes first in convolutional networks, the activation with it
FIRST_LAYERS: Final = (("conv_stem", "bn1"), ("conv1", "bn1", "act1"), ("stem",))
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

# its authors feed (x - 127) / 128 of 8-bit values x; here of x / 255
EFFICIENTNET_MEAN: Final = (127 / 255,) * 3
EFFICIENTNET_STD: Final = (128 / 255,) * 3


def open_teacher(sarc: SarcConfig) -> FrozenTeacher:
    """The teacher a configuration names, on the CPU. `none` is no teacher and not asked for.

    stem:NAME is NAME cut after its first layer: of a transformer the patch embedding and the last norm, which is what
    the published SARMAE code runs as its frozen DINOv3; of a convolutional network the first convolution with its norm
    and activation. untrained:NAME is the whole of NAME with timm's starting weights, drawn from a seed that is part of
    the control's definition; factors of LayerScale are 1, since their usual start (1e-5) would switch every block off.
    Batch norms of an untrained network pass on what they get.

    Raises ConfigError for an unknown name or a model that gives no map of patches, CheckpointError for weights that are
    absent, damaged or another model's.
    """
    if sarc.teacher == LINEAR_PATCH:
        _refuse_weights(sarc)
        return FrozenTeacher(PatchTrunk(LINEAR_WIDTH, seed=LINEAR_SEED), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    control, name = _control(sarc.teacher)
    if control == UNTRAINED_PREFIX:
        _refuse_weights(sarc)
        model = untrained_network(_network_name(name))
    else:
        model = _trained(_network_name(name), sarc)
    trunk = _first_layers(model, sarc.teacher) if control == STEM_PREFIX else _trunk(model, sarc.teacher)
    if name == EFFICIENTNET:
        return FrozenTeacher(trunk, mean=EFFICIENTNET_MEAN, std=EFFICIENTNET_STD)
    published = cast(Any, model).pretrained_cfg
    return FrozenTeacher(trunk, mean=tuple(published["mean"]), std=tuple(published["std"]))


def weights_at_hand(sarc: SarcConfig) -> bool:
    """Whether open_teacher finds the weights without asking a hub."""
    control, name = _control(sarc.teacher)
    packaged = name == EFFICIENTNET and efficientnet_at_hand()
    drawn = sarc.teacher == LINEAR_PATCH or control == UNTRAINED_PREFIX
    return sarc.weights is not None or drawn or packaged


def _control(teacher: str) -> tuple[str, str]:
    """The prefix of a control, empty without one, and the teacher it is made of."""
    for prefix in (STEM_PREFIX, UNTRAINED_PREFIX):
        if teacher.startswith(prefix):
            return prefix, teacher.removeprefix(prefix)
    return "", teacher


def _refuse_weights(sarc: SarcConfig) -> None:
    if sarc.weights is not None:
        raise ConfigError(
            f"sarc.weights: {sarc.weights} given, but {sarc.teacher} is random and has none. Leave it out."
        )


def _trained(model: str, sarc: SarcConfig) -> nn.Module:
    return open_network(
        NetworkRequest(
            model=model,
            weights=None if sarc.weights is None else Path(sarc.weights),
            words=sarc.teacher,
            name_key="sarc.teacher",
            weights_key="sarc.weights",
            otherwise=", or write a teacher cache there (sarmae cache-teacher) and give it as sarc.cache",
        )
    )


def _network_name(teacher: str) -> str:
    """As networks are called: timm's name, or EFFICIENTNET."""
    if teacher == EFFICIENTNET:
        return EFFICIENTNET
    if teacher in DINOV3:
        return DINOV3[teacher]
    if teacher.startswith(TIMM_PREFIX):
        return timm_name(teacher, "sarc.teacher")
    known = ", ".join((NO_TEACHER, LINEAR_PATCH, EFFICIENTNET, *DINOV3))
    raise ConfigError(
        f"sarc.teacher: found {teacher!r}, expected one of {known}, or {TIMM_PREFIX}<name of a timm model>; of those "
        f"that learned, {STEM_PREFIX}<teacher> is the first layer and {UNTRAINED_PREFIX}<teacher> the random network."
    )


def _trunk(model: nn.Module, teacher: str) -> TokenTrunk | PyramidTrunk:
    if hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed"):
        return TokenTrunk(cast(Transformer, model))
    levels = [level["reduction"] for level in getattr(model, "feature_info", [])]
    if TOKEN_PX not in levels or not hasattr(model, "forward_intermediates"):
        raise ConfigError(
            f"sarc.teacher {teacher}: neither patch tokens nor a map of stride {TOKEN_PX} (its strides: {levels}). "
            "Choose a vision transformer or a model with such a map."
        )
    return PyramidTrunk(cast(Pyramid, model), levels.index(TOKEN_PX))


def _first_layers(model: nn.Module, teacher: str) -> EmbedTrunk | FirstLayersTrunk:
    if hasattr(model, "num_prefix_tokens") and hasattr(model, "patch_embed"):
        return EmbedTrunk(cast(Transformer, model))
    for names in FIRST_LAYERS:
        layers = [getattr(model, name) for name in names if hasattr(model, name)]
        if len(layers) == len(names):
            return FirstLayersTrunk(layers)
    expected = "; ".join(" + ".join(names) for names in FIRST_LAYERS)
    raise ConfigError(
        f"sarc.teacher {teacher}: its first layer stands under none of the names that are known (patch_embed; "
        f"{expected}). Choose another model."
    )
