"""The arms of the step benchmark and what they run on: one set of weights, one batch, one teacher for all of them.

Ours is what `sarmae.train.setup` builds: Objective, Stepper, fused AdamW, the attention that `choose_attention` picks.
A live teacher runs inside the timed step; cached features are cut out and decoded inside it, as `CachedAnchors` does,
but for reading them (20 microseconds a sample).
"""

# B batch, P polarisations, N patches, g patches along a side, T teacher width, D components of a cached feature

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from bench_train_parts.plain import PlainStep, plain_of
from torch import Tensor, nn

from sarmae.config import PretrainConfig
from sarmae.model.attention import choose_attention
from sarmae.model.sarmae import SarMae, build_model
from sarmae.model.spec import ModelSpec, encoder_size
from sarmae.sarc.anchors import slice_grid
from sarmae.sarc.compression import Basis, fit_basis
from sarmae.sarc.frozen_encoders import FrozenTeacher, TokenTrunk
from sarmae.sarc.teachers import IMAGENET_MEAN, IMAGENET_STD, open_teacher
from sarmae.stream.band_statistics import SarStatistics
from sarmae.stream.transforms import Geometry
from sarmae.timm_door import timm
from sarmae.train.objective import Objective, Projector, shares_of
from sarmae.train.parallel import Ranks
from sarmae.train.schedule import Schedule
from sarmae.train.setup import _optimiser
from sarmae.train.step import Stepper, StepSettings, Views, whole

POLARISATIONS = ("VV", "VH")
STATISTICS = SarStatistics(
    polarisations=POLARISATIONS, mean_db=(-12.0, -18.5), std_db=(4.5, 5.0), basis="train", samples=1
)
BASIS_SAMPLES = 8  # whose features the cache's components are fitted to
HIDDEN, WEIGHT = 1024, 0.1
EQUAL = 1e-5  # relative, of losses of the plain step and ours


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to take a step. teacher: "", "efficientnet_lite0", "vit_base" (live) or "cached". share: decode_share."""

    label: str
    plain: bool = False
    bf16: bool = False
    share: float = 1.0
    teacher: str = ""
    compiled: bool = False


PLAIN = Arm(label="plain, no teacher", plain=True)
PLAIN_FULL = Arm(label="plain, live ViT-B teacher", plain=True, teacher="vit_base")
FULL = Arm(label="bf16, quarter decoded, cached teacher", bf16=True, share=0.25, teacher="cached")
ARMS = (
    PLAIN,
    PLAIN_FULL,
    Arm(label="plain with bf16 autocast, no teacher", plain=True, bf16=True),
    Arm(label="plain with bf16 autocast, live ViT-B teacher", plain=True, bf16=True, teacher="vit_base"),
    Arm(label="fp32, no teacher"),
    Arm(label="fp32, live ViT-B teacher", teacher="vit_base"),
    Arm(label="bf16, no teacher", bf16=True),
    Arm(label="bf16, cached teacher", bf16=True, teacher="cached"),
    Arm(label="bf16, quarter decoded, no teacher", bf16=True, share=0.25),
    Arm(label="bf16, quarter decoded, live EfficientNet-lite0", bf16=True, share=0.25, teacher="efficientnet_lite0"),
    Arm(label="bf16, quarter decoded, live ViT-B teacher", bf16=True, share=0.25, teacher="vit_base"),
    FULL,
)


class Bed:
    """Models, optimisers, teachers and a batch of one size, each made when an arm first asks for it.

    The arms of ours share weights and AdamW's moments, so do the plain ones: two models are held, whatever the arms.
    """

    def __init__(self, spec: ModelSpec, batch: int, device: torch.device, *, rate: float = 1e-6) -> None:
        self.spec, self.batch, self.device, self._rate = spec, batch, device, rate
        self._steppers: dict[Arm, Stepper] = {}
        self._plain_steps: dict[str, PlainStep] = {}
        self._teachers: dict[str, FrozenTeacher] = {}
        self._moments: defaultdict[Any, Any] = defaultdict(dict)
        self._plain_moments: defaultdict[Any, Any] = defaultdict(dict)

    def step(self, arm: Arm) -> Tensor:
        """One optimisation step, from pixels and noise to new weights: MAE's loss before it. CUDA is not waited for."""
        anchors = self.anchors(arm.teacher)
        if arm.plain:
            return self.plain_step(arm.teacher)(self.images, self.noise, anchors, bf16=arm.bf16)
        stepper = self.stepper(arm)
        self.set_model(arm)
        return stepper(0, self.views(anchors), None).mae

    def loss(self, arm: Arm) -> float:
        """MAE and SARC together, of the present weights, without a step."""
        anchors = self.anchors(arm.teacher)
        with torch.no_grad(), torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=arm.bf16):
            if arm.plain:
                mae, sarc = self.plain_step(arm.teacher).losses(self.images, self.noise, anchors)
            else:
                self.set_model(arm)
                views, objective = self.views(anchors), whole(self.stepper(arm).objective)
                counts = objective.counts(views.input_db, views.target_db, views.noise, views.paired)
                mae, sarc, _ = objective(*views, shares_of(counts, ranks=1))
        return float(mae + WEIGHT * sarc)

    def set_model(self, arm: Arm) -> None:
        """The one model of ours, as this arm runs it."""
        self.model.spec = replace(self.spec, decode_share=arm.share)
        choose_attention(self.model, self.device.type, bf16=arm.bf16)

    def views(self, anchors: Tensor | None) -> Views:
        """The batch as a stepper wants it; every sample is paired."""
        paired = torch.ones(self.batch, dtype=torch.bool, device=self.device)
        return Views(*self.images, self.noise, anchors, paired)

    def anchors(self, teacher: str) -> Tensor | None:
        """(B, N, T): none, out of the cache's int8, or by the live teacher."""
        if not teacher:
            return None
        if teacher == "cached":
            codes, basis, geometry = self.cached
            return basis.decode(slice_grid(codes, geometry))
        return self.teacher(teacher)(self.optical)

    @cached_property
    def model(self) -> SarMae:
        """Ours."""
        return build_model(self.spec, STATISTICS, seed=1).to(self.device)

    @cached_property
    def images(self) -> tuple[Tensor, Tensor]:
        """Input and target in dB, every pixel measured."""
        side = self.spec.image_px
        clean = -14.0 + 5.0 * self._normal(self.batch, len(POLARISATIONS), side, side)
        return clean + 2.0 * self._normal(*clean.shape), clean

    @cached_property
    def noise(self) -> Tensor:
        """(B, N) for the masks."""
        return self._normal(self.batch, self.spec.patches)

    @cached_property
    def optical(self) -> Tensor:
        """(B, 3, S, S) brightness."""
        return self._normal(self.batch, 3, self.spec.image_px, self.spec.image_px).sigmoid()

    @cached_property
    def cached(self) -> tuple[Tensor, Basis, Geometry]:
        """What the ViT-B teacher says of this batch, as a cache holds it: (B, g, g, D) int8, and what decodes it."""
        features = _made_teacher("vit_base").to(self.device)(self.optical).float()
        basis = fit_basis(features[:BASIS_SAMPLES].flatten(0, 1)).basis
        corner = torch.zeros(self.batch, dtype=torch.int64, device=self.device)
        geometry = Geometry(
            rows_px=corner,
            cols_px=corner,
            flipped_rows=corner.bool(),
            flipped_cols=corner.bool(),
            size_px=self.spec.image_px,
        )
        return basis.encode(features).unflatten(1, (self.spec.grid, self.spec.grid)), basis, geometry

    def stepper(self, arm: Arm) -> Stepper:
        """Of ours, as train/setup.py makes it; the optimiser's moments of the model are those of all other arms."""
        if arm not in self._steppers:
            objective: nn.Module = Objective(self.model, self._projector(arm.teacher))
            config = PretrainConfig.model_validate({"train": {"global_batch": self.batch, "lr": self._rate}})
            optimiser = _optimiser(objective, config)
            optimiser.state = self._moments
            if arm.compiled:
                objective.compile()
            how = StepSettings(passes=1, weight=WEIGHT, clip=None, autocast=arm.bf16)
            here = Ranks(rank=0, size=1, device=self.device)
            schedule = Schedule(peak=self._rate, floor=self._rate, warmup_steps=0, steps=1)
            self._steppers[arm] = Stepper(objective, optimiser, schedule, how, here)
        return self._steppers[arm]

    def plain_step(self, teacher: str) -> PlainStep:
        """The plain one, with the weights that ours had when this was first asked for."""
        if teacher not in self._plain_steps:
            made = PlainStep(self._plain, self._projector(teacher), weight=WEIGHT, lr=self._rate)
            made.optimiser.state = self._plain_moments
            self._plain_steps[teacher] = made
        return self._plain_steps[teacher]

    @cached_property
    def _plain(self) -> nn.Module:
        return plain_of(self.spec, self.model).to(self.device)

    def _projector(self, teacher: str) -> Projector | None:
        """Always the same weights for one teacher."""
        if not teacher:
            return None
        width = self.cached[1].width if teacher == "cached" else self.teacher(teacher).width
        return Projector(self.spec.width, HIDDEN, width, seed=1).to(self.device)

    def teacher(self, name: str) -> FrozenTeacher:
        """A live one."""
        if name not in self._teachers:
            self._teachers[name] = _made_teacher(name).to(self.device)
        return self._teachers[name]

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(self.device)


def _made_teacher(name: str) -> FrozenTeacher:
    """EfficientNet-lite0 with its real weights; DINOv3's ViT-B at random: its weights cost nothing less or more."""
    if name != "vit_base":
        return open_teacher(PretrainConfig.model_validate({"sarc": {"teacher": name}}).sarc)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        transformer = timm.create_model("vit_base_patch16_dinov3", pretrained=False, dynamic_img_size=True)
    return FrozenTeacher(TokenTrunk(transformer), mean=IMAGENET_MEAN, std=IMAGENET_STD)


def made_spec(size: str, *, image_px: int = 224) -> ModelSpec:
    """A model of an encoder of this size with MAE's decoder; tiny also has a small decoder, to try the script."""
    width, depth, heads = encoder_size(size)
    decoder = {"decoder_width": 128, "decoder_depth": 2, "decoder_heads": 4} if size == "tiny" else {}
    return ModelSpec(image_px=image_px, width=width, depth=depth, heads=heads, polarisations=POLARISATIONS, **decoder)


def check_equal_loss(bed: Bed) -> list[dict[str, Any]]:
    """Losses of the plain step and of ours on the same weights, masks and features, in fp32 with all decoded.

    RuntimeError where they differ by more than EQUAL. Two more rows say, unchecked, how far the cache's rounding and
    the quarter of the patches (an estimate of the same mean) lie from the plain loss.
    """
    cases = (
        ("MAE", Arm(label="", plain=True), Arm(label=""), True),
        ("MAE + 0.1 SARC, live teacher", PLAIN_FULL, Arm(label="", teacher="vit_base"), True),
        ("the same, ours with cached teacher", PLAIN_FULL, Arm(label="", teacher="cached"), False),
        ("the same, ours with cached teacher, quarter decoded", PLAIN_FULL, replace(FULL, bf16=False), False),
    )
    rows = []
    for name, plain_arm, our_arm, equal in cases:
        plain, ours = bed.loss(plain_arm), bed.loss(our_arm)
        apart = abs(plain - ours) / abs(plain)
        if equal and apart > EQUAL:
            raise RuntimeError(f"{name}: the plain loss is {plain}, ours {ours}; {EQUAL} apart allowed")
        rows.append({"loss": name, "plain": f"{plain:.7f}", "ours": f"{ours:.7f}", "apart": f"{apart:.1e}"})
    return rows
