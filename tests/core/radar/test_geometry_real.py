"""Real products against independent numbers. The other tests of this folder use synthetic orbits."""

import zipfile
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import rasterio

from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.orbit import check_orbit
from sar1m.core.radar.product import GEOLOCATION_GRID, Convention
from sar1m.core.radar.range_doppler import image_coordinates, tau_ref_s
from sar1m.core.radar.tie_points import TiePoints, annotated_tie_points, fit_tie_points, tie_point_coordinates
from sar1m.io.safe.product import read_product
from support.paths import SHARED

PRODUCTS = SHARED / "data/s1_safe_annotations"
GOLDEN = SHARED / "golden/rome_geometry.npz"
GCPS = SHARED / "data/s1_grd_gcp/sentinel-s1-l1c/GRD"

needs_products = pytest.mark.skipif(not PRODUCTS.is_dir(), reason="shared/data/s1_safe_annotations is not there")
needs_golden = pytest.mark.skipif(not GOLDEN.is_file(), reason="shared/golden/rome_geometry.npz is not there")
needs_gcps = pytest.mark.skipif(not GCPS.is_dir(), reason="shared/data/s1_grd_gcp is not there")

# By the last four letters of the product: largest residual of the grid in lines and in samples, and what bounds it.
# 4B8B and 5371 and 8255: rounding of the grid's times to 1e-6 s (7e-4 lines); samples: srgr against grsr.
# FEC3 (IPF 2.36): the vectors' times are rounded to 1e-3 s, 440 us late; its polynomials have degree 4.
# 6D00 (IPF 2.70): likewise, 75 us.
# 6FF8: its velocities, from downlink, differ by 0.012 m/s from the slope of its positions.
RESIDUALS = {
    "4B8B": (1e-3, 1e-5),
    "5371": (1e-3, 0.01),
    "8255": (1e-3, 0.01),
    "6D00": (0.06, 0.01),
    "6FF8": (0.07, 0.012),
    "FEC3": (0.3, 4.1),
}


@cache
def geometry_of(tail):
    found = [path for path in PRODUCTS.rglob(f"*_{tail}.*") if path.suffix in {".zip", ".SAFE"}]
    return read_product(found[0]).geometry


@needs_products
@needs_golden
@pytest.mark.parametrize("suffix", ["", "_ell"])
def test_golden_coordinates_in_every_convention(suffix):
    with np.load(GOLDEN) as golden:
        wanted = {name: golden[name] for name in golden.files}
    points_m = ecef_from_geodetic(wanted["lon"], wanted["lat"], wanted["height" + suffix])
    plain = image_coordinates(geometry_of("5371"), points_m, Convention())
    grid = image_coordinates(geometry_of("5371"), points_m, GEOLOCATION_GRID)
    found = {
        "grd_line": (plain.line, 1e-6),
        "grd_line_bistatic": (grid.line, 1e-5),
        "grd_pixel": (plain.sample, 1e-6),
        "grd_pixel_nearest": (grid.sample, 1e-6),
        "azimuth_time_s": (plain.azimuth_time_s, 1e-9),
        "slant_range_m": (plain.slant_range_m, 1e-6),
        "incidence_deg": (plain.incidence_deg, 1e-9),
    }
    for name, (values, tolerance) in found.items():
        np.testing.assert_allclose(values, wanted[name + suffix], rtol=0, atol=tolerance, err_msg=name)
    assert np.isfinite(plain.azimuth_time_s).all()


@needs_products
@needs_golden
def test_golden_bistatic_reference():
    with np.load(GOLDEN) as golden:
        assert tau_ref_s(geometry_of("5371")) == pytest.approx(float(golden["tau_ref_s"]), abs=1e-8)


@needs_products
@pytest.mark.parametrize("tail", RESIDUALS)
def test_the_annotations_own_grid_comes_back(tail):
    geometry = geometry_of(tail)
    check_orbit(geometry.orbit, 0.0, (geometry.lines - 1) * geometry.line_interval_s, geometry.name)
    grid = geometry.grid
    seen = image_coordinates(geometry, ecef_from_geodetic(grid.lon, grid.lat, grid.height_m), GEOLOCATION_GRID)
    lines, samples = RESIDUALS[tail]
    assert np.abs(seen.line - grid.line).max() < lines
    assert np.abs(seen.sample - grid.sample).max() < samples
    # the annotation's angle is against the geocentric radial: up to 0.2 degrees from the ellipsoid's normal
    assert np.abs(seen.incidence_deg - grid.incidence_deg).max() < 0.2


@needs_products
@pytest.mark.parametrize("tail", RESIDUALS)
def test_tie_points_alone_give_lines_and_rough_samples(tail):
    geometry = geometry_of(tail)
    points = annotated_tie_points(geometry)
    model = fit_tie_points(points)
    here = tie_point_coordinates(model, points.lon, points.lat)
    np.testing.assert_allclose(here.sample, points.sample, rtol=0, atol=0.01)
    middle = (points.lon[:-1] + points.lon[1:]) / 2, (points.lat[:-1] + points.lat[1:]) / 2
    between = tie_point_coordinates(model, *middle)
    exact = image_coordinates(geometry, ecef_from_geodetic(*middle, between.height_m), GEOLOCATION_GRID)
    inside = np.diff(points.line) == 0
    assert np.abs(between.line - exact.line)[inside].max() < RESIDUALS[tail][0] + 0.01
    assert np.median(np.abs(between.sample - exact.sample)[inside]) < 1.5


@needs_gcps
@pytest.mark.parametrize(
    ("name", "count", "incidence_deg", "averaged", "worst_px"),
    [("iw-vv.tiff", 210, (30.0, 46.0), 26000 / 1280, 0.8), ("s1-vh.tiff", 294, (20.0, 26.0), 8160 / 408, 0.001)],
)
def test_control_points_inside_a_measurement(name, count, incidence_deg, averaged, worst_px):
    """Every second control point, along and across, predicts the others, in averaged pixels of about 200 m."""
    with rasterio.open(next(GCPS.rglob(name))) as image:
        table = np.array([(point.row, point.col, point.x, point.y, point.z) for point in image.gcps[0]])
    line, sample, lon, lat, height_m = table.T
    near_deg, far_deg = incidence_deg
    values = (line, sample, lon, lat, height_m, near_deg + (far_deg - near_deg) * sample / sample.max())
    kept = alternating(line) & alternating(sample)
    fields = ("line", "sample", "lon", "lat", "height_m", "incidence_deg")
    points = TiePoints(
        name=name,
        range_spacing_m=10 * averaged,
        **{field: value[kept] for field, value in zip(fields, values, strict=True)},
    )
    seen = tie_point_coordinates(fit_tie_points(points), lon[~kept], lat[~kept])
    assert len(line) == count
    assert np.abs(seen.line - line[~kept]).max() < 0.01
    assert np.abs(seen.sample - sample[~kept]).max() < worst_px


@needs_products
def test_vectors_annotated_to_the_millisecond_explain_the_oldest_product():
    """FEC3's vectors begin exactly 2 s before its first line; their annotated times are 440 us later."""
    geometry = geometry_of("FEC3")
    late_s = geometry.orbit.time_s[0] + 2.0
    assert late_s == pytest.approx(440e-6, abs=1e-9)
    moved = replace(geometry, orbit=replace(geometry.orbit, time_s=geometry.orbit.time_s - late_s))
    grid = geometry.grid
    seen = image_coordinates(moved, ecef_from_geodetic(grid.lon, grid.lat, grid.height_m), GEOLOCATION_GRID)
    assert np.abs(seen.line - grid.line).max() < 1e-3


def alternating(values):
    """Every second of the distinct values, and the last."""
    _, place = np.unique(values, return_inverse=True)
    return (place % 2 == 0) | (place == place.max())


@needs_products
def test_the_products_are_the_ones_the_table_names():
    zips = [path.stem for path in PRODUCTS.glob("*.zip") if zipfile.is_zipfile(path)]
    folders = [path.stem for path in PRODUCTS.rglob("*.SAFE")]
    assert {name[-4:] for name in zips + folders} == set(RESIDUALS)
