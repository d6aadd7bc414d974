"""The truth that registration is judged by, and that is not ours: a consensus of six independent estimators.

    python tests/benchmarks/registration_consensus.py [--kept FOLDER]

Writes results/registration-consensus.csv beside this file: numbers only. Data come from ../shared/data and from the
sample package. --kept keeps what was measured of each scene, so that a run broken off goes on; half a minute a scene.

Members (registration_parts/members.py): mutual information of 32 equal-population bins, normalised cross-correlation of
gradient magnitudes, dense histograms of orientation, MIND, phase congruency, local entropy. Rule
(registration_parts/consensus.py): the mean of those within 1 px of their median, of at least four, with equal weights.

Frozen before any estimator of ours was run against it, on simulated worlds and on tile 11SLT alone:
- smoothing of 1.0 px for all (of 1.0, 1.5 and 2.5), equal weights, six members kept;
- one grey channel for 8 bit colour, all pairs of channels where bands and polarisations are at hand;
- for scenes of 1024 px (registration_parts/relief.py): the field of relief taken out, support of 166 px (standard
  deviation; of 83 to 270), scenes left out where the field agrees with less than FOLLOWED of the grid;
- members' mean offsets from the consensus on 11SLT are under 0.05 px in rows and 0.2 px in columns (mutual information
  the most); subtracting them did not lower the spread, so that nothing is subtracted.

Split: 11SLT is for tuning, 11SMT for reporting. Scenes of 11SMT that overlap one of 11SLT are left out, and so are
the eleven whose name, and with it whose picture, is also that of a scene of 11SLT: 87 records are 76 pictures. The
sites of sample and s1s2_rtc_pairs are in neither: the method was made on them.

Columns: row_px, col_px (shift of the optical content against the SAR content); spread_px (standard error by the
members' disagreement); local_px (scenes: what a narrower support changes for all members alike); relief_px
(scenes: variation of shift inside the block of 256 px); sigma_px, the uncertainty of the truth in two dimensions:
sqrt((INFLATION spread)^2 + local^2). INFLATION is the root mean square error over the root mean square spread on 16
simulated worlds at 4.4 looks, where the truth is known: the members see the same speckle. strong: spread of at most
0.15 px, and, for scenes, relief of at most 0.5 px.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from registration_parts.consensus import Consensus, agreed, site_consensus
from registration_parts.members import F32, MEMBERS
from registration_parts.pairs import Pair, rtc_pairs, sample_pairs, simulated_pairs
from registration_parts.relief import PLACES_PX, Scene, measure_scene

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "s1s2_vh_rgb"
RESULTS = Path(__file__).with_name("results") / "registration-consensus.csv"
INFLATION = 1.37
STRONG_PX, FLAT_PX = 0.15, 0.5
FOLLOWED = 0.8
SAR_FLOOR_LINEAR = 10**-3.5
BLOCK_PX = 256
Row = dict[str, Any]


def site_row(name: str, pair: Pair) -> tuple[Row, Consensus]:
    """Truth of a whole chip: bands and polarisations summed; reach 12 px, 8 on chips of 120."""
    size = pair.sar.shape[-1]
    sar = np.log(np.maximum(pair.sar, np.float32(SAR_FLOOR_LINEAR)))
    consensus = site_consensus(sar, np.sqrt(np.maximum(pair.optical, 0)), reach_px=12 if size > 200 else 8)
    known = {"set": name, "pair": pair.name, "split": "sites", "row0": 0, "col0": 0, "size": size}
    return _row(known, consensus, local_px=0.0, relief_px=0.0), consensus


def scene_rows(known: Row, scene: Scene) -> Iterator[Row]:
    """Truths of nine blocks of 256 px of one scene; none where the field of relief does not follow."""
    if scene.followed < FOLLOWED:
        return
    local_px, estimates = scene.local_px(), scene.estimates()
    for i, row in enumerate(PLACES_PX):
        for j, col in enumerate(PLACES_PX):
            place = {"row0": row - BLOCK_PX // 2, "col0": col - BLOCK_PX // 2, "size": BLOCK_PX}
            relief_px = float(scene.relief_px[i, j])
            yield _row({**known, **place}, agreed(estimates[i, j]), local_px=local_px, relief_px=relief_px)


def scene_list() -> list[Row]:
    """Scenes of s1s2_vh_rgb with their split, without those of 11SMT that overlap one of 11SLT."""
    if not FOLDER.exists():
        return []
    records = json.loads((FOLDER / "pairs.json").read_text(encoding="utf-8"))
    boxes = {one["name"]: (np.min(one["corners_epsg3395"], 0), np.max(one["corners_epsg3395"], 0)) for one in records}
    tune = [boxes[one["name"]] for one in records if "_T11SLT_" in one["s2"]]
    rows = []
    for one in records:
        is_tune = "_T11SLT_" in one["s2"]
        if is_tune or not any(_overlap(boxes[one["name"]], other) for other in tune):
            rows.append({"set": "s1s2_vh_rgb", "pair": one["name"], "split": "tune" if is_tune else "test"})
    return rows


def scene_images(name: str) -> tuple[F32, F32]:
    """Radar amplitude (1, 1024, 1024) as stored, 0 to 255, and optical brightness (3, 1024, 1024), 0 to 1."""
    with Image.open(FOLDER / "sar" / f"{name}.png") as radar, Image.open(FOLDER / "optical" / f"{name}.jpg") as colour:
        amplitude = np.asarray(radar, np.float32)[None]
        return amplitude, np.moveaxis(np.asarray(colour, np.float32), -1, 0) / np.float32(255)


def measured(name: str, kept: Path | None) -> Scene:
    """The measurement of one scene, from the folder kept where it lies there."""
    path = kept / f"{name}.npz" if kept else None
    if path and path.exists():
        with np.load(path) as stored:
            return Scene(**{**stored, "followed": float(stored["followed"])})
    amplitude, optical = scene_images(name)
    scene = measure_scene(np.log(np.maximum(amplitude, 1)), np.sqrt(optical).mean(axis=0, keepdims=True))
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(scene))
    return scene


def known_truth(count: int) -> float:
    """Root mean square error of the consensus over root mean square spread, on simulated worlds: INFLATION."""
    errors, spreads = [], []
    for pair in simulated_pairs(4.4, count):
        _, consensus = site_row("simulated", pair)
        assert pair.truth_px is not None
        errors.append(np.hypot(consensus.row_px - pair.truth_px[0], consensus.col_px - pair.truth_px[1]))
        spreads.append(consensus.sigma_px)
    return float(np.sqrt(np.nanmean(np.square(errors)) / np.nanmean(np.square(spreads))))


def _overlap(one: tuple[Any, Any], other: tuple[Any, Any]) -> bool:
    sides = np.minimum(one[1], other[1]) - np.maximum(one[0], other[0])
    return bool((sides > 20).all())  # metres: tiles side by side touch


def _row(known: Row, consensus: Consensus, *, local_px: float, relief_px: float) -> Row:
    spread = consensus.sigma_px
    strong = spread <= STRONG_PX and relief_px <= FLAT_PX
    figures = {
        "row_px": consensus.row_px,
        "col_px": consensus.col_px,
        "sigma_px": float(np.hypot(INFLATION * spread, local_px)),
        "spread_px": spread,
        "local_px": local_px,
        "relief_px": relief_px,
    }
    each = {
        f"{member.name}_{axis}": float(value)
        for member, pair in zip(MEMBERS, consensus.estimates, strict=True)
        for axis, value in zip(("row", "col"), pair, strict=True)
    }
    rounded = {name: "" if np.isnan(value) else f"{value:.3f}" for name, value in {**figures, **each}.items()}
    strength = "none" if np.isnan(spread) else "strong" if strong else "weak"
    return {**known, "strength": strength, "kept": consensus.kept, **rounded}


def main() -> None:
    """Measure every pair at hand and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kept", type=Path, help="folder of measured scenes, made and used again")
    arguments = parser.parse_args()
    rows = [site_row(name, pair)[0] for name, pairs in _SITES.items() for pair in pairs()]
    for known in scene_list():
        rows += scene_rows(known, measured(known["pair"], arguments.kept))
    with RESULTS.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{len(rows)} windows; error over spread on simulated worlds {known_truth(16):.2f}")


_SITES = {"sample": sample_pairs, "s1s2_rtc_pairs": rtc_pairs}


if __name__ == "__main__":
    main()
