"""Headless Chromium for the tests and benchmarks that open pages."""

import contextlib
import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), shutil.which("chromedriver")
OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
MARKS = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not CHROMIUM.exists() or DRIVER is None, reason="needs Debian's chromium and chromium-driver packages"
    ),
]


@contextlib.contextmanager
def browser(profile, *options, trace=None):
    """A browser that logs its console and its requests. trace: chromedriver's perfLoggingPrefs."""
    wanted = webdriver.ChromeOptions()
    wanted.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={profile}", *options):
        wanted.add_argument(option)
    wanted.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    if trace is not None:
        wanted.add_experimental_option("perfLoggingPrefs", trace)
    driver = webdriver.Chrome(service=Service(DRIVER), options=wanted)
    try:
        yield driver
    finally:
        driver.quit()


def click(driver, element):
    """Clicks an element after bringing it to the middle of the window: at its upper edge the menu covers the page."""
    driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", element)
    element.click()


def requests_of(driver, page):
    """Addresses that the page asked for since the log was read last."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [params["request"]["url"] for params in sent if params["documentURL"].split("#")[0] == page]


def assert_foreign_content_is_refused(driver):
    """The page's policy stops a script and a picture from elsewhere, and the browser's log names both."""
    driver.execute_script(
        "const s = document.createElement('script'); s.textContent = 'window.foreign = 1'; document.body.append(s);"
        "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i)"
    )
    assert driver.execute_script("return window.foreign === undefined")
    messages = " ".join(entry["message"] for entry in driver.get_log("browser"))
    assert messages.count("Content Security Policy") >= 2


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def served(folder):
    """Address of a static server of a folder, on loopback."""
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
