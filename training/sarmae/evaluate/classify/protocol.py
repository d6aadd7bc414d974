"""A classification task from end to end: the classifiers, what they are trained on and what they are tested on."""

# S samples, K classes

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError, SourceError
from sarmae.config import SareConfig
from sarmae.evaluate.backbones.backbone import Backbone
from sarmae.evaluate.classify.attentive import by_attention
from sarmae.evaluate.classify.breakdown import parts
from sarmae.evaluate.classify.classifier_training import ClassifierTraining, Predict
from sarmae.evaluate.classify.finetuned import by_fine_tuning
from sarmae.evaluate.classify.frozen_features import FrozenFeatures
from sarmae.evaluate.classify.knn import by_neighbours
from sarmae.evaluate.classify.logistic import by_logistic
from sarmae.evaluate.classify.looks import FewerLooks
from sarmae.evaluate.classify.measures import Predictions, classification_scores
from sarmae.evaluate.classify.subsets import share, shots
from sarmae.evaluate.labelled_images import LabelledChips
from sarmae.evaluate.scores import Answers, Score
from sarmae.evaluate.study_config import Protocol, TaskConfig

I64 = NDArray[np.int64]

CLASSIFIERS: Final[dict[Protocol, Callable[[ClassifierTraining], Predict]]] = {
    "knn": by_neighbours,
    "linear": by_logistic,
    "attentive": by_attention,
    "fine-tune": by_fine_tuning,
}


class Classification(NamedTuple):
    """What an encoder is worth in a classification task at a seed."""

    scores: list[Score]
    answers: Answers


def classify(
    backbone: Backbone, task: LabelledChips, config: TaskConfig, seed: int, device: torch.device
) -> Classification:
    """Scores of every protocol in config.protocols; none of fine-tuning where the encoder has nothing to learn. Beside
    them, each protocol's answer in the plain setting to every tested sample.

    Of every protocol, in this order:
    - the plain setting "", with the recall of each class;
    - where dataset.hold_out is set, `held-out ATTRIBUTEs` (the same figures) and `seen ATTRIBUTEs`: the same classifier
      on the val split, by which the linear probe's strength was chosen too;
    - the plain classifier on parts of the test split, by config.breakdown;
    - the plain classifier on test images with config.looks (`ENL 4`);
    - classifiers of their own for config.label_shares (`30 % of the labels`) and config.shots (`10 a class`).
    Images are encoded once, and once more for each number of looks.

    Deterministic: the same seed gives the same scores bit for bit on a CPU at one thread. Raises ConfigError for a task
    without two classes to learn or without test samples, and for an attribute that the samples lack; SourceError for
    labels out of range; NonFiniteError where features or losses are not finite.
    """
    check_chips(task, config)
    backbone.eval().to(device)
    session = _Session(backbone, task, config, seed, device)
    protocols = [one for one in config.protocols if one != "fine-tune" or backbone.learns]
    scores = [found for protocol in protocols for found in session.scores(protocol)]
    return Classification(scores, session.answers)


@dataclass(frozen=True, eq=False)
class _Speckled:
    setting: str
    source: FrozenFeatures


class _Session:
    """One encoder on one task at one seed."""

    def __init__(
        self, backbone: Backbone, task: LabelledChips, config: TaskConfig, seed: int, device: torch.device
    ) -> None:
        self._task, self._config, self._seed = task, config, seed
        train, val, self._test = (np.flatnonzero(task.splits == split) for split in ("train", "val", "test"))
        numbers = np.sort(np.concatenate([train, val, self._test]))
        self._training = ClassifierTraining(
            source=FrozenFeatures(backbone, task.images, numbers, device),
            train=train,
            val=val,
            standardise_by=train,
            labels=task.labels,
            groups=task.groups,
            classes=len(task.classes),
            fit=config.fit,
            seed=seed,
        )
        self._speckled = tuple(self._with_looks(looks) for looks in config.looks)
        self._predicted: dict[str, I64] = {}

    @property
    def answers(self) -> Answers:
        """Of the protocols scored so far."""
        truth, groups = self._task.labels[self._test], self._task.groups[self._test]
        return Answers(truth=truth, groups=groups, predicted=self._predicted)

    def scores(self, protocol: Protocol) -> list[Score]:
        """All scores of one protocol."""
        plain = self._training
        predict = CLASSIFIERS[protocol](plain)
        predicted = self._predicted[protocol] = predict(plain.source, self._test)
        scores = self._score(protocol, "", self._test, predicted, each=True)
        if self._config.dataset.hold_out is not None and len(plain.val):
            attribute = self._config.dataset.hold_out.split("=")[0]
            scores += self._score(protocol, f"held-out {attribute}s", self._test, predicted)
            scores += self._score(protocol, f"seen {attribute}s", plain.val, predict(plain.source, plain.val))
        for name in self._config.breakdown:
            for setting, numbers in parts(name, self._task.attributes[name], self._test):
                scores += self._score(protocol, setting, numbers, predicted[np.searchsorted(self._test, numbers)])
        for speckled in self._speckled:
            scores += self._score(protocol, speckled.setting, self._test, predict(speckled.source, self._test))
        for setting, training in self._fewer_labels():
            whole = len(training.train) == len(plain.train) and len(training.val) == len(plain.val)
            predicted_anew = predicted if whole else CLASSIFIERS[protocol](training)(plain.source, self._test)
            scores += self._score(protocol, setting, self._test, predicted_anew)
        return scores

    def _score(self, protocol: str, setting: str, numbers: I64, predicted: I64, *, each: bool = False) -> list[Score]:
        return classification_scores(
            Predictions(
                protocol=protocol,
                setting=setting,
                classes=self._task.classes,
                truth=self._task.labels[numbers],
                predicted=predicted,
                groups=self._task.groups[numbers],
                draws=self._config.bootstrap,
                seed=self._seed,
                each=each,
            )
        )

    def _with_looks(self, looks: float) -> _Speckled:
        """The test images at so many looks. The setting states how many images have no more looks and stay as they
        are.
        """
        taken = _looks_taken(self._task)
        source = self._training.source
        images = FewerLooks(source.images, taken, looks, self._seed)
        still = int((taken[self._test] <= looks).sum())
        some = "all" if still == len(self._test) else f"{still} of {len(self._test)}"
        note = f" ({some} images as they are)" if still else ""
        return _Speckled(f"ENL {looks:g}{note}", FrozenFeatures(source.backbone, images, self._test, source.device))

    def _fewer_labels(self) -> Iterator[tuple[str, ClassifierTraining]]:
        """The settings with fewer labels, and their trainings."""
        plain = self._training
        for part in self._config.label_shares:
            train, val = (
                share(numbers, plain.labels, plain.groups, part=part, seed=self._seed)
                for numbers in (plain.train, plain.val)
            )
            yield f"{100 * part:g} % of the labels", replace(plain, train=train, val=val)
        for each in self._config.shots:
            train, val = (
                shots(numbers, plain.labels, plain.groups, each=each, seed=self._seed)
                for numbers in (plain.train, plain.val)
            )
            yield f"{each} a class{self._short_of(each)}", replace(plain, train=train, val=val)

    def _short_of(self, each: int) -> str:
        """Names the classes with fewer than `each` labels, all of which are used."""
        counts = np.bincount(self._training.labels[self._training.train], minlength=len(self._task.classes))
        short = [
            f"{self._task.classes[place]} {counts[place]}" for place in np.flatnonzero((counts > 0) & (counts < each))
        ]
        return f" (all there are: {', '.join(short)})" if short else ""


def _looks_taken(task: LabelledChips) -> NDArray[np.float64]:
    """(S,) equivalent looks of the images: attribute `enl`, the trainer's default where it is missing or NaN."""
    default = SareConfig().default_enl
    if "enl" not in task.attributes:
        return np.full(len(task.labels), default)
    measured = task.attributes["enl"].astype(np.float64)
    return np.where(np.isfinite(measured) & (measured > 0), measured, default)


def check_chips(task: LabelledChips, config: TaskConfig) -> None:
    """Raises the errors of classify that no encoder decides: labels, splits, attributes and looks."""
    _check_labels(task)
    _check_splits(task)
    missing = [name for name in config.breakdown if name not in task.attributes]
    if missing:
        raise ConfigError(
            f"task {config.name!r}: breakdown by {', '.join(missing)}; the samples of {task.name} have "
            f"{', '.join(task.attributes) or 'no attributes'}. Name one of these."
        )
    if config.looks and task.inputs.units != "dB":
        raise ConfigError(
            f"task {config.name!r}: looks are set for {task.name}, whose images are grey values without a physical "
            "unit; calibrated backscatter in dB expected. Take `looks` out of the task."
        )


def _check_labels(task: LabelledChips) -> None:
    out = np.flatnonzero((task.labels < 0) | (task.labels >= len(task.classes)))
    if len(out):
        raise SourceError(
            f"{task.name}: labels of samples {', '.join(str(one) for one in out[:8])}{' ...' if len(out) > 8 else ''} "
            f"are {sorted(set(task.labels[out].tolist()))[:8]}; 0 to {len(task.classes) - 1} expected."
        )


def _check_splits(task: LabelledChips) -> None:
    """That there are two classes to learn, samples to test, and no tested class without a training sample."""
    trained, tested = (set(task.labels[task.splits == split].tolist()) for split in ("train", "test"))
    count = int((task.splits == "train").sum())
    if len(trained) < 2:
        raise ConfigError(
            f"{task.name}: the train split has {count} samples of {len(trained)} classes; at least two classes with a "
            "sample each expected. Add samples, or lower dataset.test_share and dataset.val_share."
        )
    if not tested:
        raise ConfigError(f"{task.name}: the test split is empty; raise dataset.test_share, or give it samples.")
    unknown = sorted(tested - trained)
    if unknown:
        names = ", ".join(task.classes[label] for label in unknown)
        raise ConfigError(
            f"{task.name}: {names}: tested, but without any train sample; each tested class needs one. Merge or leave "
            "out classes by dataset.classes, or choose another dataset.split_seed or dataset.hold_out."
        )
