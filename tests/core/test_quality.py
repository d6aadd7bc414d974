"""Quality measures of one patch, on numbers that can be checked by hand and on real chips."""

from __future__ import annotations

import importlib.util
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.quality import (
    brightness_masks,
    dynamic_range_db,
    land_cover_fractions,
    mask_frac,
    mean_db,
    noise_floor_frac,
    optical_nodata_frac,
    perceptual_hash,
    sar_nodata_frac,
)
from support.examples import examples
from support.paths import SHARED

CLOUDY = SHARED / "data/s1s2_cloudy"
SNOWY_CHIP = "20180204"


def speckled(seed: int = 0, side: int = 128, looks: float = 4.4) -> np.ndarray:
    """(2, side, side) smooth hills of backscatter over 15 dB, with speckle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:side, 0:side] / side
    waves = sum(np.cos(2 * np.pi * (rng.normal(0, 2) * x + rng.normal(0, 2) * y) + rng.uniform(0, 6)) for _ in range(6))
    linear = 10 ** ((-12 + 2.5 * waves) / 10)
    return (linear * rng.gamma(looks, 1 / looks, (2, side, side))).astype(np.float32)


def bits_apart(one: int, two: int) -> int:
    return ((one ^ two) % 2**64).bit_count()


def test_nodata_counts_a_pixel_once_where_any_layer_misses():
    sar = np.ones((2, 4, 5), dtype=np.float32)
    sar[0, 0, 0] = sar[1, 0, 0] = sar[1, 3, 4] = np.nan
    sar[0, 1, 1] = np.inf
    assert sar_nodata_frac(sar) == optical_nodata_frac(sar) == 3 / 20
    assert sar_nodata_frac(np.full_like(sar, np.nan)) == 1.0


def test_a_patch_without_data_has_stated_results():
    empty = np.full((2, 40, 40), np.nan, dtype=np.float32)
    assert np.isnan(dynamic_range_db(empty))
    assert np.isnan(noise_floor_frac(empty, (0.01, 0.01)))
    assert np.isnan(mean_db(empty)).all()
    assert perceptual_hash(empty) == 0
    masks = brightness_masks(np.full((3, 4, 4), np.nan, dtype=np.float32), empty[0, :4, :4], empty[0, :4, :4])
    assert mask_frac(masks.cloud) == mask_frac(masks.snow) == 0.0


def test_masks():
    assert mask_frac(None) is None
    assert mask_frac(np.array([[True, False], [False, False]])) == 0.25


def test_dynamic_range_of_a_ramp_and_its_floor():
    ramp_db = np.linspace(-30, 0, 10_001).reshape(1, 1, -1)
    ramp = (10 ** (ramp_db / 10)).astype(np.float32)
    assert dynamic_range_db(ramp) == pytest.approx(0.96 * 30, abs=1e-3)
    assert dynamic_range_db(ramp, floor_linear=0.1) == pytest.approx(10 - 0.02 * 30, abs=1e-3)
    assert dynamic_range_db(np.full((1, 8, 8), 0.05, dtype=np.float32)) == 0.0
    holes = ramp.copy()
    holes[0, 0, ::2] = np.nan
    assert dynamic_range_db(holes) == pytest.approx(0.96 * 30, abs=1e-2)
    below = np.where(np.arange(100) < 50, -1.0, 1e-3).reshape(1, 10, 10).astype(np.float32)
    assert dynamic_range_db(below) == pytest.approx(30.0)  # -60 dB floor to -30 dB


def test_noise_floor_takes_the_worst_polarisation_of_valid_pixels():
    sar = np.array([[[1.0, 1.0, 1.0, np.nan]], [[0.01, -0.5, 1.0, np.nan]]], dtype=np.float32)
    assert noise_floor_frac(sar, (0.01, 0.011)) == pytest.approx(2 / 3)
    assert noise_floor_frac(sar[:1], (0.01, 0.011)) == 0.0
    assert noise_floor_frac(np.stack([sar[0], np.full((1, 4), np.nan)]), (1.0, 1.0)) == 1.0
    with pytest.raises(ValueError, match="2 polarisations, but 1 noise floors"):
        noise_floor_frac(sar, (0.01,))


def test_mean_is_linear_and_keeps_negative_values():
    sar = np.array([[[0.3, -0.1, np.nan]], [[-0.3, 0.1, np.nan]]], dtype=np.float32)
    first, second = mean_db(sar)
    assert first == pytest.approx(-10.0, abs=1e-5)  # mean 0.1; clipping at 0 would give -8.24
    assert np.isnan(second)


def test_hash_of_a_known_patch_never_changes():
    """Golden value: near-duplicates of candidates staged earlier must still be recognised."""
    y, x = np.mgrid[0:96, 0:120]
    pattern = 10 ** (-1.2 + 0.4 * np.sin(0.09 * x + 0.001 * x * y) + 0.3 * np.cos(0.13 * y + 0.02 * x))
    assert perceptual_hash(np.stack([pattern, 0.2 * pattern]).astype(np.float32)) == -2043251276903719590


@examples(0.3)
@given(seed=st.integers(0, 10_000), side=st.sampled_from([32, 45, 120, 256]))
def test_hash_stands_small_noise_gain_and_holes(seed, side):
    rng = np.random.default_rng(seed)
    sar = speckled(seed, side)
    plain = perceptual_hash(sar)
    assert -(2**63) <= plain < 2**63
    assert (plain % 2**64).bit_count() == 32
    noisy = sar * 10 ** (rng.normal(0, 0.1, sar.shape) / 10)
    assert bits_apart(plain, perceptual_hash(noisy.astype(np.float32))) <= 4
    assert bits_apart(plain, perceptual_hash(sar * np.float32(2))) <= 2
    holes = np.where(rng.random(sar.shape) < 0.002, np.nan, sar)
    assert bits_apart(plain, perceptual_hash(holes.astype(np.float32))) <= 8


def test_hashes_of_different_ground_lie_far_apart():
    hashes = [perceptual_hash(speckled(seed)) for seed in range(60)]
    apart = [bits_apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]]
    assert min(apart) > 8
    assert 30 < np.mean(apart) < 34


def test_hash_of_a_constant_patch_and_of_one_too_small():
    assert perceptual_hash(np.full((2, 64, 64), 0.1, dtype=np.float32)) == 0
    with pytest.raises(ValueError, match="at least 32"):
        perceptual_hash(np.ones((2, 31, 64), dtype=np.float32))


def test_land_cover_fractions():
    classes = np.array([[1, 1, 2, 2], [1, 1, 7, 9]], dtype=np.uint8)
    names = ((1, "tree"), (2, "crop"), (3, "sea"), (7, "crop"))
    assert land_cover_fractions(classes, names) == {"tree": 0.5, "crop": 0.375, "class_9": 0.125}


# red, green, blue, near infrared, short-wave infrared: typical surface reflectances
MATERIALS = {
    "cloud": ((0.45, 0.46, 0.48, 0.52, 0.40), (True, False)),
    "fresh snow": ((0.85, 0.88, 0.90, 0.80, 0.08), (False, True)),
    "forest": ((0.03, 0.05, 0.03, 0.30, 0.15), (False, False)),
    "bare soil": ((0.26, 0.22, 0.16, 0.33, 0.40), (False, False)),
    "sea": ((0.02, 0.03, 0.05, 0.01, 0.01), (False, False)),
    "dry grass": ((0.16, 0.13, 0.09, 0.28, 0.32), (False, False)),
    "glinting leaves": ((0.10, 0.15, 0.19, 0.95, 0.30), (False, False)),
    "nothing": ((0.0, 0.0, 0.0, 0.0, 0.0), (False, False)),
    "negative": ((-0.01, -0.02, -0.01, -0.01, -0.01), (False, False)),
}


@pytest.mark.parametrize("name", sorted(MATERIALS))
def test_brightness_masks_of_materials(name):
    reflectance, (cloud, snow) = MATERIALS[name]
    red, green, blue, nir, swir = (np.full((2, 2), value, dtype=np.float32) for value in reflectance)
    masks = brightness_masks(np.stack([red, green, blue]), nir, swir)
    assert masks.cloud.tolist() == [[cloud] * 2] * 2
    assert masks.snow is not None
    assert masks.snow.tolist() == [[snow] * 2] * 2
    blind = brightness_masks(np.stack([red, green, blue]), nir)
    assert blind.snow is None
    assert blind.cloud.tolist() == [[cloud or snow] * 2] * 2


def chips(kind: str) -> dict[str, dict[str, np.ndarray]]:
    """band -> pixels by chip of the six pairs that travel with bigearthnet-common (kind S1 or S2)."""
    rasterio = pytest.importorskip("rasterio")
    spec = importlib.util.find_spec("bigearthnet_common")
    if spec is None or spec.origin is None:
        pytest.skip("bigearthnet-common, which carries six real chips, is not installed")
    found: dict[str, dict[str, np.ndarray]] = {}
    with tarfile.open(Path(spec.origin).parent / f"BigEarthNet-{kind}-Example.tar.bz2") as archive:
        for member in archive:
            if member.name.endswith(".tif"):
                name, band = Path(member.name).stem.rsplit("_", 1)
                stream = archive.extractfile(member)
                assert stream is not None
                with rasterio.MemoryFile(stream.read()) as memory, memory.open() as raster:
                    found.setdefault(name, {})[band] = raster.read(1)
    return found


def test_real_sentinel1_chips():
    patches = {
        name: (10 ** (np.stack([bands["VV"], bands["VH"]]) / 10)).astype(np.float32)
        for name, bands in chips("S1").items()
    }
    assert len(patches) == 6
    for sar in patches.values():
        assert sar_nodata_frac(sar) == 0.0
        assert 8 < dynamic_range_db(sar) < 20
        assert noise_floor_frac(sar, (10**-2.2, 10**-2.2)) < 0.2
        vv_db, vh_db = mean_db(sar)
        assert -12 < vv_db < -6
        assert 4 < vv_db - vh_db < 9
        noise = np.random.default_rng(1).normal(0, 0.1, sar.shape)
        assert bits_apart(perceptual_hash(sar), perceptual_hash((sar * 10 ** (noise / 10)).astype(np.float32))) <= 4
    hashes = [perceptual_hash(sar) for sar in patches.values()]
    assert min(bits_apart(a, b) for i, a in enumerate(hashes) for b in hashes[:i]) > 16


def test_real_sentinel2_chips_five_clear_one_under_snow():
    """The authors of BigEarthNet list the chip of February in patches_with_seasonal_snow, none under cloud."""
    for name, bands in chips("S2").items():
        reflectance = {band: pixels.astype(np.float32) / 1e4 for band, pixels in bands.items()}
        swir = np.kron(reflectance["B11"], np.ones((2, 2), dtype=np.float32))
        visible = np.stack([reflectance[band] for band in ("B04", "B03", "B02")])
        masks = brightness_masks(visible, reflectance["B08"], swir)
        blind = brightness_masks(visible, reflectance["B08"])
        snow_frac, cloud_frac, blind_frac = (mask_frac(mask) for mask in (masks.snow, masks.cloud, blind.cloud))
        assert snow_frac is not None
        assert cloud_frac is not None
        assert blind_frac is not None
        assert cloud_frac < 0.01
        if SNOWY_CHIP in name:
            assert snow_frac > 0.9
            assert blind_frac > 0.7  # without short-wave infrared, snow cannot be distinguished from cloud
        else:
            assert snow_frac == 0.0
            assert blind_frac < 0.001  # a few bright roofs


def test_real_cloudy_scene():
    rasterio = pytest.importorskip("rasterio")
    if not CLOUDY.is_dir():
        pytest.skip(f"{CLOUDY} is not there: real cloudy Sentinel-2 patch")
    with rasterio.open(next(CLOUDY.glob("*s2*.tif"))) as raster:
        toa = raster.read().astype(np.float32) / 1e4
    cloud_frac = mask_frac(brightness_masks(toa[[3, 2, 1]], toa[7], toa[11]).cloud)
    assert cloud_frac is not None
    assert 0.2 < cloud_frac < 0.5  # of a patch with broken cumulus: far over the default limit of 0.05
