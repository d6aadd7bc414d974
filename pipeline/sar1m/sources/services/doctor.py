"""Which services can be used from here and what to do for the others: what `sar1m doctor` shows.

Nothing is asked over the network unless wanted. Credentials are named, never shown: whatever a service says of itself
goes through a filter that knows the values of all variables that may hold one.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

import rasterio

from sar1m.config import BuildConfig
from sar1m.io.geoid import find_geoid, no_geoid
from sar1m.io.net.fetch import Fetcher
from sar1m.sources.safe.block_heights import named_place, open_terrain
from sar1m.sources.services.registry import SERVICES, ServiceRecord, open_service
from sar1m.store.errors import Sar1mError
from sar1m.store.printer import Printer

Verdict = Literal["yes", "no", "-"]

HIDDEN: Final = "***"
FREE_GB_WANTED: Final = 10.0
PROBE_ATTEMPTS: Final = 1
PROBE_TIMEOUT_S: Final = 5.0

_SHORTEST_SECRET: Final = 6  # shorter values would blot out words
_PROBE_TYPES: Final = (
    "application/json",
    "application/geo+json",
    "text/html",
    "text/xml",
    "application/xml",
    "text/plain",
)
_GB: Final = 1e9
_LIBRARIES: Final = ("rasterio", "numba", "zarr", "pillow")


@dataclass(frozen=True, kw_only=True)
class DoctorRow:
    """One line of the report.

    usable: yes, no, or - for a fact that stops nothing. gives: SAR, optical or both; empty for the machine.
    line: one line of text without secrets.
    """

    topic: Literal["service", "machine"]
    name: str
    usable: Verdict
    line: str
    gives: str = ""


def report(config: BuildConfig, fetcher: Fetcher, out: Path, *, online: bool = False) -> list[DoctorRow]:
    """A row for every service in the order of SERVICES, then for what this machine offers.

    out: the folder a build would write to; it need not exist.
    online: also asks each usable service for a public page, once and briefly. An answer says nothing about the
    credentials.
    Raises nothing: what fails becomes a row that says so.
    """
    rows = [_service_row(record, config, fetcher, online=online) for record in SERVICES]
    rows += list(_machine_rows(config, out))
    return [replace(row, line=without_secrets(" ".join(row.line.split()))) for row in rows]


def render(console: Printer, rows: list[DoctorRow]) -> None:
    """Prints the rows: plain lines in columns, the same in a terminal and in a file, never wrapped or marked up."""
    width = max((len(row.name) for row in rows), default=0)
    gives = max((len(row.gives) for row in rows), default=0)
    topic = ""
    for row in rows:
        if row.topic != topic:
            topic = row.topic
            console.say(_TITLES[row.topic], style="bold")
        columns = [f"{row.name:<{width}}", f"{row.usable:<3}", *([f"{row.gives:<{gives}}"] if row.gives else [])]
        text = f"  {'  '.join(columns)}  {row.line}"
        console.say(text)


_TITLES: Final[Mapping[str, str]] = {"service": "Services", "machine": "This machine"}


def without_secrets(text: str) -> str:
    """The text without values of credential variables, and without queries and user names in addresses.

    This is a second line of defence: services already leave secrets out of what they say.
    """
    names = {variable for record in SERVICES for variable in record.secrets}
    values = {os.environ.get(name, "") for name in names}
    values |= {quote(value, safe="") for value in values}
    for value in sorted(values, key=len, reverse=True):
        if len(value) >= _SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    text = re.sub(r"(https?://[^\s?#]*)\?\S+", rf"\1?{HIDDEN}", text)
    return re.sub(r"(https?://)[^\s/@]+@", rf"\1{HIDDEN}@", text)


def _service_row(record: ServiceRecord, config: BuildConfig, fetcher: Fetcher, *, online: bool) -> DoctorRow:
    gives = ", ".join("SAR" if kind == "sar" else kind for kind in record.kinds)
    row = partial(DoctorRow, topic="service", name=record.name, gives=gives)
    try:
        usable, line = open_service(record.name, config, fetcher).usable()
    except Sar1mError as error:  # not set up, or its client is not installed
        return row(usable="no", line=str(error).removeprefix(f"{record.name}: "))
    except ImportError as error:
        return row(usable="no", line=f"its client cannot be imported: {error}")
    line = line.removeprefix(f"{record.name}: ")
    if not usable:
        return row(usable="no", line=line)
    address = record.page_address(config)
    if online and address is not None:
        reached, remark = _probe(address, fetcher)
        return row(usable="yes" if reached else "no", line=f"{line}; {remark}")
    return row(usable="yes", line=line)


def _probe(address: str, fetcher: Fetcher) -> tuple[bool, str]:
    limits = fetcher.settings.limits.model_copy(
        update={
            "attempts": PROBE_ATTEMPTS,
            "connect_timeout_s": PROBE_TIMEOUT_S,
            "read_timeout_s": PROBE_TIMEOUT_S,
        }
    )
    try:
        Fetcher(replace(fetcher.settings, limits=limits)).request("GET", address, expect=_PROBE_TYPES)
    except Sar1mError as error:
        return False, f"asked just now: {error}"
    return True, "answers just now"


def _machine_rows(config: BuildConfig, out: Path) -> Iterator[DoctorRow]:
    row = partial(DoctorRow, topic="machine")
    for name, (usable, line) in {"disk": _disk(out), "geoid": _geoid(config), "dem": _dem(config)}.items():
        yield row(name=name, usable=usable, line=line)
    yield row(name="gdal", usable="-", line=rasterio.__gdal_version__)
    for library in _LIBRARIES:
        yield row(name=library, usable="-", line=version(library))


def _disk(out: Path) -> tuple[Verdict, str]:
    """Whether the place where a build would write has room. Measured at the nearest folder above it that exists."""
    there = next((place for place in (out, *out.absolute().parents) if place.is_dir()), None)
    if there is None:
        return "no", f"{out}: no folder above it exists"
    if not os.access(there, os.W_OK):
        return "no", f"{there}: not writable. Give another folder to --out"
    free_gb = shutil.disk_usage(there).free / _GB
    line = f"{free_gb:,.1f} GB free at {there}"
    if free_gb < FREE_GB_WANTED:
        return "no", f"{line}; a build wants {FREE_GB_WANTED:g} GB or more (sar1m plan shows how much)"
    return "yes", line


def _geoid(config: BuildConfig) -> tuple[Verdict, str]:
    try:
        named = named_place("geoid", config.safe)
        explicit = named if named is not None and named.is_file() else None
        found = find_geoid("egm2008", explicit=explicit, folders=[named] if named is not None else [])
        if found is None:
            raise no_geoid("egm2008", "Heights above sea level")
    except Sar1mError as error:
        return "no", str(error)
    stands_in = "" if found.model == "egm2008" else "; stands in for EGM2008, 0.5 m rms apart"
    return "yes", f"{found.name} at {found.path.parent}{stands_in}"


def _dem(config: BuildConfig) -> tuple[Verdict, str]:
    try:
        terrain = open_terrain(named_place("dem", config.safe), named_place("geoid", config.safe), config.safe)
    except Sar1mError as error:
        return "no", str(error)
    if terrain is not None:
        return "yes", terrain.description
    return "-", "none: set safe.dem before Sentinel-1 products (cdse, asf, dhus, safe:PATH) of hilly land are read"
