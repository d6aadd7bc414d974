"""Geoid grids: against PROJ, both formats, turns of longitude, poles, and files that are not grids."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pyproj
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine

from sar1m.io import geoid as geoid_module
from sar1m.io.geoid import find_geoid, no_geoid, read_geoid
from sar1m.store.errors import SourceError
from support.elevations import write_gtx
from support.geotiffs import write_tiff
from support.paths import SHARED

DEBIAN = Path("/usr/share/proj/egm96_15.gtx")
GOLDEN = SHARED / "golden/rome_geometry.npz"
GTX_HEADER_BYTES = 40


def hills(lon, lat):
    """Plausible and single-valued on the sphere."""
    return 40 * np.cos(np.radians(lat)) * np.sin(np.radians(2 * lon)) - 30 * np.sin(np.radians(lat))


def proj_undulation(path, lon, lat):
    steps = f"+step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=vgridshift +grids={path} +multiplier=1"
    shift = pyproj.Transformer.from_pipeline(f"+proj=pipeline {steps} +step +proj=unitconvert +xy_in=rad +xy_out=deg")
    return shift.transform(lon, lat, np.zeros_like(lon))[2]


def around_the_world(count=4000):
    rng = np.random.default_rng(5)
    edges = [(180, 10), (-180, 10), (179.999, -10), (-179.999, -10), (30, 90), (-30, -90), (0, 89.99), (0, 0)]
    lon, lat = np.asarray(edges, dtype=float).T
    return np.r_[lon, rng.uniform(-180, 180, count)], np.r_[lat, rng.uniform(-90, 90, count)]


def test_a_grid_agrees_with_proj_everywhere(tmp_path):
    path = write_gtx(tmp_path / "egm96_15.gtx", hills)
    lon, lat = around_the_world()
    np.testing.assert_allclose(read_geoid(path).undulation_m(lon, lat), proj_undulation(path, lon, lat), atol=1e-9)


@pytest.mark.skipif(not DEBIAN.is_file(), reason="no /usr/share/proj/egm96_15.gtx; apt-get install proj-data")
def test_egm96_agrees_with_proj_everywhere():
    lon, lat = around_the_world()
    np.testing.assert_allclose(read_geoid(DEBIAN).undulation_m(lon, lat), proj_undulation(DEBIAN, lon, lat), atol=1e-9)


@pytest.mark.skipif(
    not (DEBIAN.is_file() and GOLDEN.is_file()), reason="no golden arrays beside the checkout, or no grid"
)
def test_egm96_agrees_with_the_golden_undulations_at_rome():
    with np.load(GOLDEN) as golden:
        undulation_m = read_geoid(DEBIAN).undulation_m(golden["lon"], golden["lat"])
        np.testing.assert_allclose(undulation_m, golden["geoid_N"], atol=1e-9)


@given(lon=st.floats(-180, 180), lat=st.floats(-90, 90), turns=st.integers(-2, 2))
def test_a_turn_of_longitude_changes_nothing(tmp_path_factory, lon, lat, turns):
    path = tmp_path_factory.getbasetemp() / "turns.gtx"
    geoid = read_geoid(path if path.is_file() else write_gtx(path, hills))
    there, again = geoid.undulation_m([lon], [lat]), geoid.undulation_m([lon + 360 * turns], [lat])
    np.testing.assert_allclose(there, again, atol=1e-9)
    assert abs(there[0] - hills(lon, lat)) < 0.1  # two-degree steps: (2 pi / 180)^2 / 8 * 4 * 40 m is 0.024 m each way


def write_tif(path: Path, undulation, *, west: float, step: float = 2.0):
    lons, lats = west + np.arange(round(360 / step)) * step, 90 - np.arange(round(180 / step) + 1) * step
    values = undulation(lons[None], lats[:, None]).astype(np.float32)
    transform = Affine(step, 0, west - step / 2, 0, -step, 90 + step / 2)
    return write_tiff(path, values, crs="EPSG:4979", transform=transform, tags={"AREA_OR_POINT": "Point"})


@pytest.mark.parametrize("west", [-180.0, 0.0])
def test_both_formats_say_the_same(tmp_path, west):
    """PROJ's GeoTIFFs run from the north and from 180 degrees west, other grids from Greenwich."""
    tif = write_tif(tmp_path / "us_nga_egm08_25.tif", hills, west=west)
    gtx = write_gtx(tmp_path / "same.gtx", hills)
    lon, lat = around_the_world(500)
    np.testing.assert_allclose(
        read_geoid(tif).undulation_m(lon, lat), read_geoid(gtx).undulation_m(lon, lat), atol=1e-4
    )
    assert read_geoid(tif).model == "egm2008"
    assert read_geoid(tif).name == "egm08_25"
    assert read_geoid(gtx).model is None


def test_a_grid_that_repeats_its_first_meridian_says_the_same(tmp_path):
    """NGA's own grids end on the meridian they begin with."""
    repeated = write_gtx(tmp_path / "repeated.gtx", hills, lon=(0, 360))
    once = write_gtx(tmp_path / "once.gtx", hills)
    lon, lat = around_the_world(500)
    expected = read_geoid(once).undulation_m(lon, lat)
    np.testing.assert_allclose(read_geoid(repeated).undulation_m(lon, lat), expected, atol=1e-4)
    beside = np.asarray([-0.7, 0.4, 2.9])
    np.testing.assert_allclose(
        read_geoid(repeated).undulation_m(beside, 40.0), read_geoid(once).undulation_m(beside, 40.0), atol=1e-4
    )


def test_a_regional_grid_answers_inside_and_refuses_outside(tmp_path):
    path = write_gtx(tmp_path / "national.gtx", hills, step_deg=0.5, lat=(40, 48), lon=(6, 18))
    geoid = read_geoid(path)
    lon, lat = np.asarray([6.0, 18.0, 372.3, 12.1]), np.asarray([40.0, 48.0, 44.4, 40.01])
    np.testing.assert_allclose(geoid.undulation_m(lon, lat), hills(lon, lat), atol=0.01)
    for where in ((5.99, 44.0), (18.01, 44.0), (12.0, 39.99), (12.0, 48.01), (np.nan, 44.0)):
        with pytest.raises(SourceError, match=r"national\.gtx: this geoid grid does not reach longitude"):
            geoid.undulation_m(*where)


def spoiled(path: Path, header: tuple | None = None, values: np.ndarray | None = None) -> Path:
    content = bytearray(path.read_bytes())
    if header is not None:
        content[:GTX_HEADER_BYTES] = struct.pack(">4d2i", *header)
    if values is not None:
        content[GTX_HEADER_BYTES:] = values.astype(">f4").tobytes()
    path.write_bytes(bytes(content))
    return path


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ((-90, -180, 2, 2, 2**31 - 1, 2**31 - 1), "truncated or not"),
        ((-90, -180, 2, 2, -91, -180), "not a geoid grid of the Earth"),
        ((-90, -180, float("nan"), 2, 91, 180), "not a geoid grid of the Earth"),
        ((-90, -180, 2, 0, 91, 180), "not a geoid grid of the Earth"),
        ((-90, -180, 4, 2, 91, 180), "not a geoid grid of the Earth"),
        ((-90, 1e300, 2, 2, 91, 180), "not a geoid grid of the Earth"),
        ((-90, -180, 2, 2, 180 * 91, 1), "not a geoid grid of the Earth"),
    ],
)
def test_an_impossible_header_is_refused_before_anything_is_read(tmp_path, header, problem):
    path = spoiled(write_gtx(tmp_path / "bad.gtx", hills), header)
    with pytest.raises(SourceError, match=rf"bad\.gtx.*{problem}"):
        read_geoid(path)


@pytest.mark.parametrize("size", [0, 12, GTX_HEADER_BYTES, 1000])
def test_a_truncated_grid_is_refused(tmp_path, size):
    path = write_gtx(tmp_path / "cut.gtx", hills)
    os.truncate(path, size)
    with pytest.raises(SourceError, match=r"cut\.gtx"):
        read_geoid(path)


def test_a_grid_that_shrinks_after_it_was_found_is_refused(tmp_path):
    geoid = read_geoid(write_gtx(tmp_path / "egm96_15.gtx", hills))
    os.truncate(geoid.path, 1000)
    with pytest.raises(SourceError, match="cannot be read any more"):
        geoid.undulation_m(0, 0)


@pytest.mark.parametrize("value", [-88.8888, np.nan, np.inf, 1977.0])
def test_a_value_that_is_no_undulation_is_refused_where_it_is_needed(tmp_path, value):
    values = np.zeros((91, 180))
    values[45, 90] = value
    geoid = read_geoid(spoiled(write_gtx(tmp_path / "holes.gtx", hills), values=values))
    assert geoid.undulation_m(90.0, 30.0) == 0
    with pytest.raises(SourceError, match=r"holes\.gtx: holds .* where an undulation"):
        geoid.undulation_m(0.5, 0.5)


def test_a_geotiff_that_is_no_grid_in_degrees_is_refused(tmp_path):
    metres = write_tiff(
        tmp_path / "m.tif", np.zeros((4, 4)), crs="EPSG:32633", transform=Affine(10, 0, 5e5, 0, -10, 5e6)
    )
    with pytest.raises(SourceError, match="not a north-up grid in degrees"):
        read_geoid(metres)
    (tmp_path / "text.tif").write_text("no grid")
    with pytest.raises(SourceError, match="not a TIFF"):
        read_geoid(tmp_path / "text.tif")
    with pytest.raises(SourceError, match="cannot be read"):
        read_geoid(tmp_path / "missing.gtx")


@pytest.fixture
def bare_machine(monkeypatch, tmp_path):
    """No grid in PROJ's or the system's folders."""
    monkeypatch.setattr(geoid_module, "_SYSTEM_FOLDERS", ())
    monkeypatch.setattr(geoid_module, "get_data_dir", lambda: str(tmp_path / "proj"))
    monkeypatch.setattr(geoid_module, "get_user_data_dir", lambda: str(tmp_path / "user"))
    monkeypatch.delenv("PROJ_DATA", raising=False)


def test_the_right_model_is_preferred_wherever_it_lies(bare_machine, monkeypatch, tmp_path):
    assert find_geoid("egm2008", explicit=None, folders=[tmp_path]) is None
    other = write_gtx(tmp_path / "first/egm96_15.gtx", hills)
    places = [tmp_path / "absent", other.parent]
    assert find_geoid("egm2008", explicit=None, folders=places).path == other
    exact = write_tif(tmp_path / "elsewhere/us_nga_egm08_25.tif", hills, west=-180.0)
    monkeypatch.setenv("PROJ_DATA", os.pathsep.join([str(tmp_path / "nowhere"), str(exact.parent)]))
    assert find_geoid("egm2008", explicit=None, folders=places).path == exact
    assert find_geoid("egm96", explicit=None, folders=places).path == other
    assert find_geoid("egm2008", explicit=other, folders=places).path == other


@pytest.mark.parametrize("folder", ["proj", "user"])
def test_projs_own_folders_are_searched(bare_machine, tmp_path, folder):
    grid = write_gtx(tmp_path / folder / "egm96_15.gtx", hills)
    assert find_geoid("egm96", explicit=None, folders=[]).path == grid


def test_the_error_without_a_grid_names_three_remedies():
    text = str(no_geoid("egm2008", "dem.tif: heights are above EGM2008"))
    assert "apt-get install proj-data" in text
    assert "pyproj sync --file us_nga_egm08_25.tif" in text
    assert "give the path" in text
