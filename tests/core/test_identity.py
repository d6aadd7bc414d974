"""Content keys: they cover everything that a staged block repeats, but not where its inputs are."""

from dataclasses import replace
from datetime import timedelta

import pytest

from sar1m.config import BuildConfig
from sar1m.core.identity import content_key
from sar1m.sources.simulated import SimulatedSource

CANDIDATE = next(c for c in SimulatedSource(20).candidates(BuildConfig()) if c.optical is not None)


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ("Pastures",)},
        {"attribution": "Contains modified Copernicus Sentinel data"},
        {"site": "elsewhere"},
        {"country": "TCD"},
        {"halo_px": 3},
        {"patches": CANDIDATE.patches[1:]},
        {"grid": replace(CANDIDATE.grid, epsg=32601)},
        {"optical": None},
        *[
            {"sar": replace(CANDIDATE.sar, **change)}
            for change in (
                {"digest": "0"},
                {"quantity": "sigma0"},
                {"licence": "CC-BY-4.0"},
                {"acquired": CANDIDATE.sar.acquired + timedelta(microseconds=1)},
            )
        ],
        {"optical": replace(CANDIDATE.optical, offset_applied=-1000)},
    ],
    ids=str,
)
def test_key_follows_everything_a_row_repeats(changes):
    assert content_key(replace(CANDIDATE, **changes), "p") != content_key(CANDIDATE, "p")


def test_key_does_not_follow_the_place_of_the_inputs():
    moved = replace(CANDIDATE, handle=(("pair", "/elsewhere"),))
    assert content_key(moved, "p") == content_key(CANDIDATE, "p")
    assert content_key(CANDIDATE, "q") != content_key(CANDIDATE, "p")
