"""Detection as a whole: it learns what is there, nothing where nothing is, and says what it did."""

import sys
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.detect import detect, fit_detector
from sarmae.evaluate.detect.box_scores import DetectionResults, detection_metrics
from sarmae.evaluate.detect.detections import Detections
from sarmae.evaluate.detect.protocol import check_boxes, draw_weights
from sarmae.evaluate.study_config import DatasetConfig
from support.boxed_squares import Convolutions, Pictures, boxes, question, scenes, squares
from support.paths import SHARED
from support.simulated_sets import write_ship_scenes

CPU = torch.device("cpu")
SSDD = SHARED / "data/ship_boxes/coco"


def ask(task, *, seed=0, learns=True, **settings):
    return detect(Convolutions(learns), task, question(**settings), seed, CPU)


def by_metric(scores):
    return {score.metric: score for score in scores}


def test_squares_are_found_and_what_is_not_there_is_not():
    found = by_metric(ask(squares(32, 8), epochs=14, bootstrap=50))
    assert list(found) == ["AP", "AP50", "AP75", "AP small", "AR100"]
    assert found["AP50"].value > 0.5
    assert found["AP50"].low <= found["AP50"].value <= found["AP50"].high
    assert {(score.protocol, score.setting, score.tested) for score in found.values()} == {("fcos", "", 8)}
    assert by_metric(ask(squares(20, 8, true=False), epochs=6))["AP50"].value < 0.1


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    task = squares(8, 4)
    torch.manual_seed(1)
    first = ask(task, epochs=6, bootstrap=20)
    before = torch.random.get_rng_state()
    torch.manual_seed(2)
    again = ask(task, epochs=6, bootstrap=20)
    torch.manual_seed(1)
    assert [asdict(score) for score in first] == [asdict(score) for score in again]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first != ask(task, seed=1, epochs=6, bootstrap=20)


def weights_of(module):
    return {name: weight.clone() for name, weight in module.state_dict().items()}


@pytest.mark.parametrize("freeze", [False, True])
def test_the_encoder_learns_unless_it_is_frozen_and_the_one_given_stays(freeze):
    backbone, task = Convolutions(), squares(6, 2)
    training = fit_detector.DetectorTraining(
        task=task, train=range(4), config=question(epochs=2).fit, freeze=freeze, seed=0, device=CPU
    )
    before = weights_of(backbone)
    trained = fit_detector.train_detector(backbone, training)
    after = weights_of(trained.backbone)
    assert all(torch.equal(before[name], weight) for name, weight in weights_of(backbone).items())
    assert all(torch.equal(before[name], after[name]) for name in before) is freeze


def test_kept_grids_are_the_computed_ones(monkeypatch):
    """A frozen encoder sees every image once for each way to mirror it; without room it sees them every epoch."""
    task, settings = squares(8, 4), {"epochs": 6, "freeze": True}
    kept = ask(task, **settings)
    assert {score.setting for score in kept} == {"frozen encoder"}
    reads = sum(task.images.reads)
    assert reads == 1 + 4 * 4 + 4
    monkeypatch.setattr(fit_detector, "KEPT_FEATURES_BYTES", 0)
    task.images.reads.clear()
    anew = ask(task, **settings)
    assert sum(task.images.reads) == 1 + 6 * 4 + 4
    assert [score.value for score in anew] == pytest.approx([score.value for score in kept], abs=0.02)


def test_an_encoder_without_weights_to_learn_counts_as_frozen():
    assert {score.setting for score in ask(squares(6, 2), learns=False, epochs=1)} == {"frozen encoder"}


def test_images_are_read_by_batches():
    task = squares(12, 6)
    ask(task, epochs=2, batch=3)
    assert max(task.images.reads) == 3
    assert sum(task.images.reads) == 2 * 6 + 6


def test_shares_of_the_labels_come_after_all_of_them():
    """Near-copies are taken together; all of the labels are not learnt twice."""
    task = replace(squares(12, 4), groups=np.array([0, 0, 0, 1, 1, 1, 1, 1, 2, 3, 4, 5]))
    scores = ask(task, epochs=2, label_shares=(0.5, 1.0))
    settings = ["", "50 % of the labels", "100 % of the labels"]
    assert list(dict.fromkeys(score.setting for score in scores)) == settings
    assert sum(task.images.reads) - (2 * 8 + 4) - 4 in (2 * 3, 2 * 5)
    plain, _, whole = ([score.value for score in scores if score.setting == setting] for setting in settings)
    assert plain == whole


def test_mirrored_images_have_mirrored_boxes():
    """Where a lesson's boxes lie is where its images are bright, whatever the flips."""
    task = squares(8, 2)
    training = fit_detector.DetectorTraining(
        task=task, train=range(6), config=question().fit, freeze=False, seed=3, device=CPU
    )
    seen = set()
    for epoch in range(3):
        positions = torch.arange(6)
        flips = training.flips(positions, epoch)
        for position, picture, turned in zip(range(6), training.images(positions.tolist(), flips), flips, strict=True):
            seen.add(tuple(turned.tolist()))
            for x0, y0, x1, y1 in training.objects(position, turned).corners.long().tolist():
                assert picture[0, y0:y1, x0:x1].mean() > 2.5
    assert len(seen) == 4
    still = replace(training, config=question(flips=False).fit)
    assert not still.flips(torch.arange(6), 1).any()


def test_scenes_with_padding_crowds_and_nothing_are_taught_and_tested():
    task = squares(10, 4)
    pictures = task.images.pictures.clone()
    pictures[[1, 7], :, 40:] = torch.nan
    pictures[2] = torch.nan
    truth = list(task.boxes)
    truth[0], truth[6] = boxes(), boxes()
    truth[3] = boxes([0, 0, 64, 64], crowd=[True])
    truth[8] = boxes([4, 4, 30, 30], crowd=[True])
    truth[4] = boxes([60, 60, 64, 64], [0.2, 0.2, 1.1, 0.9], [-3, 20, 5, 40])
    odd = replace(task, images=Pictures(pictures), boxes=tuple(truth))
    assert all(np.isfinite(score.value) for score in ask(odd, epochs=2, bootstrap=5))


def test_groups_are_drawn_whole():
    groups = np.array([4, 4, 9, 9, 9, 1])
    weights = draw_weights(groups, 200, 7)
    assert weights.shape == (200, 6)
    for group in (4, 9, 1):
        assert (np.ptp(weights[:, groups == group], axis=1) == 0).all()
    drawn = weights[:, [0, 2, 5]]
    assert (drawn.sum(axis=1) == 3).all()
    assert drawn.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.2)
    assert draw_weights(groups, 0, 7).shape == (0, 6)
    assert draw_weights(np.array([3, 3]), 50, 7).shape == (0, 2)


def changed(task, number, new):
    truth = list(task.boxes)
    truth[number] = new
    return replace(task, boxes=tuple(truth))


@pytest.mark.parametrize(
    ("number", "new", "message"),
    [
        (2, boxes([5, 5, 5, 9]), r"squares, image 2, box 0: corners 5, 5, 5, 9; finite x0 < x1"),
        (0, boxes([1, 1, 4, 4], [np.nan, 1, 2, 3]), r"image 0, box 1: corners nan"),
        (1, boxes([1, 1, 4, 4], labels=[1]), r"image 1, box 0: class 1; 0 to 0 expected \(square\)"),
    ],
)
def test_boxes_that_cannot_be_are_reported(number, new, message):
    with pytest.raises(ConfigError, match=message):
        check_boxes(changed(squares(6, 2), number, new))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_objects_is_reported(split):
    crowd = boxes([1, 1, 20, 20], crowd=[True])
    full = boxes([1, 1, 20, 20])
    truth = [crowd, full] if split == "train" else [full, crowd]
    task = scenes(torch.zeros(2, 1, 64, 64), truth, 1)
    with pytest.raises(ConfigError, match=f"1 images with 0 objects in the {split} split"):
        ask(task)
    with pytest.raises(ConfigError, match="0 images with 0 objects in the test split"):
        check_boxes(scenes(torch.zeros(2, 1, 64, 64), [full, full], 0))


def test_a_missing_package_is_reported_before_anything_is_learnt(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    task = squares(4, 2)
    with pytest.raises(ConfigError, match=r"faster-coco-eval, .* pip install 'sar1m\[evaluate\]'"):
        ask(task)
    assert task.images.reads == []


def coco_question(folder, **settings):
    asked = question(epochs=1, bootstrap=20, **settings)
    dataset = DatasetConfig(kind="coco", path=str(folder), image_px=96)
    return asked.model_copy(update={"dataset": dataset})


def check_answers(asked, images):
    """Scores are there; boxes given back as they were read are all right."""
    task = open_dataset(asked)
    scores = by_metric(detect(Convolutions(), task, asked, 0, CPU))
    assert {"AP", "AP50", "AP75", "AR100"} <= scores.keys()
    assert all(0 <= score.value <= 1 and score.tested == images for score in scores.values())
    right = [
        Detections(corners=b.corners, labels=b.labels, scores=np.ones(len(b.labels), np.float32)) for b in task.boxes
    ]
    trial = DetectionResults(
        truth=task.boxes, found=right, classes=task.classes, image_px=96, weights=np.empty((0, 0), dtype=np.int64)
    )
    assert {metric.value for metric in detection_metrics(trial)} == {1.0}


def test_simulated_ships_are_looked_for(tmp_path):
    check_answers(coco_question(write_ship_scenes(tmp_path, scenes=6, side_px=96)), 2)


@pytest.mark.skipif(not SSDD.exists(), reason=f"real images are not here: {SSDD}")
def test_real_ships_are_looked_for():
    check_answers(coco_question(SSDD, freeze=True), 2)
