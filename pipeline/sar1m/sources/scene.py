"""What a catalogue of scenes answers, in one form for all services, and what is asked of a service."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Final, Literal, Protocol

from pydantic import TypeAdapter, ValidationError

from sar1m.config import BuildConfig
from sar1m.records import RasterGrid, SarQuantity
from sar1m.sources.pixels import OpticalPixels, SarPixels
from sar1m.store.errors import SourceError
from sar1m.store.schema import OpticalQuantity

SCENE_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
UNDATED: Final = datetime(1, 1, 1, tzinfo=UTC)  # the time of an optical scene that nobody knows

LAND_COVER_ATTRIBUTION: Final = (
    "(c) ESA WorldCover project 2021 / contains modified Copernicus Sentinel data (2021) processed by ESA WorldCover "
    "consortium (CC-BY-4.0)"
)
ASSET_WORDS: Final = ("scale", "offset", "nodata", "unit")  # fields of Asset that change what its numbers mean
Kind = Literal["sar", "optical"]
Ring = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Asset:
    """One file of a scene.

    name: VV, B04, SCL, product, ... href: its address without any signature or token.
    size_bytes, checksum (such as `md5:0f...`): None where the catalogue does not state them.
    scale, offset, nodata, unit: of its numbers, None where the catalogue does not state them. The offset of optical DN
    is the scene's.
    """

    name: str
    href: str
    size_bytes: int | None = None
    checksum: str | None = None
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    unit: str | None = None


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scene as a catalogue describes it. It holds no secret: it travels in plans, task graphs and handles.

    acquired: start of the acquisition, UTC; UNDATED where it is not known. Only an optical scene may be undated: it is
    paired with any SAR scene where no dated one is better, and the time between the two stays unknown.
    footprint: ring of lon, lat in degrees, closed, longitudes running on (they may pass +-180).
    cloud_frac: 0..1 over the whole scene, None where unknown.
    sar_quantity, optical_quantity: what its pixels are, None for the other kind.
    offset_dn: radiometric offset still to be added to optical DN.
    online: False where the scene must be ordered first.
    """

    scene_id: str
    service: str
    kind: Kind
    acquired: datetime
    footprint: Ring
    assets: tuple[Asset, ...]
    licence: str
    provider: str
    attribution: str = ""
    platform: str | None = None
    orbit_state: str | None = None
    relative_orbit: int | None = None
    datatake: str | None = None
    polarisations: tuple[str, ...] = ()
    sar_quantity: SarQuantity | None = None
    processing: str = ""
    cloud_frac: float | None = None
    optical_quantity: OpticalQuantity | None = None
    processing_baseline: str | None = None
    offset_dn: int | None = None
    online: bool = True

    def __post_init__(self) -> None:
        """A scene id becomes a file name and a column: other characters are refused."""
        if not SCENE_ID.fullmatch(self.scene_id) or set(self.scene_id) <= {"."}:
            raise SourceError(
                f"{self.service}: a scene is named {self.scene_id[:140]!r}; expected 1 to 128 letters, digits, dots, "
                "underscores and hyphens. The catalogue's answer is not used."
            )

    def asset(self, name: str) -> Asset:
        """The asset of a name. Raises SourceError where the scene has none."""
        found = next((asset for asset in self.assets if asset.name == name), None)
        if found is None:
            raise SourceError(
                f"{self.service} {self.scene_id}: has no {name}, it has {', '.join(a.name for a in self.assets)}."
            )
        return found


def scene_to_text(scene: Scene) -> str:
    """JSON, for handles and plan files."""
    return json.dumps(asdict(scene), default=datetime.isoformat, separators=(",", ":"))


@cache
def _adapter() -> TypeAdapter[Scene]:
    return TypeAdapter(Scene)  # a millisecond to make, and a plan holds a million scenes


def scene_from_text(text: str, item_id: str) -> Scene:
    """The scene of a text that scene_to_text wrote. Raises SourceError for any other text."""
    try:
        return _adapter().validate_json(text)
    except ValidationError as error:
        raise SourceError(f"{item_id}: not planned by this version of sar1m. Plan the build again.") from error


@dataclass(frozen=True, kw_only=True)
class Query:
    """Which scenes are looked for.

    box: west, south, east, north in degrees that scenes meet; west < east, and east may pass 180.
    first, last: scenes start in first <= t < last, UTC.
    polarisations: a SAR scene must have all of them.
    max_cloud_frac: of optical scenes, where their cloud is known.
    """

    kind: Kind
    box: tuple[float, float, float, float]
    first: datetime
    last: datetime
    polarisations: tuple[str, ...] = ("VV", "VH")
    max_cloud_frac: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Price:
    """What reading costs, known before anything is read.

    units: of the service's quota (EECU-seconds), 0 where it has none.
    shared_bytes: downloaded once for a scene, whatever the number of blocks.
    """

    requests: float
    bytes: float
    shared_bytes: float = 0.0
    units: float = 0.0

    def __add__(self, other: Price) -> Price:
        return Price(
            requests=self.requests + other.requests,
            bytes=self.bytes + other.bytes,
            shared_bytes=self.shared_bytes + other.shared_bytes,
            units=self.units + other.units,
        )


class LandCoverReader(Protocol):
    """Land cover that a service may offer beside its scenes, as its property land_cover."""

    def read(self, grid: RasterGrid) -> OpticalPixels:
        """Land cover, water and flags of a block, independent of scenes; no picture. Raises SourceError."""
        ...

    def price(self, grid: RasterGrid) -> Price:
        """The price of reading one block. No request is made."""
        ...


def land_cover_of(services: Iterable[Service | None]) -> LandCoverReader | None:
    """The land cover of the first of the services that offers it; None where none does."""
    readers = (getattr(service, "land_cover", None) for service in services)
    return next((reader for reader in readers if reader is not None), None)


class Service(Protocol):
    """One service of scenes: of SAR, of optical scenes, or of both (kinds).

    Instances pickle and hold no secret: credentials are read where they are needed, from the environment or from the
    service's own store.
    """

    @property
    def name(self) -> str: ...

    @property
    def kinds(self) -> frozenset[Kind]: ...

    def search(self, query: Query) -> Iterator[Scene]:
        """Scenes in the order of acquisition, then of id, each once. Raises SourceError where the service fails."""
        ...

    def price(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> Price:
        """The price of reading one block of a scene. grid: with its halo. No request is made."""
        ...

    def read_sar(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> SarPixels:
        """SAR pixels of a block in linear power. Raises SourceError."""
        ...

    def read_optical(self, scene: Scene, grid: RasterGrid, config: BuildConfig) -> OpticalPixels:
        """Optical pixels of a block. Raises SourceError."""
        ...

    def usable(self) -> tuple[bool, str]:
        """Whether the service can be used from here (client installed, credentials there), without asking it anything.

        Also one line that says with which credentials, or what to do. It never shows a secret.
        """
        ...
