"""What `sar1m doctor` shows, and what it never shows."""

import io
import json
from dataclasses import replace

import pytest

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.sources.services import doctor, registry
from sar1m.sources.services.doctor import DoctorRow, render, report, without_secrets
from sar1m.sources.services.registry import SERVICES, PublicPage
from sar1m.store.printer import Printer
from servers.base import Reply, Server, reply_json

NAMES = [record.name for record in SERVICES]
SECRETS = [variable for record in SERVICES for variable in record.secrets]
SETTINGS = [variable for record in SERVICES for variable in record.settings if variable.isupper()]
MACHINE = ["disk", "geoid", "dem", "gdal", "rasterio", "numba", "zarr", "pillow"]

# planetary-computer 1.0 configures pydantic models in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:Support for class-based:DeprecationWarning")


@pytest.fixture
def fetcher(tmp_path):
    limits = DownloadConfig(attempts=5, connect_timeout_s=2.0, read_timeout_s=60.0)
    return Fetcher(FetchSettings(root=tmp_path / "net", limits=limits, allow_loopback=True))


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    """No credentials of whoever runs the tests."""
    for variable in (*SECRETS, *SETTINGS):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def by_name(rows):
    return {row.name: row for row in rows}


def shown(rows):
    stream = io.StringIO()
    render(Printer(file=stream, width=60), rows)
    return stream.getvalue()


def test_a_row_for_every_service_and_fact_each_of_one_line(fetcher, tmp_path):
    rows = report(BuildConfig(), fetcher, tmp_path / "not" / "there" / "yet")
    assert [row.name for row in rows if row.topic == "service"] == NAMES
    assert [row.name for row in rows if row.topic == "machine"] == MACHINE
    assert all(row.line and "\n" not in row.line for row in rows)
    assert not (tmp_path / "not").exists()
    assert not (tmp_path / "net").exists()


def test_without_credentials_the_rows_say_what_to_set(fetcher, tmp_path):
    found = by_name(report(BuildConfig(), fetcher, tmp_path))
    assert {name for name in NAMES if found[name].usable == "yes"} == {"planetary-computer", "earth-search"}
    wanted = {
        "cdse": "CDSE_USERNAME",
        "asf": "EARTHDATA_TOKEN",
        "earthengine": "earthengine authenticate",
        "tiles": "area.tiles_url",
        "stac": "area.stac_url",
        "dhus": "area.dhus_url",
    }
    assert {name for name, remedy in wanted.items() if remedy not in found[name].line} == set()


def test_with_credentials_the_rows_name_them(fetcher, tmp_path, monkeypatch):
    for variable in ("CDSE_USERNAME", "CDSE_PASSWORD", "EARTHDATA_TOKEN", "SAR1M_TILES_KEY"):
        monkeypatch.setenv(variable, "credential-of-mine")
    config = BuildConfig.model_validate({"area": {"tiles_url": "https://a.example.org/{z}/{x}/{y}?key={key}"}})
    found = by_name(report(config, fetcher, tmp_path))
    for name, variable in {"cdse": "CDSE_PASSWORD", "asf": "EARTHDATA_TOKEN", "tiles": "SAR1M_TILES_KEY"}.items():
        assert found[name].usable == "yes"
        assert variable in found[name].line


@pytest.mark.parametrize("online", [False, True])
def test_no_slot_shows_its_secret(online, fetcher, tmp_path, monkeypatch, caplog):
    caplog.set_level("DEBUG")
    canaries = {variable: f"canary-{number:02d}-{variable.lower()}" for number, variable in enumerate(SECRETS)}
    for variable, canary in canaries.items():
        monkeypatch.setenv(variable, canary)
    for variable in ("CDSE_USERNAME", "DHUS_USER", "EARTHDATA_USERNAME"):
        monkeypatch.setenv(variable, "somebody")
    key = tmp_path / "key.json"
    fields = {"private_key": "canary-key", "client_email": "a@canary.example.org", "token_uri": "https://canary"}
    key.write_text(json.dumps({"type": "service_account", "project_id": "project-one", **fields}))
    monkeypatch.setenv("EARTHENGINE_SERVICE_ACCOUNT_KEY", str(key))
    with Server({"/*": lambda asked: reply_json({})}) as server:
        monkeypatch.setattr(
            doctor, "SERVICES", [replace(record, page=PublicPage(address=server.url)) for record in SERVICES]
        )
        config = BuildConfig.model_validate(
            {
                "area": {
                    "tiles_url": server.url + "/{z}/{x}/{y}?key={key}",
                    "stac_url": server.url,
                    "dhus_url": server.url,
                }
            }
        )
        rows = report(config, fetcher, tmp_path, online=online)
        usable = {row.name for row in rows if row.usable == "yes"}
        assert usable >= {"planetary-computer", "cdse", "asf", "dhus", "earthengine", "tiles"}
        said = shown(rows) + repr(rows) + caplog.text + repr([(a.path, a.query, a.headers) for a in server.asked])
    assert "canary" not in said
    assert bool(server.asked) is online


@pytest.mark.parametrize("variable", SECRETS)
def test_a_service_that_talks_too_much_is_silenced(variable, fetcher, tmp_path, monkeypatch):
    """Whatever a service says of itself: the filter knows the values of all slots, and addresses' queries."""
    monkeypatch.setenv(variable, "canary+slot/7")

    class Talker:
        def usable(self):
            return False, f"used canary+slot/7 at https://me:pass-canary@h.example.org/a?sig=canary-2\nand {variable}"

    monkeypatch.setattr(doctor, "open_service", lambda *given: Talker())
    row = report(BuildConfig(), fetcher, tmp_path)[0]
    assert row.line == f"used *** at https://***@h.example.org/a?*** and {variable}"


def test_a_client_that_is_broken_is_a_row(fetcher, tmp_path, monkeypatch):
    def broken(*given):
        raise ImportError("libgeos.so.1 is missing")

    monkeypatch.setattr(doctor, "open_service", broken)
    row = report(BuildConfig(), fetcher, tmp_path)[0]
    assert (row.usable, row.line) == ("no", "its client cannot be imported: libgeos.so.1 is missing")


def test_encoded_values_are_hidden_too(monkeypatch):
    monkeypatch.setenv("SAR1M_TILES_KEY", "canary+/&")
    assert "canary" not in without_secrets("see canary%2B%2F%26")


# ---- online ----


def asked_of(monkeypatch, fetcher, tmp_path, route, *, online=True):
    """The first service's row, its public page being route, and what was asked."""
    with Server({"/*": route}, max_requests=20) as server:
        record = replace(SERVICES[1], page=PublicPage(address=f"{server.url}/page"))
        monkeypatch.setattr(doctor, "SERVICES", [record])
        return report(BuildConfig(), fetcher, tmp_path, online=online)[0], server.asked


def test_nothing_is_asked_unless_wanted(monkeypatch, fetcher, tmp_path):
    row, asked = asked_of(monkeypatch, fetcher, tmp_path, lambda asked: reply_json({}), online=False)
    assert (row.usable, asked) == ("yes", [])


def test_a_service_that_answers_is_said_to(monkeypatch, fetcher, tmp_path):
    row, asked = asked_of(monkeypatch, fetcher, tmp_path, lambda asked: reply_json({}))
    assert row.usable == "yes"
    assert row.line.endswith("answers just now")
    assert len(asked) == 1


@pytest.mark.parametrize(("reply", "says"), [(Reply(status=503), "503"), (Reply(reset=True), "broke off")])
def test_a_service_that_fails_is_asked_once(monkeypatch, fetcher, tmp_path, reply, says):
    row, asked = asked_of(monkeypatch, fetcher, tmp_path, lambda asked: reply)
    assert row.usable == "no"
    assert says in row.line
    assert len(asked) == 1


def test_a_silent_service_is_given_up(monkeypatch, fetcher, tmp_path):
    monkeypatch.setattr(doctor, "PROBE_TIMEOUT_S", 0.3)
    row, _ = asked_of(monkeypatch, fetcher, tmp_path, lambda asked: Reply(stall_s=5.0))
    assert row.usable == "no"
    assert "stopped sending" in row.line


MIRRORS = [(record.name, record.page.variable) for record in SERVICES if record.page is not None]


@pytest.mark.parametrize(("name", "variable"), [*MIRRORS, ("cdse", "SAR1M_CDSE_STAC_URL")])
def test_a_mirror_is_asked_in_the_place_of_the_service(name, variable, monkeypatch, fetcher, tmp_path):
    """Services that are named by the environment are those that a build asks."""
    (record,) = (record for record in SERVICES if record.name == name)
    page = replace(record.page, address="https://official.invalid/")
    monkeypatch.setattr(doctor, "SERVICES", [replace(record, page=page)])
    for slot in ("CDSE_USERNAME", "CDSE_PASSWORD", "EARTHDATA_TOKEN"):
        monkeypatch.setenv(slot, "somebody")
    if name == "earthengine":
        monkeypatch.setattr(doctor, "open_service", lambda *given: Ready())
    area = {"cdse_search": "stac"} if variable == "SAR1M_CDSE_STAC_URL" else {}
    with Server({"/*": lambda asked: reply_json({})}, max_requests=20) as server:
        monkeypatch.setenv(variable, f"{server.url}/base")
        row = report(BuildConfig.model_validate({"area": area}), fetcher, tmp_path, online=True)[0]
        assert (row.usable, row.line.endswith("answers just now")) == ("yes", True), row.line
        assert [asked.path.startswith("/base") for asked in server.asked] == [True]


class Ready:
    def usable(self):
        return True, "with an account"


def test_every_variable_that_names_a_place_is_listed():
    assert {variable for _, variable in MIRRORS} <= set(SETTINGS)


def test_every_public_page_is_https_and_holds_no_place():
    pages = [record.page_address(BuildConfig()) for record in registry.SERVICES]
    assert all(page is None or page.startswith("https://") for page in pages)
    config = BuildConfig.model_validate({"area": {"stac_url": "https://stac.example.org/"}})
    assert [record.page_address(config) for record in SERVICES if record.name == "stac"] == [
        "https://stac.example.org/"
    ]


# ---- the machine ----


def test_little_space_is_a_reason(monkeypatch, fetcher, tmp_path):
    monkeypatch.setattr(doctor, "FREE_GB_WANTED", 1e9)
    assert by_name(report(BuildConfig(), fetcher, tmp_path))["disk"].usable == "no"
    monkeypatch.setattr(doctor, "FREE_GB_WANTED", 0.0)
    row = by_name(report(BuildConfig(), fetcher, tmp_path / "new"))["disk"]
    assert (row.usable, str(tmp_path) in row.line) == ("yes", True)


def test_the_geoid_is_named_or_what_brings_it(monkeypatch, fetcher, tmp_path):
    monkeypatch.setattr(doctor, "find_geoid", lambda *given, **named: None)
    row = by_name(report(BuildConfig(), fetcher, tmp_path))["geoid"]
    assert row.usable == "no"
    assert "apt-get install proj-data" in row.line


def test_a_dem_that_is_not_there_is_said(fetcher, tmp_path):
    config = BuildConfig.model_validate({"safe": {"dem": str(tmp_path / "nowhere")}})
    row = by_name(report(config, fetcher, tmp_path))["dem"]
    assert row.usable == "no"
    assert "safe.dem" in row.line
    assert by_name(report(BuildConfig(), fetcher, tmp_path))["dem"].usable == "-"


def test_rows_are_plain_text_and_never_wrapped():
    rows = [
        DoctorRow(
            topic="service", name="cdse", usable="no", gives="SAR", line="[red]set[/red] CDSE_USERNAME " + "x" * 100
        ),
        DoctorRow(topic="machine", name="disk", usable="yes", line="1.0 GB free"),
    ]
    assert shown(rows) == (
        "Services\n  cdse  no   SAR  [red]set[/red] CDSE_USERNAME "
        + "x" * 100
        + "\nThis machine\n  disk  yes  1.0 GB free\n"
    )
