"""Radiometry with the tables of real products, against a second reader (radiometry_real) and xarray-sentinel.
Border masking and geolocation on real pixels.

Each test has a counterpart with tables made by hand in test_lut, test_calibration or test_border.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label
from xarray_sentinel import sentinel1

from sar1m.core.radar.calibration import nesz
from sar1m.core.radar.tie_points import TiePoints, fit_tie_points, tie_point_coordinates
from sar1m.io.safe.product import read_product
from sar1m.sources.regions.countries import find_country
from support.radiometry_cases import lut_values, removed_noise, window
from support.radiometry_real import (
    EVERY,
    GRD,
    IW_2021,
    OLD,
    OLD_NO_NOISE,
    SAFE,
    STRIPMAP,
    THREE_SWATHS,
    WITH_RANGE_VECTORS,
    averaged_channel,
    on_lines,
    product_path,
    real_mask,
    real_pixels,
    second_azimuth_factor,
    second_reader,
    some_lines,
    xml_files,
)

pytestmark = pytest.mark.skipif(
    not (SAFE.is_dir() and GRD.is_dir()), reason="no ../shared/data beside this checkout: real products are not shipped"
)


@pytest.mark.parametrize("pattern", EVERY)
def test_calibration_agrees_with_the_second_reader_and_with_xarray_sentinel(pattern, tmp_path):
    product = read_product(product_path(pattern))
    at, samples = some_lines(product.geometry.lines), product.geometry.samples
    files = xml_files(pattern, tmp_path)
    assert sorted(files) == sorted(c.polarisation for c in product.channels)
    for found in product.channels:
        path = files[found.polarisation][0]
        theirs = sentinel1.open_calibration_dataset(str(path))
        for ours, name in ((found.sigma, "sigmaNought"), (found.beta, "betaNought"), (found.gamma, "gamma")):
            values = on_lines(lambda w, lut=ours: lut_values(lut, w), at, samples)
            np.testing.assert_allclose(values, second_reader(path, "calibrationVector", name, at, samples), rtol=1e-7)
            np.testing.assert_allclose(values, theirs[name].interp(line=at, pixel=np.arange(samples)), rtol=2e-7)


@pytest.mark.parametrize("pattern", EVERY)
def test_noise_agrees_with_the_second_reader(pattern, tmp_path):
    product = read_product(product_path(pattern))
    at, samples = some_lines(product.geometry.lines), product.geometry.samples
    old = pattern in (OLD, OLD_NO_NOISE)
    vector, field = ("noiseVector", "noiseLut") if old else ("noiseRangeVector", "noiseRangeLut")
    for found in product.channels:
        path = xml_files(pattern, tmp_path)[found.polarisation][1]
        expected = second_reader(path, vector, field, at, samples) * second_azimuth_factor(path, at, samples)
        ours = on_lines(lambda w, c=found: removed_noise(c.noise, w), at, samples)
        np.testing.assert_allclose(ours, expected, rtol=1e-7, atol=1e-9)
        assert (ours.max() > 100) == (pattern != OLD_NO_NOISE)


@pytest.mark.parametrize("pattern", WITH_RANGE_VECTORS)
def test_range_noise_agrees_with_xarray_sentinel(pattern, tmp_path):
    """It reads the tables as float32, and fails on products before IPF 2.9 (IndexError: no noiseRangeVector)."""
    product = read_product(product_path(pattern))
    at, samples = some_lines(product.geometry.lines), product.geometry.samples
    found = product.channels[0]
    theirs = sentinel1.open_noise_range_dataset(str(xml_files(pattern, tmp_path)[found.polarisation][1]))
    expected = theirs.noiseRangeLut.interp(line=at, pixel=np.arange(samples))
    ours = on_lines(lambda w: lut_values(found.noise.range_power, w), at, samples)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("pattern", THREE_SWATHS)
def test_every_swath_has_its_own_azimuth_factor_which_xarray_sentinel_has_not(pattern, tmp_path):
    """It uses the first swath's factor for all: right in IW1, up to 13 % off in IW2 and 12 % in IW3."""
    product = read_product(product_path(pattern))
    at, samples = np.arange(0, product.geometry.lines, 97), product.geometry.samples
    found = product.channels[0]
    path = xml_files(pattern, tmp_path)[found.polarisation][1]
    theirs = sentinel1.open_noise_azimuth_dataset(str(path)).noiseAzimuthLut.interp(line=at).to_numpy()
    ours = on_lines(lambda w: removed_noise(found.noise, w), at, samples)
    along_range = on_lines(lambda w: lut_values(found.noise.range_power, w), at, samples)
    off = {}
    for block in found.noise.azimuth:
        middle = (block.first_sample + block.last_sample) // 2
        factor = ours[:, middle] / along_range[:, middle]
        np.testing.assert_allclose(factor, second_azimuth_factor(path, at, samples)[:, middle], rtol=1e-6)
        off[block.swath] = np.abs(theirs / factor - 1)
    assert sorted(off) == ["IW1", "IW2", "IW3"]
    assert off["IW1"].max() < 1e-6
    assert min(off["IW2"].max(), off["IW3"].max()) > 0.05
    assert min(np.sqrt((off[swath] ** 2).mean()) for swath in ("IW2", "IW3")) > 0.02


@pytest.mark.parametrize("pattern", EVERY)
def test_noise_equivalent_sigma_nought_is_that_of_the_sensor(pattern):
    """Required of IW and stripmap: -22 dB or better (Torres et al. 2012, GMES Sentinel-1 mission)."""
    product = read_product(product_path(pattern))
    lines, samples = product.geometry.lines, product.geometry.samples
    for found in product.channels:
        for left, right in pairwise(np.linspace(0, samples, 4).astype(int)):
            level = nesz(found, window(lines // 2, int(left), 400, int(right - left)))
            if pattern == OLD_NO_NOISE:
                assert level is None
            else:
                assert -30 < 10 * np.log10(level) < -22


# ---- real pixels ----


@pytest.mark.parametrize(
    ("image", "tables", "polarisation"),
    [("iw-vv.tiff", IW_2021, "VV"), ("iw-vh.tiff", IW_2021, "VH"), ("s1-vh.tiff", STRIPMAP, "HV")],
)
def test_the_border_of_real_pixels_is_masked_and_nothing_else(image, tables, polarisation):
    """Dark sea reaches the edge in both scenes; the stripmap scene is almost nothing else.

    What remains is pixels averaged from border and image along the seam, and a column or two of DN 1 at the near edge
    of the stripmap image (IPF 3.61).
    """
    dn, _ = real_pixels(image)
    valid = real_mask(dn, averaged_channel(tables, polarisation, *dn.shape))
    assert (dn[valid] > 0).all()
    lost = ~valid & (dn > 0)
    assert 0 < lost.sum() <= 1.5 * dn.shape[0]
    assert dn[lost].max() < 0.5 * np.median(dn[valid])
    assert valid[:, 2:-27].all()


def test_real_pixels_with_garbage_put_in_their_border_get_the_same_mask():
    dn, _ = real_pixels("iw-vv.tiff")
    radar_channel = averaged_channel(OLD, "VV", *dn.shape)
    clean = real_mask(dn, radar_channel)
    depth = np.argmax(dn[:, ::-1] > 0, axis=1)[:, None] - np.arange(dn.shape[1])[::-1]  # from the last pixel inwards
    garbage = np.random.default_rng(6).uniform(0.7, 1.3, dn.shape) * (1 + 12 * np.exp(-np.maximum(depth, 0) / 8))
    dirty = np.where(dn == 0, garbage, dn).astype(np.uint16)
    assert (dirty[dn == 0] > 0).mean() > 0.8
    assert (real_mask(dirty, radar_channel) != clean).sum() < 0.5 * dn.shape[0]


def test_a_real_island_lies_where_the_atlas_has_it():
    """Mahé, by the image's own control points. Natural Earth draws it with 8 points, which leave out 2 km in the
    south; pixels are 200 m. A slip of hemisphere, axis or order would be hundreds of pixels."""
    dn, points = real_pixels("s1-vh.tiff")
    line, sample, lon, lat, height_m = np.array([(p.row, p.col, p.x, p.y, p.z) for p in points]).T
    tie_points = TiePoints(
        name="s1-vh.tiff",
        line=line,
        sample=sample,
        lon=lon,
        lat=lat,
        height_m=height_m,
        incidence_deg=20 + 0.015 * sample,
        range_spacing_m=200.0,
    )
    bright, _ = label(gaussian_filter(20 * np.log10(np.maximum(dn, 1.0)), 0.7) > 29.5)
    island = np.argwhere(bright == bright[394, 140])
    outline = find_country("SYC").geometry
    found = tie_point_coordinates(fit_tie_points(tie_points), outline.centroid.x, outline.centroid.y)
    shift_m = 200.0 * (island.mean(axis=0) + 0.5 - [found.line, found.sample])
    assert np.hypot(*shift_m) < 2500
    assert len(island) * 200.0**2 == pytest.approx(outline.area * 111_200.0**2 * np.cos(np.radians(4.7)), rel=0.1)
