"""Cutting and moving: whole pixels copied, fractions by the ideal kernel, missing pixels never filled."""

import numpy as np
import pytest
from scipy import ndimage

from sar1m.audit.align import align, overlap_of
from sar1m.io.picture import read_picture
from sar1m.store.errors import SourceError
from support.known_pairs import write_raster

UTM = {"crs": "EPSG:32633", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}


def noise(dtype=np.uint16, size=(90, 110), bands=1, smooth=2.0):
    rng = np.random.default_rng(4)
    planes = ndimage.gaussian_filter(rng.normal(size=(bands, *size)), (0, smooth, smooth))
    return (20_000 + 8_000 * planes / planes.std()).clip(1, 60_000).astype(dtype)


def picture(path, values, **options):
    return read_picture(write_raster(path, values, **options))


@pytest.mark.parametrize(("row_px", "col_px"), [(3.2, -5.4), (-7.0, 0.4), (0.0, 0.0)])
def test_whole_pixels_are_copied_and_both_get_the_place_of_the_sar(tmp_path, row_px, col_px):
    sar, optical = noise(), noise(bands=3)
    pair = overlap_of(picture(tmp_path / "s.tif", sar, **UTM), picture(tmp_path / "o.tif", optical, **UTM))
    cut = align(pair, row_px, col_px, resample=False)
    down, across = round(row_px), round(col_px)
    rows, cols = cut.sar.size
    assert (rows, cols) == (90 - abs(down), 110 - abs(across)) == cut.optical.size
    assert np.array_equal(cut.sar.stored, sar[:, cut.row : cut.row + rows, cut.col : cut.col + cols])
    moved = optical[:, cut.row + down : cut.row + down + rows, cut.col + across : cut.col + across + cols]
    assert np.array_equal(cut.optical.stored, moved)
    assert cut.optical.ground == cut.sar.ground
    assert cut.sar.ground.transform[2] == 500_000 + 10 * cut.col
    assert cut.sar.ground.transform[5] == 5_000_000 - 10 * cut.row


def test_a_fraction_is_moved_as_a_spline_of_high_order_moves_it(tmp_path):
    values = noise(np.float32)
    pair = overlap_of(picture(tmp_path / "s.tif", values), picture(tmp_path / "o.tif", values))
    cut = align(pair, 2.3, -1.4, resample=True)
    expected = ndimage.shift(values[0].astype(np.float64), (-2.3, 1.4), order=5, mode="mirror")
    rows, cols = cut.optical.size
    expected = expected[cut.row : cut.row + rows, cut.col : cut.col + cols]
    inner = np.s_[8:-8, 8:-8]
    assert np.abs(cut.optical.stored[0][inner] - expected[inner]).max() < 0.01 * values.std()
    assert np.isfinite(cut.optical.stored).all(), "the rows that reach beyond the picture are cut off"


def test_large_pictures_are_moved_in_strips_without_seams(tmp_path, monkeypatch):
    values = noise(np.float32, size=(300, 310))
    pair = overlap_of(picture(tmp_path / "s.tif", values), picture(tmp_path / "o.tif", values))
    whole = align(pair, 0.4, 0.3, resample=True).optical.stored
    monkeypatch.setattr("sar1m.audit.align.STRIP_ROWS", 100)
    tiled = align(pair, 0.4, 0.3, resample=True).optical.stored
    assert np.array_equal(tiled, whole)


@pytest.mark.parametrize("kind", ["nodata", "nan", "alpha", "mask"])
def test_missing_pixels_stay_missing_by_the_means_of_the_picture_and_are_never_filled(tmp_path, kind):
    values = noise(np.float32 if kind == "nan" else np.uint8 if kind == "alpha" else np.uint16, bands=4)
    values = values if kind != "alpha" else np.maximum(noise(np.uint16, bands=4) // 256, 1).astype(np.uint8)
    hole = np.s_[:, 40:60, 50:70]
    options = {}
    if kind == "nan":
        values[hole] = np.nan
    elif kind == "nodata":
        values[hole], options = 0, {"nodata": 0}
    elif kind == "alpha":
        values[3], options = 255, {"photometric": "RGB", "alpha": "YES"}
        values[3][hole[1:]] = 0
    path = write_raster(tmp_path / "o.tif", values, **options)
    if kind == "mask":
        mask = np.full(values.shape[1:], 255, np.uint8)
        mask[hole[1:]] = 0
        write_raster(tmp_path / "m.tif", mask).rename(tmp_path / "o.tif.msk")
    pair = overlap_of(picture(tmp_path / "s.tif", noise()), read_picture(path))
    cut = align(pair, 1.4, -0.3, resample=True)
    missing = np.zeros(cut.optical.size, dtype=bool)
    top, left = 40 - cut.row - 2, 50 - cut.col
    missing[top : top + 21, left : left + 21] = True  # every pixel that would mix in a missing one, and no other
    assert np.array_equal(cut.optical.missing, missing)
    stored = cut.optical.stored
    if kind == "nan":
        assert np.isnan(stored[:, missing]).all()
    elif kind == "nodata":
        assert (stored[:, missing] == 0).all()
        assert (stored[:, ~missing] != 0).all()
    elif kind == "alpha":
        assert (stored[3] == np.where(missing, 0, 255)).all()


def test_pictures_that_lie_apart_by_whole_pixels_are_cut_to_what_they_share(tmp_path):
    sar = picture(tmp_path / "s.tif", noise(), **UTM)
    place = (10.0, 0.0, 500_200.0, 0.0, -10.0, 5_000_100.0)  # 20 columns further right, 10 rows further up
    optical = picture(tmp_path / "o.tif", noise(size=(95, 80)), crs="EPSG:32633", transform=place)
    pair = overlap_of(sar, optical)
    assert pair.sar.size == pair.optical.size == (85, 80)
    assert (pair.row, pair.col) == (0, 20)
    assert pair.sar.ground == pair.optical.ground


def test_sizes_that_differ_without_places_are_refused_with_both_sizes(tmp_path):
    sar, optical = picture(tmp_path / "s.tif", noise()), picture(tmp_path / "o.tif", noise(size=(90, 100)), **UTM)
    with pytest.raises(SourceError, match=r"90 x 100 px.*90 x 110 px.*only one states"):
        overlap_of(sar, optical)


def test_places_that_do_not_meet_are_refused(tmp_path):
    sar = picture(tmp_path / "s.tif", noise(), **UTM)
    far = (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_000_000.0)
    with pytest.raises(SourceError, match="share no pixel"):
        overlap_of(sar, picture(tmp_path / "o.tif", noise(), crs="EPSG:32633", transform=far))


def test_other_pixels_are_no_overlap_that_can_be_cut(tmp_path):
    sar = picture(tmp_path / "s.tif", noise(), **UTM)
    half = (10.0, 0.0, 500_005.0, 0.0, -10.0, 5_000_000.0)
    assert overlap_of(sar, picture(tmp_path / "o.tif", noise(), crs="EPSG:32633", transform=half)) is None
