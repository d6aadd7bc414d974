"""Copernicus Data Space (`cdse`): every Sentinel-1 product, found by OData, downloaded whole with an account.

Interfaces: documentation.dataspace.copernicus.eu, APIs, OData and Token. Searching needs no account.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from sar1m.errors import SourceError
from sar1m.io.net.fetch import Auth, AuthAcross
from sar1m.sources.services.cdse_token import Identity, credentials
from sar1m.sources.services.product_names import (
    Listed,
    MultiPolygon,
    Page,
    Polygon,
    checked_start,
    direction,
    one_ring,
    parsed,
    product_name,
    version,
)
from sar1m.sources.services.products import Box, ProductService, address_from, host_of

NAME: Final = "cdse"
PAGE: Final = 500  # of 1,000 that are allowed: with attributes an answer takes 3 MB
_IS_PRODUCT_TYPE: Final = (
    "att:att/Name eq 'productType' and att/OData.CSC.StringAttribute/Value eq 'IW_GRDH_1S'"  # not IW_GRDH_1S-COG
)
DOWNLOADS_AT_ONCE: Final = 4  # of a general user's account


@dataclass(frozen=True, kw_only=True)
class CdseEndpoints:
    """Where the service is, or a mirror with the same interface. download_hosts: host[:port] that get the access token,
    and no other."""

    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    identity: str = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    download_hosts: tuple[str, ...] = (
        "download.dataspace.copernicus.eu",
        "zipper.dataspace.copernicus.eu",
        "catalogue.dataspace.copernicus.eu",
    )

    @staticmethod
    def from_environment() -> CdseEndpoints:
        """The service itself but for what SAR1M_CDSE_CATALOGUE_URL, SAR1M_CDSE_DOWNLOAD_URL and
        SAR1M_CDSE_IDENTITY_URL name. A download address that is named gets the access token, and no other host does.

        Raises ConfigError as address_from does.
        """
        usual = CdseEndpoints()
        download = address_from("SAR1M_CDSE_DOWNLOAD_URL", usual.download)
        return CdseEndpoints(
            catalogue=address_from("SAR1M_CDSE_CATALOGUE_URL", usual.catalogue),
            download=download,
            identity=address_from("SAR1M_CDSE_IDENTITY_URL", usual.identity),
            download_hosts=usual.download_hosts if download == usual.download else (host_of(download),),
        )


@dataclass(frozen=True)
class CdseAuth:
    """The bearer token for downloads, renewed as it ages. Holds none itself."""

    identity: Identity
    hosts: tuple[str, ...]

    def __call__(self, url: str) -> Mapping[str, str]:
        """Nothing for other hosts. Raises SourceError where there is no account or it is refused."""
        if urlsplit(url).netloc not in self.hosts:
            return {}
        return {"Authorization": f"Bearer {self.identity.access_token()}"}


@dataclass(frozen=True, kw_only=True)
class Cdse(ProductService):
    """See the module."""

    endpoints: CdseEndpoints = CdseEndpoints()

    @property
    def name(self) -> str:
        """cdse."""
        return NAME

    @property
    def downloads_at_once(self) -> int:
        """4."""
        return DOWNLOADS_AT_ONCE

    def usable(self) -> tuple[bool, str]:
        """See Service."""
        try:
            credentials()
        except SourceError as error:
            return False, str(error)
        return True, "account from CDSE_USERNAME and CDSE_PASSWORD; 4 downloads at once"

    def auth(self) -> Auth:
        """See ProductService."""
        credentials()
        identity = Identity(self.fetcher, self.endpoints.identity)
        return AuthAcross(CdseAuth(identity, self.endpoints.download_hosts), frozenset(self.endpoints.download_hosts))

    def page(self, box: Box, first: datetime, last: datetime) -> Page:
        """See ProductService."""
        query = {
            "$filter": odata_filter(box, first, last),
            "$expand": "Attributes",
            "$orderby": "ContentDate/Start asc",
            "$top": str(PAGE),
        }
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        answer = self.fetcher.request("GET", f"{self.endpoints.catalogue}/Products?{text}")
        return read_answer(answer.content, self.endpoints.download)


def odata_filter(box: Box, first: datetime, last: datetime) -> str:
    """IW GRDH products, not their COG editions, that meet a box and start in first <= t < last."""
    west, south, east, north = (f"{edge:.6f}" for edge in box)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    ring = ",".join(f"{lon} {lat}" for lon, lat in corners)
    return " and ".join(
        [
            "Collection/Name eq 'SENTINEL-1'",
            f"Attributes/OData.CSC.StringAttribute/any({_IS_PRODUCT_TYPE})",
            f"ContentDate/Start ge {_instant(first)}",
            f"ContentDate/Start lt {_instant(last)}",
            f"OData.CSC.Intersects(area=geography'SRID=4326;POLYGON(({ring}))')",
        ]
    )


def read_answer(body: bytes, download: str) -> Page:
    """Products of an answer to a search; those that are no IW GRDH products are passed over. download: address below
    which products are. Raises SourceError where the answer is not what the interface describes."""
    rows = parsed(_Answer, body, NAME).value
    products = tuple(listed for row in rows if (listed := _listed(row, download)) is not None)
    return Page(products=products, full=len(rows) >= PAGE)


class _Row(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class _Attribute(_Row):
    name: str
    value: object = None


class _Checksum(_Row):
    """Empty in some rows, as {}."""

    algorithm: str = ""
    value: str = Field(default="", pattern=r"^[0-9A-Za-z]{0,128}$")


class _Span(_Row):
    start: datetime


class _Product(_Row):
    """Of the OData entity Product."""

    id: str = Field(pattern=r"^[0-9A-Fa-f-]{36}$")
    name: str
    content_length: int = Field(default=0, ge=0)
    online: bool = True
    content_date: _Span
    geo_footprint: Polygon | MultiPolygon = Field(discriminator="type")
    checksum: list[_Checksum] = []
    attributes: list[_Attribute] = []


class _Answer(BaseModel):
    value: list[_Product]


def _listed(row: _Product, download: str) -> Listed | None:
    product_id = row.name.removesuffix(".SAFE")
    name = product_name(product_id, NAME)
    if name is None:
        return None
    told = {attribute.name: attribute.value for attribute in row.attributes}
    track = told.get("relativeOrbitNumber")
    md5 = next((each.value.lower() for each in row.checksum if each.algorithm.upper() == "MD5" and each.value), None)
    return Listed(
        product_id=product_id,
        start=checked_start(row.content_date.start, name, product_id, NAME),
        footprint=one_ring(row.geo_footprint.rings, product_id, NAME),
        href=f"{download}/Products({row.id})/$value",
        orbit_state=direction(told.get("orbitDirection")),
        relative_orbit=track if isinstance(track, int) else name.relative_orbit,
        ipf=version(told.get("processorVersion")),
        size_bytes=row.content_length or None,
        checksum=None if md5 is None else f"md5:{md5}",
        online=row.online,
    )


def _instant(moment: datetime) -> str:
    """With milliseconds, in UTC; what bears no zone is UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo else moment
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
