"""What services of whole products share: names, footprints, prices, and the check that guards the cache."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import shapely
from hypothesis import example, given
from hypothesis import strategies as st

from sar1m.io.safe import archive
from sar1m.sources.services.cdse.service import Cdse
from sar1m.sources.services.products.names import (
    channels_of,
    checked_start,
    direction,
    one_ring,
    product_name,
    version,
)
from sar1m.sources.services.products.service import check_product
from sar1m.store.errors import ConfigError, SourceError
from servers.delivered import QUERY, corrupted, make_fetcher, without_member

NAME = "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8"


def test_a_whole_product_passes_and_nothing_less(delivered, tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(delivered.content)
    check_product(path, product_id=delivered.product_id)
    for content in (
        corrupted(delivered),
        without_member(delivered, "-vv-20210809"),
        delivered.content[:-1],
        b"",
        b"PK",
    ):
        path.write_bytes(content)
        with pytest.raises(SourceError):
            check_product(path, product_id=delivered.product_id)
    path.write_bytes(delivered.content)
    with pytest.raises(SourceError, match=r"expected S1A_IW_GRDH_1SDV_20210809T173953.* with VV, VH"):
        check_product(path, product_id=NAME)


def test_an_image_is_read_to_its_end(delivered, tmp_path, monkeypatch):
    """Real images come in thousands of pieces, the CRC with the last."""
    monkeypatch.setattr(archive, "PIECE_BYTES", 4096)
    path = tmp_path / "x.zip"
    path.write_bytes(corrupted(delivered))
    with pytest.raises(SourceError, match=r"cannot be read"):
        check_product(path, product_id=delivered.product_id)


def test_names_state_polarisations_and_other_products_are_passed_over():
    assert channels_of(NAME) == ("VV", "VH")
    assert channels_of(NAME.replace("1SDV", "1SSH")) == ("HH",)
    assert channels_of(NAME.replace("1SDV", "1SDH")) == ("HH", "HV")
    assert product_name(NAME, "asf").datatake == "049F13"
    for other in (f"{NAME}_COG", f"{NAME}/../../x", NAME.replace("GRDH", "SLC_"), NAME.replace("IW_GRDH", "EW_GRDM")):
        assert product_name(other, "asf") is None
    for strange in ("", "../../etc/passwd", "S2A_MSIL1C_20200808T010311_N0500_R045_T54PXA_20230413T212505"):
        with pytest.raises(SourceError, match=r"asf: the catalogue lists a product named"):
            product_name(strange, "asf")


def test_facts_that_are_none_are_not_taken():
    assert (version("003.71"), version("<x>"), version(None), version(3.71)) == ("003.71", "", "", "")
    assert (direction("ASCENDING"), direction("up"), direction(None)) == ("ascending", None, None)
    name = product_name(NAME, "asf")
    stated = datetime(2021, 8, 9, 17, 39, 53, 153776)  # noqa: DTZ001 - as a catalogue without zones states it
    assert checked_start(stated, name, NAME, "asf") == stated.replace(tzinfo=UTC)
    with pytest.raises(SourceError, match=r"the catalogue says it starts at 2021-08-09T17:40:53.*its name says"):
        checked_start(stated + timedelta(minutes=1), name, NAME, "asf")


@given(
    lon=st.floats(-180, 179.9),
    lat=st.floats(-70, 70),
    width=st.floats(0.5, 8),
    height=st.floats(0.5, 3),
    wrapped=st.booleans(),
)
@example(lon=178.0, lat=10.0, width=4.0, height=2.0, wrapped=True)
def test_a_footprint_keeps_its_area_wherever_it_lies(lon, lat, width, height, wrapped):
    corners = np.array([(lon, lat), (lon + width, lat + 0.1), (lon + width, lat + height), (lon, lat + height)])
    ring = corners if not wrapped else np.column_stack([(corners[:, 0] + 180) % 360 - 180, corners[:, 1]])
    found = one_ring([[*ring.tolist(), ring[0].tolist()]], NAME, "asf")
    assert found[0] == found[-1]
    assert shapely.Polygon(found).area == pytest.approx(shapely.Polygon(corners).area, rel=1e-6)
    assert max(abs(a[0] - b[0]) for a in found for b in found) < 10


@pytest.mark.parametrize(
    "rings",
    [[], [[]], [[[1, 2], [3, 4]]], [[[0, 0], [1, 1], [2, 2], [0, 0]]], [[[0, 0], [1, 99], [2, 2]]], [[[0], [1], [2]]]],
)
def test_a_footprint_without_area_is_refused(rings):
    with pytest.raises(SourceError, match=r"is no area in degrees"):
        one_ring(rings, NAME, "asf")
    with pytest.raises(SourceError, match=r"is no area in degrees"):
        one_ring([[[0, 0], [float("nan"), 1], [2, 2]]], NAME, "asf")


def test_a_dem_that_is_not_there_is_named_before_anything_is_asked(delivered, tmp_path):
    safe = delivered.config.safe.model_copy(update={"dem": str(tmp_path / "nowhere")})
    service = Cdse(fetcher=make_fetcher(tmp_path), safe=safe)
    with pytest.raises(ConfigError, match=r"safe\.dem = .*nowhere: no such file or folder"):
        next(service.search(QUERY))
    assert service.fetcher.usage().requests == 0
