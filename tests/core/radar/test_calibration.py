"""Calibration and thermal noise against the formula evaluated pixel by pixel, and against values computed by hand."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sar1m.core.radar.calibration import calibrate, nesz
from sar1m.core.radar.product import ThermalNoise
from support.radiometry_cases import block, channel, flat_channel, flat_table, removed_noise, table, window

LINES, SAMPLES = 60, 90
SIGMA = table([-10, 25, 80], [[0, 40, 89]] * 3, lambda at, s: 600.0 + 0.5 * at - 0.9 * s)
RANGE_NOISE = table([0, 33, 59], [[0, 40, 89], [0, 50, 89], [0, 89]], lambda at, s: 800.0 + 2.0 * at + 1.5 * s)
BLOCKS = (
    block("IW1", (0, 29), (0, 30), (1.0, 1.2)),
    block("IW1", (30, 59), (0, 33), (1.3, 1.1)),  # a longer product: the swath ends elsewhere in its second block
    block("IW2", (0, 59), (40, 70), (1.4, 1.0)),  # samples 34..39 and 71..89 lie in no block
)
CHANNEL = channel(
    SIGMA, RANGE_NOISE, beta=flat_table(LINES, SAMPLES, 474.0), gamma=flat_table(LINES, SAMPLES, 500.0), azimuth=BLOCKS
)
WHOLE = window(0, 0, LINES, SAMPLES)


def digital_numbers():
    dn = np.random.default_rng(3).integers(0, 400, (LINES, SAMPLES)).astype(np.uint16)
    dn[7, 8] = dn[:, 88] = 0
    return dn


def factor_by_hand(line, sample):
    """The azimuth factor of one pixel, from azimuth vectors of two points."""
    found = 1.0
    for b in BLOCKS:
        if b.first_line <= line <= b.last_line and b.first_sample <= sample <= b.last_sample:
            share = (line - b.first_line) / (b.last_line - b.first_line)
            found = b.factor[0] * (1 - share) + b.factor[1] * share
    return found


def noise_by_hand(line, sample):
    return (800.0 + 2.0 * line + 1.5 * sample) * factor_by_hand(line, sample)


def test_noise_takes_the_factor_of_the_swath_and_block_a_pixel_lies_in():
    expected = [[noise_by_hand(i, j) for j in range(SAMPLES)] for i in range(LINES)]
    np.testing.assert_allclose(removed_noise(CHANNEL.noise, WHOLE), expected, rtol=1e-6)


def test_of_overlapping_blocks_the_later_holds():
    flat = flat_table(10, 10, 100.0)
    azimuth = (block("IW1", (0, 9), (0, 5), (2.0, 2.0)), block("IW2", (0, 9), (5, 9), (3.0, 3.0)))
    found = removed_noise(ThermalNoise(range_power=flat, azimuth=azimuth), window(0, 0, 10, 10))
    np.testing.assert_array_equal(found[4], [200.0] * 5 + [300.0] * 5)


def test_calibration_is_the_formula_pixel_by_pixel():
    dn = digital_numbers()
    power = calibrate(dn, WHOLE, CHANNEL, "sigma0", denoise=True)
    assert power.dtype == np.float32
    for i, j in [(0, 0), (29, 30), (30, 30), (30, 33), (30, 34), (45, 55), (59, 87)]:
        amplitude = 600.0 + 0.5 * i - 0.9 * j
        assert power[i, j] == pytest.approx((float(dn[i, j]) ** 2 - noise_by_hand(i, j)) / amplitude**2, rel=1e-6)


@pytest.mark.parametrize(("quantity", "amplitude"), [("beta0", 474.0), ("gamma0", 500.0)])
def test_each_quantity_has_its_own_vectors(quantity, amplitude):
    dn = np.full((LINES, SAMPLES), 237, np.uint16)
    power = calibrate(dn, WHOLE, CHANNEL, quantity, denoise=False)
    np.testing.assert_allclose(power, (237 / amplitude) ** 2, rtol=1e-7)


def test_no_data_is_nan_and_negative_power_stays():
    dn = digital_numbers()
    power = calibrate(dn, WHOLE, CHANNEL, "sigma0", denoise=True)
    np.testing.assert_array_equal(np.isnan(power), dn == 0)
    under = (dn > 0) & (dn.astype(np.float64) ** 2 < removed_noise(CHANNEL.noise, WHOLE))
    assert under.sum() > 100
    assert (power[under] < 0).all()


def test_denoising_leaves_the_mean_unbiased_where_clipping_would_not():
    """Where the image is nothing but noise, denoised power averages to 0."""
    noisy = flat_channel(200, 200)
    rng = np.random.default_rng(5)
    dn = np.rint(np.sqrt(900.0 * rng.gamma(4.4, 1 / 4.4, (200, 200)))).astype(np.uint16)
    power = calibrate(dn, window(0, 0, 200, 200), noisy, "sigma0", denoise=True).astype(np.float64)
    assert abs(power.mean()) < 0.01 * 900 / 600**2
    assert np.maximum(power, 0).mean() > 0.15 * 900 / 600**2


def test_noise_that_the_processor_removed_is_not_removed_again():
    dn = digital_numbers()
    removed = channel(SIGMA, None)
    expected = calibrate(dn, WHOLE, CHANNEL, "sigma0", denoise=False)
    np.testing.assert_array_equal(calibrate(dn, WHOLE, removed, "sigma0", denoise=True), expected)


@given(st.integers(0, LINES - 1), st.integers(0, SAMPLES - 1), st.integers(1, 40), st.integers(1, 40), st.booleans())
@example(29, 30, 5, 5, True)  # begins on the last line and sample of a block
@example(30, 33, 5, 5, True)
def test_a_window_is_a_piece_of_the_whole_bit_for_bit(line, sample, lines, samples, denoise):
    dn = digital_numbers()
    piece = dn[line : line + lines, sample : sample + samples]
    whole = calibrate(dn, WHOLE, CHANNEL, "sigma0", denoise=denoise)
    found = calibrate(piece, window(line, sample, *piece.shape), CHANNEL, "sigma0", denoise=denoise)
    np.testing.assert_array_equal(found, whole[line : line + lines, sample : sample + samples])


def test_a_window_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(60, 90\), expected the window's \(60, 91\)"):
        calibrate(digital_numbers(), window(0, 0, 60, 91), CHANNEL, "sigma0", denoise=True)


def test_nesz_is_noise_over_calibration():
    noise, amplitude = removed_noise(CHANNEL.noise, WHOLE), 600.0
    line, sample = np.mgrid[0:LINES, 0:SAMPLES]
    expected = (noise / (amplitude + 0.5 * line - 0.9 * sample) ** 2).mean()
    assert nesz(CHANNEL, WHOLE) == pytest.approx(expected, rel=1e-6)


def test_nesz_leaves_out_where_no_noise_is_annotated():
    half = table([0, 99], [[0, 49, 50, 99]] * 2, lambda at, s: np.where(s < 50, 900.0, 0.0))
    noisy = channel(flat_table(100, 100, 600.0), half)
    assert nesz(noisy, window(0, 0, 100, 100)) == pytest.approx(900 / 600**2, rel=1e-12)
    assert nesz(noisy, window(0, 50, 100, 50)) is None
    assert nesz(channel(SIGMA, None), WHOLE) is None
