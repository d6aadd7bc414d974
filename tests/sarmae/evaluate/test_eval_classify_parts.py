"""Parts of classification against independent implementations: metrics, logistic regression, label draws, looks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, recall_score
from sklearn.neighbors import KNeighborsClassifier

from sarmae import timm_door
from sarmae.evaluate.classify.breakdown import parts
from sarmae.evaluate.classify.classifier_training import ClassifierTraining
from sarmae.evaluate.classify.frozen_features import FrozenFeatures
from sarmae.evaluate.classify.knn import by_neighbours
from sarmae.evaluate.classify.logistic import by_logistic, fit_logistic
from sarmae.evaluate.classify.looks import FewerLooks, added_looks
from sarmae.evaluate.classify.measures import Predictions, classification_scores
from sarmae.evaluate.classify.subsets import share, shots
from sarmae.evaluate.study_config import FitConfig
from support.eval_pieces import HeldImages, TinyBackbone, made_chips
from support.examples import examples

CPU = torch.device("cpu")


@given(seed=st.integers(0, 10**6), classes=st.integers(2, 7), count=st.integers(1, 80))
def test_metrics_are_sklearns_and_torchmetrics(seed: int, classes: int, count: int):
    assert timm_door.timm  # torchmetrics imports torchvision, which cannot be imported before it
    from torchmetrics.functional.classification import multiclass_accuracy  # noqa: PLC0415

    draws = np.random.default_rng(seed)
    truth = draws.integers(0, max(1, classes - 1), count)
    predicted = np.where(draws.random(count) < 0.5, truth, draws.integers(0, classes, count))
    answers = Predictions(
        protocol="knn",
        setting="",
        classes=[str(one) for one in range(classes)],
        truth=truth,
        predicted=predicted,
        groups=np.arange(count),
        draws=0,
        seed=0,
        each=True,
    )
    found = {one.metric: one.value for one in classification_scores(answers)}
    there = np.unique(truth)
    recalls = recall_score(truth, predicted, labels=there, average=None, zero_division=0)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    assert found["balanced accuracy"] == pytest.approx(np.mean(recalls))
    assert found["macro F1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert [found[f"recall: {one}"] for one in there] == pytest.approx(list(recalls))
    if len(there) > 1 and set(predicted) <= set(there):
        assert found["balanced accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    overall = multiclass_accuracy(torch.tensor(predicted), torch.tensor(truth), classes, average="micro")
    assert found["accuracy"] == pytest.approx(overall.item(), abs=1e-6)


def gaussian_features(count: int, width: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Standardised, strongly correlated features of classes that overlap."""
    draws = np.random.default_rng(seed)
    labels = draws.integers(0, classes, count)
    mixing = draws.normal(size=(width, width)) * np.geomspace(1, 1e-2, width)
    features = (draws.normal(size=(count, width)) + 0.7 * np.eye(classes, width)[labels]) @ mixing.T
    features = (features - features.mean(0)) / features.std(0)
    return torch.from_numpy(features), torch.from_numpy(labels)


def objective(flat: np.ndarray, features: np.ndarray, wanted: np.ndarray, strength: float) -> tuple[float, np.ndarray]:
    """Mean cross-entropy + strength / 2 * sum of squared weights of [weights | biases], and its gradient."""
    table = flat.reshape(wanted.shape[1], -1)
    logits = features @ table[:, :-1].T + table[:, -1]
    logits -= special.logsumexp(logits, axis=1, keepdims=True)
    slope = (np.exp(logits) - wanted).T @ np.c_[features, np.ones(len(features))] / len(features)
    slope[:, :-1] += strength * table[:, :-1]
    return -(wanted * logits).sum() / len(features) + strength / 2 * (table[:, :-1] ** 2).sum(), slope.ravel()


@pytest.mark.parametrize(("count", "width", "classes"), [(150, 12, 3), (60, 90, 4), (80, 5, 2)])
def test_logistic_regression_is_the_minimum_that_scipys_optimiser_finds(count: int, width: int, classes: int):
    features, labels = gaussian_features(count, width, classes)
    strengths = (1e-3, 1.0, 1e-1)
    wanted = np.eye(classes)[labels]
    for strength, found in zip(strengths, fit_logistic(features, labels, classes, strengths), strict=True):
        start = np.zeros(classes * (width + 1))
        oracle = optimize.minimize(
            objective,
            start,
            (features.numpy(), wanted, strength),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 5000, "maxfun": 9000, "ftol": 1e-16, "gtol": 1e-8},
        )
        table = oracle.x.reshape(classes, -1)
        expected = special.softmax(features.numpy() @ table[:, :-1].T + table[:, -1], axis=1)
        assert np.abs(found.logits(features).softmax(1).numpy() - expected).max() < 1e-5
        assert np.abs(found.weight.numpy() - table[:, :-1]).max() < 1e-4


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_the_linear_probe_meets_the_conditions_of_the_minimum(classes: int):
    features, labels = gaussian_features(80, 5, classes)
    for strength, found in zip((1e-4, 1e-2), fit_logistic(features, labels, classes, (1e-4, 1e-2)), strict=True):
        residual = found.logits(features).softmax(1) - torch.nn.functional.one_hot(labels, classes)
        assert (residual.T @ features / 80 + strength * found.weight).abs().max() < 1e-6
        assert residual.mean(dim=0).abs().max() < 1e-6


def test_the_linear_probe_gives_the_same_bits_again():
    features, labels = gaussian_features(300, 40, 5)
    first, second = (fit_logistic(features, labels, 5, (1e-4, 1e-2)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.weight, other.weight)
        assert torch.equal(one.bias, other.bias)


def test_a_class_without_samples_has_no_probability():
    features, labels = gaussian_features(80, 5, 3)
    (found,) = fit_logistic(features, labels * 2, 6, (1e-2,))
    probabilities = found.logits(features).softmax(1)
    assert probabilities[:, [1, 3, 5]].max() == 0
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(80, dtype=torch.float64))


def training_of(backbone: TinyBackbone, *, signal_db: float = 2.0, **changes: object) -> ClassifierTraining:
    task = made_chips(signal_db=signal_db)
    train, val = (np.flatnonzero(task.splits == split) for split in ("train", "val"))
    fields = {
        "source": FrozenFeatures(backbone, task.images, np.arange(120), CPU),
        "train": train,
        "val": val,
        "standardise_by": train,
        "labels": task.labels,
        "groups": task.groups,
        "classes": 3,
        "fit": FitConfig(),
        "seed": 0,
    }
    return ClassifierTraining(**(fields | changes))  # type: ignore[arg-type]


def test_neighbours_vote_as_sklearns_do():
    training = training_of(TinyBackbone())
    test = np.flatnonzero(made_chips().splits == "test")
    features = training.source.pooled(np.arange(120)).double().numpy()
    features = (features - features[training.train].mean(0)) / features[training.train].std(0)
    oracle = KNeighborsClassifier(10, metric="cosine", algorithm="brute", weights=lambda far: np.exp(-far / 0.07))
    oracle.fit(features[training.train], training.labels[training.train])
    found = by_neighbours(training)(training.source, test)
    assert found.tolist() == oracle.predict(features[test]).tolist()


def test_the_val_split_chooses_the_strength_and_folds_do_without_one():
    test = np.flatnonzero(made_chips().splits == "test")

    def answers(*strengths: float, **changes: object) -> list[int]:
        training = training_of(TinyBackbone(), signal_db=0.2, fit=FitConfig(strengths=strengths), **changes)
        return by_logistic(training)(training.source, test).tolist()

    weak, strong = answers(1e-6), answers(1e-1)  # balanced accuracies on val: 0.58 and 0.70
    assert weak != strong
    assert answers(1e-6, 1e-1) == answers(1e-1, 1e-6) == strong
    nothing = np.empty(0, dtype=np.int64)
    assert answers(1e-6, 1e-1, val=nothing) == answers(1e-1, 1e-6, val=nothing) == strong
    one_group_a_class = training_of(TinyBackbone()).labels
    middle = answers(1e-6, 1e-1, 1e3, val=nothing, groups=one_group_a_class)
    assert middle == strong


def test_grids_over_the_memory_bound_are_computed_anew_and_stay_the_same():
    images, numbers = HeldImages(made_chips().images.read(range(60))), np.arange(0, 60, 2)
    kept = FrozenFeatures(TinyBackbone(), images, numbers, CPU)
    bounded = FrozenFeatures(TinyBackbone(), images, numbers, CPU, max_grid_bytes=4 * 24 * 16 * 30 - 1)
    asked = np.array([4, 2, 58])
    assert torch.allclose(kept.grids(asked), bounded.grids(asked), atol=1e-6)
    assert torch.allclose(kept.pooled(asked), kept.grids(asked).mean(dim=(2, 3)), atol=1e-5)
    reads = images.reads
    kept.grids(asked)
    assert images.reads == reads
    bounded.grids(asked)
    assert images.reads > reads


LABELS = np.repeat([0, 1, 2], [50, 30, 8])
COPIES = np.arange(88) // 4  # groups of four near-copies; the third class has two groups


@examples(0.3)
@given(seed=st.integers(0, 10**6), each=st.integers(1, 12))
def test_shots_take_one_of_a_group_before_a_second_one(seed: int, each: int):
    numbers = np.arange(0, 88, dtype=np.int64)
    chosen = shots(numbers, LABELS, COPIES, each=each, seed=seed)
    assert (np.diff(chosen) > 0).all()
    assert np.bincount(LABELS[chosen]).tolist() == [each, each, min(each, 8)]
    for label in range(3):
        members = numbers[label == LABELS]
        taken = np.unique(COPIES[chosen[LABELS[chosen] == label]], return_counts=True)[1]
        assert len(taken) == min(each, len(np.unique(COPIES[members])), len(members))
        assert taken.max() <= -(-each // len(taken)) + 1


def test_shots_of_another_seed_are_others():
    numbers = np.arange(88, dtype=np.int64)
    drawn = {tuple(shots(numbers, LABELS, COPIES, each=3, seed=seed)) for seed in range(5)}
    assert len(drawn) == 5


@examples(0.3)
@given(seed=st.integers(0, 10**6))
def test_shares_are_stratified_nested_and_of_whole_groups(seed: int):
    numbers = np.flatnonzero(np.arange(88) % 11 != 0)
    chosen = {part: share(numbers, LABELS, COPIES, part=part, seed=seed) for part in (0.01, 0.1, 0.3, 1.0)}
    assert np.bincount(LABELS[chosen[0.01]]).tolist() == [1, 1, 1]
    counts = np.bincount(LABELS[numbers])
    assert np.bincount(LABELS[chosen[0.3]]).tolist() == [round(0.3 * one) for one in counts]
    assert set(chosen[0.01]) < set(chosen[0.1]) < set(chosen[0.3]) < set(chosen[1.0])
    assert chosen[1.0].tolist() == numbers.tolist()
    for label in range(3):
        groups = COPIES[chosen[0.3][LABELS[chosen[0.3]] == label]]
        available = COPIES[numbers[LABELS[numbers] == label]]
        whole = [group for group in np.unique(groups) if (groups == group).sum() == (available == group).sum()]
        assert len(whole) >= len(np.unique(groups)) - 1


@pytest.mark.parametrize(("taken", "asked"), [(4.4, 1.0), (4.4, 4.0), (20.0, 3.0), (1.0, 0.5)])
def test_a_uniform_surface_comes_to_the_looks_asked_for(taken: float, asked: float):
    count, side = 8, 256
    draws = np.random.default_rng(0)
    surface = 10 * np.log10(draws.gamma(taken, 1 / taken, (count, 2, side, side))).astype(np.float32) - 12
    images = FewerLooks(HeldImages(torch.from_numpy(surface)), np.full(count, taken), asked, seed=0)
    linear = 10 ** (images.read(range(count)).double().numpy() / 10)
    assert linear.mean() * 10**1.2 == pytest.approx(1.0, abs=0.01)
    enl = np.array([chip.mean() ** 2 / chip.var() for chip in linear.reshape(count, -1)])
    error = enl.std(ddof=1) / count**0.5
    assert abs(enl.mean() - asked) < 4 * error + 0.002 * asked
    assert error < 0.02 * asked


def test_looks_draw_by_image_alone_keep_nodata_and_leave_what_has_no_more():
    surface = torch.full((6, 2, 16, 16), -10.0)
    surface[2, :, :4] = torch.nan
    taken = np.array([4.4, 4.4, 4.4, 1.0, 0.8, 4.4])
    images = FewerLooks(HeldImages(surface), taken, 1.0, seed=0)
    together, apart = images.read([0, 2, 3, 4]), images.read([2])
    assert torch.equal(together[1].nan_to_num(99), apart[0].nan_to_num(99))
    assert torch.equal(together[1].isnan(), surface[2].isnan())
    assert torch.equal(together[2:], surface[3:5])
    assert not torch.equal(together[0], surface[0])
    assert not torch.equal(together[0, 0], together[0, 1])
    assert torch.equal(surface[0], torch.full((2, 16, 16), -10.0))
    other = FewerLooks(HeldImages(surface), taken, 1.0, seed=1).read([0])
    assert not torch.equal(other[0], together[0])


def test_added_looks_by_hand():
    # 1 + 1/1 = (1 + 1/3)(1 + 1/2)
    assert added_looks(3.0, 1.0) == pytest.approx(2.0)


def test_a_breakdown_holds_every_tested_sample_once():
    column = np.array([30.0, 31, 32, 33, 34, 35, np.nan, 36, 99])
    found = parts("incidence_deg", column, np.arange(8))
    assert [name for name, _ in found] == [
        "incidence_deg 30 to 32",
        "incidence_deg 32 to 34",
        "incidence_deg 34 to 36",
        "incidence_deg unknown",
    ]
    assert [numbers.tolist() for _, numbers in found] == [[0, 1], [2, 3], [4, 5, 7], [6]]
    names = np.array(["south", "north", "south", "east"])
    assert [(name, list(numbers)) for name, numbers in parts("region", names, np.arange(3))] == [
        ("region north", [1]),
        ("region south", [0, 2]),
    ]
    assert [(name, list(numbers)) for name, numbers in parts("swath", np.full(4, 2), np.arange(1, 4))] == [
        ("swath 2 to 2", [1, 2, 3])
    ]
