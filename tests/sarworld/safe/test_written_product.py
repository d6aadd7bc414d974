"""The files of a simulated product, read by the pipeline and by xarray-sentinel, and compared with real ones."""

import hashlib
import json
import re
import warnings
import zipfile
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
import rasterio
from defusedxml import ElementTree

from sar1m.core.radar.product import ImageWindow
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.orbit_file import find_orbit, read_orbit
from sar1m.io.safe.product import read_product
from sar1m.sources.safe.checked_product import open_product
from sarworld.safe.known_scene import write_scene
from sarworld.safe.scenario import AcquisitionSpec, Ground, Partners, SceneSpec, Signal
from sarworld.safe.signal import digital_numbers
from sarworld.safe.whole_swath import write_whole_swath
from support.paths import SHARED

REAL = SHARED / "data/s1_safe_annotations/S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE"
QUIET = Partners(optical=False)


def differences(written, found, where="product"):
    """Names of fields that differ by more than the last digit."""
    if is_dataclass(written):
        pairs = [(f.name, getattr(written, f.name), getattr(found, f.name)) for f in fields(written)]
        return [d for name, a, b in pairs for d in differences(a, b, f"{where}.{name}")]
    if isinstance(written, tuple) and len(written) == len(found):
        return [
            d for n, (a, b) in enumerate(zip(written, found, strict=True)) for d in differences(a, b, f"{where}[{n}]")
        ]
    if isinstance(written, np.ndarray):
        same = written.shape == found.shape and np.allclose(written, found, rtol=1e-14, atol=1e-14)
        return [] if same else [where]
    return [] if written == found else [f"{where}: {written!r} {found!r}"]


VARIANTS = {
    "iw": {},
    "zipped": {"zipped": True},
    "stripmap": {"acquisition": AcquisitionSpec(mode="S4", polarisations=("HH", "HV"), orbit_state="descending")},
    "old": {"acquisition": AcquisitionSpec(ipf="002.70", polarisations=("VV",)), "signal": Signal(border_garbage=True)},
    "ew": {"acquisition": AcquisitionSpec(mode="EW", polarisations=("HH",), platform="S1B", incidence_deg=33.0)},
    "clean": {"signal": Signal(looks=None, noise_scale=0.0, blank_px=0)},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_read_is_what_was_written(variant, tmp_path):
    spec = SceneSpec(lines=90, samples=140, partners=QUIET, ground=Ground(facets=1), **VARIANTS[variant])
    truth = write_scene(tmp_path, spec)
    product = read_product(truth.path)
    assert differences(truth.product, product) == []
    (tmp_path / "scratch").mkdir()
    whole = ImageWindow(line=0, sample=0, lines=90, samples=140)
    for channel in product.channels:
        dn = read_dn(truth.path, product, channel, whole, tmp_path / "scratch")
        at = product.channels.index(channel)
        np.testing.assert_array_equal(dn, digital_numbers(truth, truth.product.channels[at]))
        assert (dn[truth.image.valid] > 0).all()
    blank = dn[~truth.image.valid]
    assert (blank.size == 0) == (variant == "clean")
    assert bool((blank > 0).any()) == (variant == "old")
    assert (len(product.channels[0].noise.azimuth), product.ipf) == {
        "old": (0, "002.70"),
        "stripmap": (0, "003.31"),
        "ew": (5, "003.31"),
    }.get(variant, (3, "003.31"))


def test_xarray_sentinel_opens_it_and_reads_the_same(small_scene):
    xarray = pytest.importorskip("xarray", reason="xarray is a development dependency")
    pytest.importorskip("xarray_sentinel", reason="xarray-sentinel is a development dependency")
    product = small_scene.product
    geometry, channel = product.geometry, product.channels[1]

    def opened(group):
        return xarray.open_dataset(small_scene.path, engine="sentinel-1", group=group)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # xarray-sentinel's own, about later versions of its libraries
        image, orbit, ties = opened("IW/VH"), opened("IW/VH/orbit"), opened("IW/VH/gcp")
        conversions, gains = opened("IW/VH/coordinate_conversion"), opened("IW/VH/calibration")
        noise, azimuth = opened("IW/VH/noise_range"), opened("IW/VH/noise_azimuth")
        numbers = image["measurement"].values
    np.testing.assert_array_equal(numbers, digital_numbers(small_scene, channel))
    assert (image.attrs["number"], image.attrs["mode"], image.attrs["pass"]) == ("A", "IW", "ASCENDING")
    np.testing.assert_allclose(orbit["position"].values.T, geometry.orbit.position_m)
    np.testing.assert_allclose(orbit["velocity"].values.T, geometry.orbit.velocity_m_s)
    epoch = np.datetime64(geometry.epoch.replace(tzinfo=None))
    np.testing.assert_allclose((orbit["azimuth_time"].values - epoch) / np.timedelta64(1, "s"), geometry.orbit.time_s)
    np.testing.assert_allclose(ties["latitude"].values.ravel(), geometry.grid.lat)
    np.testing.assert_allclose(ties["height"].values.ravel(), geometry.grid.height_m)
    np.testing.assert_allclose(conversions["srgrCoefficients"].values, geometry.ground_range.srgr)
    np.testing.assert_allclose(gains["sigmaNought"].values, np.stack(channel.sigma.value), rtol=1e-6)
    np.testing.assert_allclose(noise["noiseRangeLut"].values, np.stack(channel.noise.range_power.value), rtol=1e-6)
    np.testing.assert_allclose(azimuth["noiseAzimuthLut"].values, channel.noise.azimuth[0].factor, rtol=1e-6)


def paths_in(root):
    """Every element's path from the root, names only, in order of first appearance; counts must be those of items."""
    found = {}

    def walk(element, above):
        path = f"{above}/{element.tag}"
        found.setdefault(path, len(found))
        if "count" in element.attrib and element.tag != "elevationPattern":  # complex: two numbers a count
            items = len(element) or len((element.text or "").split())
            assert int(element.attrib["count"]) == items, path
        for child in element:
            walk(child, path)

    walk(root, "")
    return found


def documents(root):
    """XML files of the VV channel by kind."""
    names = {"annotation": "annotation/s1a*-vv-*.xml", "manifest": "manifest.safe"}
    names |= {kind: f"annotation/calibration/{kind}-*-vv-*.xml" for kind in ("calibration", "noise")}
    return {kind: ElementTree.parse(next(root.glob(pattern))).getroot() for kind, pattern in names.items()}


def test_counts_match_and_every_list_a_reader_needs_is_there(small_scene):
    found = {kind: paths_in(root) for kind, root in documents(small_scene.path).items()}
    needed = ("orbitList/orbit/velocity/z", "geolocationGridPoint/incidenceAngle", "srgrCoefficients", "swathBounds")
    assert all(any(part in path for path in found["annotation"]) for part in needed)
    assert any(path.endswith("noiseAzimuthVector/noiseAzimuthLut") for path in found["noise"])


@pytest.mark.skipif(not REAL.is_dir(), reason="the real products beside the checkout are absent")
def test_every_element_stands_where_a_real_product_has_it(small_scene):
    real, ours = documents(REAL), documents(small_scene.path)
    for kind, root in ours.items():
        there = paths_in(real[kind])
        here = paths_in(root)
        assert [path for path in here if path not in there] == []
        if kind != "manifest":
            assert sorted(here, key=there.__getitem__) == list(here)  # and in the same order
    assert set(paths_in(real["calibration"])) == set(paths_in(ours["calibration"]))
    assert set(paths_in(real["noise"])) == set(paths_in(ours["noise"]))


@pytest.mark.skipif(not REAL.is_dir(), reason="the real products beside the checkout are absent")
def test_numbers_and_times_are_written_in_the_forms_of_a_real_product(small_scene):
    def form(text):
        digits = re.sub(r"\d+", lambda match: "9" * (len(match[0]) if len(match[0]) > 2 else 1), text or "")
        return digits.replace("-9", "9")

    names = ("adsHeader/startTime", ".//orbit/time", ".//orbit/position/x", ".//geolocationGridPoint/azimuthTime")
    names += (".//geolocationGridPoint/latitude", ".//coordinateConversion/sr0", ".//azimuthTimeInterval")
    real, ours = documents(REAL)["annotation"], documents(small_scene.path)["annotation"]
    assert [form(ours.findtext(name)) for name in names] == [form(real.findtext(name)) for name in names]
    real, ours = documents(REAL)["calibration"], documents(small_scene.path)["calibration"]
    first = [root.findtext(".//sigmaNought").split()[0] for root in (real, ours)]
    assert form(first[0]) == form(first[1])


def test_the_manifest_names_every_file_with_its_sum(small_scene):
    root = documents(small_scene.path)["manifest"]
    listed = {
        stream.find("fileLocation").get("href")[2:]: (int(stream.get("size")), stream.findtext("checksum"))
        for stream in root.iter("byteStream")
    }
    files = {
        path.relative_to(small_scene.path).as_posix(): path
        for path in small_scene.path.rglob("*")
        if path.is_file() and path.name != "manifest.safe"
    }
    assert set(listed) == set(files)
    for name, path in files.items():
        content = path.read_bytes()
        assert listed[name] == (len(content), hashlib.md5(content).hexdigest())  # noqa: S324


def test_control_points_carry_the_grid_as_real_measurements_do(small_scene):
    grid = small_scene.product.geometry.grid
    path = small_scene.path / small_scene.product.channels[0].measurement
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        with rasterio.open(path) as dataset:
            points, system = dataset.gcps
    assert (len(points), system.to_epsg()) == (len(grid.line), 4326)
    np.testing.assert_allclose([p.row for p in points], grid.line)
    np.testing.assert_allclose([(p.x, p.y, p.z) for p in points], np.stack([grid.lon, grid.lat, grid.height_m]).T)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()}


def test_the_same_spec_gives_the_same_bytes_and_another_seed_others(tmp_path):
    spec = SceneSpec(lines=60, samples=80, zipped=True, ground=Ground(facets=1))
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_scene(tmp_path / name, SceneSpec(**{**vars(spec), "seed": seed}))
    first, second, other = (contents(tmp_path / name) for name in "abc")
    assert first == second
    assert set(first.values()).isdisjoint(
        content for name, content in other.items() if name.suffix == ".zip" or "dem" in name.parts
    )
    archive = zipfile.ZipFile(next((tmp_path / "a").glob("*.zip")))
    assert archive.testzip() is None
    assert {entry.date_time for entry in archive.infolist()} == {(2021, 1, 1, 0, 0, 0)}


def test_a_whole_swath_is_written_by_strips(tmp_path):
    spec = SceneSpec(lines=600, samples=2500, ground=Ground(relief_m=100.0))
    path = write_whole_swath(tmp_path, spec)
    product = read_product(path)
    window = ImageWindow(line=0, sample=0, lines=600, samples=2500)
    dn = read_dn(path, product, product.channels[0], window, tmp_path).astype(np.float64)
    assert not dn[:, :12].any()
    assert (dn[:, 12:-12] > 0).all()
    gamma0 = (dn**2)[:, 100:-100].mean() / np.mean(np.concatenate(product.channels[0].gamma.value)) ** 2
    assert gamma0 == pytest.approx(0.085, rel=0.1)  # 0.08 and the noise
    with rasterio.open(next((tmp_path / "dem").glob("*.tif"))) as dataset:
        heights = dataset.read(1)
        assert dataset.bounds.left < product.geometry.grid.lon.min() < dataset.bounds.right
    assert 50 < heights.std() < 200


def test_the_orbit_file_holds_the_same_pass(tmp_path):
    partners = Partners(optical=False, orbit_file=True)
    truth = write_scene(tmp_path, SceneSpec(lines=60, samples=80, ground=Ground(facets=1), partners=partners))
    product = read_product(truth.path)
    found = find_orbit(tmp_path / "orbits", product)
    orbit = read_orbit(found, product.start, product.stop, product.geometry.epoch)
    position, velocity, _ = truth.frame.orbit.state(orbit.time_s)
    np.testing.assert_allclose(orbit.position_m, position, atol=1e-5)
    np.testing.assert_allclose(orbit.velocity_m_s, velocity, atol=1e-5)
    assert open_product(truth.path, found).geometry.orbit.source == found.name


def test_the_optical_item_describes_its_files(small_scene):
    folder = small_scene.path.parent / "optical"
    item = json.loads(next(folder.glob("*.json")).read_text())
    assert set(item["assets"]) == {"B02", "B03", "B04", "B08", "SCL"}
    for asset in item["assets"].values():
        with rasterio.open(folder / asset["href"]) as dataset:
            assert (dataset.height, dataset.width) == small_scene.map.height_m.shape
            assert dataset.transform.to_gdal()[0] == small_scene.map.grid.left_m
