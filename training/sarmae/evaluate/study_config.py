"""A study in TOML: which encoders (arms), which tasks, which seeds. `training/configs/studies` holds some.

    sarmae evaluate --config ablation --out studies/ablation

An arm either names an encoder that exists (`encoder = "run:runs/base"`), or changes keys of the study's pretraining
configuration (`set = ["sare.speckle=gamma"]`) and is pretrained once for every seed.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from sar1m.store import settings
from sar1m.store.errors import ConfigError
from sar1m.store.settings import Section
from sarmae.config import LARGEST_SEED, PretrainConfig

Protocol = Literal["knn", "linear", "attentive", "fine-tune"]
Scale = Literal["dB", "linear"]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Seed = Annotated[int, Field(ge=0, le=LARGEST_SEED)]
_PLAIN: Final = r"^[^\n]{1,200}$"
ENCODERS: Final = r"^(run:.+|file:.+|timm:.+|efficientnet_lite0|pixels|statistics|random)$"

TASK_OF_DATASET: Final = {
    "folders": "classification",
    "store": "classification",
    "masks": "segmentation",
    "coco": "detection",
}


class DatasetConfig(Section):
    """Where labelled images lie and how they are read.

    kind: `folders` (a folder a class: MSTAR, FUSAR-Ship, SAR-ACD), `masks` (images and class masks: Sen1Floods11,
    AIR-PolSAR-Seg, S1RTC with LULC), `coco` (SSDD, HRSID, SARDet-100k), `store` (a store or release of ours with its
    land cover).
    image_px: side of the images as the encoder sees them: a centre crop (chips), tiles (scenes with masks), or the
    longer side after scaling (coco).
    units: of `masks`, what the values of the images are: `dB`, or `linear` power. Without it the files say so, or their
    values are checked.
    classes: renames or merges classes: label number or folder name to class name. Empty: all as they are. A mask's -1
    and 255 count as no label unless they are named here.
    val_share, test_share: of the groups of near-copies, where the dataset has no split of its own.
    trust_split: keep the dataset's own split even where it separates near-copies (they are counted).
    hold_out: `attribute=value,value`: these samples are only tested, all others are for training (cross-region).
    split_seed: draws splits, and nothing else.
    most: use at most so many images, drawn by split_seed.
    """

    kind: Literal["folders", "masks", "coco", "store"]
    path: str
    image_px: int = Field(default=128, ge=32, le=2048, multiple_of=16)
    units: Scale | None = None
    classes: dict[str, str] = Field(default_factory=dict)
    val_share: float = Field(default=0.15, ge=0, lt=1)
    test_share: float = Field(default=0.3, gt=0, lt=1)
    trust_split: bool = False
    hold_out: str | None = Field(default=None, pattern=r"^[a-z_]+=.+$")
    split_seed: Seed = 0
    most: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _units_of_scenes(self) -> Self:
        if self.units is not None and self.kind != "masks":
            raise ValueError(
                f"units = {self.units!r} goes with kind = 'masks' alone, found {self.kind!r}; leave it out"
            )
        return self


class FitConfig(Section):
    """How heads, and for fine-tuning encoders, are trained.

    epochs, lr, batch: of AdamW with a cosine schedule. The last epoch counts, never the best one on test.
    layer_decay: learning rate of a layer divided by that of the next.
    neighbours: of k-NN.
    strengths: of the linear probe's penalty; the val split chooses among them.
    freeze: of segmentation and detection: only the head is trained.
    """

    epochs: int = Field(default=30, ge=1)
    batch: int = Field(default=32, ge=1)
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.05, ge=0)
    layer_decay: float = Field(default=0.75, gt=0, le=1)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    neighbours: int = Field(default=10, ge=1)
    strengths: tuple[Positive, ...] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
    freeze: bool = False
    flips: bool = True


class TaskConfig(Section):
    """One task. kind must suit the dataset.

    protocols: of classification. Segmentation always has its pyramid, and also `linear` where it is listed here.
    shots: numbers of labels a class; each seed draws other labels.
    label_shares: shares of the training labels.
    looks: speckle is added to the test images until they have so many equivalent looks (classification, dB only).
    breakdown: attributes; scores are also given for parts of the test samples, by value or by thirds of the attribute.
    bootstrap: draws for the intervals.
    arms: names of the arms that are evaluated, for a costly task; empty: all.
    """

    name: str = Field(pattern=_PLAIN)
    kind: Literal["classification", "segmentation", "detection"]
    dataset: DatasetConfig
    protocols: tuple[Protocol, ...] = ("knn", "linear")
    shots: tuple[Annotated[int, Field(ge=1)], ...] = ()
    label_shares: tuple[Share, ...] = ()
    looks: tuple[Positive, ...] = ()
    breakdown: tuple[str, ...] = ()
    bootstrap: int = Field(default=1000, ge=0)
    arms: tuple[str, ...] = ()
    fit: FitConfig = FitConfig()

    @model_validator(mode="after")
    def _suits_its_kind(self) -> Self:
        if TASK_OF_DATASET[self.dataset.kind] != self.kind:
            kinds = " or ".join(repr(kind) for kind, task in TASK_OF_DATASET.items() if task == self.kind)
            raise ValueError(
                f"task {self.name!r}: {self.kind} cannot use a dataset of kind {self.dataset.kind!r}; {kinds} "
                "expected. Change `kind` of the task or of its dataset."
            )
        unfit = [name for name in ("shots", "looks", "breakdown") if getattr(self, name)]
        if unfit and self.kind != "classification":
            raise ValueError(
                f"task {self.name!r}: {', '.join(unfit)}: not defined for {self.kind}; protocols, label_shares, "
                "bootstrap and fit expected. Leave them out, or use them in a classification task."
            )
        return self


class ArmConfig(Section):
    """One encoder.

    encoder: `run:FOLDER` (a pretraining run), `file:PATH` (exported or published weights), `timm:NAME` (weights: a
    file, else timm's hub), `efficientnet_lite0`, `pixels`, `statistics`, or `random` (the study's architecture with
    starting weights, drawn by seed). Without it, the study pretrains the arm.
    set: changes to keys of [pretrain].
    control: name of the arm to which it is compared in the table; by default the first arm.
    """

    name: str = Field(pattern=_PLAIN)
    encoder: str | None = Field(default=None, pattern=ENCODERS)
    weights: str | None = None
    set: tuple[str, ...] = ()
    control: str | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if self.encoder is not None and self.encoder != "random" and self.set:
            raise ValueError(f"arm {self.name!r}: encoder and set exclude each other: {self.encoder} is not pretrained")
        return self


class AnalysesConfig(Section):
    """quick_checks: of pretrained arms: injected against measured speckle, errors on masked and unmasked patches,
    cosine of pairs against shuffled pairs.
    overhead: latency, throughput, memory and weights of every arm's encoder and of a plain timm ViT.
    """

    quick_checks: bool = False
    overhead: bool = False


class StudyConfig(Section):
    """A whole study.

    pretrain: the configuration that pretrained arms share.
    processes: arms at a time, each with one thread, so that the same study gives the same table bit for bit on a CPU.
    cache_teachers: features of the arms' teachers are written once, not computed in every step; then set
    pretrain.data.flips = false (see sarmae.config.SarcConfig).
    """

    name: str = Field(default="study", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    seeds: tuple[Seed, ...] = Field(default=(0, 1, 2), min_length=1)
    device: str = "cpu"
    cache_teachers: bool = True
    processes: int = Field(default=1, ge=1, le=256)
    pretrain: PretrainConfig = PretrainConfig()
    arms: tuple[ArmConfig, ...] = Field(min_length=1)
    tasks: tuple[TaskConfig, ...] = ()
    analyses: AnalysesConfig = AnalysesConfig()

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        for what, names in (("arms", [arm.name for arm in self.arms]), ("tasks", [task.name for task in self.tasks])):
            slugs = [slug(name) for name in names]
            double = sorted({name for name, short in zip(names, slugs, strict=True) if slugs.count(short) > 1})
            if double:
                raise ValueError(f"{what}: {', '.join(double)} give the same folder name; rename one")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)}: each seed may be listed only once")
        return self

    @model_validator(mode="after")
    def _arms_known(self) -> Self:
        known = {arm.name for arm in self.arms}
        named = [arm.control for arm in self.arms if arm.control is not None]
        named += [name for task in self.tasks for name in task.arms]
        wrong = [name for name in named if name not in known]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is named as an arm or a control; arms are {', '.join(sorted(known))}")
        return self

    def tasks_of(self, arm: ArmConfig) -> tuple[TaskConfig, ...]:
        """The tasks on which an arm is evaluated."""
        return tuple(task for task in self.tasks if not task.arms or arm.name in task.arms)

    def pretraining_of(self, arm: ArmConfig, seed: int) -> PretrainConfig:
        """The pretraining configuration of an arm at a seed. Raises ConfigError that names the arm."""
        try:
            config = settings.override(self.pretrain, arm.set)
        except ConfigError as error:
            raise ConfigError(f"arm {arm.name!r}: {error}") from error
        return config.model_copy(
            update={"train": config.train.model_copy(update={"seed": seed, "device": self.device})}
        )


def slug(name: str) -> str:
    """A name as the name of a folder: small letters, digits and hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "arm"
