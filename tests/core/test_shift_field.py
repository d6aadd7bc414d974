"""Fields of shifts over a block against fields that are known, gross errors, and shapely's convex hulls."""

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.shift_field import fit_shift_field
from support.examples import examples

PLACES = np.array([(row, col) for row in range(144, 1168, 256) for col in range(144, 1168, 256)], dtype=np.float64)
CENTRE = PLACES.mean(axis=0)
UNSURE = np.zeros(len(PLACES), dtype=bool)


def _affine(places):
    down, right = ((places - CENTRE) / 384).T
    return np.stack([-2.1 + 0.4 * down - 0.3 * right, 1.3 + 0.8 * down + 2.6 * right], axis=1)


def _quadratic(places):
    down, right = ((places - CENTRE) / 384).T
    return _affine(places) + np.stack([0.5 * down * right, 3.1 * right**2 - 1.2 * down**2], axis=1)


def _measure(truth, key, sigma_px=0.2):
    rng = np.random.default_rng(key)
    sigmas_px = sigma_px * rng.uniform(0.5, 1.5, len(truth))
    return truth + rng.normal(size=truth.shape) * sigmas_px[:, None], sigmas_px


def _distances(values, truth):
    return np.hypot(*(values - truth).T)


@pytest.mark.parametrize(("truth", "order"), [(_affine, 1), (_quadratic, 2)])
def test_a_known_field_comes_back_with_its_order(truth, order):
    orders, distances = [], []
    for key in range(20):
        shifts, sigmas = _measure(truth(PLACES), key)
        field = fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE)
        orders.append(field.order)
        distances.append(_distances(field.values, truth(PLACES)))
        assert field.patches == 16
        assert 0.05 < field.rms_px < 0.5
    assert orders.count(order) >= 18
    assert np.sqrt(np.mean(np.square(distances))) < 0.25  # a single measurement: 0.29


def test_sigma_grows_where_the_field_is_held_and_not_known():
    """Half of the block is not measured: the field stays what it is at the edge of the rest, and says how uncertain."""
    inside, outside = [], []
    for key in range(20):
        truth = _affine(PLACES)
        shifts, sigmas = _measure(truth, key)
        unknown = PLACES[:, 1] > CENTRE[1]
        shifts[unknown] = np.nan
        field = fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE)
        ratios = (field.values - truth) / field.sigmas_px[:, None]
        inside.append(ratios[~unknown])
        outside.append(ratios[unknown])
    for ratios in (inside, outside):
        assert 0.3 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_patches_that_share_one_shift_keep_it():
    """The test of one shift fails for nothing in at most one block of a thousand; 0 or 1 in 300 is what that allows."""
    given_up = 0
    for key in range(300):
        shifts, sigmas = _measure(np.full((16, 2), (3.2, -4.1)), key, sigma_px=0.8)
        given_up += fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE) is not None
    assert given_up <= 1


def test_scatter_that_whole_pixels_cannot_correct_keeps_one_shift():
    shifts, sigmas = _measure(0.1 * _affine(PLACES), 0, sigma_px=0.01)
    assert fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE) is None


def test_a_few_gross_errors_neither_switch_the_field_on_nor_bend_it():
    wrong = [5, 6, 13]  # within the hull of the others
    for key in range(10):
        for truth, on in ((np.full((16, 2), 1.5), False), (_affine(PLACES), True)):
            shifts, sigmas = _measure(truth, key)
            shifts[wrong] += np.random.default_rng(key).choice([-1, 1], (3, 2)) * 11
            field = fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE)
            assert (field is not None) == on
            if field is not None:
                assert np.flatnonzero(~field.believed).tolist() == wrong
                assert _distances(field.values, truth).max() < 0.7


def test_a_block_whose_patches_form_two_groups_has_no_field():
    """A third to half of the patches are off by one step: nobody knows which of the two groups is right."""
    for key in range(12):
        rng = np.random.default_rng([1, key])
        shifts, sigmas = _measure(_affine(PLACES), key)
        shifts[rng.choice(16, 6 + key % 3, replace=False)] += np.array([(6, 0), (0, -4.5), (-4, 4)])[key % 3]
        if key % 2:
            shifts -= _affine(PLACES)
        assert fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE) is None


def test_a_block_most_of_whose_patches_lie_anywhere_has_hardly_ever_a_field():
    fields = 0
    for key in range(12):
        rng = np.random.default_rng([2, key])
        shifts, sigmas = _measure(_affine(PLACES), key)
        shifts[rng.choice(16, 10, replace=False)] = rng.uniform(-16, 16, (10, 2))
        fields += fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE) is not None
    assert fields <= 2  # 12 of 12 where scatter about the field has no limit


def test_a_patch_that_is_sure_is_believed_however_far_it_lies():
    shifts, sigmas = _measure(_affine(PLACES), 0)
    shifts[[5, 10]] += 9
    sure = UNSURE.copy()
    sure[5] = True
    field = fit_shift_field(PLACES, shifts, sigmas, sure=sure)
    assert np.flatnonzero(~field.believed).tolist() == [10]
    assert _distances(field.values, _affine(PLACES)).max() < 0.5
    assert field.rms_px > 9 * np.sqrt(2) / 4  # its own distance counts in the fit that the table states


def test_too_few_measured_patches_give_no_field():
    shifts, sigmas = _measure(5 * _affine(PLACES), 0)
    shifts[4:] = np.nan
    assert fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE) is None


@examples(0.5)
@given(missing=st.sets(st.integers(0, 15), max_size=6), curved=st.booleans())
def test_outside_the_measured_patches_it_is_the_value_at_the_nearest_point_of_their_hull(missing, curved):
    """Oracle: shapely. Without noise the field is the truth wherever it is evaluated."""
    truth = _quadratic if curved else _affine
    shifts = truth(PLACES)
    shifts[list(missing)] = np.nan
    kept = [number for number in range(16) if number not in missing]
    hull = shapely.MultiPoint(PLACES[kept]).convex_hull
    nearest = np.array([shapely.ops.nearest_points(hull, shapely.Point(place))[0].coords[0] for place in PLACES])
    field = fit_shift_field(PLACES, shifts, np.full(16, 0.05), sure=UNSURE)
    assert field.order == (2 if curved else 1)
    assert field.values == pytest.approx(truth(nearest), abs=1e-6)


@examples(0.5)
@given(key=st.integers(0, 99), offset=st.tuples(st.floats(-9, 9), st.floats(-9, 9)))
def test_order_of_patches_and_a_common_shift_change_nothing_else(key, offset):
    shifts, sigmas = _measure(_quadratic(PLACES), key)
    once = fit_shift_field(PLACES, shifts, sigmas, sure=UNSURE)
    mixed = np.random.default_rng(key).permutation(16)
    again = fit_shift_field(PLACES[mixed] + 500, shifts[mixed] + offset, sigmas[mixed], sure=UNSURE)
    assert again.order == once.order
    assert again.values == pytest.approx(once.values[mixed] + offset, abs=1e-6)
    assert again.rms_px == pytest.approx(once.rms_px, abs=1e-6)
