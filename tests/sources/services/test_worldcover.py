"""Land cover under blocks, from a loopback store of tiles in degrees."""

# ruff: noqa: F811 - fixtures are imported from stac_world
import pickle

import numpy as np
import pytest

from sar1m.config import AreaConfig, BalanceConfig, BuildConfig, GridConfig
from sar1m.core.grid import bounds_lonlat
from sar1m.core.utm import lonlat_from_utm
from sar1m.records import RasterGrid
from sar1m.sources.area.pricing import price_rows
from sar1m.sources.area.source import AreaSource
from sar1m.sources.placement import grid_with_halo
from sar1m.sources.regions.region import parse_region
from sar1m.sources.scene import LAND_COVER_ATTRIBUTION
from sar1m.sources.services.stac import worldcover
from sar1m.store.errors import ConfigError, SourceError
from servers.stac import COVER_NUMBERS, Place, land_cover_at
from support.stac_world import BLOCK, JULY, JUNE, a_fetcher, a_service, fetcher, running_server  # noqa: F401  fixtures

CORNER = RasterGrid(epsg=32633, left_m=499_000.0, top_m=4_984_000.0, gsd_m=10.0, rows=200, cols=200)  # 45 N, 15 E
TILES = [(42, 12), (42, 15), (45, 12), (45, 15)]
AROUND = (14.9, 44.9, 15.3, 45.3)


@pytest.fixture
def server(monkeypatch):
    with running_server(monkeypatch) as running:
        yield running


def truth(grid):
    """At the middles of pixels, and where these lie clear of an edge between two fields."""
    x = grid.left_m + (np.arange(grid.cols) + 0.5) * grid.gsd_m
    y = grid.top_m - (np.arange(grid.rows) + 0.5) * grid.gsd_m
    lon, lat = lonlat_from_utm(*np.meshgrid(x, y), grid.epsg)
    inside = (np.abs(lon * 100 - np.rint(lon * 100)) > 0.02) & (np.abs(lat * 100 - np.rint(lat * 100)) > 0.02)
    return land_cover_at(lon, lat), inside


def test_classes_are_those_of_the_tiles_that_meet_under_a_block(server, fetcher):
    for tile in TILES:
        server.add_land_cover(*tile, AROUND)
        server.items["stac"][-2]["properties"]["datetime"] = "2021-06-01T00:00:00Z"  # the older map comes first
    found = a_service(fetcher).land_cover.read(CORNER)
    expected, inside = truth(CORNER)
    assert inside.mean() > 0.9
    np.testing.assert_array_equal(found.land_cover[inside], expected[inside])
    assert set(np.unique(found.land_cover)) <= set(COVER_NUMBERS)  # not a pixel is left between two tiles
    np.testing.assert_array_equal(found.water, found.land_cover == 80)
    assert found.water.any()
    assert dict(found.land_cover_names)[80] == "Permanent water bodies"
    assert {number for number, _ in found.land_cover_names} == set(COVER_NUMBERS.tolist())
    assert found.optical is None
    assert "v100" not in " ".join(request.path for request in server.blobs.asked)


def test_a_tile_is_searched_once_a_process(server, fetcher):
    server.add_land_cover(45, 15, AROUND)
    reader = a_service(fetcher).land_cover
    first = reader.read(BLOCK)
    asked = len(server.api.asked)
    again = pickle.loads(pickle.dumps(a_service(fetcher))).land_cover.read(BLOCK)  # noqa: S301
    np.testing.assert_array_equal(first.land_cover, again.land_cover)
    assert len(server.api.asked) == asked


def test_where_there_is_no_tile_there_is_no_land_cover(server, fetcher):
    reader = a_service(fetcher).land_cover
    found = reader.read(BLOCK)
    assert (found.land_cover, found.water, found.flags) == (None, None, {worldcover.NO_LAND_COVER})
    server.add_land_cover(42, 15, AROUND)
    part = a_service(a_fetcher(fetcher.settings.root.parent / "new")).land_cover.read(CORNER)
    assert 0 < (part.land_cover == 0).mean() < 1
    across = RasterGrid(epsg=32660, left_m=824_000.0, top_m=1_000_000.0, gsd_m=10.0, rows=1024, cols=1024)
    assert list(worldcover.tiles_under(across)) == []


@pytest.mark.parametrize(
    ("south", "west", "name"), [(39, -12, "N39W012"), (-3, 0, "S03E000"), (0, 177, "N00E177"), (-60, -180, "S60W180")]
)
def test_tiles_are_named_by_their_south_west_corner(south, west, name):
    assert worldcover.tile_id(south, west) == f"ESA_WorldCover_10m_2021_v200_{name}"


@pytest.mark.parametrize("href", ["https://evil.example/x.tif", "file:///etc/passwd", "/vsicurl/x", None])
def test_an_address_elsewhere_is_not_asked(server, fetcher, href):
    server.add_land_cover(45, 15, AROUND)
    server.items["stac"][-1]["assets"]["map"]["href"] = href
    with pytest.raises(SourceError, match="not fetched"):
        a_service(fetcher).land_cover.read(BLOCK)
    server.items["stac"][-1]["assets"] = {}
    with pytest.raises(SourceError, match="no asset named map"):
        a_service(fetcher).land_cover.read(BLOCK)
    assert server.blobs.asked == []


def area_config(**area):
    given = {"first": JUNE.date(), "last": JULY.date(), "land_cover": True} | area
    alone = BalanceConfig(max_unpaired_share=1.0)
    return BuildConfig(grid=GridConfig(patch_px=64, patches_per_side=2), area=AreaConfig(**given), balance=alone)


def area_source(service, optical):
    west, south, east, north = bounds_lonlat([BLOCK])[0]
    lon, lat = (west + east) / 2, (south + north) / 2
    text = f"{lon - 0.001:.4f},{lat - 0.001:.4f},{lon + 0.001:.4f},{lat + 0.001:.4f}"
    return AreaSource(parse_region(text), service, optical)


@pytest.mark.parametrize("paired", [True, False])
def test_blocks_of_an_area_carry_it_with_and_without_a_partner(server, fetcher, paired):
    service, config = a_service(fetcher), area_config()
    source = area_source(service, service if paired else None)
    (planned,) = source.candidates(config)
    grid = grid_with_halo(planned)
    server.items["stac"].clear()
    server.add(Place(grid=grid.window(-100, -100, grid.rows + 200, grid.cols + 200)))
    west, south, east, north = bounds_lonlat([grid])[0]
    server.add_land_cover(45, 15, (west - 0.01, south - 0.01, east + 0.01, north + 0.01))
    (candidate,) = source.candidates(config)
    assert candidate.attribution.endswith(LAND_COVER_ATTRIBUTION)
    pixels = pickle.loads(pickle.dumps(source)).read(candidate, config)  # noqa: S301 - as Dask does it
    expected, inside = truth(grid)
    np.testing.assert_array_equal(pixels.land_cover[inside], expected[inside])
    assert (pixels.optical is not None) == paired
    assert (pixels.cloud is not None) == paired
    without = source.read(candidate, area_config(land_cover=False))
    assert (without.land_cover, without.water) == (None, None)
    np.testing.assert_array_equal(without.sar, pixels.sar)


def test_it_has_its_price_and_its_key(server, fetcher):
    service = a_service(fetcher)
    plain, covered = area_config(land_cover=False), area_config()
    source = area_source(service, service)
    plan = source.plan(covered)
    with_it, without = (price_rows(plan, service, service, config).total for config in (covered, plain))
    (candidate,) = source.candidates(covered)
    price = service.land_cover.price(grid_with_halo(candidate))
    assert with_it.requests - without.requests == pytest.approx(price.requests)
    assert with_it.bytes - without.bytes == pytest.approx(price.bytes)
    (other,) = source.candidates(plain)
    assert LAND_COVER_ATTRIBUTION not in other.attribution


def test_services_without_it_are_refused_before_anything_is_asked(server, fetcher):
    open_one = a_service(fetcher, "stac", f"{server.api.url}/v1")
    assert open_one.land_cover is None
    with pytest.raises(ConfigError, match=r"area\.land_cover: neither stac nor none"):
        list(area_source(open_one, None).candidates(area_config()))
    assert server.api.asked == []
