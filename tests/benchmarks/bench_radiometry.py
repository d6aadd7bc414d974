"""Calibration, thermal noise and border masking: speed on one core, and the tables of radiometry_tables.

    python tests/benchmarks/bench_radiometry.py [--rounds 15]

One window of 2048 x 2048 pixels across the seam of IW1 and IW2, with both look-up tables and the azimuth factors,
from digital numbers to float32 sigma nought. Variants in turn, CPU time of one thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from measure import Clock, Section, Spread, run_with_one_thread, write_results
from radiometry_tables import all_tables, cases, real

from sar1m.core.radar.border import DEPTH_PX, EdgeStrip, edge_depth
from sar1m.core.radar.calibration import calibrate, nesz
from sar1m.core.radar.product import GrdChannel, ImageWindow, LutVectors
from sar1m.io.safe.product import read_product

WINDOW = ImageWindow(line=3000, sample=7800, lines=2048, samples=2048)
Power = npt.NDArray[np.floating[Any]]


def factory_channel() -> GrdChannel:
    """Tables of the size real ones have, where no real product is at hand."""
    at, samples = range(0, 17_400, 668), [np.arange(0, 26_140, 40)] * 27
    sigma = cases.table(at, samples, lambda line, s: 660.0 - s / 260)
    noise = cases.table(at, samples, lambda line, s: 1500.0 + 900 * np.cos(s / 1400) + line / 50)
    edges = (0, 8760, 17_561, 26_144)
    blocks = [cases.block(f"IW{k + 1}", (0, 16_675), (edges[k], edges[k + 1] - 1), (1.0, 1.1)) for k in range(3)]
    return cases.channel(sigma, noise, azimuth=blocks)


def plain_numpy(dn: npt.NDArray[np.uint16], channel: GrdChannel) -> Power:
    """What one writes without a compiler: whole tables by np.interp and one blend, then the formula."""
    assert channel.noise is not None
    noise, factor = _full_table(channel.noise.range_power), np.ones(dn.shape)
    line = np.arange(WINDOW.line, WINDOW.line + WINDOW.lines)
    for block in channel.noise.azimuth:
        left, right = max(block.first_sample - WINDOW.sample, 0), max(block.last_sample + 1 - WINDOW.sample, 0)
        factor[:, left:right] = np.interp(line, block.line, block.factor)[:, None]
    power = (dn.astype(np.float64) ** 2 - noise * factor) / _full_table(channel.sigma) ** 2
    return np.where(dn == 0, np.nan, power).astype(np.float32)


def _full_table(lut: LutVectors) -> Power:
    sample = np.arange(WINDOW.sample, WINDOW.sample + WINDOW.samples)
    line = np.arange(WINDOW.line, WINDOW.line + WINDOW.lines)
    lower = np.searchsorted(lut.line, line, side="right") - 1
    needed = range(int(lower.min()), int(lower.max()) + 2)
    rows = np.stack([np.interp(sample, lut.sample[v], lut.value[v]) for v in needed])
    lower -= needed[0]
    weight = ((line - lut.line[needed[0] :][lower]) / np.diff(lut.line[needed[0] :])[lower])[:, None]
    return rows[lower] * (1 - weight) + rows[lower + 1] * weight


def xarray_variant(dn: npt.NDArray[np.uint16], folder: Path) -> Callable[[], object]:
    """xarray-sentinel's tables interpolated as its calibrate_amplitude does; its (first-swath) azimuth factor."""
    import xarray as xr  # noqa: PLC0415 - only where real annotation is at hand
    from xarray_sentinel import sentinel1  # noqa: PLC0415

    calibration, noise = real.xml_files(real.IW_2021, folder)["VV"]
    gain = sentinel1.open_calibration_dataset(str(calibration)).sigmaNought
    along_range = sentinel1.open_noise_range_dataset(str(noise)).noiseRangeLut
    along_azimuth = sentinel1.open_noise_azimuth_dataset(str(noise)).noiseAzimuthLut
    line = np.arange(WINDOW.line, WINDOW.line + WINDOW.lines)
    sample = np.arange(WINDOW.sample, WINDOW.sample + WINDOW.samples)
    numbers = xr.DataArray(dn, dims=("line", "pixel"), coords={"line": line, "pixel": sample})

    def work() -> object:
        noise_dn2 = along_range.interp(line=line, pixel=sample) * along_azimuth.interp(line=line)
        amplitude = gain.interp(line=line, pixel=sample).astype(np.float32)
        return ((numbers.astype(np.float32) ** 2 - noise_dn2) / amplitude**2).where(numbers > 0)

    return work


def speed(rounds: int) -> Section:
    """Calibration and denoising."""
    present = real.SAFE.is_dir()
    channel = read_product(real.product_path(real.IW_2021)).channels[0] if present else factory_channel()
    rng = np.random.default_rng(0)
    dn = cases.speckled(np.full((WINDOW.lines, WINDOW.samples), 1e4), rng)
    ours = calibrate(dn, WINDOW, channel, "sigma0", denoise=True)
    plain = plain_numpy(dn, channel)
    assert np.nanmax(np.abs(ours / plain - 1)) < 1e-5, "variants compute different things"
    variants: dict[str, Callable[[], object]] = {
        "sar1m, denoised": lambda: calibrate(dn, WINDOW, channel, "sigma0", denoise=True),
        "sar1m, not denoised": lambda: calibrate(dn, WINDOW, channel, "sigma0", denoise=False),
        "sar1m, nesz": lambda: nesz(channel, WINDOW),
        "numpy, denoised": lambda: plain_numpy(dn, channel),
    }
    with tempfile.TemporaryDirectory() as folder:
        if present:
            variants["xarray-sentinel's way, denoised"] = xarray_variant(dn, Path(folder))
        rows = measured(variants, dn.size, rounds)
    note = (
        f"Mpx/s: median (quartiles) of {rounds} rounds, first one (compiling) left out; window {WINDOW.lines} x "
        f"{WINDOW.samples}; {'real annotation (6FF8, VV)' if present else 'tables of like size made here'}; numba "
        f"{version('numba')}. Our and numpy's results agree to {np.nanmax(np.abs(ours / plain - 1)):.1e} relative."
    )
    return Section(title="Calibration and denoising, one core", note=note, rows=rows)


def border_speed(rounds: int) -> Section:
    """Border masking of the strip that a window of 2048 lines at near range needs."""
    lines, samples = 16_705, 26_102
    channel = cases.flat_channel(lines, samples)
    strip = EdgeStrip(edge="near", window=ImageWindow(line=4000, sample=0, lines=2048, samples=DEPTH_PX))
    shape, rng = (strip.window.lines, strip.window.samples), np.random.default_rng(1)
    inward = np.arange(DEPTH_PX) < 500
    scenes = {
        "land to the edge": cases.speckled(np.full(shape, 30 * cases.NOISE_DN2), rng),
        "nothing but noise to the edge": cases.speckled(np.full(shape, cases.NOISE_DN2), rng),
        "500 samples of padding": np.where(inward, 3, cases.speckled(np.full(shape, 8e3), rng)).astype(np.uint16),
        "padding all the way": np.full(shape, 3, np.uint16),
    }
    jobs = {name: (lambda dn=dn: edge_depth(dn, strip, channel)) for name, dn in scenes.items()}
    note = f"Strip of {shape[0]} lines x {shape[1]} samples; reading it from disk is not counted."
    return Section(title="Border masking, one core", note=note, rows=measured(jobs, shape[0] * shape[1], rounds))


def measured(variants: dict[str, Callable[[], object]], pixels: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of Mpx/s and milliseconds; every variant runs once before the clock does."""
    for work in variants.values():
        work()
    clock = Clock()
    clock.rounds(rounds, variants)
    return [
        {
            "variant": name,
            "Mpx/s": str(Spread.of([pixels / s for s in seconds], 1e-6)),
            "ms": 1e3 * statistics.median(seconds),
        }
        for name, seconds in clock.seconds.items()
    ]


def main() -> None:
    """Writes results/radiometry.md and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    sections = [speed(rounds), border_speed(rounds), *all_tables()]
    command = "python tests/benchmarks/bench_radiometry.py"
    sys.stdout.write(write_results("radiometry", "Radiometry of Sentinel-1 GRD", command, sections))


if __name__ == "__main__":
    run_with_one_thread()
    main()
