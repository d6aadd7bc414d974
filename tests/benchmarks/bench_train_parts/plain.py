"""A masked autoencoder's step as it is usually written: what ours is measured beside.

From the paper (He et al. 2021, section 3 and appendix A) with timm's blocks: every patch is embedded, the visible ones
are gathered, mask tokens are put in and the grid's order is restored, every patch is predicted, the loss is masked.
Float32, torch's default AdamW, the optical teacher run live in every step that has one.
"""

# B batch, P polarisations, N patches, K kept, D encoder width, d decoder width, T teacher width, V values of a patch

from __future__ import annotations

import torch
from torch import Tensor, nn

from sarmae.model.sarmae import SarMae
from sarmae.model.spec import ModelSpec
from sarmae.timm_door import timm
from sarmae.train.objective import Projector

EPS = 1e-6


def _blocks(count: int, width: int, heads: int) -> nn.Sequential:
    norm = timm.layers.norm.LayerNorm
    made = (timm.models.vision_transformer.Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(count))
    return nn.Sequential(*made)


class PlainMae(nn.Module):
    """Of a spec's shape, with the weights and the normalisation of a model of ours."""

    def __init__(self, ours: SarMae) -> None:
        super().__init__()
        spec, weights = ours.spec, ours.state_dict()
        self.spec = spec
        self.patch = nn.Conv2d(len(spec.polarisations), spec.width, spec.patch_px, spec.patch_px)
        self.class_token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.blocks = _blocks(spec.depth, spec.width, spec.heads)
        self.norm = nn.LayerNorm(spec.width, eps=EPS)
        self.embed = nn.Linear(spec.width, spec.decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, spec.decoder_width))
        self.decoder_blocks = _blocks(spec.decoder_depth, spec.decoder_width, spec.decoder_heads)
        self.decoder_norm = nn.LayerNorm(spec.decoder_width, eps=EPS)
        self.predict = nn.Linear(spec.decoder_width, spec.patch_values)
        self.load_state_dict(_renamed(weights), strict=True)
        for name in ("encoder.pos_embed", "decoder.pos_embed", "normalise.mean_db", "normalise.std_db"):
            self.register_buffer(name.replace(".", "_"), weights[name].clone(), persistent=False)

    def forward(self, input_db: Tensor, target_db: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Loss (), visible tokens (B, K, D) and their patches (B, K), of images without a NaN."""
        shuffle = noise.argsort(dim=1)
        keep = shuffle[:, : self.spec.kept]
        latent = self._encode(self._normalised(input_db), keep)
        prediction = self._decode(latent, shuffle.argsort(dim=1))
        target = self._patches(self._normalised(target_db))
        if self.spec.norm_pix:
            target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + EPS).sqrt()
        error = ((prediction - target) ** 2).mean(-1)
        mask = torch.ones_like(noise).scatter(1, keep, 0.0)
        return (error * mask).sum() / mask.sum(), latent[:, 1:], keep

    def _normalised(self, db: Tensor) -> Tensor:
        return (db - self.normalise_mean_db[:, None, None]) / self.normalise_std_db[:, None, None]

    def _encode(self, images: Tensor, keep: Tensor) -> Tensor:
        tokens = self.patch(images).flatten(2).transpose(1, 2) + self.encoder_pos_embed[:, 1:]
        seen = _gather(tokens, keep)
        first = (self.class_token + self.encoder_pos_embed[:, :1]).expand(len(seen), -1, -1)
        return self.norm(self.blocks(torch.cat([first, seen], dim=1)))

    def _decode(self, latent: Tensor, restore: Tensor) -> Tensor:
        hidden = self.embed(latent)
        masked = self.mask_token.repeat(len(hidden), restore.shape[1] + 1 - hidden.shape[1], 1)
        grid = _gather(torch.cat([hidden[:, 1:], masked], dim=1), restore)
        sequence = torch.cat([hidden[:, :1], grid], dim=1) + self.decoder_pos_embed
        return self.predict(self.decoder_norm(self.decoder_blocks(sequence)))[:, 1:]

    def _patches(self, images: Tensor) -> Tensor:
        """(B, N, V), values in the order row, column, channel."""
        side, grid = self.spec.patch_px, self.spec.grid
        tiles = images.reshape(len(images), -1, grid, side, grid, side)
        return tiles.permute(0, 2, 4, 3, 5, 1).reshape(len(images), grid * grid, -1)


class PlainStep:
    """zero_grad, forward, backward, step; nothing else."""

    def __init__(self, model: PlainMae, projector: Projector | None, *, weight: float, lr: float) -> None:
        self.model, self.projector, self.weight = model, projector, weight
        trained = [*model.parameters(), *(projector.parameters() if projector else ())]
        self.optimiser = torch.optim.AdamW(trained, lr=lr, betas=(0.9, 0.95), weight_decay=0.05)

    def losses(self, images: tuple[Tensor, Tensor], noise: Tensor, anchors: Tensor | None) -> tuple[Tensor, Tensor]:
        """Reconstruction error and mean distance to the anchors (B, N, T); every sample is paired."""
        mae, visible, keep = self.model(*images, noise)
        if self.projector is None or anchors is None:
            return mae, torch.zeros_like(mae)
        cosine = nn.functional.cosine_similarity(self.projector(visible), _gather(anchors, keep), dim=-1)
        return mae, 1 - cosine.mean()

    def __call__(self, images: tuple[Tensor, Tensor], noise: Tensor, anchors: Tensor | None, *, bf16: bool) -> Tensor:
        self.optimiser.zero_grad()
        with torch.autocast(noise.device.type, dtype=torch.bfloat16, enabled=bf16):
            mae, sarc = self.losses(images, noise, anchors)
            loss = mae + self.weight * sarc
        loss.backward()
        self.optimiser.step()
        return mae.detach()


def _gather(tokens: Tensor, ids: Tensor) -> Tensor:
    return torch.gather(tokens, 1, ids[:, :, None].expand(-1, -1, tokens.shape[-1]))


_NAMES = (
    ("encoder.patch_embed.proj.", "patch."),
    ("encoder.cls_token", "class_token"),
    ("encoder.blocks.", "blocks."),
    ("encoder.norm.", "norm."),
    ("decoder.embed.", "embed."),
    ("decoder.mask_token", "mask_token"),
    ("decoder.blocks.", "decoder_blocks."),
    ("decoder.norm.", "decoder_norm."),
    ("decoder.pred.", "predict."),
)


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        new + name.removeprefix(old): value
        for old, new in _NAMES
        for name, value in weights.items()
        if name.startswith(old)
    }


def plain_of(spec: ModelSpec, ours: SarMae) -> PlainMae:
    """The plain twin of a model of ours; checks that nothing of it is left over."""
    twin = PlainMae(ours)
    if sum(weight.numel() for weight in twin.parameters()) != sum(
        weight.numel() for weight in ours.parameters() if weight.requires_grad
    ):
        raise RuntimeError(f"the plain model of {spec} has other parameters than ours")
    return twin
