"""From a configuration to a run that is ready to take steps: stream, model, teacher, optimiser, step reached."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.errors import ConfigError
from sarmae.config import ModelConfig, PretrainConfig
from sarmae.model.attention import choose_attention
from sarmae.model.flops import step_flops
from sarmae.model.sarmae import SarMae, build_model
from sarmae.model.spec import ModelSpec, encoder_size
from sarmae.precision import computes_in_bf16
from sarmae.sarc import Anchors, open_anchors
from sarmae.sare.extra_speckle import DECIBELS
from sarmae.stream.loader import ShardLoader
from sarmae.train import checkpoint
from sarmae.train.ema import MovingAverage
from sarmae.train.objective import Objective, Projector
from sarmae.train.parallel import Ranks, spread
from sarmae.train.parity import check_parity
from sarmae.train.probe import ProbeSet, open_probe
from sarmae.train.schedule import Schedule, scaled_rate
from sarmae.train.state import gather, restore
from sarmae.train.step import Stepper, StepSettings, Views
from sarmae.train.views import MakeViews
from sarmae.weights import load_published

CACHE_FOLDER = "cache"  # in the folder of the run


@dataclass(kw_only=True)
class Run:
    """A run. step: the number of steps taken so far; everything else is fixed once the run is set up."""

    config: PretrainConfig
    folder: Path
    here: Ranks
    loader: ShardLoader
    make_views: MakeViews
    model: SarMae
    objective: Objective
    stepper: Stepper
    average: MovingAverage | None
    autocast: bool
    probe: ProbeSet | None
    begun_from: str
    step: int = 0

    @property
    def flops_per_sample(self) -> int:
        """Operations of one training step a sample, teacher and projector left out."""
        return step_flops(self.model.spec).step

    def save(self) -> None:
        """Writes a checkpoint; every rank must call it."""
        weights, moments = gather(self.stepper.objective, self.stepper.optimiser, self.average)
        if self.here.leads:
            facts = {
                "stream": self.loader.state_dict(),
                "config": self.config.model_dump(mode="json"),
                "spec": asdict(self.model.spec),
            }
            whole = checkpoint.Checkpoint(step=self.step, model=weights, optimiser=moments, facts=facts)
            checkpoint.save(self.folder, whole, keep=self.config.train.keep)
        self.here.wait()

    def compare_compiled(self, views: Views) -> float:
        """The relative difference of the compiled loss from the eager one. Raises ParityError where it is too large."""
        return check_parity(self.stepper.objective, self.objective, views, autocast=self.autocast, step=self.step)

    def resume(self) -> None:
        """Goes on from the latest whole checkpoint of the folder, if there is one.

        Raises CheckpointError where none is whole or the model is another, ConfigError where the stream is."""
        saved = checkpoint.load_latest(self.folder)
        if saved is None:
            return
        _check_same_run(saved.facts["config"], self.config, self.folder)
        restore(self.stepper.objective, self.stepper.optimiser, self.average, saved.model, saved.optimiser)
        self.loader.load_state_dict(saved.facts["stream"])
        self.step = saved.step


def set_up(config: PretrainConfig, folder: Path, here: Ranks) -> Run:
    """A run at its start, or at its folder's latest checkpoint. Raises ConfigError, StoreError or CheckpointError."""
    anchors = open_anchors(config, here.device)
    cache = config.data.disk_cache(folder / CACHE_FOLDER)
    loader = _open_loader(config, cache, optical=anchors is not None and anchors.needs_optical)
    if anchors is not None:
        anchors.prepare(loader.optical, loader.order.spec.stores)
    spec = model_spec(config.model, config.data.crop_px, loader.sar.labels)
    _check_units(spec, loader.sar.units)
    model = build_model(spec, loader.statistics, seed=config.train.seed)
    begun_from = _begin_from(model, config.model)
    objective = Objective(model, _projector(config, spec, anchors)).to(here.device)
    autocast = computes_in_bf16(config.train, here.device)
    choose_attention(model, here.device.type, bf16=autocast)
    stepper = _stepper(config, objective, here, autocast=autocast)
    run = Run(
        config=config,
        folder=folder,
        here=here,
        loader=loader,
        make_views=MakeViews(config, loader.sar, loader.optical, anchors, patches=spec.patches, device=here.device),
        model=model,
        objective=objective,
        stepper=stepper,
        average=None if config.train.ema is None else MovingAverage(objective, config.train.ema),  # sharded, if it is
        autocast=autocast,
        probe=open_probe(config.data.stores, config.data.crop, cache) if config.train.probe_every else None,
        begun_from=begun_from,
    )
    run.resume()
    return run


def _check_units(spec: ModelSpec, units: str) -> None:
    """Raises ConfigError where a target of mean powers meets values that have no power."""
    powers = [name for name in spec.target_parts if name in ("lowpass", "log_ratio")]
    if powers and units != DECIBELS:
        raise ConfigError(
            f"model.target: {' and '.join(powers)} average power, and the SAR values are in units {units!r}, not in "
            f"{DECIBELS}. Train on a store in decibels, or set model.target to pixel or hog."
        )


def model_spec(model: ModelConfig, image_px: int, polarisations: tuple[str, ...]) -> ModelSpec:
    """The model for square images of these channels. Raises ConfigError where the numbers do not fit together."""
    width, depth, heads = encoder_size(model.size)
    if model.width is not None and model.depth is not None and model.heads is not None:
        width, depth, heads = model.width, model.depth, model.heads
    shape = {field.name for field in fields(ModelSpec)} & ModelConfig.model_fields.keys() - {"width", "depth", "heads"}
    return ModelSpec(
        image_px=image_px,
        polarisations=polarisations,
        width=width,
        depth=depth,
        heads=heads,
        **model.model_dump(include=shape),
    )


def _begin_from(model: SarMae, config: ModelConfig) -> str:
    """Puts published weights into a model where the configuration names some. Returns what was done, in words."""
    if config.weights is None:
        return "random weights"
    fitted = load_published(model, Path(config.weights), with_decoder=config.with_decoder)
    return "; ".join([f"weights of {Path(config.weights).name}", *fitted.changes])


def _open_loader(config: PretrainConfig, cache: CacheConfig, *, optical: bool) -> ShardLoader:
    if not config.data.stores:
        raise ConfigError("data.stores: no store to train on. Give --data FOLDER (make pretrain DATA=build/sample).")
    settings = config.loader_settings(optical=optical, pin_memory=torch.cuda.is_available())
    data = config.data
    return ShardLoader(data.stores, settings, cache=cache, where=data.where, bbox=data.bbox)


def _projector(config: PretrainConfig, spec: ModelSpec, anchors: Anchors | None) -> Projector | None:
    if anchors is None:
        return None
    return Projector(spec.width, config.sarc.hidden, anchors.width, seed=config.train.seed)


def _stepper(config: PretrainConfig, objective: Objective, here: Ranks, *, autocast: bool) -> Stepper:
    train = config.train
    if train.global_batch % here.size:
        raise ConfigError(
            f"train.global_batch: {train.global_batch} cannot be shared by {here.size} processes equally."
        )
    blocks: list[nn.Module] = [*objective.model.encoder.blocks, *objective.model.decoder.blocks]
    spread_out = spread(objective, blocks, here, train.parallel, bf16=autocast)
    if train.compile:
        spread_out.compile()
    schedule = Schedule(
        peak=(peak := scaled_rate(train.lr, train.global_batch)),
        floor=peak * train.min_lr_share,
        warmup_steps=train.warmup_steps,
        steps=train.steps,
    )
    settings = StepSettings(
        passes=1 if train.micro_batch is None else -(-train.global_batch // here.size // train.micro_batch),
        weight=config.sarc.weight,
        clip=train.clip,
        autocast=autocast,
    )
    return Stepper(spread_out, _optimiser(spread_out, config), schedule, settings, here)


def _optimiser(objective: nn.Module, config: PretrainConfig) -> torch.optim.Optimizer:
    """Fused AdamW; no decay of biases, norms and tokens (He et al. 2021, appendix A: all that has one axis)."""
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [weight for weight in trained if _is_matrix(weight)]},
        {"params": [weight for weight in trained if not _is_matrix(weight)], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.train.lr,
        betas=config.train.betas,
        weight_decay=config.train.weight_decay,
        fused=True,
    )


def _is_matrix(weight: torch.Tensor) -> bool:
    return sum(size > 1 for size in weight.shape) > 1


_MAY_CHANGE = {
    "data": {"threads", "prefetch", "cache", "cache_gb", "max_faults"},
    "train": {
        *("micro_batch", "device", "parallel", "compile", "log_every", "checkpoint_every", "keep"),
        *("probe_every", "panel_every", "max_bad_steps"),
    },
    "sarc": {"cache", "weights"},
    "model": {"weights"},  # a file may move; what it held is in the checkpoint by now
}


def _check_same_run(saved: dict[str, Any], config: PretrainConfig, folder: Path) -> None:
    """Raises ConfigError where a key that shapes the result is not what it was when the run began."""
    present = config.model_dump(mode="json")
    try:  # keys added since then have their defaults
        saved = PretrainConfig.model_validate(saved).model_dump(mode="json")
    except ValidationError as error:
        raise ConfigError(
            f"{folder} holds a run of another version of sarmae, whose configuration this one does not know: {error}. "
            "Finish it with that version, or give another OUT."
        ) from error
    changed = [
        f"{section}.{key}: {saved[section].get(key)!r} in the run, {value!r} now"
        for section in ("data", "model", "sare", "sarc", "train")
        for key, value in present[section].items()
        if key not in _MAY_CHANGE.get(section, ()) and key != "stores" and saved[section].get(key) != value
    ]
    if changed:
        raise ConfigError(
            f"{folder} holds a run of another configuration:\n  " + "\n  ".join(changed) + "\nGive its own "
            f"(--config {folder / 'config.toml'}), or another OUT for a new run."
        )
