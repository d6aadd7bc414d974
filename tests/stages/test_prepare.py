"""The second estimator in a build's blocks: whom it asks, what it writes. Truth: the simulated world's own shift."""

from functools import cache

import numpy as np
import pytest

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig, SimulatedConfig
from sar1m.sources.simulated import SimulatedSource
from sar1m.stages.columns import SECOND_COLUMNS
from sar1m.stages.prepare import prepare_block


@cache
def rows_of(share, seed=0):
    """Rows of a simulated block of four clear patches, and its true shift."""
    config = BuildConfig(
        seed=seed,
        grid=GridConfig(patch_px=128, patches_per_side=2, halo_px=16),
        simulated=SimulatedConfig(max_shift_px=5, cloudy_share=0, unpaired_share=0),
        registration=RegistrationConfig(self_test_share=0, second_estimator_share=share),
    )
    source = SimulatedSource(1)
    (candidate,) = source.candidates(config)
    pixels = source.read(candidate, config)
    record, _ = prepare_block(candidate, pixels, config)
    return record.rows, pixels.truth_shift_px


def test_every_measured_pair_is_asked_where_the_share_is_one():
    rows, truth_px = rows_of(1.0)
    assert [row["second_shift_status"] for row in rows] == ["measured"] * 4
    for row in rows:
        assert (row["second_shift_row_px"], row["second_shift_col_px"]) == pytest.approx(truth_px, abs=0.6)
        difference = [row[f"second_shift_{axis}_px"] - row[f"shift_{axis}_px"] for axis in ("row", "col")]
        assert row["disagreement_px"] == pytest.approx(np.linalg.norm(difference))
        assert 0 < row["second_shift_sigma_px"] <= 0.5


def test_none_is_asked_where_the_share_is_nought_and_nothing_else_changes():
    rows, _ = rows_of(0.0)
    asked, _ = rows_of(1.0)
    assert all(row[name] is None for row in rows for name in SECOND_COLUMNS)
    rest = [name for name in rows[0] if name not in SECOND_COLUMNS]
    assert [[row[name] for name in rest] for row in rows] == [[row[name] for name in rest] for row in asked]


def test_a_share_draws_by_seed_and_name():
    drawn = {seed: tuple(row["second_shift_status"] is not None for row in rows_of(0.5, seed)[0]) for seed in range(6)}
    assert len(set(drawn.values())) > 1
    assert 4 < sum(map(sum, drawn.values())) < 20  # of 24; expected 12
