"""Blocks read by windows of COGs: pixels against the simulator's truth, bytes against the file's, faults, secrets."""

# ruff: noqa: F811 - fixtures are imported from stac_world
import logging
import pickle
import threading
import traceback
import warnings
from dataclasses import replace

import numpy as np
import pytest
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from sar1m.io.net.fetch import ChangedError
from sar1m.records import RasterGrid
from sar1m.sources.scene import scene_to_text
from sar1m.sources.services.stac import signing
from sar1m.sources.services.stac.cog import price_windows
from sar1m.store.errors import SourceError
from servers.base import Reply, reply_json
from servers.faults import Faulty, html_as_bytes
from servers.stac import BANDS, EDGE_PX, KEY_CANARY, TOKEN_CANARY, StacServer, cog
from support.stac_world import (  # noqa: F401  fixtures
    BLOCK,
    CONFIG,
    GRID,
    OPTICAL,
    PLACE,
    SAR,
    a_fetcher,
    a_service,
    fetcher,
    only,
    place,
    running_server,
)

SECRETS = (TOKEN_CANARY, KEY_CANARY, "sig%3D")
EVERY_BAND = CONFIG.model_copy(update={"pixels": CONFIG.pixels.model_copy(update={"optical_bands": BANDS})})
ZONE_34 = RasterGrid(epsg=32634, left_m=34_500.0, top_m=5_002_000.0, gsd_m=10.0, rows=300, cols=300)


@pytest.fixture(scope="module")
def files():
    """Of a server for PLACE, written once; servers of other ports take them over."""
    with StacServer(places=[PLACE]) as running:
        return dict(running.files)


@pytest.fixture
def server(monkeypatch, files):
    with running_server(monkeypatch, files) as running:
        yield running


def inner(values, grid):
    """The part of an image on GRID that lies on an aligned grid inside it."""
    row, col = round((GRID.top_m - grid.top_m) / 10), round((grid.left_m - GRID.left_m) / 10)
    return values[..., row : row + grid.rows, col : col + grid.cols]


def read_radar(fetcher, grid=BLOCK):
    service = a_service(fetcher)
    return service.read_sar(only(service, SAR), grid, CONFIG)


# ---- pixels ----


def test_a_block_of_gamma_nought_is_the_simulators(server, fetcher, place):
    side = read_radar(fetcher)
    np.testing.assert_array_equal(side.sar, inner(place.power, BLOCK))
    assert side.sar.dtype == np.float32
    assert np.isfinite(side.sar).all()
    assert (side.incidence_deg, side.layover_shadow, side.flags) == (None, None, ())
    assert side.noise_floor == (10**-2.5, 10**-2.5)


def test_no_data_and_what_lies_outside_is_missing(server, fetcher, place):
    over_the_edge = GRID.window(100, -60, 200, 200)
    side = read_radar(fetcher, over_the_edge)
    assert np.isnan(side.sar[:, :, : 60 + EDGE_PX]).all()
    np.testing.assert_array_equal(side.sar[:, :, 60:], place.power[:, 100:300, :140])
    far_away = GRID.window(50_000, 0, 64, 64)
    assert np.isnan(read_radar(fetcher, far_away).sar).all()


def test_polarisations_come_in_the_order_asked_for(server, fetcher, place):
    crossed = CONFIG.model_copy(update={"area": CONFIG.area.model_copy(update={"polarisations": ("VH", "VV")})})
    service = a_service(fetcher)
    side = service.read_sar(only(service, SAR), BLOCK, crossed)
    np.testing.assert_array_equal(side.sar, inner(place.power, BLOCK)[::-1])
    missing = CONFIG.model_copy(update={"area": CONFIG.area.model_copy(update={"polarisations": ("HH",)})})
    with pytest.raises(SourceError, match="has no HH"):
        service.read_sar(only(service, SAR), BLOCK, missing)


@pytest.mark.parametrize("name", ["planetary-computer", "earth-search"])
def test_a_block_of_reflectance_is_the_simulators(server, fetcher, place, name):
    """Through both services: one left the offset of 1000 in, the other took it away."""
    service = a_service(fetcher, name)
    pixels = service.read_optical(only(service, OPTICAL), BLOCK, EVERY_BAND)
    truth = inner(place.reflectance, BLOCK)
    np.testing.assert_allclose(pixels.optical, truth, atol=1e-6)
    np.testing.assert_allclose(pixels.registration_optical, truth, atol=1e-6)
    classes = np.repeat(np.repeat(place.scl, 2, 0), 2, 1)
    np.testing.assert_array_equal(pixels.cloud, inner(classes, BLOCK) == 9)
    assert pixels.cloud_source == "scl"
    assert pixels.swir is None
    assert "upsampled_scl" not in pixels.flags


def test_clouds_lie_where_the_classification_says(server, fetcher, place):
    service = a_service(fetcher)
    north = GRID.window(100, 700, 300, 300)
    pixels = service.read_optical(only(service, OPTICAL), north, CONFIG)
    assert pixels.optical.shape == (3, 300, 300)  # B04 B03 B02
    np.testing.assert_allclose(pixels.optical, inner(place.reflectance, north)[[2, 1, 0]], atol=1e-6)
    assert 0.2 < pixels.cloud.mean() < 1


def test_another_zone_is_warped_from_the_same_pixels(server, fetcher, place):
    """Against a warp of the truth in memory, by the same door."""
    from sar1m.io.raster import ReadRule, read_window  # noqa: PLC0415
    from sar1m.io.raster_open import TiffBytes  # noqa: PLC0415

    side = read_radar(fetcher, ZONE_34)
    whole = TiffBytes(name="truth", content=cog(np.nan_to_num(place.power[0], nan=-1.0), GRID, -1.0))
    truth = read_window(whole, ZONE_34, bands=(1,), rule=ReadRule(resampling="bilinear", zero_is_nodata=True))
    np.testing.assert_array_equal(side.sar[0], truth.pixels[0])
    assert np.isfinite(side.sar).mean() > 0.5
    assert side.flags == ("resampled_sar",)


# ---- what it costs ----


def test_only_what_lies_under_the_block_is_fetched(server, fetcher):
    scene = only(a_service(fetcher), SAR)
    files = [server.files[asset.href.removeprefix(server.blobs.url)] for asset in scene.assets]
    read_radar(fetcher)
    assert server.blobs.bytes_sent < 0.55 * sum(map(len, files))  # four tiles of sixteen and a header
    first = len(server.blobs.asked)
    read_radar(fetcher)
    assert len(server.blobs.asked) == first  # the second time from the cache
    whole = [asked for asked in server.blobs.asked if "range" not in asked.headers]
    assert whole == []


def test_the_price_is_near_what_is_paid(server, fetcher):
    """Requests to a third; bytes by the simulator's 4.0 a pixel against the 3.2 that real scenes have."""
    scene = only(a_service(fetcher), SAR)
    paid, stated = [], []
    for row, col in ((60, 350), (300, 700), (450, 900), (800, 250), (900, 1100)):
        before = len(server.blobs.asked), server.blobs.bytes_sent
        spot = a_fetcher(fetcher.settings.root / f"spot{row}")
        block = GRID.window(row, col, 416, 416)
        read_radar(spot, block)
        paid.append((len(server.blobs.asked) - before[0], (server.blobs.bytes_sent - before[1]) * 3.2 / 4.0))
        price = price_windows(scene, block, CONFIG)
        stated.append((price.requests, price.bytes))
    requests, volume = np.mean(paid, axis=0) / np.mean(stated, axis=0)
    assert 0.67 < requests < 1.5
    assert 0.67 < volume < 1.5


def test_a_price_adds_up_and_grows_with_the_block(server, fetcher):
    service = a_service(fetcher)
    sar, optical = only(service, SAR), only(service, OPTICAL)
    small, large = (service.price(sar, GRID.window(0, 0, side, side), CONFIG) for side in (1, 1056))
    assert small.requests == 4  # a header and a tile for each polarisation
    assert large.requests > 15
    assert large.bytes > 5 * small.bytes
    assert service.price(optical, BLOCK, CONFIG).requests > service.price(sar, BLOCK, CONFIG).requests
    assert server.blobs.asked == []


# ---- tokens ----


def test_a_token_that_runs_out_in_mid_read_is_replaced(server, fetcher, place, monkeypatch):
    """Time passes with every request: a token holds for five of them, and is replaced before it ends."""
    now = [1_700_000_000.0]
    server.clock = lambda: now[0]
    server.life_s = 50.0
    server.before_blob = lambda asked: now.__setitem__(0, now[0] + 10.0)
    monkeypatch.setattr(signing, "now_s", lambda: now[0])
    side = read_radar(fetcher)
    np.testing.assert_array_equal(side.sar, inner(place.power, BLOCK))
    assert len(server.tokens) > 1
    assert server.refused == 0


def test_a_token_that_is_withdrawn_is_replaced_once(server, fetcher, place):
    read_radar(fetcher)
    server.tokens.clear()
    fresh = a_fetcher(fetcher.settings.root / "fresh")
    np.testing.assert_array_equal(read_radar(fresh).sar, inner(place.power, BLOCK))
    assert server.refused == 1
    assert len(server.tokens) == 1


def test_a_store_that_refuses_every_token_is_believed(server, fetcher):
    server.blobs.routes["/*"] = lambda asked: Reply(status=403, body=b"<Error/>", content_type="text/xml")
    with pytest.raises(SourceError, match="403"):
        read_radar(fetcher)
    assert len(server.blobs.asked) == 2
    assert len(server.tokens) == 2


def test_one_token_serves_many_reads_and_the_key_goes_to_its_service_alone(server, fetcher):
    service = a_service(fetcher)
    scene = only(service, SAR)
    sign = signing.SasAuth(fetcher=fetcher)
    signed = []
    threads = [threading.Thread(target=lambda: signed.append(sign(scene.assets[0].href))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(signed)) == 1
    assert len(server.tokens) == 1
    service.read_optical(only(service, OPTICAL), BLOCK, CONFIG)
    assert len(server.tokens) == 2  # another container
    assert server.keys_seen == [KEY_CANARY] * 2
    assert not any("ocp-apim-subscription-key" in asked.headers for asked in server.blobs.asked)


def test_open_blobs_are_read_without_a_token(server, fetcher):
    service = a_service(fetcher, "earth-search")
    service.read_optical(only(service, OPTICAL), BLOCK, CONFIG)
    assert server.tokens == {}
    assert all("sig" not in asked.query for asked in server.blobs.asked)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "no token"),
        ([], "no token"),
        ({"token": "sig=a b\r\nX: 1", "msft:expiry": "2999-01-01T00:00:00Z"}, "no token"),
        ({"token": "sig=x", "msft:expiry": "soon"}, "no date"),
        ({"token": "sig=x", "msft:expiry": "2001-01-01T00:00:00Z"}, "clock"),
        ({"token": "", "msft:expiry": "2999-01-01T00:00:00Z"}, "no token"),
    ],
)
def test_a_token_service_that_answers_nonsense_is_named(server, fetcher, answer, words):
    server.api.routes["/sas/*"] = lambda asked: reply_json(answer)
    with pytest.raises(SourceError, match=words):
        read_radar(fetcher)
    assert server.blobs.asked == []


def test_no_token_is_given_to_a_host_that_is_no_blob_store(server, fetcher):
    sign = signing.SasAuth(fetcher=fetcher)
    for url in (
        "https://evil.example/a/b.tif",
        "https://a.blob.core.windows.net.evil.example/c/d",
        "https://x/",
        "nothing",
    ):
        with pytest.raises(SourceError, match="blob store"):
            sign(url)
    assert server.tokens == {}


def test_settings_are_those_of_the_planetary_computer_package(server, fetcher, place, tmp_path, monkeypatch):
    """Its own client gets a token from the same server by the same settings, and the store takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a deprecation inside the package
        from planetary_computer import sas  # noqa: PLC0415
        from planetary_computer.settings import Settings  # noqa: PLC0415
    Settings.get.cache_clear()
    token = sas.get_token("sentinel1euwestrtc", "sentinel1-grd-rtc", retry_total=0)
    assert server.keys_seen == [KEY_CANARY]
    signed = token.sign(only(a_service(fetcher), SAR).assets[0].href).href
    fetcher.request("GET", signed, expect=("image/tiff",))
    monkeypatch.delenv("PC_SDK_SUBSCRIPTION_KEY")
    assert not signing.has_subscription_key()
    (tmp_path / "settings.env").write_text('# comment\nPC_SDK_SUBSCRIPTION_KEY = "from-file"\n')
    monkeypatch.setattr(signing, "SETTINGS_FILE", tmp_path / "settings.env")
    assert signing.subscription_key("") == {signing.KEY_HEADER: "from-file"}


# ---- faults ----


@pytest.mark.parametrize("kind", ["too_many", "server_error", "cut_with_length", "range_ignored", "reset"])
def test_a_storm_at_store_and_token_service_costs_attempts_alone(server, tmp_path, place, kind):
    stormy = a_fetcher(tmp_path / "stormy", attempts=15)
    server.blobs.routes["/*"] = faulty = Faulty(server._blob, 0.5, (kind,), seed=1)
    server.api.routes["/sas/*"] = Faulty(server._token, 0.5, ("too_many", "server_error"), seed=5)
    np.testing.assert_array_equal(read_radar(stormy).sar, inner(place.power, BLOCK))
    assert faulty.happened[kind] > 0


def test_a_store_that_only_refuses_is_given_up(server, fetcher):
    scene = only(a_service(fetcher), SAR)
    server.blobs.routes["/*"] = lambda asked: Reply(status=429, headers={"Retry-After": "0"})
    with pytest.raises(SourceError, match="429"):
        a_service(fetcher).read_sar(scene, BLOCK, CONFIG)
    assert len(server.blobs.asked) == fetcher.settings.limits.attempts


def test_a_file_that_changes_in_mid_read_is_never_mixed(server, fetcher):
    href = only(a_service(fetcher), SAR).assets[0].href

    def replace_it(asked):
        if asked.nth == 2:
            server.files[href.removeprefix(server.blobs.url)] += b"of another version"

    server.before_blob = replace_it
    with pytest.raises(ChangedError, match="replaced"):
        read_radar(fetcher)


def tiff(values, **options):
    with MemoryFile() as memory:
        given = {"crs": "EPSG:32633", "transform": Affine(*GRID.transform)} | options
        with memory.open(
            driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype.name, **given
        ) as dataset:
            dataset.write(values, 1)
        return bytes(memory.getbuffer())


def huge_header():
    with MemoryFile() as memory:
        with memory.open(
            driver="GTiff",
            count=1,
            height=400_000,
            width=400_000,
            dtype="uint8",
            crs="EPSG:32633",
            transform=Affine(*GRID.transform),
            tiled=True,
            blockxsize=16_384,
            blockysize=16_384,
            compress="deflate",
            sparse_ok=True,
            bigtiff="YES",
        ):
            pass
        return bytes(memory.getbuffer())


ONES = np.full((1792, 1792), 0.1, np.float32)
VRT = (
    b'<VRTDataset rasterXSize="1" rasterYSize="1"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    b"<SourceFilename>/vsicurl/http://127.0.0.1:1/x</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
)
BAD_FILES = {
    "huge header": (huge_header, "400000 x 400000"),
    "virtual raster": (lambda: VRT, "not a TIFF"),
    "web page": (lambda: html_as_bytes(None, None).body, "web page"),
    "one byte": (lambda: b"I", "not a TIFF"),
    "empty": (lambda: b"", r"416|0 bytes|part"),
    "cut short": (lambda: tiff(ONES, tiled=True, blockxsize=256, blockysize=256)[:900_000], "damaged"),
    "noise": (lambda: b"II*\x00" + np.random.default_rng(1).bytes(40_000), "damaged"),
    "complex": (lambda: tiff(ONES.astype(np.complex64)), "complex64"),
    "no system": (lambda: tiff(ONES, crs=None), "no coordinate"),
    "decibels": (lambda: tiff(ONES * -120, compress="deflate"), "decibels"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_files_that_are_not_what_they_are_called_are_named(server, fetcher, name):
    make, words = BAD_FILES[name]
    scene = only(a_service(fetcher), SAR)
    for asset in scene.assets:
        server.put(asset.href, make())
    with pytest.raises(SourceError, match=words) as caught:
        a_service(fetcher).read_sar(scene, BLOCK, CONFIG)
    assert "iw-vv.rtc.tiff" in str(caught.value)
    assert len(server.blobs.asked) < 20


def test_a_missing_file_is_named(server, fetcher):
    scene = only(a_service(fetcher), SAR)
    server.files.clear()
    with pytest.raises(SourceError, match=r"404.*|no longer"):
        a_service(fetcher).read_sar(scene, BLOCK, CONFIG)


def test_a_scene_without_offset_or_that_is_no_radar_scene_is_not_read(server, fetcher):
    service = a_service(fetcher)
    with pytest.raises(SourceError, match="offset"):
        service.read_optical(replace(only(service, OPTICAL), offset_dn=None), BLOCK, CONFIG)
    with pytest.raises(SourceError, match="no SAR scene"):
        service.read_sar(only(service, OPTICAL), BLOCK, CONFIG)


# ---- secrets ----


def test_no_secret_stands_anywhere(server, fetcher, caplog):
    """Token and key in logs, errors, texts, pickles, plans and the cache: nowhere."""
    caplog.set_level(logging.DEBUG)
    service = a_service(fetcher)
    scene = only(service, SAR)
    read_radar(fetcher)
    texts = [caplog.text, repr(service), repr(scene), scene_to_text(scene), repr(signing._tokens), service.usable()[1]]
    sign = signing.SasAuth(fetcher=fetcher)
    assert TOKEN_CANARY in sign(scene.assets[0].href)  # it was there to be found
    texts += [repr(sign), pickle.dumps((service, sign, scene)).decode("latin-1")]
    for status in (403, 404, 500):
        server.blobs.routes["/*"] = lambda asked, status=status: Reply(
            status=status, body=asked.query["sig"][0].encode(), content_type="text/plain"
        )
        with pytest.raises(SourceError) as caught:
            service.read_sar(scene, GRID.window(1300, 1300, 300, 300), CONFIG)
        texts.append("".join(traceback.format_exception(caught.value)))
        texts.append(pickle.dumps(caught.value).decode("latin-1"))
    for path in fetcher.settings.root.rglob("*"):
        texts.append(str(path))
        if path.is_file():
            texts.append(path.read_bytes().decode("latin-1"))
    assert len(texts) > 20
    assert [text[:80] for text in texts if any(secret in text for secret in SECRETS)] == []


def test_the_truth_is_worth_testing_against(place):
    assert np.nanstd(10 * np.log10(np.clip(place.power, 1e-5, None))) > 2
