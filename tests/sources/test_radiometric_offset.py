"""An offset of 1000 DN that the description denies is seen in the pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio

from sar1m.config import BuildConfig, GridConfig, ScreeningConfig
from sar1m.core.screening import judge_optical
from sar1m.sources.folder.source import FolderSource
from sar1m.sources.layers import OPTICAL_BANDS
from sar1m.stages.prepare import prepare_block
from sar1m.store.errors import SourceError
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.paths import SHARED

CONFIG = BuildConfig(grid=GridConfig(layout="chips", patch_px=64, patches_per_side=1, halo_px=8))
REAL = SHARED / "data"
# Top of the atmosphere over dark forest and water, DN: Rayleigh light in the blue, next to none in B10
CLEAR_DN = dict(zip(OPTICAL_BANDS, (1250, 950, 700, 480, 500, 900, 1100, 1050, 1200, 400, 12, 600, 300), strict=True))


def chips(root: Path, added_dn: int, bands: tuple[str, ...] = OPTICAL_BANDS) -> Path:
    """One chip laid out as TerraMesh: radar, and Sentinel-2 with a number added to every DN."""
    rng, grid = np.random.default_rng(2), utm_grid(80, 80)
    write_tiff(root / "S1RTC/a.tif", speckled_db(rng, 2, 80, 80), grid)
    spread = rng.gamma(9.0, 1 / 9, (len(bands), 80, 80))
    values = np.asarray([CLEAR_DN[band] for band in bands])[:, None, None] * spread + added_dn
    folder = "S2L1C" if "B10" in bands else "S2L2A"
    write_tiff(root / folder / "a.tif", np.maximum(np.rint(values), 1).astype(np.uint16), grid)
    return root


def rows_of(root: Path, config: BuildConfig = CONFIG) -> pd.DataFrame:
    source = FolderSource(root)
    blocks = [
        prepare_block(candidate, source.read(candidate, config), config) for candidate in source.candidates(config)
    ]
    return pd.DataFrame([row for record, _ in blocks for row in record.rows])


@pytest.mark.parametrize(("added_dn", "reason"), [(0, ""), (1000, "radiometric_offset")])
def test_b10_of_a_clear_chip_shows_the_offset(tmp_path, added_dn, reason):
    rows = rows_of(chips(tmp_path, added_dn))
    floor = np.quantile(12 * np.random.default_rng(2).gamma(9.0, 1 / 9, (13, 80, 80))[10], 0.01) + added_dn
    assert rows["optical_floor_min"].to_numpy() == pytest.approx([floor / 1e4], abs=2e-4)
    assert rows["optical_floor_max"].equals(rows["optical_floor_min"])
    verdict = judge_optical(rows, ScreeningConfig())
    assert verdict.reason.tolist() == [reason]
    if reason:
        assert verdict.measured == pytest.approx([0.1006], abs=5e-4)
        assert verdict.limit.tolist() == [0.095]


def test_without_b10_dark_water_shows_it_in_all_bands(tmp_path, monkeypatch):
    bands = tuple(band for band in OPTICAL_BANDS if band != "B10")
    for band, dn in {"B02": 250, "B03": 220, "B04": 150, "B08": 90}.items():
        monkeypatch.setitem(CLEAR_DN, band, dn)
    assert judge_optical(rows_of(chips(tmp_path / "0", 0, bands)), ScreeningConfig()).reason.tolist() == [""]
    found = judge_optical(rows_of(chips(tmp_path / "1", 1000, bands)), ScreeningConfig())
    assert found.reason.tolist() == ["radiometric_offset"]
    monkeypatch.setitem(CLEAR_DN, "B08", 3000)  # a forest: nothing is dark in all bands, and nothing is said
    assert judge_optical(rows_of(chips(tmp_path / "2", 1000, bands)), ScreeningConfig()).reason.tolist() == [""]


def reasons_of(root: Path, config: BuildConfig) -> list[str]:
    """Why partners are left out, cloud apart; refused where most of a picture is darker than black."""
    try:
        return judge_optical(rows_of(root, config), ScreeningConfig(max_cloud_frac=1)).reason.tolist()
    except SourceError as error:
        return [str(error)]


def real_chips() -> dict[str, Path]:
    found = {path.stem: path for path in sorted((REAL / "s1s2_rtc_pairs/S2L2A").glob("*.tif"))}
    return found | {path.stem: path for path in sorted((REAL / "s1s2_cloudy").glob("*s2*.tif"))}


@pytest.mark.skipif(not REAL.is_dir(), reason="real chips (../shared/data) are not here")
@pytest.mark.parametrize(("added_dn", "found"), [(0, 0), (1000, 2), (-1000, 4)])
def test_of_four_real_chips_none_is_blamed_and_offsets_are_seen_where_the_bands_allow(tmp_path, added_dn, found):
    """Their DN are harmonised. An added 1000 shows in the chip with B10 and in the one at the coast; ground that is
    bright in one band hides it in the two others. 1000 too few shows in all."""
    config = BuildConfig(grid=GridConfig(layout="chips", patch_px=192, patches_per_side=1, halo_px=16))
    rng, reasons = np.random.default_rng(2), []
    for name, path in real_chips().items():
        with rasterio.open(path) as dataset:
            values = dataset.read()[:, :224, :224].astype(np.int32)
        whole, grid = values.shape[0] == 13, utm_grid(224, 224)
        write_tiff(tmp_path / name / "S1RTC/a.tif", speckled_db(rng, 2, 224, 224), grid)
        shifted = np.where(values == 0, 0, values + added_dn).astype(np.int16)
        write_tiff(tmp_path / name / ("S2L1C" if whole else "S2L2A") / "a.tif", shifted, grid)
        reasons += reasons_of(tmp_path / name, config)
    assert len(reasons) - reasons.count("") == found
    assert all(reason in ("", "radiometric_offset") or "median reflectance is -0.0" in reason for reason in reasons)
