"""The services by name, one record each: what it offers, what it reads from the environment, and how it is opened.

Everything that lists services reads this table: `sar1m doctor`, prices, error messages and the openers. A service's
module, and with it the client library of somebody else, is imported only when that service is opened.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sar1m.config import BuildConfig
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.scene import Kind, Service
from sar1m.sources.services.stac.profiles import PROFILES
from sar1m.store.errors import ConfigError

_BOTH: Final[tuple[Kind, ...]] = ("sar", "optical")
_PLANETARY_COMPUTER: Final = PROFILES["planetary-computer"]
_EARTH_SEARCH: Final = PROFILES["earth-search"]


@dataclass(frozen=True, kw_only=True)
class PublicPage:
    """An address that answers without an account.

    variable: environment variable that names a mirror of the service, "" where there is none.
    rest: what is appended to the mirror's address, for a page that answers there.
    """

    address: str
    variable: str = ""
    rest: str = ""

    def now(self) -> str:
        """The mirror's page where the environment names a mirror, else the usual one."""
        mirror = os.environ.get(self.variable, "") if self.variable else ""
        return mirror.rstrip("/") + self.rest if mirror else self.address


@dataclass(frozen=True, kw_only=True)
class ServiceRecord:
    """One service, before it is opened.

    secrets: environment variables that hold a secret; settings: other variables, and files. Not all are needed.
    page: shows whether the service answers, None where nothing answers without an account.
    stac_page: the same where area.cdse_search is stac.
    address_key: key of [area] that holds the service's address, "" where the service has one address for all.
    access_life: how long a token, key or signed address holds, in words; "" where there is none.
    """

    name: str
    kinds: tuple[Kind, ...]
    open: Callable[[ServiceRecord, BuildConfig, Fetcher], Service]
    secrets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    page: PublicPage | None = None
    stac_page: PublicPage | None = None
    address_key: str = ""
    access_life: str = ""

    def page_address(self, config: BuildConfig) -> str | None:
        """What to ask to see whether the service answers; None where nothing can be asked without an account."""
        if self.address_key:
            own: str | None = getattr(config.area, self.address_key)
            return own
        page = self.stac_page if self.stac_page is not None and config.area.cdse_search == "stac" else self.page
        return None if page is None else page.now()


def _stac(record: ServiceRecord, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.stac.service import StacService  # noqa: PLC0415  each only where it is used

    own = config.area.stac_url if record.page is None else os.environ.get(record.page.variable)
    return StacService(fetcher=fetcher, name=record.name, url=own or None)


def _cdse(_record: ServiceRecord, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.cdse.routes import CdseRoute  # noqa: PLC0415
    from sar1m.sources.services.cdse.service import Cdse, CdseEndpoints  # noqa: PLC0415

    area = config.area
    route = CdseRoute(
        search=area.cdse_search,
        access=area.cdse_access,
        polarisations=area.polarisations,
        mask_border=config.safe.mask_border_noise,
    )
    return Cdse(fetcher=fetcher, safe=config.safe, endpoints=CdseEndpoints.from_environment(), route=route)


def _asf(_record: ServiceRecord, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.products.asf import Asf, AsfEndpoints  # noqa: PLC0415

    return Asf(fetcher=fetcher, safe=config.safe, endpoints=AsfEndpoints.from_environment())


def _dhus(_record: ServiceRecord, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.products.dhus import Dhus  # noqa: PLC0415

    return Dhus(fetcher=fetcher, safe=config.safe, url=config.area.dhus_url)


def _earthengine(_record: ServiceRecord, _config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.earthengine.service import EarthEngineService  # noqa: PLC0415

    return EarthEngineService(fetcher=fetcher)


def _tiles(_record: ServiceRecord, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.tiles.service import open_tiles  # noqa: PLC0415

    return open_tiles(config.area, fetcher)


SERVICES: Final[tuple[ServiceRecord, ...]] = (
    ServiceRecord(
        name="planetary-computer",
        kinds=_BOTH,
        open=_stac,
        secrets=("PC_SDK_SUBSCRIPTION_KEY",),
        settings=("PC_SDK_SAS_URL", "SAR1M_PLANETARY_COMPUTER_URL"),
        page=PublicPage(address=f"{_PLANETARY_COMPUTER.url}/", variable=_PLANETARY_COMPUTER.url_variable),
        access_life="signed addresses hold for some 45 minutes and are signed again as they run out",
    ),
    ServiceRecord(
        name="earth-search",
        kinds=("optical",),
        open=_stac,
        settings=("SAR1M_EARTH_SEARCH_URL",),
        page=PublicPage(address=_EARTH_SEARCH.url, variable=_EARTH_SEARCH.url_variable),
    ),
    ServiceRecord(name="stac", kinds=_BOTH, open=_stac, address_key="stac_url"),
    ServiceRecord(name="stac-static", kinds=_BOTH, open=_stac, address_key="stac_url"),
    ServiceRecord(
        name="cdse",
        kinds=("sar",),
        open=_cdse,
        secrets=("CDSE_PASSWORD", "CDSE_TOTP", "CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"),
        settings=(
            "CDSE_USERNAME",
            "SAR1M_CDSE_CATALOGUE_URL",
            "SAR1M_CDSE_DOWNLOAD_URL",
            "SAR1M_CDSE_IDENTITY_URL",
            "SAR1M_CDSE_STAC_URL",
            "SAR1M_CDSE_S3_URL",
        ),
        page=PublicPage(
            address="https://catalogue.dataspace.copernicus.eu/odata/v1/Products?$top=1",
            variable="SAR1M_CDSE_CATALOGUE_URL",
            rest="/Products?$top=1",
        ),
        stac_page=PublicPage(address="https://stac.dataspace.copernicus.eu/v1", variable="SAR1M_CDSE_STAC_URL"),
        access_life=(
            "a token is refreshed for 60 minutes, then asked for anew; keys of S3 last for months; 4 downloads at once"
        ),
    ),
    ServiceRecord(
        name="asf",
        kinds=("sar",),
        open=_asf,
        secrets=("EARTHDATA_TOKEN", "EARTHDATA_PASSWORD"),
        settings=(
            "EARTHDATA_USERNAME",
            "~/.netrc",
            "SAR1M_ASF_SEARCH_URL",
            "SAR1M_ASF_LOGIN_URL",
            "SAR1M_ASF_POOL_URL",
        ),
        page=PublicPage(
            address="https://api.daac.asf.alaska.edu/health",
            variable="SAR1M_ASF_SEARCH_URL",
            rest="?platform=SENTINEL-1&maxResults=1&output=geojson",
        ),
        access_life="an Earthdata token holds for 60 days; a password asks for none",
    ),
    ServiceRecord(
        name="dhus",
        kinds=("sar",),
        open=_dhus,
        secrets=("DHUS_PASSWORD",),
        settings=("DHUS_USER",),
        address_key="dhus_url",
    ),
    ServiceRecord(
        name="earthengine",
        kinds=_BOTH,
        open=_earthengine,
        settings=(
            "SAR1M_EARTHENGINE_URL",
            "EARTHENGINE_PROJECT",
            "EARTHENGINE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_PROJECT",
            "~/.config/earthengine/credentials",
        ),
        page=PublicPage(
            address="https://earthengine.googleapis.com/$discovery/rest?version=v1",
            variable="SAR1M_EARTHENGINE_URL",
            rest="/$discovery/rest?version=v1",
        ),
        access_life="a token holds for 60 minutes and is renewed by the client",
    ),
    ServiceRecord(
        name="tiles",
        kinds=("optical",),
        open=_tiles,
        secrets=("SAR1M_TILES_KEY",),
        settings=("SAR1M_TILES_ACCEPT_TERMS",),
    ),
)


def service_record(name: str) -> ServiceRecord:
    """The record of a name. Raises ConfigError for an unknown name; it suggests near ones."""
    known = {record.name: record for record in SERVICES}
    if name not in known:
        near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.5)
        meant = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"no service is named {name!r}.{meant} Known: {', '.join(known)}. `sar1m doctor` describes them."
        )
    return known[name]


def open_service(name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    """The service of a name in SERVICES. Nothing is asked of it yet.

    Raises ConfigError for an unknown name, and where the configuration lacks what the service needs (an address).
    """
    record = service_record(name)
    return record.open(record, config, fetcher)
