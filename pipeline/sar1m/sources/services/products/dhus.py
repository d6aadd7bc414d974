"""Data hubs that run ESA's DHuS software (`dhus`), by the client sentinelsat.

ESA's own hubs (scihub, apihub.copernicus.eu) closed in October 2023, and sentinelsat speaks nothing newer. What this
still reaches are national and private mirrors that kept the software, at the address area.dhus_url; for the Copernicus
archive itself use `cdse`.

The search gives neither the processor's version nor a checksum. Of two processings of one acquisition the one with the
higher name is used. Checksum, size and whether the product is online are asked for when it is wanted.
"""

from __future__ import annotations

import base64
import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import shapely
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from typing_extensions import override

from sar1m.core.sphere import Box
from sar1m.io.net.exchange import Auth
from sar1m.io.net.faults import OfflineError
from sar1m.sources.scene import Ring, Scene
from sar1m.sources.services.products.names import ListedProduct, Page, checked_start, direction, one_ring, product_name
from sar1m.sources.services.products.service import PRODUCT, ProductService
from sar1m.store.errors import ConfigError, SourceError

NAME: Final = "dhus"
PAGE: Final = 500  # sentinelsat asks for a hundred at a time
ORDER_HOLDS_S: Final = 86_400.0  # before what still is offline is ordered again
_UNITS: Final = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
# Of answers that sentinelsat cannot take.
_MISFORMED: Final = (KeyError, IndexError, TypeError, ValueError, OverflowError, AttributeError)
_FACTS: dict[tuple[str, str], _DownloadFacts] = {}  # of this process: what a worker asks once of a product


@dataclass(frozen=True)
class DhusAuth:
    """Basic authentication for one host. It holds no password: that is read when it is sent."""

    host: str

    def __call__(self, url: str) -> Mapping[str, str]:
        """The header; none for other hosts. Raises SourceError where there is no account."""
        if urlsplit(url).netloc != self.host:
            return {}
        user, password = dhus_account()
        return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@dataclass(frozen=True, kw_only=True)
class Dhus(ProductService):
    """A data hub.

    url: area.dhus_url, such as https://hub.example.org/dhus. Raises ConfigError where it is missing, or holds a user
    name or a query.
    """

    url: str | None

    def __post_init__(self) -> None:
        """A password in an address would end up in plans and manifests: it is refused."""
        parts = urlsplit(self.url or "")
        if not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
            raise ConfigError(
                "area.dhus_url: expected the address of a DHuS mirror without user name, password and query, such as "
                "https://hub.example.org/dhus. Credentials come from DHUS_USER and DHUS_PASSWORD."
            )

    @property
    def name(self) -> str:
        return NAME

    @property
    def base(self) -> str:
        """The address with a slash at its end."""
        return (self.url or "").rstrip("/") + "/"

    @override
    def usable(self) -> tuple[bool, str]:
        try:
            dhus_account()
            self._client()
        except SourceError as error:
            return False, str(error)
        return True, f"account from DHUS_USER and DHUS_PASSWORD for {urlsplit(self.base).hostname}"

    @override
    def auth(self) -> Auth:
        dhus_account()
        return DhusAuth(urlsplit(self.base).netloc)

    @override
    def page(self, box: Box, first: datetime, last: datetime) -> Page:
        wanted = {"platformname": "Sentinel-1", "producttype": "GRD", "sensoroperationalmode": "IW"}
        span = (_plain(first), _plain(last) + timedelta(seconds=1))  # sentinelsat asks by whole seconds
        area = shapely.box(*box).wkt
        answers = self._asked(lambda api: api.query(area=area, date=span, limit=PAGE, **wanted))
        return read_dhus_answer(answers, self.base)

    def product(self, scene: Scene) -> Path:
        """The product's zip in the cache. A product in the long-term archive is ordered by the first worker that wants
        it.

        Raises OfflineError that names the product until it is online.
        """
        facts = self._facts(scene)
        order = self.fetcher.settings.root / "orders" / f"{NAME}-{scene.scene_id}"
        if not facts.online and not _claim(order):
            raise _ordered(scene)
        known = replace(scene.asset(PRODUCT), size_bytes=facts.size, checksum=facts.checksum)
        try:
            return super().product(replace(scene, assets=(known,)))
        except OfflineError:
            order.parent.mkdir(parents=True, exist_ok=True)
            order.touch()
            raise _ordered(scene) from None
        except SourceError:
            order.unlink(missing_ok=True)  # the order did not arrive
            raise

    def _facts(self, scene: Scene) -> _DownloadFacts:
        """Size, checksum and state of a product; kept for the process once it is online."""
        href = scene.asset(PRODUCT).href
        found = re.fullmatch(re.escape(f"{self.base}odata/v1/Products('") + r"([0-9A-Za-z-]{1,64})'\)/\$value", href)
        if found is None:
            raise SourceError(f"dhus {scene.scene_id}: planned for another address than area.dhus_url. Plan again.")
        key = (self.base, found[1])
        facts = _FACTS.get(key) or _read_facts(self._asked(lambda api: api.get_product_odata(found[1])), scene.scene_id)
        if facts.online:
            _FACTS[key] = facts
        return facts

    def _asked(self, ask: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """What sentinelsat makes of an answer. Raises SourceError for every error that it raises."""
        api = self._client()
        try:
            return ask(api)
        except SourceError:
            raise
        except _MISFORMED as error:
            raise _not_dhus(self.base, type(error).__name__) from None  # its text quotes the answer
        except Exception as error:
            if type(error).__module__.split(".")[0] not in ("sentinelsat", "requests"):
                raise
            raise _not_dhus(self.base, type(error).__name__) from None

    def _client(self) -> Any:  # noqa: ANN401 - a class of sentinelsat, which is untyped
        try:
            from sar1m.sources.services.products.dhus_session import client  # noqa: PLC0415 - needs requests and sentinelsat

            return client(self.fetcher, DhusAuth(urlsplit(self.base).netloc), self.base)
        except ImportError as error:
            raise SourceError(
                f"dhus: {error.name} is not installed. Install it with: pip install 'sar1m[dhus]'"
            ) from error


def dhus_account() -> tuple[str, str]:
    """User and password from the environment, under the names that sentinelsat uses. Raises SourceError where one is
    missing."""
    user, password = os.environ.get("DHUS_USER", ""), os.environ.get("DHUS_PASSWORD", "")
    if not user or not password:
        raise SourceError("dhus: no account. Set DHUS_USER and DHUS_PASSWORD in the environment of the workers.")
    return user, password


def read_dhus_answer(answers: Mapping[str, Mapping[str, Any]], base: str) -> Page:
    """Products of an answer as sentinelsat gives it, by their ids. Those that are no IW GRDH products are passed over.

    Raises SourceError where something is missing or not as DHuS answers.
    """
    products = []
    for number, fields in answers.items():
        try:
            entry = _Entry.model_validate({"number": number, **fields})
        except ValidationError as error:
            field = ".".join(str(part)[:60] for part in error.errors()[0]["loc"])
            raise SourceError(f"dhus: {field} of a product is missing or not as DHuS gives it. Not used.") from None
        name = product_name(entry.title, NAME)
        if name is None:
            continue
        listed = ListedProduct(
            product_id=entry.title,
            start=checked_start(entry.beginposition, name, entry.title, NAME),
            footprint=_ring(entry),
            href=f"{base}odata/v1/Products('{entry.number}')/$value",
            orbit_state=direction(entry.orbitdirection),
            relative_orbit=entry.relativeorbitnumber or name.relative_orbit,
            size_bytes=_bytes(entry.size),
        )
        products.append(listed)
    return Page(products=tuple(products), full=len(answers) >= PAGE)


class _Entry(BaseModel):
    """An entry of the OpenSearch answer. size: such as 513.57 MB; rounded, so it serves for prices and never for
    checks."""

    model_config = ConfigDict(hide_input_in_errors=True)

    number: str = Field(pattern=r"^[0-9A-Za-z-]{1,64}$")
    title: str
    beginposition: datetime
    footprint: str = Field(max_length=2**16)
    orbitdirection: str | None = None
    relativeorbitnumber: int | None = None
    size: str = ""


class _DownloadFacts(BaseModel):
    """Facts of the OData answer. md5: None where the service keeps another checksum."""

    model_config = ConfigDict(hide_input_in_errors=True)

    title: str
    size: int = Field(ge=0)
    online: bool = Field(alias="Online")
    md5: str | None = Field(default=None, pattern=r"^[0-9A-Fa-f]{32}$")

    @property
    def checksum(self) -> str | None:
        """In the form that Asset has."""
        return None if self.md5 is None else f"md5:{self.md5.lower()}"


def _read_facts(fields: dict[str, Any], product_id: str) -> _DownloadFacts:
    try:
        facts = _DownloadFacts.model_validate(fields)
    except ValidationError:
        raise SourceError(f"dhus {product_id}: what the service says of it cannot be used. Try again later.") from None
    if facts.title != product_id:
        raise SourceError(f"dhus {product_id}: its id now is {facts.title[:100]!r}. Plan the build again.")
    return facts


def _ring(entry: _Entry) -> Ring:
    try:
        area = shapely.from_wkt(entry.footprint)
    except shapely.errors.ShapelyError:
        raise SourceError(f"dhus {entry.title}: its footprint is no WKT. The answer is not used.") from None
    return one_ring([shapely.get_coordinates(area).tolist()], entry.title, NAME)


def _bytes(text: str) -> int | None:
    matched = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?) (KB|MB|GB)", text)
    return None if matched is None else round(float(matched[1]) * _UNITS[matched[2]])


def _claim(order: Path) -> bool:
    """Whether this worker is the one to order; False where another has ordered within ORDER_HOLDS_S."""
    order.parent.mkdir(parents=True, exist_ok=True)
    try:
        order.touch(exist_ok=False)
    except FileExistsError:
        if time.time() - order.stat().st_mtime < ORDER_HOLDS_S:
            return False
        order.touch()
    return True


def _ordered(scene: Scene) -> OfflineError:
    return OfflineError(
        f"dhus {scene.scene_id}: in the service's long-term archive; it has been ordered. Build again in some hours: "
        "what is done is kept."
    )


def _not_dhus(base: str, kind: str) -> SourceError:
    return SourceError(
        f"{urlsplit(base).hostname}: does not answer as a DHuS does ({kind} in sentinelsat). Check area.dhus_url; "
        "ESA's own hubs closed in October 2023."
    )


def _plain(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
