"""The COG edition of a product, and how the STAC catalogue of the Data Space tells of it.

Layout as in example items of github.com/eu-cdse/eometadatatool (sentinel-1-grd-cog): keys, hrefs, multihashes.
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from datetime import datetime

import rasterio
from rasterio.io import MemoryFile

from servers.base import Asked, Reply, reply_json
from servers.delivered import Delivered

FOLDER = "Sentinel-1/SAR/IW_GRDH_1S-COG/2021/08/09"


def members_of(product: Delivered) -> dict[str, bytes]:
    """Files by name below the product's folder."""
    with zipfile.ZipFile(io.BytesIO(product.content)) as opened:
        names = [entry.filename for entry in opened.infolist() if not entry.is_dir()]
        return {name.partition(".SAFE/")[2]: opened.read(name) for name in names}


def cog_edition(product: Delivered) -> Delivered:
    """Another name, file names with -cog, tiled images packed by Zstandard, and a manifest that says so."""
    product_id = f"{product.product_id[:-4]}C{product.product_id[-3:]}_COG"
    members = {}
    for name, content in members_of(product).items():
        renamed = re.sub(r"-(00\d)\.(xml|tiff)$", r"-\1-cog.\2", name)
        members[renamed] = tiled(content) if name.endswith(".tiff") else content
    members["manifest.safe"] = manifest_of(members)
    return product.renamed(product_id=product_id, content=zipped(product_id, members))


def zipped(product_id: str, members: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(f"{product_id}.SAFE/{name}", content)
    return packed.getvalue()


def tiled(measurement: bytes) -> bytes:
    with MemoryFile(measurement) as memory, memory.open() as source, MemoryFile() as made:
        points, crs = source.gcps
        shape = {"height": source.height, "width": source.width, "count": 1, "dtype": "uint16"}
        tiles = {"tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "ZSTD"}
        with made.open(driver="GTiff", gcps=points, crs=crs, **shape, **tiles) as target:
            target.write(source.read(1), 1)
        return bytes(made.getbuffer())


def manifest_of(members: dict[str, bytes]) -> bytes:
    """The manifest among members with the sizes and checksums of these, and the converter's version."""
    text = members["manifest.safe"].decode()

    def stated(found: re.Match) -> str:
        name = re.sub(r"(?<!-cog)\.(xml|tiff)$", r"-cog.\1", found["name"])
        md5 = hashlib.md5(members[name]).hexdigest()  # noqa: S324 - what manifests state
        return f'size="{len(members[name])}"{found["between"]}./{name}{found["rest"]}{md5}<'

    pattern = (
        r'size="\d+"(?P<between>>\s*<fileLocation[^>]*href=")\./(?P<name>[^"]+)(?P<rest>"[^<]*<checksum[^>]*>)\w+<'
    )
    text, count = re.subn(pattern, stated, text)
    assert count == len(members) - 1
    return re.sub(r'(name="Sentinel-1 IPF" version=")[\d.]+', r"\g<1>01.00", text).encode()


def item_of(product: Delivered, uuid: str, **properties) -> dict:
    """Of a COG edition."""
    folder = f"s3://eodata/{FOLDER}/{product.product_id}.SAFE"
    lons, lats = zip(*product.ring, strict=True)
    stamp = product.start.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    names = sorted(members_of(product))
    files = {name.rpartition("/")[2]: {"href": f"{folder}/{name}", "auth:refs": ["s3"]} for name in names}
    told = {
        "platform": "sentinel-1a",
        "processing:version": "01.00",
        "product:type": "IW_GRDH_1S",
        "start_datetime": stamp,
        "end_datetime": stamp,
        "datetime": stamp,
        "sat:orbit_state": "ascending",
        "sat:relative_orbit": 117,
        "sar:instrument_mode": "IW",
        "sar:polarizations": ["VV", "VH"],
    }
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "collection": "sentinel-1-grd",
        "id": product.product_id,
        "properties": told | properties,
        "bbox": [min(lons), min(lats), max(lons), max(lats)],
        "geometry": {"type": "Polygon", "coordinates": [[list(point) for point in product.ring]]},
        "links": [{"rel": "enclosure", "href": f"{folder}/", "type": "application/x-directory"}],
        "assets": {
            "safe_manifest": {"href": f"{folder}/manifest.safe", "file:size": 1, "alternate:name": "S3"},
            **files,
            "Product": {
                "type": "application/zip",
                "file:checksum": f"d50110{product.md5}",
                "file:size": len(product.content),
                "href": f"https://download.dataspace.copernicus.eu/odata/v1/Products({uuid})/$value",
                "auth:refs": ["oidc"],
            },
        },
    }


def item_page(asked: Asked, items: list[dict], root: str, page_items: int) -> Reply:
    """The answer to a search, newest first, with a link to the next page."""
    body = asked.json()
    west, south, east, north = body["bbox"]
    first, last = (datetime.fromisoformat(moment) for moment in body["datetime"].split("/"))
    fitting = [
        item
        for item in items
        if item["collection"] in body["collections"]
        and first <= datetime.fromisoformat(item["properties"]["end_datetime"])
        and datetime.fromisoformat(item["properties"]["start_datetime"]) <= last
        and west <= item["bbox"][2]
        and item["bbox"][0] <= east
        and south <= item["bbox"][3]
        and item["bbox"][1] <= north
    ]
    fitting.sort(key=lambda item: item["properties"]["datetime"], reverse=True)
    begin = int(body.get("token", "next:0").removeprefix("next:"))
    end = begin + min(int(body["limit"]), page_items)
    next_link = {
        "rel": "next",
        "href": f"{root}/search",
        "method": "POST",
        "body": body | {"token": f"next:{end}"},
        "type": "application/geo+json",
    }
    links = [next_link] if end < len(fitting) else []
    return reply_json({"type": "FeatureCollection", "features": fitting[begin:end], "links": links})


def pixels_of(measurement: bytes):
    with MemoryFile(measurement) as memory, memory.open() as source:
        return source.read(1), source.compression == rasterio.enums.Compression.zstd
