"""Border noise: padding of known depth is found, dark water stays, and the mask is the same in every window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.radar.border import DEPTH_PX, edge_depth, edge_strips, valid_samples
from support.radiometry_cases import AMPLITUDE, NOISE_DN2, channel, flat_channel, flat_table, speckled, window

LINES, SAMPLES = 400, 700
NEAR = np.where(np.arange(LINES) < 170, 90, 130)  # a staircase at the near edge ...
FAR = np.where(np.arange(LINES) < 230, 60, 45)  # ... and one at the far edge
FIRST = np.where(np.arange(SAMPLES) < 260, 30, 12)  # the first lines of a data take, one depth a swath
CHANNEL = flat_channel(LINES, SAMPLES)


def truth():
    line, sample = np.mgrid[0:LINES, 0:SAMPLES]
    return (sample >= NEAR[:, None]) & (SAMPLES - 1 - sample >= FAR[:, None]) & (line >= FIRST)


def scene(sigma0_db, peak_dn, seed=0, noise_dn2=NOISE_DN2):
    """Echo of one level plus noise; in the padding values that rise exponentially towards the image."""
    rng = np.random.default_rng(seed)
    line, sample = np.mgrid[0:LINES, 0:SAMPLES]
    depth = np.maximum.reduce([NEAR[:, None] - sample, FAR[:, None] - (SAMPLES - 1 - sample), FIRST - line])
    echo = noise_dn2 + 10 ** (sigma0_db / 10) * AMPLITUDE**2
    return speckled(np.where(depth > 0, 1.0 + peak_dn**2 * np.exp(-np.maximum(depth, 0) / 15.0), echo), rng)


def mask(dn, radar_channel, at=None, depth_px=200):
    at = window(0, 0, *dn.shape) if at is None else at
    depths = []
    for strip in edge_strips(at, *dn.shape, depth_px):
        w = strip.window
        pixels = dn[w.line : w.line + w.lines, w.sample : w.sample + w.samples]
        depths.append(edge_depth(pixels, strip, radar_channel))
    return valid_samples(at, depths)


@pytest.mark.parametrize("peak_dn", [0.0, 6.0, 14.0])
@pytest.mark.parametrize("sigma0_db", [-99.0, -24.0, -15.0, -5.0])
def test_padding_is_masked_to_the_pixel(sigma0_db, peak_dn):
    """-99 dB is water without any echo: the data are thermal noise alone."""
    found, true = mask(scene(sigma0_db, peak_dn), CHANNEL), truth()
    assert (found & ~true).sum() <= 0.01 * (~true).sum()
    assert (~found & true).sum() <= 1e-4 * true.sum()


def test_an_image_without_padding_loses_nothing_even_where_it_is_all_noise():
    rng = np.random.default_rng(2)
    for level in (0.0, 20 * NOISE_DN2):
        dn = speckled(np.full((LINES, SAMPLES), NOISE_DN2 + level), rng)
        assert (~mask(dn, CHANNEL)).mean() < 1e-4


def test_noise_annotated_at_twice_its_true_power_costs_no_water():
    dn = speckled(np.full((LINES, SAMPLES), NOISE_DN2), np.random.default_rng(4))
    lost = ~mask(dn, flat_channel(LINES, SAMPLES, 2 * NOISE_DN2))
    assert lost.sum() / (2 * (LINES + SAMPLES)) < 0.5  # pixels per line or column and edge
    assert not lost[12:-12, 12:-12].any()


def test_void_in_the_middle_stays():
    """A lake as dark as padding, larger than the land before it: not connected to an edge, so not masked."""
    dn = speckled(np.full((LINES, SAMPLES), 20 * NOISE_DN2), np.random.default_rng(3))
    dn[20:380, 20:680] = 2
    assert mask(dn, CHANNEL, depth_px=400).all()


def test_padding_deeper_than_the_limit_is_masked_to_the_limit():
    dn = np.full((LINES, SAMPLES), 3, np.uint16)
    found = mask(dn, CHANNEL, depth_px=100)
    assert not found[:, :100].any()
    assert not found[:100].any()
    assert found[100:300, 100:600].all()


def test_one_bright_spot_in_the_padding_does_not_open_its_line():
    dn = scene(-10.0, 5.0)
    dn[200, 20:60] = 900
    assert not mask(dn, CHANNEL)[200, : NEAR[200]].any()


def test_bright_pixels_strewn_over_the_padding_do_not_end_it():
    """Sidelobes of strong targets fill one in thirty pixels of the padding, in every line."""
    dn, true = scene(-10.0, 5.0), truth()
    dn[~true & (np.random.default_rng(7).random(dn.shape) < 1 / 30)] = 400
    found = mask(dn, CHANNEL)
    assert (found & ~true).sum() <= 0.01 * (~true).sum()


@pytest.mark.parametrize("noise_dn2", [0.0, 1e-9, 1e6])
def test_a_noise_table_without_use_is_replaced_by_a_plausible_level(noise_dn2):
    found, true = mask(scene(-12.0, 5.0), flat_channel(LINES, SAMPLES, noise_dn2)), truth()
    assert (found != true).mean() < 1e-3


def test_noise_removed_by_the_processor_masks_nothing():
    assert mask(scene(-12.0, 5.0), channel(flat_table(LINES, SAMPLES, AMPLITUDE), None)).all()


@given(st.integers(0, LINES - 1), st.integers(0, SAMPLES - 1), st.integers(1, 300), st.integers(1, 300))
def test_a_window_sees_what_the_whole_image_shows(line, sample, lines, samples):
    dn = scene(-99.0, 14.0)
    whole = mask(dn, CHANNEL)
    lines, samples = min(lines, LINES - line), min(samples, SAMPLES - sample)
    piece = mask(dn, CHANNEL, window(line, sample, lines, samples))
    np.testing.assert_array_equal(piece, whole[line : line + lines, sample : sample + samples])


def test_only_windows_near_an_edge_need_strips():
    inside = window(DEPTH_PX, DEPTH_PX, 1000, 1000)
    assert edge_strips(inside, 16_705, 26_102) == ()
    corner = edge_strips(window(100, 50, 500, 500), 16_705, 26_102)
    assert [(s.edge, s.window) for s in corner] == [
        ("near", window(96, 0, 508, DEPTH_PX)),
        ("first", window(0, 46, DEPTH_PX, 508)),
    ]
    end = edge_strips(window(16_000, 25_000, 705, 1102), 16_705, 26_102)
    assert [(s.edge, s.window) for s in end] == [
        ("far", window(15_996, 26_102 - DEPTH_PX, 709, DEPTH_PX)),
        ("last", window(16_705 - DEPTH_PX, 24_996, DEPTH_PX, 1106)),
    ]


def test_a_strip_of_another_shape_is_refused():
    strip = edge_strips(window(0, 0, 10, 10), LINES, SAMPLES)[0]
    with pytest.raises(ValueError, match="expected the strip's"):
        edge_depth(np.ones((3, 4), np.uint16), strip, CHANNEL)
