"""Backbones with weights: vision transformers of timm, and networks with a feature map of stride 16."""

# B batch, N patches, L tokens, D width, h w the encoder's grid

from __future__ import annotations

import re
from typing import Any, Final, cast

from torch import Tensor, nn
from typing_extensions import override

from sar1m.store.errors import ConfigError
from sarmae.evaluate.backbones.backbone import Backbone, Features
from sarmae.evaluate.backbones.input_adapter import InputAdapter, check_side, grid_of
from sarmae.evaluate.labelled_images import Inputs
from sarmae.sarc.frozen_encoders import Pyramid, PyramidTrunk
from sarmae.stream.loader_settings import TOKEN_PX
from sarmae.timm_door import timm

_BLOCK: Final = re.compile(r"^blocks\.(\d+)\.")
_AFTER_BLOCKS: Final = re.compile(r"^(norm|fc_norm|attn_pool)\.")


class TransformerBackbone(Backbone):
    """A vision transformer of timm: its patch tokens after the last norm.

    patch_mean: pooled is the mean of these tokens, as in the probes of pretraining; else it is timm's own pooling of
    the model (class token or average, as it was trained).
    The sides of the input may be any multiples of the patch. Positions are interpolated to image_px once, when the
    encoder is opened, and to other sizes in every pass.
    """

    learns = True

    def __init__(
        self, name: str, adapter: InputAdapter, network: nn.Module, inputs: Inputs, *, patch_mean: bool
    ) -> None:
        super().__init__()
        transformer = cast(Any, network)
        self.name, self.adapter, self.network = name, adapter, network
        self.width: int = transformer.embed_dim
        self.stride_px: int = transformer.patch_embed.patch_size[0]
        self._prefix: int = transformer.num_prefix_tokens
        self._patch_mean = patch_mean
        check_side(inputs.image_px, self.stride_px, name)
        transformer.set_input_size(img_size=(inputs.image_px, inputs.image_px))

    @override
    def forward(self, images: Tensor) -> Features:
        rows, cols = grid_of(images, self.stride_px, self.name)
        network = cast(Any, self.network)
        tokens: Tensor = network.forward_features(self.adapter(images))
        # fc_norm: the last norm, where timm applies it after pooling; else the identity
        patches: Tensor = network.fc_norm(tokens[:, self._prefix :])
        pooled = patches.mean(dim=1) if self._patch_mean else network.forward_head(tokens, pre_logits=True)
        return Features(pooled, patches.transpose(1, 2).reshape(len(images), self.width, rows, cols))

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """Embedding with positions and tokens; each block; the last norm."""
        depth = len(cast(Any, self.network).blocks)
        groups: list[list[nn.Parameter]] = [[] for _ in range(depth + 2)]
        for name, weight in self.network.named_parameters():
            block = _BLOCK.match(name)
            place = int(block[1]) + 1 if block else (depth + 1) * bool(_AFTER_BLOCKS.match(name))
            groups[place].append(weight)
        return tuple(tuple(group) for group in groups if group)


class MapBackbone(Backbone):
    """A network of timm up to its feature map of stride 16, like the patches of the ViT; what follows is cut off.

    pooled: the mean of the map.
    Batch norms keep their running statistics in training too, because a few chips a batch are too few to estimate them;
    their factors learn.
    """

    learns = True
    stride_px = TOKEN_PX

    def __init__(self, name: str, adapter: InputAdapter, network: nn.Module, inputs: Inputs) -> None:
        super().__init__()
        self.name, self.adapter = name, adapter
        check_side(inputs.image_px, self.stride_px, name)
        level = _level_of_stride_16(network, name)
        whole = cast(Any, network)
        if hasattr(network, "set_input_size"):  # transformers with windows
            whole.set_input_size(img_size=(inputs.image_px, inputs.image_px))
        whole.prune_intermediate_layers([level], prune_norm=True, prune_head=True)
        self.trunk = PyramidTrunk(cast(Pyramid, network), level)
        self.width = self.trunk.width

    @override
    def forward(self, images: Tensor) -> Features:
        grid_of(images, self.stride_px, self.name)
        grid = self.trunk(self.adapter(images))
        return Features(grid.mean(dim=(2, 3)), grid)

    def train(self, mode: bool = True) -> MapBackbone:
        """As nn.Module.train, but batch norms stay in eval mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def depth_groups(self) -> tuple[tuple[nn.Parameter, ...], ...]:
        """First layers, then stage after stage, as timm groups them."""
        network = cast(Any, self.trunk.pyramid)
        places = timm.models.group_parameters(network, network.group_matcher(coarse=True), reverse=True)
        groups: dict[int, list[nn.Parameter]] = {}
        for name, weight in network.named_parameters():
            groups.setdefault(places[name], []).append(weight)
        return tuple(tuple(groups[place]) for place in sorted(groups))


def timm_backbone(name: str, adapter: InputAdapter, network: nn.Module, inputs: Inputs) -> Backbone:
    """The backbone for a network of timm with its classifier. ConfigError where it has neither patch tokens nor a
    map of stride 16.
    """
    if hasattr(network, "num_prefix_tokens") and hasattr(network, "patch_embed"):
        cast(Any, network).reset_classifier(0)
        return TransformerBackbone(name, adapter, network, inputs, patch_mean=False)
    return MapBackbone(name, adapter, network, inputs)


def channels_of(network: nn.Module) -> int:
    """Channels that a network takes: those of its first convolution."""
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    return 3 if first is None else first.in_channels * first.groups


def _level_of_stride_16(network: nn.Module, name: str) -> int:
    strides = [level["reduction"] for level in getattr(network, "feature_info", [])]
    if TOKEN_PX not in strides or not hasattr(network, "prune_intermediate_layers"):
        raise ConfigError(
            f"{name}: neither patch tokens nor a map of stride {TOKEN_PX} (its strides: {strides}). Choose a vision "
            "transformer or a model with such a map."
        )
    return len(strides) - 1 - strides[::-1].index(TOKEN_PX)  # the deepest of them
