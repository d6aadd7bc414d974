"""The Earth Engine service through the real client library, against a stand-in on 127.0.0.1."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import numpy as np
import pytest

from sar1m.config import BuildConfig
from sar1m.records import RasterGrid
from sar1m.sources.scene import Query, scene_from_text, scene_to_text
from sar1m.sources.services.earthengine import collections, images
from sar1m.sources.services.earthengine.session import Transport
from sar1m.store.errors import BudgetError, SourceError
from servers.earthengine import (
    INCIDENCE_DEG,
    EarthEngine,
    Ground,
    gaps,
    optical_scene,
    sar_scene,
)
from servers.earthengine_account import make_service, only_this_machine, set_account

BOX = (-9.2, 38.6, -9.0, 38.8)
GRID = RasterGrid(epsg=32629, left_m=480_000.0, top_m=4_290_000.0, gsd_m=10.0, rows=96, cols=112)
S1 = "S1A_IW_GRDH_1SDV_20230105T064201_20230105T064226_046650_05974E_0F5A"
S1_NEXT = "S1A_IW_GRDH_1SDV_20230117T064200_20230117T064225_046825_059D3C_8A21"
S1_VV = "S1A_IW_GRDH_1SSV_20230118T064200_20230118T064225_046825_059D3C_8A21"
S1_FAR = "S1A_IW_GRDH_1SDV_20230106T064201_20230106T064226_046664_0597C6_77AC"
S2 = "20230107T112441_20230107T112443_T29SMC"
S2_CLOUDY = "20230110T112441_20230110T112443_T29SMC"
S2_UNSCORED = "20230112T112441_20230112T112443_T29SMC"


def catalogue():
    box = (-9.5, 38.0, -8.5, 39.0)
    return [
        sar_scene(S1_NEXT, box),
        sar_scene(S1_VV, box),
        sar_scene(S1, box, gain=1.5, gaps=True),
        sar_scene(S1_FAR, (10.0, 38.0, 11.0, 39.0)),
        optical_scene(S2_UNSCORED, box, scored=False),
        optical_scene(S2_CLOUDY, box, CLOUDY_PIXEL_PERCENTAGE=81.0),
        optical_scene(S2, box, gaps=True),
    ]


@pytest.fixture(autouse=True)
def _only_this_machine(monkeypatch):
    with only_this_machine(monkeypatch):
        yield


@pytest.fixture
def account(monkeypatch, tmp_path):
    """Makes the service for a server, with a service account in the environment."""

    def service(server, **limits):
        set_account(server, tmp_path, monkeypatch)
        return make_service(tmp_path, **limits)

    return service


def query(kind, **changes):
    span = {"first": datetime(2023, 1, 1, tzinfo=UTC), "last": datetime(2023, 2, 1, tzinfo=UTC)}
    return Query(**{"kind": kind, "box": BOX, "max_cloud_frac": 0.2, **span, **changes})


def scenes(service, kind, **changes):
    return {scene.scene_id: scene for scene in service.search(query(kind, **changes))}


# ---- search ----


def test_a_search_gives_what_the_catalogue_knows(account):
    with EarthEngine(catalogue()) as server:
        found = list(account(server).search(query("sar")))
        assert [scene.scene_id for scene in found] == [S1, S1_NEXT]  # by time; VV alone, far and later ones left out
        scene = found[0]
        assert scene.acquired == datetime(2023, 1, 5, 6, 42, 1, tzinfo=UTC)
        assert (scene.platform, scene.orbit_state, scene.relative_orbit) == ("sentinel-1a", "descending", 7)
        assert (scene.sar_quantity, scene.polarisations, scene.datatake) == ("sigma0", ("VV", "VH"), "05974E")
        assert "not flattened" in scene.processing
        assert scene.footprint[0] == scene.footprint[-1] == (-9.5, 38.0)
        assert scene_from_text(scene_to_text(scene), "x") == scene
        assert server.count("value:compute") == 1


def test_optical_search_joins_cloud_scores(account):
    with EarthEngine(catalogue()) as server:
        found = scenes(account(server), "optical")
    assert list(found) == [S2, S2_UNSCORED]
    assert server.count("value:compute") == 1
    scene = found[S2]
    assert scene.asset("product").href == "S2A_MSIL2A_20230107T112441_N0509_R080_T29SMC_20230107T112443"
    assert scene.asset("cs_cdf").href == f"GOOGLE/CLOUD_SCORE_PLUS/V1/S2_HARMONIZED/{S2}"
    assert (scene.offset_dn, scene.cloud_frac, scene.processing_baseline) == (0, 0.075, "05.09")
    assert "Cloud Score+" in scene.attribution
    assert "Cloud Score+" not in found[S2_UNSCORED].attribution


def test_search_turns_pages_at_the_same_millisecond(account, monkeypatch):
    box = (-9.5, 38.0, -8.5, 39.0)
    names = [S1[:-4] + f"{number:04X}" for number in range(4)]  # all at one time
    later = [S1_NEXT[:-4] + f"{number:04X}" for number in range(7)]
    entries = [sar_scene(name, box) for name in names]
    entries += [
        sar_scene(name, box, **{"system:time_start": 1_674_000_000_000 + n // 2}) for n, name in enumerate(later)
    ]
    monkeypatch.setattr(collections, "PAGE_SCENES", 5)
    with EarthEngine(entries) as server:
        found = [scene.scene_id for scene in account(server).search(query("sar"))]
    assert found == names + later
    assert server.count("value:compute") == 3
    monkeypatch.setattr(collections, "PAGE_SCENES", 4)
    with EarthEngine(entries) as server, pytest.raises(SourceError, match="does not come to an end"):
        list(account(server).search(query("sar", first=datetime(2023, 1, 5, 6, 42, 1, tzinfo=UTC))))


def test_search_across_the_antimeridian(account):
    entries = [sar_scene(S1, (179.2, -17.0, 180.8, -16.0)), sar_scene(S1_NEXT, (-179.5, -17.0, -178.0, -16.0))]
    entries += [sar_scene(S1_FAR, (0.0, -17.0, 1.0, -16.0))]
    entries[0]["geometry"]["coordinates"][0] = [[179.2, -17], [-179.2, -17], [-179.2, -16], [179.2, -16], [179.2, -17]]
    with EarthEngine(entries) as server:
        found = scenes(account(server), "sar", box=(179.5, -16.9, 181.0, -16.1))
    assert list(found) == [S1, S1_NEXT]
    assert max(lon for lon, _ in found[S1].footprint) == pytest.approx(180.8)


@pytest.mark.parametrize(
    "answer",
    [
        {"result": []},
        {"result": {"scenes": {"features": [1]}}},
        {"result": {"scenes": {"features": [{"properties": {"system:index": "../../etc"}}]}}},
        {"result": {"scenes": {"features": [{"properties": {"system:index": S1, "system:time_start": "now"}}]}}},
        {"result": {"scenes": {"features": [{"properties": {"system:index": S1, "system:time_start": 1e12}}] * 3}}},
    ],
)
def test_a_strange_list_of_scenes_is_refused(account, answer):
    with EarthEngine(catalogue()) as server:
        server.faults["value:compute"] = [lambda asked, reply: type(reply)(body=json.dumps(answer).encode())]
        with pytest.raises(SourceError, match="earthengine"):
            list(account(server).search(query("sar")))


# ---- pixels ----


def expected_power(ground, entry, grid, gain):
    masked, outside = gaps(ground, entry, grid)
    return np.where(masked | outside, np.nan, (ground.power(grid) * np.float64(gain)).astype(np.float32))


def test_sar_block_is_the_simulated_truth(account):
    ground = Ground()
    with EarthEngine(catalogue(), ground) as server:
        service = account(server)
        scene = scenes(service, "sar")[S1]
        side = service.read_sar(scene, GRID, BuildConfig())
        assert server.count("computePixels") == 1
        sent = [asked.json() for asked in server.asked if asked.path.endswith("computePixels")]
    truth = expected_power(ground, server.scenes[2], GRID, 1.5)
    np.testing.assert_array_equal(side.sar, truth)
    assert np.isnan(side.sar).any()
    assert (side.sar < 0).any()  # noise removal leaves negative power, which is kept
    assert side.incidence_deg == pytest.approx(INCIDENCE_DEG, abs=0.005)
    assert sent[0]["workloadTag"] == "sar1m"
    assert sent[0]["grid"]["crsCode"] == "EPSG:32629"


def test_optical_block_is_the_simulated_truth(account):
    ground = Ground()
    with EarthEngine(catalogue(), ground) as server:
        service = account(server)
        scene = scenes(service, "optical")[S2]
        block = service.read_optical(scene, GRID, BuildConfig())
        assert server.count("computePixels") == 1
    masked, outside = gaps(ground, server.scenes[-1], GRID)
    missing = masked | outside
    truth = np.where(missing, np.nan, ground.digital(GRID).astype(np.float32) * np.float32(1e-4))
    np.testing.assert_array_equal(block.registration_optical, truth)
    np.testing.assert_array_equal(block.optical, truth[[2, 1, 0]])  # B04, B03, B02
    cloud = ground.cloud(GRID).copy()
    cloud[-4:] = False  # a score of 0.60 is clear
    np.testing.assert_array_equal(block.cloud, cloud | missing)
    assert block.cloud_source == "cloud_score_plus"
    np.testing.assert_array_equal(block.snow[:3], ~ground.cloud(GRID)[:3] & ~missing[:3])
    np.testing.assert_array_equal(block.water[3:], (ground.water(GRID) & ~ground.cloud(GRID) & ~missing)[3:])
    assert block.flags == frozenset()


def test_without_a_cloud_score_the_classes_show_clouds(account):
    ground = Ground()
    config = BuildConfig.model_validate({"pixels": {"optical_bands": ["B05", "B04"]}})
    with EarthEngine(catalogue(), ground) as server:
        service = account(server)
        block = service.read_optical(scenes(service, "optical")[S2_UNSCORED], GRID, config)
    np.testing.assert_array_equal(block.cloud, ground.cloud(GRID))
    assert block.cloud_source == "scl"
    assert block.flags == {"upsampled_b05"}
    np.testing.assert_allclose(block.optical[0], (ground.digital(GRID)[2] + 100) * 1e-4, rtol=1e-6)


@pytest.mark.parametrize("kind", ["sar", "optical"])
def test_no_pixel_is_mixed_with_no_data(account, kind):
    """Off the image's own lattice an interpolated pixel beside a gap is part nothing."""
    ground = Ground()
    box = (-9.5, 38.0, -8.5, 39.0)
    entry = (sar_scene if kind == "sar" else optical_scene)(
        S1 if kind == "sar" else S2, box, gaps=True, off_lattice=True
    )
    with EarthEngine([entry], ground) as server:
        service = account(server)
        (scene,) = service.search(query(kind))
        if kind == "sar":
            pixels, truth = service.read_sar(scene, GRID, BuildConfig()).sar, ground.power(GRID)
        else:
            pixels = service.read_optical(scene, GRID, BuildConfig()).registration_optical
            truth = ground.digital(GRID).astype(np.float32) * np.float32(1e-4)
    masked, outside = gaps(ground, entry, GRID)
    known = np.isfinite(pixels[0])
    np.testing.assert_array_equal(pixels[:, known], truth[:, known])
    assert known.sum() == GRID.rows * (GRID.cols - (masked | outside)[0].sum() - 2)


def test_one_request_a_block_and_kind_at_full_size(account):
    ground = Ground()
    grid = RasterGrid(epsg=32629, left_m=480_000.0, top_m=4_290_000.0, gsd_m=10.0, rows=1056, cols=1056)
    with EarthEngine(catalogue(), ground) as server:
        service = account(server, read_timeout_s=60.0)
        sar, optical = scenes(service, "sar")[S1_NEXT], scenes(service, "optical")[S2]
        before = service.fetcher.usage()
        config = BuildConfig()
        np.testing.assert_array_equal(service.read_sar(sar, grid, config).sar, ground.power(grid))
        service.read_optical(optical, grid, config)
        assert server.count("computePixels") == 2
        assert server.count("algorithms") == 1  # Initialize ran once
        used = service.fetcher.usage()
        price = service.price(sar, grid, config) + service.price(optical, grid, config)
    assert (price.requests, used.requests - before.requests) == (2, 2)
    assert price.bytes == 1056 * 1056 * (10 + 10)
    assert price.bytes <= used.bytes - before.bytes <= price.bytes + 1000
    assert used.units - before.units == pytest.approx(price.units)
    assert price.units > 0


def test_a_block_over_the_limit_goes_in_strips(account, monkeypatch):
    monkeypatch.setattr(images, "MAX_REQUEST_BYTES", 40 * GRID.cols * 10)
    ground = Ground(canvas=GRID)
    with EarthEngine(catalogue(), ground) as server:
        service = account(server)
        scene = scenes(service, "sar")[S1_NEXT]
        side = service.read_sar(scene, GRID, BuildConfig())
        assert server.count("computePixels") == service.price(scene, GRID, BuildConfig()).requests == 3
    np.testing.assert_array_equal(side.sar, ground.power(GRID))
    wide = RasterGrid(epsg=32629, left_m=0.0, top_m=0.0, gsd_m=10.0, rows=2, cols=40_000)
    with pytest.raises(SourceError, match=r"patches_per_side"):
        service.price(scene, wide, BuildConfig())


def test_the_usual_block_fits_one_request():
    for layout in (
        images.sar_layout(("VV", "VH")),
        images.optical_layout(("B02", "B03", "B04", "B08"), cloud_score=True),
    ):
        assert 1056 * 1056 * layout.itemsize < 12e6  # of 48 MB


def test_missing_polarisations_and_unknown_bands_are_named(account):
    with EarthEngine(catalogue()) as server:
        service = account(server)
        sar, optical = scenes(service, "sar")[S1], scenes(service, "optical")[S2]
        asked = len(server.asked)
        with pytest.raises(SourceError, match="asks for HH"):
            service.read_sar(sar, GRID, BuildConfig.model_validate({"area": {"polarisations": ["HH"]}}))
        with pytest.raises(SourceError, match="asks for B99"):
            service.read_optical(
                optical, GRID, BuildConfig.model_validate({"pixels": {"optical_bands": ["B99", "B04"]}})
            )
        assert len(server.asked) == asked


# ---- budgets, and once a process ----


def test_a_budget_refuses_before_the_request(account):
    with EarthEngine(catalogue()) as server:
        service = account(server, max_units=1.02)
        scene = scenes(service, "sar")[S1]  # 1 EECU-second
        with pytest.raises(BudgetError, match="max_units"):
            service.read_sar(scene, GRID, BuildConfig())
        assert server.count("computePixels") == 0


def test_never_more_than_forty_at_once(account):
    with EarthEngine() as server:
        transport = Transport(account(server, connections=200).fetcher.settings, server.url, server.project)
    assert transport._settings.limits.connections == 40


def test_a_pickled_service_reads_the_same_and_holds_no_secret(account):
    ground = Ground()
    with EarthEngine(catalogue(), ground) as server:
        service = account(server)
        scene = scenes(service, "sar")[S1_NEXT]
        pickled = pickle.dumps(service)
        assert b"canary" not in pickled
        again = pickle.loads(pickled)  # noqa: S301  our own
        np.testing.assert_array_equal(again.read_sar(scene, GRID, BuildConfig()).sar, ground.power(GRID))
        assert server.count("algorithms") == 1


def test_threads_of_a_worker_share_one_session(account):
    ground = Ground()
    grids = [GRID.window(0, 100 * number, GRID.rows, GRID.cols) for number in range(8)]
    with EarthEngine(catalogue(), ground) as server:
        service = account(server, read_timeout_s=60.0)
        (scene,) = collections.parse_page({"scenes": {"features": [server.scenes[0]]}}, "sar")
        with ThreadPoolExecutor(4) as pool:
            sides = list(pool.map(lambda grid: service.read_sar(scene, grid, BuildConfig()), grids))
        assert server.count("algorithms") == 1
        assert server.count("computePixels") == 8
    for grid, side in zip(grids, sides, strict=True):
        np.testing.assert_array_equal(side.sar, ground.power(grid))


def test_an_expired_token_is_renewed(account):
    with EarthEngine(catalogue()) as server:
        service = account(server)
        scene = scenes(service, "sar")[S1_NEXT]
        server.reject_token()
        service.read_sar(scene, GRID, BuildConfig())
        assert server.count("/token") == 2
