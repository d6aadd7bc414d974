"""How far the chain from a SAFE product to a map is from the truth of simulated scenes.

    python tests/benchmarks/bench_truth.py [--quick]

The chain is the pipeline's own (truth_chain.py); the scenes are those of sarworld.safe, whose geometry follows
the closed form of an orbit and whose echo is summed over facets finer than the flattening's. Writes results/truth.md
and results/truth.json beside this file. Some five minutes on one core.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import platform
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from truth_chain import (
    Geocoded,
    bias_db,
    block_grid,
    geocode_gamma0,
    geocode_sigma0,
    imaged_block,
    overlap,
    padded_heights,
    position_error_px,
    reflector_grid,
)

from sar1m.core.radar.border import edge_depth, edge_strips, valid_samples
from sar1m.core.radar.calibration import nesz
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention, ImageWindow
from sar1m.core.speckle import estimate_enl
from sar1m.io.dem.heights import open_dem
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.product import read_product
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import AcquisitionSpec, Ground, Partners, SceneSpec, Signal
from sarworld.safe.truth import SafeTruth

RESULTS = Path(__file__).with_name("results") / "truth"
UNDULATION_M = 48.6
QUIET = Partners(optical=False)
METHODS = ("nearest", "bilinear", "cubic")
CLASSES = ((0, 10), (10, 20), (20, 30), (30, 45))
Row = dict[str, Any]


class Campaign:
    """Scenes of one size, each written once, and the tables made of them."""

    def __init__(self, folder: Path, lines: int, samples: int) -> None:
        self.folder, self.base = folder, SceneSpec(lines=lines, samples=samples, partners=QUIET)
        self.count = 0

    def scene(self, **changes: Any) -> SafeTruth:
        self.count += 1
        return write_scene(self.folder / str(self.count), replace(self.base, **changes))

    # ---- position ----

    def positions(self) -> list[Row]:
        rows = []
        for label, relief_m in (("level", 0.0), ("hills, std 60 m", 60.0), ("steep, std 150 m", 150.0)):
            for dem in ("utm", "lonlat"):
                truth = self.surveyed(relief_m, replace(QUIET, dem=dem))
                block = imaged_block(truth)
                heights_m = open_dem([truth.path.parent / "dem"], datum="ellipsoid").heights(block_grid(truth, block))
                for method in METHODS if dem == "utm" else ("bilinear",):
                    found = geocode_sigma0(truth, heights_m, block, self.folder, method=method)
                    dem_label = "10 m" if dem == "utm" else "1 arc second"
                    rows.append({"ground": label, "dem": dem_label, "resampling": method} | _errors(truth, found))
        return rows

    def surveyed(self, relief_m: float, partners: Partners, gap_px: float = 2.0) -> SafeTruth:
        pitch_m = self.base.samples * 10 / 12
        ground = Ground(relief_m=relief_m, gamma0_db=-20.0, reflectors=reflector_grid(7, pitch_m))
        return self.scene(ground=ground, acquisition=AcquisitionSpec(rule_gap_px=gap_px), partners=partners)

    def mistakes(self) -> list[Row]:
        truth = self.surveyed(60.0, replace(QUIET, undulation=lambda lon, lat: UNDULATION_M + 0.0 * (lon + lat)), 3.0)
        block = imaged_block(truth)
        right_m = open_dem([truth.path.parent / "dem"]).heights(block_grid(truth, block))
        level_m = np.full(right_m.shape, float(truth.map.height_m.mean()))
        mixed = {
            "none (orthometric DEM and geoid grid)": (right_m, None),
            "geoid left out (48.6 m)": (right_m - UNDULATION_M, None),
            "no DEM: level ground at the mean height": (level_m, None),
            "both rules of the geolocation grid (gap 3 px)": (right_m, GEOLOCATION_GRID),
            "its azimuth rule alone": (right_m, replace(GEOLOCATION_GRID, ground_range="interpolated")),
        }
        return [
            {"mistake": label}
            | _errors(truth, geocode_sigma0(truth, heights_m, block, self.folder, convention=convention), reach_px=20)
            for label, (heights_m, convention) in mixed.items()
        ]

    def delays(self) -> list[Row]:
        """Images that hold the atmosphere's delay and the bistatic term, geocoded with and without each."""
        both = Convention(azimuth="geolocation_grid", troposphere="standard_atmosphere")
        taken_off = {
            "both": both,
            "bistatic term alone": replace(both, troposphere="none"),
            "atmosphere alone": replace(both, azimuth="zero_doppler"),
            "none": Convention(),
        }
        rows = []
        for incidence_deg in (31.0, 38.0, 45.0):
            ground = Ground(relief_m=60.0, gamma0_db=-20.0, reflectors=reflector_grid(7, self.base.samples * 10 / 12))
            taken = AcquisitionSpec(incidence_deg=incidence_deg, convention=both)
            truth = self.scene(ground=ground, acquisition=taken)
            block = imaged_block(truth)
            heights_m = padded_heights(truth, block_grid(truth, block))
            for label, convention in taken_off.items():
                found = geocode_sigma0(truth, heights_m, block, self.folder, convention=convention)
                rows.append({"incidence_deg": incidence_deg, "taken off": label} | _errors(truth, found))
        return rows

    # ---- radiometry ----

    def sigma0(self) -> list[Row]:
        rows = []
        for gamma0_db in (-8.0, -15.0, -23.0):
            for looks in (None, 4.4):
                ground = Ground(relief_m=0.0, gamma0_db=gamma0_db, facets=2)
                truth = self.scene(ground=ground, signal=Signal(looks=looks))
                block = imaged_block(truth)
                heights_m = padded_heights(truth, block_grid(truth, block))
                found = geocode_sigma0(truth, heights_m, block, self.folder)
                true = 10 ** (gamma0_db / 10) * np.cos(np.radians(truth.map.incidence_deg[block]))
                for at, channel in enumerate(truth.product.channels):
                    parts = {
                        part.swath: _between(truth.map.sample[block], part.first_sample, part.last_sample)
                        for part in channel.noise.azimuth
                    }
                    row: Row = {"gamma0_db": gamma0_db, "looks": looks or "mean", "channel": channel.polarisation}
                    rows.append(row | {swath: bias_db(found.power[at], true, w)[0] for swath, w in parts.items()})
        return rows

    def flattening(self) -> list[Row]:
        pure, real = Signal(looks=None, noise_scale=0.0), Signal(resolved=True)
        cases = {
            "uniform, sharp pixels": (Ground(relief_m=250.0, gamma0_db=-12.0), pure),
            "uniform, 20 m resolution": (Ground(relief_m=250.0, gamma0_db=-12.0), replace(pure, resolved=True)),
            "uniform, 20 m resolution, sharp area": (
                Ground(relief_m=250.0, gamma0_db=-12.0),
                replace(pure, resolved=True),
            ),
            "uniform, 4.4 looks and noise": (Ground(relief_m=250.0, gamma0_db=-12.0), real),
            "materials, 4.4 looks and noise": (Ground(relief_m=250.0), real),
        }
        rows = []
        for label, (ground, signal) in cases.items():
            truth = self.scene(ground=ground, signal=signal)
            block = imaged_block(truth)
            resolution_px = 0.0 if "sharp area" in label else None
            found = geocode_gamma0(truth, block, self.folder, resolution_px=resolution_px)
            rows += _by_slope(label, truth, found, block)
        return rows

    def masks(self) -> list[Row]:
        rows = []
        for relief_m in (250.0, 400.0):
            truth = self.scene(ground=Ground(relief_m=relief_m, gamma0_db=-12.0, facets=1))
            block = imaged_block(truth)
            terrain = geocode_gamma0(truth, block, self.folder).terrain
            layover, shadow = truth.map.layover[block], truth.map.shadow[block]
            apart = np.abs(terrain.incidence_deg - truth.map.local_incidence_deg[block])
            rows.append(
                {
                    "relief_m": relief_m,
                    "layover_true": float(layover.mean()),
                    "layover_iou": overlap(terrain.layover, layover),
                    "shadow_true": float(shadow.mean()),
                    "shadow_iou": overlap(terrain.shadow, shadow) if shadow.any() else None,
                    "either_iou": overlap(terrain.layover | terrain.shadow, layover | shadow),
                    "local_incidence_worst_deg": float(np.nanmax(apart[~shadow])),
                }
            )
        return rows

    def noise_and_border(self) -> list[Row]:
        rows = []
        for ipf, garbage in (("003.31", False), ("002.70", True)):
            spec = AcquisitionSpec(ipf=ipf)
            truth = self.scene(acquisition=spec, signal=Signal(border_garbage=garbage, blank_px=60))
            product = read_product(truth.path)
            lines, samples = truth.image.valid.shape
            window = ImageWindow(line=0, sample=0, lines=lines, samples=samples)
            channel = product.channels[0]
            depths = [
                edge_depth(read_dn(truth.path, product, channel, strip.window, self.folder), strip, channel)
                for strip in edge_strips(window, lines, samples)
            ]
            dn = read_dn(truth.path, product, channel, window, self.folder)
            kept = valid_samples(window, depths) & (dn > 0)
            valid = truth.image.valid
            mean_nesz = float(truth.image.nesz[0].mean(dtype=np.float64))
            rows.append(
                {
                    "ipf": ipf,
                    "nesz_error_db": float(10 * np.log10(nesz(channel, window) / mean_nesz)),
                    "padding_kept": float((kept & ~valid).sum() / (~valid).sum()),
                    "signal_lost": float((~kept & valid).sum() / valid.sum()),
                }
            )
        return rows

    def looks(self) -> list[Row]:
        rows = []
        for correlated in (False, True):
            ground = Ground(relief_m=0.0, gamma0_db=-8.0, facets=1)
            truth = self.scene(ground=ground, signal=Signal(correlated=correlated, noise_scale=0.0))
            block = imaged_block(truth)
            heights_m = padded_heights(truth, block_grid(truth, block))
            for method in METHODS:
                power = geocode_sigma0(truth, heights_m, block, self.folder, method=method).power[0]
                row: Row = {"speckle": "correlated" if correlated else "independent", "resampling": method}
                rows.append(row | {f"window_{w}": estimate_enl(power, window=w).value for w in (5, 7, 11, 15)})
        return rows


def _between(sample: np.ndarray, first: int, last: int) -> np.ndarray:
    return (sample > first + 1) & (sample < last - 1)


def _errors(truth: SafeTruth, found: Geocoded, *, reach_px: int = 6) -> Row:
    left, bottom, right, top = found.grid.bounds_m
    keep_m = 20.0 * reach_px + 30
    inside = [
        known
        for known in truth.reflectors
        if left + keep_m < known.x_m < right - keep_m and bottom + keep_m < known.y_m < top - keep_m
    ]
    errors = np.array([position_error_px(found.power[0], found.grid, known, reach_px=reach_px) for known in inside])
    distance = np.hypot(*errors.T)
    return {
        "n": len(inside),
        "mean_right_px": float(errors[:, 0].mean()),
        "mean_down_px": float(errors[:, 1].mean()),
        "rms_px": float(np.sqrt((distance**2).mean())),
        "worst_px": float(distance.max()),
    }


def _by_slope(label: str, truth: SafeTruth, found: Geocoded, block: tuple[slice, slice]) -> list[Row]:
    """Bias of gamma nought by how far the ground is turned towards the radar or away from it."""
    on_map = truth.map
    clear = ~(on_map.layover | on_map.shadow)[block]
    facing_deg = (on_map.incidence_deg - on_map.local_incidence_deg)[block]
    rows = []
    for side, sign in (("facing", 1), ("away", -1)):
        for low, high in CLASSES:
            in_class = clear & (sign * facing_deg >= low) & (sign * facing_deg < high)
            row: Row = {"scene": label, "slope": f"{side} {low}-{high}"}
            for at, channel in enumerate(truth.product.channels):
                row[f"{channel.polarisation}_db"], row["pixels"] = bias_db(
                    found.power[at], on_map.gamma0[at][block], in_class
                )
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio_db = 10 * np.log10(found.power[0] / on_map.gamma0[0][block])
            row["VV_p95_abs_db"] = float(np.nanpercentile(np.abs(ratio_db[in_class]), 95)) if in_class.any() else None
            rows.append(row)
    return rows


TABLES: dict[str, tuple[str, Callable[[Campaign], list[Row]]]] = {
    "positions": ("Corner reflectors after geocoding, against their survey (goal: 0.1 px)", Campaign.positions),
    "mistakes": ("What mistakes cost, on hills (std 60 m), incidence 38 degrees", Campaign.mistakes),
    "delays": ("Images that hold atmosphere and bistatic term, hills (std 60 m)", Campaign.delays),
    "sigma0": ("Bias of sigma nought on level ground by swath, dB (goal: 0.05)", Campaign.sigma0),
    "flattening": ("Bias of flattened gamma nought by slope, dB (goal: 0.2)", Campaign.flattening),
    "masks": ("Layover, shadow, local incidence", Campaign.masks),
    "noise_and_border": ("Noise level, and padding with garbage (IPF before 2.9)", Campaign.noise_and_border),
    "looks": ("Equivalent looks of geocoded sigma nought; the image has 4.4", Campaign.looks),
}


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def _table(rows: list[Row]) -> str:
    names = list(rows[0])
    lines = ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    return "\n".join(lines + ["| " + " | ".join(_cell(row.get(name)) for name in names) + " |" for row in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="scenes of 500 x 600, for a look")
    arguments = parser.parse_args()
    size = (500, 600) if arguments.quick else (1200, 1400)
    found: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), *size)
        for name, (title, make) in TABLES.items():
            found[name] = make(campaign)
            print(f"\n## {title}\n\n{_table(found[name])}", flush=True)
    if arguments.quick:
        return
    RESULTS.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    RESULTS.with_suffix(".md").write_text(report(found, size), encoding="utf-8")


def report(found: dict[str, list[Row]], size: tuple[int, int]) -> str:
    """The page that stands beside the figures."""
    head = (
        "# From SAFE to map, against truth\n\n"
        f"`python tests/benchmarks/bench_truth.py` · scenes {size[0]} x {size[1]} px · numpy {np.__version__} · "
        f"python {platform.python_version()} · date {datetime.now(tz=UTC):%Y-%m-%d}\n\n"
        "Scenes are simulated, so these figures judge the chain's arithmetic, not Sentinel-1: which convention real\n"
        "pixels follow, weather and real DEM errors are not in them. Biases are ratios of means over the class.\n"
        "Rows with 4.4 looks carry the scatter of one draw of correlated speckle: about 0.02 dB over a swath's part\n"
        "at -15 dB, 0.03 at -23; rows `mean` have noise and no speckle. The scatter of reflectors grows with slope,\n"
        "their mean does not: probably relief stretches their responses unevenly. `20 m resolution` blurs the image\n"
        "with Sentinel-1's impulse response; the flattening's area is blurred alike but where `sharp area` is said.\n"
    )
    return head + "".join(f"\n## {title}\n\n{_table(found[name])}\n" for name, (title, _) in TABLES.items())


if __name__ == "__main__":
    main()
