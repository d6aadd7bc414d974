"""Clicks through the page in headless Chromium: what a reader does must work, and nothing may be fetched or fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from selenium import webdriver

from sar1m.page.build_page import render_report
from support.headless import MARKS, assert_foreign_content_is_refused, browser, click, requests_of
from support.miniature_store import build_store

pytestmark = MARKS


@pytest.fixture(scope="module")
def opened(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    folder = tmp_path_factory.mktemp("page")
    page = folder / "index.html"
    (folder / "store").mkdir()
    page.write_text(render_report(build_store(folder / "store")), encoding="utf-8")
    with browser(folder / "profile") as driver:
        driver.get(page.as_uri())
        yield driver


@pytest.fixture
def page(opened):
    """The page as freshly read."""
    opened.refresh()
    return opened


def by_id(page, name):
    return page.find_element("css selector", f"#{name}")


def choose(page, name, value):
    page.execute_script(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.dispatchEvent(new Event('change'))",
        name,
        value,
    )


def seam_px(page):
    """Where the optical picture begins, from the left of the pictures, as the browser lays it out."""
    return page.execute_script(
        "return document.getElementById('divider').getBoundingClientRect().left"
        " - document.getElementById('swipe').getBoundingClientRect().left"
    )


def test_the_page_runs_without_errors_and_requests(page):
    asked = requests_of(page, page.current_url)
    assert page.current_url in asked, "the log must at least show the page itself"
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert page.get_log("browser") == []


def test_the_policy_forbids_what_is_not_ours(page):
    assert_foreign_content_is_refused(page)


def test_pictures_are_decoded_and_a_paired_sample_comes_first(page):
    sizes = page.execute_script(
        "return ['sar-image', 'optical-image'].map(id => document.getElementById(id).naturalWidth)"
    )
    assert sizes == [32, 32]


def test_swipe_moves_by_keyboard_and_by_mouse(page):
    swipe, width = by_id(page, "swipe-range"), by_id(page, "swipe").size["width"]
    before = seam_px(page)
    swipe.send_keys(webdriver.Keys.ARROW_LEFT * 10)
    assert seam_px(page) == pytest.approx(before - 0.1 * width, abs=2)
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", swipe)
    webdriver.ActionChains(page).move_to_element_with_offset(swipe, int(0.3 * width), 0).click().perform()
    assert seam_px(page) == pytest.approx(0.8 * width, abs=0.04 * width)
    clip = page.execute_script("return getComputedStyle(document.getElementById('optical-image')).clipPath")
    assert clip.startswith("inset(0px 0px 0px ")
    assert "% SAR" in swipe.get_attribute("aria-valuetext")


@pytest.mark.campaign
def test_swipe_moves_by_touch(page):
    spot = page.execute_script(
        "const r = document.getElementById('swipe-range'); r.scrollIntoView({block: 'center', behavior: 'instant'});"
        "const b = r.getBoundingClientRect(); return [b.left, b.top + b.height / 2, b.width]"
    )
    left, y, width = spot
    touch = {"radiusX": 4, "radiusY": 4, "force": 1}
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.4), ("touchMove", 0.25), ("touchEnd", None)):
        points = [] if share is None else [{"x": left + share * width, "y": y, **touch}]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert seam_px(page) == pytest.approx(0.25 * width, abs=0.05 * width)


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [("split", "val", 1), ("site", "Polder 0", 3), ("paired", "no", 1), ("class", "Cropland", 3)],
)
def test_each_filter_changes_the_count_and_can_be_undone(page, name, value, left):
    choose(page, f"filter-{name}", value)
    assert by_id(page, "shown-count").text == f"{left} of 6 shown"
    visible = [thumb for thumb in page.find_elements("css selector", ".thumb") if thumb.is_displayed()]
    assert len(visible) == left
    click(page, page.find_element("css selector", "#filters button[type=reset]"))
    page.execute_async_script("setTimeout(arguments[0])")
    assert by_id(page, "shown-count").text == "6 of 6 shown"


@pytest.mark.campaign
def test_filters_that_leave_nothing_say_so(page):
    choose(page, "filter-split", "val")
    choose(page, "filter-paired", "no")
    assert by_id(page, "none-left").is_displayed()
    assert not by_id(page, "viewer").is_displayed()


def test_an_unpaired_sample_shows_sar_alone_and_says_why(page):
    choose(page, "filter-paired", "no")
    assert not by_id(page, "optical-image").is_displayed()
    assert not by_id(page, "swipe-range").is_displayed()
    assert "no optical partner (cloud)" in by_id(page, "why").text
    assert by_id(page, "sample-name").text == "patch_001_S1A"


@pytest.mark.campaign
def test_next_previous_and_keys_walk_in_a_circle(page):
    names = [by_id(page, "sample-name").text]
    for _ in range(6):
        click(page, by_id(page, "next"))
        names.append(by_id(page, "sample-name").text)
    assert len(set(names)) == 6
    assert names[6] == names[0]
    click(page, by_id(page, "previous"))
    assert by_id(page, "sample-name").text == names[5]
    by_id(page, "next").send_keys("n")
    assert by_id(page, "sample-name").text == names[0]
    by_id(page, "swipe-range").send_keys("p")
    assert by_id(page, "sample-name").text == names[5]


def test_a_click_on_the_map_opens_that_sample_even_if_filtered_out(page):
    choose(page, "filter-split", "val")
    rings = page.find_elements("css selector", "svg.map .pick")
    names = page.execute_script(
        "return JSON.parse(document.getElementById('browser-content').textContent).samples.map(s => s.id)"
    )
    wanted = names.index("patch_002_S1A")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", rings[wanted])
    webdriver.ActionChains(page).move_to_element(rings[wanted]).click().perform()
    page.execute_async_script("setTimeout(arguments[0], 50)")
    assert by_id(page, "sample-name").text == "patch_002_S1A"
    assert by_id(page, "shown-count").text == "6 of 6 shown"
    cursor = page.find_element("css selector", "svg.map .cursor")
    assert float(cursor.get_attribute("cx")) == pytest.approx(float(rings[wanted].get_attribute("cx")), abs=0.1)


@pytest.mark.campaign
def test_every_column_is_listed_with_its_meaning(page):
    rows = page.execute_script(
        "return [...document.querySelectorAll('#columns tr')].map(r => [...r.children].map(c => c.textContent))"
    )
    cells = {name: (value, meaning) for name, value, meaning in rows}
    assert cells["gsd_m"] == ("10 m", "pixel spacing")
    assert cells["platform"][0] == "–"
    assert cells["land_cover"][0] == "Tree cover 100 %"


@pytest.mark.campaign
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_sticks_out_at_any_width(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    try:
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        mark = "return document.querySelector('svg.map .mark.train').getBoundingClientRect().width"
        assert page.execute_script(mark) > 5, "a mark must be seen on a phone too"
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
