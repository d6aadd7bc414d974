"""Encoders that SARMAE pretrained: out of a run or an exported file, as plain timm models, ready for decibels."""
# B batch, P polarisations, S side of an image, N patches, D width

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import safetensors
import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sar1m.store.side_files import json_value
from sarmae.errors import CheckpointError
from sarmae.export import TIMM_NAMES, WEIGHTS_FILE, Pool, timm_arguments
from sarmae.model.sarmae import SarMae
from sarmae.model.spec import ENCODER_SIZES, ModelSpec
from sarmae.runs import load_run_model
from sarmae.stream.normalise import Normalise
from sarmae.timm_door import timm
from sarmae.train.checkpoint import FOLDER as CHECKPOINTS
from sarmae.weights import DAMAGE, count_blocks, misfits, read_weights

METADATA_KEY: Final = "sarmae"  # the entry of an exported file's metadata, see sarmae.export
METADATA_CHARACTERS: Final = 65_536  # some hundred are used
_POOLED_NORM: Final = re.compile(r"^fc_norm\.")
_NORM: Final = re.compile(r"^norm\.")


@dataclass(frozen=True, kw_only=True, eq=False)
class EncoderWeights:
    """A pretrained ViT and what is needed to build and feed it.

    architecture, arguments: of timm.create_model.
    weights: by timm's names, the last norm as `norm`.
    channels: polarisations in order.
    normalise: of decibels, as in pretraining.
    origin: for messages.
    """

    architecture: str
    arguments: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    channels: tuple[str, ...]
    normalise: Normalise
    origin: str

    def build(self, pool: Pool, **arguments: Any) -> nn.Module:  # noqa: ANN401 - timm's own
        """timm's model with the weights, for normalised images. Raises CheckpointError where they do not fit it.

        pool: `avg` averages the patch tokens before the last norm, which timm then calls fc_norm; `token` takes the
        class token. arguments: of timm.create_model, besides those of pretraining.
        """
        state = dict(self.weights)
        if pool == "avg":
            state = {_NORM.sub("fc_norm.", name): tensor for name, tensor in state.items()}
        arguments = {**self.arguments, "global_pool": pool, **arguments}
        try:
            with torch.random.fork_rng(devices=[]):
                network: nn.Module = timm.create_model(self.architecture, **arguments)
            network.load_state_dict(state)
        except DAMAGE as error:
            cause = " ".join(str(error).split())[:300]
            raise CheckpointError(
                f"{self.origin}: its weights are not those of {self.architecture} with {arguments}, which it says it "
                f"holds: {cause} It was changed after it was written: export it again."
            ) from error
        return network


class DecibelEncoder(nn.Module):
    """A pretrained ViT behind the normalisation that it was pretrained with.

    polarisations: of the input's channels, in order. network: timm's model, for normalised images.
    """

    def __init__(self, encoder: EncoderWeights) -> None:
        super().__init__()
        self.polarisations = encoder.channels
        self.normalise = encoder.normalise
        self.network = encoder.build("avg", dynamic_img_size=True)

    def forward(self, sar_db: Tensor) -> Tensor:
        """(B, D) features, one vector an image.

        sar_db: (B, P, S, S) float32, backscatter in dB, 10 log10 of linear power; NaN where there is no data. S is a
        multiple of the patch; the positions are interpolated to it.

        Raises ConfigError where the number of channels is another.
        """
        features: Tensor = self.network(self.normalise(sar_db))
        return features

    def tokens(self, sar_db: Tensor) -> Tensor:
        """(B, 1 + N, D): the class token, then those of the patches, row by row. sar_db: as in forward."""
        tokens: Tensor = self.network.forward_features(self.normalise(sar_db))  # type: ignore[operator]
        return tokens


def load_encoder(place: str | Path, device: str | torch.device = "cpu") -> DecibelEncoder:
    """The encoder of a pretraining run, in evaluation mode on a device: `load_encoder("runs/x")(sar_db)`.

    place: folder of a run, whose latest whole checkpoint is taken, with the moving average of the weights where the
    run kept one; or a folder or .safetensors file that `sarmae export` wrote.

    Raises CheckpointError where there is no such encoder, or it is damaged.
    """
    place = Path(place)
    if (place / CHECKPOINTS).is_dir():
        encoder = encoder_of(load_run_model(place).model, str(place))
    else:
        file = place / WEIGHTS_FILE if place.is_dir() else place
        found = read_exported(file)
        if found is None:
            raise CheckpointError(
                f"{file}: weights without the normalisation of their input; expected the folder of a run, or what "
                "`sarmae export` wrote. Begin a run from these weights (model.weights) and give its folder."
            )
        encoder = found
    return DecibelEncoder(encoder).to(device).eval()


def encoder_of(model: SarMae, origin: str) -> EncoderWeights:
    """The encoder of a pretraining model."""
    architecture, arguments = timm_arguments(model.spec, "token")
    return EncoderWeights(
        architecture=architecture,
        arguments=arguments,
        weights=model.encoder.state_dict(),
        channels=model.spec.polarisations,
        normalise=model.normalise,
        origin=origin,
    )


def read_exported(file: Path) -> EncoderWeights | None:
    """The encoder in a file that `sarmae export` wrote; None where the file has another origin.

    Metadata choose nothing: the shape is that of the tensors, and name and arguments must be those that `sarmae export`
    writes for it. So a file cannot name a path or an address, nor ask for a larger model than it holds.

    Raises CheckpointError where the file cannot be read, its metadata do not describe an encoder, or describe another
    one than the file holds.
    """
    weights = {_POOLED_NORM.sub("norm.", name): tensor for name, tensor in read_weights(file).items()}
    facts = _metadata(file)
    if facts is None:
        return None
    try:
        normalise = Normalise(facts["mean_db"], facts["std_db"])
        spec = _spec_of(facts, weights)
        if len(spec.polarisations) != len(normalise.mean_db):
            raise ValueError(f"{len(spec.polarisations)} polarisations, {len(normalise.mean_db)} means")
        architecture, arguments = timm_arguments(spec, facts["arguments"]["global_pool"])
        if (facts["architecture"], facts["arguments"]) != (architecture, arguments):
            asked = f"{facts['architecture']!r} with {facts['arguments']}"
            raise ValueError(f"found {asked[:200]}; its tensors are those of {architecture!r} with {arguments}")
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, ConfigError, CheckpointError) as error:
        raise _unfit_metadata(file, error) from error
    encoder = EncoderWeights(
        architecture=architecture,
        arguments=arguments,
        weights=weights,
        channels=spec.polarisations,
        normalise=normalise,
        origin=str(file),
    )
    _check_shapes(encoder)
    return encoder


def _spec_of(facts: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ModelSpec:
    """The shape of the encoder in the tensors; the heads, which no tensor shows, from the metadata.

    Raises ValueError, or a LookupError, TypeError or ConfigError, where there is none.
    """
    width, channels, patch_px, _ = weights["patch_embed.proj.weight"].shape
    grid = math.isqrt(weights["pos_embed"].shape[1] - 1)
    depth = count_blocks(weights)
    names = {name: size for size, name in TIMM_NAMES.items()}
    heads = facts["arguments"].get("num_heads", ENCODER_SIZES[names[facts["architecture"]]][2])
    pool, polarisations = facts["arguments"]["global_pool"], facts["polarisations"]
    if pool not in get_args(Pool) or type(heads) is not int or not all(isinstance(one, str) for one in polarisations):
        raise ValueError(f"global_pool {pool!r}, num_heads {heads!r}, polarisations {polarisations!r}")
    if len(polarisations) != channels:
        raise ValueError(f"{len(polarisations)} polarisations, {channels} channels")
    return ModelSpec(
        image_px=grid * patch_px,
        patch_px=patch_px,
        polarisations=tuple(polarisations),
        width=width,
        depth=depth,
        heads=heads,
    )


def _check_shapes(encoder: EncoderWeights) -> None:
    """Raises CheckpointError where the tensors are not those of the model, before memory is taken for one."""
    with torch.device("meta"):
        expected = timm.create_model(encoder.architecture, **{**encoder.arguments, "global_pool": "token"}).state_dict()
    if faults := misfits(encoder.weights, expected):
        raise CheckpointError(
            f"{encoder.origin}: {len(faults)} of its tensors are not those of {encoder.architecture} with "
            f"{encoder.arguments}, which it says it holds: {'; '.join(faults[:3])}. It was changed after it was "
            "written: export it again."
        )


def _metadata(file: Path) -> Mapping[str, Any] | None:
    """What `sarmae export` wrote beside the weights; None in a file of another origin."""
    if file.suffix != ".safetensors":
        return None
    with safetensors.safe_open(file, framework="pt") as opened:
        text = (opened.metadata() or {}).get(METADATA_KEY)
    if text is None:
        return None
    try:
        if len(text) > METADATA_CHARACTERS:
            raise ValueError(f"{len(text):,} characters")
        return dict(json_value(text.encode()))
    except (ValueError, TypeError) as error:
        raise _unfit_metadata(file, error) from error


def _unfit_metadata(file: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{file}: its metadata do not say which encoder it holds ({type(error).__name__}: {error}); expected "
        "architecture, arguments, polarisations, mean_db and std_db as `sarmae export` writes them. Export it again."
    )
