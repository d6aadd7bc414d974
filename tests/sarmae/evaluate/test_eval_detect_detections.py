"""From answers to objects: what lies on no data, over the border, or is too much."""

import numpy as np
import torch

from sarmae.evaluate.detect.detections import MOST_FOUND, decode_detections
from sarmae.evaluate.detect.detector import DetectorOutput, Locations

SIDE_PX = 32


def answers_at(places, *, chances=None, half_px=3.0, classes=1):
    """A location at each (x, y), sure of a square around it."""
    x, y = torch.tensor(places, dtype=torch.float32).reshape(-1, 2).unbind(1)
    chances = torch.full((len(x),), 0.9) if chances is None else torch.tensor(chances)
    logits = torch.full((1, len(x), classes), -20.0)
    logits[0, :, 0] = torch.logit(chances)
    corners = torch.stack([x - half_px, y - half_px, x + half_px, y + half_px], dim=1)[None]
    one = torch.ones(len(x))
    locations = Locations(
        x_px=x, y_px=y, stride_px=4 * one, level=0 * one.long(), level_strides_px=torch.tensor([4.0, 8, 16, 32])
    )
    return DetectorOutput(class_logits=logits, corners=corners, centre_logits=torch.full((1, len(x)), 20.0)), locations


def image(*, nan_from_row=None, nan_from_column=None, channels=2):
    pictures = torch.zeros(1, channels, SIDE_PX, SIDE_PX)
    if nan_from_row is not None:
        pictures[:, :, nan_from_row:] = torch.nan
    if nan_from_column is not None:
        pictures[..., nan_from_column:] = torch.nan
    return pictures


def test_an_object_is_found_where_it_is():
    (one,) = decode_detections(*answers_at([(10, 12)]), image())
    assert one.corners.tolist() == [[7, 9, 13, 15]]
    assert one.labels.tolist() == [0]
    assert np.allclose(one.scores, np.sqrt(0.9))


def test_nothing_is_found_on_padding_and_boxes_end_before_it():
    (one,) = decode_detections(
        *answers_at([(10, 12), (10, 18), (10, 26), (26, 6)]), image(nan_from_row=20, nan_from_column=24)
    )
    assert sorted(one.corners.tolist()) == [[7, 9, 13, 15], [7, 15, 13, 20]]


def test_a_pixel_with_one_channel_is_measured():
    pictures = image()
    pictures[:, 0, 20:] = torch.nan
    (one,) = decode_detections(*answers_at([(10, 26)]), pictures)
    assert len(one.scores) == 1


def test_an_image_without_data_holds_nothing():
    (one,) = decode_detections(*answers_at([(10, 12), (20, 20)]), image(nan_from_row=0))
    assert one.corners.shape == (0, 4)


def test_boxes_end_at_the_border_and_places_beyond_it_find_nothing():
    (one,) = decode_detections(*answers_at([(1, 31), (33, 10), (10, 40)]), image())
    assert one.corners.tolist() == [[0, 28, 4, 32]]


def test_little_chance_is_no_object():
    (one,) = decode_detections(*answers_at([(6, 6), (20, 20)], chances=[0.04, 0.06]), image())
    assert one.corners.tolist() == [[17, 17, 23, 23]]


def test_the_better_of_two_on_one_place_stays_whatever_another_class_says():
    output, locations = answers_at([(10, 10), (11, 10), (10, 11)], chances=[0.5, 0.9, 0.7], classes=2)
    output.class_logits[0, 2] = torch.tensor([-20.0, 1.0])
    (one,) = decode_detections(output, locations, image())
    assert one.labels.tolist() == [0, 1]
    assert one.corners[0].tolist() == [8, 7, 14, 13]


def test_no_more_than_coco_counts():
    places = [(x + 0.5, y + 0.5) for x in range(SIDE_PX) for y in range(SIDE_PX)]
    (one,) = decode_detections(
        *answers_at(places, half_px=0.4, chances=list(np.linspace(0.1, 0.9, len(places)))), image()
    )
    assert len(one.scores) == MOST_FOUND
    assert (np.diff(one.scores) <= 0).all()
    assert one.scores.min() > np.sqrt(0.8)
