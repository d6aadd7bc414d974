"""The STAC catalogues that can be searched: planetary-computer, earth-search, and those of a user's own address."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sar1m.records import SarQuantity
from sar1m.sources.scene import Kind
from sar1m.sources.sentinel_names import COPERNICUS_ATTRIBUTION, COPERNICUS_LICENCE


@dataclass(frozen=True, kw_only=True)
class StacProfile:
    """What is known of one catalogue.

    url: of its API, "" where the user gives it.
    url_variable: environment variable that names another address for it, such as a mirror.
    collections: by kind; without any they are found by what their items say.
    hosts: those that its rasters stand on; without any every public host is allowed.
    filters: whether searches understand the extension `query`.
    signed: whether addresses need a signature before they are read.
    """

    url: str = ""
    url_variable: str = ""
    kinds: frozenset[Kind] = frozenset({"sar", "optical"})
    collections: tuple[tuple[Kind, str], ...] = ()
    hosts: tuple[str, ...] = ()
    provider: str | None = None
    licence: str | None = None
    attribution: str = ""
    sar_quantity: SarQuantity | None = None
    sar_processing: str | None = None
    filters: bool = False
    signed: bool = False
    has_land_cover: bool = False
    static: bool = False


PROFILES: Final = {
    "planetary-computer": StacProfile(
        url="https://planetarycomputer.microsoft.com/api/stac/v1",
        url_variable="SAR1M_PLANETARY_COMPUTER_URL",
        collections=(("sar", "sentinel-1-rtc"), ("optical", "sentinel-2-l2a")),
        hosts=("sentinel1euwestrtc.blob.core.windows.net", "sentinel2l2a01.blob.core.windows.net"),
        provider="Microsoft Planetary Computer",
        licence=COPERNICUS_LICENCE,
        attribution=COPERNICUS_ATTRIBUTION,
        sar_quantity="gamma0",
        sar_processing="RTC by CATALYST for Microsoft Planetary Computer",
        filters=True,
        signed=True,
        has_land_cover=True,
    ),
    "earth-search": StacProfile(
        url="https://earth-search.aws.element84.com/v1",
        url_variable="SAR1M_EARTH_SEARCH_URL",
        kinds=frozenset({"optical"}),
        collections=(("optical", "sentinel-2-l2a"),),
        hosts=("sentinel-cogs.s3.us-west-2.amazonaws.com",),
        provider="Element 84 Earth Search",
        licence=COPERNICUS_LICENCE,
        attribution=COPERNICUS_ATTRIBUTION,
        filters=True,
    ),
    "stac": StacProfile(),
    "stac-static": StacProfile(static=True),
}
