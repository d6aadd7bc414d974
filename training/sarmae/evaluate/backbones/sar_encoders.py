"""Our own encoders as backbones: pretrained, exported, or with starting weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from sarmae.config import PretrainConfig
from sarmae.encoders import EncoderWeights, encoder_of, read_exported
from sarmae.evaluate.backbones.input_adapter import sar_adapter
from sarmae.evaluate.backbones.timm_backbones import TransformerBackbone
from sarmae.evaluate.labelled_images import Inputs
from sarmae.export import WEIGHTS_FILE
from sarmae.model.sarmae import SarMae, build_model
from sarmae.stream.band_statistics import SarStatistics
from sarmae.train.setup import model_spec
from sarmae.weights import load_published


class SarBackbone(TransformerBackbone):
    """One of our ViTs. pooled: the mean of its patch tokens. Inputs are normalised as in pretraining."""

    def __init__(self, name: str, encoder: EncoderWeights, inputs: Inputs) -> None:
        adapter = sar_adapter(inputs, encoder.channels, encoder.normalise)
        super().__init__(name, adapter, encoder.build("token", dynamic_img_size=True), inputs, patch_mean=True)
        self._encoder = encoder
        self._image_px = inputs.image_px

    def plain_twin(self) -> nn.Module:
        """timm's model with these weights and average pooling, as a user of the exported file has it.

        It takes normalised images (B, E, image_px, image_px), with E the encoder's channels. On the CPU, in eval mode.
        """
        state = {name: tensor.detach().cpu() for name, tensor in self.network.state_dict().items()}
        return replace(self._encoder, weights=state).build("avg", img_size=self._image_px).eval()


def open_encoder(path: Path, config: PretrainConfig, inputs: Inputs) -> EncoderWeights:
    """An encoder from a folder or file that `sarmae export` wrote, or from a published MAE or SARMAE checkpoint.

    A published checkpoint must have the shape of config.model. Its channels are adapted to the task's, and the
    normalisation is that of the task's train split. Raises CheckpointError; ConfigError where config makes no model.
    """
    file = path / WEIGHTS_FILE if path.is_dir() else path
    exported = read_exported(file)
    if exported is not None:
        return exported
    model = starting_model(config, inputs, image_px=inputs.image_px)
    load_published(model, file, with_decoder=False)
    return encoder_of(model, str(file))


def starting_model(config: PretrainConfig, inputs: Inputs, *, image_px: int) -> SarMae:
    """The model of a pretraining configuration before step 0, with the channels and statistics of a task."""
    statistics = SarStatistics(
        polarisations=inputs.channels, mean_db=inputs.mean, std_db=inputs.std, basis="train", samples=0
    )
    return build_model(model_spec(config.model, image_px, inputs.channels), statistics, seed=config.train.seed)
