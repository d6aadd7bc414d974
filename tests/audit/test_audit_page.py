"""The page of an audit in headless Chromium: what a reader does works, nothing is fetched; also dark and narrow."""

import pytest

from sar1m.audit.item import PairWork
from sar1m.audit.run import AuditRequest, audit
from sar1m.config import RegistrationConfig
from sar1m.store.progress import LineWatch
from support.headless import MARKS, assert_foreign_content_is_refused, browser, click, requests_of
from support.known_pairs import write_pictures

pytestmark = MARKS
SHIFTS = {"near": (0.5, 0.2), "<far> & 'wide'": (6.0, -3.0)}


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    folder = tmp_path_factory.mktemp("audit page")
    for number, (name, shift_px) in enumerate(SHIFTS.items()):
        write_pictures(folder / "pairs", name, key=number, size=(160, 240), shift_px=shift_px)
    write_pictures(folder / "pairs", "alone", size=(160, 240))
    (folder / "pairs/optical/alone.png").unlink()
    work = PairWork(registration=RegistrationConfig())
    request = AuditRequest(place=str(folder / "pairs"), out=folder / "out", work=work, workers=0)
    page = audit(request, LineWatch(lambda _line: None)).page
    with browser(folder / "profile") as driver:
        driver.get(page.as_uri())
        yield driver


def text_of(page, name):
    return page.execute_script("return document.getElementById(arguments[0]).textContent", name)


def edges(page):
    """Left, top, width and height of the two pictures as they are laid out."""
    return page.execute_script(
        "return ['sar-image', 'optical-image'].map((id) => {"
        "const r = document.getElementById(id).getBoundingClientRect(); return [r.left, r.top, r.width, r.height]})"
    )


def test_the_page_fetches_nothing_and_says_no_error(opened):
    opened.refresh()
    asked = requests_of(opened, opened.current_url)
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert opened.get_log("browser") == []


def test_the_worst_pair_comes_first_and_the_steps_go_round(opened):
    assert text_of(opened, "pair-name") == "<far> & 'wide'"
    click(opened, opened.find_element("id", "next"))
    assert text_of(opened, "pair-name") == "near"
    click(opened, opened.find_element("id", "next"))
    assert text_of(opened, "position") == "1 of 2"


def test_moving_lays_the_optical_picture_on_the_sar_by_the_shift(opened):
    click(opened, opened.find_element("id", "move"))
    (left, top, width, height), (moved_left, moved_top, _, _) = edges(opened)
    click(opened, opened.find_element("id", "move"))
    assert width / height == pytest.approx(240 / 160, rel=0.02)
    assert (moved_top - top) / height * 160 == pytest.approx(-6.0, abs=0.4)
    assert (moved_left - left) / width * 240 == pytest.approx(3.0, abs=0.4)
    lying, over = edges(opened)
    assert lying == over, "as it was"


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390), ("dark", 390)])
def test_light_and_dark_fit_wide_and_narrow_windows(opened, scheme, width):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 500}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        shown = opened.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        ground = opened.execute_script(
            "return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert shown[0] <= shown[1], "nothing is wider than the window"
    assert (sum(ground) < 300) == (scheme == "dark")


def test_the_policy_refuses_what_is_not_the_pages_own(opened):
    opened.get_log("browser")
    assert_foreign_content_is_refused(opened)
