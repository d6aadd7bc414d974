"""Samples made again from their source, simulated and from loopback services, against a release's hashes."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sar1m.building import BuildRequest, build
from sar1m.config import BuildConfig
from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.flow import WorkersSettings
from sar1m.releases.rebuild import RebuildRequest, rebuild
from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.seal import require_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.settings import override
from servers.base import Server
from servers.stac import Place, StacServer
from servers.tiles import TileRoute
from support.area_builds import KEYS, box_inside
from support.made_releases import lock_of, release
from support.safe_scenes import CONFIG
from support.tiny_releases import Silence, seal_release

(CELL,) = make_cells(*cells_at([11.5], [47.3]))
(BLOCK,) = block_grids([CELL], CONFIG.grid)


def rebuilt(root, source, count=100, *overrides):
    return rebuild(RebuildRequest(release=root, source=source, count=count, seed=1, overrides=overrides), Silence())


@pytest.fixture(scope="module")
def simulated(built, tmp_path_factory):
    root = tmp_path_factory.mktemp("rebuild") / "release"
    release([built.part, built.other], root)
    return root


def edited(root, out, table, column, change):
    """A copy of a release in which a column of a table is another, sealed anew: a forgery that verifies."""
    shutil.copytree(root, out)
    rows = pq.read_table(out / table)
    values = change(rows[column].to_pylist())
    at = rows.schema.get_field_index(column)
    pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(values)), out / table)
    marker = require_seal(FolderPlace(root), RELEASE_MARKERS).marker
    seal_release(
        out, **{key: marker[key] for key in marker if key not in {"files", "manifest_sha256", "marker_sha256"}}
    )
    return out


def test_all_samples_of_two_builds_come_out_alike(simulated):
    found = rebuilt(simulated, "simulated:3")
    assert found.faults == ()
    assert found.compared == tuple(sorted(lock_of(simulated).index))
    assert found.offered == found.samples == len(found.compared) > 4


def test_as_many_as_asked_are_drawn_by_seed(simulated):
    first, again = rebuilt(simulated, "simulated:3", 2), rebuilt(simulated, "simulated:3", 2)
    assert (len(first.compared), first.faults) == (2, ())
    assert first == again


def test_a_source_of_some_of_the_samples_is_compared_with_these(simulated):
    found = rebuilt(simulated, "simulated:1")
    assert found.faults == ()
    assert 0 < found.offered == len(found.compared) < found.samples


def test_other_pixels_are_named_by_sample_and_array(simulated):
    found = rebuilt(simulated, "simulated:1", 3, "simulated.enl=2")
    assert {fault.path for fault in found.faults} == set(found.compared)
    assert all("sar" in fault.found and fault.found.startswith("built again, its") for fault in found.faults)


def test_a_forged_hash_is_found(simulated, tmp_path):
    names = lock_of(simulated).index
    forged = edited(
        simulated, tmp_path / "forged", "provenance/lock.parquet", "pixel_hash", lambda old: ["0" * 32, *old[1:]]
    )
    (fault,) = rebuilt(forged, "simulated:3").faults
    assert (fault.path, fault.found) == (names[0], "built again, its other pixels differ")


def test_what_offers_nothing_or_is_no_release_is_an_error(simulated, tmp_path):
    with pytest.raises(ConfigError, match="offers no sample of"):
        rebuilt(simulated, "simulated:1", 1, "seed=77")
    with pytest.raises(StoreError, match=r"no RELEASE_COMPLETE\.json"):
        rebuilt(tmp_path, "simulated:1")


@pytest.fixture
def tiles(monkeypatch):
    """A tile server and a SAR service; the configuration that builds from both."""
    route = TileRoute(key="canary-tiles-key-57")
    place = Place(grid=BLOCK.window(-200, -200, 528, 528))
    with Server({"/*": route}) as server, StacServer(places=[place]) as stac:
        for name, value in (stac.environment | {"SAR1M_TILES_KEY": route.key}).items():
            monkeypatch.setenv(name, value)
        keys = KEYS | {
            "area.optical": "tiles",
            "area.tiles_url": f"{server.url}/{{z}}/{{x}}/{{y}}.png?key={{key}}",
            "area.first": "2023-06-01",
            "area.last": "2023-07-01",
            "registration.correct": "none",
        }
        yield override(BuildConfig(), [f"{key}={value}" for key, value in keys.items()]), route


def test_recipes_give_the_pixels_they_promise(tiles, tmp_path):
    config, route = tiles
    region = box_inside(BLOCK)
    request = BuildRequest(region=region, out=tmp_path / "b", config=config, workers=WorkersSettings(workers=0))
    build(request, Silence())
    release([tmp_path / "b"], tmp_path / "r", recipes=True)
    assert lock_of(tmp_path / "r")["optical_hash"].isna().all()
    served = len(route.served)
    found = rebuilt(tmp_path / "r", region)
    assert (found.faults, found.recipes, len(found.compared)) == ((), 4, 4)
    assert len(route.served) > served
    forged = edited(
        tmp_path / "r", tmp_path / "f", "recipes.parquet", "expected_hash", lambda old: [*old[:-1], "0" * 32]
    )
    (fault,) = rebuilt(forged, region).faults
    assert fault.found == "built again, its recipe's optical pixels differ"


def test_a_source_that_fails_is_a_fault_of_its_samples(tiles, tmp_path, monkeypatch):
    config, _route = tiles
    region = box_inside(BLOCK)
    request = BuildRequest(region=region, out=tmp_path / "b", config=config, workers=WorkersSettings(workers=0))
    build(request, Silence())
    release([tmp_path / "b"], tmp_path / "r", recipes=True)
    monkeypatch.setenv("SAR1M_TILES_KEY", "canary-wrong-key-58")
    found = rebuilt(tmp_path / "r", region)
    assert len(found.faults) == len(found.compared) == 4
    assert {fault.found[:23] for fault in found.faults} == {"cannot be built again: "}, found.faults
    assert all("403 Forbidden" in fault.found for fault in found.faults)
    assert "canary" not in str(found.faults)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["s3://bucket/sar-1m", "--rebuild", 2, "--source", "sample"], "sar1m get s3://bucket/sar-1m FOLDER"),
        (["anywhere", "--rebuild", 2], "give --source too"),
        (["anywhere", "--rebuild", 2, "--source", "sample"], "--rebuild are of releases"),
    ],
)
def test_what_cannot_be_made_again_is_said_before_anything_is_read(sar1m, arguments, words):
    code, _, err = sar1m("verify", *arguments)
    assert code == 2
    assert words in " ".join(err.split())
