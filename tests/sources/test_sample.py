"""The embedded sample: the real package where it is installed, and a package of the same shape made here."""

from __future__ import annotations

import importlib.util
import io
import json
import pickle
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from sar1m.config import BuildConfig, GridConfig, PixelsConfig, load_config
from sar1m.sources import sample
from sar1m.sources.sample import BANDS, SampleSource
from sar1m.sources.sentinel_names import orbit_state, parse_s1_name, parse_s2_name
from sar1m.store.errors import ConfigError, SourceError
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.paths import ROOT

CONFIG = BuildConfig(grid=GridConfig(patch_px=112, patches_per_side=1, halo_px=4))
S1_SCENE = "S1B_IW_GRDH_1SDV_20170717T064630_20170717T064655_006523_00B784_ABCD"
S1_CHIP = "S1B_IW_GRDH_1SDV_20170717T064630_29UPV_67_66"
S2_SCENE = "S2A_MSIL1C_20170717T113321_N0205_R080_T29UPV_20170717T113319.SAFE"
S2_CHIP = "S2A_MSIL2A_20170717T113321_67_66"


def _tar(path: Path, members: dict[str, bytes], extra: tarfile.TarInfo | None = None) -> None:
    with tarfile.open(path, "w:bz2") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if extra is not None:
            tar.addfile(extra)


def _members(tmp_path: Path) -> tuple[dict[str, bytes], dict[str, bytes], np.ndarray, dict[str, np.ndarray]]:
    rng = np.random.default_rng(3)
    chip = utm_grid(120, 120, left_m=604_800.0, top_m=5_834_040.0)
    decibels = speckled_db(rng, 2, 120, 120)
    decibels[0, 60, 60] = 0.0
    decibels[1, 60, 60] = np.nan
    sar, optical, numbers = {}, {}, {}
    for pol, plane in zip(("VV", "VH"), decibels, strict=True):
        path = write_tiff(tmp_path / f"{pol}.tif", plane, chip)
        sar[f"BigEarthNet-S1-Example/{S1_CHIP}/{S1_CHIP}_{pol}.tif"] = path.read_bytes()
    for band in BANDS:
        side = {"B01": 20, "B09": 20}.get(band, 120 if band in sample.BANDS_10M else 60)
        coarse = utm_grid(side, side, gsd_m=1200 / side, left_m=604_800.0, top_m=5_834_040.0)
        numbers[band] = rng.integers(1, 9000, (side, side)).astype(np.uint16)
        path = write_tiff(tmp_path / f"{band}.tif", numbers[band], coarse)
        optical[f"BigEarthNet-S2-Example/{S2_CHIP}/{S2_CHIP}_{band}.tif"] = path.read_bytes()
    about = {"labels": ["Pastures"], "corresponding_s2_patch": S2_CHIP, "scene_source": S1_SCENE}
    sar[f"BigEarthNet-S1-Example/{S1_CHIP}/{S1_CHIP}_labels_metadata.json"] = json.dumps(about).encode()
    about = {"labels": ["Pastures"], "tile_source": S2_SCENE, "acquisition_date": "2017-07-17 11:33:21"}
    optical[f"BigEarthNet-S2-Example/{S2_CHIP}/{S2_CHIP}_labels_metadata.json"] = json.dumps(about).encode()
    return sar, optical, decibels, numbers


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of one chip at the front of the path: its folder, members, decibels and digital numbers."""
    folder = tmp_path / "site" / sample.PACKAGE
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("raise RuntimeError('imported')")
    sar, optical, decibels, numbers = _members(tmp_path)
    _tar(folder / "BigEarthNet-S1-Example.tar.bz2", sar)
    _tar(folder / "BigEarthNet-S2-Example.tar.bz2", optical)
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder, sar, optical, decibels, numbers


def test_one_chip_becomes_one_candidate_with_what_its_names_say(package):
    (candidate,) = SampleSource().candidates(CONFIG)
    assert candidate.site == "29UPV_67_66"
    assert [(place.name, place.row, place.col) for place in candidate.patches] == [("29UPV_67_66", 0, 0)]
    assert (candidate.grid.rows, candidate.grid.left_m, candidate.grid.top_m) == (112, 604_840.0, 5_834_000.0)
    sar, optical = candidate.sar, candidate.optical
    assert (sar.product_id, sar.quantity, sar.platform) == (S1_SCENE, "sigma0", "sentinel-1b")
    assert (sar.relative_orbit, sar.datatake) == ((6523 - 27) % 175 + 1, "00B784")
    assert sar.acquired == datetime(2017, 7, 17, 6, 46, 30, tzinfo=UTC)
    assert optical is not None
    assert optical.acquired == datetime(2017, 7, 17, 11, 33, 21, tzinfo=UTC)
    assert (optical.processing_baseline, optical.offset_applied, optical.quantity) == ("02.05", 0, "reflectance")
    assert candidate.labels == ("Pastures",)
    assert "Copernicus Sentinel data" in candidate.attribution
    assert pickle.loads(pickle.dumps(candidate)) == candidate  # noqa: S301  our own bytes
    assert pickle.loads(pickle.dumps(SampleSource())) == SampleSource()  # noqa: S301


def test_pixels_are_the_chips_own(package):
    _, _, _, decibels, numbers = package
    (candidate,) = SampleSource().candidates(CONFIG)
    pixels = SampleSource().read(candidate, CONFIG)
    np.testing.assert_allclose(pixels.sar, 10 ** (decibels / 10), rtol=1e-6)
    assert pixels.sar[0, 60, 60] == 1.0  # 0 dB is a measurement
    assert np.isnan(pixels.sar[1, 60, 60])
    expected = np.stack([numbers[band] for band in ("B04", "B03", "B02")]) / 10_000
    np.testing.assert_allclose(pixels.optical, expected, rtol=1e-6)
    expected = np.stack([numbers[band] for band in sample.BANDS_10M]) / 10_000
    np.testing.assert_allclose(pixels.registration_optical, expected, rtol=1e-6)
    assert pixels.flags == ()


def test_coarse_bands_are_repeated_and_flagged(package):
    numbers = package[4]
    config = CONFIG.model_copy(update={"pixels": PixelsConfig(optical_bands=("B04", "B11", "B01"))})
    (candidate,) = SampleSource().candidates(config)
    pixels = SampleSource().read(candidate, config)
    np.testing.assert_allclose(pixels.optical[1], np.kron(numbers["B11"], np.ones((2, 2))) / 10_000, rtol=1e-6)
    np.testing.assert_allclose(pixels.optical[2], np.kron(numbers["B01"], np.ones((6, 6))) / 10_000, rtol=1e-6)
    assert pixels.flags == ("upsampled_b11", "upsampled_b01")


def test_smaller_patches_are_laid_out_from_the_north_west(package):
    config = CONFIG.model_copy(update={"grid": GridConfig(patch_px=48, patches_per_side=1, halo_px=4)})
    (candidate,) = SampleSource().candidates(config)
    assert [(p.name, p.row, p.col) for p in candidate.patches] == [
        ("29UPV_67_66_0_0", 0, 0),
        ("29UPV_67_66_1_0", 0, 48),
        ("29UPV_67_66_0_1", 48, 0),
        ("29UPV_67_66_1_1", 48, 48),
    ]
    assert SampleSource().read(candidate, config).sar.shape == (2, 104, 104)


@pytest.mark.parametrize(("patch_px", "halo_px", "largest"), [(112, 5, 96), (128, 0, 112), (32, 60, 0)])
def test_a_patch_that_does_not_fit_names_the_largest_that_does(package, patch_px, halo_px, largest):
    config = BuildConfig(grid=GridConfig(patch_px=patch_px, patches_per_side=1, halo_px=halo_px))
    with pytest.raises(ConfigError, match=rf"largest patch here is {largest} px"):
        list(SampleSource().candidates(config))


def test_an_unknown_band_names_the_known_ones(package):
    config = CONFIG.model_copy(update={"pixels": PixelsConfig(optical_bands=("B04", "B10"))})
    with pytest.raises(ConfigError, match=r"no band B10\. Choose from B01"):
        list(SampleSource().candidates(config))


def test_the_digest_follows_the_bytes(package):
    folder, sar, _, _, _ = package
    before = next(SampleSource().candidates(CONFIG))
    name = next(n for n in sar if n.endswith("VV.tif"))
    changed = bytearray(sar[name])
    changed[-1] ^= 1
    _tar(folder / "BigEarthNet-S1-Example.tar.bz2", sar | {name: bytes(changed)})
    after = next(SampleSource().candidates(CONFIG))
    assert after.sar.digest != before.sar.digest
    assert after.optical == before.optical


def test_an_absent_package_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SourceError, match=r"pip install 'sar1m\[sample\]'"):
        list(SampleSource().candidates(CONFIG))


def test_links_strangers_and_bombs_in_the_archive_are_refused(package):
    folder, sar, _, _, _ = package
    link = tarfile.TarInfo(f"BigEarthNet-S1-Example/{S1_CHIP}/{S1_CHIP}_VV.tif")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    outside = tarfile.TarInfo("BigEarthNet-S1-Example/../../etc/cron.d/x")
    for extra in (link, outside):
        _tar(folder / "BigEarthNet-S1-Example.tar.bz2", sar, extra)
        with pytest.raises(SourceError, match="unexpected member"):
            list(SampleSource().candidates(CONFIG))
    bomb = {next(iter(sar)): b"\0" * 2_000_000}
    _tar(folder / "BigEarthNet-S1-Example.tar.bz2", bomb)
    with pytest.raises(SourceError, match=r"2000000 bytes"):
        list(SampleSource().candidates(CONFIG))


def test_a_damaged_or_incomplete_package_says_install_again(package):
    folder, _, optical, _, _ = package
    (folder / "BigEarthNet-S2-Example.tar.bz2").write_bytes(b"BZh9 cut short")
    with pytest.raises(SourceError, match=r"missing or damaged.*force-reinstall"):
        list(SampleSource().candidates(CONFIG))
    _tar(folder / "BigEarthNet-S2-Example.tar.bz2", {})
    with pytest.raises(SourceError, match=r"its Sentinel-2 partner .* is missing"):
        list(SampleSource().candidates(CONFIG))
    _tar(folder / "BigEarthNet-S2-Example.tar.bz2", {n: c for n, c in optical.items() if not n.endswith("B04.tif")})
    (candidate,) = SampleSource().candidates(CONFIG)
    with pytest.raises(SourceError, match=r"B04\.tif is missing"):
        SampleSource().read(candidate, CONFIG)


def test_the_shipped_configuration_fits_the_real_chips():
    if importlib.util.find_spec(sample.PACKAGE) is None:
        pytest.skip("bigearthnet-common is not installed (extra sample)")
    config = load_config(ROOT / "pipeline/configs/sample.toml")
    found = list(SampleSource().candidates(config))
    assert [c.site for c in found] == [
        "29SND_56_35", "29UPU_36_85", "29UPU_4_55", "33UUP_87_48", "35VPK_57_38", "35VPK_69_24"
    ]  # fmt: skip
    assert [c.country for c in found] == ["PRT", "IRL", "IRL", "AUT", "FIN", "FIN"]
    assert [c.sar.relative_orbit for c in found] == [125, 23, 23, 146, 80, 80]
    assert {c.sar.orbit_state for c in found if c.country != "AUT"} == {"descending"}
    for candidate in found:
        pixels = SampleSource().read(candidate, config)
        assert pixels.sar.shape == (2, 120, 120)
        assert np.isfinite(pixels.sar).all()
        assert np.isfinite(pixels.optical).all()
        assert -14 < 10 * np.log10(pixels.sar[0].mean()) < -5  # land at C band, VV
        assert candidate == next(c for c in SampleSource().candidates(config) if c.item_id == candidate.item_id)


def test_names_of_real_products_are_understood():
    scene = parse_s1_name("S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017018_01C579_7EEC")
    assert scene is not None
    assert (scene.platform, scene.relative_orbit, scene.datatake) == ("sentinel-1a", 146, "01C579")
    # relative orbits that stand in real annotations: shared/data/s1_safe_annotations and a Planetary Computer item
    for name, orbit in {
        "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8": 59,
        "S1A_IW_GRDH_1SDV_20191215T003835_20191215T003904_030352_0378DC_4B85": 5,
        "S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371": 22,
    }.items():
        parsed = parse_s1_name(name)
        assert parsed is not None
        assert parsed.relative_orbit == orbit
    commissioning = parse_s1_name("S1C_S4_GRDH_1SDH_20250118T171404_20250118T171421_000638_000538_4B8B")
    assert commissioning is not None
    assert commissioning.relative_orbit is None  # its annotation says 15, which no formula of the name gives
    assert parse_s1_name("S1A_something_else") is None
    tile = parse_s2_name("S2B_MSIL2A_20230624T101559_N0509_R065_T33UUP_20230624T125059")
    assert tile is not None
    assert (tile.platform, tile.level, tile.baseline) == ("sentinel-2b", "2A", "05.09")
    assert orbit_state(scene.acquired, 13.7) == "ascending"
    assert orbit_state(datetime(2017, 9, 25, 4, 32, tzinfo=UTC), 30.5) == "descending"
    assert orbit_state(datetime(2017, 9, 25, 12, 0, tzinfo=UTC), 0.0) is None
