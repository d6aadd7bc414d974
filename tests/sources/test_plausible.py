"""Numbers against the unit a description gives them: every wrong unit of the trade, and every right one."""

import numpy as np
import pytest
import rasterio

from sar1m.core.plateaus import optical_plateau_frac, sar_plateau_frac, saturated_frac
from sar1m.sources.folder.source import FolderSource
from sar1m.sources.plausible import require_power, require_reflectance
from sar1m.store.errors import SourceError
from support.folders import CONFIG, OPTICAL_ROW, SAR_ROW, read_all, write_table
from support.geotiffs import utm_grid, write_tiff
from support.paths import SHARED

SIDE = 80
RNG = np.random.default_rng(11)
LAND = (0.08 * RNG.gamma(4.4, 1 / 4.4, (SIDE, SIDE))).astype(np.float32)
SEA = (0.0006 * RNG.gamma(4.4, 1 / 4.4, (SIDE, SIDE)) - 0.0005).astype(np.float32)  # VH, noise taken off
LAND_DB = 10 * np.log10(LAND)
GREEN = RNG.normal(0.11, 0.03, (SIDE, SIDE)).clip(0.002).astype(np.float32)


def patched(values, fill, share):
    """So many of the values are one number."""
    changed = values.copy()
    changed.flat[: round(share * changed.size)] = fill
    return changed


def from_db(decibels):
    """As the reader converts them, in float64 first."""
    return (10 ** (np.asarray(decibels, dtype=np.float64) / 10)).astype(np.float32)


WRONG_POWER = {
    "amplitude DN as power": (300 * np.sqrt(LAND) * 3, "linear", r"median is 2\d"),
    "DN of GRD squared": ((300 * np.sqrt(LAND)) ** 2, "linear", "no scene has a median over 15 dB"),
    "sigma nought times 10000": (np.rint(LAND * 1e4), "linear", "no scene has"),
    "sigma nought in percent": (LAND * 100, "linear", "nine tenths over 0 dB"),
    "decibels as power": (LAND_DB, "linear", r"100\.0 % of its values are under -0\.5.*unit db"),
    "power as decibels": (from_db(LAND), "db", "nine tenths over 0 dB.*unit linear"),
    "amplitude DN as decibels": (from_db(np.sqrt(LAND) * 300), "db", "no scene has"),
    "decibels without their sign": (from_db(-LAND_DB), "db", "nine tenths over 0 dB"),
    "decibels times 100": (from_db(LAND_DB * 100), "db", r"darker than -50 dB.*0\.01"),
    "power times 1e-6": (LAND * 1e-6, "linear", "darker than -50 dB"),
    "-9999 dB in a tenth": (from_db(patched(LAND_DB, -9999, 0.1)), "db", r"10\.0 % .* \(0 in 10 % of them\).*nodata"),
    "-99 dB in a twentieth": (from_db(patched(LAND_DB, -99, 0.05)), "db", "not between -90 and 40 dB"),
    "-9999 power in a twentieth": (patched(LAND, -9999, 0.05), "linear", r"5\.0 % .* \(-9999 in 5 % .*nodata"),
    "65535 power in a twentieth": (patched(LAND, 65535, 0.05), "linear", r"\(65535 in 5 % of them\)"),
}


@pytest.mark.parametrize("name", WRONG_POWER)
def test_sar_numbers_that_cannot_be_their_unit_are_refused_with_what_was_found(name):
    values, unit, message = WRONG_POWER[name]
    with pytest.raises(SourceError, match=f"a.tif, VV: described as .*{message}"):
        require_power(np.asarray(values, np.float32), unit, "a.tif, VV")


RIGHT_POWER = {
    "land": (LAND, "linear"),
    "land in decibels": (from_db(LAND_DB), "db"),
    "calm water, noise taken off, half of it negative": (SEA, "linear"),
    "calm water in decibels, clipped": (from_db(10 * np.log10(np.maximum(SEA, 1e-5))), "db"),
    "a town with reflectors": (patched(LAND * 8, 2000.0, 0.004), "linear"),
    "a ship of one pixel": (patched(SEA, 3000.0, 0.0002), "linear"),
    "a few decibels of nothing": (from_db(patched(LAND_DB, -9999, 0.005)), "db"),
    "a few negative powers of -1": (patched(LAND, -1.0, 0.005), "linear"),
    "no value at all": (np.full((4, 4), np.nan), "linear"),
}


@pytest.mark.parametrize("name", RIGHT_POWER)
def test_sar_numbers_as_radars_deliver_them_pass(name):
    values, unit = RIGHT_POWER[name]
    require_power(np.asarray(values, np.float32), unit, "a.tif, VV")


WRONG_REFLECTANCE = {
    "percent": (GREEN * 100, "reflectance", "percent has 0.01"),
    "digital numbers as floats": (GREEN * 1e4, "reflectance", "most digital numbers 0.0001"),
    "radiance": (GREEN * 450, "reflectance", "median reflectance is"),
    "a picture": (np.rint(GREEN * 850), "reflectance", "rgb8 for pictures"),
    "an offset taken twice": (GREEN - 0.2, "dn", "median reflectance is -0.0"),
    "reflectance as digital numbers": (GREEN * 1e-4, "dn", "state the unit reflectance"),
    "-9999 in a twentieth": (patched(GREEN, -9999, 0.05), "reflectance", r"5\.0 % .* \(-9999 in 5 %.*nodata"),
    "digital numbers as a picture": (GREEN * 1e4, "rgb8", "a picture of 0 to 255"),
    "fractions as a picture": (GREEN, "rgb8", "a picture of 0 to 255"),
}


@pytest.mark.parametrize("name", WRONG_REFLECTANCE)
def test_optical_numbers_that_cannot_be_their_unit_are_refused(name):
    values, unit, message = WRONG_REFLECTANCE[name]
    with pytest.raises(SourceError, match=f"b.tif, B03: described as {unit}.*{message}"):
        require_reflectance(np.asarray(values, np.float32), unit, "b.tif, B03")


RIGHT_REFLECTANCE = {
    "land": (GREEN, "reflectance"),
    "fresh snow and glint": (patched(np.full_like(GREEN, 1.05), 1.9, 0.1), "dn"),
    "dark water under haze taken off": (RNG.normal(-0.004, 0.003, (SIDE, SIDE)), "dn"),
    "a band that is dark throughout": (np.where(GREEN > 0.1, 2e-4, 1e-4), "dn"),
    "a picture": (np.rint(GREEN * 850), "rgb8"),
    "a black picture": (np.zeros((SIDE, SIDE)), "rgb8"),
    "no value at all": (np.full((4, 4), np.nan), "dn"),
}


@pytest.mark.parametrize("name", RIGHT_REFLECTANCE)
def test_optical_numbers_as_they_are_delivered_pass(name):
    values, unit = RIGHT_REFLECTANCE[name]
    require_reflectance(np.asarray(values, np.float32), unit, "b.tif, B03")


EIGHT_BITS = np.rint(GREEN * 850).astype(np.uint8)


@pytest.mark.parametrize(
    ("sar", "optical", "unit", "message"),
    [
        pytest.param(np.sqrt(LAND) * 900, GREEN, "reflectance", "vv.tif, VV: described as linear", id="amplitude"),
        pytest.param(LAND, GREEN * 100, "reflectance", "rgb.tif, B04: described as reflectance", id="percent"),
        pytest.param(LAND, EIGHT_BITS, "dn", "rgb.tif, B04: described as dn, but stored as uint8", id="8 bits"),
    ],
)
def test_the_folder_reader_names_file_and_band(tmp_path, sar, optical, unit, message):
    grid = utm_grid(SIDE, SIDE)
    write_tiff(tmp_path / "vv.tif", sar.astype(np.float32), grid)
    write_tiff(tmp_path / "rgb.tif", np.stack([optical] * 3), grid)
    table = write_table(tmp_path, [SAR_ROW, OPTICAL_ROW | {"unit": unit, "baseline": "03.00" if unit == "dn" else ""}])
    with pytest.raises(SourceError, match=message):
        read_all(FolderSource(table), CONFIG)


@pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="no real chips in ../shared/data")
def test_no_real_chip_is_lost():
    """The sibling without ../shared: six real pairs through a whole build, tests/test_cli.py and the card's counts."""
    data = SHARED / "data"
    radar = [
        *data.glob("s1s2_rtc_pairs/S1RTC/*.tif"),
        *data.glob("s1s2_cloudy/*_s1_*.tif"),
        *data.glob("flood_chips/s1/*"),
    ]
    seen = 0
    for path in radar:
        with rasterio.open(path) as raster:
            power = from_db(raster.read(masked=False))
        for band in power:
            require_power(band, "db", path.name)
        plateau = sar_plateau_frac(power, (10**-2.5, 10**-2.5))
        assert np.isnan(plateau) or plateau < 0.01, path.name
        seen += 1
    for path in [*data.glob("s1s2_rtc_pairs/S2L2A/*.tif"), *data.glob("s1s2_cloudy/*_s2_*.tif")]:
        with rasterio.open(path) as raster:
            optical = raster.read([2, 3, 4, 8]).astype(np.float32) * np.float32(1e-4)
        for band in optical:
            require_reflectance(band, "dn", path.name)
        assert optical_plateau_frac(optical, display=False) < 0.1, path.name
        assert saturated_frac(optical, display=False) == 0.0, path.name
        seen += 1
    assert seen >= 10
