"""Which location answers for which box, and what the answers cost."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sarmae.evaluate.detect.detector import PRIOR, Detector, DetectorOutput
from sarmae.evaluate.detect.geometry import generalised_overlaps
from sarmae.evaluate.detect.targets import (
    LEFT_OUT,
    NOTHING,
    BoxTensors,
    assign,
    centreness,
    detection_loss,
)
from sarmae.evaluate.fitting import seeded
from support.boxed_squares import boxes

CPU = torch.device("cpu")


def look(side_px=64, stride_px=16, width=8, classes=1, images=1):
    """Answers of an untaught detector, and its locations."""
    detector = seeded(lambda: Detector(width, stride_px, classes), seed=0, name="test")
    cells = side_px // stride_px
    grid = torch.rand(images, width, cells, cells, generator=torch.Generator().manual_seed(1))
    return detector(grid)


def taught(*corners, side_px=64, **more):
    _, locations = look(side_px)
    return assign(BoxTensors.of(boxes(*corners, **more), CPU), locations), locations


@pytest.mark.parametrize(
    ("stride_px", "strides"), [(8, (4, 8, 16, 32)), (16, (4, 8, 16, 32)), (32, (4, 8, 16, 32)), (14, (3.5, 7, 14, 28))]
)
def test_levels_lie_at_the_powers_of_two_of_the_grid(stride_px, strides):
    output, locations = look(side_px=stride_px * 4, stride_px=stride_px, classes=3, images=2)
    assert tuple(locations.level_strides_px.tolist()) == strides
    cells = [round(stride_px * 4 / stride) for stride in strides]
    assert torch.bincount(locations.level).tolist() == [math.ceil(n) ** 2 for n in cells]
    assert output.class_logits.shape == (2, len(locations.x_px), 3)
    assert output.corners.shape == (2, len(locations.x_px), 4)
    first = locations.level == 0
    assert locations.x_px[first][:2].tolist() == [strides[0] / 2, strides[0] * 1.5]
    assert locations.y_px[first][:2].tolist() == [strides[0] / 2] * 2
    inside = (output.corners[..., 0] < locations.x_px) & (locations.x_px < output.corners[..., 2])
    assert inside.all()


def test_an_untaught_detector_expects_few_objects():
    output, _ = look(classes=2)
    assert torch.sigmoid(output.class_logits).mean().item() == pytest.approx(PRIOR, rel=0.3)


def test_an_untaught_detector_guesses_boxes_as_large_as_its_strides():
    output, locations = look()
    sides = output.corners[0, :, 2:] - output.corners[0, :, :2]
    assert torch.allclose(sides / locations.stride_px[:, None], torch.full_like(sides, 2.0), rtol=0.6)


def test_a_map_of_odd_size_is_pooled_to_its_end():
    _, locations = look(side_px=48)
    assert torch.bincount(locations.level).tolist() == [144, 36, 9, 4]


def test_a_box_is_taught_on_its_level_around_its_centre():
    targets, locations = taught([16, 16, 36, 36])
    holds = targets.labels == 0
    assert set(locations.level[holds].tolist()) == {0}
    away = torch.maximum((locations.x_px - 26).abs(), (locations.y_px - 26).abs())[holds]
    assert holds.sum() == 9  # 22, 26 and 30 px along each axis
    assert away.max() <= 6
    assert torch.equal(targets.corners[holds], torch.tensor([[16.0, 16, 36, 36]]).expand(9, 4))
    assert (targets.labels[~holds] == NOTHING).all()


@pytest.mark.parametrize(("side", "level"), [(6, 0), (32, 0), (33, 1), (64, 1), (65, 2), (128, 2), (129, 3), (250, 3)])
def test_larger_boxes_are_taught_on_coarser_levels(side, level):
    targets, locations = taught([2, 2, 2 + side, 2 + side], side_px=256)
    assert set(locations.level[targets.labels == 0].tolist()) == {level}


@given(st.floats(-8, 60), st.floats(-8, 60), st.floats(0.05, 80), st.floats(0.05, 80))
def test_every_box_whose_centre_is_in_the_image_is_taught(x0, y0, width, height):
    """However tiny, thin or far over the border; and what is taught holds the box and its locations."""
    x0, y0 = min(x0, 63.5 - width / 2), min(y0, 63.5 - height / 2)
    x0, y0 = max(x0, 0.5 - width / 2), max(y0, 0.5 - height / 2)
    targets, locations = taught([x0, y0, x0 + width, y0 + height])
    holds = targets.labels == 0
    assert holds.any()
    corners = targets.corners[holds]
    assert (centreness(corners, locations.x_px[holds], locations.y_px[holds]) >= 0).all()
    low = torch.minimum(corners[:, 0] - locations.x_px[holds], corners[:, 1] - locations.y_px[holds])
    assert (low <= 0).all()
    stride = locations.stride_px[holds][0].item()
    grown = (corners[0, 2:] - corners[0, :2]) - torch.tensor([width, height])
    assert grown.min() >= -1e-4
    assert grown.max() <= stride / 2 + 1e-3


def test_a_tiny_box_is_taught_no_larger_than_it_must_be():
    targets, locations = taught([20.5, 21, 21.5, 21.8])
    holds = targets.labels == 0
    assert locations.x_px[holds].tolist() == [22]
    assert targets.corners[holds].tolist() == [[20.5, 21, 22, 22]]


def test_the_smaller_of_two_boxes_has_the_location():
    targets, locations = taught([14, 14, 44, 44], [22, 22, 30, 30], labels=[0, 1])
    at = (locations.level == 0) & (locations.x_px == 26) & (locations.y_px == 26)
    assert targets.labels[at].tolist() == [1]
    assert set(targets.labels.tolist()) == {NOTHING, 0, 1}


def test_crowds_teach_nothing():
    targets, locations = taught([0, 0, 32, 64], [40, 8, 56, 24], crowd=[True, False])
    left = locations.x_px <= 32
    assert (targets.labels[left] == LEFT_OUT).all()
    assert set(targets.labels[~left].tolist()) == {NOTHING, 0}
    alone, _ = taught([0, 0, 32, 64], crowd=[True])
    assert set(alone.labels.tolist()) == {NOTHING, LEFT_OUT}


def test_an_image_without_objects_is_background():
    targets, _ = taught()
    assert (targets.labels == NOTHING).all()


def test_centreness_by_hand():
    corners = torch.tensor([[0.0, 0, 10, 20]]).expand(3, 4)
    found = centreness(corners, torch.tensor([5.0, 2, 0]), torch.tensor([10.0, 10, 10]))
    assert found.tolist() == pytest.approx([1.0, math.sqrt(2 / 8), 0.0])


def right_answers(targets, locations, sure=12.0):
    logits = torch.where(targets.labels[None, :, None] == 0, sure, -sure)
    middle = centreness(targets.corners, locations.x_px, locations.y_px).clamp(1e-4, 1 - 1e-4)
    return DetectorOutput(class_logits=logits, corners=targets.corners[None], centre_logits=torch.logit(middle)[None])


def test_right_answers_cost_their_centreness_alone():
    targets, locations = taught([16, 16, 36, 36])
    holds = targets.labels == 0
    middle = centreness(targets.corners[holds], locations.x_px[holds], locations.y_px[holds]).clamp(1e-4, 1 - 1e-4)
    entropy = -(middle * middle.log() + (1 - middle) * (1 - middle).log()).mean()
    loss = detection_loss(right_answers(targets, locations), locations, [targets])
    assert loss.item() == pytest.approx(entropy.item(), abs=2e-3)


def test_the_loss_by_hand_where_nothing_is_known():
    """Chance one half everywhere: focal loss has a closed form; regression costs 1 - generalised IoU."""
    targets, locations = taught([16, 16, 36, 36])
    holds = targets.labels == 0
    count, objects = len(targets.labels), int(holds.sum())
    shifted = targets.corners + 5
    output = DetectorOutput(
        class_logits=torch.zeros(1, count, 1), corners=shifted[None], centre_logits=torch.full((1, count), -30.0)
    )
    focal = math.log(2) * 0.25 * (0.25 * objects + 0.75 * (count - objects)) / objects
    apart = 1 - generalised_overlaps(shifted[holds], targets.corners[holds]).mean().item()
    middle = centreness(targets.corners[holds], locations.x_px[holds], locations.y_px[holds])
    expected = focal + apart + 30 * middle.mean().item()
    assert detection_loss(output, locations, [targets]).item() == pytest.approx(expected, rel=1e-5)


def test_left_out_locations_cost_nothing():
    targets, locations = taught([0, 0, 64, 64], crowd=[True])
    output, _ = look()
    assert (targets.labels == LEFT_OUT).all()
    assert detection_loss(output, locations, [targets]).item() == 0


def test_every_part_of_the_detector_learns():
    detector = seeded(lambda: Detector(8, 16, 2), seed=0, name="test")
    output, locations = detector(torch.rand(2, 8, 8, 8, generator=torch.Generator().manual_seed(1)))
    objects = [boxes([9, 9, 29, 29], [8, 8, 60, 60], labels=[0, 1]), boxes([1, 1, 100, 100], [0, 0, 128, 127])]
    detection_loss(output, locations, [assign(BoxTensors.of(o, CPU), locations) for o in objects]).backward()
    still = [name for name, weight in detector.named_parameters() if not weight.grad.abs().max() > 0]
    assert still == []
