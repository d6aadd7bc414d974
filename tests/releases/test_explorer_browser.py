"""Clicks through the page of a release in headless Chromium: what it selects is what pandas selects."""

import json
import re
import time
from urllib.parse import quote

import numpy as np
import pytest
from selenium import webdriver

from sar1m.releases.explorer.explorer_page import page_files
from support.explorer_tables import made_facts, made_pictures, made_samples
from support.headless import MARKS, assert_foreign_content_is_refused, browser, click, requests_of, served
from support.made_releases import lock_of, samples_of
from support.release_facts import small_release

pytestmark = MARKS
LONELY = 1234  # number of a sample with nobody near it
EVIL = "</script><img src=x onerror=window.evil=1>"


@pytest.fixture(scope="module")
def table():
    samples = made_samples(3000)
    samples.loc[5, "sample_id"] = EVIL
    near = samples["lon"].between(-170, -110) & samples["lat"].between(-50, 10)
    samples.loc[near, "lon"] += 80
    samples.loc[LONELY, ["lon", "lat"]] = (-140.0, -20.0)
    return samples


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    root = tmp_path_factory.mktemp("made")
    for name, content in page_files(made_facts(root, table), made_pictures(table, 400)).items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(content)
    return root


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile"), "--window-size=1440,1000") as driver:
        yield driver


@pytest.fixture
def page(driver, folder):
    return at(driver, (folder / "report/index.html").as_uri())


def at(driver, address):
    driver.get("about:blank")
    driver.get(address)
    wait(driver, "return document.documentElement.dataset.ready === 'all'")
    return driver


def wait(driver, script, *values):
    """The script's value as soon as it is true."""
    for _ in range(300):
        found = driver.execute_script(script, *values)
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"never true: {script}")


def by_id(page, name):
    return page.find_element("css selector", f"#{name}")


def count(page):
    return int(by_id(page, "shown-count").text.replace(",", ""))


def tick(page, facet, value):
    page.execute_script(
        "const box = [...document.querySelectorAll(`input[data-facet=${arguments[0]}]`)]"
        ".find((one) => one.dataset.value === arguments[1]); box.click()",
        facet,
        value,
    )


def set_range(page, metric, end, value):
    page.execute_script(
        "const box = document.querySelector(`input[data-metric='${arguments[0]}'][data-end=${arguments[1]}]`);"
        "box.value = arguments[2]; box.dispatchEvent(new Event('change'))",
        *(metric, end, str(value)),
    )
    page.execute_async_script("setTimeout(arguments[0], 60)")


def search(page, text):
    page.execute_script(
        "const box = document.getElementById('search'); box.value = arguments[0];box.dispatchEvent(new Event('input'))",
        text,
    )
    page.execute_async_script("setTimeout(arguments[0], 250)")


def name_shown(page):
    return by_id(page, "sample-name").text


def facts_shown(page):
    """Texts of the provenance by their names, as soon as they belong to the sample on top."""
    pairs = (
        "return [...document.querySelectorAll('#provenance .facts > div')]"
        ".map((one) => [...one.children].map((cell) => cell.textContent))"
    )
    return dict(wait(page, pairs))


def seam_px(page):
    return page.execute_script(
        "return document.getElementById('divider').getBoundingClientRect().left"
        " - document.getElementById('swipe').getBoundingClientRect().left"
    )


# ---- opening ----


def test_from_a_file_it_runs_without_errors_and_requests(driver, folder):
    driver.get_log("performance")
    driver.get_log("browser")
    page = at(driver, (folder / "report/index.html").as_uri())
    asked = requests_of(page, page.current_url.split("#")[0])
    here = folder.as_uri() + "/report/"
    assert {f"{here}index.html", f"{here}core.js", f"{here}explorer.js"} <= set(asked)
    assert [url for url in asked if not url.startswith((here, "data:"))] == []
    assert page.get_log("browser") == []
    assert count(page) == 3000


@pytest.mark.campaign
def test_from_a_server_it_asks_that_server_alone(driver, folder):
    driver.get_log("performance")
    driver.get_log("browser")
    with served(folder) as address:
        page = at(driver, f"{address}/report/index.html")
        asked = requests_of(page, page.current_url.split("#")[0])
        assert count(page) == 3000
        wait(page, "return document.getElementById('sar-image').naturalWidth === 128")
        driver.get("about:blank")
    assert len(asked) > 5
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert driver.get_log("browser") == []


def test_the_policy_forbids_what_is_not_ours(page):
    assert_foreign_content_is_refused(page)


def test_names_from_users_stay_text(page):
    search(page, "<img src=x")
    assert count(page) == 1
    assert name_shown(page) == EVIL
    assert page.find_element("css selector", "#list .row:not([hidden]) .row-name").text == EVIL
    assert page.execute_script("return window.evil === undefined && !document.querySelector('img[src=x]')")


@pytest.mark.campaign
def test_a_missing_file_is_named(driver, folder, tmp_path):
    for path in (folder / "report").iterdir():
        if path.name != "rows-000.js":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    page = at(driver, (tmp_path / "index.html").as_uri())
    wait(page, "return document.getElementById('provenance').textContent.includes('report/rows-000.js is missing')")
    driver.get_log("browser")


# ---- filters ----


def test_filters_select_what_pandas_selects(page, table):
    tick(page, "split", "val")
    expected = table["split"] == "val"
    assert count(page) == expected.sum()
    tick(page, "split", "test")
    expected |= table["split"] == "test"
    assert count(page) == expected.sum()
    tick(page, "partner", "with optical partner")
    expected &= table["paired"]
    assert count(page) == expected.sum()
    classes = np.array([max(cover, key=cover.get) for cover in table["land_cover"]])
    tick(page, "class", "Cropland")
    expected &= classes == "Cropland"
    assert count(page) == expected.sum()
    set_range(page, "enl", "most", 2.5)
    expected &= table["enl"] <= 2.5
    assert count(page) == expected.sum() > 0
    click(page, page.find_element("xpath", "//button[text()='Clear all']"))
    assert count(page) == 3000


@pytest.mark.campaign
def test_a_limit_that_is_a_value_counts_as_in_pandas(page, table):
    for value in table["residual_px"].dropna().iloc[:4]:
        limit = f"{value:.9g}"
        set_range(page, "residual_px", "least", limit)
        assert count(page) == (table["residual_px"] >= np.float32(limit)).sum()
    set_range(page, "cloud_frac", "least", 0.1)
    assert count(page) == ((table["residual_px"] >= np.float32(limit)) & (table["cloud_frac"] >= 0.1)).sum()


@pytest.mark.campaign
def test_facets_count_what_a_click_would_give(page, table):
    tick(page, "orbit_state", "ascending")
    page.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    lines = page.find_elements("css selector", "#facets .choice")
    shown_facts = {
        (line.find_element("css selector", "input").get_attribute("data-facet"), line.text.split("\n")[0]): line
        for line in lines
        if line.is_displayed()
    }
    rows = table[table["orbit_state"] == "ascending"]
    val = shown_facts["split", "val"].find_element("css selector", ".choice-count").text
    assert int(val.replace(",", "")) == (rows["split"] == "val").sum()
    other = shown_facts["orbit_state", "descending"].find_element("css selector", ".choice-count").text
    assert int(other.replace(",", "")) == (table["orbit_state"] == "descending").sum(), "a facet ignores itself"


@pytest.mark.campaign
def test_sliders_move_by_keyboard(page, table):
    slider = page.find_element("css selector", "input[type=range][aria-label='enl at least, by bins']")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", slider)
    slider.send_keys(webdriver.Keys.ARROW_RIGHT * 3)
    least = float(page.find_element("css selector", "input[data-metric=enl][data-end=least]").get_attribute("value"))
    assert table["enl"].min() < least < table["enl"].median()
    assert count(page) == (table["enl"] >= np.float32(least)).sum()


def test_search_finds_ids_and_products(page, table):
    product = table["sar_product"].iloc[777]
    search(page, product[-20:].lower())
    assert count(page) == table["sar_product"].str.endswith(product[-20:]).sum()
    search(page, table["sample_id"].iloc[2345])
    assert count(page) == 1
    search(page, "no such thing")
    assert count(page) == 0
    assert by_id(page, "none-left").is_displayed()
    click(page, by_id(page, "clear-none"))
    assert count(page) == 3000


@pytest.mark.campaign
def test_an_order_by_a_metric_is_that_of_pandas(page, table):
    page.execute_script(
        "const s = document.getElementById('sort'); s.value = 'enl'; s.dispatchEvent(new Event('change'))"
    )
    page.execute_async_script("setTimeout(arguments[0], 60)")
    names = (
        "return [...document.querySelectorAll('#list .row')].filter((r) => !r.hidden)"
        ".sort((a, b) => a.place - b.place).slice(0, 5).map((r) => r.querySelector('.row-name').textContent)"
    )
    assert page.execute_script(names) == table.nsmallest(5, "enl")["sample_id"].tolist()
    click(page, by_id(page, "direction"))
    assert page.execute_script(names) == table.nlargest(5, "enl")["sample_id"].tolist()


@pytest.mark.campaign
def test_the_address_brings_the_view_back(driver, page, table):
    tick(page, "split", "test")
    set_range(page, "enl", "most", 1.25)
    page.execute_script("document.getElementById('next').click()")
    address, name, selected = page.current_url, name_shown(page), count(page)
    assert selected == ((table["split"] == "test") & (table["enl"] <= 1.25)).sum()
    again = at(driver, address)
    assert (name_shown(again), count(again)) == (name, selected)
    one = table["sample_id"].iloc[99]
    again = at(driver, address.split("#")[0] + f"#sample={quote(one)}&split=%5B%22broken&enl=x..&box=1,2")
    assert (name_shown(again), count(again)) == (one, 3000)


# ---- map, list, viewer ----


def test_a_click_on_the_map_opens_the_sample_there(page, folder, table):
    canvas, wanted = by_id(page, "map"), table.iloc[LONELY]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", canvas)
    width, height = page.execute_script("return [arguments[0].clientWidth, arguments[0].clientHeight]", canvas)
    _, _, lines = (folder / "report/outlines.js").read_text().partition('"outlines",')
    west, south, east, north = json.loads(lines.removesuffix("]);\n"))["view"]
    # the page shows its window equirectangular, shrunk east-west at its middle latitude, with a margin
    lat = (south + north) / 2
    squeeze = np.cos(np.radians(lat))
    scale = 0.9 * min(width / ((east - west) * squeeze), height / (north - south))
    scale = max(scale, width / (360 * squeeze), height / 170)
    x = (wanted["lon"] - (west + east) / 2) * scale * squeeze
    y = -(wanted["lat"] - lat) * scale
    assert name_shown(page) != wanted["sample_id"]
    webdriver.ActionChains(page).move_to_element_with_offset(canvas, int(x), int(y)).click().perform()
    assert name_shown(page) == wanted["sample_id"]


@pytest.mark.campaign
def test_a_box_on_the_map_selects_what_lies_in_it(page, table):
    click(page, by_id(page, "box-mode"))
    canvas = by_id(page, "map")
    webdriver.ActionChains(page).move_to_element_with_offset(canvas, -120, -60).click_and_hold().move_by_offset(
        160, 90
    ).release().perform()
    page.execute_async_script("setTimeout(arguments[0], 60)")
    box = [float(edge) for edge in re.search(r"box=([^&]+)", page.current_url)[1].replace("%2C", ",").split(",")]
    west, south, east, north = np.float64(box)
    lon, lat = table["lon"].astype(np.float32), table["lat"].astype(np.float32)
    inside = (lon >= west) & (lon <= east) & (lat >= south) & (lat <= north)
    assert count(page) == inside.sum() > 10
    assert by_id(page, "box-mode").get_attribute("aria-pressed") == "false"


@pytest.mark.campaign
def test_only_rows_in_sight_are_in_the_document(page, table):
    page.execute_script("document.getElementById('list').scrollTop = 64 * 2000")
    page.execute_async_script("setTimeout(arguments[0], 200)")
    rows = page.find_elements("css selector", "#list .row")
    assert len(rows) < 60
    seen = [row.find_element("css selector", ".row-name").text for row in rows if row.is_displayed()]
    assert table["sample_id"].iloc[2000] in seen
    rows = [row for row in rows if row.get_attribute("aria-posinset") == "2001"]
    click(page, rows[0])
    assert name_shown(page) == table["sample_id"].iloc[2000]


@pytest.mark.campaign
def test_keys_walk_through_the_list(page, table):
    first = table["sample_id"].tolist().index(name_shown(page))
    by_id(page, "list").send_keys(webdriver.Keys.ARROW_DOWN * 2)
    assert name_shown(page) == table["sample_id"].iloc[first + 2]
    by_id(page, "list").send_keys("p")
    assert name_shown(page) == table["sample_id"].iloc[first + 1]
    by_id(page, "list").send_keys(webdriver.Keys.END)
    assert name_shown(page) == table["sample_id"].iloc[-1]
    by_id(page, "next").send_keys("n")
    assert name_shown(page) == table["sample_id"].iloc[0]
    active = by_id(page, "list").get_attribute("aria-activedescendant")
    assert by_id(page, active).get_attribute("aria-selected") == "true"


@pytest.mark.campaign
def test_swipe_moves_by_keyboard_mouse_and_touch(page):
    tick(page, "picture", "on this page")
    tick(page, "partner", "with optical partner")
    wait(page, "return document.getElementById('optical-image').naturalWidth === 128")
    swipe, width = by_id(page, "swipe-range"), by_id(page, "swipe").size["width"]
    before = seam_px(page)
    swipe.send_keys(webdriver.Keys.ARROW_LEFT * 10)
    assert seam_px(page) == pytest.approx(before - 0.1 * width, abs=2)
    webdriver.ActionChains(page).move_to_element_with_offset(swipe, int(0.3 * width), 0).click().perform()
    assert seam_px(page) == pytest.approx(0.8 * width, abs=0.04 * width)
    left, y, wide = page.execute_script(
        "const b = arguments[0].getBoundingClientRect(); return [b.left, b.top + b.height / 2, b.width]", swipe
    )
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True})
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.4), ("touchMove", 0.25), ("touchEnd", None)):
        points = [] if share is None else [{"x": left + share * wide, "y": y, "radiusX": 4, "radiusY": 4, "force": 1}]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    assert seam_px(page) == pytest.approx(0.25 * width, abs=0.05 * width)
    assert "% SAR" in swipe.get_attribute("aria-valuetext")


@pytest.mark.campaign
def test_a_sample_without_picture_says_so_and_how_to_see_it(page, table):
    tick(page, "picture", "by a line of Python")
    row = table[table["sample_id"] == name_shown(page)].iloc[0]
    assert "400 of 3,000 samples have one on this page" in by_id(page, "no-picture").text
    assert f'"data/{row["split"]}.zarr"' in by_id(page, "code-line").text
    assert f'["sar"][{row["index"]}, 0]' in by_id(page, "code-line").text
    assert not by_id(page, "swipe-range").is_displayed()


def test_a_recipe_only_sample_says_whose_its_pixels_are(page):
    tick(page, "partner", "none: optical pixels stay with their provider; a recipe makes them (recipe_only)")
    assert "optical pixels stay with their provider" in by_id(page, "why").text


@pytest.mark.campaign
def test_provenance_names_products_times_hashes_and_terms(driver, tmp_path_factory):
    root = small_release(tmp_path_factory)
    samples, lock = samples_of(root), lock_of(root)
    page = at(driver, (root / "report/index.html").as_uri())
    wait(page, "return document.querySelectorAll('#provenance .facts').length > 4")
    row = samples.loc[name_shown(page)]
    shown_facts = facts_shown(page)
    assert shown_facts["sar product"] == row["sar_product"]
    assert shown_facts["optical product"] == row["optical_product"]
    assert shown_facts["sar datetime"] == row["sar_datetime"].strftime("%Y-%m-%d %H:%M:%S UTC")
    assert shown_facts["pixel hash"] == lock.loc[row["sample_id"], "pixel_hash"]
    assert shown_facts["build"] == lock.loc[row["sample_id"], "build"]
    assert float(shown_facts["residual px"].removesuffix(" px")) == pytest.approx(row["residual_px"], rel=1e-3)
    assert shown_facts["attribution"] == (row["attribution"] or "–")
    assert "pixels in the release" in shown_facts["terms of the SAR pixels"]
    assert f"mlat={row['lat']:.4f}" in by_id(page, "place-link").get_attribute("href")
    assert page.get_log("browser") == []


@pytest.mark.campaign
@pytest.mark.parametrize("width", [390, 800, 1440])
def test_nothing_sticks_out_at_any_width(driver, folder, width):
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        page = at(driver, (folder / "report/index.html").as_uri())
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert by_id(page, "filters").get_attribute("open") == (None if width < 760 else "true")
        assert page.execute_script("return document.getElementById('list').clientHeight") > 150
        assert page.execute_script("return document.getElementById('map').clientWidth") > 0.4 * width
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.campaign
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(driver, folder, scheme):
    """Contrast of at least 4.5 (WCAG 2.1, 1.4.3) of inks and chips against card and ground."""
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    try:
        page = at(driver, (folder / "report/index.html").as_uri())
        names = ("ink", "soft", "accent", "bad", "card", "ground")
        values = page.execute_script(
            "const style = getComputedStyle(document.documentElement);"
            "return arguments[0].map((name) => style.getPropertyValue(`--${name}`).trim())",
            names,
        )
    finally:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    colours = dict(zip(names, map(luminance, values), strict=True))
    for ink in ("ink", "soft", "accent", "bad"):
        for ground in ("card", "ground"):
            low, high = sorted((colours[ink], colours[ground]))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (ink, ground)


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_every_control_has_a_name(page):
    nameless = page.execute_script(
        "const all = 'button, input, select, a[href], [role=listbox], canvas:not([aria-hidden])';"
        "const named = (one) => one.textContent.trim() || one.getAttribute('aria-label')"
        " || one.labels?.[0]?.textContent.trim();"
        "return [...document.querySelectorAll(all)].filter((one) => !named(one))"
        ".map((one) => one.outerHTML.slice(0, 120))"
    )
    assert nameless == []
