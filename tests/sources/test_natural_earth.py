import numpy as np
import pytest
import shapely

from sar1m.sources.regions.countries import countries, country_of, find_country, plain_name
from sar1m.store.errors import RegionError


def test_countries_are_sorted_valid_and_inside_the_world() -> None:
    codes = [country.alpha_3 for country in countries()]
    assert codes == sorted(set(codes))
    assert len(codes) == 238
    assert len({country.alpha_2 for country in countries()}) == 238
    for country in countries():
        assert country.geometry.is_valid, country.name
        assert country.geometry.area > 0, country.name
        west, south, east, north = country.geometry.bounds
        assert west >= -180
        assert south >= -90
        assert east <= 180
        assert north <= 90


def test_no_country_lies_on_another() -> None:
    outlines = [country.geometry for country in countries()]
    first, second = shapely.STRtree(outlines).query(outlines, predicate="overlaps")
    shared = shapely.area(shapely.intersection(np.asarray(outlines)[first], np.asarray(outlines)[second]))
    assert shared.max(initial=0) < 0.01  # square degrees: thinned lines may cross a little


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Portugal", "PRT"),
        ("portugal", "PRT"),
        ("PT", "PRT"),
        ("prt", "PRT"),
        ("Côte d'Ivoire", "CIV"),
        ("cote d ivoire", "CIV"),
        ("Ivory Coast", "CIV"),
        ("UK", "GBR"),
        ("USA", "USA"),
        ("U.S.A.", "USA"),
        ("Czech Republic", "CZE"),
        ("Türkiye", "TUR"),
        ("Turkey", "TUR"),
        ("Congo", "COG"),
        ("DR Congo", "COD"),
        ("Guinea", "GIN"),
        ("Niger", "NER"),
        ("Kosovo", "XKX"),
        ("South Korea", "KOR"),
    ],
)
def test_a_country_is_found_by_name_alias_and_code(text: str, code: str) -> None:
    assert find_country(text).alpha_3 == code


def test_every_name_and_code_finds_its_own_country() -> None:
    for country in countries():
        for text in (country.name, country.alpha_2, country.alpha_3, *country.aliases):
            assert find_country(text) is country, text


@pytest.mark.parametrize(
    ("text", "hint"), [("Portugla", "Portugal"), ("Germny", "Germany"), ("untied kingdom", "United Kingdom")]
)
def test_a_misspelt_country_gets_a_suggestion(text: str, hint: str) -> None:
    with pytest.raises(RegionError, match=f"Did you mean .*{hint}"):
        find_country(text)


def test_nonsense_gets_the_list_of_forms_and_no_suggestion() -> None:
    with pytest.raises(RegionError, match="Expected sample") as caught:
        find_country("qqqqqq")
    assert "Did you mean" not in str(caught.value)


def test_country_of_known_places() -> None:
    places = {
        "Coimbra": (-8.42, 40.21, "PRT"),
        "Paris": (2.35, 48.86, "FRA"),
        "Kourou's hinterland": (-53.2, 4.5, "FRA"),
        "Lesotho, a hole in South Africa": (28.2, -29.5, "LSO"),
        "Chukotka, east of the antimeridian": (-175.0, 67.0, "RUS"),
        "south pole": (0.0, -89.99, "ATA"),
        "Hargeisa": (44.06, 9.56, "SOM"),
        "Siachen glacier": (77.0, 35.4, None),
        "Atlantic": (-30.0, 0.0, None),
    }
    lon, lat, code = zip(*places.values(), strict=True)
    assert country_of(lon, lat) == list(code)
    assert country_of(-8.42, 40.21) == ["PRT"]
    assert country_of([], []) == []


def test_country_of_agrees_with_a_search_through_all_outlines() -> None:
    rng = np.random.default_rng(7)
    lon, lat = rng.uniform(-180, 180, 300), rng.uniform(-60, 75, 300)
    found = country_of(lon, lat)
    for x, y, code in zip(lon, lat, found, strict=True):
        point = shapely.Point(x, y)
        assert code == next((c.alpha_3 for c in countries() if c.geometry.intersects(point)), None)
    assert len(set(found)) > 20


def test_names_are_compared_without_accents_and_punctuation() -> None:
    assert plain_name("  São Tomé & Príncipe ") == "sao tome principe"
