"""Sentinel-1 products in radar geometry as a source: what is chosen, what is left out, what the pixels are."""

from __future__ import annotations

import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from rasterio.transform import Affine
from scipy import ndimage

from sar1m.core.grid import bounds_lonlat, centres_lonlat
from sar1m.core.registration import register_block
from sar1m.records import RasterGrid
from sar1m.sources.failures import PlanFailures
from sar1m.sources.partners import NearbyScene, covers, meeting
from sar1m.sources.placement import block_outline, grid_with_halo
from sar1m.sources.safe.backscatter import load_product
from sar1m.sources.safe.block_heights import LOOK_M, open_terrain
from sar1m.sources.safe.checked_product import open_product
from sar1m.sources.safe.choose_products import survey
from sar1m.sources.safe.source import SafeSource
from sar1m.store.errors import ConfigError, SourceError
from sarworld.safe.scenario import Partners
from support.elevations import write_gtx
from support.safe_factory import SafeRecipe, write_orbit_file, write_safe, write_safe_zip
from support.safe_scenes import CONFIG, SHIFT_PX, block_scene, with_safe


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    return folder, block_scene(folder)


@pytest.fixture
def copied(scene, tmp_path):
    """The scene in a folder of its own, to be changed."""
    folder, truth = scene
    shutil.copytree(folder, tmp_path / "scene")
    return tmp_path / "scene", truth


def only(source: SafeSource, config=CONFIG):
    (candidate,) = source.candidates(config)
    return candidate


def pixels_of(folder: Path, scratch: Path, config=CONFIG):
    source = SafeSource(folder, scratch)
    candidate = only(source, config)
    return candidate, source.read(candidate, config)


def on_block(truth, candidate, values: np.ndarray) -> np.ndarray:
    """The part of a truth's map that a work item's grid covers."""
    grid, known = grid_with_halo(candidate), truth.map.grid
    row, col = round((known.top_m - grid.top_m) / 10), round((grid.left_m - known.left_m) / 10)
    return values[..., row : row + grid.rows, col : col + grid.cols]


def test_a_candidate_says_what_it_is_and_what_will_be_done(scene):
    folder, truth = scene
    candidate = only(SafeSource(folder))
    assert candidate.item_id == f"{truth.product.product_id}_526U_86R"
    assert (candidate.cell, candidate.country, len(candidate.patches)) == ("526U_86R", "AUT", 4)
    sar = candidate.sar
    assert (sar.platform, sar.orbit_state, sar.polarisations) == ("sentinel-1a", "ascending", ("VV", "VH"))
    assert (sar.quantity, sar.datatake, sar.acquired) == ("gamma0", "049F13", truth.product.start)
    for step in ("IPF 003.31", "thermal noise removed", "range-Doppler on small-dem.tif", "terrain-flattened"):
        assert step in sar.processing
    assert candidate.optical.bands == ("B04", "B03", "B02")
    assert (sar.provider, sar.licence, candidate.attribution) == ("SAR-1M simulator", "CC0-1.0", "")


def test_terms_come_from_the_file_beside_the_product_and_are_those_of_copernicus_without_one(copied):
    folder, truth = copied
    beside = folder / f"{truth.product.product_id}.terms.toml"
    beside.write_text('licence = "CC-BY-4.0"\nattribution = "(c) Somebody"\n')
    stated = only(SafeSource(folder))
    assert (stated.sar.licence, stated.attribution) == ("CC-BY-4.0", "(c) Somebody")
    beside.unlink()
    usual = only(SafeSource(folder))
    assert usual.sar.licence == "Copernicus Sentinel data legal notice"
    assert usual.attribution == "Contains modified Copernicus Sentinel data 2021"
    assert usual.sar.digest == stated.sar.digest


@pytest.mark.parametrize("text", ['license = "CC0-1.0"', "licence = 3", "attribution = ", 'licence = ""'])
def test_terms_that_cannot_be_used_are_named(text, copied):
    folder, truth = copied
    (folder / f"{truth.product.product_id}.terms.toml").write_text(text)
    with pytest.raises(SourceError, match=r"terms\.toml: does not state the terms"):
        only(SafeSource(folder))


def test_pixels_are_gamma_nought_of_the_ground_with_masks(scene, tmp_path):
    folder, truth = scene
    candidate, pixels = pixels_of(folder, tmp_path)
    assert pixels.sar.shape == (2, 144, 144)
    assert pixels.flags == ()
    usable = ~pixels.layover_shadow & np.isfinite(pixels.sar).all(axis=0)
    assert usable.mean() > 0.95
    for measured, known in zip(pixels.sar, on_block(truth, candidate, truth.map.gamma0), strict=True):
        bias_db = 10 * np.log10(measured[usable].mean() / known[usable].mean())
        assert abs(bias_db) < 0.1  # 4.4 looks on 20,000 pixels: 0.02 dB; buildings' corners are part of both
    angle = on_block(truth, candidate, truth.map.local_incidence_deg)
    assert np.abs(pixels.local_incidence_deg - angle)[usable].mean() < 0.5
    assert pixels.incidence_deg == pytest.approx(38.0, abs=0.5)
    assert -32 < 10 * np.log10(pixels.noise_floor[0]) < -20


def test_radar_and_optical_lie_as_far_apart_as_they_were_put(scene, tmp_path):
    folder, _ = scene
    _, pixels = pixels_of(folder, tmp_path)
    found = register_block(
        pixels.sar, pixels.registration_optical, masked=None, windows=[(0, 0, 144, 144)], settings=CONFIG.registration
    ).scene
    assert (found.row_px, found.col_px) == pytest.approx(SHIFT_PX, abs=0.4)


def test_the_atmosphere_is_taken_off_where_asked_and_written_down(scene, tmp_path):
    """Ground range of 10 m pixels moves by 2.307 m x exp(-height / 8.7 km) / (cos 38 sin 38): pixels lie nearer."""
    folder, truth = scene
    delayed = with_safe(troposphere="standard_atmosphere")
    candidate, moved = pixels_of(folder, tmp_path, delayed)
    plain_candidate, plain = pixels_of(folder, tmp_path)
    step = "tropospheric delay of the standard atmosphere taken off"
    assert step in candidate.sar.processing
    assert candidate.sar.processing.replace(f"; {step}", "") == plain_candidate.sar.processing
    assert delayed.pixel_digest() != CONFIG.pixel_digest()
    height_m = float(np.mean(truth.map.height_m))
    expected_px = 2.307 * np.exp(-height_m / 8700) / np.cos(np.radians(38)) / np.sin(np.radians(38)) / 10
    smooth, smooth_moved = (ndimage.gaussian_filter(np.sqrt(np.maximum(p.sar[0], 0)), 2.0) for p in (plain, moved))
    slopes = np.stack([slope.ravel() for slope in np.gradient(smooth)], axis=-1)
    down_px, right_px = np.linalg.lstsq(slopes, (smooth - smooth_moved).ravel(), rcond=None)[0]
    assert np.hypot(down_px, right_px) == pytest.approx(expected_px, rel=0.1)
    assert right_px < -0.25  # an ascending pass looks east: what shows farther away is brought back west


def test_sigma0_without_flattening_and_a_chosen_polarisation(scene, tmp_path):
    folder, _ = scene
    config = with_safe(quantity="sigma0", polarisations=("VH",))
    candidate, pixels = pixels_of(folder, tmp_path, config)
    assert candidate.sar.polarisations == ("VH",)
    assert candidate.sar.processing.endswith("sigma0 against the ellipsoid")
    assert pixels.flags == ()
    assert pixels.local_incidence_deg is not None
    _, both = pixels_of(folder, tmp_path, with_safe(quantity="sigma0"))
    np.testing.assert_array_equal(pixels.sar[0], both.sar[1])
    with pytest.raises(SourceError, match=r"has no HH, it holds VV, VH\. Change safe\.polarisations"):
        only(SafeSource(folder), with_safe(polarisations=("HH",)))


def test_without_a_dem_relief_is_refused_or_recorded(copied, tmp_path):
    folder, _ = copied
    shutil.rmtree(folder / "dem")
    source = SafeSource(folder, tmp_path)
    candidate = only(source)
    assert "tie points" in candidate.sar.processing
    with pytest.raises(SourceError, match=r"tie points around differ by \d+ m in height, which misplaces pixels by up"):
        source.read(candidate, CONFIG)
    _, pixels = pixels_of(folder, tmp_path, with_safe(heights="tie_points"))
    assert pixels.flags == ("gamma0_of_ellipsoid", "tie_point_heights")
    assert pixels.layover_shadow is None
    assert np.isfinite(pixels.sar).mean() > 0.99
    with pytest.raises(ConfigError, match=r"safe\.heights = dem, but there is no DEM"):
        only(source, with_safe(heights="dem"))


def test_folder_and_zip_give_the_same_pixels_and_one_product_can_be_named(copied, tmp_path):
    folder, truth = copied
    _, zipped = pixels_of(folder, tmp_path)
    (archive,) = folder.glob("*.zip")
    shutil.unpack_archive(archive, folder)
    archive.unlink()
    (unpacked,) = folder.glob("*.SAFE")
    for named in (folder, unpacked):
        candidate, pixels = pixels_of(named, tmp_path)
        assert candidate.sar.product_id == truth.product.product_id
        np.testing.assert_array_equal(pixels.sar, zipped.sar)


def test_every_input_enters_the_digest(copied):
    folder, _ = copied
    (dem,), (band,) = (folder / "dem").glob("*.tif"), (folder / "optical").glob("*B02.tif")
    first = only(SafeSource(folder))
    content = bytearray(band.read_bytes())
    content[-1] ^= 1
    band.write_bytes(content)
    second = only(SafeSource(folder))
    assert second.sar.digest == first.sar.digest
    assert second.optical.digest != first.optical.digest
    content = bytearray(dem.read_bytes())
    content[-1] ^= 1
    dem.write_bytes(content)
    assert only(SafeSource(folder)).sar.digest != first.sar.digest


def test_a_real_product_names_its_rights(tmp_path):
    """The factory writes what the Copernicus ground segment writes."""
    write_safe(tmp_path, SafeRecipe(lines=1200, samples=1200))
    candidate = next(SafeSource(tmp_path).candidates(CONFIG))
    assert (candidate.sar.provider, candidate.sar.licence) == ("ESA", "Copernicus Sentinel data legal notice")
    assert candidate.attribution == "Contains modified Copernicus Sentinel data 2021"


def test_an_orbit_file_takes_the_place_of_the_annotated_vectors(tmp_path):
    recipe = SafeRecipe()
    write_safe(tmp_path, recipe)
    bare, _ = survey(tmp_path, [tmp_path / f"{recipe.name}.SAFE"], CONFIG.safe, None, PlanFailures())
    orbit = write_orbit_file(tmp_path / "orbits", recipe)
    precise, _ = survey(tmp_path, [tmp_path / f"{recipe.name}.SAFE"], CONFIG.safe, tmp_path / "orbits", PlanFailures())
    assert (bare[0].orbit_file, precise[0].orbit_file) == (None, orbit)
    assert bare[0].digest != precise[0].digest


def test_an_orbit_of_another_time_or_satellite_is_refused(tmp_path):
    recipe = SafeRecipe()
    path = write_safe(tmp_path, recipe)
    orbit = write_orbit_file(tmp_path / "orbits", recipe)
    assert open_product(path, orbit).geometry.orbit.source == orbit.name
    text = orbit.read_text()
    for match in sorted(set(re.findall(r"UTC=\S+?\.\d{6}", text))):  # half a second late: 3 km along the track
        moment = datetime.fromisoformat(match[4:]) + timedelta(seconds=0.5)
        text = text.replace(match, f"UTC@{moment:%Y-%m-%dT%H:%M:%S.%f}")
    orbit.write_text(text.replace("UTC@", "UTC="))
    with pytest.raises(SourceError, match=r"\.EOF puts the annotation's tie points 3\d\d\.\d lines"):
        survey(tmp_path, [path], CONFIG.safe, tmp_path / "orbits", PlanFailures())
    orbit.write_text("no orbit at all")
    with pytest.raises(SourceError, match=r"\.EOF"):
        survey(tmp_path, [path], CONFIG.safe, tmp_path / "orbits", PlanFailures())


def test_a_product_that_lost_a_polarisation_or_an_image_is_not_taken_for_whole(tmp_path):
    whole = write_safe(tmp_path / "a", SafeRecipe())
    for lost in whole.rglob("*-vh-*"):
        lost.unlink()
    with pytest.raises(SourceError, match=r"name says two polarisations, but it holds VV alone"):
        survey(tmp_path / "a", [whole], CONFIG.safe, None, PlanFailures())
    alone, _ = survey(tmp_path / "a", [whole], with_safe(polarisations=("VV",)).safe, None, PlanFailures())
    assert alone[0].polarisations == ("VV",)
    (image,) = whole.glob("measurement/*.tiff")
    image.write_bytes(b"")
    with pytest.raises(SourceError, match=r"measurement.*-vv-.*\.tiff: is empty \(0 bytes\)"):
        survey(tmp_path / "a", [whole], with_safe(polarisations=("VV",)).safe, None, PlanFailures())


def test_what_changed_since_planning_is_not_read(copied, tmp_path):
    folder, _ = copied
    source = SafeSource(folder, tmp_path)
    candidate = only(source)
    source.read(candidate, CONFIG)
    (dem,), (archive,) = (folder / "dem").glob("*.tif"), folder.glob("*.zip")
    kept = dem.read_bytes()
    dem.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    with pytest.raises(SourceError, match=r"the DEM or the geoid grid is not the one that the build was planned with"):
        source.read(candidate, CONFIG)
    source.read(only(source), CONFIG)
    dem.write_bytes(kept)
    source.read(candidate, CONFIG)
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = tmp_path.glob("*.SAFE")
    for calibration in unpacked.glob("annotation/calibration/calibration-*"):
        calibration.write_text(
            calibration.read_text().replace("<absoluteCalibrationConstant>1", "<absoluteCalibrationConstant>2")
        )
    archive.unlink()
    shutil.make_archive(str(archive.with_suffix("")), "zip", tmp_path, unpacked.name)
    load_product.cache_clear()  # another worker, or this one in another build
    with pytest.raises(SourceError, match=r"has changed since the build was planned"):
        source.read(candidate, CONFIG)


def test_the_dem_enters_the_digest_as_far_as_it_can_shape_pixels(scene):
    folder, _ = scene
    source = SafeSource(folder)
    grid = only(source).grid
    terrain = open_terrain(source.place("dem", CONFIG.safe), None, CONFIG.safe)
    touched = []
    terrain.dem.__class__.digest, kept = (lambda _, seen: touched.append(seen) or "x"), terrain.dem.__class__.digest
    try:
        terrain.digest(grid)
    finally:
        terrain.dem.__class__.digest = kept
    left, bottom, right, top = touched[0].bounds_m
    inner = grid.bounds_m
    assert max(inner[0] - left, inner[1] - bottom, right - inner[2], top - inner[3]) >= LOOK_M
    assert min(inner[0] - left, inner[1] - bottom, right - inner[2], top - inner[3]) >= LOOK_M


def test_a_folder_of_geoid_grids_is_used_or_refused(copied, tmp_path):
    folder, _ = copied
    empty = tmp_path / "grids"
    empty.mkdir()
    with pytest.raises(ConfigError, match=r"no geoid grid .* was found"):
        only(SafeSource(folder), with_safe(dem_datum="egm96", geoid=str(empty)))
    write_gtx(empty / "egm96_15.gtx", lambda lon, lat: 40.0 + 0 * (lon + lat))
    candidate = only(SafeSource(folder), with_safe(dem_datum="egm96", geoid=str(empty)))
    assert "geoid egm96_15" in candidate.sar.processing


def test_a_dem_that_ends_beside_the_block_says_so(copied, tmp_path):
    folder, _ = copied
    whole_candidate, whole = pixels_of(folder, tmp_path)
    (dem,) = (folder / "dem").glob("*.tif")
    with rasterio.open(dem) as dataset:
        heights, transform, crs = dataset.read(1), dataset.transform, dataset.crs
    left, bottom, right, top = grid_with_halo(whole_candidate).bounds_m
    first_col, first_row = (~transform) @ (left - 60, top + 60)
    last_col, last_row = (~transform) @ (right + 60, bottom - 60)
    rows, cols = slice(int(first_row), int(last_row) + 1), slice(int(first_col), int(last_col) + 1)
    cut = transform @ Affine.translation(cols.start, rows.start)
    dem.unlink()
    part = heights[rows, cols]
    with rasterio.open(
        dem,
        "w",
        driver="GTiff",
        width=part.shape[1],
        height=part.shape[0],
        count=1,
        dtype="float32",
        crs=crs,
        transform=cut,
    ) as dataset:
        dataset.write(part, 1)
    _, pixels = pixels_of(folder, tmp_path)
    assert whole.flags == ()
    assert pixels.flags == ("terrain_cut_off",)


def test_a_hole_in_the_dem_stays_a_hole(copied, tmp_path):
    folder, _ = copied
    (dem,) = (folder / "dem").glob("*.tif")
    with rasterio.open(dem, "r+") as dataset:
        heights = dataset.read(1)
        row, col = heights.shape[0] // 2, heights.shape[1] // 2
        heights[row : row + 5, col : col + 5] = np.nan
        dataset.write(heights, 1)
    _, pixels = pixels_of(folder, tmp_path)
    assert pixels.flags == ("dem_holes", "terrain_cut_off")
    lost = np.isnan(pixels.sar[0])
    assert 25 <= lost.sum() < 2_000
    assert np.isnan(pixels.local_incidence_deg[lost]).any()


def test_a_block_at_the_antimeridian_finds_its_partner():
    grid = RasterGrid(epsg=32701, left_m=176_000.0, top_m=8_000_000.0, gsd_m=10.0, rows=1024, cols=1024)
    lon, _ = centres_lonlat([grid])
    outline = block_outline(grid, float(lon[0]))
    assert outline.bounds[2] - outline.bounds[0] < 1
    west, south, east, north = outline.bounds
    for turn, expected in ((-360.0, 1.0), (0.0, 1.0), (360.0, 1.0), (90.0, 0.0)):
        box = shapely.box(west + turn, south, east + turn, north)
        near = NearbyScene(name="o", acquired=None, outline=tuple(box.exterior.coords), described=lambda: None)
        assert covers([grid], [near]) == pytest.approx(np.asarray([[expected]]), abs=0.01)
        assert bool(meeting(tuple(outline.exterior.coords), [near])) == bool(expected)


def test_of_one_acquisition_the_newest_processing_is_used(tmp_path):
    old = SafeRecipe(ipf="002.36", old_noise=True, unique="6D00")
    new = SafeRecipe(ipf="003.40", unique="FEC3", start=old.start.replace(microsecond=999_000))
    other = SafeRecipe(unique="0001", start=datetime(2021, 8, 9, 17, 40, 18, 153776, tzinfo=UTC))
    for recipe in (old, new, other):
        write_safe_zip(tmp_path / f"{recipe.name}.zip", recipe)
    scenes, remarks = survey(tmp_path, sorted(tmp_path.glob("*.zip")), CONFIG.safe, None, PlanFailures())
    assert [scene.product.product_id for scene in scenes] == [new.name, other.name]
    assert remarks == (f"{old.name}: left out, {new.name} is the same acquisition by IPF 003.40",)


def test_known_bad_acquisitions_are_left_out_with_a_reason(tmp_path):
    bad = SafeRecipe(platform="S1B", start=datetime(2016, 10, 12, 15, 3, 57, tzinfo=UTC), absolute_orbit=2475)
    good = SafeRecipe()
    paths = [write_safe(tmp_path, recipe) for recipe in (bad, good)]
    scenes, remarks = survey(tmp_path, paths, CONFIG.safe, None, PlanFailures())
    assert [scene.product.product_id for scene in scenes] == [good.name]
    assert len(remarks) == 1
    assert "about 7 km off" in remarks[0]
    scenes, remarks = survey(tmp_path, paths, with_safe(skip_known_bad=False).safe, None, PlanFailures())
    assert (len(scenes), remarks) == (2, ())
    with pytest.raises(SourceError, match=r"every product is left out: S1B_IW_GRDH"):
        survey(tmp_path, paths[:1], CONFIG.safe, None, PlanFailures())


def test_places_and_layout_must_fit(copied, tmp_path):
    folder, _ = copied
    with pytest.raises(ConfigError, match=r"safe\.dem = nowhere: no such file or folder"):
        only(SafeSource(folder), with_safe(dem="nowhere"))
    chips = CONFIG.model_copy(update={"grid": CONFIG.grid.model_copy(update={"layout": "chips"})})
    with pytest.raises(ConfigError, match=r"SAFE products are cut by cells"):
        only(SafeSource(folder), chips)
    with pytest.raises(SourceError, match=r"no Sentinel-1 product here"):
        only(SafeSource(tmp_path / "scene" / "optical"))
    for item in (folder / "optical").glob("*.json"):
        item.unlink()
    with pytest.raises(SourceError, match=r"optical: nothing here describes an optical scene"):
        only(SafeSource(folder))
    shutil.rmtree(folder / "optical")
    assert only(SafeSource(folder)).optical is None


def test_a_simulated_scene_across_180_is_read_like_any_other(tmp_path):
    """`sar1m simulate` at 180: its DEM, its optical item and its tie points run on across the antimeridian."""
    partners = Partners(dem="lonlat", optical_shift_px=SHIFT_PX)
    truth = block_scene(tmp_path, lon=179.9995, lat=65.9708, partners=partners)
    candidate, pixels = pixels_of(tmp_path, tmp_path / "scratch")
    west, _, east, _ = bounds_lonlat([candidate.grid])[0]
    assert west > 179.9 > -179.9 > east
    assert "range-Doppler on small-dem.tif" in candidate.sar.processing
    assert pixels.flags == ()
    assert np.isfinite(pixels.sar).all()
    assert np.isfinite(pixels.optical).all()
    for measured, known in zip(pixels.sar, on_block(truth, candidate, truth.map.gamma0), strict=True):
        assert abs(10 * np.log10(measured.mean() / known.mean())) < 0.1
    (path,) = (tmp_path / "optical").glob("*.json")
    item = json.loads(path.read_text())
    west, _, east, _ = item["bbox"]
    assert west > 179.9 > -179.9 > east
    footprint = shapely.geometry.shape(item["geometry"])
    parts = shapely.bounds(shapely.get_parts(footprint))
    assert (parts[:, 2] - parts[:, 0]).max() < 0.1
    assert footprint.area == pytest.approx((east - west + 360) * (item["bbox"][3] - item["bbox"][1]), rel=1e-6)
