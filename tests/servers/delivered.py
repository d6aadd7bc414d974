"""A small product as services deliver it, written by the simulator, and spoiled copies of it."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.sources.placement import grid_with_halo
from sar1m.sources.safe.choose_products import footprint
from sar1m.sources.safe.source import SafeSource
from sar1m.sources.scene import Query, Ring
from support.safe_scenes import CONFIG, block_scene, with_safe

QUERY = Query(
    kind="sar",
    box=(11.3, 47.1, 11.7, 47.5),
    first=datetime(2021, 1, 1, tzinfo=UTC),
    last=datetime(2022, 1, 1, tzinfo=UTC),
)


@dataclass(frozen=True)
class Delivered:
    """folder: with the product and its DEM. start, ring: as a catalogue tells them."""

    folder: Path
    product_id: str
    start: datetime
    ring: Ring
    content: bytes

    @property
    def md5(self) -> str:
        return hashlib.md5(self.content).hexdigest()  # noqa: S324 - what services state

    @property
    def config(self) -> BuildConfig:
        """Of a build that knows the DEM."""
        return with_safe(dem=str(self.folder / "dem"))

    def renamed(self, **fields) -> Delivered:
        return replace(self, **fields)


def deliver(folder: Path, **changes: object) -> Delivered:
    """changes: of the scene's SceneSpec."""
    truth = block_scene(folder, **changes)
    (path,) = folder.glob("*.zip")
    outline = footprint(truth.product.geometry.grid)
    ring = tuple((float(lon), float(lat)) for lon, lat in outline.exterior.coords)
    return Delivered(folder, truth.product.product_id, truth.product.start, ring, path.read_bytes())


def read_from_disk(product: Delivered, scratch: Path):
    """Grid with its halo, and pixels as the source `safe` reads them."""
    source = SafeSource(product.folder, scratch)
    (candidate,) = source.candidates(CONFIG)
    return grid_with_halo(candidate), source.read(candidate, CONFIG)


def make_fetcher(root: Path, **limits) -> Fetcher:
    few = {"attempts": 3, "requests_per_s": 1000.0, "connect_timeout_s": 5.0, "read_timeout_s": 5.0}
    settings = FetchSettings(
        root=root, limits=DownloadConfig(**(few | limits)), allow_loopback=True, first_delay_s=0.001
    )
    return Fetcher(settings)


def corrupted(product: Delivered) -> bytes:
    """One bit of the image flipped inside the zip: its directory, tables and checksum (of these bytes) are in order."""
    content = bytearray(product.content)
    with zipfile.ZipFile(io.BytesIO(content)) as opened:
        entry = next(each for each in opened.infolist() if each.filename.endswith(".tiff"))
    content[entry.header_offset + 200 + entry.compress_size // 2] ^= 8
    return bytes(content)


def without_member(product: Delivered, part: str) -> bytes:
    """The zip packed anew without members whose name has that part."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(product.content)) as opened, zipfile.ZipFile(packed, "w") as made:
        for entry in opened.infolist():
            if part not in entry.filename:
                made.writestr(entry, opened.read(entry))
    return packed.getvalue()


def same_pixels(sar_side, pixels) -> bool:
    """Whether all that a SAFE product gives is the same, bit for bit."""
    arrays = ("sar", "layover_shadow", "local_incidence_deg")
    equal = [np.array_equal(getattr(sar_side, name), getattr(pixels, name), equal_nan=True) for name in arrays]
    rest = (sar_side.incidence_deg, sar_side.noise_floor) == (pixels.incidence_deg, pixels.noise_floor)
    return all(equal) and rest and np.isfinite(sar_side.sar).mean() > 0.9


def everything_below(*folders: Path) -> bytes:
    """Names and contents of all files, for canaries."""
    found = []
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            found.append(str(path).encode())
            if path.is_file():
                found.append(path.read_bytes())
    return b"\n".join(found)
