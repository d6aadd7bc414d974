"""The simulated source: cells, products, shares, and pixels that depend on seed and cell alone."""

import pickle

import numpy as np
import pytest

from sar1m.config import BuildConfig, GridConfig, PixelsConfig, SimulatedConfig
from sar1m.core.grid import cell_names, centres_lonlat, corners_lonlat, parse_cell_name
from sar1m.sources.simulated import MAX_CELLS, SimulatedSource, cluster_cells
from sar1m.store.errors import SourceError

GRID = GridConfig(patch_px=64, patches_per_side=2, halo_px=8)
EARTH_RADIUS_KM = 6371.0


def _config(**sections):
    return BuildConfig(grid=GRID, **sections)


def _candidates(count, **sections):
    return list(SimulatedSource(count).candidates(_config(**sections)))


def _pixel_bytes(pixels):
    return b"".join(a.tobytes() for a in (pixels.sar, pixels.optical, pixels.cloud, pixels.land_cover))


def _distance_km(first, second):
    lon1, lat1, lon2, lat2 = np.radians([*first, *second])
    half = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin((lon2 - lon1) / 2) ** 2
    return 2 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half))


def test_fewer_cells_are_the_beginning_of_more():
    many = _candidates(200)
    assert _candidates(31) == many[:31]
    assert len({item.item_id for item in many}) == len({item.cell for item in many}) == 200


def test_the_largest_source_has_a_million_patches_on_distinct_cells_within_its_region():
    rows, columns = cluster_cells(MAX_CELLS)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) == MAX_CELLS
    assert MAX_CELLS * 16 > 1_000_000
    lon, lat = corners_lonlat(rows, columns)
    assert (lon.min() > 14, lat.min() > -14, lon.max() < 34, lat.max() < 29) == (True,) * 4
    first = _candidates(40)
    assert [item.cell for item in first] == cell_names(rows[:40], columns[:40])


def test_clusters_stand_far_apart_while_their_cells_touch():
    items = _candidates(36)
    lon, lat = centres_lonlat([item.grid for item in items])
    places = list(zip(lon.tolist(), lat.tolist(), strict=True))
    distances = [_distance_km(places[i], places[j]) for i in range(12) for j in range(i)]
    assert min(distances) > 150
    for first, second in zip(places[:12], places[12:24], strict=True):
        assert 8 < _distance_km(first, second) < 15


def test_candidates_describe_both_products():
    items = _candidates(60, simulated=SimulatedConfig(unpaired_share=0.3))
    for item in items:
        parse_cell_name(item.cell)
        assert item.grid.rows == item.grid.cols == 128
        assert item.patches[0].name.startswith(f"{item.cell}_")
        assert len(item.patches) == 4
        assert item.sar.polarisations == ("VV", "VH")
        assert item.sar.quantity == "gamma0"
        assert item.sar.orbit_state in {"ascending", "descending"}
        assert 1 <= item.sar.relative_orbit <= 175
        assert item.sar.acquired.utcoffset().total_seconds() == 0
        assert item.sar.licence == "CC0-1.0"
    assert {item.sar.orbit_state for item in items} == {"ascending", "descending"}
    assert {item.optical is None for item in items} == {True, False}


def test_shares_and_time_gaps_are_those_of_the_configuration():
    items = _candidates(1500, simulated=SimulatedConfig(unpaired_share=0.25))
    paired = [item for item in items if item.optical is not None]
    assert len(paired) / len(items) == pytest.approx(0.75, abs=0.035)
    days = np.array([(item.optical.acquired - item.sar.acquired).total_seconds() / 86400 for item in paired])
    late = np.abs(days) > 15
    assert late.mean() == pytest.approx(0.1, abs=0.03)
    assert np.abs(days[~late]).max() < 4
    assert (days > 0).any()
    assert (days < 0).any()


def _first_paired(config, source=None):
    return next(item for item in (source or SimulatedSource(20)).candidates(config) if item.optical is not None)


def test_pixels_depend_on_seed_and_cell_alone():
    config = _config()
    wanted = _first_paired(config)
    first = SimulatedSource(20).read(wanted, config)
    other_order = SimulatedSource(500)
    others = [item for item in other_order.candidates(config) if item.cell != wanted.cell and item.optical is not None]
    different = other_order.read(others[7], config)
    again = other_order.read(pickle.loads(pickle.dumps(wanted)), config)  # noqa: S301
    assert _pixel_bytes(again) == _pixel_bytes(first)
    assert again.truth_shift_px == first.truth_shift_px
    reseeded = SimulatedSource(20).read(wanted, _config(seed=99))
    for other in (different, reseeded):
        assert np.mean(other.land_cover == first.land_cover) < 0.8
        assert other.truth_shift_px != first.truth_shift_px


def test_digests_name_the_pixels():
    base = _candidates(12)
    assert _candidates(12) == base
    for change in ({"seed": 99}, {"simulated": SimulatedConfig(enl=3.0)}):
        for old, new in zip(base, _candidates(12, **change), strict=True):
            assert new.sar.digest != old.sar.digest
    digests = [item.sar.digest for item in base] + [item.optical.digest for item in base if item.optical]
    assert len(set(digests)) == len(digests)


def test_blocks_come_with_halo_and_all_that_is_known():
    config = _config()
    item = _first_paired(config)
    pixels = SimulatedSource(20).read(item, config)
    side = 128 + 2 * 8
    assert pixels.sar.shape == (2, side, side)
    assert pixels.optical.shape == (3, side, side)
    assert pixels.registration_optical.shape == (4, side, side)
    for mask in (pixels.cloud, pixels.snow, pixels.water, pixels.layover_shadow, pixels.land_cover):
        assert mask.shape == (side, side)
    assert np.isfinite(pixels.sar).all()
    assert not pixels.snow.any()
    assert set(np.unique(pixels.land_cover).tolist()) <= {number for number, _ in pixels.land_cover_names}
    assert 30 < pixels.incidence_deg < 46
    assert pixels.noise_floor == pytest.approx((10**-2.5, 10**-2.5))
    assert all(abs(shift) <= 3 for shift in pixels.truth_shift_px)
    nothing_moved = SimulatedSource(20).read(item, _config(simulated=SimulatedConfig(max_shift_px=0.0)))
    assert nothing_moved.truth_shift_px == (0.0, 0.0)


def test_optical_bands_come_in_the_configured_order():
    config = _config(pixels=PixelsConfig(optical_bands=("B08", "B02")))
    item = _first_paired(config)
    assert item.optical.bands == ("B08", "B02")
    pixels = SimulatedSource(20).read(item, config)
    assert np.array_equal(pixels.optical, pixels.registration_optical[[3, 0]])


def test_unpaired_blocks_have_no_optical_side():
    config = _config(simulated=SimulatedConfig(unpaired_share=1.0))
    item = next(SimulatedSource(1).candidates(config))
    pixels = SimulatedSource(1).read(item, config)
    assert item.optical is None
    for absent in (pixels.optical, pixels.registration_optical, pixels.cloud, pixels.snow, pixels.truth_shift_px):
        assert absent is None


def test_cloudy_share_changes_clouds_and_nothing_else():
    clear, cloudy = (_config(simulated=SimulatedConfig(cloudy_share=share)) for share in (0.0, 1.0))
    items = [item for item in SimulatedSource(6).candidates(clear) if item.optical is not None]
    covers = []
    for item in items:
        without, under = (SimulatedSource(6).read(item, config) for config in (clear, cloudy))
        assert not without.cloud.any()
        covers.append(under.cloud.mean())
        assert np.array_equal(without.sar, under.sar)
        assert without.truth_shift_px == under.truth_shift_px
        unclouded = ~under.cloud
        assert np.abs(under.optical - without.optical)[:, unclouded].max(initial=0) <= 0.08
    assert np.mean(covers) > 0.2


def test_looks_are_those_of_the_configuration():
    smooth, speckled = (_config(simulated=SimulatedConfig(enl=looks)) for looks in (1e6, 3.0))
    item = _first_paired(smooth)
    mean, image = (SimulatedSource(20).read(item, config).sar + 10**-2.5 for config in (smooth, speckled))
    assert (image / mean).var() * 3 == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("bands", [("B04", "B11"), ()])
def test_bands_the_simulator_lacks_are_refused(bands):
    config = _config(pixels=PixelsConfig(optical_bands=bands))
    with pytest.raises(SourceError, match="B02, B03, B04, B08"):
        next(SimulatedSource(1).candidates(config))
    with pytest.raises(SourceError, match="optical_bands"):
        SimulatedSource(1).read(_first_paired(_config()), config)


@pytest.mark.parametrize("count", [0, -3, MAX_CELLS + 1])
def test_impossible_numbers_of_cells_are_refused(count):
    with pytest.raises(SourceError, match=f"from 1 to {MAX_CELLS}"):
        SimulatedSource(count)


def test_another_source_s_candidate_is_refused():
    item = _first_paired(_config())
    fields = {name: getattr(item, name) for name in item.__dataclass_fields__} | {"source": "sample"}
    with pytest.raises(SourceError, match="'sample'"):
        SimulatedSource(20).read(type(item)(**fields), _config())
