"""Near-copies: where the threshold lies between copies and likenesses, and what grouping costs.

    PYTHONPATH=training python tests/benchmarks/bench_near_copies.py [--seeds 5]

Needs ../shared/data (SAR-ACD, flood chips, S1RTC). CPU time of one thread.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from measure import Section, run_with_one_thread, write_results
from numpy.typing import NDArray
from PIL import Image

from sarmae.evaluate import near_copies
from sarmae.evaluate.datasets.pictures import centre_window
from sarmae.evaluate.label_splits import SplitShares, contradictions, split_groups
from sarmae.evaluate.near_copies import SAME, candidates, describe, find_groups, similarity

SHARED = Path(__file__).parents[3] / "shared/data"
THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
SHARES = SplitShares(val=0, test=0.3)
SIDE_PX = 64
ACD_NOTE = (
    "Accuracy of the nearest neighbour on raw grey values (centre windows of 64 px) over splits by groups; mean and "
    "standard deviation over seeds. Chance is 0.17. A random split of single chips is the first row. As the threshold "
    "sinks from 1, copies leave the other side of the split and the accuracy falls; where it no longer does, no copies "
    "are left to find. mixed: groups that carry more than one class, i.e. one picture under several names."
)
APART_NOTE = (
    "Largest similarity among images that are no copies of each other: a false join happens above the threshold. "
    "points: six bright spots within 16 px of the middle of dark speckle, which is as alike as different targets get. "
    "targets: simulated chips, one class a layout of scatterers, so that many pairs are one target turned otherwise."
)


def main() -> None:
    """Writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    seeds = parser.parse_args().seeds
    run_with_one_thread()
    paths = sorted((SHARED / "aircraft_chips").rglob("*.jpg"))
    chips = [np.asarray(Image.open(path)) for path in paths]
    labels = np.unique([path.parent.name for path in paths], return_inverse=True)[1]
    by_threshold = [_random_row(chips, labels, seeds), *_acd_rows(chips, labels, seeds)]
    apart = [_apart_row(name, images) for name, images in _apart()]
    sections = [
        Section(title="SAR-ACD by threshold", note=ACD_NOTE, rows=by_threshold),
        Section(title="Images that are no copies", note=APART_NOTE, rows=apart),
        Section(title="Cost", note="Seconds of processor time on one core.", rows=[_cost_row(chips)]),
    ]
    text = write_results("near_copies", "Near-copies", "python tests/benchmarks/bench_near_copies.py", sections)
    sys.stdout.write(text)


def _random_row(chips: list[Any], labels: NDArray[np.int64], seeds: int) -> dict[str, Any]:
    return {"threshold": "none", **_told(np.arange(len(chips)), labels, _pixels(chips), seeds)}


def _acd_rows(chips: list[Any], labels: NDArray[np.int64], seeds: int) -> Iterator[dict[str, Any]]:
    descriptors, pixels = np.stack([describe(chip) for chip in chips]), _pixels(chips)
    for same in THRESHOLDS[::-1]:
        yield {"threshold": same, **_told(find_groups(descriptors, same), labels, pixels, seeds)}


def _told(
    groups: NDArray[np.int64], labels: NDArray[np.int64], pixels: NDArray[np.float32], seeds: int
) -> dict[str, Any]:
    sizes = np.bincount(groups)
    found = [_nearest(pixels, labels, split_groups(groups, labels, SHARES, seed)) for seed in range(seeds)]
    return {
        "groups": len(sizes),
        "largest": int(sizes.max()),
        "of one": int((sizes == 1).sum()),
        "of four": int((sizes == 4).sum()),
        "mixed": contradictions(groups, labels),
        "pixel 1-NN": f"{np.mean(found):.3f} ± {np.std(found):.3f}",
    }


def _pixels(chips: list[Any]) -> NDArray[np.float32]:
    return np.stack([np.nan_to_num(centre_window(chip, SIDE_PX)).ravel() for chip in chips])


def _nearest(pixels: NDArray[np.float32], labels: NDArray[np.int64], splits: NDArray[np.str_]) -> float:
    known, asked = splits == "train", splits == "test"
    distance2 = (pixels[known] ** 2).sum(axis=1) - 2 * pixels[asked] @ pixels[known].T
    return float((labels[known][distance2.argmin(axis=1)] == labels[asked]).mean())


def _apart() -> Iterator[tuple[str, list[NDArray[Any]]]]:
    rng = np.random.default_rng(0)
    yield "single-look speckle", [40 * np.sqrt(rng.gamma(1, 1, (SIDE_PX, SIDE_PX))) for _ in range(150)]
    yield "points", [_points(rng) for _ in range(150)]
    yield "targets", list(_targets())
    yield "flood chips, 64 px, dB", list(_windows("flood_chips/s1", 96))
    yield "S1RTC, 64 px, dB", list(_windows("s1s2_rtc_pairs/S1RTC", 72))


def _points(rng: np.random.Generator) -> NDArray[np.float64]:
    image = rng.gamma(1, 2, (SIDE_PX, SIDE_PX)) + 3
    for row, col in rng.integers(24, 40, (6, 2)):
        image[row - 1 : row + 2, col - 1 : col + 2] += rng.uniform(100, 250)
    return np.minimum(image, 255)


def _targets() -> Iterator[NDArray[Any]]:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tempfile import TemporaryDirectory  # noqa: PLC0415

    from support.simulated_sets import write_target_chips  # noqa: PLC0415

    with TemporaryDirectory() as folder:
        for path in sorted(write_target_chips(Path(folder), per_class=25).rglob("*.png")):
            yield np.array(Image.open(path))


def _windows(folder: str, step_px: int) -> Iterator[NDArray[Any]]:
    for path in sorted((SHARED / folder).glob("*.tif")):
        with rasterio.open(path) as raster:
            band = raster.read(1)
        for row in range(0, band.shape[0] - SIDE_PX + 1, step_px):
            for col in range(0, band.shape[1] - SIDE_PX + 1, step_px):
                if np.isfinite(cut := band[row : row + SIDE_PX, col : col + SIDE_PX]).all():
                    yield cut


def _apart_row(name: str, images: Iterable[NDArray[Any]]) -> dict[str, Any]:
    descriptors = np.stack([describe(image) for image in images])
    likeness = similarity(descriptors, *np.triu_indices(len(descriptors), 1))
    return {
        "images": name,
        "pairs": len(likeness),
        "median": float(np.median(likeness)),
        "99.9 %": float(np.percentile(likeness, 99.9)),
        "largest": float(likeness.max()),
        f"above {SAME}": int((likeness >= SAME).sum()),
    }


def _cost_row(chips: list[Any]) -> dict[str, Any]:
    start = time.process_time()
    descriptors = np.stack([describe(chip) for chip in chips])
    described = time.process_time()
    pairs = len(candidates(descriptors).first)
    survey = time.process_time()
    find_groups(descriptors)
    return {
        "images": len(chips),
        "describe": described - start,
        "candidate pairs": pairs,
        "candidates": survey - described,
        "groups, candidates included": time.process_time() - survey,
        "window px": near_copies.WINDOW_PX,
    }


if __name__ == "__main__":
    main()
