"""Polygon files in any coordinate system: regions, places to leave out and ecoregions by one way onto the globe.

Oracle: PROJ by itself. Edges are divided finely in the file's own system and reprojected point by point; areas are
those of geodesics, which know no antimeridian.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import geopandas
import numpy as np
import pyproj
import pytest
import shapely

from sar1m.config import BalanceConfig, BuildConfig
from sar1m.core.grid import cells_at
from sar1m.core.screening import footprint_rule
from sar1m.sources.regions.ecoregions import open_ecoregions
from sar1m.sources.regions.on_globe import polygons_on_globe
from sar1m.sources.regions.polygon_file import read_polygons
from sar1m.sources.regions.region import cell_indices, parse_region
from sar1m.stages.choose import excluded_boxes
from sar1m.store.errors import RegionError
from support.candidate_tables import candidate_table

ROTATED_POLE = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=40 +lon_0=190 +to_meter=0.0174532925199433 +type=crs"
WEB_MERCATOR_HALF_M = 20_037_508.342789244


@dataclass(frozen=True)
class Drawn:
    """A polygon as somebody draws it in a coordinate system."""

    crs: str
    shape: shapely.Polygon


def square(crs: str, x: float, y: float, side: float) -> Drawn:
    return Drawn(crs, shapely.box(x - side / 2, y - side / 2, x + side / 2, y + side / 2))


def around(crs: str, lon: float, lat: float, side: float) -> Drawn:
    return square(crs, *pyproj.Transformer.from_crs(4326, crs, always_xy=True).transform(lon, lat), side)


PROJECTED = {
    "Fiji in UTM 60 S": around("EPSG:32760", 180.0, -17.0, 100_000),
    "Chukotka in UTM 60 N": around("EPSG:32660", 180.0, 66.0, 60_000),
    "Chukotka in UTM 1 N": around("EPSG:32601", -179.9, 66.0, 60_000),
    "Aleutians in an equal-area system in feet": around("EPSG:2964", 179.9, 51.9, 300_000),
    "the Pacific in its own Mercator": around("EPSG:3832", 179.0, -40.0, 900_000),
    "beyond the edge of web Mercator": square("EPSG:3857", WEB_MERCATOR_HALF_M, -1_900_000.0, 200_000),
    "the whole width of web Mercator": Drawn(
        "EPSG:3857", shapely.box(-WEB_MERCATOR_HALF_M, 1_000_000, WEB_MERCATOR_HALF_M, 1_200_000)
    ),
    "Europe by four corners": Drawn("EPSG:3035", shapely.box(2_600_000, 1_500_000, 5_800_000, 5_000_000)),
    "New Zealand's Chathams": around("EPSG:2193", -176.5, -44.0, 150_000),
    "a ring around the north pole": Drawn("EPSG:3413", shapely.box(-2.5e6, -2.5e6, 2.5e6, 2.5e6)),
    "a ring around the south pole": Drawn("EPSG:3031", shapely.box(-3e6, -2e6, 2e6, 3e6)),
    "a pole with a hole around it": Drawn(
        "EPSG:3413", shapely.box(-3e6, -3e6, 3e6, 3e6).difference(shapely.box(-1e6, -1e6, 1e6, 1e6))
    ),
    "a pole with a hole on the seam": Drawn(
        "EPSG:3413", shapely.box(-3e6, -3e6, 3e6, 3e6).difference(shapely.box(-2.5e6, -2.5e6, -2.2e6, -2.2e6))
    ),
    "a hole across 180": Drawn(
        "EPSG:32760",
        around("EPSG:32760", 180.0, -17.0, 200_000).shape.difference(around("EPSG:32760", 180.0, -17.0, 50_000).shape),
    ),
    "degrees of a rotated pole": square(ROTATED_POLE, 0.0, 0.0, 4.0),
}


def divided(drawn: Drawn) -> list[np.ndarray]:
    """Rings in degrees, exterior first, 400 points and more an edge, by PROJ."""
    transformer = pyproj.Transformer.from_crs(drawn.crs, 4326, always_xy=True)
    step = drawn.shape.length / 4000
    return [
        np.column_stack(transformer.transform(*shapely.get_coordinates(shapely.segmentize(ring, step)).T))
        for ring in shapely.get_rings(drawn.shape)
    ]


def geodesic_area_km2(rings: list[np.ndarray]) -> float:
    geod = pyproj.Geod(ellps="WGS84")
    shell, *holes = (abs(geod.polygon_area_perimeter(*ring.T)[0]) / 1e6 for ring in rings)
    return shell - sum(holes)


def within(drawn: Drawn, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes and latitudes of points inside, drawn evenly in the system's own plane."""
    rng = np.random.default_rng(3)
    west, south, east, north = drawn.shape.bounds
    x, y = rng.uniform(west, east, count), rng.uniform(south, north, count)
    inside = shapely.contains_xy(drawn.shape, x, y)
    return pyproj.Transformer.from_crs(drawn.crs, 4326, always_xy=True).transform(x[inside], y[inside])


def covered(polygons: list[shapely.Polygon], lon: np.ndarray, lat: np.ndarray) -> np.ndarray:
    turns = [lon + turn for turn in (-360, 0, 360)]
    return np.any([shapely.contains_xy(one, x, lat) for one in polygons for x in turns], axis=0)


@pytest.mark.parametrize("name", PROJECTED)
def test_a_projected_polygon_covers_on_the_globe_what_it_covers_on_its_map(name: str) -> None:
    drawn = PROJECTED[name]
    polygons, owner, notes = polygons_on_globe([drawn.shape], pyproj.CRS(drawn.crs), "a/b.gpkg")
    assert set(owner) == {0}
    assert notes[0].startswith("b.gpkg: reprojected from ")
    assert all(
        one.is_valid and -180 <= one.bounds[0] < 180 and one.bounds[2] - one.bounds[0] <= 360 for one in polygons
    )
    lon, lat = within(drawn)
    assert covered(polygons, lon, lat).mean() > 0.999  # a point on the seam of a ring around a pole is in no part
    found = sum(geodesic_area_km2([shapely.get_coordinates(r) for r in shapely.get_rings(one)]) for one in polygons)
    if "whole width" not in name:  # a geodesic of half the globe goes over the pole
        expected = geodesic_area_km2(divided(drawn))
        assert min(found, 510_065_621.7 - found) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize("name", ["Fiji in UTM 60 S", "Chukotka in UTM 1 N", "Europe by four corners"])
def test_the_cells_of_a_projected_region_are_those_that_it_meets(name: str, tmp_path: Path) -> None:
    drawn = PROJECTED[name]
    path = tmp_path / "area.gpkg"
    geopandas.GeoDataFrame(geometry=[drawn.shape], crs=drawn.crs).to_file(path)
    rows, columns = cell_indices(parse_region(str(path)).geometry)
    taken = set(zip(rows.tolist(), columns.tolist(), strict=True))
    lon, lat = within(drawn, 200_000)
    met = set(zip(*(part.tolist() for part in cells_at(lon, lat)), strict=True))
    assert met <= taken
    if name != "Europe by four corners":  # where points are dense, no cell is left but those touched at a corner
        assert len(taken - met) <= 3


def geojson(path: Path, *rings: list[list[float]]) -> Path:
    path.write_text(json.dumps({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]}))
    return path


def ring_of(west: float, east: float, south: float = -17.0, north: float = -16.0) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


def dense(ring: list[list[float]]) -> list[list[float]]:
    """The short way across 180, cut nowhere, a point every quarter of a degree."""
    lon = [179 + step / 4 - (360 if 179 + step / 4 > 180 else 0) for step in range(9)]
    south, north = ring[0][1], ring[2][1]
    return [[x, south] for x in lon] + [[x, north] for x in reversed(lon)] + [[lon[0], south]]


def without(path: Path) -> BuildConfig:
    """A configuration that leaves a file's places out."""
    config = BuildConfig()
    return config.model_copy(update={"split": config.split.model_copy(update={"exclude_footprints": str(path)})})


@pytest.mark.parametrize(
    "rings",
    [
        [ring_of(179, -179)],
        [ring_of(-179, 179)],
        [[[179, -17], [-179, -16.5], [179, -16], [179, -17]]],
        [dense(ring_of(179, -179))],
        [ring_of(10, 20), ring_of(-170, 30)],
        [ring_of(-179.9, 179.9)],
        [ring_of(0, 359)],
    ],
)
def test_an_edge_that_could_go_either_way_round_is_refused_in_every_use(rings, tmp_path: Path) -> None:
    path = geojson(tmp_path / "uncut.geojson", *rings)
    leave_out = without(path)
    named = tmp_path / "named.geojson"
    shape = shapely.MultiPolygon([shapely.Polygon(ring) for ring in rings])
    geopandas.GeoDataFrame({"ECO_NAME": ["x"]}, geometry=[shape], crs=4326).to_file(named)
    for use in (
        lambda: parse_region(str(path)),
        lambda: excluded_boxes(leave_out),
        lambda: open_ecoregions(BalanceConfig(ecoregions=str(named))),
    ):
        with pytest.raises(
            RegionError, match=r"\.geojson: an edge runs from longitude .* cut the polygon at 180"
        ) as said:
            use()
        assert "RFC 7946" in str(said.value)


@pytest.mark.parametrize(
    ("rings", "inside", "outside"),
    [
        ([ring_of(179, 181)], (180.5, -16.5), (0.0, -16.5)),
        ([ring_of(-181, -179)], (179.5, -16.5), (0.0, -16.5)),
        ([ring_of(185, 190)], (-172.0, -16.5), (175.0, -16.5)),
        ([ring_of(179, 180), ring_of(-180, -179)], (-179.5, -16.5), (0.0, -16.5)),
        ([ring_of(-180, 180)], (12.0, -16.5), (12.0, -15.0)),
        ([ring_of(0, 360)], (-12.0, -16.5), (12.0, -15.0)),
        ([ring_of(-90, 90)], (12.0, -16.5), (170.0, -16.5)),
        (
            [[[-179, -17], [0, -17], [179, -17], [179, -16], [0, -16], [-179, -16], [-179, -17]]],
            (12.0, -16.5),
            (180.0, -16.5),
        ),
    ],
)
def test_degrees_that_are_said_plainly_are_taken_as_they_stand(rings, inside, outside, tmp_path: Path) -> None:
    path = geojson(tmp_path / "plain.geojson", *rings)
    rows, columns = cell_indices(parse_region(str(path)).geometry)
    taken = set(zip(rows.tolist(), columns.tolist(), strict=True))
    met = tuple(int(part) for part in cells_at(*inside))
    missed = tuple(int(part) for part in cells_at(*outside))
    assert met in taken
    assert missed not in taken
    polygons, _ = read_polygons(path)
    assert covered(polygons, np.array([inside[0]]), np.array([inside[1]])).all()


@pytest.mark.parametrize(
    ("crs", "unit"), [("EPSG:4807", "grads from Paris"), ("EPSG:4258", "degrees"), ("EPSG:4801", "degrees from Bern")]
)
def test_degrees_of_another_datum_and_meridian_keep_their_turn(crs: str, unit: str) -> None:
    edges = np.array([178.0, 182.0]) / (0.9 if "grads" in unit else 1.0)
    drawn = Drawn(crs, shapely.box(edges[0], 40.0, edges[1], 50.0))
    (found,), _, notes = polygons_on_globe([drawn.shape], pyproj.CRS(crs), "a.gpkg")
    lon, _ = pyproj.Transformer.from_crs(crs, 4326, always_xy=True).transform(edges, [45.0, 45.0])
    assert np.mod(found.bounds[0] - lon[0] + 180, 360) == pytest.approx(180, abs=0.01)
    assert found.bounds[2] - found.bounds[0] == pytest.approx(4.0, abs=1e-3)
    assert notes


def test_polygons_that_are_right_as_they_stand_keep_their_last_bit() -> None:
    given = [shapely.box(0.1, 0.2, 0.3, 0.4), shapely.box(-180, -80, 180, 84), shapely.box(179, 0, 181, 1)]
    for crs in (None, pyproj.CRS(4326), pyproj.CRS("OGC:CRS84")):
        found, owner, notes = polygons_on_globe(given, crs, "a.geojson")
        assert [one.wkb for one in found] == [one.wkb for one in given]
        assert (owner, notes) == ([0, 1, 2], ())


@pytest.mark.parametrize(
    ("crs", "shape", "words"),
    [
        ("IAU_2015:30100", shapely.box(1, 1, 2, 2), "has no place on Earth"),
        ("EPSG:4978", shapely.box(1, 1, 2, 2), "has no place on Earth"),
        ("EPSG:32760", shapely.box(0, 0, 1e15, 1e15), "too long for the Earth"),
        ("ESRI:54009", shapely.box(3e7, 0, 3.1e7, 1e6), "leave the Earth when reprojected"),
        ("EPSG:32760", shapely.Polygon([(0, 0), (np.inf, 0), (1, 1)]), "not finite"),
        ("EPSG:4258", shapely.box(500_000, 0, 600_000, 1), "cannot be degrees"),
        ("EPSG:4258", shapely.box(179, 0, -179, 1), "an edge runs from"),
    ],
)
def test_what_has_no_place_on_earth_is_named(crs: str, shape: shapely.Polygon, words: str) -> None:
    with pytest.raises(RegionError, match=rf"^a\.gpkg: .*{words}"), np.errstate(invalid="ignore"):
        polygons_on_globe([shape], pyproj.CRS(crs), "a.gpkg")


@pytest.mark.parametrize(
    "drawn",
    [
        around("EPSG:32660", 180.0, 66.0, 20_000),
        around("EPSG:32601", -179.95, 66.0, 25_000),
        Drawn("EPSG:4326", shapely.box(179.8, 65.9, 180.2, 66.1)),
        Drawn("EPSG:4326", shapely.box(-180.2, 65.9, -179.8, 66.1)),
        Drawn(
            "EPSG:4326",
            shapely.MultiPolygon([shapely.box(179.8, 65.9, 180, 66.1), shapely.box(-180, 65.9, -179.8, 66.1)]),
        ),
    ],
)
def test_a_benchmark_across_180_keeps_its_own_samples_out_and_no_others(drawn: Drawn, tmp_path: Path) -> None:
    path = tmp_path / "benchmark.gpkg"
    geopandas.GeoDataFrame(geometry=[drawn.shape], crs=drawn.crs).to_file(path)
    place = [(179.99, -179.99), (178.99, 179.01), (-179.01, -178.99), (-175.01, -174.99), (0.0, 0.1)]
    table = candidate_table(len(place)).assign(bounds_lonlat=[[west, 65.99, east, 66.01] for west, east in place])
    rule = footprint_rule(table, excluded_boxes(without(path)), 10.0)
    assert rule.broken.tolist() == [True, False, False, False, False]
    assert 25 < rule.measured[2] <= rule.measured[1] + 1 < 45  # some 0.7 degrees at 66 N


def test_an_ecoregion_in_a_projected_system_holds_its_points_on_both_sides_of_180(tmp_path: Path) -> None:
    path = tmp_path / "eco.gpkg"
    drawn = {name: PROJECTED[name] for name in ("Fiji in UTM 60 S", "a hole across 180")}
    geopandas.GeoDataFrame(
        {"ECO_NAME": ["small", "holed"]}, geometry=[one.shape for one in drawn.values()], crs="EPSG:32760"
    ).to_file(path)
    found = open_ecoregions(BalanceConfig(ecoregions=str(path))).at(
        [179.9, -179.9, 179.7, -179.4, -179.15, 178.0, 0.0], [-17.0] * 7
    )
    assert found == ["small", "small", "holed", "holed", "holed", None, None]
