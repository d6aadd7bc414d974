"""What planning costs: a country, a million cells, the plan's file; and what three routes to the same pairs would cost.

python tests/benchmarks/bench_plan.py [--quick]
Services of scenes are asked in memory and answer at once (tests/support/fake_service.py), so that all time is ours or
theirs to make up scenes; prices are those of the real services' adapters, which ask nobody to tell them.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from measure import MIB, Section, run_command, run_with_one_thread, write_results
from plan_routes import Route, price_route, route_table

sys.path.insert(0, str(Path(__file__).parents[1]))  # what the tests share

from sar1m.config import BuildConfig
from sar1m.core.grid import block_grids, cells_at, make_cells
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.sources.area.plan_table import read_plan_table, write_plan_table
from sar1m.sources.area.pricing import Pace, price_rows
from sar1m.sources.area.scene_plan import AreaPlan
from sar1m.sources.area.source import AreaSource
from sar1m.sources.regions.countries import countries
from sar1m.sources.regions.region import Region, parse_region
from sar1m.sources.scene import Asset, Query, Scene
from sar1m.sources.services.registry import open_service
from support.fake_service import FakeService

CONFIG = BuildConfig()
PACE = Pace(mbit=200.0, workers=2)
MILLION_CELLS_NORTH = 57.3  # land from 60 S to here has 1.17 million cells
MILLION_PAIRS_BLOCKS = 62_500


class Timed(FakeService):
    """Adds up what making up scenes takes."""

    spent_s = 0.0

    def search(self, query: Query) -> Any:
        """See FakeService."""
        start = time.process_time()
        found = list(super().search(query))
        Timed.spent_s += time.process_time() - start
        return iter(found)


def region_of(name: str) -> Region:
    if name != "land":
        return parse_region(name)
    land = shapely.union_all([country.geometry for country in countries() if country.alpha_3 != "ATA"])
    cut = shapely.intersection(land, shapely.box(-180, -60, 180, MILLION_CELLS_NORTH))
    parts = [part for part in shapely.get_parts(cut).tolist() if part.area > 0]
    return Region(kind="area", label="land", argument="land", geometry=shapely.MultiPolygon(parts))


def measure(name: str) -> dict[str, Any]:
    """One region, in a process of its own."""
    service = Timed()
    source = AreaSource(region_of(name), service, service)
    wall, cpu = time.perf_counter(), time.process_time()
    plan = source.plan(CONFIG)
    facts: dict[str, Any] = {"plan wall, s": time.perf_counter() - wall, "plan CPU, s": time.process_time() - cpu}
    facts["of it the fake service, CPU-s"] = Timed.spent_s
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan.parquet"
        for what, work in (
            ("price, CPU-s", lambda: facts.update(prices=price_rows(plan, service, service, CONFIG))),
            ("write, CPU-s", lambda: write_plan_table(path, plan, facts.pop("prices"), CONFIG)),
            ("read, CPU-s", lambda: read_plan_table(path, CONFIG)),
            ("work items, CPU-s", lambda: sum(1 for _ in plan.candidates(CONFIG))),
        ):
            cpu = time.process_time()
            work()
            facts[what] = time.process_time() - cpu
        facts["file, MB"] = path.stat().st_size / 1e6
    facts["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MIB
    return {"region": name, **counts(plan), **facts}


def counts(plan: AreaPlan) -> dict[str, Any]:
    """Cells and scenes; spread: scenes that 62,500 cells taken evenly over the region would need, (SAR, optical)."""
    wanted = np.zeros(plan.row.size, dtype=np.bool_)
    some = min(plan.row.size, MILLION_PAIRS_BLOCKS)
    wanted[np.linspace(0, plan.row.size - 1, some).astype(np.int64)] = True
    rows = wanted[plan.cell]
    spread = [int(np.unique(numbers[rows & (numbers >= 0)]).size) for numbers in (plan.sar, plan.optical)]
    return {
        "cells": plan.row.size,
        "blocks": int(plan.cell.size),
        "paired": plan.paired,
        "SAR scenes": int(np.unique(plan.sar).size),
        "optical scenes": int(np.unique(plan.optical[plan.optical >= 0]).size),
        "searches": plan.searches,
        "scenes found": plan.found,
        "spread": spread,
    }


def example(kind: str) -> Scene:
    """A scene with the assets that the adapters price by."""
    query = Query(kind="sar" if kind == "sar" else "optical", box=(10, 50, 11, 51), first=_day(1), last=_day(28))
    scene = next(FakeService().search(query))
    more = ("product", "image", "cs_cdf")
    return replace(scene, assets=(*scene.assets, *(Asset(name=name, href="https://example.org/x") for name in more)))


def _day(number: int) -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime(2023, 3, number, tzinfo=UTC)


def routes(scenes: tuple[int, int]) -> list[Route]:
    """The three of the issue; scenes: SAR and optical ones that share."""
    names = {
        "Earth Engine, a request a block": ("earthengine", "earthengine"),
        "Planetary Computer, windows": ("planetary-computer", "planetary-computer"),
        "SAFE from CDSE, windows of the partner": ("cdse", "planetary-computer"),
    }
    (grid,) = block_grids(make_cells(*cells_at([10.5], [50.5])), CONFIG.grid)
    halo = CONFIG.grid.halo_px
    wide = grid.window(-halo, -halo, grid.rows + 2 * halo, grid.cols + 2 * halo)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        fetcher = Fetcher(FetchSettings(Path(folder), CONFIG.download))
        for title, (sar, optical) in names.items():
            prices = [
                open_service(name, CONFIG, fetcher).price(replace(example(kind), service=name), wide, CONFIG)
                for name, kind in ((sar, "sar"), (optical, "optical"))
            ]
            found.append(
                Route(name=title, sar=prices[0], optical=prices[1], sar_scenes=scenes[0], optical_scenes=scenes[1])
            )
    return found


def priced(title: str, blocks: int, scenes: tuple[int, int]) -> str:
    """One table with its arithmetic."""
    rows = [price_route(route, blocks, CONFIG, PACE) for route in routes(scenes)]
    lines = [f"## {title}\n", route_table(rows), ""]
    for row in rows:
        lines += [f"{row.name}:", *(f"- {line}" for line in row.arithmetic)]
        lines += [f"- {stage.name}: {stage.arithmetic}" for stage in row.stages[:2]] + [""]
    return "\n".join(lines)


def main() -> None:
    """Runs everything, or one region for its parent process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Portugal and Brazil alone; writes no results")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--to", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        asked.to.write_text(json.dumps(measure(asked.measure)), encoding="utf-8")
        return
    run_with_one_thread()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("portugal", "brazil") if asked.quick else ("portugal", "brazil", "land"):
            target = Path(folder) / name
            run_command([sys.executable, __file__, "--measure", name, "--to", str(target)])
            rows.append(json.loads(target.read_text(encoding="utf-8")))
    report(rows, quick=asked.quick)


def report(rows: list[dict[str, Any]], *, quick: bool) -> None:
    """Writes or prints what was measured, and the prices."""
    spread = rows[-1]["spread"]
    shown = [{name: value for name, value in row.items() if name != "spread"} for row in rows]
    note = (
        "A year of Sentinel-1 (12 days, both directions) and Sentinel-2 (5 days, up to 20 % cloud), one process, "
        f"one thread. land: 60 S to {MILLION_CELLS_NORTH} N without Antarctica. Goals: a country under 60 s, a million "
        "cells under 120 s and 2,048 MiB. work items: the plan's candidates, made one by one and thrown away."
    )
    portugal, last = rows[0], rows[-1]
    share = MILLION_PAIRS_BLOCKS / last["blocks"]
    whole = (round(last["SAR scenes"] * share), round(last["optical scenes"] * share))
    prices = [
        priced(
            f"Portugal: {portugal['blocks']:,} blocks, {portugal['blocks'] * 16:,} pairs",
            portugal["blocks"],
            (portugal["SAR scenes"], portugal["optical scenes"]),
        ),
        priced("1,000,000 pairs worldwide, in whole regions", MILLION_PAIRS_BLOCKS, whole),
        priced("1,000,000 pairs worldwide, evenly over the land", MILLION_PAIRS_BLOCKS, (spread[0], spread[1])),
    ]
    sys.stdout.write("\n".join([json.dumps(shown, indent=1), *prices]) + "\n")
    if quick:
        return
    write_results(
        "plan",
        "Planning and its prices",
        "python tests/benchmarks/bench_plan.py",
        [Section(title="Planning", note=note, rows=_turned(shown))],
    )
    path = Path(__file__).parent / "results/plan.md"
    path.write_text("\n".join([path.read_text(encoding="utf-8"), ASSUMPTIONS, *prices]), encoding="utf-8")


ASSUMPTIONS = f"""## Assumptions of the prices

- Every block is paired and all its 16 patches are kept; what screening rejects comes off.
- The line carries {PACE.mbit:g} Mbit/s; {PACE.workers} workers; 20 requests a second, 8 at once, 0.3 s each (assumed).
- Scenes: as the made-up year above chooses them; a real catalogue differs. Whole regions: as many scenes a block as all
  land needs. Evenly: one block here and there, so that a whole product serves few blocks.
- Earth Engine: bytes as computed, uncompressed; quota units are EECU-seconds, assumed, not measured
  (sources/services/earthengine.py).
- Windows: tiles of 512 px that a block meets in the mean, a request each (sources/services/cog.py).
- A SAFE product: 1.0 GB, fetched once. Its DEM is not in the price.
- Read, prepare, pack: CPU seconds measured (sources/pricing.py names the tables). Windows read SAR at the rate measured
  for five optical bands.
- Store: measured on simulated pairs, see sources/pricing.py.
"""


def _turned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One column a region."""
    return [{"what": name, **{row["region"]: row[name] for row in rows}} for name in rows[0] if name != "region"]


if __name__ == "__main__":
    main()
