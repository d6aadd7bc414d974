"""Copernicus Data Space (`cdse`): every Sentinel-1 product, found by OData or STAC, downloaded with an account: zipped
by its zipper, or file by file from its object store, which gives the files of the asked polarisations alone.

Interfaces: documentation.dataspace.copernicus.eu, APIs, OData, STAC, S3 and Token. Searching needs no account. Images
come whole: a block of one needs its calibration, noise and border too, and is checked against the product's manifest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal
from typing_extensions import override

from sar1m.config import BuildConfig
from sar1m.core.sphere import Box
from sar1m.io.net.faults import StatusError
from sar1m.io.net.fetch import Auth, AuthAcross
from sar1m.records import RasterGrid
from sar1m.sources.scene import Price, Scene
from sar1m.sources.services.cdse.object_store import S3Auth, s3_keys, s3_usable
from sar1m.sources.services.cdse.product_objects import ObjectFolder, safe_folder
from sar1m.sources.services.cdse.routes import (
    BUCKET,
    AddressOf,
    CdseRoute,
    ProductPlace,
    ipf_of,
    prefix_of,
    s3_address,
    zipper_address,
)
from sar1m.sources.services.cdse.stac_search import stac_products
from sar1m.sources.services.cdse.tokens import Identity, cdse_account
from sar1m.sources.services.products.names import (
    COG,
    ListedProduct,
    MultiPolygon,
    Page,
    Polygon,
    checked_start,
    direction,
    one_ring,
    parsed,
    product_name,
)
from sar1m.sources.services.products.service import PRODUCT, USUAL_BYTES, ProductService, address_from, host_of
from sar1m.store.errors import SourceError

NAME: Final = "cdse"
PAGE: Final = 500  # of 1,000 that are allowed: with attributes an answer takes 3 MB
FILES_A_POLARISATION: Final = 4  # annotation, calibration, noise, image
DOWNLOADS_AT_ONCE: Final = 4  # of a general user's account, S3 included


@dataclass(frozen=True, kw_only=True)
class CdseEndpoints:
    """Addresses of the service, or of a mirror with the same interface. download_hosts: the host[:port] that get the
    access token; no other host gets it."""

    catalogue: str = "https://catalogue.dataspace.copernicus.eu/odata/v1"
    download: str = "https://download.dataspace.copernicus.eu/odata/v1"
    stac: str = "https://stac.dataspace.copernicus.eu/v1"
    s3: str = "https://eodata.dataspace.copernicus.eu"
    identity: str = "https://identity.dataspace.copernicus.eu/auth/realms/CDSE/protocol/openid-connect/token"
    download_hosts: tuple[str, ...] = (
        "download.dataspace.copernicus.eu",
        "zipper.dataspace.copernicus.eu",
        "catalogue.dataspace.copernicus.eu",
    )

    @staticmethod
    def from_environment() -> CdseEndpoints:
        """The usual addresses, except those that SAR1M_CDSE_CATALOGUE_URL, SAR1M_CDSE_DOWNLOAD_URL,
        SAR1M_CDSE_STAC_URL, SAR1M_CDSE_S3_URL and SAR1M_CDSE_IDENTITY_URL replace.

        Where the download address is replaced, its host gets the access token and no other host does. Raises
        ConfigError as address_from does.
        """
        usual = CdseEndpoints()
        download = address_from("SAR1M_CDSE_DOWNLOAD_URL", usual.download)
        return CdseEndpoints(
            catalogue=address_from("SAR1M_CDSE_CATALOGUE_URL", usual.catalogue),
            download=download,
            stac=address_from("SAR1M_CDSE_STAC_URL", usual.stac),
            s3=address_from("SAR1M_CDSE_S3_URL", usual.s3),
            identity=address_from("SAR1M_CDSE_IDENTITY_URL", usual.identity),
            download_hosts=usual.download_hosts if download == usual.download else (host_of(download),),
        )


@dataclass(frozen=True)
class CdseAuth:
    """Adds the access token to downloads, renewed as it ages. It holds no token itself."""

    identity: Identity
    hosts: tuple[str, ...]

    def __call__(self, url: str) -> Mapping[str, str]:
        """The header with the token; none for other hosts. Raises SourceError where there is no account or it is
        refused."""
        if urlsplit(url).netloc not in self.hosts:
            return {}
        return {"Authorization": f"Bearer {self.identity.access_token()}"}


@dataclass(frozen=True, kw_only=True)
class Cdse(ProductService):
    """The service, as the module describes it."""

    endpoints: CdseEndpoints = CdseEndpoints()
    route: CdseRoute = field(default_factory=CdseRoute)

    @property
    def name(self) -> str:
        return NAME

    @property
    def downloads_at_once(self) -> int:
        return DOWNLOADS_AT_ONCE

    @property
    def requests_a_product(self) -> int:
        """Requests that fetch one product: by S3 a listing, the manifest and four files a polarisation."""
        if self.route.access == "zipper":
            return 1
        return 2 + FILES_A_POLARISATION * len(self.route.polarisations)

    @override
    def usable(self) -> tuple[bool, str]:
        if self.route.search == "stac" and find_spec("pystac_client") is None:
            return False, "the client of STAC is not installed: pip install 'sar1m[stac]'"
        if self.route.access == "s3":
            usable, line = s3_usable()
            return usable, f"{line}; 4 downloads at once" if usable else line
        try:
            cdse_account()
        except SourceError as error:
            return False, str(error)
        return True, "account from CDSE_USERNAME and CDSE_PASSWORD; 4 downloads at once"

    @override
    def auth(self) -> Auth:
        if self.route.access == "s3":
            return self._s3_auth()
        cdse_account()
        hosts = self.endpoints.download_hosts
        return AuthAcross(CdseAuth(self._identity(), hosts), frozenset(hosts))

    @override
    def page(self, box: Box, first: datetime, last: datetime) -> Page:
        if self.route.search == "stac":
            found = stac_products(self.fetcher, self.endpoints.stac, box, first, last, self._place)
            return Page(products=found, full=False)
        query = {
            "$filter": odata_filter(box, first, last, cog=self.route.cog),
            "$expand": "Attributes",
            "$orderby": "ContentDate/Start asc",
            "$top": str(PAGE),
        }
        text = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        answer = self.fetcher.request("GET", f"{self.endpoints.catalogue}/Products?{text}")
        return read_odata_answer(answer.content, self._place, cog=self.route.cog)

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
        """By the zipper the whole product. By S3 the share of the polarisations that are fetched: the files of each are
        equally large, and hardly shrink in a zip."""
        whole = super().price(scene, grid, config)
        if self.route.access == "zipper":
            return whole
        size = float(scene.asset(PRODUCT).size_bytes or USUAL_BYTES)
        share = len(self.route.fetched(scene.polarisations)) / len(scene.polarisations)
        return Price(requests=whole.requests, bytes=whole.bytes, shared_bytes=size * share)

    def product(self, scene: Scene) -> Path:
        """By the zipper a zip, by S3 a folder NAME.SAFE. A token that is refused although its time is not over was
        revoked: a new one is asked for, once."""
        if self.route.access == "s3":
            return self._folder(scene)
        began_s = time.time()
        try:
            return super().product(scene)
        except StatusError as error:
            if error.status != 401:
                raise
        self._identity().discard(began_s)
        return super().product(scene)

    def _folder(self, scene: Scene) -> Path:
        if not scene.online:
            raise self.offline(scene)
        found = ObjectFolder(
            product_id=scene.scene_id,
            endpoint=self.endpoints.s3,
            bucket=BUCKET,
            prefix=prefix_of(scene.asset(PRODUCT).href, self.endpoints.s3, scene.scene_id),
            polarisations=self.route.fetched(scene.polarisations),
        )
        return safe_folder(self._few_at_once(), found, self._s3_auth())

    def _s3_auth(self) -> S3Auth:
        s3_keys()
        return S3Auth(host_of(self.endpoints.s3))

    def _identity(self) -> Identity:
        return Identity(self.fetcher, self.endpoints.identity)

    def _place(self, product: ProductPlace) -> str:
        """The address to fetch a product from."""
        if self.route.access == "zipper":
            return zipper_address(product, self.endpoints.download)
        return s3_address(product, self.endpoints.s3)


def odata_filter(box: Box, first: datetime, last: datetime, *, cog: bool) -> str:
    """IW GRDH products, or their COG editions, that meet a box and start in first <= t < last."""
    west, south, east, north = (f"{edge:.6f}" for edge in box)
    corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
    ring = ",".join(f"{lon} {lat}" for lon, lat in corners)
    kind = "IW_GRDH_1S-COG" if cog else "IW_GRDH_1S"
    is_kind = f"att:att/Name eq 'productType' and att/OData.CSC.StringAttribute/Value eq '{kind}'"
    return " and ".join(
        [
            "Collection/Name eq 'SENTINEL-1'",
            f"Attributes/OData.CSC.StringAttribute/any({is_kind})",
            f"ContentDate/Start ge {_instant(first)}",
            f"ContentDate/Start lt {_instant(last)}",
            f"OData.CSC.Intersects(area=geography'SRID=4326;POLYGON(({ring}))')",
        ]
    )


def read_odata_answer(body: bytes, place: AddressOf, *, cog: bool) -> Page:
    """Products of an answer to a search.

    Products that are no IW GRDH products, or of the other edition, are passed over: with both editions each scene would
    appear twice. place: gives the address to fetch a product from. Raises SourceError where the answer is not what the
    interface describes.
    """
    rows = parsed(_Answer, body, NAME).value
    products = tuple(listed for row in rows if (listed := _listed(row, place, cog)) is not None)
    return Page(products=products, full=len(rows) >= PAGE)


class _PascalModel(BaseModel):
    model_config = ConfigDict(alias_generator=to_pascal)


class _Attribute(_PascalModel):
    name: str
    value: object = None


class _Checksum(_PascalModel):
    """A checksum. Some rows hold an empty one, {}."""

    algorithm: str = ""
    value: str = Field(default="", pattern=r"^[0-9A-Za-z]{0,128}$")


class _Span(_PascalModel):
    start: datetime


class _Product(_PascalModel):
    """The OData entity Product."""

    id: str = Field(pattern=r"^[0-9A-Fa-f-]{36}$")
    name: str
    content_length: int = Field(default=0, ge=0)
    online: bool = True
    s3_path: str = Field(default="", alias="S3Path")
    content_date: _Span
    geo_footprint: Polygon | MultiPolygon = Field(discriminator="type")
    checksum: list[_Checksum] = []
    attributes: list[_Attribute] = []


class _Answer(BaseModel):
    value: list[_Product]


def _listed(row: _Product, place: AddressOf, cog: bool) -> ListedProduct | None:
    product_id = row.name.removesuffix(".SAFE")
    name = product_name(product_id.removesuffix(COG), NAME)
    if name is None or product_id.endswith(COG) != cog:
        return None
    stated = {attribute.name: attribute.value for attribute in row.attributes}
    track = stated.get("relativeOrbitNumber")
    md5 = next((each.value.lower() for each in row.checksum if each.algorithm.upper() == "MD5" and each.value), None)
    return ListedProduct(
        product_id=product_id,
        start=checked_start(row.content_date.start, name, product_id, NAME),
        footprint=one_ring(row.geo_footprint.rings, product_id, NAME),
        href=place(ProductPlace(product_id=product_id, uuid=row.id, s3_path=row.s3_path)),
        orbit_state=direction(stated.get("orbitDirection")),
        relative_orbit=track if isinstance(track, int) else name.relative_orbit,
        ipf=ipf_of(stated.get("processorVersion"), product_id),
        size_bytes=row.content_length or None,
        checksum=None if md5 is None else f"md5:{md5}",
        online=row.online,
    )


def _instant(moment: datetime) -> str:
    """A time in UTC with milliseconds. A time without a zone is UTC."""
    at = moment.astimezone(UTC) if moment.tzinfo else moment
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03d}Z"
