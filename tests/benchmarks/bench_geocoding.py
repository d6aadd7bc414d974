"""Speed and faithfulness of geocoding and terrain flattening.

    OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/bench_geocoding.py > report.md

A pixel is one pixel of the map block (1056 x 1056, margin not counted) with both its polarisations. Times are
processor time of one core, all variants in turn, round after round: median (and best) over the rounds.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sar1m.core.radar.facets import lit_area
from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import fit_lattice
from sar1m.core.radar.product import Convention
from sar1m.core.radar.shadow import layover_and_shadow
from sar1m.core.radar.sight import fit_sight
from sar1m.core.radar.terrain import flatten, margin_px
from sar1m.io.safe.product import read_product
from support import orbit_scene

ROME = Path(__file__).resolve().parents[3] / "shared/data/s1_safe_annotations/rome/data"
SIZE = 1056
COLD = """
import sys, time
sys.path.insert(0, {folder!r})
start = time.perf_counter()
import numpy as np, orbit_scene
from sar1m.core.radar.geocode import resample
from sar1m.core.radar.lattice import fit_lattice
from sar1m.core.radar.product import Convention
from sar1m.core.radar.terrain import flatten
loaded = time.perf_counter()
scene = orbit_scene.scene()
lattice = fit_lattice(scene, orbit_scene.block_grid(scene, 8000, 12000, 64, 64), (0.0, 9.0), Convention())
window, heights = lattice.window(), np.zeros((64, 64))
resample(np.ones((2, window.lines, window.samples), dtype=np.float32), window, lattice, heights)
geocoded = time.perf_counter()
flatten(lattice, heights, (8, 8), window)
print(loaded - start, geocoded - loaded, time.perf_counter() - geocoded)
"""


class Block:
    """A block with fractal relief, its margin, lattices, window and a speckled image of two polarisations."""

    def __init__(self, geometry, relief_m, spacing_px=64):
        grid = orbit_scene.block_grid(geometry, 8000, 12000, SIZE, SIZE)
        self.relief_m = relief_m
        level = fit_lattice(geometry, grid, (0.0, relief_m), Convention(), spacing_px)
        self.margin = margin_px(level, relief_m)
        wide = grid.window(-self.margin[0], -self.margin[1], SIZE + 2 * self.margin[0], SIZE + 2 * self.margin[1])
        self.wide_m = fractal((wide.rows, wide.cols), relief_m)
        span_m = (float(self.wide_m.min()), float(self.wide_m.max()))
        self.fit = lambda: fit_lattice(geometry, wide, span_m, Convention(), spacing_px)
        self.wide = self.fit()
        self.lattice = self.wide.crop(*self.margin)
        self.window = self.lattice.window()
        rows, cols = self.margin
        self.height_m = np.ascontiguousarray(self.wide_m[rows:-rows, cols:-cols])
        shape = (2, self.window.lines, self.window.samples)
        self.image = np.random.default_rng(0).gamma(4.4, 1 / 4.4, shape).astype(np.float32)

    def flattened(self):
        """The whole use: factor, one multiplication, one resampling, masks."""
        terrain = flatten(self.wide, self.wide_m, self.margin, self.window, resolution_px=2.2)
        return resample(self.image * terrain.area_factor, self.window, self.lattice, self.height_m), terrain


def fractal(shape, relief_m, seed=0):
    """Relief with a power law spectrum, smooth under some 80 m as DEMs are; about the relief asked for."""
    size = 2 * max(shape)
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = 1.0
    spectrum = rng.normal(size=frequency.shape) + 1j * rng.normal(size=frequency.shape)
    field = np.fft.irfft2(spectrum * frequency**-1.9 * np.exp(-((6 * frequency) ** 2)), s=(size, size))
    field = field[: shape[0], : shape[1]]
    return (relief_m * (field - field.min()) / np.ptp(field)).astype(np.float32)


def rounds(variants, count):
    """Seconds (count,) of each variant, in turn."""
    for run in variants.values():
        run()
    taken = {name: [] for name in variants}
    for _ in range(count):
        for name, run in variants.items():
            start = time.process_time()
            run()
            taken[name].append(time.process_time() - start)
    return taken


def print_rounds(taken):
    print("| what | median ms | best ms | Mpx/s median | Mpx/s best |\n|---|---|---|---|---|")
    for name, seconds in taken.items():
        median_s, best_s = float(np.median(seconds)), float(np.min(seconds))
        rates = f"{SIZE**2 / median_s / 1e6:.0f} | {SIZE**2 / best_s / 1e6:.0f}"
        print(f"| {name} | {median_s * 1e3:.1f} | {best_s * 1e3:.1f} | {rates} |")
    print()


def print_terrain(name, block):
    slope_deg = np.degrees(np.arctan(np.hypot(*np.gradient(block.wide_m / 10))))
    terrain = block.flattened()[1]
    share = block.wide_m.size / SIZE**2
    print(f"## {name}, relief {block.relief_m} m\n")
    print(f"Slope: median {np.median(slope_deg):.0f}, 99 % {np.percentile(slope_deg, 99):.0f} degrees.")
    print(f"Margin {block.margin} px ({share:.2f} blocks). Window {block.window.lines} x {block.window.samples}.")
    print(f"Layover {terrain.layover.mean():.1%}, shadow {terrain.shadow.mean():.2%}.")
    print(f"Worst error of the lattice {block.wide.error_px:.4f} px.\n")


def variants_of(block):
    """What is timed on a block, by name."""
    line, sample = orbit_scene.map_coordinates(block.lattice, block.height_m)
    at = np.stack((line - block.window.line, sample - block.window.sample))
    sight = fit_sight(block.wide)
    shadow = np.zeros(block.wide_m.shape, dtype=bool)
    given = (block.image, block.window, block.lattice, block.height_m)
    return {
        "bilinear": lambda: resample(*given),
        "nearest": lambda: resample(*given, "nearest"),
        "cubic": lambda: resample(*given, "cubic"),
        "coordinates alone": lambda: orbit_scene.map_coordinates(block.lattice, block.height_m),
        "lattice fit with its check": block.fit,
        "scipy map_coordinates, coordinates given": lambda: [map_coordinates(p, at, order=1) for p in block.image],
        "**flattened, masks, incidence, bilinear**": block.flattened,
        "of which lit area": lambda: lit_area(block.wide, block.wide_m, sight, shadow, block.window),
        "of which layover and shadow": lambda: layover_and_shadow(block.wide_m, sight),
    }


def speed(geometry, name, reliefs, count):
    for relief_m in reliefs:
        block = Block(geometry, relief_m)
        print_terrain(name, block)
        print_rounds(rounds(variants_of(block), count))


def spacings(geometry, count):
    print("## Spacing of the lattice, relief 2000 m, bilinear, two polarisations\n")
    print("| spacing px | error px | fit ms | resample ms | Mpx/s without fit | with fit |\n|---|---|---|---|---|---|")
    for spacing_px in (32, 64, 128, 256):
        b = Block(geometry, 2000, spacing_px)
        taken = rounds(
            {"fit": b.fit, "resample": lambda b=b: resample(b.image, b.window, b.lattice, b.height_m)}, count
        )
        fit_s, run_s = (float(np.median(taken[key])) for key in ("fit", "resample"))
        rate, whole = SIZE**2 / run_s / 1e6, SIZE**2 / (run_s + fit_s) / 1e6
        times = f"{fit_s * 1e3:.1f} | {run_s * 1e3:.1f}"
        print(f"| {spacing_px} | {b.wide.error_px:.4f} | {times} | {rate:.0f} | {whole:.0f} |")
    print()


def spread_out(field, block):
    """A field (2, 2, 2) of the line of sight at every cell between pixels, at its height."""
    rows, cols = (size - 1 for size in block.wide_m.shape)
    down, right = ((np.arange(size) + 0.5) / size for size in (rows, cols))
    middle, change = (
        np.outer(1 - down, 1 - right) * f[0, 0]
        + np.outer(1 - down, right) * f[0, 1]
        + np.outer(down, 1 - right) * f[1, 0]
        + np.outer(down, right) * f[1, 1]
        for f in field
    )
    u = (block.wide_m[:-1, :-1] - block.wide.mid_height_m) / block.wide.half_height_m
    return middle + u * change


def points(block, split):
    """Lit area by point facets, split x split a cell, spread bilinearly: what the segments are held against."""
    height_m, wide = block.wide_m.astype(np.float64), block.wide
    sight = fit_sight(wide)
    flat, per_col, per_row = (spread_out(field, block) for field in (sight.flat, sight.per_col, sight.per_row))
    area = np.zeros((block.window.lines, block.window.samples))
    rows = height_m.shape[0]
    line, sample = (c.astype(np.float64) for c in wide.coordinates(np.arange(float(rows)), block.wide_m, block.window))
    for i in range(split):
        for j in range(split):
            y, x = (i + 0.5) / split, (j + 0.5) / split

            def within(f, y=y, x=x):
                upper, lower = f[:-1], f[1:]
                upper, lower = upper[:, :-1] * (1 - x) + upper[:, 1:] * x, lower[:, :-1] * (1 - x) + lower[:, 1:] * x
                return upper * (1 - y) + lower * y

            over = np.diff(height_m, axis=1)
            down = np.diff(height_m, axis=0)
            rise = per_col * (over[:-1] * (1 - y) + over[1:] * y) + per_row * (down[:, :-1] * (1 - x) + down[:, 1:] * x)
            lit = np.maximum(flat + rise, 0) / split**2
            at_line, at_sample = within(line), within(sample)
            first, second = np.floor(at_line).astype(int), np.floor(at_sample).astype(int)
            inside = (first >= 0) & (first < area.shape[0] - 1) & (second >= 0) & (second < area.shape[1] - 1)
            for m in (0, 1):
                for n in (0, 1):
                    weight = np.abs(1 - m - (at_line - first)) * np.abs(1 - n - (at_sample - second)) * lit
                    flat_index = (first + m) * area.shape[1] + second + n
                    area += np.bincount(flat_index[inside], weight[inside], area.size).reshape(area.shape)
    return area


def aliasing(geometry):
    print("## Aliasing of the lit area (dB rms against 12 x 12 point facets, outside layover and shadow)\n")
    print("| relief m | points 1 x 1 | points 2 x 2 | segments (ours) |\n|---|---|---|---|")
    for relief_m in (0, 500, 2000):
        b = Block(geometry, relief_m)
        reference = points(b, 12)
        sight = fit_sight(b.wide)
        layover, shadow = layover_and_shadow(b.wide_m, sight)
        rows, cols = b.margin
        clear = ~gaussian_filter((layover | shadow).astype(np.float32), 4)[rows:-rows, cols:-cols].astype(bool)
        found = [points(b, 1), points(b, 2), lit_area(b.wide, b.wide_m, sight, np.zeros_like(shadow), b.window)]

        def seen(area, b=b):
            return resample(np.asarray(area, dtype=np.float32)[None], b.window, b.lattice, b.height_m)[0]

        wanted = seen(reference)
        spread = []
        for area in found:
            off_db = 10 * np.log10(seen(area)[clear] / wanted[clear])
            spread.append(f"{np.sqrt(np.mean(off_db[np.isfinite(off_db)] ** 2)):.3f}")
        print(f"| {relief_m} | {' | '.join(spread)} |")
    print()


def looks(geometry):
    print("## What one resampling does to speckle: mean and equivalent number of looks (mean^2 / variance)\n")
    print("| speckle | method | mean | ENL | after | ratio | rho(1) | after |\n|---|---|---|---|---|---|---|---|")
    b = Block(geometry, 500)
    shape = (b.window.lines, b.window.samples)
    rng = np.random.default_rng(5)
    alone = rng.gamma(4.4, 1 / 4.4, shape)
    fields = [gaussian_filter(rng.normal(size=shape), 0.85) for _ in range(9)]
    joined = sum(field**2 for field in fields)
    for name, field in (("independent pixels", alone), ("correlated (20 m resolution)", joined / joined.mean())):
        image = field.astype(np.float32)
        for method in ("bilinear", "nearest", "cubic"):
            found = resample(image[None], b.window, b.lattice, b.height_m, method)[0].astype(np.float64)
            before, after = (part.mean() ** 2 / part.var() for part in (image.astype(np.float64), found))
            rho = [np.corrcoef(part[:, 1:].ravel(), part[:, :-1].ravel())[0, 1] for part in (image, found)]
            print(
                f"| {name} | {method} | {found.mean() / image.mean():.4f} | {before:.2f} | {after:.2f} | "
                f"{after / before:.2f} | {rho[0]:.2f} | {rho[1]:.2f} |"
            )
    print()


def compile_times():
    print("## Time of a fresh process (s): import, first geocoding, first flattening\n")
    script = COLD.format(folder=str(Path(orbit_scene.__file__).parent))
    print("| machine code | import | geocoding | flattening |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("compiled", "from the cache"):
            done = subprocess.run(
                [sys.executable, "-c", script],
                env={"NUMBA_CACHE_DIR": folder, "PATH": "/usr/bin"},
                capture_output=True,
                check=True,
            )
            print(f"| {name} | {' | '.join(f'{float(part):.2f}' for part in done.stdout.split())} |")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    count = parser.parse_args().rounds
    geometry = orbit_scene.scene()
    speed(geometry, "Synthetic orbit", (0, 500, 2000), count)
    if ROME.is_dir():
        (path,) = ROME.glob("*.SAFE")
        real = read_product(path).geometry
        speed(real, "Real geometry (Rome)", (500,), count)
    spacings(geometry, count)
    aliasing(geometry)
    looks(geometry)
    compile_times()


if __name__ == "__main__":
    main()
