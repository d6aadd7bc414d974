"""A masked autoencoder as the paper tells it, in plain float64 numpy: an oracle that shares nothing with ours.

Mask tokens are put back in the grid's order before decoding, as the paper's figure 1 has it.
"""

import math

import numpy as np

EPS = 1e-6
erf = np.vectorize(math.erf, otypes=[float])


def layer_norm(x, w, name):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS) * w[f"{name}.weight"] + w[f"{name}.bias"]


def linear(x, w, name):
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def attention(x, w, name, heads):
    size = x.shape[1] // heads
    q, k, v = np.split(linear(x, w, f"{name}.qkv"), 3, axis=-1)
    out = np.empty_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        share = np.exp(scores - scores.max(-1, keepdims=True))
        out[:, part] = share / share.sum(-1, keepdims=True) @ v[:, part]
    return linear(out, w, f"{name}.proj")


def block(x, w, name, heads):
    x = x + attention(layer_norm(x, w, f"{name}.norm1"), w, f"{name}.attn", heads)
    hidden = linear(layer_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1")
    return x + linear(hidden * 0.5 * (1 + erf(hidden / math.sqrt(2))), w, f"{name}.mlp.fc2")


def patch_list(image, side, *, channel_last):
    """(N, values) in the grid's order."""
    rows, columns = image.shape[1] // side, image.shape[2] // side
    tiles = [
        image[:, r * side : (r + 1) * side, c * side : (c + 1) * side] for r in range(rows) for c in range(columns)
    ]
    return np.stack([(t.transpose(1, 2, 0) if channel_last else t).ravel() for t in tiles])


def encode(image, keep, w, spec):
    matrix = w["encoder.patch_embed.proj.weight"].reshape(spec.width, -1)
    patches = patch_list(image, spec.patch_px, channel_last=False) @ matrix.T + w["encoder.patch_embed.proj.bias"]
    patches = (patches + w["encoder.pos_embed"][0, 1:])[keep]
    x = np.vstack([w["encoder.cls_token"][0] + w["encoder.pos_embed"][0, :1], patches])
    for i in range(spec.depth):
        x = block(x, w, f"encoder.blocks.{i}", spec.heads)
    return layer_norm(x, w, "encoder.norm")


def decode(latent, keep, present, w, spec):
    """(len(present), values): predictions of the patches in `present`, a sorted list that holds the kept ones."""
    embedded = linear(latent, w, "decoder.embed")
    at = {patch: embedded[1 + i] for i, patch in enumerate(keep)}
    rows = [at.get(patch, w["decoder.mask_token"][0, 0]) + w["decoder.pos_embed"][0, 1 + patch] for patch in present]
    x = np.vstack([embedded[0] + w["decoder.pos_embed"][0, 0], *rows])
    for i in range(spec.decoder_depth):
        x = block(x, w, f"decoder.blocks.{i}", spec.decoder_heads)
    return linear(layer_norm(x, w, "decoder.norm"), w, "decoder.pred")[1:]


def mae(seen, wanted, noise, w, spec, decoded):
    """latent, predictions and errors of one sample: seen, wanted (P, H, W) without a NaN, noise (N,).

    decoded: the masked patches to decode. Errors: mean squared error of each of them.
    """
    keep = np.argsort(noise)[: spec.kept]
    present = sorted([*keep, *decoded])
    latent = encode(seen, keep, w, spec)
    prediction = decode(latent, list(keep), present, w, spec)[[present.index(patch) for patch in decoded]]
    target = patch_list(wanted, spec.patch_px, channel_last=True)[decoded]
    if spec.norm_pix:
        target = (target - target.mean(1, keepdims=True)) / np.sqrt(target.var(1, ddof=1, keepdims=True) + EPS)
    return latent, prediction, ((prediction - target) ** 2).mean(1)
