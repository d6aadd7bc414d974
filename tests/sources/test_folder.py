"""One's own rasters in folders named by modality, and how any raster is laid out in patches."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime

import numpy as np
import pytest
import rasterio
from rasterio.transform import Affine

from sar1m.config import BuildConfig, GridConfig, PixelsConfig
from sar1m.core.grid import cell_names, cells_at, centres_lonlat
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import ConfigError, SourceError
from support.folders import CHIP, CONFIG, SAR_ROW, read_all, write_modalities, write_table
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.paths import SHARED


@pytest.fixture
def rng():
    return np.random.default_rng(11)


# ---- folders by modality ----


def test_modalities_become_pairs_with_the_chips_own_values(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("b_1", "a-2"))
    pairs = read_all(FolderSource(tmp_path))
    assert [c.item_id for c, _ in pairs] == ["folder_a-2", "folder_b_1"]
    for candidate, pixels in pairs:
        name = candidate.site
        assert [p.name for p in candidate.patches] == [name]
        assert (candidate.grid.rows, candidate.grid.top_m) == (64, 5_000_000.0 - 80)
        assert candidate.cell == cell_names(*cells_at(*centres_lonlat([candidate.grid])))[0]
        assert (candidate.sar.quantity, candidate.sar.polarisations) == ("gamma0", ("VV", "VH"))
        assert candidate.sar.acquired == datetime(2021, 7, 21, 16, 40, 10, tzinfo=UTC)
        assert candidate.sar.orbit_state == "ascending"  # 17:40 local solar time
        assert candidate.optical.acquired == datetime(2021, 7, 23, 13, 22, 41, tzinfo=UTC)  # from the picture beside it
        np.testing.assert_allclose(pixels.sar, 10 ** (written[f"S1RTC/{name}"] / 10), rtol=1e-6)
        numbers = written[f"S2L2A/{name}"] / 10_000
        np.testing.assert_allclose(pixels.optical, numbers[[3, 2, 1]], rtol=1e-6)
        np.testing.assert_allclose(pixels.registration_optical, numbers[[1, 2, 3, 7]], rtol=1e-6)
        np.testing.assert_array_equal(pixels.land_cover, written[f"LULC/{name}"])
        np.testing.assert_array_equal(pixels.water, written[f"LULC/{name}"] == 1)
        assert dict(pixels.land_cover_names)[9] == "rangeland"
        assert pixels.flags == ()
        assert pixels.cloud is None


def test_order_and_keys_do_not_depend_on_the_file_system(tmp_path, rng):
    write_modalities(tmp_path / "one", rng, ("c", "a", "b"))
    for path in sorted((tmp_path / "one").rglob("*.tif"), reverse=True):
        target = tmp_path / "two" / path.relative_to(tmp_path / "one")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    one, two = (list(FolderSource(tmp_path / name).candidates(CONFIG)) for name in ("one", "two"))
    assert [c.site for c in one] == ["a", "b", "c"]
    assert [(c.item_id, c.sar, c.optical) for c in one] == [(c.item_id, c.sar, c.optical) for c in two]


def test_the_digests_follow_pixels_and_masks(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    (before,) = FolderSource(tmp_path).candidates(CONFIG)
    write_tiff(tmp_path / "LULC/a.tif", np.ones((80, 80), dtype=np.uint8), CHIP)
    (cover,) = FolderSource(tmp_path).candidates(CONFIG)
    assert cover.sar.digest != before.sar.digest
    assert cover.optical.digest == before.optical.digest
    write_tiff(tmp_path / "SCL/a.tif", np.full((80, 80), 4, dtype=np.uint8), CHIP)
    (masked,) = FolderSource(tmp_path).candidates(CONFIG)
    assert masked.optical.digest != before.optical.digest


def test_scene_classes_become_cloud_and_snow_and_unknown_is_not_clear(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    scl = np.tile(np.arange(12, dtype=np.uint8), (80, 7))[:, :80]
    write_tiff(tmp_path / "SCL/a.tif", scl, CHIP)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert pixels.cloud_source == "scl"
    assert set(np.unique(scl[pixels.cloud])) == {0, 3, 8, 9, 10}
    assert set(np.unique(scl[pixels.snow])) == {11}


def test_a_cloud_mask_with_other_numbers_is_refused(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    mask = np.zeros((80, 80), dtype=np.uint8)
    mask[:10] = 1
    write_tiff(tmp_path / "cloudmask/a.tif", mask, CHIP)
    ((candidate, pixels),) = read_all(FolderSource(tmp_path))
    np.testing.assert_array_equal(pixels.cloud, mask == 1)
    mask[0, 0] = 4
    write_tiff(tmp_path / "cloudmask/a.tif", mask, CHIP)
    with pytest.raises(SourceError, match=r"cloudmask/a\.tif: a cloud mask holds 0 .* found 4"):
        FolderSource(tmp_path).read(candidate, CONFIG)


def test_without_reflectance_the_pictures_are_display(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("a",))
    shutil.rmtree(tmp_path / "S2L2A")
    ((candidate, pixels),) = read_all(FolderSource(tmp_path))
    assert (candidate.optical.quantity, candidate.optical.offset_applied) == ("display", None)
    np.testing.assert_array_equal(pixels.optical, written["S2RGB/a"])  # zeros are black, not missing
    np.testing.assert_array_equal(pixels.registration_optical, pixels.optical[[2, 1, 0]])


def test_a_chip_without_partner_is_unpaired(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a", "b"))
    (tmp_path / "S2L2A/b.tif").unlink()
    (_, _), (candidate, pixels) = read_all(FolderSource(tmp_path))
    assert candidate.optical is None
    assert pixels.optical is None


def test_gamma_and_sigma_in_one_folder_are_refused_by_name(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    write_modalities(tmp_path, rng, ("b",), sar="S1GRD")
    with pytest.raises(SourceError, match=r"Mixed SAR quantity: S1RTC/a\.tif has gamma0, S1GRD/b\.tif has sigma0"):
        list(FolderSource(tmp_path).candidates(CONFIG))


def test_wrong_band_counts_and_missing_bands_are_refused(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    with pytest.raises(SourceError, match=r"S2L2A/a\.tif: band B10 of pixels.optical_bands is missing; it has B01"):
        list(
            FolderSource(tmp_path).candidates(
                CONFIG.model_copy(update={"pixels": PixelsConfig(optical_bands=("B10",))})
            )
        )
    write_tiff(tmp_path / "S2L2A/a.tif", np.ones((13, 80, 80), dtype=np.int16), CHIP)
    with pytest.raises(SourceError, match=r"S2L2A/a\.tif: has 13 band\(s\); a file in S2L2A holds 12"):
        list(FolderSource(tmp_path).candidates(CONFIG))


def test_links_out_of_the_folder_are_refused(tmp_path, rng):
    write_modalities(tmp_path / "in", rng, ("a",))
    outside = tmp_path / "outside.tif"
    (tmp_path / "in/S1RTC/a.tif").rename(outside)
    (tmp_path / "in/S1RTC/a.tif").symlink_to(outside)
    with pytest.raises(SourceError, match=r"leads out of .*by \.\. or a link"):
        list(FolderSource(tmp_path / "in").candidates(CONFIG))


def test_empty_pixels_and_infinities_are_flagged(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    values = np.full((2, 80, 80), np.nan, dtype=np.float32)
    values[1, 3, 3] = -np.inf
    write_tiff(tmp_path / "S1RTC/a.tif", values, CHIP)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert np.isnan(pixels.sar).all()
    assert pixels.flags == ("non_finite_input",)


def test_a_partner_on_another_grid_is_warped_and_flagged(tmp_path, rng):
    written = write_modalities(tmp_path, rng, ("a",))
    smooth = np.broadcast_to(np.add.outer(np.arange(80), 3 * np.arange(80)) + 1000.0, (12, 80, 80))
    moved = utm_grid(80, 80, left_m=500_005.0)  # half a pixel to the east
    write_tiff(tmp_path / "S2L2A/a.tif", smooth.astype(np.int16), moved)
    ((_, pixels),) = read_all(FolderSource(tmp_path))
    assert pixels.flags == ("resampled_optical",)
    expected = (smooth[:3] - 1.5) / 10_000
    np.testing.assert_allclose(pixels.optical[:, 3:-3, 3:-3], expected[:, 3:-3, 3:-3], atol=2e-6)
    np.testing.assert_allclose(pixels.sar, 10 ** (written["S1RTC/a"] / 10), rtol=1e-6)


def test_an_empty_folder_lists_the_three_descriptions(tmp_path):
    with pytest.raises(
        SourceError, match=r"STAC items .* scenes\.csv with the columns pair, kind, path.* S1RTC or S1GRD"
    ):
        list(FolderSource(tmp_path).candidates(CONFIG))
    with pytest.raises(SourceError, match="no such folder"):
        list(FolderSource(tmp_path / "absent").candidates(CONFIG))


# ---- layouts ----


def test_a_large_raster_is_cut_by_cells_that_meet_it(tmp_path, rng):
    scene = utm_grid(1200, 1300, left_m=499_003.0, top_m=5_003_007.0)
    decibels = speckled_db(rng, 1, 1200, 1300)
    write_tiff(tmp_path / "vv.tif", decibels, scene)
    write_table(tmp_path, [SAR_ROW | {"unit": "db"}])
    config = BuildConfig(grid=GridConfig(patch_px=256, patches_per_side=4, halo_px=16))
    source = FolderSource(tmp_path)
    found = list(source.candidates(config))
    assert len(found) == len({c.cell for c in found}) >= 4
    assert [c.item_id for c in found] == [f"folder_p_{c.cell}" for c in found]
    covered = np.zeros((1200, 1300), dtype=bool)
    for candidate in found:
        assert [p.name for p in candidate.patches][:2] == [f"{candidate.cell}_0_0", f"{candidate.cell}_1_0"]
        assert (candidate.grid.rows, len(candidate.patches)) == (1024, 16)
        if candidate.grid.epsg == scene.epsg:
            row = round((scene.top_m - candidate.grid.top_m) / 10)
            col = round((candidate.grid.left_m - scene.left_m) / 10)
            covered[max(row, 0) : max(row + 1024, 0), max(col, 0) : max(col + 1024, 0)] = True
    assert covered.mean() > 0.9  # cells leave strips where they are turned against grid north
    pixels = source.read(found[0], config)
    assert pixels.sar.shape == (1, 1056, 1056)
    assert "resampled_sar" in pixels.flags
    assert 0.05 < np.nanmean(pixels.sar) < 0.07


def test_layout_can_be_forced_and_must_fit(tmp_path, rng):
    write_modalities(tmp_path, rng, ("a",))
    cells = CONFIG.model_copy(update={"grid": GridConfig(layout="majortom")})
    assert {len(c.patches) for c in FolderSource(tmp_path).candidates(cells)} == {16}
    between = CONFIG.model_copy(update={"grid": CONFIG.grid.model_copy(update={"layout": "majortom"})})
    with pytest.raises(ConfigError, match=r"a: no block of patches meets it: blocks of 256 px"):
        list(FolderSource(tmp_path).candidates(between))
    several = CONFIG.model_copy(update={"grid": GridConfig(patch_px=32, patches_per_side=4, halo_px=8)})
    (candidate,) = FolderSource(tmp_path).candidates(several)
    assert [p.name for p in candidate.patches] == ["a_0_0", "a_1_0", "a_0_1", "a_1_1"]
    big = CONFIG.model_copy(update={"grid": GridConfig(patch_px=80, patches_per_side=4, halo_px=8)})
    with pytest.raises(ConfigError, match=r"a: 80 x 80 px .* largest patch here is 64 px"):
        list(FolderSource(tmp_path).candidates(big))


def test_degrees_become_the_rectangle_inside_in_utm(tmp_path):
    """Near the edge of a zone at 60 degrees north a map of degrees stands 2.5 degrees askew on the UTM grid."""
    lon_step, lat_step = 18e-5, 9e-5
    power = np.full((900, 900), 0.1, dtype=np.float32)
    write_tiff(tmp_path / "vv.tif", power, crs="EPSG:4326", transform=Affine(lon_step, 0, 17.8, 0, -lat_step, 60.0))
    write_table(tmp_path, [SAR_ROW])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=32, halo_px=0))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    assert candidate.grid.epsg == 32633
    assert candidate.grid.left_m % 10 == 0
    assert min(candidate.grid.rows, candidate.grid.cols) >= 800
    assert pixels.flags == ("resampled_sar",)
    np.testing.assert_allclose(pixels.sar, 0.1, rtol=1e-5)  # nothing missing: the rectangle lies inside


# ---- real data ----


def test_real_chips_build_with_their_own_values():
    root = SHARED / "data/s1s2_rtc_pairs"
    if not root.is_dir():
        pytest.skip("../shared/data/s1s2_rtc_pairs is absent")
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=192, patches_per_side=1, halo_px=16))
    source = FolderSource(root)
    found = read_all(source, config)
    assert [c.site for c, _ in found] == ["282D_485L_3_3", "38D_378R_2_3", "637U_59R_1_3"]
    for candidate, pixels in found:
        assert candidate.site.startswith(candidate.cell)  # the chips are named after their cell
        assert pixels.flags == ()
        with rasterio.open(root / "S1RTC" / f"{candidate.site}.tif") as dataset:
            np.testing.assert_allclose(10 * np.log10(pixels.sar), dataset.read(), atol=1e-5)
        with rasterio.open(root / "S2L2A" / f"{candidate.site}.tif") as dataset:
            np.testing.assert_allclose(pixels.optical * 10_000, dataset.read([4, 3, 2]), rtol=1e-6)
    coast, savanna, _ = found
    assert (coast[0].country, savanna[0].country) == ("BRA", "TZA")
    blue_over_nir = coast[1].registration_optical[0] / coast[1].registration_optical[3]
    assert np.median(blue_over_nir[coast[1].water]) > 1 > np.median(blue_over_nir[~coast[1].water])  # class 1 is water


def test_real_flood_chips_in_degrees_come_as_utm(tmp_path):
    path = next(iter(sorted(SHARED.glob("data/flood_chips/s1/India*.tif"))), None)
    if path is None:
        pytest.skip("../shared/data/flood_chips is absent")
    shutil.copyfile(path, tmp_path / "flood.tif")
    write_table(tmp_path, [SAR_ROW | {"path": "flood.tif", "bands": "VV VH", "unit": "db"}])
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=256, patches_per_side=1, halo_px=16))
    ((candidate, pixels),) = read_all(FolderSource(tmp_path), config)
    assert candidate.grid.epsg == 32646
    assert pixels.flags == ("resampled_sar",)
    assert -20 < 10 * np.log10(np.nanmedian(pixels.sar[0])) < -5
