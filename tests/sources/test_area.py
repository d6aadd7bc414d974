"""Areas over a service in memory that covers the Earth as Sentinel-1 and Sentinel-2 do."""

import pickle
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow.parquet
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sar1m.config import AreaConfig, BuildConfig, GridConfig
from sar1m.core.grid import corners_lonlat
from sar1m.core.identity import content_key
from sar1m.core.utm import lonlat_from_utm
from sar1m.sources.area.plan_table import read_plan_table, write_plan_table
from sar1m.sources.area.pricing import price_rows
from sar1m.sources.area.scene_plan import scene_digest
from sar1m.sources.area.source import AreaSource, search_boxes
from sar1m.sources.placement import grid_with_halo
from sar1m.sources.regions.region import cell_indices, cells_of, parse_region
from sar1m.sources.scene import UNDATED, Asset, scene_from_text
from sar1m.store.errors import ConfigError, RegionError, SourceError
from support.fake_service import FakeService

SERVICE = FakeService()


def configured(**area):
    short = {"first": date(2023, 3, 1), "last": date(2023, 5, 1)} | area
    return BuildConfig(grid=GridConfig(patch_px=256), area=AreaConfig(**short))


CONFIG = configured()


def source(text="-9,38,-8,39", **changes):
    return replace(AreaSource(parse_region(text), FakeService(), FakeService()), **changes)


def test_every_cell_of_a_box_gets_a_pair_from_scenes_that_hold_its_block():
    """Cover is measured by shapely here, from the handles, on the block's corners."""
    area = source()
    found = list(area.candidates(CONFIG))
    assert {candidate.cell for candidate in found} == {cell.name for cell in cells_of(area.region)}
    assert len(found) == len({candidate.item_id for candidate in found}) > 100
    assert sum(candidate.optical is not None for candidate in found) > 0.8 * len(found)
    for candidate in found[::5]:
        apart = candidate.optical and abs(candidate.optical.acquired - candidate.sar.acquired)
        assert apart is None or apart <= timedelta(days=15)
        assert candidate.item_id == f"{candidate.sar.product_id}_{candidate.cell}"
        assert (len(candidate.patches), candidate.sar.quantity) == (16, "gamma0")
        assert candidate.sar.polarisations == ("VV", "VH")
        assert candidate.sar.processing == "made up; digest of the catalogue's facts"
        assert candidate.country in ("PRT", "ESP", None)
        left, bottom, right, top = candidate.grid.bounds_m
        corners = lonlat_from_utm([left, right, right, left], [bottom, bottom, top, top], candidate.grid.epsg)
        block = shapely.Polygon(np.column_stack(corners))
        for text in (text for _, text in candidate.handle if text):
            footprint = shapely.Polygon(scene_from_text(text, candidate.item_id).footprint)
            assert footprint.intersection(block).area >= 0.989 * block.area


def test_candidates_come_by_scene_then_from_south_to_north():
    found = list(source().candidates(CONFIG))
    order = [(one.sar.acquired, one.sar.product_id) for one in found]
    assert order == sorted(order)
    for product in {one.sar.product_id for one in found}:
        names = [one.cell for one in found if one.sar.product_id == product]
        placed = {cell.name: (cell.lat, cell.lon) for cell in cells_of(source().region)}
        assert [placed[name] for name in names] == sorted(placed[name] for name in names)


def test_neither_the_services_order_nor_the_boxes_change_a_candidate():
    """A service that answers backwards, and searches in boxes of another size."""
    expected = list(source("-9,36,-6,40").candidates(CONFIG))
    turned = FakeService(turned=True)
    assert list(source("-9,36,-6,40", sar=turned, optical=turned).candidates(CONFIG)) == expected
    assert list(source("-9,36,-6,40", box_deg=0.7).candidates(CONFIG)) == expected


def test_a_cell_chooses_alike_whatever_the_region():
    """What overlaps of two regions take is the same, keys included."""
    wide = {one.item_id: content_key(one, "p") for one in source("-9,37,-7,40").candidates(CONFIG)}
    narrow = {one.item_id: content_key(one, "p") for one in source("-8.2,38.1,-7.6,38.6").candidates(CONFIG)}
    assert narrow.items() <= wide.items()


def test_one_direction_a_cell_and_as_many_scenes_as_asked():
    config = configured(scenes_per_cell=4, last=date(2024, 3, 1), seasons=4)
    by_cell = {}
    for candidate in source("-8.5,38,-8,38.5").candidates(config):
        by_cell.setdefault(candidate.cell, []).append(candidate.sar)
    assert all(len(products) == 4 for products in by_cell.values())
    assert all(len({product.orbit_state for product in products}) == 1 for products in by_cell.values())
    assert all(len({product.acquired.month % 12 // 3 for product in products}) == 4 for products in by_cell.values())


@pytest.mark.parametrize("orbit", ["ascending", "descending"])
def test_the_direction_asked_for_is_kept(orbit):
    found = list(source().candidates(configured(orbit=orbit)))
    assert {one.sar.orbit_state for one in found} == {orbit}


def alone(config):
    """A configuration that keeps samples without a partner."""
    return config.model_copy(update={"balance": config.balance.model_copy(update={"max_unpaired_share": 1.0})})


def test_sar_alone_is_kept_and_counted():
    area = source(optical=None)
    with pytest.raises(ConfigError, match=r"Set balance\.max_unpaired_share = 1"):
        next(area.candidates(CONFIG))
    found = list(area.candidates(alone(CONFIG)))
    assert found
    assert all(one.optical is None for one in found)
    why = "no optical service was asked (area.optical = none)"
    assert area.remarks == [f"{len(found):,} SAR blocks without a partner: {why}."]


def test_cells_without_scenes_are_counted_by_reason():
    area = source(sar=FakeService(directions=("ascending",)))
    assert list(area.candidates(configured(orbit="descending"))) == []
    cells = len(cells_of(area.region))
    counts = {line.partition(": ")[2]: int(line.split()[0]) for line in area.remarks}
    assert sum(counts.values()) == cells
    assert counts["SAR scenes of the other orbit direction only (area.orbit)."] > 0.9 * cells
    assert any(text.startswith("no single SAR scene covers area.min_cell_cover of the block") for text in counts)
    nothing = source(sar=FakeService(directions=()))
    assert list(nothing.candidates(CONFIG)) == []
    assert nothing.remarks == [f"{cells:,} cells: the catalogue has no SAR scene here in this period."]


def test_queries_ask_for_the_period_and_partners_around_it():
    service = FakeService()
    list(source("-9,38,-8,39", sar=service, optical=service).candidates(CONFIG))
    sar, optical = service.asked
    assert (sar.first, sar.last) == (datetime(2023, 3, 1, tzinfo=UTC), datetime(2023, 5, 1, tzinfo=UTC))
    assert (optical.first, optical.last) == (sar.first - timedelta(days=15), sar.last + timedelta(days=15))
    assert optical.max_cloud_frac == CONFIG.area.max_scene_cloud_frac
    west, south, east, north = sar.box
    assert west < -9
    assert east > -8
    assert south < 38
    assert north > 39
    assert east - west < 1.4


def test_a_country_takes_tens_of_queries():
    service = FakeService(directions=())
    list(source("portugal", sar=service, optical=service).candidates(CONFIG))
    assert 1 < len(service.asked) < 20


def test_the_antimeridian_is_crossed_not_searched_around():
    """Both sides in one box that runs on; every cell is served."""
    service = FakeService()
    area = source("179,-18,-179,-17", sar=service, optical=service)
    found = list(area.candidates(CONFIG))
    assert {one.cell for one in found} == {cell.name for cell in cells_of(area.region)}
    assert len(service.asked) == 2  # one box, a query for each kind
    assert all(query.box[2] - query.box[0] < 3 for query in service.asked)
    assert any(query.box[2] > 180 for query in service.asked)


@given(
    west=st.floats(-180, 179),
    south=st.floats(-79, 82),
    width=st.floats(0.01, 40),
    height=st.floats(0.01, 1.9),
    side_deg=st.floats(0.5, 10),
)
def test_boxes_hold_every_cell_once(west, south, width, height, side_deg):
    east = (west + width + 180) % 360 - 180
    spans = [(west, east)] if west < east else [(west, 180), (-180, east)]
    area = shapely.MultiPolygon([shapely.box(a, south, b, south + height) for a, b in spans if a < b])
    row, column = cell_indices(area)
    boxes = search_boxes(row, column, side_deg)
    assert sorted(np.concatenate(boxes).tolist()) == list(range(row.size))
    lon, lat = corners_lonlat(row, column)
    for box in boxes:
        turned = np.mod(lon[box] - lon[box].min() + 1e-9, 360)
        assert np.ptp(lat[box]) <= side_deg
        assert min(np.ptp(lon[box]), np.ptp(np.mod(lon[box], 360)), np.ptp(turned)) <= 60


def test_pixels_are_read_on_the_grid_with_its_halo():
    area = source("-9,38,-8.9,38.1")
    config = configured()
    small = BuildConfig(grid=GridConfig(patch_px=32, patches_per_side=2), area=config.area)
    candidate = next(iter(area.candidates(small)))
    pixels = pickle.loads(pickle.dumps(area)).read(candidate, small)  # noqa: S301 - as Dask does it
    grid = grid_with_halo(candidate)
    assert pixels.sar.shape == (2, grid.rows, grid.cols) == (2, 96, 96)
    assert pixels.optical is not None
    assert pixels.optical.shape == (3, 96, 96)
    assert pixels.cloud_source == "scl"
    assert pixels.incidence_deg == 38.0
    single = source("-9,38,-8.9,38.1", optical=None)
    lonely = single.read(next(iter(single.candidates(alone(small)))), small)
    assert lonely.optical is None
    assert lonely.sar.shape == pixels.sar.shape


def test_workers_get_no_coastline():
    area = source("norway")
    assert len(pickle.dumps(area)) < 2000 < len(pickle.dumps(area.region))


def test_read_refuses_scenes_of_other_services():
    candidate = next(iter(source().candidates(CONFIG)))
    with pytest.raises(SourceError, match="planned with fake, read with other"):
        source(sar=FakeService(name="other")).read(candidate, CONFIG)
    with pytest.raises(SourceError, match=r"area\.optical is none"):
        source(optical=None).read(next(one for one in source().candidates(CONFIG) if one.optical), CONFIG)


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="is not before"):
        source().plan(configured(first=date(2024, 1, 1)))
    with pytest.raises(ConfigError, match=r"grid\.layout"):
        source().plan(BuildConfig(grid=GridConfig(layout="chips")))
    with pytest.raises(ConfigError, match=r"area\.optical = fake: offers sar"):
        source(optical=FakeService(kinds=frozenset({"sar"}))).plan(CONFIG)
    with pytest.raises(RegionError, match="no area"):
        source("sample").plan(CONFIG)


def test_the_digest_follows_what_the_catalogue_says_of_pixels():
    scene = next(SERVICE.search(next(iter(_asked()))))
    known = replace(scene, assets=(Asset(name="VV", href="https://a.example/1?x=2", size_bytes=5, checksum="md5:1"),))
    moved = replace(known, assets=(replace(known.assets[0], href="https://b.example/1"),))
    assert scene_digest(known) == scene_digest(moved)
    assert scene_digest(known) != scene_digest(replace(known, assets=(replace(known.assets[0], checksum="md5:2"),)))
    plain = replace(scene, assets=(Asset(name="VV", href="https://a.example/1"),))
    signed = replace(scene, assets=(Asset(name="VV", href="https://a.example/1?sig=abc"),))
    assert scene_digest(plain) == scene_digest(signed)
    assert scene_digest(plain) != scene_digest(replace(scene, assets=(Asset(name="VV", href="https://a.example/2"),)))
    assert scene_digest(plain) != scene_digest(replace(plain, processing_baseline="05.10"))


def _asked():
    service = FakeService()
    list(source(sar=service).candidates(CONFIG))
    return service.asked


class UndatedService(FakeService):
    """One picture of the box that is asked for, like that of the service tiles."""

    def search(self, query):
        self.asked.append(query)
        tile = next(FakeService().search(replace(query, max_cloud_frac=1.0)))
        west, south, east, north = query.box
        ring = ((west, south), (east, south), (east, north), (west, north), (west, south))
        yield replace(tile, scene_id="picture", acquired=UNDATED, footprint=ring, cloud_frac=None)


def test_an_undated_partner_has_no_time_in_candidates_plans_and_handles(tmp_path):
    area = source(optical=UndatedService())
    found = list(area.candidates(CONFIG))
    assert {one.optical.product_id for one in found} == {"picture"}
    assert {one.optical.acquired for one in found} == {None}
    sides = [scene_from_text(text, "x") for _, text in found[0].handle]
    assert [side.acquired == UNDATED for side in sides] == [False, True]
    plan = area.plan(CONFIG)
    assert np.isnan(plan.dt_hours).all()
    path = tmp_path / "plan.parquet"
    write_plan_table(path, plan, price_rows(plan, area.sar, area.optical, CONFIG), CONFIG)
    table = pyarrow.parquet.read_table(path)
    assert table["dt_hours"].null_count == len(table)
    assert list(area.candidates_of(read_plan_table(path, CONFIG), CONFIG)) == found


def test_remarks_of_one_service_in_both_places_come_once():
    service = FakeService()
    object.__setattr__(service, "remarks", ["left out: one item"])
    area = source(sar=service, optical=service)
    list(area.candidates(CONFIG))
    assert area.remarks.count("left out: one item") == 1
