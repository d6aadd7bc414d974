"""Services by name."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from sar1m.config import BuildConfig, DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from sar1m.sources.services.registry import SERVICES, open_service
from sar1m.store.errors import ConfigError
from support.paths import ROOT

OWN_ADDRESSES = {
    "area": {
        "tiles_url": "https://tiles.example.org/{z}/{x}/{y}.png",
        "stac_url": "https://stac.example.org/",
        "dhus_url": "https://hub.example.org/dhus",
    }
}
NAMES = [record.name for record in SERVICES]


@pytest.fixture
def fetcher(tmp_path):
    return Fetcher(FetchSettings(root=tmp_path / "net", limits=DownloadConfig()))


@pytest.mark.parametrize("record", SERVICES, ids=NAMES)
def test_every_service_opens_and_is_what_the_table_says(record, fetcher):
    service = open_service(record.name, BuildConfig.model_validate(OWN_ADDRESSES), fetcher)
    assert service.name == record.name
    assert service.kinds == set(record.kinds)


def test_the_readme_lists_the_services_of_the_table():
    rows = re.findall(
        r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*)(?: \(default\))? \|", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    assert {name for row in rows for name in re.findall(r"`([a-z-]+)`", row)} >= set(NAMES)


@pytest.mark.parametrize(("name", "key"), [("stac", "stac_url"), ("dhus", "dhus_url"), ("tiles", "tiles_url")])
def test_a_missing_address_is_named(name, key, fetcher):
    with pytest.raises(ConfigError, match=rf"area\.{key}"):
        open_service(name, BuildConfig(), fetcher)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("planetary_computer", "planetary-computer"),
        ("CDSE", "cdse"),
        ("earth-engine", "earthengine"),
        ("tile", "tiles"),
    ],
)
def test_unknown_names_get_near_ones(typed, meant, fetcher):
    with pytest.raises(ConfigError, match=f"Did you mean.* {meant}") as refused:
        open_service(typed, BuildConfig(), fetcher)
    assert all(name in str(refused.value) for name in NAMES)


def test_a_name_like_none_gets_the_list_alone(fetcher):
    with pytest.raises(ConfigError) as refused:
        open_service("qqqq", BuildConfig(), fetcher)
    assert "Did you mean" not in str(refused.value)


def test_another_address_of_the_catalogue_comes_from_the_environment(fetcher, monkeypatch):
    monkeypatch.setenv("SAR1M_EARTH_SEARCH_URL", "https://mirror.example.org/v1")
    assert open_service("earth-search", BuildConfig(), fetcher).url == "https://mirror.example.org/v1"
    assert open_service("planetary-computer", BuildConfig.model_validate(OWN_ADDRESSES), fetcher).url is None


def test_variables_in_the_table_are_those_that_modules_read():
    """What a module reads from the environment stands in the table, so that doctor names and hides it."""
    folder = Path(sys.modules[open_service.__module__].__file__).parent
    listed = {variable for record in SERVICES for variable in (*record.secrets, *record.settings)}
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder.rglob("*.py") if path.stem != "registry")
    read = set(re.findall(r'"((?:SAR1M|CDSE|DHUS|EARTHDATA|EARTHENGINE|GOOGLE|PC_SDK)_[A-Z0-9_]+)"', text))
    assert read <= listed | {"SAR1M_ALLOW_LOOPBACK", "SAR1M_EARTHENGINE_URL"}
    assert {variable for variable in listed if variable.isupper()} - read <= {
        "PC_SDK_SUBSCRIPTION_KEY",  # planetary-computer reads these two itself
        "PC_SDK_SAS_URL",
        "SAR1M_PLANETARY_COMPUTER_URL",
        "SAR1M_EARTH_SEARCH_URL",
    }


def test_importing_the_registry_imports_no_client():
    program = (
        "import sys, sar1m.sources.services.registry; "
        "print(*sorted({'ee', 'sentinelsat', 'pystac_client', 'planetary_computer', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
