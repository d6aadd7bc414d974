"""Alaska Satellite Facility (`asf`): Sentinel-1 products found by its search interface, downloaded whole with a NASA
Earthdata login.

Interfaces: docs.asf.alaska.edu/api (search keywords, GeoJSON answers); urs.earthdata.nasa.gov/documentation (user
tokens). Searching needs no account. The data pool takes the token as a bearer and sends on to signed addresses of
another host, which must not see it.
"""

from __future__ import annotations

import base64
import netrc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final
from urllib.parse import urlencode, urlsplit

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from typing_extensions import override

from sar1m.core.sphere import Box
from sar1m.io.net.faults import StatusError
from sar1m.io.net.fetch import Auth, AuthAcross, Fetcher
from sar1m.sources.services.products.names import (
    ListedProduct,
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
from sar1m.sources.services.products.service import ProductService, address_from, host_of
from sar1m.store.errors import SourceError

NAME: Final = "asf"
PAGE: Final = 1000
_GEOJSON: Final = ("application/json", "application/geojson", "application/geo+json")
MAX_ANSWER_BYTES: Final = 2**16
_TOKENS: dict[tuple[str, str], str] = {}  # of this process, by endpoint and user; the same one is given again to others


@dataclass(frozen=True, kw_only=True)
class AsfEndpoints:
    """Addresses of the service, or of a mirror with the same interface. pool: every host[:port] that gets the token; no
    other host does. login: Earthdata's."""

    search: str = "https://api.daac.asf.alaska.edu/services/search/param"
    login: str = "https://urs.earthdata.nasa.gov"
    pool: tuple[str, ...] = ("datapool.asf.alaska.edu", "sentinel1.asf.alaska.edu", "cumulus.asf.alaska.edu")

    @staticmethod
    def from_environment() -> AsfEndpoints:
        """The usual addresses, except those that SAR1M_ASF_SEARCH_URL, SAR1M_ASF_LOGIN_URL and SAR1M_ASF_POOL_URL
        replace.

        Where the pool is replaced, the new one gets the token and no other host does. Raises ConfigError as
        address_from does.
        """
        usual = AsfEndpoints()
        named = host_of(address_from("SAR1M_ASF_POOL_URL", f"https://{usual.pool[0]}"))
        return AsfEndpoints(
            search=address_from("SAR1M_ASF_SEARCH_URL", usual.search),
            login=address_from("SAR1M_ASF_LOGIN_URL", usual.login),
            pool=usual.pool if named == usual.pool[0] else (named,),
        )

    @property
    def login_host(self) -> str:
        return urlsplit(self.login).netloc


@dataclass(frozen=True)
class AsfAuth:
    """Adds the bearer token to downloads from the data pool. It holds no token itself."""

    fetcher: Fetcher
    endpoints: AsfEndpoints

    def __call__(self, url: str) -> Mapping[str, str]:
        """The header with the token; none for other hosts. Raises SourceError where there is no token, or the pool
        sends us to log in."""
        host = urlsplit(url).netloc
        if host == self.endpoints.login_host:
            raise SourceError(
                "asf: the data pool does not take the Earthdata token. Make a new one at urs.earthdata.nasa.gov and "
                "set EARTHDATA_TOKEN; accept the licence of Alaska Satellite Facility there where it asks for that."
            )
        return {"Authorization": f"Bearer {self._token()}"} if host in self.endpoints.pool else {}

    def _token(self) -> str:
        """The token. Raises SourceError where there is none and none can be made."""
        token = os.environ.get("EARTHDATA_TOKEN", "")
        if token:
            return token
        user, password = earthdata_account(self.endpoints.login)
        key = (self.endpoints.login, user)
        if key not in _TOKENS:
            _TOKENS[key] = self._found_or_made(user, password)
        return _TOKENS[key]

    def _found_or_made(self, user: str, password: str) -> str:
        """Earthdata's own token of the user, which lasts 60 days."""
        login = f"{self.endpoints.login}/api/users/find_or_create_token"
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        try:
            answer = self.fetcher.request(
                "POST", login, auth=_OneHost(login, f"Basic {basic}"), max_bytes=MAX_ANSWER_BYTES
            )
        except StatusError as error:
            raise SourceError(f"asf: no Earthdata token: {error} Check user and password of the account.") from None
        return parsed(_TokenAnswer, answer.content, NAME).access_token


@dataclass(frozen=True, repr=False)
class _OneHost:
    """Adds a header to requests of one host."""

    url: str
    authorization: str

    def __call__(self, url: str) -> Mapping[str, str]:
        return {"Authorization": self.authorization} if urlsplit(url).netloc == urlsplit(self.url).netloc else {}


class _TokenAnswer(BaseModel):
    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: str


@dataclass(frozen=True, kw_only=True)
class Asf(ProductService):
    """The service, as the module describes it."""

    endpoints: AsfEndpoints = AsfEndpoints()

    @property
    def name(self) -> str:
        return NAME

    @override
    def usable(self) -> tuple[bool, str]:
        if os.environ.get("EARTHDATA_TOKEN"):
            return True, "Earthdata token from EARTHDATA_TOKEN"
        try:
            earthdata_account(self.endpoints.login)
        except SourceError as error:
            return False, str(error)
        return True, "Earthdata user from the environment or ~/.netrc; a token is asked for with it"

    @override
    def auth(self) -> Auth:
        if not os.environ.get("EARTHDATA_TOKEN"):
            earthdata_account(self.endpoints.login)
        hosts = frozenset((*self.endpoints.pool, self.endpoints.login_host))
        return AuthAcross(AsfAuth(self.fetcher, self.endpoints), hosts)

    def page(self, box: Box, first: datetime, last: datetime) -> Page:
        """Products that overlap a span of time: some may have begun before it."""
        west, south, east, north = (f"{edge:.6f}" for edge in box)
        corners = [(west, south), (east, south), (east, north), (west, north), (west, south)]
        query = {
            "platform": "SENTINEL-1",
            "processingLevel": "GRD_HD",
            "beamMode": "IW",
            "intersectsWith": f"POLYGON(({','.join(f'{lon} {lat}' for lon, lat in corners)}))",
            "start": _instant(first),
            "end": _instant(last + timedelta(seconds=1)),
            "maxResults": str(PAGE),
            "output": "geojson",
        }
        url = f"{self.endpoints.search}?{urlencode(query)}"
        answer = self.fetcher.request("GET", url, expect=_GEOJSON)
        return read_asf_answer(answer.content, self.endpoints)


def earthdata_account(login: str) -> tuple[str, str]:
    """User and password from the environment, else from ~/.netrc as Earthdata documents it.

    Raises SourceError where neither has them.
    """
    user, password = os.environ.get("EARTHDATA_USERNAME", ""), os.environ.get("EARTHDATA_PASSWORD", "")
    if user and password:
        return user, password
    host = urlsplit(login).hostname or ""
    try:
        entry = netrc.netrc(Path.home() / ".netrc").authenticators(host)
    except (OSError, netrc.NetrcParseError):
        entry = None  # the parser's message would quote the file
    if entry is None or not entry[0] or not entry[2]:
        raise SourceError(
            "asf: no Earthdata login. Set EARTHDATA_TOKEN in the environment of the workers (a user token from "
            f"urs.earthdata.nasa.gov), or EARTHDATA_USERNAME and EARTHDATA_PASSWORD, or a line for {host} in ~/.netrc."
        )
    return entry[0], entry[2]


def read_asf_answer(body: bytes, endpoints: AsfEndpoints) -> Page:
    """Products of an answer to a search. Those that are no IW GRDH products are passed over.

    Raises SourceError where the answer is not what the interface describes, or names an address outside the data pool.
    """
    features = parsed(_Answer, body, NAME).features
    products = tuple(listed for each in features if (listed := _listed(each, endpoints)) is not None)
    return Page(products=products, full=len(features) >= PAGE)


class _Properties(BaseModel):
    """Properties of a feature. processing_level: GRD_HD, or METADATA_GRD_HD for the description of a product alone."""

    model_config = ConfigDict(alias_generator=to_camel)

    scene_name: str
    processing_level: str
    start_time: datetime
    url: str
    bytes: int | None = Field(default=None, ge=0)
    md5: str | None = Field(default=None, alias="md5sum", pattern=r"^[0-9A-Fa-f]{32}$")
    flight_direction: str | None = None
    path_number: int | None = None
    pge_version: str | None = None


class _Feature(BaseModel):
    geometry: Polygon | MultiPolygon = Field(discriminator="type")
    properties: _Properties


class _Answer(BaseModel):
    features: list[_Feature]


def _listed(feature: _Feature, endpoints: AsfEndpoints) -> ListedProduct | None:
    facts = feature.properties
    name = product_name(facts.scene_name, NAME)
    if name is None or facts.processing_level != "GRD_HD":
        return None
    host = urlsplit(facts.url).netloc
    if host not in endpoints.pool:
        raise SourceError(
            f"asf {facts.scene_name}: the catalogue says that it is at {host[:80]!r}; expected "
            f"{', '.join(endpoints.pool)}. The catalogue's answer is not used."
        )
    return ListedProduct(
        product_id=facts.scene_name,
        start=checked_start(facts.start_time, name, facts.scene_name, NAME),
        footprint=one_ring(feature.geometry.rings, facts.scene_name, NAME),
        href=facts.url,
        orbit_state=direction(facts.flight_direction),
        relative_orbit=facts.path_number or name.relative_orbit,
        ipf=version(facts.pge_version),
        size_bytes=facts.bytes or None,
        checksum=None if facts.md5 is None else f"md5:{facts.md5.lower()}",
    )


def _instant(moment: datetime) -> str:
    at = moment.astimezone(UTC) if moment.tzinfo else moment
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
