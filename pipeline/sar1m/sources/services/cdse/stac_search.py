"""Products of the Copernicus Data Space by its STAC catalogue (stac.dataspace.copernicus.eu/v1, sentinel-1-grd), which
lists their COG editions.

Items: github.com/eu-cdse/eometadatatool, sentinel-1-grd-cog; STAC 1.1 with the extensions sat, processing, file (whose
checksums are multihashes: code, length, digest). Items of other modes and resolutions are passed over by their names,
since not every edition of the catalogue can filter by them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic import BaseModel, Field

from sar1m.core.sphere import Box
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.services.cdse.routes import AddressOf, ProductPlace, ipf_of
from sar1m.sources.services.products.names import (
    COG,
    ListedProduct,
    MultiPolygon,
    Polygon,
    checked_start,
    direction,
    one_ring,
    parsed,
    product_name,
)
from sar1m.sources.services.stac.item_search import ItemQuestion, StacApi

COLLECTION: Final = "sentinel-1-grd"
_MANIFEST: Final = "/manifest.safe"
_MULTIHASH_MD5: Final = re.compile(r"d50110([0-9a-f]{32})", re.IGNORECASE)
_ZIPPED: Final = re.compile(r"/Products\(([0-9A-Fa-f-]{36})\)/\$value")
_NAME: Final = "cdse"


def stac_products(
    fetcher: Fetcher,
    url: str,
    box: Box,
    first: datetime,
    last: datetime,
    place: AddressOf,
) -> tuple[ListedProduct, ...]:
    """IW GRDH products whose footprint meets a box and which were taken in first <= t < last. Some that start before
    first may be among them. Raises SourceError where the catalogue fails, or the client of STAC is not installed."""
    question = ItemQuestion(
        collections=(COLLECTION,), box=box, first=first, last=last + timedelta(seconds=1), filters={}
    )
    return read_items(StacApi(fetcher, url, _NAME).items(question), place)


def read_items(items: Iterable[object], place: AddressOf) -> tuple[ListedProduct, ...]:
    """Products of items. Raises SourceError where one is not what the catalogue describes."""
    return tuple(listed for item in items if (listed := _listed(item, place)) is not None)


class _Properties(BaseModel):
    start: datetime = Field(alias="start_datetime")
    orbit_state: object = Field(default=None, alias="sat:orbit_state")
    relative_orbit: object = Field(default=None, alias="sat:relative_orbit")
    processor: object = Field(default=None, alias="processing:version")


class _Asset(BaseModel):
    href: str = ""
    size: int = Field(default=0, ge=0, alias="file:size")
    checksum: str = Field(default="", max_length=200, alias="file:checksum")


class _Named(BaseModel):
    """The part that items of every mode have."""

    id: str


class _Item(_Named):
    properties: _Properties
    geometry: Polygon | MultiPolygon = Field(discriminator="type")
    assets: dict[str, _Asset]


def _listed(item: object, place: AddressOf) -> ListedProduct | None:
    body = json.dumps(item).encode()
    product_id = parsed(_Named, body, _NAME).id.removesuffix(".SAFE")
    name = product_name(product_id.removesuffix(COG), _NAME)
    if name is None:
        return None
    known = parsed(_Item, body, _NAME)
    zipped, manifest = known.assets.get("Product", _Asset()), known.assets.get("safe_manifest", _Asset())
    uuid, md5 = _ZIPPED.search(zipped.href), _MULTIHASH_MD5.fullmatch(zipped.checksum)
    where = ProductPlace(
        product_id=product_id,
        uuid=uuid[1] if uuid is not None else "",
        s3_path=manifest.href.removesuffix(_MANIFEST),
    )
    track = known.properties.relative_orbit
    return ListedProduct(
        product_id=product_id,
        start=checked_start(known.properties.start, name, product_id, _NAME),
        footprint=one_ring(known.geometry.rings, product_id, _NAME),
        href=place(where),
        orbit_state=direction(known.properties.orbit_state),
        relative_orbit=track if isinstance(track, int) else name.relative_orbit,
        ipf=ipf_of(known.properties.processor, product_id),
        size_bytes=zipped.size or None,
        checksum=None if md5 is None else f"md5:{md5[1].lower()}",
    )
