"""A whole build whose optical partners are licensed tiles, which nobody dated."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.core.utm import lonlat_from_utm
from sar1m.records import RasterGrid
from servers.base import Server
from servers.delivered import everything_below
from servers.stac import Place, StacServer
from servers.tiles import TileRoute, brightness
from support.area_builds import box_inside, opened, settings
from support.safe_scenes import CONFIG

KEY = "canary-tiles-key-55"
(CELL,) = make_cells(*cells_at([11.5], [47.3]))
(BLOCK,) = block_grids([CELL], CONFIG.grid)
REGION = box_inside(BLOCK)


@pytest.fixture
def tiles(monkeypatch):
    """Options of a build with tiles over a SAR service, and the route of the tiles."""
    route = TileRoute(key=KEY)
    place = Place(grid=BLOCK.window(-200, -200, 528, 528))
    with Server({"/*": route}) as server, StacServer(places=[place]) as stac:
        for name, value in (stac.environment | {"SAR1M_TILES_KEY": KEY}).items():
            monkeypatch.setenv(name, value)
        keys = {
            "area.optical": "tiles",
            "area.tiles_url": f"{server.url}/{{z}}/{{x}}/{{y}}.png?key={{key}}",
            "area.first": "2023-06-01",
            "area.last": "2023-07-01",
            "registration.correct": "none",  # the picture has nothing to do with the simulated ground
        }
        yield settings(keys), route


def shown(transform) -> np.ndarray:
    """Brightness (3, 64, 64) of B04, B03, B02 on the pixels of a patch."""
    grid = RasterGrid(epsg=BLOCK.epsg, left_m=transform[2], top_m=transform[5], gsd_m=10.0, rows=64, cols=64)
    rows, cols = np.ogrid[:64, :64]
    x_m, y_m = np.broadcast_arrays(grid.left_m + (cols + 0.5) * 10.0, grid.top_m - (rows + 0.5) * 10.0)
    return np.moveaxis(brightness(*lonlat_from_utm(x_m, y_m, grid.epsg)), -1, 0)


def test_tiles_are_partners_without_a_date(tiles, sar1m, tmp_path):
    wanted, route = tiles
    out = tmp_path / "tiles"
    code, text, err = sar1m("build", "--region", REGION, "--out", out, "--workers", 0, *wanted)
    assert (code, err) == (0, ""), text
    stored, samples = opened(out)
    assert (len(samples), set(samples["cell"]), set(samples["paired"])) == (4, {CELL.name}, {True})
    assert samples["dt_hours"].isna().all()
    assert samples["optical_datetime"].isna().all()
    assert set(samples["licence_optical"]) == {"recipe-only"}
    assert all("undated_optical" in flags for flags in samples["flags"])
    expected = np.stack([shown(transform) for transform in samples["transform"]])
    assert np.abs(stored.optical.to_numpy() - expected).max() < 2.5  # rounding to whole numbers, and resampling
    assert json.loads((out / "BUILD_COMPLETE.json").read_text())["counts"]["failed"] == 0
    assert sar1m("verify", out)[0] == 0
    served = len(route.served)
    again, text, _ = sar1m("build", "--region", REGION, "--out", out, "--workers", 0, *wanted)
    assert (again, "Nothing to do" in text, len(route.served)) == (0, True, served)
    assert KEY.encode() not in everything_below(out) + text.encode()


def test_a_refused_key_fails_items_by_name_and_shows_nowhere(tiles, sar1m, tmp_path, monkeypatch):
    wanted, route = tiles
    monkeypatch.setenv("SAR1M_TILES_KEY", "canary-wrong-key-56")
    code, text, err = sar1m("build", "--region", REGION, "--out", tmp_path / "a", "--workers", 0, *wanted)
    assert code == 3
    assert CELL.name in text
    assert "answered 403 Forbidden" in " ".join(text.split())
    assert not route.served
    found = everything_below(tmp_path / "a") + (text + err).encode()
    assert b"canary-" not in found
