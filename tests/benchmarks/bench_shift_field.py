"""Whether a field of shifts over a block helps: real windows, patches held out, other methods; simulated relief.

    python tests/benchmarks/bench_shift_field.py

Real windows need ../shared/data/s1s2_vh_rgb. Constants of core/shift_field.py were chosen on tile 11SLT; 11SMT reports.
One core, some five minutes. Writes results/shift_field.{json,md}.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from measure import Section, run_with_one_thread, write_results
from shift_field_truths import TILES, Window, independent_shifts, real_windows

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig
from sar1m.core.registration import SURE_PSR, BlockRegistration, register_block
from sar1m.core.shift_field import fit_shift_field
from sar1m.records import F64
from sar1m.stages.prepare import applied_shift

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.relief_blocks import relief_block

COMMAND = "python tests/benchmarks/bench_shift_field.py"
SIDE_PX, HALO_PX = 240, 16
STARTS = [HALO_PX + SIDE_PX * k for k in range(4)]  # of patches in a window of 1024 px
PLACES = [(row, col) for row in STARTS for col in STARTS]
AGREE_PX = 1.0  # two other methods so near to each other are taken for the truth
AUTO, ONE_SHIFT = (BuildConfig(registration=RegistrationConfig(field=field)) for field in ("auto", "none"))
SIMULATED = GridConfig(patch_px=128, halo_px=HALO_PX)
DRAWS = 2000
WORLDS = 3


@dataclass(frozen=True, kw_only=True, eq=False)
class Block:
    """One real window: registered both ways; truth_px (16, 2), NaN where the other methods do not agree."""

    window: Window
    field: BlockRegistration
    alike: BlockRegistration
    truth_px: F64


def main() -> None:
    run_with_one_thread()
    blocks = [measure(window) for window in real_windows()]
    sections = []
    if blocks:
        sections += [outcomes(blocks), held_out(blocks), confirmed(blocks)]
    sections += [simulated(), cost(blocks)] if blocks else [simulated()]
    print(write_results("shift_field", "A field of shifts over a block", COMMAND, sections))


def measure(window: Window) -> Block:
    """Registers a window with and without a field, and by the other methods."""
    side = SIDE_PX + 2 * HALO_PX
    windows = [(row - HALO_PX, col - HALO_PX, side, side) for row, col in PLACES]
    field, alike = (
        register_block(window.sar, window.optical, masked=None, windows=windows, settings=config.registration)
        for config in (AUTO, ONE_SHIFT)
    )
    seen = np.array([independent_shifts(window, row, col, SIDE_PX) for row, col in PLACES])
    apart = np.hypot(*(seen[:, 0] - seen[:, 1]).T)
    truth_px = np.where((apart <= AGREE_PX)[:, None], seen.mean(axis=1), np.nan)
    return Block(window=window, field=field, alike=alike, truth_px=truth_px)


def outcomes(blocks: Sequence[Block]) -> Section:
    rows = []
    for tile in TILES:
        some = [block.field for block in blocks if block.window.tile == tile]
        orders = Counter(None if one.field is None else one.field.order for one in some)
        fields = [one.field for one in some if one.field is not None]
        status = Counter(patch.status for one in some for patch in one.patches)
        unbelieved = sum(int((~one.believed).sum()) for one in fields) - sum(
            patch.status == "field" for one in some for patch in one.patches
        )
        rows.append(
            {
                "tile": tile,
                "blocks": len(some),
                "one shift": orders[None],
                **{f"order {order}": orders[order] for order in range(3)},
                "median rms_px": float(np.median([one.rms_px for one in fields])),
                "patches measured": status["measured"],
                "of these not believed": unbelieved,
                "from the field": status["field"],
                "from the scene": status["scene"],
                "unmeasurable": status["unmeasurable"],
            }
        )
    note = (
        f"Windows of 1024 px as blocks of sixteen patches of {SIDE_PX} px with a halo of {HALO_PX} px; VH against red, "
        "green and blue of one acquisition each. Constants were chosen on 11SLT."
    )
    return Section(title="Real blocks", note=note, rows=rows)


def held_out(blocks: Sequence[Block]) -> Section:
    """Each measured patch predicted from the others of its block."""
    rows = []
    for tile in TILES:
        for name, wanted in (("all", (True, False)), ("blocks with a field", (True,))):
            some = [b for b in blocks if b.window.tile == tile and (b.field.field is not None) in wanted]
            predictions = [_predictions(block) for block in some]
            for column, method in enumerate(("one shift", "field of the others")):
                rows.append(
                    {"tile": tile, "blocks": name, "by": method} | _figures([one[:, column] for one in predictions])
                )
    for row in rows:
        del row["median px"], row["p95 px"]  # undefined where a scene pair has no shift
    note = (
        "Distance of a patch's measured shift from the shift that the rest of its block predicts. One shift is that of "
        "the scene pair, from the surfaces of all patches, the one held out included; "
        "a scene pair without a shift counts as far off."
    )
    return Section(title="Patches held out", note=note, rows=rows)


def _predictions(block: Block) -> F64:
    """(m, 2): distances of each measured patch from the one shift and from the field of the others."""
    own = np.array([(patch.row_px, patch.col_px) for patch in block.alike.patches])
    psr, sigma = np.array([(patch.psr, patch.sigma_px) for patch in block.alike.patches]).T
    measured = np.array([patch.status == "measured" for patch in block.alike.patches])
    scene = np.array([block.alike.scene.row_px, block.alike.scene.col_px])
    sure = psr >= AUTO.registration.min_psr + SURE_PSR
    found = []
    for number in np.flatnonzero(measured):
        rest = measured.copy()
        rest[number] = False
        field = fit_shift_field(
            np.array(PLACES, np.float64), np.where(rest[:, None], own, np.nan), np.where(rest, sigma, np.nan), sure=sure
        )
        predicted = scene if field is None else field.values[number]
        found.append([np.hypot(*(own[number] - scene)), np.hypot(*(own[number] - predicted))])
    return np.array(found).reshape(-1, 2)


def confirmed(blocks: Sequence[Block]) -> Section:
    """What is left after correction by whole pixels, where two other methods agree on the truth."""
    rows = []
    for tile in TILES:
        some = [block for block in blocks if block.window.tile == tile]
        for name, config in (("one shift", ONE_SHIFT), ("as built, with fields", AUTO)):
            left = []
            for block in some:
                registration = block.field if config is AUTO else block.alike
                applied = [applied_shift(registration, number, HALO_PX, config) for number in range(len(PLACES))]
                distances = np.hypot(*(np.array(applied) - block.truth_px).T)
                left.append(distances[np.isfinite(distances)])
            rows.append({"tile": tile, "corrected by": name} | _figures(left))
    note = (
        f"Patches on whose shift mutual information and gradient correlation agree within {AGREE_PX:g} px (their mean "
        "is the truth); distance of the whole-pixel correction from it. Rounding alone leaves 0.41 px RMS."
    )
    return Section(title="Patches that two other methods confirm", note=note, rows=rows)


def _figures(by_block: Sequence[F64]) -> dict[str, Any]:
    distances = np.concatenate(by_block)
    rng = np.random.default_rng(0)
    shares = [
        float((np.concatenate([by_block[k] for k in rng.integers(len(by_block), size=len(by_block))]) < 1).mean())
        for _ in range(DRAWS)
    ]
    low, high = np.quantile(shares, (0.025, 0.975))
    return {
        "patches": len(distances),
        "median px": float(np.median(distances)),
        "p95 px": float(np.quantile(distances, 0.95)),
        "under 1 px": float((distances < 1).mean()),
        "95 % interval": f"{low:.2f} to {high:.2f}",
        "under 2 px": float((distances < 2).mean()),
    }


def simulated() -> Section:
    """Known truth: relief that the DEM did not know, and a tilted DEM."""
    rows = []
    auto, alike = (config.model_copy(update={"grid": SIMULATED}) for config in (AUTO, ONE_SHIFT))
    for relief_m, tilt_m in ((0.0, 0.0), (5.0, 0.0), (15.0, 0.0), (30.0, 0.0), (0.0, 60.0)):
        left, fields, spread = {"one": [], "field": []}, 0, []
        for number in range(WORLDS):
            block = relief_block(auto, number=number, relief_m=relief_m, tilt_m=tilt_m, common_px=(1.3, -2.2))
            side = SIMULATED.patch_px + 2 * HALO_PX
            windows = [(place.row, place.col, side, side) for place in block.candidate.patches]
            assert block.pixels.registration_optical is not None
            for name, config in (("one", alike), ("field", auto)):
                found = register_block(
                    block.pixels.sar,
                    block.pixels.registration_optical,
                    masked=None,
                    windows=windows,
                    settings=config.registration,
                )
                applied = [applied_shift(found, k, HALO_PX, config) for k in range(len(windows))]
                left[name].append(np.hypot(*(np.array(applied) - block.truth_px).T))
                fields += found.field is not None
            spread.append(np.hypot(*block.truth_px.std(axis=0)))
        one, field = (np.concatenate(left[name]) for name in ("one", "field"))
        rows.append(
            {
                "relief m": relief_m,
                "tilt m": tilt_m,
                "true scatter px": float(np.mean(spread)),
                "blocks with a field": f"{fields} of {WORLDS}",
                "RMSE one shift": float(np.sqrt(np.mean(one**2))),
                "RMSE as built": float(np.sqrt(np.mean(field**2))),
                "largest, one shift": float(one.max()),
                "largest, as built": float(field.max()),
            }
        )
    note = (
        "Worlds of 4.4 looks geocoded with a DEM that knows no relief (standard deviation in m) or is tilted; patches "
        "of 128 px. Distance of the whole-pixel correction from the true shift of a patch."
    )
    return Section(title="Simulated blocks with a wrong DEM", note=note, rows=rows)


def cost(blocks: Sequence[Block]) -> Section:
    """CPU time of the fit beside that of the registration."""
    side = SIDE_PX + 2 * HALO_PX
    windows = [(row - HALO_PX, col - HALO_PX, side, side) for row, col in PLACES]
    seconds: dict[str, list[float]] = {"one shift": [], "with a field": []}
    for block in [block for block in blocks if block.field.field is not None][:8]:
        for name, config in (("one shift", ONE_SHIFT), ("with a field", AUTO)):
            began = time.process_time()
            register_block(
                block.window.sar, block.window.optical, masked=None, windows=windows, settings=config.registration
            )
            seconds[name].append(time.process_time() - began)
    rows = [{"registration of a block": name, "CPU ms": 1e3 * float(np.median(s))} for name, s in seconds.items()]
    return Section(
        title="Cost", note="Median over eight real blocks whose patches do not share one shift, in turn.", rows=rows
    )


if __name__ == "__main__":
    main()
