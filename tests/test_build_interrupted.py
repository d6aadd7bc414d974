"""Builds killed with SIGKILL in the middle of their downloads: what came whole is not asked for again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, replace
from datetime import date

import pytest

from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.io.net.ranged import BLOCK_BYTES
from sarworld.safe.scenario import AcquisitionSpec
from servers.base import Asked, Reply, Route, wait_until
from servers.cdse import CdseStandIn, product_uuid
from servers.delivered import deliver
from servers.stac import Place, StacServer
from support.area_builds import box_inside, settings
from support.campaigns import campaign
from support.hang_guard import STUCK_S
from support.safe_scenes import CONFIG

PIECE = 2**14
(BLOCK,) = block_grids(make_cells(*cells_at([11.5], [47.3])), CONFIG.grid)
REGION = box_inside(BLOCK)


@dataclass
class Crawl:
    """A route whose bodies come in pieces, slowly as long as it crawls."""

    route: Route
    crawls: bool = True
    piece_bytes: int = PIECE

    def __call__(self, asked: Asked) -> Reply:
        return replace(self.route(asked), trickle_s=0.05 if self.crawls else 1e-6, trickle_bytes=self.piece_bytes)


def start(out, workers, wanted):
    """The command in a process group of its own."""
    command = [sys.executable, "-m", "sar1m", "build", "--region", REGION, "--out", out, "--workers", str(workers)]
    return subprocess.Popen(
        [*command, *wanted], start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def kill_where(build, reached):
    """SIGKILL to the whole group as soon as reached; it must still have been at work."""
    wait_until(lambda: reached() or build.poll() is not None)
    alive = build.poll() is None
    if alive:
        os.killpg(build.pid, signal.SIGKILL)
    said, _ = build.communicate(timeout=STUCK_S)
    assert alive, said.decode()


def manifest(out):
    return (out / "manifest-sha256.txt").read_bytes()


@pytest.fixture(scope="module")
def products(tmp_path_factory, delivered):
    """Two passes over the same ground."""
    later = AcquisitionSpec(day=date(2021, 8, 21), absolute_orbit=39331, datatake=0x04A466)
    return [delivered, deliver(tmp_path_factory.mktemp("second"), acquisition=later)]


@pytest.fixture
def cdse(products, monkeypatch, tmp_path):
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.delenv("CDSE_TOTP", raising=False)
    with CdseStandIn().serving() as served:
        for product in products:
            served.add(product)
        for name, value in served.environment.items():
            monkeypatch.setenv(name, value)
        yield served


@pytest.mark.parametrize("workers", [0, *campaign(2)])
def test_products_are_resumed(workers, cdse, products, sar1m, tmp_path):
    keys = {"area.sar": "cdse", "area.optical": "none", "safe.dem": products[0].folder / "dem"}
    keys |= {"area.first": "2021-08-01", "area.last": "2021-09-01", "area.scenes_per_cell": 2}
    wanted, out = settings(keys), tmp_path / "killed"
    crawl = cdse.zipper.routes["/odata/v1/Products*"] = Crawl(cdse.product)
    whole = sum(len(product.content) for product in products)
    kill_where(start(out, workers, wanted), lambda: cdse.zipper.bytes_sent > 0.7 * whole)
    assert not (out / "BUILD_COMPLETE.json").exists()
    before = len(cdse.zipper.asked)
    crawl.crawls = False
    code, text, err = sar1m("build", "--region", REGION, "--out", out, "--workers", 0, *wanted)
    assert (code, err) == (0, ""), text
    assert "Blocks: 2 prepared" in text or "1 prepared, 1 already there" in text
    # every byte once, but for what was on its way, in buffers of the network that a busy machine empties late; without
    # resuming it would be 0.7 of the whole
    assert whole <= cdse.zipper.bytes_sent <= whole + 4 * PIECE * max(workers, 1) < 1.3 * whole
    asked = Counter(request.path for request in cdse.zipper.asked)
    assert len(asked) == 2
    later = cdse.zipper.asked[before:]
    assert later
    assert all(int(request.headers["range"].removeprefix("bytes=").rstrip("-")) > 0 for request in later)
    if workers == 0:  # one after the other: the first was whole
        assert [product_uuid(products[1].product_id) in request.path for request in later] == [True]
    assert sar1m("build", "--region", REGION, "--out", tmp_path / "calm", "--workers", 0, *wanted)[0] == 0
    assert manifest(out) == manifest(tmp_path / "calm")
    assert sar1m("verify", out)[0] == 0


def blocks_of(asked: Asked) -> set[tuple[str, int]]:
    first, last = map(int, asked.headers["range"].removeprefix("bytes=").split("-"))
    return {(asked.path, index) for index in range(first // BLOCK_BYTES, last // BLOCK_BYTES + 1)}


@pytest.mark.campaign
def test_blocks_of_cogs_are_not_asked_for_again(sar1m, tmp_path, monkeypatch):
    grid = BLOCK.window(-200, -200, 528, 528)
    wanted, out = settings({"area.first": "2023-06-01", "area.last": "2023-07-01"}), tmp_path / "killed"
    with StacServer(places=[Place(grid=grid)]) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        (route,) = server.blobs.routes.values()
        crawl = server.blobs.routes["/*"] = Crawl(route, crawls=False, piece_bytes=2**16)
        assert sar1m("build", "--region", REGION, "--out", tmp_path / "calm", "--workers", 0, *wanted)[0] == 0
        calm, undisturbed = len(server.blobs.asked), server.blobs.bytes_sent
        crawl.crawls = True
        kill_where(start(out, 0, wanted), lambda: server.blobs.bytes_sent > 1.5 * undisturbed)
        *finished, underway = server.blobs.asked[calm:]
        before = len(server.blobs.asked)
        crawl.crawls = False
        code, text, err = sar1m("build", "--region", REGION, "--out", out, "--workers", 0, *wanted)
        assert (code, err) == (0, ""), text
        had = set().union(*map(blocks_of, finished))
        again = set().union(*map(blocks_of, server.blobs.asked[before:]))
        assert had
        assert again
        assert not had & again
        lost = len(blocks_of(underway)) * BLOCK_BYTES
        assert server.blobs.bytes_sent <= 2 * undisturbed + lost
        assert manifest(out) == manifest(tmp_path / "calm")
