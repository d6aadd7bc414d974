"""COCO's metrics: by hand, by faster-coco-eval called another way, and the tables behind the intervals."""

import json

import numpy as np
import pytest

from sarmae.evaluate.detect.box_scores import DetectionResults, detection_metrics, recount
from sarmae.evaluate.detect.coco_metrics import coco_curves
from sarmae.evaluate.detect.matching import AREAS_PX2, match
from support.boxed_squares import boxes, found

SIDE_PX = 256
NO_DRAWS = np.empty((0, 0), dtype=np.int64)


def metrics(truth, guesses, classes=("ship",), weights=NO_DRAWS):
    tested = DetectionResults(truth=truth, found=guesses, classes=classes, image_px=SIDE_PX, weights=weights)
    return {metric.name: metric for metric in detection_metrics(tested)}


def values(truth, guesses, classes=("ship",)):
    return {name: metric.value for name, metric in metrics(truth, guesses, classes).items()}


def random_scenes(seed, images=14, classes=3):
    """Objects of all sizes, crowds, images with nothing or crowds alone; guesses near them, twice, wrong, and at
    random. No two scores are equal: COCO leaves their order open."""
    rng = np.random.default_rng(seed)
    truth, guesses = [], []
    scores = iter(rng.permutation(np.linspace(0.06, 0.99, 4000)).astype(np.float32))
    for number in range(images):
        count = 0 if number == 0 else int(rng.integers(1, 9))
        low = rng.uniform(0, 150, (count, 2))
        corners = np.concatenate([low, low + np.exp(rng.uniform(np.log(3), np.log(220), (count, 2)))], axis=1)
        labels = rng.integers(0, classes, count)
        crowd = (rng.random(count) < 0.2) | (number == 1)
        truth.append(boxes(*corners, labels=labels.tolist(), crowd=crowd.tolist()))
        copies = np.repeat(corners, rng.integers(0, 4, count), axis=0)
        copies = copies + rng.normal(0, 2.5, copies.shape)
        wild_low = rng.uniform(0, 200, (5, 2))
        wild = np.concatenate([wild_low, wild_low + rng.uniform(2, 60, (5, 2))], axis=1)
        all_boxes = np.concatenate([copies.reshape(-1, 4), wild])
        all_boxes[:, 2:] = np.maximum(all_boxes[:, 2:], all_boxes[:, :2] + 0.5)
        guesses.append(
            found(
                *all_boxes,
                scores=[next(scores) for _ in all_boxes],
                labels=rng.integers(0, classes, len(all_boxes)).tolist(),
            )
        )
    return truth, guesses


def apart(folder, truth, guesses, classes):
    """The twelve numbers of COCO as its users get them: two JSON files, loadRes, summarize."""
    from faster_coco_eval import COCO, COCOeval_faster  # noqa: PLC0415

    def rows(sides, more):
        return [
            {
                "image_id": image,
                "category_id": int(one.labels[k]) + 7,
                "bbox": [*map(float, (c[0], c[1], c[2] - c[0], c[3] - c[1]))],
                **more(one, k),
            }
            for image, one in enumerate(sides)
            for k, c in enumerate(one.corners.astype(np.float64))
        ]

    wanted = rows(truth, lambda one, k: {"iscrowd": int(one.crowd[k])})
    for number, row in enumerate(wanted):
        row |= {"id": number + 100, "area": row["bbox"][2] * row["bbox"][3]}
    document = {
        "images": [{"id": n, "width": SIDE_PX, "height": SIDE_PX} for n in range(len(truth))],
        "annotations": wanted,
        "categories": [{"id": n + 7, "name": name} for n, name in enumerate(classes)],
    }
    (folder / "truth.json").write_text(json.dumps(document))
    (folder / "found.json").write_text(json.dumps(rows(guesses, lambda one, k: {"score": float(one.scores[k])})))
    base = COCO(str(folder / "truth.json"))
    judge = COCOeval_faster(base, base.loadRes(str(folder / "found.json")), "bbox")
    judge.run()
    return judge.stats_as_dict


@pytest.mark.parametrize("seed", range(3))
def test_random_guesses_score_as_the_package_says_through_its_files(tmp_path, seed):
    classes = ("ship", "tank", "bridge")
    truth, guesses = random_scenes(seed)
    expected = apart(tmp_path, truth, guesses, classes)
    ours = values(truth, guesses, classes)
    pairs = {
        "AP": "AP_all",
        "AP50": "AP_50",
        "AP75": "AP_75",
        "AP small": "AP_small",
        "AP medium": "AP_medium",
        "AP large": "AP_large",
        "AR100": "AR_third",
    }
    assert {name: ours.get(name, -1.0) for name in pairs} == pytest.approx(
        {n: expected[theirs] for n, theirs in pairs.items()}, abs=1e-12
    )
    assert 0.005 < ours["AP"] < 0.9
    assert np.mean([ours[f"AP of {name}"] for name in classes]) == pytest.approx(ours["AP"])


@pytest.mark.parametrize("seed", range(6))
def test_the_tables_give_the_same_numbers(seed):
    classes = ("ship", "tank", "bridge")
    truth, guesses = random_scenes(seed)
    curves = coco_curves(truth, guesses, classes, SIDE_PX)
    for label in range(3):
        for number, area in enumerate(AREAS_PX2):
            average, recall = match(truth, guesses, label, area).curves(np.ones(len(truth), dtype=np.int64))
            np.testing.assert_allclose(average, curves.precision[:, :, label, number].mean(axis=1), atol=1e-12)
            np.testing.assert_allclose(recall, curves.recall[:, label, number], atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_an_image_of_weight_two_counts_as_two_images(seed):
    """Exactly: what the bootstrap computes from tables is what COCO says of the images drawn."""
    classes = ("ship", "tank", "bridge")
    truth, guesses = random_scenes(seed)
    weights = np.random.default_rng(seed).multinomial(len(truth), [1 / len(truth)] * len(truth))
    drawn = np.repeat(np.arange(len(truth)), weights)
    expected = values([truth[n] for n in drawn], [guesses[n] for n in drawn], classes)
    tables = [[match(truth, guesses, label, area) for area in AREAS_PX2] for label in range(3)]
    ours = recount(tables, weights, classes)
    assert weights.max() > 1
    assert {name: ours[name] for name in expected} == pytest.approx(expected, abs=1e-12)


def test_two_boxes_by_hand():
    """The better guess is wrong, the second right, one object missed: precision 1/2 up to recall 1/2, then 0."""
    truth = [boxes([10, 10, 50, 50], [100, 100, 140, 140])]
    guesses = [found([200, 200, 240, 240], [10, 10, 50, 50], scores=[0.9, 0.8])]
    got = values(truth, guesses)
    assert got["AP"] == pytest.approx(0.5 * 51 / 101)
    assert got["AP50"] == pytest.approx(0.5 * 51 / 101)
    assert got["AR100"] == pytest.approx(0.5)
    assert "AP small" not in got
    assert got["AP medium"] == pytest.approx(got["AP"])


def test_a_shifted_box_counts_up_to_its_overlap():
    """Intersection over union 0.64: right at 0.5, 0.55 and 0.6, three of ten thresholds."""
    truth, guesses = [boxes([0, 0, 80, 80])], [found([0, 0, 64, 64], scores=[0.7])]
    got = values(truth, guesses)
    assert (got["AP"], got["AP50"], got["AP75"]) == pytest.approx((0.3, 1.0, 0.0))


def test_crowds_are_neither_right_nor_wrong():
    truth = [boxes([10, 10, 50, 50], [100, 100, 200, 200], crowd=[False, True])]
    better = [[110, 110, 130, 130], [150, 150, 170, 170]]
    guesses = [found(*better, [10, 10, 50, 50], scores=[0.9, 0.85, 0.8])]
    assert values(truth, guesses)["AP"] == pytest.approx(1.0)
    alone = [boxes([10, 10, 50, 50]), boxes([0, 0, 256, 256], crowd=[True])]
    spread = [found([10, 10, 50, 50], scores=[0.5]), found([20, 20, 60, 60], scores=[0.9])]
    assert values(alone, spread)["AP"] == pytest.approx(1.0)


def test_what_is_found_in_an_empty_image_is_wrong():
    truth = [boxes([10, 10, 50, 50]), boxes()]
    guesses = [found([10, 10, 50, 50], scores=[0.5]), found([20, 20, 60, 60], scores=[0.9])]
    assert values(truth, guesses)["AP"] == pytest.approx(0.5)


def test_nothing_found_is_worth_nothing():
    truth = [boxes([10, 10, 50, 50]), boxes()]
    weights = np.array([[1, 1], [2, 0]])
    got = metrics(truth, [found(scores=[]), found(scores=[])], weights=weights)
    assert (got["AP"].value, got["AR100"].value) == (0, 0)
    assert (got["AP"].low, got["AP"].high) == (0, 0)


def test_a_class_without_objects_has_no_score_and_no_part_in_the_mean():
    truth = [boxes([10, 10, 50, 50], labels=[0])]
    guesses = [found([10, 10, 50, 50], [60, 60, 90, 90], scores=[0.5, 0.9], labels=[0, 1])]
    got = values(truth, guesses, ("ship", "tank"))
    assert got["AP"] == pytest.approx(1.0)
    assert "AP of tank" not in got


def test_intervals_hold_the_value_and_shrink_with_images():
    truth, guesses = random_scenes(1, images=60, classes=1)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(60, [1 / 60] * 60, 80)
    wide = metrics(truth[:15], guesses[:15], weights=rng.multinomial(15, [1 / 15] * 15, 80))
    for name, metric in metrics(truth, guesses, weights=weights).items():
        assert metric.low <= metric.value <= metric.high, name
        assert metric.low < metric.high or name not in {"AP", "AP50", "AR100"}
    narrow = metrics(truth, guesses, weights=weights)["AP50"]
    assert narrow.high - narrow.low < wide["AP50"].high - wide["AP50"].low


def test_an_interval_needs_draws_that_hold_something():
    """One image of four holds the only object, and most draws leave it out."""
    truth = [boxes([10, 10, 50, 50])] + [boxes()] * 3
    guesses = [found([10, 10, 50, 50], scores=[0.5])] + [found(scores=[])] * 3
    got = metrics(
        truth, guesses, weights=np.array([[0, 2, 1, 1], [0, 0, 2, 2], [0, 1, 1, 2], [2, 0, 1, 1], [1, 1, 1, 1]])
    )
    assert (got["AP"].low, got["AP"].high) == (None, None)
    assert metrics(truth, guesses)["AP"].low is None
