"""Prices: sums by hand, budgets that refuse, and the table that documents show."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from benchmarks.plan_routes import Route, price_route, route_table
from sar1m.config import AreaConfig, BuildConfig, DownloadConfig, PixelsConfig
from sar1m.sources.area.pricing import (
    Pace,
    chunk_bytes,
    duration,
    price_rows,
    require_within,
    summary,
    total,
)
from sar1m.sources.area.source import AreaSource
from sar1m.sources.regions.region import parse_region
from sar1m.sources.scene import Price
from sar1m.store.errors import ConfigError
from support.fake_service import FakeService

CONFIG = BuildConfig(area=AreaConfig(first=date(2023, 3, 1), last=date(2023, 4, 1)))
PIXELS = 1056 * 1056  # a block of 1024 px with a halo of 16


@pytest.fixture(scope="module")
def priced():
    source = AreaSource(parse_region("-9,38,-8,39"), FakeService(), FakeService(name="fake"))
    plan = source.plan(CONFIG)
    return plan, price_rows(plan, source.sar, source.optical, CONFIG)


def test_totals_are_the_sums_of_what_the_services_ask(priced):
    """The fake service's prices are flat, so that they can be added up by hand."""
    plan, prices = priced
    blocks, paired = plan.cell.size, plan.paired
    optical_scenes = len({plan.scenes[number].scene_id for number in plan.optical[plan.optical >= 0]})
    price = prices.total
    assert 0 < paired < blocks
    assert price.requests == 2 * blocks + 4 * paired + optical_scenes
    assert price.bytes == PIXELS * (8 * blocks + 8 * paired)
    assert price.shared_bytes == 1e6 * optical_scenes
    assert price.units == 0.5 * blocks


def test_a_scene_is_paid_once(priced):
    """In the first row that uses it."""
    plan, prices = priced
    paying = np.flatnonzero(prices.columns["shared_bytes"])
    first = {number: row for row, number in reversed(list(enumerate(plan.optical.tolist()))) if number >= 0}
    assert sorted(first.values()) == paying.tolist()


def test_the_totals_of_a_plan(priced):
    plan, prices = priced
    totals = total(plan, prices, CONFIG, Pace(mbit=100, workers=4))
    assert totals.patches == 16 * plan.cell.size
    assert totals.paired_patches == 16 * plan.paired
    assert totals.cells == totals.cells_left_out + plan.cell.size
    sar, optical = chunk_bytes(CONFIG)
    assert totals.disk_bytes == pytest.approx(totals.patches * sar + totals.paired_patches * optical)
    assert totals.staged_bytes > totals.disk_bytes
    assert [stage.name for stage in totals.stages] == ["search", "download", "read", "prepare", "pack"]
    assert totals.stages[1].seconds >= totals.down_bytes * 8 / 100e6
    assert any(line.startswith("down: ") for line in summary(totals))


def test_sar_products_cost_calibration_and_windows_do_not(priced):
    plan, prices = priced
    windows = total(plan, prices, CONFIG, Pace()).stages[2]
    products = total(plan, replace(prices, whole_products=True), CONFIG, Pace()).stages[2]
    assert products.seconds == pytest.approx(windows.seconds * (12.1 + 6.1) / (2 * 6.1))


def test_chunks_grow_with_pixels_channels_and_depth():
    sar, optical = chunk_bytes(BuildConfig())
    archive = BuildConfig(pixels=PixelsConfig(profile="archive"))
    four = BuildConfig(pixels=PixelsConfig(optical_bands=("B02", "B03", "B04", "B08")))
    assert chunk_bytes(archive) == (sar, 2 * optical)
    assert chunk_bytes(four) == (sar, pytest.approx(optical * 4 / 3))
    assert 0.5 < sar / (2 * 2 * 256 * 256) < 0.7  # lz4 takes 16-bit decibels of speckle to some 60 %


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_gb": 0.001}, r"GB down planned, download\.max_gb = 0\.001"),
        ({"max_requests": 3}, r"requests planned, download\.max_requests = 3"),
        ({"max_units": 0.5}, r"quota units planned, download\.max_units = 0\.5"),
        ({"max_units": 0.5, "max_requests": 3}, r"max_requests = 3; .*max_units = 0\.5"),
    ],
)
def test_budgets_refuse_before_the_first_byte(priced, limits, words):
    plan, prices = priced
    totals = total(plan, prices, CONFIG, Pace())
    with pytest.raises(ConfigError, match=words):
        require_within(totals, DownloadConfig(**limits))


def test_budgets_allow_what_they_hold(priced):
    plan, prices = priced
    totals = total(plan, prices, CONFIG, Pace())
    requests = int(totals.price.requests) + totals.searches
    require_within(totals, DownloadConfig())
    require_within(totals, DownloadConfig(max_requests=requests, max_gb=totals.down_bytes / 1e9))
    with pytest.raises(ConfigError, match="over the budget"):
        require_within(totals, DownloadConfig(max_requests=requests - 1))


def test_a_route_by_hand():
    route = Route(
        name="products",
        sar=Price(requests=0, bytes=0, shared_bytes=1e9),
        optical=Price(requests=10, bytes=2e6, units=0.5),
        sar_scenes=3,
        optical_scenes=7,
    )
    row = price_route(route, 100, CONFIG, Pace(mbit=100, workers=1))
    assert (row.requests, row.down_bytes, row.units) == (1003, 3.2e9, 50)
    assert row.stages[0].seconds == pytest.approx(3.2e9 * 8 / 100e6)
    assert row.stages[1].seconds == pytest.approx(1.6 * (12.1 + 6.1))
    assert row.arithmetic[1] == "down: 100 x 2.00 MB + 3 x 1,000 MB = 3.2 GB"
    table = route_table([row])
    assert "| products | 1,003 | 3.20 | 0.52 | 50 | 4.27 min | " in table


@pytest.mark.parametrize(("seconds", "words"), [(3, "3 s"), (130, "2.17 min"), (7300, "2.03 h"), (2e6, "23.1 d")])
def test_durations(seconds, words):
    assert duration(seconds) == words
