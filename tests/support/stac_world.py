"""What tests of STAC services share: a place, its server, a downloader and a service."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.core.grid import bounds_lonlat
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.records import RasterGrid
from sar1m.sources.scene import Query
from sar1m.sources.services.stac import signing
from sar1m.sources.services.stac.service import StacService
from servers.stac import ACQUIRED, Place, StacServer

GRID = RasterGrid(epsg=32633, left_m=500_000.0, top_m=5_000_000.0, gsd_m=10.0, rows=1792, cols=1792)
BLOCK = GRID.window(800, 820, 416, 416)  # inside, over four tiles of 512 px
CONFIG = BuildConfig()
JUNE, JULY = datetime(2023, 6, 1, tzinfo=UTC), datetime(2023, 7, 1, tzinfo=UTC)
BOX = tuple(float(edge) for edge in bounds_lonlat([BLOCK])[0])
SAR = Query(kind="sar", box=BOX, first=JUNE, last=JULY)
OPTICAL = Query(kind="optical", box=BOX, first=JUNE, last=JULY, max_cloud_frac=0.2)


PLACE = Place(grid=GRID)  # draws its pixels when they are first asked for


@contextmanager
def running_server(monkeypatch, files=()):
    """A server that tells of PLACE, found by the environment; the files of another one stand in its store."""
    with StacServer() as running:
        running.tell(PLACE)
        running.files.update(files)
        for name, value in running.environment.items():
            monkeypatch.setenv(name, value)
        signing.forget_tokens()
        yield running
    assert not running.api.exhausted
    assert not running.blobs.exhausted


@pytest.fixture
def place():
    return PLACE


@pytest.fixture
def fetcher(tmp_path):
    return a_fetcher(tmp_path / "net")


def a_fetcher(root, **limits):
    given = {"requests_per_s": 5_000, "attempts": 4, "read_timeout_s": 5.0} | limits
    return Fetcher(FetchSettings(root, DownloadConfig(**given), allow_loopback=True, first_delay_s=0.01))


def a_service(fetcher, name="planetary-computer", url=None):
    return StacService(fetcher=fetcher, name=name, url=url)


def only(service, query):
    (scene,) = service.search(query)
    return scene


def more_places(server, count):
    """Items of the same ground at later times, half of them of another week."""
    for number in range(count):
        server.tell(
            Place(grid=GRID, name=f"place{number}", acquired=ACQUIRED + timedelta(days=number % 9, minutes=number))
        )
