"""Overlaps, mirrors and suppression against counting pixels and the textbook loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sarmae.evaluate.detect.geometry import generalised_overlaps, mirror, overlaps, suppress


def pixels(box, side_px=12):
    canvas = np.zeros((side_px, side_px), dtype=bool)
    x0, y0, x1, y1 = box
    canvas[y0:y1, x0:x1] = True
    return canvas


whole_boxes = st.tuples(*[st.integers(0, 8)] * 2, *[st.integers(1, 4)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(whole_boxes, whole_boxes)
def test_overlaps_are_those_of_counted_pixels(first, second):
    a, b = pixels(first), pixels(second)
    counted = (a & b).sum() / (a | b).sum()
    pair = torch.tensor([first, second], dtype=torch.float32)
    assert overlaps(pair[:1], pair[1:]).item() == pytest.approx(counted, abs=1e-6)
    rows, columns = np.nonzero(a | b)
    hull = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    expected = counted - (hull - (a | b).sum()) / hull
    assert generalised_overlaps(pair[:1], pair[1:]).item() == pytest.approx(expected, abs=1e-6)


def test_boxes_without_area_overlap_nothing():
    flat = torch.tensor([[3.0, 3.0, 3.0, 9.0]])
    assert overlaps(flat, flat).item() == 0
    assert torch.isfinite(generalised_overlaps(flat, flat)).all()


@given(whole_boxes, st.booleans(), st.booleans())
def test_mirrored_boxes_hold_the_mirrored_pixels(box, across, down):
    canvas = np.zeros((12, 16), dtype=bool)
    canvas[:, :12] = pixels(box)
    turned = canvas[:: -1 if down else 1, :: -1 if across else 1]
    there = mirror(torch.tensor([box], dtype=torch.float32), across=across, down=down, image_px=(12, 16))
    rows, columns = np.nonzero(turned)
    assert there.tolist() == [[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]]
    again = mirror(there, across=across, down=down, image_px=(12, 16))
    assert again.tolist() == [list(box)]


def slowly(corners, scores, labels, most_overlap):
    """Greedy suppression as textbooks have it, one box at a time in numpy."""
    waiting = sorted(range(len(scores)), key=lambda number: (-scores[number], number))
    kept = []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [
            w for w in waiting if labels[w] != labels[best] or one_overlap(corners[w], corners[best]) <= most_overlap
        ]
    return kept


def one_overlap(a, b):
    across, down = (max(0.0, min(a[k + 2], b[k + 2]) - max(a[k], b[k])) for k in (0, 1))
    shared = np.float32(across) * np.float32(down)
    sizes = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    return shared / max(sizes[0] + sizes[1] - shared, 1e-6)


@given(st.integers(0, 10**6), st.integers(0, 60), st.integers(1, 3), st.sampled_from([0.0, 0.3, 0.6, 0.95]))
def test_suppression_is_the_textbook_one(seed, count, classes, most_overlap):
    """On a coarse grid of places and scores, so that chains of overlaps, equal scores and equal boxes are common."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 12, (count, 2)).astype(np.float32)
    corners = np.concatenate([low, low + rng.integers(1, 12, (count, 2))], axis=1).astype(np.float32)
    scores = (rng.integers(0, 6, count) / 8).astype(np.float32)
    labels = rng.integers(0, classes, count)
    kept = suppress(*(torch.as_tensor(part) for part in (corners, scores, labels)), most_overlap)
    assert kept.tolist() == slowly(corners, scores, labels, most_overlap)


def test_a_long_chain_is_judged_to_its_end():
    """Every box overlaps the next one alone: every second is kept, which takes as many rounds as there are boxes."""
    left = torch.arange(200, dtype=torch.float32) * 6
    corners = torch.stack([left, torch.zeros(200), left + 10, torch.full((200,), 10.0)], dim=1)
    kept = suppress(corners, torch.linspace(1, 0.1, 200), torch.zeros(200, dtype=torch.int64), 0.2)
    assert kept.tolist() == list(range(0, 200, 2))


def test_what_is_kept_fits_and_what_goes_has_a_better_rival():
    generator = torch.Generator().manual_seed(3)
    low = torch.rand(400, 2, generator=generator) * 100
    corners = torch.cat([low, low + 5 + 30 * torch.rand(400, 2, generator=generator)], dim=1)
    scores, labels = torch.rand(400, generator=generator), torch.zeros(400, dtype=torch.int64)
    kept = suppress(corners, scores, labels, 0.5)
    among = overlaps(corners[kept], corners[kept]).fill_diagonal_(0)
    assert 20 < len(kept) < 380
    assert among.max() <= 0.5
    gone = torch.tensor(sorted(set(range(400)) - set(kept.tolist())))
    rivals = (overlaps(corners[gone], corners[kept]) > 0.5) & (scores[kept][None] > scores[gone][:, None])
    assert rivals.any(1).all()
