"""Matches between detections and true boxes by COCO's rules, and the metrics of any weighting of the images.

Scores come from faster-coco-eval (sarmae.evaluate.detect.coco_metrics). The tables of this module serve the intervals,
for which images are drawn a thousand times. An image that is drawn twice has weight 2. This gives exactly the metric of
the doubled set: a pair of equal right detections can only raise precision, and COCO reads precision at the last of
them. Source of the rules: Lin et al., "Microsoft COCO", ECCV 2014, and its evaluation protocol (cocodataset.org).
"""

# I images, M N found objects over all images, g true objects and n found ones of an image, T thresholds

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sarmae.evaluate.detect.detections import MOST_FOUND, Detections
from sarmae.evaluate.labelled_images import Boxes

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Flags = NDArray[np.bool_]

THRESHOLDS: Final = tuple(np.linspace(0.5, 0.95, 10).tolist())  # of intersection over union
RECALLS: Final = np.linspace(0.0, 1.0, 101)
AREAS_PX2: Final = {  # of boxes; COCO's limits
    "": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchTable:
    """The detections of one class and one range of areas, over all images, the best first.

    image: (M,) image of each detection that matches a true object at some threshold.
    right, counted: (T, M), whether it is a true positive, and whether it counts at all. Matches with crowds and with
    objects of other areas do not count.
    wrong: (N,) image of each counted detection that matches no object at any threshold.
    wrong_before: (M,) how many of these have a better score.
    true: (I,) number of true objects by image.
    """

    image: I64
    right: Flags
    counted: Flags
    wrong: I64
    wrong_before: I64
    true: I64

    def curves(self, weights: I64) -> tuple[F64, F64]:
        """(average precision, recall) by threshold, (T,) each, of images that count weights (I,) times each.

        NaN where there are no true objects.
        """
        wanted = int((weights * self.true).sum())
        if not wanted:
            return np.full(len(THRESHOLDS), np.nan), np.full(len(THRESHOLDS), np.nan)
        counts = weights[self.image] * self.counted
        right = np.cumsum(counts * self.right, axis=1)
        wrong = np.append(0, np.cumsum(weights[self.wrong]))[self.wrong_before]
        precision = right / np.maximum(np.cumsum(counts, axis=1) + wrong, 1)
        precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        found = right[:, -1] / wanted if right.shape[1] else np.zeros(len(THRESHOLDS))
        average = [_average(row / wanted, best) for row, best in zip(right, precision, strict=True)]
        return np.array(average), found


def _average(recall: F64, precision: F64) -> float:
    """Mean of the precision at 101 recalls; 0 at recalls that are not reached."""
    place = np.searchsorted(recall, RECALLS, side="left")
    return float(precision[place[place < len(recall)]].sum() / len(RECALLS))


def match(truth: Sequence[Boxes], found: Sequence[Detections], label: int, area: str) -> MatchTable:
    """The table of a class and of a range of AREAS_PX2."""
    parts = [_match_one(boxes, one, label, AREAS_PX2[area]) for boxes, one in zip(truth, found, strict=True)]
    order = np.argsort(-np.concatenate([part.scores for part in parts]), kind="stable")
    image = np.repeat(np.arange(len(parts)), [len(part.scores) for part in parts])[order]
    matched, right, counted = (
        np.concatenate(columns, axis=1)[:, order]
        for columns in zip(*((part.matched, part.right, part.counted) for part in parts), strict=True)
    )
    taking = matched.any(axis=0)
    wrong = ~taking & counted[0]  # without a match an object counts at all thresholds or at none
    return MatchTable(
        image=image[taking],
        right=right[:, taking],
        counted=counted[:, taking],
        wrong=image[wrong],
        wrong_before=np.cumsum(wrong)[taking],
        true=np.array([part.true for part in parts]),
    )


class _Matched(NamedTuple):
    """Of one image: scores (n,); whether each detection has a match, is right, and counts (T, n); number of true
    objects.
    """

    scores: F64
    matched: Flags
    right: Flags
    counted: Flags
    true: int


def _match_one(boxes: Boxes, found: Detections, label: int, area: tuple[float, float]) -> _Matched:
    best = np.flatnonzero(found.labels == label)
    best = best[np.argsort(-found.scores[best], kind="stable")][:MOST_FOUND]
    of_class = boxes.labels == label
    true, crowd = boxes.corners[of_class].astype(np.float64), boxes.crowd[of_class]
    guessed = found.corners[best].astype(np.float64)
    aside = crowd | ~_within(true, area)
    order = np.argsort(aside, kind="stable")
    overlap = _overlaps(guessed, true[order], crowd[order])
    owners = np.stack([_owners(overlap, aside[order], crowd[order], threshold) for threshold in THRESHOLDS])
    matched = owners >= 0
    to_aside = matched & (np.append(aside[order], False)[owners])
    outside = ~matched & ~_within(guessed, area)[None, :]
    scores = found.scores[best].astype(np.float64)
    return _Matched(scores, matched, matched & ~to_aside, ~(to_aside | outside), int((~aside).sum()))


def _owners(overlap: F64, aside: Flags, crowd: Flags, threshold: float) -> I64:
    """(n,) the true object of each detection, -1 without a match.

    The better detection chooses first. It takes the free object that it overlaps most (of equals, the later one). An
    object set aside is taken only where no other is possible; a crowd can be taken many times.
    """
    taken = np.zeros(len(aside), dtype=bool)
    owners = np.full(len(overlap), -1, dtype=np.int64)
    for number in np.flatnonzero((overlap >= min(threshold, 1 - 1e-10)).any(axis=1)):
        row = overlap[number]
        possible = (row >= min(threshold, 1 - 1e-10)) & (~taken | crowd)
        for group in (possible & ~aside, possible & aside):
            if group.any():
                last = len(row) - 1 - int(np.argmax(np.where(group, row, -1.0)[::-1]))
                owners[number], taken[last] = last, True
                break
    return owners


def _within(corners: F64, area: tuple[float, float]) -> Flags:
    sides = corners[:, 2:] - corners[:, :2]
    size = sides[:, 0] * sides[:, 1]
    return (size >= area[0]) & (size <= area[1])


def _overlaps(guessed: F64, true: F64, crowd: Flags) -> F64:
    """(n, g) intersection over union; with a crowd, over the area of the detection alone."""
    low = np.maximum(guessed[:, None, :2], true[None, :, :2])
    high = np.minimum(guessed[:, None, 2:], true[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=-1)
    size, other = (np.prod(corners[:, 2:] - corners[:, :2], axis=1) for corners in (guessed, true))
    union: F64 = np.where(crowd[None, :], size[:, None], size[:, None] + other[None, :] - shared)
    ratio: F64 = shared / union
    return ratio
