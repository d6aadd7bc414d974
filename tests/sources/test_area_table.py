"""The plan as a file: the same work items come out, and what does not fit is refused."""

import json
import os
from dataclasses import replace
from datetime import date
from itertools import zip_longest

import pyarrow.parquet as pq
import pytest

from sar1m.config import AreaConfig, BuildConfig, DownloadConfig, PixelsConfig
from sar1m.sources.area import plan_table
from sar1m.sources.area.plan_table import PlanTableSource, read_plan_table, write_plan_table
from sar1m.sources.area.pricing import PRICE_COLUMNS, price_rows
from sar1m.sources.area.source import AreaSource
from sar1m.sources.regions.region import parse_region
from sar1m.sources.scene import Asset
from sar1m.store.errors import ConfigError, SourceError
from support.fake_service import FakeService
from support.hang_guard import hang_guard

AREA = AreaConfig(first=date(2023, 3, 1), last=date(2023, 4, 1), scenes_per_cell=2, max_scene_cloud_frac=0.1)
CONFIG = BuildConfig(area=AREA)
CANARY = "canary-7f3a9c"


def area_source(text="-9,38,-8,39"):
    return AreaSource(parse_region(text), FakeService(), FakeService())


def written(path, config=CONFIG, source=None):
    source = source or area_source()
    plan = source.plan(config)
    prices = price_rows(plan, source.sar, source.optical, config)
    write_plan_table(path, plan, prices, config)
    return plan, prices


def test_the_file_gives_the_work_items_of_a_direct_run(tmp_path):
    """Some cells find no scene, some no partner: all of it survives."""
    path = tmp_path / "plan.parquet"
    source = area_source()
    one_way = replace(source, sar=FakeService(directions=("ascending",), revisit_days=(40, 5)))
    plan, _ = written(path, source=one_way)
    assert plan.cell.size > 0
    assert (plan.cell_reason != "taken").any()
    assert 0 < plan.paired < plan.cell.size
    stored = PlanTableSource(path, one_way)
    expected, found = list(one_way.candidates(CONFIG)), list(stored.candidates(CONFIG))
    assert all(a == b for a, b in zip_longest(expected, found))
    assert list(stored.remarks) == plan.remarks(2)
    again = read_plan_table(path, CONFIG)
    assert (again.searches, again.found, again.row.size) == (plan.searches, plan.found, plan.row.size)


def test_the_same_plan_gives_the_same_bytes(tmp_path):
    written(tmp_path / "a.parquet")
    written(tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_rows_are_fit_to_read_and_add_up(tmp_path):
    plan, prices = written(tmp_path / "plan.parquet")
    table = pq.read_table(tmp_path / "plan.parquet").to_pydict()
    assert len(table["cell"]) == plan.cell.size
    for name in PRICE_COLUMNS:
        assert sum(value or 0 for value in table[name]) == pytest.approx(getattr(prices.total, name))
    assert table["item_id"][0] == f"{table['sar_scene'][0]}_{table['cell'][0]}"
    assert set(table["reason"]) <= {"paired", *area_table_reasons()}
    assert json.loads(table["sar_json"][0])["scene_id"] == table["sar_scene"][0]
    paired = next(n for n, scene in enumerate(table["optical_scene"]) if scene)
    assert 0 < abs(table["dt_hours"][paired]) <= 15 * 24


def area_table_reasons():
    from sar1m.sources.area.scene_plan import CELL_WORDS, PARTNER_WORDS  # noqa: PLC0415 - beside its one use

    return {*CELL_WORDS, *PARTNER_WORDS}


def test_rows_may_be_taken_out(tmp_path):
    path = tmp_path / "plan.parquet"
    plan, _ = written(path)
    whole = {one.item_id: one for one in plan.candidates(CONFIG)}
    table = pq.read_table(path)
    pq.write_table(table.slice(5, 20), path)
    kept = list(read_plan_table(path, CONFIG).candidates(CONFIG))
    assert len(kept) == 20
    assert all(whole[one.item_id] == one for one in kept)


def test_an_empty_plan_is_a_plan(tmp_path):
    path = tmp_path / "plan.parquet"
    source = replace(area_source(), sar=FakeService(directions=()))
    plan, _ = written(path, source=source)
    again = read_plan_table(path, CONFIG)
    assert again.cell.size == 0
    assert again.remarks(1) == plan.remarks(1) != []


@pytest.mark.parametrize(
    "other",
    [
        BuildConfig(area=AREA.model_copy(update={"pair_days": 3.0})),
        BuildConfig(area=AREA, pixels=PixelsConfig(optical_bands=("B08",))),
    ],
)
def test_another_configuration_is_refused(tmp_path, other):
    written(tmp_path / "plan.parquet")
    with pytest.raises(ConfigError, match="planned with another configuration"):
        read_plan_table(tmp_path / "plan.parquet", other)


def test_thresholds_and_budgets_may_differ(tmp_path):
    plan, _ = written(tmp_path / "plan.parquet")
    other = CONFIG.model_copy(update={"download": DownloadConfig(max_gb=1.0)})
    assert read_plan_table(tmp_path / "plan.parquet", other).cell.size == plan.cell.size


def test_another_version_is_refused(tmp_path, monkeypatch):
    written(tmp_path / "plan.parquet")
    monkeypatch.setattr(plan_table, "PLAN_VERSION", 3)
    with pytest.raises(ConfigError, match=r"a plan of version 2 .* reads version 3"):
        read_plan_table(tmp_path / "plan.parquet", CONFIG)


def test_another_region_or_service_is_refused(tmp_path):
    written(tmp_path / "plan.parquet")
    for other in (area_source("-9,38,-8,38.5"), replace(area_source(), optical=None)):
        with pytest.raises(ConfigError, match="Give the plan's region and services"):
            PlanTableSource(tmp_path / "plan.parquet", other).candidates(CONFIG)


def test_what_is_no_plan_is_refused(tmp_path):
    path = tmp_path / "plan.parquet"
    with pytest.raises(ConfigError, match="there is no such file"):
        read_plan_table(path, CONFIG)
    os.mkfifo(path)
    with hang_guard(stuck_s=20), pytest.raises(ConfigError, match="is a pipe"):
        read_plan_table(path, CONFIG)
    path.unlink()
    path.write_bytes(b"PAR1 and nothing more")
    with pytest.raises(ConfigError, match="not a plan"):
        read_plan_table(path, CONFIG)
    written(path)
    table = pq.read_table(path)
    pq.write_table(table.replace_schema_metadata(None), path)
    with pytest.raises(ConfigError, match="not a plan"):
        read_plan_table(path, CONFIG)


@pytest.mark.parametrize("column", ["sar_json", "cell"])
def test_damaged_rows_are_refused(tmp_path, column):
    path = tmp_path / "plan.parquet"
    written(path)
    table = pq.read_table(path)
    broken = table.drop_columns([column]).append_column(column, [["nonsense"] * table.num_rows])
    pq.write_table(broken.replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(SourceError, match=r"plan\.parquet"):
        read_plan_table(path, CONFIG)


@pytest.mark.parametrize(
    "href",
    [
        f"https://blob.example/VV.tif?sv=2020&sig={CANARY}",
        f"https://s3.example/VV.tif?X-Amz-Signature={CANARY}",
        f"https://user:{CANARY}@example.org/VV.tif",
        f"https://example.org/VV.tif?token={CANARY}",
    ],
)
def test_a_signed_address_is_never_written(tmp_path, href):
    source = area_source()
    plan = source.plan(CONFIG)
    prices = price_rows(plan, source.sar, source.optical, CONFIG)
    scenes = (replace(plan.scenes[0], assets=(Asset(name="VV", href=href),)), *plan.scenes[1:])
    with pytest.raises(SourceError, match="carries a signature or a password") as refused:
        write_plan_table(tmp_path / "plan.parquet", replace(plan, scenes=scenes), prices, CONFIG)
    assert CANARY not in str(refused.value)
    assert list(tmp_path.iterdir()) == []
