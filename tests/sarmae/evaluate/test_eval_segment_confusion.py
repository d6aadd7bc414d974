"""Confusion matrices and their intervals, against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score

from sarmae import timm_door
from sarmae.evaluate.segment.confusion import confusion_of, segmentation_measures, segmentation_scores

CLASSES = 5


def scores_of(tables, groups, names="abcde", **settings):
    return segmentation_scores(
        tables, groups, names, protocol="linear", setting="", **({"draws": 0, "seed": 0} | settings)
    )


def random_maps(seed=0, scenes=6, side=17, classes=CLASSES, ignored=0.2):
    draws = torch.Generator().manual_seed(seed)
    truth = torch.randint(classes, (scenes, side, side), generator=draws)
    found = torch.where(
        torch.rand(truth.shape, generator=draws) < 0.5, truth, torch.randint(classes, truth.shape, generator=draws)
    )
    truth[torch.rand(truth.shape, generator=draws) < ignored] = -1
    return truth, found


def by_metric(scores):
    return {score.metric: score for score in scores}


def test_the_measures_are_those_of_independent_implementations():
    truth, found = random_maps()
    tables = confusion_of(truth, found, CLASSES)
    measures = segmentation_measures(tables.sum(axis=0))
    known = truth != -1
    flat_truth, flat_found = truth[known].numpy(), found[known].numpy()
    assert (tables.sum(axis=0) == confusion_matrix(flat_truth, flat_found)).all()
    assert measures.per_class_iou == pytest.approx(jaccard_score(flat_truth, flat_found, average=None), abs=1e-12)
    assert measures.mean_accuracy == pytest.approx(balanced_accuracy_score(flat_truth, flat_found), abs=1e-12)
    assert measures.pixel_accuracy == pytest.approx((flat_truth == flat_found).mean(), abs=1e-12)
    assert timm_door.timm  # torchmetrics imports torchvision, which cannot be imported before it
    from torchmetrics.classification import MulticlassJaccardIndex  # noqa: PLC0415

    oracle = MulticlassJaccardIndex(CLASSES, average="macro", ignore_index=-1)
    assert measures.mean_iou == pytest.approx(float(oracle(found, truth)), abs=1e-6)


def test_each_scene_has_a_matrix_of_its_own():
    truth, found = random_maps(seed=3)
    tables = confusion_of(truth, found, CLASSES)
    for number in range(len(truth)):
        known = truth[number] != -1
        alone = confusion_matrix(truth[number][known], found[number][known], labels=range(CLASSES))
        assert (tables[number] == alone).all()


def test_a_class_that_is_nowhere_is_left_out_and_named():
    truth, found = random_maps(classes=3)
    tables = confusion_of(truth, found, CLASSES)
    scores = by_metric(scores_of(tables, np.arange(6)))
    three = segmentation_measures(confusion_of(truth, found, 3).sum(axis=0))
    assert scores["mIoU"].value == pytest.approx(float(three.mean_iou))
    assert scores["mean accuracy"].value == pytest.approx(float(three.mean_accuracy))
    assert "IoU: c" in scores
    assert "IoU: d" not in scores
    assert [scores[f"test pixels: {name}"].value for name in "de"] == [0, 0]
    assert "test pixels: a" not in scores


def test_a_class_found_where_it_never_is_costs_the_mean_and_is_named():
    truth = torch.zeros(2, 4, 4, dtype=torch.int64)
    found = truth.clone()
    found[0, 0, 0] = 1
    scores = by_metric(scores_of(confusion_of(truth, found, 2), np.arange(2), names=("land", "sea")))
    assert scores["IoU: sea"].value == 0
    assert scores["mIoU"].value == pytest.approx(31 / 32 / 2)
    assert scores["mean accuracy"].value == pytest.approx(31 / 32)
    assert scores["test pixels: sea"].value == 0


def test_a_scene_without_labels_counts_nothing():
    truth, found = random_maps()
    truth[2] = -1
    tables = confusion_of(truth, found, CLASSES)
    scores = scores_of(tables, np.arange(6))
    others = [0, 1, 3, 4, 5]
    less = scores_of(tables[others], np.arange(5))
    assert [score.value for score in scores] == [score.value for score in less]
    assert {score.tested for score in scores} == {5}


def test_intervals_agree_with_resampling_scenes_one_by_one():
    """An independent bootstrap over the pixels of whole scenes, with another generator."""
    truth, found = random_maps(scenes=20, side=6)
    truth[:10] = torch.where(truth[:10] == -1, -1, found[:10])  # half of the scenes are all right: a wide interval
    tables = confusion_of(truth, found, CLASSES)
    score = scores_of(tables, np.arange(20), draws=2000, seed=1)[0]
    draws = np.random.default_rng(5)
    means = []
    for _ in range(300):
        chosen = draws.integers(20, size=20)
        known = truth[chosen] != -1
        means.append(jaccard_score(truth[chosen][known], found[chosen][known], average="macro"))
    low, high = np.quantile(means, [0.025, 0.975])
    assert high - low > 0.1
    assert (score.low, score.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_copies_in_groups_make_no_interval_narrower():
    truth, found = random_maps(scenes=12, side=5)
    tables = confusion_of(truth, found, CLASSES)
    copied = np.repeat(tables, 4, axis=0)
    settings = {"draws": 500, "seed": 1}
    once = scores_of(tables, np.arange(12), **settings)[0]
    grouped = scores_of(copied, np.repeat(np.arange(12) * 7, 4), **settings)[0]
    alone = scores_of(copied, np.arange(48), **settings)[0]
    assert (once.low, once.high) == pytest.approx((grouped.low, grouped.high))
    assert alone.high - alone.low < 0.7 * (once.high - once.low)


def test_intervals_are_the_same_for_the_same_key_and_none_for_one_group():
    truth, found = random_maps()
    tables = confusion_of(truth, found, CLASSES)
    first, again, other = (scores_of(tables, np.arange(6), draws=100, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    lone = scores_of(tables, np.zeros(6, dtype=np.int64), draws=100, seed=1)
    assert {(score.low, score.high) for score in lone} == {(None, None)}
