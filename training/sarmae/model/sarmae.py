"""The pretraining model: decibels in, loss and visible tokens out. The normalisation is part of it, and is saved."""

# B batch, P polarisations, N patches, K kept (visible), M decoded, V values of a target, D width

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.model.decoder import MaeDecoder
from sarmae.model.encoder import Encoder
from sarmae.model.loss import restored, squared_errors
from sarmae.model.patches import mask_by_noise, take_patches, to_images
from sarmae.model.spec import ModelSpec
from sarmae.model.targets import Targets, make_targets
from sarmae.stream.normalise import Normalise

if TYPE_CHECKING:
    from sarmae.stream.band_statistics import SarStatistics  # its module brings the store's reader along

TOKEN_STD = 0.02  # of the class and mask tokens at the start; He et al. 2021, appendix A.1


class MaeOutput(NamedTuple):
    """One step's results.

    loss: () float32, the mean squared error over the measured values of the decoded patches. values: () int64, how many
    these are. per_sample_loss: (B,) float32, without gradient, 0.0 where a sample's decoded patches hold no data.
    visible: (B, K, D), the encoder's patch tokens after its norm, without the class token. ids_keep: (B, K),
    which patches these are. prediction: (B, M, V), of the decoded patches, in units of the target, as of
    `make_targets`. ids_decode: (B, M), which patches these are. mask: (B, N), 1.0 where masked.
    """

    loss: Tensor
    values: Tensor
    per_sample_loss: Tensor
    visible: Tensor
    ids_keep: Tensor
    prediction: Tensor
    ids_decode: Tensor
    mask: Tensor


class SarMae(nn.Module):
    """Masked autoencoder over backscatter in dB. `encoder` is a plain timm ViT; every other part is for pretraining.

    Positions do not learn; every other parameter has a gradient after every backward pass.
    """

    def __init__(self, spec: ModelSpec, normalise: Normalise) -> None:
        super().__init__()
        self.spec = spec
        self.normalise = normalise
        self.encoder = Encoder(spec)
        self.decoder = MaeDecoder(spec)

    def forward(self, input_db: Tensor, target_db: Tensor, noise: Tensor) -> MaeOutput:
        """input_db (what the encoder sees) and target_db (what is to be predicted): (B, P, H, W) dB, NaN: no data.

        noise: (B, N), any values; see `mask_by_noise`. ConfigError where an image is not of the spec's shape.
        """
        self._check(input_db)
        self._check(target_db)
        spec = self.spec
        masking = mask_by_noise(noise, spec.kept, spec.decoded)
        tokens = self._encode(input_db, masking.ids_keep)
        features = self.decoder(tokens, masking.ids_keep, masking.ids_decode)
        prediction = self.decoder.predict(features[:, 1 + spec.kept :])
        errors = squared_errors(prediction, *self.targets(target_db, masking.ids_decode))
        return MaeOutput(*errors, tokens[:, 1:], masking.ids_keep, prediction, masking.ids_decode, masking.mask)

    def measured(self, images_db: Tensor, ids: Tensor) -> Tensor:
        """(B, K) int64: how many values of the patches at ids (B, K) of (B, P, H, W) dB are not NaN."""
        return (~take_patches(images_db, ids, self.spec.patch_px).isnan()).sum(dim=(2, 3, 4))

    def targets(self, images_db: Tensor, ids: Tensor) -> Targets:
        """What the patches at ids (B, K) of (B, P, H, W) dB are to be predicted as."""
        return make_targets(images_db, ids, self.spec, self.normalise)

    def tokens(self, input_db: Tensor) -> Tensor:
        """(B, 1 + N, D), class token first, after the norm: the encoder over all patches of (B, P, H, W) dB."""
        self._check(input_db)
        features: Tensor = self.encoder.forward_features(self.normalise(input_db))
        return features

    def predict_patches(self, input_db: Tensor, noise: Tensor) -> Tensor:
        """Every patch decoded, the visible ones too, whatever decode_share says: (B, N, V), in the grid's order."""
        self._check(input_db)
        ids_keep, ids_decode, _ = mask_by_noise(noise, self.spec.kept, self.spec.patches - self.spec.kept)
        features = self.decoder(self._encode(input_db, ids_keep), ids_keep, ids_decode)
        values = self.decoder.predict(features[:, 1:])
        back = torch.cat([ids_keep, ids_decode], dim=1).argsort(dim=1)
        return values.take_along_dim(back[:, :, None], dim=1)

    def reconstruct(self, input_db: Tensor, target_db: Tensor, noise: Tensor) -> Tensor:
        """The answers as images in dB, (B, P, H, W), without gradient; to be shown beside target_db.

        ConfigError where pixels are no target of the spec.
        """
        if self.spec.target_parts[0] != "pixel":
            raise ConfigError(f"target = {self.spec.target!r} has no pixels to reconstruct; `answers` gives its values")
        values, _ = self.answers(input_db, target_db, noise)
        return self.normalise.denormalise(to_images(values, self.spec.patch_px))

    @torch.no_grad()
    def answers(self, input_db: Tensor, target_db: Tensor, noise: Tensor) -> tuple[Tensor, Targets]:
        """Every patch predicted, and its target: (B, N, V) each, V of the first of the spec's target_parts alone, in
        that target's own unit.

        With norm_pix each patch gets back its own target's mean and std, as MAE's figures do: then brightness and
        contrast of a patch are the target's, and only its structure is predicted.
        """
        spec, part = self.spec, self.spec.target_parts[0]
        every = torch.arange(spec.patches, device=noise.device).expand(len(noise), -1)
        wanted = make_targets(target_db, every, replace(spec, target=part, norm_pix=False), self.normalise)
        values = self.predict_patches(input_db, noise).float()[..., : spec.part_values(part)] / spec.part_scale(part)
        return (restored(values, *wanted) if spec.standardises(part) else values), wanted

    def _encode(self, input_db: Tensor, ids_keep: Tensor) -> Tensor:
        """Tokens (B, 1 + K, D). Only the visible patches are ever read."""
        seen = take_patches(input_db, ids_keep, self.spec.patch_px)
        return self.encoder.visible(self._normalised(seen), ids_keep)

    def _normalised(self, patches: Tensor) -> Tensor:
        """(B, K, P, p, p) through the per-band normalisation, which takes bands on its second axis."""
        normalised: Tensor = self.normalise(patches.flatten(0, 1)).view_as(patches)
        return normalised

    def _check(self, images: Tensor) -> None:
        names, side = self.spec.polarisations, self.spec.image_px
        if images.ndim != 4 or images.shape[1:] != (len(names), side, side):
            raise ConfigError(
                f"images of shape {tuple(images.shape)}; expected (batch, {len(names)}, {side}, {side}): the model was "
                f"made for {side} px and {', '.join(names)}. Crop the images, or make a model for theirs"
            )


def build_model(spec: ModelSpec, statistics: SarStatistics, *, seed: int) -> SarMae:
    """A model with MAE's starting weights, drawn from the seed alone; torch's global generator is left as it was.

    ConfigError where the statistics are not those of the spec's polarisations, in their order.
    """
    if statistics.polarisations != spec.polarisations:
        raise ConfigError(
            f"statistics of {', '.join(statistics.polarisations)} for a model of {', '.join(spec.polarisations)}; "
            "read the statistics in the order of the model's polarisations"
        )
    normalise = Normalise(statistics.mean_db, statistics.std_db)
    with torch.random.fork_rng(devices=[]):
        model = SarMae(spec, normalise)
    _draw_weights(model, torch.Generator().manual_seed(seed))
    return model


def _draw_weights(model: SarMae, generator: torch.Generator) -> None:
    """Xavier-uniform matrices, the patch embedding taken as one, biases 0, tokens normal. Source: MAE, appendix A.1."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1), generator=generator)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every layer of ours has one
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    nn.init.normal_(model.encoder.cls_token, std=TOKEN_STD, generator=generator)
    nn.init.normal_(model.decoder.mask_token, std=TOKEN_STD, generator=generator)
