"""Parts of remote files: a window of a scene costs a window's bytes, and never holds parts of two files."""

import io
import json
import random

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from rasterio.transform import Affine
from rasterio.windows import Window

from sar1m.config import DownloadConfig
from sar1m.io.net.fetch import ChangedError, Fetcher, FetchSettings, StatusError
from sar1m.io.net.ranged import BLOCK_BYTES
from sar1m.io.raster_open import RangedTiff, opened
from sar1m.store.errors import SourceError
from servers.base import Reply, Server, file_reply
from servers.faults import KINDS, Faulty, once
from support.hang_guard import STUCK_S

CONTENT = random.Random(1).randbytes(5 * BLOCK_BYTES + 777)


def served(asked):
    return file_reply(asked, CONTENT)


def outcome_of(worker):
    out, _ = worker.communicate(timeout=STUCK_S)
    assert worker.returncode == 0
    return json.loads(out)


@pytest.fixture(scope="module")
def cog(tmp_path_factory):
    """Bytes and pixels of a COG of 3072 x 3072 px as services have them: tiled, deflate, overviews."""
    path = tmp_path_factory.mktemp("cog") / "B04.tif"
    pixels = np.random.default_rng(7).integers(0, 10_000, (3072, 3072), dtype=np.uint16)
    profile = {"driver": "COG", "height": 3072, "width": 3072, "count": 1, "dtype": "uint16", "crs": "EPSG:32629"}
    transform = Affine(10, 0, 500_000, 0, -10, 4_400_000)
    with rasterio.open(path, "w", **profile, transform=transform, compress="deflate", blocksize=512) as dataset:
        dataset.write(pixels, 1)
    return path.read_bytes(), pixels


def remote_tiff(ours, url):
    return opened(RangedTiff(name="x.tif", open=lambda: ours.ranged(url)))


def test_a_window_of_a_cog_costs_a_small_part_of_it(fetcher, cog):
    content, pixels = cog
    with Server({"/B04.tif": lambda asked: file_reply(asked, content, content_type="image/tiff")}) as server:
        ours = fetcher()
        for _ in range(2):
            with remote_tiff(ours, f"{server.url}/B04.tif?sig=1") as dataset:
                window = dataset.read(1, window=Window(1100, 1500, 300, 300))
            np.testing.assert_array_equal(window, pixels[1500:1800, 1100:1400])
        first = ours.usage()
        assert first.bytes < 0.15 * len(content)
        assert first.requests == len(server.asked) <= 8
        with remote_tiff(ours, f"{server.url}/B04.tif?sig=2") as dataset:
            np.testing.assert_array_equal(dataset.read(1), pixels)
        assert ours.usage().bytes < len(content)  # nothing twice, and no overview


def test_faults_are_survived_by_gdal_too(fetcher, cog):
    content, pixels = cog
    kinds = sorted(set(KINDS) - {"flipped_bit", "etag_changed", "offline"})
    route = Faulty(lambda asked: file_reply(asked, content), 0.3, kinds)
    with Server({"/x.tif": route}) as server, remote_tiff(fetcher(attempts=12), f"{server.url}/x.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), pixels)
    assert sum(route.happened.values()) > 10


def test_what_breaks_off_under_gdal_is_told(fetcher, cog):
    content, _ = cog

    def route(asked):
        return file_reply(asked, content) if asked.nth < 3 else Reply(status=404)

    with (
        Server({"/x.tif": route}) as server,
        pytest.raises(StatusError, match="404"),
        remote_tiff(fetcher(), f"{server.url}/x.tif") as dataset,
    ):
        dataset.read(1)


@given(moves=st.lists(st.tuples(st.integers(0, len(CONTENT) + 10), st.integers(0, 3 * BLOCK_BYTES)), max_size=6))
def test_it_reads_as_the_file_itself(tmp_path_factory, moves):
    ours = _fetcher(tmp_path_factory.mktemp("net"))
    with Server({"/x": served}) as server:
        remote, local = ours.ranged(f"{server.url}/x"), io.BytesIO(CONTENT)
        assert remote.seek(0, io.SEEK_END) == len(CONTENT)
        for position, count in moves:
            assert remote.seek(position) == local.seek(position)
            assert remote.read(count) == local.read(count)
            assert remote.tell() == local.tell()
        assert ours.usage().bytes <= len(CONTENT)


def _fetcher(root):
    return Fetcher(FetchSettings(root, DownloadConfig(requests_per_s=1e6), allow_loopback=True))


def test_adjacent_blocks_come_with_one_request(fetcher):
    with Server({"/x": served}) as server:
        ours = fetcher()
        assert ours.ranged(f"{server.url}/x").readall() == CONTENT
        assert [asked.headers["range"] for asked in server.asked] == [
            f"bytes=0-{BLOCK_BYTES - 1}",
            f"bytes={BLOCK_BYTES}-{6 * BLOCK_BYTES - 1}",
        ]
        assert ours.ranged(f"{server.url}/x").readall() == CONTENT
        assert len(server.asked) == 2


def test_four_processes_fetch_each_block_once(fetcher, process):
    with Server({"/x": served}) as server:
        fetcher().ranged(f"{server.url}/x")
        workers = [process(what="ranged", url=f"{server.url}/x", threads=2) for _ in range(4)]
        assert [outcome_of(worker) for worker in workers] == [{"done": 2}] * 4
        assert fetcher().usage().bytes == len(CONTENT)


def test_a_file_replaced_while_it_is_read_is_an_error(fetcher):
    version = ["1"]
    with Server({"/x": lambda asked: file_reply(asked, CONTENT, etag=f'"{version[0]}"')}) as server:
        remote = fetcher().ranged(f"{server.url}/x")
        remote.read(10)
        version[0] = "2"
        remote.seek(3 * BLOCK_BYTES)
        with pytest.raises(ChangedError, match="was replaced"):
            remote.read(10)
        assert fetcher().ranged(f"{server.url}/x").readall() == CONTENT


def test_a_file_replaced_since_the_last_build_is_read_anew(fetcher):
    latter = CONTENT[::-1]
    with Server({"/x": served}) as server:
        fetcher().ranged(f"{server.url}/x")
        server.routes["/x"] = lambda asked: file_reply(asked, latter, etag='"2"')
        assert fetcher().ranged(f"{server.url}/x").readall() != CONTENT
        assert fetcher().ranged(f"{server.url}/x").readall() == latter


@pytest.mark.parametrize("kind", ["range_ignored", "html_as_bytes", "cut_with_length", "cut_without_length", "silence"])
def test_each_fault_alone_is_survived(fetcher, kind):
    with Server({"/x": once(kind, served)}) as server:
        assert fetcher().ranged(f"{server.url}/x").readall() == CONTENT


@pytest.mark.parametrize(
    "content_range", ["", "bytes 5-10/100", "bytes 0-9/*", "bytes */100", "bytes 0-1/99999999999999999999"]
)
def test_a_part_that_was_not_asked_for_is_not_taken(fetcher, content_range):
    reply = Reply(status=206, body=b"0123456789", headers={"Content-Range": content_range, "ETag": '"1"'})
    with Server({"/x": lambda asked: reply}) as server, pytest.raises(SourceError):
        fetcher(attempts=2).ranged(f"{server.url}/x").read(10)


def test_a_wrong_size_is_an_error(fetcher):
    with Server({"/x": served}) as server, pytest.raises(SourceError, match="the catalogue says 5"):
        fetcher().ranged(f"{server.url}/x", size=5)


def test_a_damaged_block_of_the_cache_comes_again(fetcher):
    with Server({"/x": served}) as server:
        ours = fetcher()
        ours.ranged(f"{server.url}/x").readall()
        for index, path in enumerate(sorted(ours.settings.root.rglob("*.block"))):
            content = bytearray(path.read_bytes())
            content[100 * index] ^= 1
            path.write_bytes(content if index % 2 else b"")
        assert ours.ranged(f"{server.url}/x").readall() == CONTENT
