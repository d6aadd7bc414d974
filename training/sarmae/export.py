"""Exports the encoder of a pretraining model for plain timm: weights, timm's configuration, a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import safetensors.torch

from sar1m.store.durable import write_durably
from sarmae.model.sarmae import SarMae
from sarmae.model.spec import ENCODER_SIZES, ModelSpec

WEIGHTS_FILE: Final = "model.safetensors"  # this and the next are the names that timm and model hubs look for
CONFIG_FILE: Final = "config.json"
CARD_FILE: Final = "README.md"

Pool = Literal["token", "avg"]

TIMM_NAMES: Final = {  # the registered models of these sizes; a patch of 16 px is given beside the name
    "tiny": "vit_tiny_patch16_224",
    "small": "vit_small_patch16_224",
    "base": "vit_base_patch16_224",
    "large": "vit_large_patch16_224",
    "huge": "vit_huge_patch14_224",
}


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """What a card says about the run behind a model. name: of the model. licence: SPDX identifier of the weights.

    config_toml: the whole configuration of the run. data_location, data_digest: which release it was trained on.
    metrics: name to value, e.g. of the last evaluation; empty where there was none.
    """

    name: str
    licence: str
    config_toml: str
    data_location: str
    data_digest: str
    steps: int
    metrics: Mapping[str, float]


def export_encoder(model: SarMae, folder: Path, facts: RunFacts, *, pool: Pool) -> None:
    """Writes the encoder alone as WEIGHTS_FILE, CONFIG_FILE and CARD_FILE into a folder, made if need be.

    The weights are float32 in timm's naming; with pool "avg" timm calls the last norm fc_norm and applies it after the
    average. Decoder and projector are gone. The normalisation, which timm does not apply, stands in the metadata of
    the weights, in the configuration and in the card. Each file is replaced as a whole. OutputError where the folder
    cannot be written.
    """
    tensors = {
        re.sub(r"^norm\.", "fc_norm.", name) if pool == "avg" else name: tensor.detach().float().cpu().contiguous()
        for name, tensor in model.encoder.state_dict().items()
    }
    metadata = {"sarmae": json.dumps(_metadata(model, facts, pool), sort_keys=True)}
    files = {
        WEIGHTS_FILE: safetensors.torch.save(tensors, metadata=metadata),
        CONFIG_FILE: json.dumps(_timm_config(model, pool), indent=2, sort_keys=True).encode(),
        CARD_FILE: make_card(model, facts, pool).encode(),
    }
    for name, content in files.items():
        write_durably(folder / name, [content])


def timm_arguments(spec: ModelSpec, pool: Pool) -> tuple[str, dict[str, int | str]]:
    """Name and keyword arguments by which timm.create_model builds the encoder of a spec, without a classifier.

    A size that timm does not register is ViT-B's name with its width, depth and heads among the arguments.
    """
    common: dict[str, int | str] = {
        "img_size": spec.image_px,
        "patch_size": spec.patch_px,
        "in_chans": len(spec.polarisations),
        "num_classes": 0,
        "global_pool": pool,
    }
    for size, shape in ENCODER_SIZES.items():
        if shape == (spec.width, spec.depth, spec.heads):
            return TIMM_NAMES[size], common
    shape_arguments = {"embed_dim": spec.width, "depth": spec.depth, "num_heads": spec.heads}
    return TIMM_NAMES["base"], common | shape_arguments


def _timm_config(model: SarMae, pool: Pool) -> dict[str, object]:
    """What timm reads beside the weights. mean and std are in dB, of pixels in dB, and not of pictures."""
    name, arguments = timm_arguments(model.spec, pool)
    side = model.spec.image_px
    return {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.spec.width,
        "global_pool": pool,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [len(model.spec.polarisations), side, side],
            "fixed_input_size": True,
            "mean": _decibels(model.normalise.mean_db.tolist()),
            "std": _decibels(model.normalise.std_db.tolist()),
            "num_classes": 0,
            "pool_size": None,
            "first_conv": "patch_embed.proj",
            "classifier": "head",
        },
    }


def _metadata(model: SarMae, facts: RunFacts, pool: Pool) -> dict[str, object]:
    """Everything a program needs to feed the encoder, and where it comes from."""
    name, arguments = timm_arguments(model.spec, pool)
    return {
        "polarisations": list(model.spec.polarisations),
        "units": "dB",
        "mean_db": _decibels(model.normalise.mean_db.tolist()),
        "std_db": _decibels(model.normalise.std_db.tolist()),
        "no_data": "0 after normalisation",
        "architecture": name,
        "arguments": arguments,
        "data_digest": facts.data_digest,
        "licence": facts.licence,
        "steps": facts.steps,
    }


def _decibels(values: list[float]) -> list[float]:
    """float32 constants without the digits that float64 adds; far finer than any radiometric calibration."""
    return [round(value, 6) for value in values]


def make_card(model: SarMae, facts: RunFacts, pool: Pool) -> str:
    """The model card, Markdown under a YAML head as model hubs read it."""
    spec = model.spec
    name, arguments = timm_arguments(spec, pool)
    keywords = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    bands = zip(
        spec.polarisations,
        _decibels(model.normalise.mean_db.tolist()),
        _decibels(model.normalise.std_db.tolist()),
        strict=True,
    )
    return _CARD.format(
        title=facts.name,
        quoted_title=json.dumps(facts.name),
        licence=facts.licence,
        licence_id=json.dumps(facts.licence.lower()),
        name=name,
        keywords=keywords,
        bands="\n".join(f"| {band} | {mean:g} | {std:g} |" for band, mean, std in bands),
        channels=len(spec.polarisations),
        side=spec.image_px,
        shape=f"width {spec.width}, depth {spec.depth}, {spec.heads} heads, patches of {spec.patch_px} px",
        training=_training_sentence(spec),
        steps=f"{facts.steps:,}",
        data_location=facts.data_location,
        data_digest=facts.data_digest,
        metrics=_metrics_table(facts.metrics),
        fence="`" * (1 + max([2, *map(len, re.findall("`+", facts.config_toml))])),
        config=facts.config_toml.strip(),
    )


def _training_sentence(spec: ModelSpec) -> str:
    parts = " and ".join(_TARGETS[name] for name in spec.target_parts)
    targets = f"{parts}{', standardised patch by patch' if any(map(spec.standardises, spec.target_parts)) else ''}"
    return (
        f"Masked autoencoding: {spec.patches - spec.kept} of {spec.patches} patches hidden, {spec.decoded} of them "
        f"decoded, as {targets}. The decoder ({spec.decoder_width} wide, {spec.decoder_depth} deep) is not part "
        "of this file."
    )


_TARGETS: Final = {
    "pixel": "normalised decibels",
    "lowpass": "normalised decibels of mean power",
    "log_ratio": "log ratios of mean powers",
    "hog": "histograms of oriented gradients",
}


def _metrics_table(metrics: Mapping[str, float]) -> str:
    if not metrics:
        return "No evaluation was recorded with this run."
    rows = (f"| {key} | {value:.4g} |" for key, value in sorted(metrics.items()))
    return "\n".join(["| metric | value |", "|---|---|", *rows])


_CARD: Final = """---
license: {licence_id}
library_name: timm
pipeline_tag: image-feature-extraction
model_name: {quoted_title}
tags: [timm, sar, sentinel-1, remote-sensing, masked-autoencoder]
---

# {title}

An encoder of synthetic-aperture radar images: a plain Vision Transformer ({shape}), pretrained by SARMAE.

## Use

```python
import timm, torch
model = timm.create_model("local-dir:FOLDER", pretrained=True)  # the folder of this file; "hf-hub:NAME" once uploaded
```

or, of the weights file alone,

```python
model = timm.create_model({name!r}, checkpoint_path="model.safetensors", {keywords})
```

Either gives an encoder without a classifier: `model(x)` is a vector an image, `model.forward_features(x)` the tokens,
class token first. A label head comes with `model.reset_classifier(classes)`.

## Units and normalisation

Input: float32, (batch, {channels}, {side}, {side}), backscatter in **decibels**, 10 log10 of linear power, channels in
the order of the table. timm does not normalise; do it before, channel by channel, with 0 for pixels without data (NaN):

`x = torch.nan_to_num((db - mean_db[:, None, None]) / std_db[:, None, None])`

| channel | mean_db | std_db |
|---|---|---|
{bands}

The same numbers stand in `config.json` (`mean`, `std`) and in the metadata of `model.safetensors`. They are decibels:
never pass them to a transform for 8-bit pictures. Images in linear power, in digital numbers or normalised one by one
are not what this encoder was trained on.

## Intended use

Features of SAR images of the sensor and resolution it was trained on: classification, segmentation, detection,
retrieval, after a head was trained for the task. Out of scope: decisions about people; measuring backscatter, moisture
or change in physical units without a validation of your own; other bands, modes or resolutions unchecked.

## Training

{training} {steps} steps.

- Data: {data_location}, manifest digest `{data_digest}`
- Licence of these weights: {licence}

{metrics}

Configuration of the run:

{fence}toml
{config}
{fence}
"""
