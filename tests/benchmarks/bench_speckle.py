"""Speckle: its cost a batch beside torch's samplers, and injected beside observed speckle on real chips.

    PYTHONPATH=training python tests/benchmarks/bench_speckle.py [--rounds 11]

CPU time of one thread for a batch of 64 samples of 2 x 224 x 224, variants in turn.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from measure import Clock, Section, Spread, run_with_one_thread, write_results
from speckle_chips import chip_row, real_chips, simulated_chip

from sarmae.config import SareConfig
from sarmae.sare import Sare
from sarmae.stream.batch import Batch
from sarmae.stream.keyed_random import DrawKey, normal

SHAPE = (64, 2, 224, 224)
MODELS: dict[str, dict[str, Any]] = {
    "gamma": {},
    "correlated": {},
    "thinning": {},
    "thinning, complement": {"target": "complement"},
    "correlated_thinning, complement": {"target": "complement"},
    "lognormal": {},
}
CHIPS_NOTE = (
    "Windows of 14 px whose variance is under 1.5 / ENL, each over its own mean; injected speckle of the chip's "
    "estimated ENL went through the same choice. KS: two-sample distance to the observed law; the lognormal has the "
    "same coefficient of variation. lags: correlation of neighbours along columns, inside windows. ENL x 2 looks: "
    "estimated after gamma speckle of 2 looks, beside L L' / (L + L' + 1). leak: correlation of the two parts after "
    "thinning by half, white and correlated, at lags 0 and 1; what structure is left inside the windows adds "
    "to it alike. Correlated models at their default of 1.6 px, which is the "
    "real chips' (the simulated one has 1.4). Figures of real chips scatter by 0.01 to 0.02."
)


def made_batch() -> Batch:
    """Plausible decibels."""
    generator = torch.Generator().manual_seed(0)
    return Batch(
        sar=torch.randn(SHAPE, generator=generator) * 4 - 14,
        optical=None,
        paired=torch.ones(SHAPE[0], dtype=torch.bool),
        id=torch.arange(SHAPE[0]) * 977,
        enl=torch.full(SHAPE[:1], 4.4),
        epoch=0,
        step=0,
    )


def cost_rows(rounds: int) -> list[dict[str, Any]]:
    """CPU milliseconds a batch; every job runs once before the clock does."""
    batch, clock, setup = made_batch(), Clock(), Clock()
    key = DrawKey(seed=1, epoch=0, stream="bench")
    looks = torch.full(SHAPE, 4.0)
    jobs: dict[str, Any] = {}
    for name, more in MODELS.items():
        with setup.time(name):
            sare = Sare(SareConfig(speckle=name.split(",")[0], probability=1.0, **more), seed=1)
        jobs[name] = lambda sare=sare: sare(batch)
    jobs["the normal field alone (draws.normal)"] = lambda: normal(key, batch.id, SHAPE[1:])
    jobs["torch.distributions.Gamma, not keyed"] = lambda: torch.distributions.Gamma(looks, looks).sample()
    jobs["torch.distributions.Beta, not keyed"] = lambda: torch.distributions.Beta(looks, looks).sample()
    for work in jobs.values():
        work()
    clock.rounds(rounds, jobs)
    return [
        {
            "model": name,
            "ms a batch of 64": str(Spread.of(seconds, 1e3)),
            "ms a sample": clock_ms(seconds) / SHAPE[0],
            "set-up s": setup.seconds.get(name, [0.0])[0],
        }
        for name, seconds in clock.seconds.items()
    ]


def clock_ms(seconds: list[float]) -> float:
    """Median in milliseconds."""
    return Spread.of(seconds, 1e3).median


def main() -> None:
    """Writes results/speckle.md and .json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    note = f"Median and quartiles of {rounds} rounds. torch {torch.__version__}."
    sections = [Section(title="Cost", note=note, rows=cost_rows(rounds))]
    chips = [row for chip in (*real_chips(), simulated_chip(4.4)) if (row := chip_row(chip)) is not None]
    sections.append(Section(title="Injected beside observed speckle", note=CHIPS_NOTE, rows=chips))
    command = "PYTHONPATH=training python tests/benchmarks/bench_speckle.py"
    sys.stdout.write(write_results("speckle", "Speckle on the model's input", command, sections))


if __name__ == "__main__":
    run_with_one_thread()
    main()
