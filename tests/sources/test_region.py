import json
import re
from pathlib import Path

import geopandas
import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from sar1m.core.grid import columns_in_row, corners_lonlat, row_latitude_deg
from sar1m.sources.regions.countries import find_country
from sar1m.sources.regions.region import cell_indices, cells_of, parse_region
from sar1m.store.errors import RegionError
from support.examples import examples

SQUARE = [[[8.0, 40.0], [9.0, 40.0], [9.0, 41.0], [8.0, 41.0], [8.0, 40.0]]]
# as files hold them: GEOS warns of numbers so small that their squares are lost
LON, LAT = (st.floats(-most, most).map(lambda degrees: round(degrees, 9)) for most in (179, 79))
BOW_TIE = [[[0.0, 0.0], [10.0, 10.0], [10.0, 0.0], [0.0, 10.0], [0.0, 0.0]]]


def _geojson(path: Path, coordinates: object, kind: str = "Polygon", **extra: object) -> str:
    feature = {"type": "Feature", "properties": {}, "geometry": {"type": kind, "coordinates": coordinates}}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature], **extra}), encoding="utf-8")
    return str(path)


def _boxes(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    west, south = corners_lonlat(rows, columns)
    return shapely.box(west, south, west + 360 / columns_in_row(rows), row_latitude_deg(rows + 1))


def test_kinds_without_an_area(tmp_path: Path) -> None:
    sample = parse_region(" Sample ")
    assert (sample.kind, sample.label, sample.geometry) == ("sample", "sample", None)
    simulated = parse_region("simulated:64")
    assert (simulated.kind, simulated.label, simulated.argument) == ("simulated", "simulated-64", "64")
    inbox = tmp_path / "My Scenes"
    inbox.mkdir()
    folder = parse_region(f"folder:{inbox}")
    assert (folder.kind, folder.label, folder.argument) == ("folder", "folder-my-scenes", str(inbox))
    assert cells_of(folder) == []


def test_a_folder_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scenes").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_region("folder:scenes").argument == str(tmp_path / "scenes")


@pytest.mark.parametrize("text", ["Portugal", "PT", "prt"])
def test_a_country(text: str) -> None:
    region = parse_region(text)
    assert (region.kind, region.label, region.argument) == ("area", "portugal", "PRT")


def test_labels_are_fit_for_folders() -> None:
    for text in ("Côte d'Ivoire", "-9.5,37,-6,42.25", "US", "simulated:5"):
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", parse_region(text).label)
    assert parse_region("-9.5,37,-6,42.25").label == "box-9.5W-37N-6W-42.25N"


def test_a_box_across_the_antimeridian_is_split() -> None:
    region = parse_region("177,-20,-178,-15")
    assert region.geometry is not None
    assert sorted(part.bounds for part in region.geometry.geoms) == [(-180, -20, -178, -15), (177, -20, 180, -15)]
    assert parse_region("177,-20,180,-15").geometry == shapely.MultiPolygon([shapely.box(177, -20, 180, -15)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no country"),
        ("Portugla", "Did you mean Portugal"),
        ("simulated:", "1 to 5061519"),
        ("simulated:0", "1 to 5061519"),
        ("simulated:many", "1 to 5061519"),
        ("simulated:99999999", "1 to 5061519"),
        ("folder:", "not an existing folder"),
        ("folder:/no/such/place", "not an existing folder"),
        ("1,2,3", "four numbers"),
        ("1,2,3,4,5", "four numbers"),
        ("1,2,x,4", "four numbers"),
        ("1,2,nan,4", "four numbers"),
        ("41,-120,42,-110", r"lat,lon order.*try -120,41,-110,42"),
        ("170,0,190,10", "outside the world"),
        ("120,-95,130,10", "outside the world"),
        ("0,10,5,5", "not below north"),
        ("0,5,10,5", "empty"),
        ("5,0,5,10", "empty"),
        ("180,0,-180,10", "empty"),
        ("0,-85,10,-70", "UTM"),
        ("0,80,10,85", "UTM"),
        ("Antarctica", "UTM"),
        ("/vsicurl/http://example.org/a.geojson", "only files on this machine"),
        ("https://example.org/a.geojson", "only files on this machine"),
        ("missing.geojson", "no such file"),
        ("some/where", "no such file"),
    ],
)
def test_a_wrong_text_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(RegionError, match=message):
        parse_region(text)


def test_a_geojson_file(tmp_path: Path) -> None:
    region = parse_region(_geojson(tmp_path / "My Area.geojson", SQUARE))
    assert (region.kind, region.label, region.notes) == ("area", "file-my-area", ())
    assert region.geometry is not None
    assert region.geometry.equals(shapely.box(8, 40, 9, 41))


def test_a_geojson_file_of_the_old_format_in_degrees_gets_no_note(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:OGC:1.3:CRS84"}}
    assert parse_region(_geojson(tmp_path / "a.json", SQUARE, crs=crs)).notes == ()


def test_a_file_across_the_antimeridian_is_split(tmp_path: Path) -> None:
    ring = [[[178.0, -18.0], [182.0, -18.0], [182.0, -16.0], [178.0, -16.0], [178.0, -18.0]]]
    geometry = parse_region(_geojson(tmp_path / "fiji.geojson", ring)).geometry
    assert geometry is not None
    assert sorted(part.bounds for part in geometry.geoms) == [(-180, -18, -178, -16), (178, -18, 180, -16)]
    same = parse_region("178,-18,-178,-16").geometry
    np.testing.assert_array_equal(cell_indices(geometry), cell_indices(same))


def _utm_geopackage(path: Path, crs: int | None) -> str:
    corners = geopandas.GeoSeries([shapely.box(-8, 40, -7.9, 40.1)], crs=4326).to_crs(32629)
    geopandas.GeoDataFrame(geometry=corners.tolist(), crs=crs).to_file(path, driver="GPKG")
    return str(path)


def test_a_projected_geopackage_is_reprojected_with_a_note(tmp_path: Path) -> None:
    region = parse_region(_utm_geopackage(tmp_path / "utm.gpkg", 32629))
    assert region.geometry is not None
    np.testing.assert_allclose(region.geometry.bounds, (-8, 40, -7.9, 40.1), atol=1e-3)
    assert region.notes == ("utm.gpkg: reprojected from WGS 84 / UTM zone 29N to WGS 84 degrees",)


@pytest.mark.filterwarnings("ignore:'crs' was not provided:UserWarning")
@pytest.mark.parametrize("crs", [None, 4326])
def test_metres_without_their_system_are_refused(tmp_path: Path, crs: int | None) -> None:
    with pytest.raises(RegionError, match=r"utm\.gpkg.*(cannot be degrees|no place on Earth)"):
        parse_region(_utm_geopackage(tmp_path / "utm.gpkg", crs))


def test_a_geopackage_in_degrees_gives_the_same_area_as_geojson(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    geopandas.GeoDataFrame(geometry=[shapely.Polygon(SQUARE[0])], crs=4326).to_file(path, driver="GPKG")
    region = parse_region(str(path))
    assert region.notes == ()
    assert region.geometry.equals(parse_region(_geojson(tmp_path / "a.geojson", SQUARE)).geometry)


def test_a_geopackage_with_two_layers_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.gpkg"
    frame = geopandas.GeoDataFrame(geometry=[shapely.Polygon(SQUARE[0])], crs=4326)
    frame.to_file(path, driver="GPKG", layer="one")
    frame.to_file(path, driver="GPKG", layer="two")
    with pytest.raises(RegionError, match="2 layers"):
        parse_region(str(path))


@pytest.mark.parametrize(
    ("coordinates", "kind", "message"),
    [
        (BOW_TIE, "Polygon", r"crosses itself.*Self-intersection\[5 5\]"),
        ([1.0, 2.0], "Point", "no polygon.*Point"),
        ([[0.0, 0.0], [1.0, 1.0]], "LineString", "no polygon.*LineString"),
        ([], "Polygon", "no polygon"),
        ([[[0, 0], [1, 1], [2, 2], [0, 0]]], "Polygon", "crosses itself or is broken"),
        ([[[40, -120], [41, -120], [41, -119], [40, -119], [40, -120]]], "Polygon", "lat,lon order"),
        ([[[5e5, 4e6], [6e5, 4e6], [6e5, 5e6], [5e5, 4e6]]], "Polygon", "cannot be degrees"),
        ([[[0, 80], [120, 80], [120, 95], [0, 80]]], "Polygon", "outside the world"),
        ([[[0, 80], [12, 80], [12, 86], [0, 80]]], "Polygon", "UTM"),
        ([[[0, 0], [1, float("nan")], [1, 1], [0, 0]]], "Polygon", "finite"),
        ([[["a", 0], [1, 0], [1, 1], ["a", 0]]], "Polygon", "not a GeoJSON"),
    ],
)
def test_a_wrong_geojson_is_refused_with_the_reason(
    tmp_path: Path, coordinates: object, kind: str, message: str
) -> None:
    with pytest.raises(RegionError, match=message) as caught:
        parse_region(_geojson(tmp_path / "bad.geojson", coordinates, kind))
    assert "bad.geojson" in str(caught.value)


@pytest.mark.parametrize("other", [shapely.Point(30.0, 10.0), shapely.LineString([(30, 10), (31, 11)])])
@pytest.mark.parametrize("form", ["a.geojson", "a.gpkg"])
def test_points_and_lines_beside_polygons_are_refused(tmp_path: Path, form: str, other: shapely.Geometry) -> None:
    """Passed over in a file of places to leave out, each would be a leak."""
    path = tmp_path / form
    geopandas.GeoDataFrame(geometry=[shapely.Polygon(SQUARE[0]), other], crs=4326).to_file(path)
    with pytest.raises(RegionError, match=rf"{form}: holds 1 {other.geom_type} beside its polygons"):
        parse_region(str(path))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.geojson", b"", "is empty"),
        ("a.geojson", b"not json", "is not JSON"),
        ("a.geojson", b"[1, 2]", "not a GeoJSON"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": []}', "no polygon.*nothing"),
        ("a.geojson", b"\xff\xfe\x00", "is UTF-16 text"),
        ("a.geojson", b"<OGRVRTDataSource/>", "is not JSON"),
        ("a.gpkg", b"<OGRVRTDataSource><OGRVRTLayer/></OGRVRTDataSource>", "not a GeoPackage"),
        ("a.gpkg", b"SQLite format 3\x00 and nothing more", "not a readable GeoPackage"),
        ("a.tif", b"II*\x00", "not a vector file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RegionError, match=message):
        parse_region(str(path))


def test_an_unknown_coordinate_system_is_refused(tmp_path: Path) -> None:
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::999999"}}
    with pytest.raises(RegionError, match="not known"):
        parse_region(_geojson(tmp_path / "a.json", SQUARE, crs=crs))


def test_portugal_is_covered_by_its_cells_and_by_no_cell_too_many() -> None:
    region = parse_region("Portugal")
    rows, columns = cell_indices(region.geometry)
    outline = find_country("PRT").geometry
    boxes = _boxes(rows, columns)
    assert shapely.difference(outline, shapely.union_all(boxes)).area < 1e-9
    assert shapely.intersects(outline, boxes).all()
    area_km2 = float(geopandas.GeoSeries([outline], crs=4326).to_crs(6933).area.iloc[0]) / 1e6
    assert 90_000 < area_km2 < 94_000  # 92,230 km2 with the islands
    assert area_km2 / 100 < rows.size < 1.3 * area_km2 / 100  # the coast and the border take part cells


def test_cells_come_once_from_south_to_north_then_from_west_to_east() -> None:
    cells = cells_of(parse_region("Portugal"))
    assert len({cell.name for cell in cells}) == len(cells)
    assert [(cell.lat, cell.lon) for cell in cells] == sorted((cell.lat, cell.lon) for cell in cells)
    assert {cell.epsg for cell in cells} == {32625, 32626, 32628, 32629}  # Azores, Madeira, mainland


def test_russia_crosses_the_antimeridian_without_a_gap() -> None:
    rows, columns = cell_indices(parse_region("RU").geometry)
    lon, lat = corners_lonlat(rows, columns)
    chukotka = (lat > 66.5) & (lat < 68)
    assert (lon[chukotka] > 179).any()
    assert (lon[chukotka] < -179).any()


@examples(0.3)
@given(st.lists(st.tuples(LON, LAT), min_size=3, max_size=8), st.floats(0.05, 3))
def test_cells_of_any_polygon_are_those_that_meet_it(points: list[tuple[float, float]], width_deg: float) -> None:
    shape = shapely.LineString(points).buffer(width_deg / 20)
    polygon = shapely.intersection(shape, shapely.box(points[0][0] - 2, points[0][1] - 2, points[0][0] + 2, 83.9))
    polygon = shapely.intersection(polygon, shapely.box(-180, -80, 180, points[0][1] + 2))
    area = shapely.MultiPolygon([part for part in shapely.get_parts(polygon) if part.area > 0])
    rows, columns = cell_indices(area)
    around = parse_region(
        "{},{},{},{}".format(*(round(edge, 6) for edge in shapely.buffer(area, 0.01).bounds))
    ).geometry
    every_row, every_column = cell_indices(around)
    boxes = _boxes(every_row, every_column)
    overlap = shapely.area(shapely.intersection(area, boxes))
    taken = set(zip(rows.tolist(), columns.tolist(), strict=True))
    meeting = set(zip(every_row[overlap > 1e-12].tolist(), every_column[overlap > 1e-12].tolist(), strict=True))
    assert meeting <= taken
    extra = taken - set(zip(every_row[overlap > 0].tolist(), every_column[overlap > 0].tolist(), strict=True))
    assert not extra
