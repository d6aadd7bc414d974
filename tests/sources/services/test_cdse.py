"""The Copernicus Data Space: what a search gives, who gets the token, and that a block from it is one from disk."""

# ruff: noqa: F811 - fixtures are imported from cdse_world

from __future__ import annotations

import json
import logging
import pickle
import random
import threading
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from sar1m.sources.scene import scene_from_text, scene_to_text
from sar1m.sources.services.cdse import service as cdse
from sar1m.sources.services.cdse.routes import zipper_address
from sar1m.store.errors import SourceError
from servers.base import reply_json
from servers.cdse import ACCESS, PASSWORD, REFRESH, USER, product_uuid, row_of
from servers.delivered import (
    QUERY,
    corrupted,
    everything_below,
    read_from_disk,
    same_pixels,
    without_member,
)
from servers.faults import once
from support.cdse_world import account, only, service_of, stand_in  # noqa: F401  fixtures
from support.hang_guard import STUCK_S
from support.paths import SHARED

RECORDED = SHARED / "data/api_responses/cdse_odata/cop_dataspace_search.json"


def test_a_search_gives_what_the_catalogue_states(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    assert (scene.scene_id, scene.acquired, scene.datatake) == (delivered.product_id, delivered.start, "049F13")
    assert (scene.platform, scene.orbit_state, scene.relative_orbit) == ("sentinel-1a", "ascending", 117)
    assert (scene.polarisations, scene.sar_quantity, scene.online) == (("VV", "VH"), "gamma0", True)
    asset = scene.asset("product")
    assert (asset.size_bytes, asset.checksum) == (len(delivered.content), f"md5:{delivered.md5}")
    assert "IW GRD, IPF 003.31; orbit annotated" in scene.processing
    assert "range-Doppler on small-dem.tif" in scene.processing
    assert scene_from_text(scene_to_text(scene), "x") == scene
    assert len(stand_in.identity.asked) == 0  # searching needs no account
    price = service.price(scene, None, delivered.config)
    assert (price.shared_bytes, price.bytes) == (len(delivered.content), 0)
    assert list(service.search(replace(QUERY, kind="optical"))) == []
    assert list(service.search(replace(QUERY, polarisations=("HH",)))) == []
    with pytest.raises(SourceError, match=r"SAR products only"):
        service.read_optical(scene, None, delivered.config)


def test_the_recorded_answer_is_understood(delivered):
    """Of Sentinel-2, so its own names are refused; with names of Sentinel-1 its rows are read."""
    if not RECORDED.is_file():
        pytest.skip("the recorded answers are not beside this checkout")
    body = RECORDED.read_bytes()
    place = partial(zipper_address, download="https://download/odata/v1")
    assert set(row_of(delivered)) == set(json.loads(body)["value"][0])
    with pytest.raises(SourceError, match=r"lists a product named 'S2A_MSIL1C.*expected a Sentinel-1 name"):
        cdse.read_odata_answer(body, place, cog=False)
    answer = json.loads(body)
    for number, row in enumerate(answer["value"]):
        stamp = row["ContentDate"]["Start"][:19].replace("-", "").replace(":", "")
        row["Name"] = f"S1A_IW_GRDH_1SDV_{stamp}_{stamp}_034000_03F000_{number:04X}.SAFE"
    page = cdse.read_odata_answer(json.dumps(answer).encode(), place, cog=False)
    assert len(page.products) == len(answer["value"])
    first = page.products[0]
    assert first.checksum == "md5:923ac4992d90b57d41e7ace4d9d90757"
    assert first.size_bytes == 224105657
    assert first.href == "https://download/odata/v1/Products(05edf2bb-d103-49f1-a677-9e474138d84f)/$value"
    assert (first.ipf, first.relative_orbit, first.orbit_state) == ("05.00", 45, None)
    assert min(lat for _, lat in first.footprint) == pytest.approx(13.4725, abs=1e-3)


def test_a_block_is_the_one_from_disk_and_the_product_comes_once(stand_in, delivered, tmp_path):
    grid, from_disk = read_from_disk(delivered, tmp_path / "scratch")
    service = service_of(stand_in, delivered, tmp_path / "net")
    scene = only(service)
    read = []
    workers = [pickle.loads(pickle.dumps(service)) for _ in range(3)]  # noqa: S301 - our own bytes
    threads = [
        threading.Thread(target=lambda worker=worker: read.append(worker.read_sar(scene, grid, delivered.config)))
        for worker in workers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_S)
    assert [same_pixels(each, from_disk) for each in read] == [True] * 3
    assert len(stand_in.zipper.asked) == 1
    assert stand_in.sessions == 1
    changed = delivered.config.safe.model_copy(update={"quantity": "sigma0"})
    with pytest.raises(SourceError, match=r"planned as gamma0 of VV, VH, asked for sigma0.*Plan the build again"):
        service.read_sar(scene, grid, delivered.config.model_copy(update={"safe": changed}))


@pytest.mark.parametrize("kind", ["too_many", "server_error", "cut_with_length", "html_with_200", "reset"])
def test_what_passes_is_waited_for(stand_in, delivered, tmp_path, kind):
    stand_in.zipper.routes["/odata/v1/Products*"] = once(kind, stand_in.product)
    service = service_of(stand_in, delivered, tmp_path / "net")
    assert service.product(only(service)).read_bytes() == delivered.content


def test_no_more_downloads_at_once_than_the_account_allows(stand_in, delivered, tmp_path):
    stand_in.rows, stand_in.contents = [], {}
    for number in range(8):
        name = f"{delivered.product_id[:-4]}{number:04X}"
        stand_in.add(delivered.renamed(product_id=name, start=delivered.start))
    stand_in.rows.sort(key=lambda row: row["Name"])
    stand_in.zipper.routes["/odata/v1/Products*"] = lambda asked: replace(stand_in.product(asked), stall_s=0.05)
    service = service_of(stand_in, delivered, tmp_path / "net", connections=8, attempts=1)
    first = next(service.search(QUERY))
    names = [row["Name"].removesuffix(".SAFE") for row in stand_in.rows]
    assets = [(replace(first.assets[0], href=_href(stand_in, name)),) for name in names]
    scenes = [replace(first, scene_id=name, assets=asset) for name, asset in zip(names, assets, strict=True)]

    def fetch(scene):
        with pytest.raises(SourceError, match=r"holds S1A"):  # all hold the one product; it is the number that counts
            service.product(scene)

    threads = [threading.Thread(target=fetch, args=(scene,)) for scene in scenes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(STUCK_S)
    assert len(stand_in.zipper.asked) == 8
    assert stand_in.zipper.most_at_once <= 4


def _href(stand_in, name):
    return f"{stand_in.endpoints.download}/Products({product_uuid(name)})/$value"


def test_bad_products_are_not_believed_whatever_their_checksum(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net", attempts=2)
    spoiled = {
        r"Bad CRC-32|invalid|Error": corrupted(delivered),
        r"with VV; expected": without_member(delivered, "/annotation/s1a-iw-grd-vh"),
        r"missing": without_member(delivered, ".tiff"),
        r"no manifest\.safe": without_member(delivered, "manifest.safe"),
        r"cannot be opened as a zip": delivered.content[:-100],
    }
    for number, (expected, content) in enumerate(spoiled.items()):
        stand_in.rows = []
        stand_in.add(delivered.renamed(content=content))
        with pytest.raises(SourceError, match=expected):
            service.product(only(service))
        assert list((tmp_path / "net" / "quarantine").glob("*.zip")), number
    other = delivered.product_id[:-4] + "0001"
    stand_in.rows = []
    stand_in.add(delivered.renamed(product_id=other))
    with pytest.raises(SourceError, match=rf"holds {delivered.product_id} with VV, VH; expected {other}"):
        service.product(only(service))
    assert not list((tmp_path / "net" / "cache" / "whole").rglob("*.zip"))
    stand_in.rows = []
    stand_in.add(delivered, Online=False)
    with pytest.raises(SourceError, match=rf"cdse {delivered.product_id}: is not online"):
        service.product(only(service))


def test_another_dem_gives_another_work_item_and_is_not_read_under_the_old_one(stand_in, delivered, tmp_path):
    service = service_of(stand_in, delivered, tmp_path / "net")
    before = only(service)
    dem = Path(delivered.config.safe.dem)
    (raster,) = [dem] if dem.is_file() else dem.glob("*.tif")
    kept = raster.read_bytes()
    try:
        raster.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        after = only(service)
        assert after.processing != before.processing
        with pytest.raises(SourceError, match=r"are not those that the build was planned with"):
            service.read_sar(before, None, delivered.config)
    finally:
        raster.write_bytes(kept)
    assert only(service).processing == before.processing


def test_older_processings_and_known_bad_acquisitions_are_left_out(stand_in, delivered, tmp_path):
    again = delivered.product_id[:-4] + "FFFF"
    stand_in.rows.append(row_of(delivered.renamed(product_id=again), attributes={"processorVersion": "003.71"}))
    bad = "S1B_IW_GRDH_1SDV_20161012T150357_20161012T150422_002475_0042CD_1111"
    start = datetime(2016, 10, 12, 15, 3, 57, 100_000, tzinfo=UTC)
    stand_in.rows.append(row_of(delivered.renamed(product_id=bad, start=start)))
    stand_in.rows.append(row_of(delivered.renamed(product_id=f"{delivered.product_id}_COG")))
    service = service_of(stand_in, delivered, tmp_path / "net")
    query = replace(QUERY, first=datetime(2016, 1, 1, tzinfo=UTC))
    assert [scene.scene_id for scene in service.search(query)] == [again]
    assert len(service.remarks) == 2
    assert service.remarks[0].startswith(f"{bad}: left out, known to be wrong: ")
    assert service.remarks[1] == f"{delivered.product_id}: left out, {again} is the same acquisition by IPF 003.71"


def test_a_long_answer_is_asked_for_in_parts(stand_in, delivered, monkeypatch, tmp_path):
    monkeypatch.setattr(cdse, "PAGE", 10)
    stand_in.rows = []
    rng = random.Random(3)
    names = []
    for number in range(57):
        start = QUERY.first + timedelta(seconds=rng.randrange(364 * 86_400))
        name = f"S1A_IW_GRDH_1SDV_{start:%Y%m%dT%H%M%S}_{start:%Y%m%dT%H%M%S}_040000_{number:06X}_0000"
        stand_in.rows.append(row_of(delivered.renamed(product_id=name, start=start)))
        names.append((start, name))
    service = service_of(stand_in, delivered, tmp_path / "net")
    assert [(scene.acquired, scene.scene_id) for scene in service.search(QUERY)] == sorted(names)
    assert len(stand_in.catalogue.asked) < 40
    stand_in.rows = [row_of(delivered)] * 10
    stand_in.catalogue.routes["/odata/v1/Products"] = lambda asked: reply_json({"value": stand_in.rows})
    before = len(stand_in.catalogue.asked)
    with pytest.raises(SourceError, match=r"than one answer holds"):
        list(service.search(QUERY))
    assert len(stand_in.catalogue.asked) - before < 25


def test_the_antimeridian_is_two_boxes_and_one_footprint(stand_in, delivered, tmp_path):
    parts = [[[179.0, 1], [180, 1], [180, 2], [179, 2], [179, 1]], [[-180, 1], [-179.5, 1], [-179.5, 2], [-180, 1]]]
    footprint = {"type": "MultiPolygon", "coordinates": [[part] for part in parts]}
    stand_in.rows = [row_of(delivered, GeoFootprint=footprint)]
    service = service_of(stand_in, delivered, tmp_path / "net")
    (scene,) = service.search(replace(QUERY, box=(179.5, 0, 181.5, 3)))
    lon = [point[0] for point in scene.footprint]
    assert (min(lon), max(lon)) == (179.0, 180.5)
    filters = [asked.query["$filter"][0] for asked in stand_in.catalogue.asked]
    assert "POLYGON((179.500000 0.000000,180.000000 0.000000" in filters[0]
    assert "POLYGON((-180.000000 0.000000,-178.500000 0.000000" in filters[1]


def test_malformed_answers_are_typed_errors(delivered):
    rng = random.Random(5)
    body = json.dumps({"value": [row_of(delivered)]})
    where = partial(zipper_address, download="https://download")
    strange = [None, [], {}, "", -1, 1e400, "../../etc/passwd", "S1A_IW_GRDH_../..", True, [[]], "9999-99-99", 10**30]
    refused = []
    for _ in range(400):
        answer = json.loads(body)
        place = answer["value"][0]
        if rng.random() < 0.3:
            place = rng.choice(
                [place["ContentDate"], place["GeoFootprint"], place["Checksum"][0], place["Attributes"][0]]
            )
        place[rng.choice(sorted(place))] = rng.choice(strange)
        try:
            page = cdse.read_odata_answer(json.dumps(answer).encode(), where, cog=False)
            assert {one.product_id for one in page.products} <= {delivered.product_id}
        except SourceError as error:
            refused.append(str(error))
    assert len(refused) > 100
    assert all(text.startswith("cdse") for text in refused)
    for cut in range(0, len(body) - 1, 97):
        with pytest.raises(SourceError, match=r"the catalogue's answer is not as its interface describes"):
            cdse.read_odata_answer(body[:cut].encode(), where, cog=False)
    with pytest.raises(SourceError):
        cdse.read_odata_answer(b"[" * 100_000, where, cog=False)


def test_no_secret_is_anywhere(stand_in, delivered, account, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    service = service_of(stand_in, delivered, tmp_path / "net", attempts=1)
    scene = only(service)
    service.product(scene)
    auth = service.auth()
    shown = [repr(service), repr(auth), scene_to_text(scene), caplog.text, str(service.usable())]
    shown += [str(pickle.dumps(service)), str(pickle.dumps(auth))]
    stand_in.zipper.routes["/odata/v1/Products*"] = lambda asked: reply_json({"you sent": str(asked)}, status=403)
    (tmp_path / "net" / "cache").rename(tmp_path / "before")
    with pytest.raises(SourceError) as caught:
        service.product(scene)
    shown += traceback.format_exception(caught.value, chain=True)
    seen = "\n".join(shown).encode() + everything_below(tmp_path / "net", tmp_path / "before")
    for canary in (USER, PASSWORD, ACCESS, REFRESH):
        assert canary.encode() not in seen
    assert ACCESS.encode() in everything_below(account)
    for canary in (USER, PASSWORD):
        assert canary.encode() not in everything_below(account)
