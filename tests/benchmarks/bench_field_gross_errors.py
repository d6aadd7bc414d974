"""What becomes of a block's field when some of its patches are wrong, all by one step or each by its own.

    python tests/benchmarks/bench_field_gross_errors.py

Made-up shifts of sixteen patches with a sigma of 0.2 px; no pictures. One core, a minute or two. Writes
results/field_gross_errors.{json,md}.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from measure import Section, run_with_one_thread, write_results

from sar1m.core.shift_field import fit_shift_field
from sar1m.records import F64

COMMAND = "python tests/benchmarks/bench_field_gross_errors.py"
PLACES = np.array([(row, col) for row in range(144, 1168, 256) for col in range(144, 1168, 256)], dtype=np.float64)
UNSURE = np.zeros(len(PLACES), dtype=bool)
WRONG = (0, 2, 3, 4, 5, 6, 7, 8, 9, 10)  # of sixteen: to 62 %
STEPS_PX = (3.0, 6.0, 12.0)
SEARCH_PX = 16.0
SIGMA_PX = 0.2
DRAWS = 20


def main() -> None:
    run_with_one_thread()
    rows = [
        row
        for name, truth in (("one shift", flat), ("affine", affine))
        for kind in (*STEPS_PX, None)
        for row in (outcome(name, truth, kind, count) for count in WRONG)
    ]
    note = (
        f"{DRAWS} draws each. wrong by one step: all wrong patches lie off by the same vector of that length; else "
        "each lies anywhere in the search range. Without a field the block has the one shift of its summed "
        "surfaces. Errors are those of the corrections where there is a field: a believed patch's own shift, the "
        "field's elsewhere; wrong patches that are believed count as wrong."
    )
    section = Section(title="Blocks with gross errors", note=note, rows=rows)
    print(write_results("field_gross_errors", "Gross errors among the patches of a block", COMMAND, [section]))


def flat(places: F64) -> F64:
    return np.full((len(places), 2), (1.5, -0.8))


def affine(places: F64) -> F64:
    down, right = ((places - places.mean(axis=0)) / 384).T
    return np.stack([-2.1 + 0.4 * down - 0.3 * right, 1.3 + 0.8 * down + 2.6 * right], axis=1)


def outcome(name: str, truth: Callable[[F64], F64], step_px: float | None, count: int) -> dict[str, object]:
    errors = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([15, draw, count])
        true_px = truth(PLACES)
        sigmas = SIGMA_PX * rng.uniform(0.5, 1.5, len(PLACES))
        shifts = true_px + rng.normal(size=true_px.shape) * sigmas[:, None]
        wrong = rng.choice(len(PLACES), count, replace=False)
        if step_px is None:
            shifts[wrong] = rng.uniform(-SEARCH_PX, SEARCH_PX, (count, 2))
        else:
            angle = rng.uniform(0, 2 * np.pi)
            shifts[wrong] += step_px * np.array([np.cos(angle), np.sin(angle)])
        field = fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE)
        if field is not None:
            errors.append(np.hypot(*(np.where(field.believed[:, None], shifts, field.values) - true_px).T))
    every = np.concatenate(errors) if errors else np.array([])
    return {
        "truth": name,
        "wrong by": "any shift" if step_px is None else f"one step of {step_px:g} px",
        "wrong patches of 16": count,
        "with a field": f"{len(errors)} of {DRAWS}",
        "corrections over 1 px off": f"{np.mean(every > 1):.2f}" if errors else "-",
        "rmse px": f"{np.sqrt(np.mean(every**2)):.2f}" if errors else "-",
    }


if __name__ == "__main__":
    main()
