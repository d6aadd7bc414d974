"""Quick checks of a pretrained run, after the list of the SARMAE paper: is the injected speckle like speckle, are
masked patches predicted, do features match their optical partner. (The fourth, one representation for many tasks, is
the table of the study.)

The val split is used where every store has one, else train. Samples are seen as in the run: with its crop, flips,
speckle, mask and teacher, drawn anew by seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import torch

from sar1m.store.cache.place import open_cached
from sar1m.store.errors import ConfigError
from sarmae.config import PretrainConfig
from sarmae.errors import CheckpointError
from sarmae.evaluate.quick.features import PAIRS, check_pairs, check_reconstruction
from sarmae.evaluate.quick.injected_speckle import check_speckle
from sarmae.evaluate.quick.quick_check import QuickCheck
from sarmae.runs import RunModel, load_run_model
from sarmae.sarc import Anchors, open_anchors
from sarmae.sarc.teachers import NO_TEACHER, weights_at_hand
from sarmae.stream.layout import splits_of
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.opening import PUBLISHED
from sarmae.stream.transforms import Dequantise
from sarmae.train.objective import Projector
from sarmae.train.state import AVERAGE_PREFIX
from sarmae.train.views import MakeViews

__all__ = ["QuickCheck", "quick_checks"]

BATCH: Final = 32
BATCHES: Final = 4
SPECKLED: Final = 8  # samples: a million pixels of two polarisations at 256 px
PROJECTOR_PREFIX: Final = "projector."


def quick_checks(run: Path, stores: Sequence[str], seed: int, device: torch.device) -> tuple[QuickCheck, ...]:
    """Checks of injected speckle, reconstruction and optical pairs of a run, on samples of stores (folders or URLs).

    A check that does not apply to the run (no speckle, no teacher, no pairs, or a teacher whose weights are missing)
    has no values, and its verdict states why. The same seed gives the same values on a CPU. Raises CheckpointError
    where the run has no complete checkpoint; StoreError or ConfigError where stores cannot be read or do not fit the
    model.
    """
    trained = load_run_model(run)
    config = trained.config.model_copy(
        update={"train": trained.config.train.model_copy(update={"seed": seed, "precision": "fp32"})}
    )
    anchors, why_none = _anchors(config, device)
    cached = anchors is not None and not anchors.needs_optical
    split = "train" if cached else _split(stores)
    loader = _loader(config, stores, split=split, optical=anchors is not None and not cached)
    if anchors is not None:
        anchors.prepare(loader.optical, loader.order.spec.stores)
    model = trained.model.to(device).eval()
    make_views = MakeViews(config, loader.sar, loader.optical, anchors, patches=model.spec.patches, device=device)
    batches = list(islice(loader, BATCHES))
    views = [make_views(batch) for batch in batches]
    projector = _projector(trained, device)
    pairs = QuickCheck(name=PAIRS, compared="nothing", values=(), verdict=f"Not checked: {why_none}")
    if projector is not None and anchors is not None:
        pairs = check_pairs(model, projector, views)
    few = batches[0].select(torch.arange(min(SPECKLED, len(batches[0]))))
    dequantised = Dequantise(loader.sar, loader.optical)(few.to(device))
    speckle = check_speckle(config.sare, dequantised, loader.sar.units, seed)
    checks = (speckle, check_reconstruction(model, views), pairs)
    return tuple(replace(check, compared=f"{check.compared} ({split} split)") for check in checks)


def _anchors(config: PretrainConfig, device: torch.device) -> tuple[Anchors | None, str]:
    """The teacher of the run, computing features itself where possible, so that any split can be used; or the reason
    why there is none.
    """
    if config.sarc.teacher == NO_TEACHER:
        return None, "the run has no teacher (sarc.teacher = none)."
    live = config.model_copy(update={"sarc": config.sarc.model_copy(update={"cache": None})})
    try:
        return open_anchors(live if weights_at_hand(config.sarc) else config, device), ""
    except CheckpointError as error:
        return None, f"the teacher is not at hand: {error}"


def _split(stores: Sequence[str]) -> str:
    """`val` where every store has one, else `train`."""
    ours = [place for place in stores if not place.startswith(PUBLISHED)]
    with_val = len(ours) == len(stores) and all("val" in splits_of(open_cached(place, None)) for place in ours)
    return "val" if with_val else "train"


def _loader(config: PretrainConfig, stores: Sequence[str], *, split: str, optical: bool) -> ShardLoader:
    if not stores:
        raise ConfigError("quick checks: no store to look at. Name the stores of the run's data, or others like them.")
    data = config.data
    settings = LoaderSettings(
        global_batch=BATCH,
        seed=config.train.seed,
        threads=0,
        optical=optical,
        order="full",
        tail="keep",
        published_px=data.published_px,
    )
    return ShardLoader(stores, settings, split=split)


def _projector(trained: RunModel, device: torch.device) -> Projector | None:
    """The projector of the latest checkpoint, its moving average where there is one; None for a run without a
    teacher.
    """
    weights: dict[str, torch.Tensor] = {}
    for prefix in (PROJECTOR_PREFIX, AVERAGE_PREFIX + PROJECTOR_PREFIX):
        named = trained.checkpoint.model.items()
        weights |= {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}
    if not weights:
        return None
    hidden, width = weights["first.weight"].shape
    projector = Projector(width, hidden, len(weights["second.weight"]), seed=0)
    projector.load_state_dict(weights)
    return projector.to(device)
