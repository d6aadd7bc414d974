"""Tiles of the user's own, from a loopback service whose picture is known everywhere."""

import pickle
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

import numpy as np
import pytest
from PIL import Image

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.core.registration import register_block
from sar1m.core.utm import lonlat_from_utm, utm_epsg, utm_from_lonlat
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.records import RasterGrid
from sar1m.sources.scene import UNDATED, Query, scene_from_text, scene_to_text
from sar1m.sources.services.tiles.service import (
    BANDS,
    TILES_MISSING,
    UNDATED_OPTICAL,
    UPSAMPLED,
    decode_tile,
    open_tiles,
)
from sar1m.sources.services.tiles.template import parse_template
from sar1m.store.errors import ConfigError, SourceError
from servers.base import Reply, Server
from servers.tiles import TYPES, TileRoute, bomb, brightness, encode

CANARY = "canary/+&=7f3e"
QUICK = DownloadConfig(attempts=2, connect_timeout_s=2.0, read_timeout_s=0.5, requests_per_s=10_000.0)
LISBON = (-9.137, 38.7071)
QUERY = Query(
    kind="optical",
    box=(-9.3, 38.6, -9.0, 38.8),
    first=datetime(2023, 1, 1, tzinfo=UTC),
    last=datetime(2024, 1, 1, tzinfo=UTC),
)


def grid_at(lon, lat, *, gsd_m=10.0, side=96):
    epsg = int(utm_epsg(lon, lat))
    x, y = utm_from_lonlat(lon, lat, epsg)
    left, top = round(float(x)) - side * gsd_m / 2, round(float(y)) + side * gsd_m / 2
    return RasterGrid(epsg=epsg, left_m=left, top_m=top, gsd_m=gsd_m, rows=side, cols=side)


def truth(grid, shift_px=(0.0, 0.0)):
    """What the picture shows at pixel centres, or beside them: (3, rows, cols)."""
    x = grid.left_m + (np.arange(grid.cols) + 0.5 - shift_px[1]) * grid.gsd_m
    y = grid.top_m - (np.arange(grid.rows) + 0.5 - shift_px[0]) * grid.gsd_m
    lon, lat = lonlat_from_utm(x[None, :], y[:, None], grid.epsg)
    return brightness(lon, lat).transpose(2, 0, 1)


class Rig:
    """A server of tiles and the service that reads it."""

    def __init__(self, server, tmp_path, route, address="/{z}/{x}/{y}.png", **area):
        self.route = route
        self.server = server
        server.routes["/*"] = route
        self.config = BuildConfig.model_validate(
            {"area": {"tiles_url": server.url + address, **area}, "download": QUICK.model_dump()}
        )
        settings = FetchSettings(root=tmp_path / "net", limits=QUICK, allow_loopback=True, first_delay_s=0.01)
        self.service = open_tiles(self.config.area, Fetcher(settings))

    @property
    def scene(self):
        return next(iter(self.service.search(QUERY)))

    def read(self, grid):
        return self.service.read_optical(self.scene, grid, self.config)

    def first_tile(self, grid):
        """zoom, column, row of the tile that is asked for first."""
        self.read(grid)
        found = self.route.served[0]
        self.route.served.clear()
        return found


@pytest.fixture
def rig(tmp_path):
    with Server(max_requests=3000) as server:
        yield lambda route=None, *args, **area: Rig(server, tmp_path, route or TileRoute(), *args, **area)


def error_px(found, grid):
    """Median error over slope in both directions: by how many pixels a picture lies beside the truth."""
    expected = truth(grid)
    slopes = np.stack([(truth(grid, (d, 0)) - truth(grid, (-d, 0))) / (2 * d) for d in [0.01]]).ravel()
    across = np.stack([(truth(grid, (0, d)) - truth(grid, (0, -d))) / (2 * d) for d in [0.01]]).ravel()
    beside = (found - expected).ravel()
    known = np.isfinite(beside)
    design = np.stack([slopes[known], across[known]], axis=1)
    (row, col), *_ = np.linalg.lstsq(design, beside[known], rcond=None)
    return row, col


# ---- where pixels lie ----


@pytest.mark.parametrize(
    "place",
    [LISBON, (0.01, 0.005), (15.6, 78.2), (-70.9, -53.2), (179.9999, -16.6), (5.9, 60.0)],
    ids=["lisbon", "equator", "svalbard", "magellan", "antimeridian", "bergen"],
)
def test_pixels_lie_where_they_should(rig, place):
    """Sub-pixel: the mean shift against the truth stays under 0.02 px, whatever the latitude; tiles that are finer or
    as fine as the grid occur among these places. What is left of values is rounding to whole numbers and resampling."""
    grid = grid_at(*place)
    pixels = rig().read(grid)
    assert pixels.optical.shape == (3, 96, 96)
    assert np.isfinite(pixels.optical).all()
    assert np.abs(error_px(pixels.optical, grid)).max() < 0.02
    assert np.abs(pixels.optical - truth(grid)).max() < 2.5
    assert pixels.flags == {UNDATED_OPTICAL}


def test_a_finer_grid_than_the_tiles_is_said(rig):
    grid = grid_at(*LISBON, gsd_m=5.0)
    setup = rig(None, "/{z}/{x}/{y}.png#max_zoom=13")
    pixels = setup.read(grid)
    assert {zoom for zoom, _, _ in setup.route.served} == {13}
    assert UPSAMPLED in pixels.flags
    assert np.abs(error_px(pixels.optical, grid)).max() < 0.05


@pytest.mark.parametrize("options", [{"side": 512}, {"tms": True}, {"kind": "JPEG"}, {"kind": "WEBP"}])
def test_every_way_of_cutting_gives_the_same_picture(rig, options):
    address = "/{z}/{x}/{-y}" if options.get("tms") else "/{z}/{x}/{y}"
    setup = rig(TileRoute(**options), address + ("#tile_px=512" if options.get("side") else ""))
    grid = grid_at(*LISBON)
    found = setup.read(grid).optical
    assert np.abs(error_px(found, grid)).max() < 0.05
    assert np.median(np.abs(found - truth(grid))) < 4.0


def test_wmts_by_query_and_by_path(rig):
    grid = grid_at(*LISBON)
    by_path = rig(None, "/layer/{TileMatrix}/{TileCol}/{TileRow}.png").read(grid).optical
    by_query = rig(None, "/wmts?LAYER=a&z={z}&y={y}&x={x}").read(grid).optical
    assert np.array_equal(by_path, by_query)
    assert np.abs(by_path - truth(grid)).max() < 2.5


def test_neighbouring_blocks_agree_where_they_overlap(rig):
    setup, grid = rig(), grid_at(*LISBON)
    beside = setup.read(grid.window(0, 40, 96, 96)).optical
    assert np.allclose(setup.read(grid).optical[:, :, 40:], beside[:, :, :56], atol=0.02)


# ---- bands and registration ----


def test_bands_in_the_order_asked_for_and_luminance_to_register_with(rig):
    setup, grid = rig(), grid_at(*LISBON)
    pixels = setup.read(grid)
    turned = setup.config.model_copy(
        update={"pixels": setup.config.pixels.model_copy(update={"optical_bands": ("B02", "B04")})}
    )
    assert np.array_equal(setup.service.read_optical(setup.scene, grid, turned).optical, pixels.optical[[2, 0]])
    luminance = 0.2126 * pixels.optical[0] + 0.7152 * pixels.optical[1] + 0.0722 * pixels.optical[2]
    assert np.allclose(pixels.registration_optical, luminance[None], atol=1e-3)
    other = setup.config.model_copy(
        update={"pixels": setup.config.pixels.model_copy(update={"optical_bands": ("B08",)})}
    )
    with pytest.raises(SourceError, match="tiles have B04, B03, B02"):
        setup.service.read_optical(setup.scene, grid, other)


def test_registration_takes_the_luminance(rig):
    """A SAR picture of the same edges, moved by (3, -2) px: the shift comes back."""
    side = 160

    def fields(lon, lat):
        """Fields of 200 m in two shades, placed by a rule that does not repeat."""
        east, north = np.floor(np.asarray(lon) * 111_320 * 0.78 / 200), np.floor(np.asarray(lat) * 110_574 / 200)
        shade = np.mod(np.sin(east * 12.9898 + north * 78.233) * 43758.5453, 1.0)
        return np.repeat((40 + 170 * shade)[..., None], 3, axis=-1)

    grid = grid_at(*LISBON, side=side)
    setup = rig(TileRoute(picture=fields))
    optical = setup.read(grid).registration_optical
    moved = setup.read(grid.window(3, -2, side, side)).optical[0]
    speckle = np.random.default_rng(3).gamma(4.4, 1 / 4.4, (2, side, side))
    sar = (moved / 255 * speckle).astype(np.float32)
    found = register_block(
        sar, optical, masked=None, windows=[(0, 0, side, side)], settings=setup.config.registration
    ).scene
    assert found.status == "measured"
    assert (found.row_px, found.col_px) == pytest.approx((3, -2), abs=0.5)


# ---- what is not there ----


@pytest.mark.parametrize("status", [404, 410])
def test_a_missing_tile_is_no_data_there(rig, status):
    grid = grid_at(*LISBON, side=256)
    setup = rig()
    whole = setup.read(grid).optical
    hole = setup.route.served[len(setup.route.served) // 2]
    setup.route.missing, setup.route.missing_status = {hole}, status
    pixels = setup.read(grid)
    gone = np.isnan(pixels.optical[0])
    assert 0 < gone.mean() < 1
    assert np.array_equal(np.isnan(pixels.registration_optical[0]), gone)
    assert np.array_equal(pixels.optical[:, ~gone], whole[:, ~gone])
    assert TILES_MISSING in pixels.flags
    lon, lat = lonlat_from_utm(
        grid.left_m + (np.arange(256)[None, :] + 0.5) * 10, grid.top_m - (np.arange(256)[:, None] + 0.5) * 10, grid.epsg
    )
    zoom, col, row = hole
    inside = np.floor((lon + 180) / 360 * 2**zoom) == col
    inside &= np.floor((0.5 - np.arcsinh(np.tan(np.radians(lat))) / 2 / np.pi) * 2**zoom) == row
    assert gone[inside].all()


def test_no_tile_at_all_is_no_data_and_no_zeros(rig):
    pixels = rig(lambda asked: Reply(status=404, content_type="text/plain")).read(grid_at(*LISBON))
    assert np.isnan(pixels.optical).all()


def rgba(side=256):
    pixels = np.full((side, side, 4), 100, np.uint8)
    pixels[..., 3] = 255
    return pixels


def test_transparent_and_nodata_colours_are_no_data():
    clear = rgba()
    clear[:100, :, 3] = 0
    clear[100, :, 3] = 128
    assert (decode_tile(encode(clear), 256, "x")[..., 3] == 255).mean() == pytest.approx(155 / 256)


@pytest.mark.parametrize(("option", "gone"), [("", 0.0), ("#nodata=000000", 1.0), ("#nodata=000001", 0.0)])
def test_the_stated_colour_is_no_data(rig, option, gone):
    setup = rig(TileRoute(picture=lambda lon, lat: np.zeros((*lon.shape, 3))), "/{z}/{x}/{y}.png" + option)
    assert np.isnan(setup.read(grid_at(*LISBON)).optical).mean() == gone


def test_transparency_reaches_the_block(rig):
    clear = rgba()
    clear[..., 3] = 0
    setup, grid = rig(), grid_at(*LISBON)
    setup.route.spoilt = {setup.first_tile(grid): Reply(body=encode(clear), content_type="image/png")}
    gone = np.isnan(setup.read(grid).optical[0])
    assert 0 < gone.mean() < 1


# ---- faults ----


def spoilt(name):
    pixels = rgba()[..., :3]
    return {
        "html": lambda: Reply(body=b"<!DOCTYPE html><html>limit reached</html>", content_type="text/html"),
        "html called png": lambda: Reply(body=b"<html>limit reached</html>", content_type="image/png"),
        "wrong type": lambda: Reply(body=encode(pixels, "GIF"), content_type="image/gif"),
        "gif called png": lambda: Reply(body=encode(pixels, "GIF"), content_type="image/png"),
        "bomb": lambda: Reply(body=bomb(), content_type="image/png"),
        "large": lambda: Reply(body=encode(np.zeros((1024, 1024, 3), np.uint8)), content_type="image/png"),
        "16 bits": lambda: Reply(body=encode(np.zeros((256, 256), np.uint16)), content_type="image/png"),
        "cut": lambda: Reply(body=encode(pixels)[:-40], content_type="image/png"),
        "flipped": lambda: Reply(body=flipped(encode(pixels)), content_type="image/png"),
        "empty": lambda: Reply(body=b"", content_type="image/png"),
        "too many bytes": lambda: Reply(body=b"\x89PNG" + bytes(3 * 2**20), content_type="image/png"),
        "other side": lambda: Reply(body=encode(rgba(512)), content_type="image/png"),
        "denied": lambda: Reply(status=403, body=b"no", content_type="text/plain"),
        "slow": lambda: Reply(body=encode(pixels), content_type="image/png", stall_s=3.0),
    }[name]()


def flipped(content):
    at = content.index(b"IDAT") + 9
    return content[:at] + bytes([content[at] ^ 16]) + content[at + 1 :]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("html", "web page"),
        ("html called png", "web page"),
        ("wrong type", "image/gif"),
        ("gif called png", "cannot be decoded"),
        ("bomb", "20000|many thousand"),
        ("large", "1024 x 1024"),
        ("16 bits", "stores pixels as I;16"),
        ("cut", "cannot be decoded"),
        ("flipped", "cannot be decoded"),
        ("empty", "cannot be decoded"),
        ("too many bytes", "at most"),
        ("other side", "#tile_px=512"),
        ("denied", "403"),
        ("slow", "stopped sending"),
    ],
)
def test_a_spoilt_tile_is_an_error_that_says_so(rig, name, says):
    setup, grid = rig(), grid_at(*LISBON)
    setup.route.spoilt = {setup.first_tile(grid): spoilt(name)}
    with pytest.raises(SourceError, match=says):
        setup.read(grid)


@lru_cache
def good_tile():
    return encode((np.random.default_rng(0).random((256, 256, 3)) * 255).astype(np.uint8))


def test_damaged_tiles_never_end_in_another_error():
    """R7: bits flipped and bytes cut anywhere; what decodes is a picture of the right size."""
    rng = np.random.default_rng(8)
    contents = [good_tile()] + [encode(rgba()[..., :3], kind) for kind in TYPES if kind != "PNG"]
    outcomes = {"picture": 0, "error": 0}
    for number in range(300):
        content = bytearray(contents[number % len(contents)])
        for _ in range(rng.integers(1, 4)):
            content[rng.integers(0, min(len(content), 400))] ^= 1 << rng.integers(0, 8)
        content = content[: rng.integers(1, len(content))] if number % 5 == 0 else content
        try:
            assert decode_tile(bytes(content), 256, "tile").shape == (256, 256, 4)
            outcomes["picture"] += 1
        except SourceError as error:
            outcomes["error"] += str(error).startswith("tile: ")
    assert sum(outcomes.values()) == 300
    assert outcomes["error"] > 100


def test_grey_palette_and_transparent_palette_decode():
    grey = np.full((256, 256), 77, np.uint8)
    assert (decode_tile(encode(grey), 256, "x") == [77, 77, 77, 255]).all()
    palette = Image.fromarray(rgba()[..., :3]).quantize(4)
    palette.info["transparency"] = 0
    found = decode_tile(encode_image(palette), 256, "x")
    assert found.shape == (256, 256, 4)


def encode_image(picture):
    import io  # noqa: PLC0415

    stream = io.BytesIO()
    picture.save(stream, "PNG", transparency=0)
    return stream.getvalue()


def test_a_block_of_too_many_tiles_is_refused_before_the_first(rig):
    setup = rig()
    with pytest.raises(SourceError, match=r"needs 1.* tiles at zoom 17"):
        setup.read(grid_at(*LISBON, gsd_m=1.0, side=9000))
    assert setup.server.asked == []


# ---- scenes ----


def test_one_undated_scene_of_any_box(rig):
    setup = rig()
    (scene,) = setup.service.search(QUERY)
    assert (scene.acquired, scene.licence, scene.provider) == (UNDATED, "recipe-only", "127.0.0.1")
    assert scene.footprint[0] == scene.footprint[-1] == (-9.3, 38.6)
    assert scene.optical_quantity == "display"
    assert scene_from_text(scene_to_text(scene), "x") == scene
    assert list(setup.service.search(replace(QUERY, kind="sar"))) == []
    assert setup.service.kinds == {"optical"}
    with pytest.raises(SourceError, match=r"Set area\.sar"):
        setup.service.read_sar(scene, grid_at(*LISBON), setup.config)


def test_a_scene_of_another_address_is_not_read(rig):
    old = rig().scene
    with pytest.raises(SourceError, match="Plan the build again"):
        rig(None, "/other/{z}/{x}/{y}.png").service.read_optical(old, grid_at(*LISBON), BuildConfig())


def test_the_price_counts_the_requests_that_reading_makes(rig):
    setup, grid = rig(), grid_at(*LISBON, side=300)
    price = setup.service.price(setup.scene, grid, setup.config)
    assert setup.server.asked == []
    setup.read(grid)
    assert price.requests == len(setup.server.asked)
    assert price.bytes > 0


def test_the_same_bytes_every_time(rig):
    setup, grid = rig(), grid_at(*LISBON)
    travelled = pickle.loads(pickle.dumps(setup.service))  # noqa: S301 - our own bytes
    again = travelled.read_optical(setup.scene, grid, setup.config)
    assert setup.read(grid).optical.tobytes() == again.optical.tobytes()


# ---- keys, terms, addresses ----


def test_the_key_reaches_the_server_and_nothing_else(rig, monkeypatch, caplog, tmp_path):
    monkeypatch.setenv("SAR1M_TILES_KEY", CANARY)
    caplog.set_level("DEBUG")
    setup = rig(TileRoute(key=CANARY), "/{z}/{x}/{y}.png?key={key}")
    grid = grid_at(*LISBON)
    assert np.isfinite(setup.read(grid).optical).all()
    setup.route.key = "another"
    with pytest.raises(SourceError) as refused:
        setup.read(grid)
    shown = [
        caplog.text,
        repr(setup.service),
        repr(refused.value),
        str(refused.getrepr(style="long", showlocals=True)),
        pickle.dumps(setup.service).decode("latin-1"),
        scene_to_text(setup.scene),
        setup.config.to_toml(),
        " ".join(setup.service.usable()[1:]),
        *(f"{path} {path.read_bytes().decode('latin-1')}" for path in tmp_path.rglob("*") if path.is_file()),
    ]
    for canary in (CANARY, "canary%2F%2B%26%3D7f3e"):
        assert [text for text in shown if canary in text] == []
    assert setup.service.usable()[0]
    monkeypatch.delenv("SAR1M_TILES_KEY")
    assert setup.service.usable() == (False, "127.0.0.1: set SAR1M_TILES_KEY, which the address has a place for")
    with pytest.raises(SourceError, match="SAR1M_TILES_KEY is not set"):
        setup.read(grid)


GOOGLE = "https://mt{s}.google.com/vt?x={x}&y={y}&z={z}"
ESRI = "https://server.arcgisonline.com/ArcGIS/rest/services/World_Imagery/MapServer/tile/{z}/{y}/{x}"


@pytest.mark.parametrize("address", [GOOGLE, ESRI])
def test_whose_terms_forbid_is_refused_until_the_user_says_otherwise(address, monkeypatch, tmp_path):
    monkeypatch.delenv("SAR1M_TILES_ACCEPT_TERMS", raising=False)
    fetcher = Fetcher(FetchSettings(root=tmp_path, limits=QUICK))
    config = BuildConfig.model_validate({"area": {"tiles_url": address}})
    service = open_tiles(config.area, fetcher)
    usable, line = service.usable()
    assert not usable
    assert "SAR1M_TILES_ACCEPT_TERMS=1" in line
    with pytest.raises(ConfigError, match="terms forbid"):
        list(service.search(QUERY))
    monkeypatch.setenv("SAR1M_TILES_ACCEPT_TERMS", "1")
    assert service.usable()[0]
    assert len(list(service.search(QUERY))) == 1
    released = config.model_copy(update={"area": config.area.model_copy(update={"tiles_licence": "CC-BY-4.0"})})
    with pytest.raises(ConfigError, match="never released"):
        list(open_tiles(released.area, fetcher).search(QUERY))


def test_a_host_that_only_sounds_like_it_is_free():
    assert parse_template("https://notgoogle.com/{z}/{x}/{y}").forbidding is None
    assert parse_template("https://google.com.example.org/{z}/{x}/{y}").forbidding is None
    assert parse_template("https://KHM.Google.com./{z}/{x}/{y}").forbidding == "Google"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "is no address"),
        ("tiles", "is no address"),
        ("https://[abc/{z}/{x}/{y}", "is no address"),
        ("file:///{z}/{x}/{y}", "is no address"),
        ("http://tiles.example.org/{z}/{x}/{y}", "is not encrypted"),
        ("https://tiles.example.org/{z}/{x}", "lacks a place"),
        ("https://tiles.example.org/{z}/{x}/{y}/{-y}", "lacks a place"),
        ("https://tiles.example.org/{q}/{z}/{x}/{y}", "has the place {q}"),
        ("https://tiles.example.org/{z}/{x}/{y}{}", "has the place {}"),
        ("https://{x}.example.org/{z}/{x}/{y}", "only {s} may stand there"),
        ("https://tiles.example.org/{z}/{x}/{y}.png/{key}", "last part of its path"),
        ("https://me:SECRET@tiles.example.org/{z}/{x}/{y}", "user name or password"),
        ("https://tiles.example.org/{z}/{x}/{y}?api_key=SECRET", "the value of api_key"),
        ("https://tiles.example.org/{z}/{x}/{y}?connectId=SECRET", "the value of connectId"),
        ("https://tiles.example.org/0f8fad5b-d9cb-469f-a165-70867728950e/{z}/{x}/{y}", "looks like a key"),
        ("https://tiles.example.org/pk1eyJ1IjoiZXhhbXBsZSIsImEiOiJ/{z}/{x}/{y}", "looks like a key"),
        ("https://tiles.example.org/{z}/{x}/{y}#nodata=red", "six hexadecimal digits"),
        ("https://tiles.example.org/{z}/{x}/{y}#tile_px=300", "256 or 512"),
        ("https://tiles.example.org/{z}/{x}/{y}#max_zoom=99", "0 to 22"),
        ("https://tiles.example.org/{z}/{x}/{y}#colour=red", "unknown options"),
        ("https://tiles.example.org/{z}/{x}/{y}#SECRET", "unknown options"),
    ],
)
def test_an_address_that_cannot_be_used_is_explained(address, says):
    with pytest.raises(ConfigError, match=r"area\.tiles_url") as refused:
        parse_template(address)
    assert says in str(refused.value)
    assert "SECRET" not in str(refused.value)
    assert "0f8fad5b" not in str(refused.value)


def test_ids_differ_by_address_and_hold_no_key(monkeypatch):
    base = "https://{s}.example.org/{z}/{x}/{y}.png"
    addresses = [base, base + "?key={key}", base + "#nodata=ffffff", base + "#max_zoom=9", base.replace("{y}", "{-y}")]
    digests = {parse_template(address).digest for address in addresses}
    assert len(digests) == len(addresses)
    monkeypatch.setenv("SAR1M_TILES_KEY", CANARY)
    assert {parse_template(address).digest for address in addresses} == digests
    assert parse_template(base).host == "example.org"


def test_subdomains_take_turns():
    template = parse_template("https://{s}.example.org/{z}/{x}/{-y}")
    hosts = {template.url(3, row, 0).split("//")[1][0] for row in range(6)}
    assert hosts == {"a", "b", "c"}
    assert template.url(3, 0, 5).endswith("/3/5/7")


def test_without_an_address_the_error_shows_one(tmp_path):
    with pytest.raises(ConfigError, match=r"https://tiles\.example\.org/\{z\}/\{x\}/\{y\}\.png"):
        open_tiles(BuildConfig().area, Fetcher(FetchSettings(root=tmp_path, limits=QUICK)))


def test_bands_are_red_green_blue():
    assert BuildConfig().pixels.optical_bands == BANDS
