"""A STAC API, a token service and a blob store on the loopback, with pixels of the simulator.

Two APIs tell of the same places: /stac as Planetary Computer does (signed blobs), /v1 as Earth Search does (open ones).
Items are modelled on recorded answers of both services.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

import numpy as np
from rasterio.io import MemoryFile
from rasterio.transform import Affine

from sar1m.core.grid import bounds_lonlat
from sar1m.records import RasterGrid
from sarworld.optics import Sun, clear_sky
from sarworld.radar import View
from sarworld.world import WorldSpec, build_world, view_optical, view_radar
from servers.base import Asked, Reply, Server, file_reply, reply_json

TOKEN_CANARY = "sig=CANARY-SAS-0f3a"  # noqa: S105 - planted, not secret
KEY_CANARY = "CANARY-SUBSCRIPTION-77"
NODATA = -32768.0
EDGE_PX = 40  # columns in the west without radar data
ACQUIRED = datetime(2023, 6, 15, 5, 12, 31, tzinfo=UTC)
BANDS = ("B02", "B03", "B04", "B08")
COMMON = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir", "SCL": "scl"}
SUN = Sun(zenith_deg=35.0, azimuth_deg=150.0)
COVER_BLOBS = "/ai4edataeuwest/esa-worldcover"
COVER_NUMBERS = np.asarray([10, 20, 30, 40, 50, 60, 70, 80, 90, 95, 100], np.uint8)
RTC_BLOBS, S2_BLOBS, OPEN_BLOBS = (
    "/sentinel1euwestrtc/sentinel1-grd-rtc",
    "/sentinel2l2a01/sentinel2-l2",
    "/sentinel-cogs",
)
CONFORMS = [
    f"https://api.stacspec.org/v1.0.0/{part}"
    for part in ("core", "collections", "ogcapi-features", "item-search", "item-search#query")
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Place:
    """A simulated world on a grid, seen by both sensors: SAR at acquired, optical a day later."""

    grid: RasterGrid
    name: str = "place"
    acquired: datetime = ACQUIRED
    cloud_percent: float = 4.5

    @cached_property
    def _world(self):
        spec = WorldSpec(
            seed=7, name=self.name, rows=self.grid.rows, cols=self.grid.cols, gsd_m=self.grid.gsd_m, relief_m=20.0
        )
        return build_world(spec, max_shift_px=1.0)

    @cached_property
    def power(self) -> np.ndarray:
        """(2, rows, cols) gamma nought of VV and VH, NaN in the west."""
        view = View(incidence_deg=38.0, look_azimuth_deg=282.0)
        power = view_radar(self._world, view).measured(self._world.spec, looks=4.4, correlated=True)
        power = power.astype(np.float32)
        power[:, :, :EDGE_PX] = np.nan
        return power

    @cached_property
    def reflectance(self) -> np.ndarray:
        """(4, rows, cols) of BANDS, on steps of 1e-4."""
        clear = clear_sky((self.grid.rows, self.grid.cols))
        seen = view_optical(self._world, SUN, (0.0, 0.0), clear)
        return (np.clip(np.rint(seen * 10_000), 1, 30_000) / 10_000).astype(np.float32)

    @cached_property
    def scl(self) -> np.ndarray:
        """(rows / 2, cols / 2) classes on pixels of 20 m, a cloud in the middle of the north."""
        rows, cols = self.grid.rows // 2, self.grid.cols // 2
        classes = np.full((rows, cols), 4, np.uint8)
        classes[: rows // 4, cols // 3 : cols // 2] = 9
        return classes

    @property
    def ring(self) -> list[list[float]]:
        west, south, east, north = (float(edge) for edge in bounds_lonlat([self.grid])[0])
        return [[west, south], [east, south], [east, north], [west, north], [west, south]]

    @property
    def sar_id(self) -> str:
        stop = self.acquired + timedelta(seconds=29)
        orbit = 30352 + hash_of(self.name) % 1000
        datatake = f"{hash_of(self.name + 'take') % 0x100000:06X}"
        return f"S1A_IW_GRDH_1SDV_{self.acquired:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}_{orbit:06d}_{datatake}_rtc"

    @property
    def optical_time(self) -> datetime:
        return self.acquired + timedelta(days=1, hours=5)

    @property
    def tile(self) -> str:
        letters = "ABCDEFGHJK"
        return "33U" + "".join(letters[hash_of(f"{self.name}{n}") % 10] for n in range(2))


def hash_of(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")


def cog(values: np.ndarray, grid: RasterGrid, nodata: float | None) -> bytes:
    """One band as a COG of 512 px tiles with overviews."""
    with MemoryFile() as memory:
        with memory.open(
            driver="COG",
            count=1,
            height=values.shape[0],
            width=values.shape[1],
            dtype=values.dtype.name,
            crs=f"EPSG:{grid.epsg}",
            transform=Affine(*grid.transform),
            nodata=nodata,
            blocksize=512,
            compress="DEFLATE",
            predictor="YES",
            level=1,
        ) as dataset:
            dataset.write(values, 1)
        return bytes(memory.getbuffer())


def half(grid: RasterGrid) -> RasterGrid:
    """The same place on pixels of double size."""
    return RasterGrid(
        epsg=grid.epsg,
        left_m=grid.left_m,
        top_m=grid.top_m,
        gsd_m=2 * grid.gsd_m,
        rows=grid.rows // 2,
        cols=grid.cols // 2,
    )


def optical_files(place: Place, offset_dn: int) -> dict[str, bytes]:
    dn = np.rint(place.reflectance * 10_000).astype(np.uint16) + np.uint16(offset_dn)
    files = {band: cog(values, place.grid, 0) for band, values in zip(BANDS, dn, strict=True)}
    return files | {"SCL": cog(place.scl, half(place.grid), 0)}


def rtc_item(place: Place, blobs: str) -> dict:
    """As Planetary Computer tells of sentinel-1-rtc."""
    folder = f"{blobs}{RTC_BLOBS}/GRD/{place.acquired:%Y/%-m/%-d}/IW/DV/{place.sar_id[:-4]}/measurement"
    middle = place.acquired + timedelta(seconds=14.5)
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": place.sar_id,
        "collection": "sentinel-1-rtc",
        "bbox": [place.ring[0][0], place.ring[0][1], place.ring[2][0], place.ring[2][1]],
        "geometry": {"type": "Polygon", "coordinates": [place.ring]},
        "properties": {
            "datetime": f"{middle:%Y-%m-%dT%H:%M:%S.%fZ}",
            "start_datetime": f"{place.acquired:%Y-%m-%d %H:%M:%S.%f}+00:00",
            "end_datetime": f"{place.acquired + timedelta(seconds=29):%Y-%m-%d %H:%M:%S.%f}+00:00",
            "platform": "SENTINEL-1A",
            "constellation": "Sentinel-1",
            "sar:product_type": "GRD",
            "sar:instrument_mode": "IW",
            "sar:polarizations": ["VV", "VH"],
            "sat:orbit_state": "descending",
            "sat:relative_orbit": 95,
            "proj:epsg": place.grid.epsg,
            "proj:transform": [10.0, 0.0, 0.0, 0.0, -10.0, 0.0, 0.0, 0.0, 1.0],  # out of date, as they can be
        },
        "links": [],
        "assets": {
            name: {
                "href": f"{folder}/iw-{name}.rtc.tiff",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            }
            for name in ("vv", "vh")
        }
        | {"tilejson": {"href": "https://planetarycomputer.microsoft.com/api/data/v1/item/tilejson.json?item=x"}},
    }


def s2_item(place: Place, blobs: str, *, baseline: str = "05.09") -> dict:
    """As Planetary Computer tells of sentinel-2-l2a."""
    when, made = place.optical_time, place.optical_time + timedelta(hours=9)
    name = f"S2A_MSIL2A_{when:%Y%m%dT%H%M%S}_R022_T{place.tile}_{made:%Y%m%dT%H%M%S}"
    folder = f"{blobs}{S2_BLOBS}/{name}.SAFE/R10m"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "sentinel-2-l2a",
        "bbox": [place.ring[0][0], place.ring[0][1], place.ring[2][0], place.ring[2][1]],
        "geometry": {"type": "Polygon", "coordinates": [place.ring]},
        "properties": {
            "datetime": f"{when:%Y-%m-%dT%H:%M:%S.%fZ}",
            "platform": "Sentinel-2A",
            "eo:cloud_cover": place.cloud_percent,
            "s2:product_type": "S2MSI2A",
            "s2:mgrs_tile": place.tile,
            "s2:processing_baseline": baseline,
            "s2:datastrip_id": f"S2A_OPER_MSI_L2A_DS_2APS_{made:%Y%m%dT%H%M%S}_S{when:%Y%m%dT%H%M%S}_N{baseline}",
            "sat:relative_orbit": 22,
            "sat:orbit_state": "descending",
        },
        "links": [],
        "assets": {
            band: {
                "href": f"{folder}/T{place.tile}_{band}.tif",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
            }
            for band in (*BANDS, "SCL")
        },
    }


def e84_item(place: Place, blobs: str) -> dict:
    """As Earth Search tells of sentinel-2-l2a: the offset is already taken away."""
    when = place.optical_time
    name = f"S2A_{place.tile}_{when:%Y%m%d}_0_L2A"
    folder = f"{blobs}{OPEN_BLOBS}/sentinel-s2-l2a-cogs/{name}"
    item = s2_item(place, blobs) | {"id": name}
    item["properties"] |= {"grid:code": f"MGRS-{place.tile}", "earthsearch:boa_offset_applied": True}
    del item["properties"]["s2:mgrs_tile"]
    tiff = "image/tiff; application=geotiff; profile=cloud-optimized"
    item["assets"] = {key: {"href": f"{folder}/{band}.tif", "type": tiff} for band, key in COMMON.items()} | {
        f"{key}-jp2": {"href": f"s3://sentinel-s2-l2a/{name}/{band}.jp2", "type": "image/jp2"}
        for band, key in COMMON.items()
    }
    return item


def land_cover_at(lon, lat) -> np.ndarray:
    """Class numbers in diagonal stripes of fields of 0.01 degrees."""
    return COVER_NUMBERS[(np.floor(np.asarray(lon) * 100) + 3 * np.floor(np.asarray(lat) * 100)).astype(int) % 11]


def land_cover_item(south: int, west: int, blobs: str, version: str = "2021_v200") -> dict:
    """As Planetary Computer tells of esa-worldcover."""
    place = f"{'N' if south >= 0 else 'S'}{abs(south):02d}{'E' if west >= 0 else 'W'}{abs(west):03d}"
    name, (year, made) = f"ESA_WorldCover_10m_{version}_{place}", version.split("_")
    ring = [[west, south], [west + 3, south], [west + 3, south + 3], [west, south + 3], [west, south]]
    href = f"{blobs}{COVER_BLOBS}/{made}/{year}/map/{name}_Map.tif"
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": "esa-worldcover",
        "bbox": [west, south, west + 3, south + 3],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": f"{year}-01-01T00:00:00Z",
            "start_datetime": f"{year}-01-01T00:00:00Z",
            "end_datetime": f"{year}-12-31T23:59:59Z",
            "esa_worldcover:product_tile": place,
        },
        "links": [],
        "assets": {"map": {"href": href, "type": "image/tiff; application=geotiff; profile=cloud-optimized"}},
    }


def land_cover_file(south: int, west: int, around: tuple[float, float, float, float]) -> bytes:
    """The part of a tile around a box, west, south, east, north, as a COG."""
    first_col, last_col = (round((edge - west) * 12_000) for edge in (max(around[0], west), min(around[2], west + 3)))
    first_row, last_row = (
        round((south + 3 - edge) * 12_000) for edge in (min(around[3], south + 3), max(around[1], south))
    )
    lon = west + (np.arange(first_col, last_col) + 0.5) / 12_000
    lat = south + 3 - (np.arange(first_row, last_row) + 0.5) / 12_000
    values = land_cover_at(*np.meshgrid(lon, lat))
    transform = Affine(1 / 12_000, 0, west + first_col / 12_000, 0, -1 / 12_000, south + 3 - first_row / 12_000)
    with MemoryFile() as memory:
        options = {"count": 1, "dtype": "uint8", "crs": "EPSG:4326", "nodata": 0, "blocksize": 512}
        rows, cols = values.shape
        with memory.open(driver="COG", height=rows, width=cols, transform=transform, **options) as dataset:
            dataset.write(values, 1)
        return bytes(memory.getbuffer())


@dataclass
class StacServer:
    """`with StacServer(places=[...]) as server:`; server.pc_url, server.e84_url, server.sas_url, server.environment.

    clock: the token service's and the blob store's; a test may set it. life_s: of a token. items: by API, to add to.
    before_blob: called with every request of a blob, before it is answered.
    """

    places: list[Place] = field(default_factory=list)
    page_items: int = 3
    life_s: float = 2700.0
    clock: object = time.time
    before_blob: object = None

    def __enter__(self):
        self.files: dict[str, bytes] = {}
        self.tokens: dict[str, tuple[str, float]] = {}
        self.keys_seen: list[str | None] = []
        self.refused = 0
        self.blobs = Server({"/*": self._blob})
        self.api = Server({"/stac*": self._stac, "/v1*": self._stac, "/sas/*": self._token})
        self.blobs.__enter__()
        self.api.__enter__()
        self.items: dict[str, list[dict]] = {"stac": [], "v1": []}
        for place in self.places:
            self.add(place)
        return self

    def __exit__(self, *exc):
        self.api.__exit__(*exc)
        self.blobs.__exit__(*exc)

    @property
    def pc_url(self) -> str:
        return f"{self.api.url}/stac"

    @property
    def e84_url(self) -> str:
        return f"{self.api.url}/v1"

    @property
    def sas_url(self) -> str:
        return f"{self.api.url}/sas/token"

    @property
    def environment(self) -> dict[str, str]:
        """What a build needs to find this server."""
        return {
            "SAR1M_PLANETARY_COMPUTER_URL": self.pc_url,
            "SAR1M_EARTH_SEARCH_URL": self.e84_url,
            "PC_SDK_SAS_URL": self.sas_url,
            "PC_SDK_SUBSCRIPTION_KEY": KEY_CANARY,
            "SAR1M_ALLOW_LOOPBACK": "1",
        }

    def tell(self, place: Place) -> tuple[dict, dict, dict]:
        """Items of both sensors, without their files."""
        told = tuple(make(place, self.blobs.url) for make in (rtc_item, s2_item, e84_item))
        self.items["stac"] += told[:2]
        self.items["v1"] += told[2:]
        return told

    def add(self, place: Place) -> None:
        """Items and files of a place."""
        sar, optical, open_optical = self.tell(place)
        power = np.where(np.isnan(place.power), np.float32(NODATA), place.power)
        for name, values in zip(("vv", "vh"), power, strict=True):
            self.put(sar["assets"][name]["href"], cog(values, place.grid, NODATA))
        for band, content in optical_files(place, 1000).items():
            self.put(optical["assets"][band]["href"], content)
        for band, content in optical_files(place, 0).items():
            self.put(open_optical["assets"][COMMON[band]]["href"], content)

    def add_land_cover(self, south: int, west: int, around: tuple[float, float, float, float]) -> None:
        """A tile of 2021, the item of 2020 without its file, as both are told."""
        item = land_cover_item(south, west, self.blobs.url)
        self.items["stac"] += [land_cover_item(south, west, self.blobs.url, "2020_v100"), item]
        self.put(item["assets"]["map"]["href"], land_cover_file(south, west, around))

    def put(self, href: str, content: bytes) -> None:
        self.files[href.removeprefix(self.blobs.url)] = content

    # ---- routes ----

    def _stac(self, asked: Asked) -> Reply:
        api = asked.path.split("/")[1]
        root = f"{self.api.url}/{api}"
        rest = asked.path.removeprefix(f"/{api}").strip("/")
        if rest == "":
            return reply_json(self._root(root))
        if rest == "collections":
            names = sorted({item["collection"] for item in self.items[api]})
            return reply_json({"collections": [self._collection(name, root) for name in names], "links": []})
        if rest == "search" and asked.method == "POST":
            return reply_json(self._page(api, root, asked.json()))
        return reply_json({"code": "NotFoundError"}, status=404)

    def _root(self, root: str) -> dict:
        return {
            "type": "Catalog",
            "id": "loopback",
            "title": "Loopback STAC API",
            "description": "Simulated scenes",
            "stac_version": "1.0.0",
            "conformsTo": CONFORMS,
            "links": [
                {"rel": "self", "href": root, "type": "application/json"},
                {"rel": "root", "href": root, "type": "application/json"},
                {"rel": "data", "href": f"{root}/collections", "type": "application/json"},
                {"rel": "search", "href": f"{root}/search", "type": "application/geo+json", "method": "POST"},
            ],
        }

    def _collection(self, name: str, root: str) -> dict:
        return {
            "type": "Collection",
            "id": name,
            "stac_version": "1.0.0",
            "description": name,
            "license": "proprietary",
            "extent": {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}},
            "links": [{"rel": "root", "href": root}],
        }

    def _page(self, api: str, root: str, body: dict) -> dict:
        """Newest first, as both services answer."""
        fitting = [item for item in self.items[api] if _fits(item, body)]
        fitting.sort(key=lambda item: str((item.get("properties") or {}).get("datetime")), reverse=True)
        first = int(body.get("token", "next:0").removeprefix("next:"))
        count = min(int(body.get("limit", 10)), self.page_items)
        links = [{"rel": "root", "href": root}]
        if first + count < len(fitting):
            following = body | {"token": f"next:{first + count}"}
            href = f"{root}/search"
            links.append({"rel": "next", "method": "POST", "href": href, "body": following, "merge": False})
        page = {"type": "FeatureCollection", "features": fitting[first : first + count], "links": links}
        return json.loads(json.dumps(page))

    def _token(self, asked: Asked) -> Reply:
        self.keys_seen.append(asked.headers.get("ocp-apim-subscription-key"))
        ends_s = self.clock() + self.life_s
        when = datetime.fromtimestamp(ends_s, UTC)
        token = f"se={when:%Y-%m-%dT%H%%3A%M%%3A%SZ}&sp=rl&{TOKEN_CANARY}{len(self.tokens)}"
        self.tokens[token] = (asked.path.removeprefix("/sas/token"), ends_s)
        return reply_json({"msft:expiry": f"{when:%Y-%m-%dT%H:%M:%S.%fZ}", "token": token})

    def _blob(self, asked: Asked) -> Reply:
        if self.before_blob is not None:
            self.before_blob(asked)
        if not asked.path.startswith(OPEN_BLOBS) and not self._signed(asked):
            self.refused += 1
            return Reply(status=403, body=b"<Error><Code>AuthenticationFailed</Code></Error>", content_type="text/xml")
        content = self.files.get(asked.path)
        if content is None:
            return Reply(status=404, body=b"<Error/>", content_type="application/xml")
        etag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
        return file_reply(asked, content, content_type="image/tiff", etag=etag)

    def _signed(self, asked: Asked) -> bool:
        signature = asked.query.get("sig", [""])[0]
        for token, (place, ends_s) in self.tokens.items():
            if token.endswith(f"sig={signature}") and asked.path.startswith(f"{place}/"):
                return self.clock() < ends_s
        return False


def _fits(item: dict, body: dict) -> bool:
    if body.get("collections") and item["collection"] not in body["collections"]:
        return False
    fields = item.get("properties") or {}
    west, south, east, north = item.get("bbox", (-180, -90, 180, 90))
    box = body.get("bbox", (-180, -90, 180, 90))
    if west > box[2] or east < box[0] or south > box[3] or north < box[1]:
        return False
    if "datetime" in body:
        first, last = (datetime.fromisoformat(text.replace("Z", "+00:00")) for text in body["datetime"].split("/"))
        told = re.sub(r"(\.\d{6})\d*Z$|Z$", r"\1+00:00", str(fields.get("datetime")))
        try:
            if not first <= datetime.fromisoformat(told) <= last:
                return False
        except ValueError:
            pass  # a hostile item: let it through
    most = body.get("query", {}).get("eo:cloud_cover", {}).get("lte", 100)
    return fields.get("eo:cloud_cover", 0) <= most


def write_catalogue(folder: Path, items: list[dict]) -> Path:
    """A static catalogue: catalog.json, a collection each, items below."""
    root = {"type": "Catalog", "id": "root", "stac_version": "1.0.0", "description": "x", "links": []}
    for name in sorted({item["collection"] for item in items}):
        mine = [item for item in items if item["collection"] == name]
        links = [{"rel": "item", "href": f"./{item['id']}/{item['id']}.json"} for item in mine]
        links += [{"rel": "parent", "href": "../catalog.json"}]
        collection = {"type": "Collection", "id": name, "stac_version": "1.0.0", "links": links}
        _write(folder / name / "collection.json", collection)
        for item in mine:
            _write(folder / name / item["id"] / f"{item['id']}.json", item)
        root["links"].append({"rel": "child", "href": f"./{name}/collection.json"})
    return _write(folder / "catalog.json", root)


def _write(path: Path, document: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path
