"""What a build makes of a block geocoded with a wrong DEM, whose true shifts are known, and of one on level ground."""

import functools

import numpy as np
import pytest

from sar1m.config import BuildConfig, GridConfig, RegistrationConfig
from sar1m.records import BlockPixels
from sar1m.stages.prepare import prepare_block
from support.relief_blocks import relief_block

GRID = GridConfig(patch_px=128, halo_px=16)
AUTO = BuildConfig(grid=GRID)
ONE_SHIFT = BuildConfig(grid=GRID, registration=RegistrationConfig(field="none"))
FLAT_PATCHES = (4, 7, 9)  # whose SAR side is speckle without an edge


@functools.cache
def _block(relief_m, number=0, tilt_m=0.0):
    return relief_block(AUTO, number=number, relief_m=relief_m, tilt_m=tilt_m, common_px=(1.3, -2.2))


def _rows(block, config, pixels=None):
    record, chunks = prepare_block(block.candidate, pixels or block.pixels, config)
    return record.rows, chunks


def _left_px(rows, truth_px):
    applied = np.array([(row["applied_row_px"], row["applied_col_px"]) for row in rows])
    return np.hypot(*(applied - truth_px).T)


def _with_flat_patches(block) -> BlockPixels:
    sar = block.pixels.sar.copy()
    rng = np.random.default_rng(0)
    for number in FLAT_PATCHES:
        place = block.candidate.patches[number]
        area = np.s_[:, place.row : place.row + 160, place.col : place.col + 160]  # the patch and its halo
        sar[area] = 0.1 * rng.gamma(4.4, 1 / 4.4, sar[area].shape)
    return BlockPixels(sar=sar, optical=block.pixels.optical, registration_optical=block.pixels.registration_optical)


@pytest.mark.parametrize("number", [0, 1])
def test_patches_displaced_by_relief_are_each_corrected_by_their_own_shift(number):
    block = _block(15.0, number)
    assert np.ptp(block.truth_px[:, 1]) > 2.5
    rows, _ = _rows(block, AUTO)
    alike, _ = _rows(block, ONE_SHIFT)
    assert {row["shift_field_order"] for row in rows} <= {1, 2}
    assert {row["shift_field_patches"] for row in rows} == {16}
    assert all(0.2 < row["shift_field_rms_px"] < 1.0 for row in rows)
    assert len({row["applied_col_px"] for row in rows}) > 2
    left, left_alike = _left_px(rows, block.truth_px), _left_px(alike, block.truth_px)
    # half a pixel each way is left by rounding: 0.41 px RMS
    assert np.sqrt((left**2).mean()) < 0.65
    assert np.sqrt((left_alike**2).mean()) > 0.9
    assert left.max() < 1.1
    assert left_alike.max() > 2
    assert all(row["shift_field_order"] is None and row["shift_field_rms_px"] is None for row in alike)
    assert len({(row["applied_row_px"], row["applied_col_px"]) for row in alike}) == 1


def test_a_patch_without_edges_takes_the_value_of_the_field():
    block = _block(5.0, tilt_m=60.0)
    rows, _ = _rows(block, AUTO, _with_flat_patches(block))
    alike, _ = _rows(block, ONE_SHIFT, _with_flat_patches(block))
    assert [number for number, row in enumerate(rows) if row["registration_status"] == "field"] == [*FLAT_PATCHES]
    assert {alike[number]["registration_status"] for number in FLAT_PATCHES} == {"scene"}
    left, left_alike = _left_px(rows, block.truth_px), _left_px(alike, block.truth_px)
    for number in FLAT_PATCHES:
        assert rows[number]["residual_px"] < 0.71  # against the field's own value, rounded
        assert 0 < rows[number]["shift_sigma_px"] < 1
        assert left[number] < 1.0
    assert left_alike[4] > 1.5
    assert left_alike[7] > 1.5  # in the west and in the east, where one shift is furthest off


def test_on_level_ground_a_build_makes_the_same_bytes_with_and_without_the_field():
    block = _block(0.0)
    rows, chunks = _rows(block, AUTO)
    alike, chunks_alike = _rows(block, ONE_SHIFT)
    assert rows == alike
    assert chunks == chunks_alike
    assert {row["shift_field_order"] for row in rows} == {None}


def test_the_same_block_gives_the_same_rows_and_bytes_again():
    block = _block(15.0)
    assert _rows(block, AUTO) == _rows(block, AUTO)


def test_a_correction_beyond_the_halo_is_not_made():
    narrow = BuildConfig(grid=GridConfig(patch_px=128, halo_px=8))  # measured up to 16 px, moved by 8 at most
    block = relief_block(narrow, number=0, relief_m=15.0, common_px=(0.0, 7.6))
    rows, _ = _rows(block, narrow)
    far = [max(abs(round(row["shift_row_px"])), abs(round(row["shift_col_px"]))) > 8 for row in rows]
    assert 0 < sum(far) < 16
    assert all((row["applied_col_px"] == 0) == beyond for row, beyond in zip(rows, far, strict=True))
    assert all(row["residual_px"] > 8 for row, beyond in zip(rows, far, strict=True) if beyond)
