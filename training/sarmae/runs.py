"""The model of a run's latest checkpoint, and its export as an encoder with a card that describes the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import torch
from pydantic import ValidationError
from torch import Tensor

from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.errors import CheckpointError
from sarmae.export import WEIGHTS_FILE, Pool, RunFacts, export_encoder
from sarmae.model.sarmae import SarMae
from sarmae.model.spec import ModelSpec
from sarmae.stream.normalise import Normalise
from sarmae.train.checkpoint import Checkpoint, load_latest
from sarmae.train.metrics import METRICS_FILE, read_metrics
from sarmae.train.state import AVERAGE_PREFIX
from sarmae.train.target_drift import DRIFTS
from sarmae.weights import count_blocks, misfits

MODEL_PREFIX: Final = "model."  # of the model inside the objective; its other part is the projector
UNKNOWN_LICENCE: Final = "unknown"  # as model hubs have it
_SHOWN_METRICS: Final = ("loss", "mae", "sarc", *DRIFTS.values())
_PROBES: Final = "probe/"


@dataclass(frozen=True, kw_only=True)
class RunModel:
    """The model of a run's latest whole checkpoint. averaged: whether its weights are the moving average, not those of
    the last step."""

    model: SarMae
    config: PretrainConfig
    averaged: bool
    checkpoint: Checkpoint


def export_run(run: Path, out: Path, *, pool: Pool = "avg", licence: str = UNKNOWN_LICENCE) -> Path:
    """Writes the encoder of a run's latest whole checkpoint for plain timm, with its card; returns the weights' path.

    The moving average of the weights is taken where the run kept one. licence: SPDX identifier for the weights, which
    the data's own licence may limit. Stores stand in the card by name or URL, without local folders, without
    credentials. Raises CheckpointError where run is no run, no checkpoint is whole, or it is of another model than it
    says; OutputError where out cannot be written.
    """
    trained = load_run_model(run)
    saved = trained.checkpoint
    public = _public_config(trained.config)
    weights = "the moving average of the weights (train.ema)" if trained.averaged else "the weights"
    facts = RunFacts(
        name=trained.config.name,
        licence=licence,
        config_toml=f"# Exported: {weights} after step {saved.step}.\n{public.to_toml()}",
        data_location=", ".join(public.data.stores) or "not stated",
        data_digest=", ".join(_digests(saved)) or "not stated",
        steps=saved.step,
        metrics=_last_metrics(run / METRICS_FILE, saved.step),
    )
    export_encoder(trained.model, out, facts, pool=pool)
    return out / WEIGHTS_FILE


def load_run_model(run: Path) -> RunModel:
    """The model of a run's latest whole checkpoint, with the moving average of its weights where the run kept one.

    Raises CheckpointError where run is no run, no checkpoint is whole, or it is of another model than it says.
    """
    saved = load_latest(run) if run.is_dir() else None
    if saved is None:
        found = "no checkpoint" if run.is_dir() else "no such folder"
        raise CheckpointError(
            f"{run}: {found}; expected the folder of a run, with checkpoints/LATEST in it. Give the --out of "
            "`sarmae pretrain`, once it has saved (train.checkpoint_every)."
        )
    weights, averaged = _weights(saved.model)
    try:
        config = PretrainConfig.model_validate(saved.facts["config"])
        spec = ModelSpec(**saved.facts["spec"])
        normalise = Normalise(weights["normalise.mean_db"].tolist(), weights["normalise.std_db"].tolist())
    except (KeyError, TypeError, ValidationError, ConfigError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else error
        raise CheckpointError(
            f"{run}: the checkpoint of step {saved.step} does not say which model it holds ({reason}); expected "
            "config, spec and normalisation. Export it with the version of sarmae that wrote it."
        ) from error
    _check_spec(spec, normalise, weights, f"{run}: the checkpoint of step {saved.step}")
    with torch.random.fork_rng(devices=[]):
        model = SarMae(spec, normalise)
    model.load_state_dict(weights)
    return RunModel(model=model, config=config, averaged=averaged, checkpoint=saved)


def _weights(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], bool]:
    """The model's tensors by its own names, averages in place of weights where there are any; whether there are."""
    present = {n.removeprefix(MODEL_PREFIX): tensor for n, tensor in tensors.items() if n.startswith(MODEL_PREFIX)}
    prefix = AVERAGE_PREFIX + MODEL_PREFIX
    averages = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    return {**present, **averages}, bool(averages)


def _check_spec(spec: ModelSpec, normalise: Normalise, weights: Mapping[str, Tensor], where: str) -> None:
    """Raises CheckpointError where the tensors are not those of the spec, before memory is taken for a model."""
    faults = _other_shapes(spec, weights)
    if not faults:  # else even a model without memory may be too large to make
        with torch.device("meta"):
            faults = misfits(weights, SarMae(spec, normalise).state_dict())
    if faults:
        raise CheckpointError(
            f"{where}: {len(faults)} tensors do not fit the model it says it holds, the first of them {faults[0]}. It "
            "was changed after it was written: export another checkpoint, or train on from an older one."
        )


def _other_shapes(spec: ModelSpec, weights: Mapping[str, Tensor]) -> list[str]:
    """How the tensors differ from a spec in what decides the number and size of all others."""
    shapes = {
        "encoder.patch_embed.proj.weight": (spec.width, len(spec.polarisations), spec.patch_px, spec.patch_px),
        "encoder.pos_embed": (1, 1 + spec.patches, spec.width),
        "decoder.pos_embed": (1, 1 + spec.patches, spec.decoder_width),
    }
    faults = [
        f"{field.name} is {getattr(spec, field.name)!r}"
        for field in fields(spec)
        if type(getattr(spec, field.name)) is not type(field.default)
    ]
    faults += [
        f"{name} is {tuple(weights[name].shape)}, the model's {shape}" if name in weights else f"{name} is missing"
        for name, shape in shapes.items()
        if name not in weights or weights[name].shape != shape
    ]
    for part, depth in (("encoder.", spec.depth), ("decoder.", spec.decoder_depth)):
        found = count_blocks({name.removeprefix(part): one for name, one in weights.items() if name.startswith(part)})
        if found != depth:
            faults.append(f"{part}blocks are {found}, the model's {depth}")
    return faults


def _digests(saved: Checkpoint) -> list[str]:
    """Manifest digests of the stores, from the stream's position."""
    stream: Mapping[str, Any] = saved.facts.get("stream", {})
    return [str(digest) for digest in stream.get("stores", ())]


def _public_config(config: PretrainConfig) -> PretrainConfig:
    """The configuration as others may read it: no folders of this machine, no credentials in addresses."""
    data = config.data.model_copy(update={"stores": tuple(map(_public, config.data.stores)), "cache": None})
    files = {
        key: value and _public(value) for key, value in config.sarc.model_dump(include={"weights", "cache"}).items()
    }
    model = config.model.model_copy(update={"weights": config.model.weights and _public(config.model.weights)})
    return config.model_copy(update={"data": data, "model": model, "sarc": config.sarc.model_copy(update=files)})


def _public(location: str) -> str:
    """A URL without user, password and query; of a path its last part."""
    parts = urlsplit(location)
    if "://" not in location or parts.scheme == "file":
        return Path(parts.path if "://" in location else location).name
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _last_metrics(path: Path, step: int) -> dict[str, float]:
    """The newest loss and probe scores up to a step; lines that a kill cut short are passed over."""
    newest: dict[str, float] = {}
    for line in read_metrics(path):
        if line["step"] <= step:
            shown = {name: value for name, value in line.items() if name in _SHOWN_METRICS or name.startswith(_PROBES)}
            newest.update({name: value for name, value in shown.items() if value is not None})
    return newest
