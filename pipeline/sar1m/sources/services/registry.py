"""The services by name: what kinds of scenes each has, what it reads from the environment, and how it is opened.

A service's module, and with it the client library of somebody else, is imported only when that service is opened.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sar1m.config import BuildConfig
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.scene import Kind, Service
from sar1m.store.errors import ConfigError

_BOTH: Final[tuple[Kind, ...]] = ("sar", "optical")


@dataclass(frozen=True, kw_only=True)
class ServiceFacts:
    """What a person must know of a service before it is opened.

    secrets: environment variables that hold a secret, settings: those that do not, and files; not all of them are
    needed. public_page: an address that answers without an account, "" where there is none or it is the user's own.
    mirror: variable that names another address for the service, and what there answers without an account.
    """

    name: str
    kinds: tuple[Kind, ...]
    secrets: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    public_page: str = ""
    mirror: tuple[str, str] = ("", "")

    def page(self, config: BuildConfig) -> str | None:
        """What to ask to see whether the service answers, of the mirror where the environment names one; None where
        nothing can be asked without an account."""
        own = {"stac": config.area.stac_url, "stac-static": config.area.stac_url, "dhus": config.area.dhus_url}
        (variable, rest), usual = self.mirror, self.public_page
        if self.name == "cdse" and config.area.cdse_search == "stac":
            variable, rest, usual = "SAR1M_CDSE_STAC_URL", "", "https://stac.dataspace.copernicus.eu/v1"
        named = os.environ.get(variable, "") if variable else ""
        return own.get(self.name) or (named and named.rstrip("/") + rest) or usual or None


SERVICES: Final[tuple[ServiceFacts, ...]] = (
    ServiceFacts(
        name="planetary-computer",
        kinds=_BOTH,
        secrets=("PC_SDK_SUBSCRIPTION_KEY",),
        settings=("PC_SDK_SAS_URL", "SAR1M_PLANETARY_COMPUTER_URL"),
        public_page="https://planetarycomputer.microsoft.com/api/stac/v1/",
        mirror=("SAR1M_PLANETARY_COMPUTER_URL", ""),
    ),
    ServiceFacts(
        name="earth-search",
        kinds=("optical",),
        settings=("SAR1M_EARTH_SEARCH_URL",),
        public_page="https://earth-search.aws.element84.com/v1",
        mirror=("SAR1M_EARTH_SEARCH_URL", ""),
    ),
    ServiceFacts(
        name="stac",
        kinds=_BOTH,
    ),
    ServiceFacts(
        name="stac-static",
        kinds=_BOTH,
    ),
    ServiceFacts(
        name="cdse",
        kinds=("sar",),
        secrets=("CDSE_PASSWORD", "CDSE_TOTP", "CDSE_S3_ACCESS_KEY", "CDSE_S3_SECRET_KEY"),
        settings=(
            "CDSE_USERNAME",
            "SAR1M_CDSE_CATALOGUE_URL",
            "SAR1M_CDSE_DOWNLOAD_URL",
            "SAR1M_CDSE_IDENTITY_URL",
            "SAR1M_CDSE_STAC_URL",
            "SAR1M_CDSE_S3_URL",
        ),
        public_page="https://catalogue.dataspace.copernicus.eu/odata/v1/Products?$top=1",
        mirror=("SAR1M_CDSE_CATALOGUE_URL", "/Products?$top=1"),
    ),
    ServiceFacts(
        name="asf",
        kinds=("sar",),
        secrets=("EARTHDATA_TOKEN", "EARTHDATA_PASSWORD"),
        settings=(
            "EARTHDATA_USERNAME",
            "~/.netrc",
            "SAR1M_ASF_SEARCH_URL",
            "SAR1M_ASF_LOGIN_URL",
            "SAR1M_ASF_POOL_URL",
        ),
        public_page="https://api.daac.asf.alaska.edu/health",
        mirror=("SAR1M_ASF_SEARCH_URL", "?platform=SENTINEL-1&maxResults=1&output=geojson"),
    ),
    ServiceFacts(
        name="dhus",
        kinds=("sar",),
        secrets=("DHUS_PASSWORD",),
        settings=("DHUS_USER",),
    ),
    ServiceFacts(
        name="earthengine",
        kinds=_BOTH,
        settings=(
            "SAR1M_EARTHENGINE_URL",
            "EARTHENGINE_PROJECT",
            "EARTHENGINE_SERVICE_ACCOUNT_KEY",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_CLOUD_PROJECT",
            "~/.config/earthengine/credentials",
        ),
        public_page="https://earthengine.googleapis.com/$discovery/rest?version=v1",
        mirror=("SAR1M_EARTHENGINE_URL", "/$discovery/rest?version=v1"),
    ),
    ServiceFacts(
        name="tiles",
        kinds=("optical",),
        secrets=("SAR1M_TILES_KEY",),
        settings=("SAR1M_TILES_ACCEPT_TERMS",),
    ),
)


def open_service(name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    """The service of a name that SERVICES lists; nothing is asked of it yet.

    Raises ConfigError for an unknown name, which it answers with near ones, and where the configuration lacks what the
    service needs (an address).
    """
    opener = _OPENERS.get(name)
    if opener is None:
        raise _unknown(name)
    return opener(name, config, fetcher)


def _stac(name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.stac.service import StacService  # noqa: PLC0415  each only where it is used

    variable, _ = next(facts.mirror for facts in SERVICES if facts.name == name)
    url = (os.environ.get(variable) or None) if variable else config.area.stac_url
    return StacService(fetcher=fetcher, name=name, url=url)


def _cdse(_name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
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


def _asf(_name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.products.asf import Asf, AsfEndpoints  # noqa: PLC0415

    return Asf(fetcher=fetcher, safe=config.safe, endpoints=AsfEndpoints.from_environment())


def _dhus(_name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.products.dhus import Dhus  # noqa: PLC0415

    return Dhus(fetcher=fetcher, safe=config.safe, url=config.area.dhus_url)


def _earthengine(_name: str, _config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.earthengine.service import EarthEngineService  # noqa: PLC0415

    return EarthEngineService(fetcher=fetcher)


def _tiles(_name: str, config: BuildConfig, fetcher: Fetcher) -> Service:
    from sar1m.sources.services.tiles.service import open_tiles  # noqa: PLC0415

    return open_tiles(config.area, fetcher)


_OPENERS: Final[Mapping[str, Callable[[str, BuildConfig, Fetcher], Service]]] = {
    "planetary-computer": _stac,
    "earth-search": _stac,
    "stac": _stac,
    "stac-static": _stac,
    "cdse": _cdse,
    "asf": _asf,
    "dhus": _dhus,
    "earthengine": _earthengine,
    "tiles": _tiles,
}


def _unknown(name: str) -> ConfigError:
    known = [facts.name for facts in SERVICES]
    near = difflib.get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return ConfigError(f"no service is named {name!r}.{meant} Known: {', '.join(known)}. `sar1m doctor` tells of them.")
