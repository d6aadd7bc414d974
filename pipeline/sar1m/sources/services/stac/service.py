"""Scenes of STAC catalogues, read by windows of their cloud-optimised GeoTIFFs.

Four uses: planetary-computer (gamma0 RTC of Sentinel-1, Sentinel-2 L2A; addresses are signed), earth-search
(Sentinel-2 L2A, no account), stac (any API) and stac-static (a catalogue of files).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from importlib.util import find_spec
from itertools import islice, pairwise
from typing import Final
from urllib.parse import urlsplit

import shapely
from shapely.affinity import translate

from sar1m.config import BuildConfig
from sar1m.core.sphere import TURNS_DEG, boxes_within_world
from sar1m.io.net.fetch import Fetcher
from sar1m.records import RasterGrid
from sar1m.sources.baselines import KNOWN, Baseline, parse_baseline
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.sources.scene import Kind, Price, Query, Scene
from sar1m.sources.services.stac.cog import CogReader, price_windows
from sar1m.sources.services.stac.item_search import ItemQuestion, StacApi
from sar1m.sources.services.stac.items import FoundScene, ItemRule
from sar1m.sources.services.stac.profiles import PROFILES, StacProfile
from sar1m.sources.services.stac.sieve import Sieve, UnusableItem, remarks_on
from sar1m.sources.services.stac.signing import SasAuth, has_subscription_key
from sar1m.sources.services.stac.static_catalogue import static_items
from sar1m.sources.services.stac.worldcover import HOST as LAND_COVER_HOST
from sar1m.sources.services.stac.worldcover import WorldCover
from sar1m.store.errors import ConfigError, SourceError

MAX_PROBES: Final = 24  # collections that are looked into to see what they hold
_PROBE_ITEMS: Final = 4  # of each
_SLACK: Final = timedelta(minutes=5)  # a catalogue may give the middle of an acquisition where we ask for its start
_WORLD: Final = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True, kw_only=True)
class StacService:
    """A Service over a STAC catalogue.

    url: of the catalogue, for stac and stac-static. Rasters of planetary-computer and earth-search may also stand on
    the host of a mirror that the environment names.
    left_out: items that searches could not use, so far.
    Raises ConfigError for an unknown name, and where an address is missing or not https (stac-static may also be a
    file).
    """

    fetcher: Fetcher
    name: str = "planetary-computer"
    url: str | None = None
    left_out: list[UnusableItem] = field(default_factory=list, compare=False, repr=False)

    def __reduce__(self) -> tuple[partial[StacService], tuple[()]]:
        """Workers only read: what searches left out is not sent to them."""
        return partial(StacService, fetcher=self.fetcher, name=self.name, url=self.url), ()

    def __post_init__(self) -> None:
        """A missing address is found before anything is asked."""
        if self.name not in PROFILES:
            raise ConfigError(f"{self.name!r} is no STAC service. Known: {', '.join(PROFILES)}.")
        if not self._url:
            raise ConfigError(f"{self.name}: has no address. Set area.stac_url to that of a catalogue.")
        scheme = urlsplit(self._url).scheme
        if scheme not in ("https", "http") and not (self._profile.static and "://" not in self._url):
            raise ConfigError(f"area.stac_url: {self._url[:140]!r} is no https address. Correct it.")

    @property
    def _profile(self) -> StacProfile:
        return PROFILES[self.name]

    @property
    def _url(self) -> str:
        profile = self._profile
        mirror = os.environ.get(profile.url_variable) if profile.url_variable else None
        return mirror or profile.url or self.url or ""

    @property
    def _rule(self) -> ItemRule:
        profile, own_host = self._profile, urlsplit(self._url).hostname
        loopback = own_host is not None and own_host.startswith("127.")
        hosts = {*profile.hosts, own_host} if own_host is not None and (profile.hosts or loopback) else set()
        return ItemRule(
            service=self.name,
            hosts=frozenset(hosts),
            provider=profile.provider or own_host,
            licence=profile.licence,
            attribution=profile.attribution,
            sar_quantity=profile.sar_quantity,
            sar_processing=profile.sar_processing,
        )

    @property
    def land_cover(self) -> WorldCover | None:
        """The land cover that the service offers beside its scenes; None where it offers none."""
        if not self._profile.has_land_cover:
            return None
        rule = self._rule
        hosts = (rule.hosts - set(self._profile.hosts)) | {LAND_COVER_HOST}
        return WorldCover(fetcher=self.fetcher, api_url=self._url, rule=replace(rule, hosts=hosts))

    @property
    def remarks(self) -> list[str]:
        """What searches left out so far: a line for each kind and cause, with the first items named."""
        return remarks_on(self.name, self.left_out)

    @property
    def kinds(self) -> frozenset[Kind]:
        return self._profile.kinds

    def search(self, query: Query) -> Iterator[Scene]:
        """Scenes in the order of acquisition, then of id, each acquisition once.

        Of an optical scene that was processed several times, the newest baseline is taken. An item that cannot be used
        is left out, and remarks say so. Raises SourceError where the catalogue fails, and at the end of the search
        where more than half of its items cannot be used.
        """
        if query.kind not in self.kinds:
            raise SourceError(f"{self.name}: has no {query.kind} scenes. Choose another service for area.{query.kind}.")
        sieve = Sieve(rule=self._rule, kind=query.kind, left_out=self.left_out)
        if self._profile.static:
            found = sieve.found(static_items(self.fetcher, self._url))
            yield from _chosen(found, query, query.first, query.last)
            sieve.require_mostly_usable()
            return
        api = StacApi(self.fetcher, self._url, self.name)
        collections = self._collections(api, query)
        for first, last in pairwise(_months(query.first, query.last)):
            items = self._asked(api, collections, query, first - _SLACK, last + _SLACK) if collections else iter(())
            yield from _chosen(sieve.found(items), query, first, last)
        sieve.require_mostly_usable()

    def _asked(
        self, api: StacApi, collections: tuple[str, ...], query: Query, first: datetime, last: datetime
    ) -> Iterator[object]:
        limited = self._profile.filters and query.kind == "optical" and query.max_cloud_frac < 1
        filters = {"eo:cloud_cover": {"lte": query.max_cloud_frac * 100}} if limited else {}
        for box in boxes_within_world(query.box):
            question = ItemQuestion(collections=collections, box=box, first=first, last=last, filters=filters)
            yield from api.items(question)

    def _collections(self, api: StacApi, query: Query) -> tuple[str, ...]:
        """Ids of the collections that hold scenes of a kind.

        Where the profile does not fix them: those whose description names the satellite and whose items, looked at one
        by one, are such scenes.
        """
        fixed = tuple(name for kind, name in self._profile.collections if kind == query.kind)
        if fixed:
            return fixed
        satellite = {"sar": "sentinel-1", "optical": "sentinel-2"}[query.kind]
        named = sorted(str(one.get("id")) for one in api.collections() if satellite in str(one).lower())
        return tuple(name for name in named[:MAX_PROBES] if self._holds(api, name, query))

    def _holds(self, api: StacApi, collection: str, query: Query) -> bool:
        question = ItemQuestion(
            collections=(collection,),
            box=_WORLD,
            first=query.first,
            last=query.last,
            filters={},
            page_items=_PROBE_ITEMS,
        )
        sieve = Sieve(rule=self._rule, kind=query.kind, left_out=[])
        holds = any(True for _ in sieve.found(islice(api.items(question), _PROBE_ITEMS)))
        if not holds:
            sieve.require_mostly_usable()
        return holds

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
        """The price of one block, with the assumptions of cog.py."""
        return price_windows(scene, grid, config)

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """Gamma nought of config.area.polarisations. Raises SourceError."""
        return self._reader(scene).sar(grid, config)

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Reflectance with the scene classification as mask. Raises SourceError."""
        return self._reader(scene).optical(grid, config)

    def _reader(self, scene: Scene) -> CogReader:
        return CogReader(
            fetcher=self.fetcher, scene=scene, sign=SasAuth(fetcher=self.fetcher) if self._profile.signed else None
        )

    def usable(self) -> tuple[bool, str]:
        """Whether its client is installed. No account is needed."""
        if self._profile.static:
            return True, "no account needed"
        if find_spec("pystac_client") is None:
            return False, "its client is not installed: pip install 'sar1m[stac]'"
        if not self._profile.signed:
            return True, "no account needed"
        if has_subscription_key():
            return True, "with the subscription key of PC_SDK_SUBSCRIPTION_KEY"
        return True, "no account needed (PC_SDK_SUBSCRIPTION_KEY raises the limits of its token service)"


def _chosen(scenes: Iterable[FoundScene], query: Query, first: datetime, last: datetime) -> list[Scene]:
    """Scenes that answer a query and begin in first <= t < last, in order."""
    known: dict[str, FoundScene] = {}
    area = shapely.box(*query.box)
    for found in scenes:
        if first <= found.scene.acquired < last and _answers(found.scene, query, area):
            known.setdefault(found.scene.scene_id, found)
    newest: dict[str, Scene] = {}
    for found in known.values():
        key = found.twin or found.scene.scene_id
        newest[key] = max((found.scene, newest.get(key, found.scene)), key=_age)
    return sorted(newest.values(), key=lambda scene: (scene.acquired, scene.scene_id))


def _answers(scene: Scene, query: Query, area: shapely.Polygon) -> bool:
    """Whether a scene is what was asked for. A server may not apply every filter."""
    if scene.kind == "sar" and not set(query.polarisations) <= set(scene.polarisations):
        return False
    if scene.cloud_frac is not None and scene.cloud_frac > query.max_cloud_frac:
        return False
    footprint = shapely.Polygon(scene.footprint)
    return any(area.intersects(translate(footprint, turn)) for turn in TURNS_DEG)


def _age(scene: Scene) -> tuple[Baseline, str]:
    """A key that is larger for what was processed later."""
    found = parse_baseline(scene.processing_baseline or "")
    return found if found in KNOWN else Baseline(0, 0), scene.scene_id


def _months(first: datetime, last: datetime) -> list[datetime]:
    """first, the beginnings of the months between, and last. One question a month keeps answers small."""
    marks = [first]
    while marks[-1] < last:
        next_month = marks[-1].replace(day=1, hour=0, minute=0, second=0, microsecond=0) + timedelta(days=32)
        marks.append(min(next_month.replace(day=1), last))
    return marks
