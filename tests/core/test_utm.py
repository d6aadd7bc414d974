import numpy as np
import pytest
from pyproj import Transformer

from sar1m.core.utm import lonlat_from_utm, utm_epsg, utm_from_lonlat
from sar1m.store.errors import SourceError

MICROMETRE = 1e-6
METRE_DEG = 1 / 111_320


@pytest.mark.parametrize("epsg", [32601, 32631, 32660, 32701, 32733, 32760])
def test_agrees_with_proj_within_a_micrometre_up_to_a_neighbouring_zone(epsg: int) -> None:
    rng = np.random.default_rng(epsg)
    meridian = epsg % 100 * 6 - 183
    lon = rng.uniform(meridian - 6, meridian + 6, 5000)
    lat = rng.uniform(0, 84, 5000) * (1 if epsg < 32700 else -1)
    proj = Transformer.from_crs(4326, epsg, always_xy=True)
    x_m, y_m = proj.transform(lon, lat)
    ours_x, ours_y = utm_from_lonlat(lon, lat, epsg)
    np.testing.assert_allclose(ours_x, x_m, rtol=0, atol=MICROMETRE)
    np.testing.assert_allclose(ours_y, y_m, rtol=0, atol=MICROMETRE)
    back_lon, back_lat = lonlat_from_utm(x_m, y_m, epsg)
    turned = np.mod(back_lon - lon + 180, 360) - 180  # PROJ keeps 181 degrees, we wrap
    assert np.abs(turned * np.cos(np.radians(lat))).max() < MICROMETRE * METRE_DEG
    assert np.abs(back_lat - lat).max() < MICROMETRE * METRE_DEG
    assert np.all((back_lon >= -180) & (back_lon <= 180))


def test_each_point_has_its_own_zone() -> None:
    x_m, y_m = utm_from_lonlat([9.0, -45.0, 21.0], [0.0, 0.0, -1e-12], [32632, 32623, 32734])
    np.testing.assert_allclose(x_m, 500_000, atol=MICROMETRE)
    np.testing.assert_allclose(y_m, [0, 0, 1e7], atol=MICROMETRE)


@pytest.mark.parametrize(
    ("lon", "lat", "epsg"),
    [
        (-180.0, 0.0, 32601),
        (179.99, 10.0, 32660),
        (180.0, 10.0, 32601),
        (0.0, -0.001, 32731),
        (-9.14, 38.7, 32629),
        (5.0, 60.0, 32632),  # Norway: 31 without the exception
        (5.0, 55.9, 32631),
        (5.0, 64.0, 32631),
        (2.9, 60.0, 32631),
        (8.9, 78.0, 32631),  # Svalbard has no zones 32, 34 and 36
        (9.0, 78.0, 32633),
        (21.0, 78.0, 32635),
        (33.0, 78.0, 32637),
        (42.0, 78.0, 32638),
        (9.0, 71.9, 32632),
    ],
)
def test_zone_of_a_point(lon: float, lat: float, epsg: int) -> None:
    assert int(utm_epsg(lon, lat)) == epsg


@pytest.mark.parametrize("epsg", [3857, 32600, 32661, 32700, 32761, 4326])
def test_another_system_is_named_and_refused(epsg: int) -> None:
    with pytest.raises(SourceError, match=f"EPSG:{epsg} is not a WGS 84 / UTM zone"):
        lonlat_from_utm([500_000.0, 500_000.0], 0.0, [32631, epsg])
