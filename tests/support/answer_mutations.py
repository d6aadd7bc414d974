"""Damaged and hostile answers of catalogues, and region files, for R7, and the process that reads them under limits.

Run as a program: answer_mutations.py SCRATCH FIRST COUNT [RECORDED] reads COUNT mutants made from answers of the
stand-ins, and from those recorded in a folder where one is given, prints one JSON line a mutant that misbehaved and one
summary line.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from sar1m.config import SafeConfig
from sar1m.core.cover import block_shapes, cover_fractions
from sar1m.io.net.answer import Answer
from sar1m.records import RasterGrid
from sar1m.sources.scene import Query, scene_from_text, scene_to_text
from sar1m.sources.services.cdse.service import Cdse
from sar1m.sources.services.products.asf import Asf
from sar1m.sources.services.products.dhus import Dhus
from sar1m.sources.services.stac.service import StacService
from sar1m.store.errors import Sar1mError, SourceError
from servers.asf import feature_of
from servers.cdse import row_of
from servers.delivered import Delivered
from servers.dhus import entry_of
from servers.stac import Place, StacServer, e84_item, land_cover_item, rtc_item, s2_item
from support.hang_guard import arm, hang_guard
from support.json_mutations import damaged_json
from support.peak_memory import peak_bytes
from support.region_mutations import REGION_SUBJECTS

MEMORY_BYTES = 2 * 2**30  # of what is in use; one mutant may ask for HEADROOM_BYTES of addresses
HEADROOM_BYTES = 2**30
GRID = RasterGrid(epsg=32633, left_m=500_000.0, top_m=5_000_000.0, gsd_m=10.0, rows=256, cols=256)
BLOBS = "https://sentinel1euwestrtc.blob.core.windows.net"
PRODUCT = Delivered(
    folder=Path(),
    product_id="S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8",
    start=datetime(2021, 8, 9, 17, 39, 53, tzinfo=UTC),
    ring=((11.0, 47.0), (12.0, 47.0), (12.0, 48.0), (11.0, 48.0), (11.0, 47.0)),
    content=b"PK",
)
WORLD = (-180.0, -80.0, 180.0, 84.0)


class Answering:
    """Stands for the downloader: gives bytes by method and the end of the path."""

    def __init__(self, answers: dict[tuple[str, str], bytes]) -> None:
        self.answers = answers

    def request(self, method, url, **_asking):
        path = url.partition("?")[0].rstrip("/").rpartition("/")[2]
        content = self.answers.get((method, path), self.answers.get((method, "*"), b"{}"))
        return Answer(status=200, headers={}, content=content, url=url, name=f"GET {url}")

    def ranged(self, url, **_asking):
        raise SourceError(f"worldcover {url}: is not there")


@dataclass(frozen=True)
class Subject:
    """What is damaged and how it is read. answers: by method and path; the damaged one stands in the place of target.
    names: one of them must stand in every error."""

    name: str
    target: tuple[str, str]
    answers: dict[tuple[str, str], bytes]
    read: Callable[[Answering], None]
    names: tuple[str, ...]

    def damage(self, rng: random.Random, folder: Path) -> tuple[Callable[[], None], str, tuple[str, ...]]:
        content, done = damaged_json(rng, self.answers[self.target])
        fetcher = Answering(self.answers | {self.target: content})
        (folder / "answer.json").write_bytes(content)
        return lambda: self.read(fetcher), f"{self.name} {done}", self.names


def searched(service, kind, span):
    """All scenes of a service, as a plan uses them."""
    query = Query(kind=kind, box=WORLD, first=span[0], last=span[1], polarisations=("VV",))
    scenes = list(service.search(query))
    for scene in scenes:
        assert scene_from_text(scene_to_text(scene), "again") == scene
    covers = cover_fractions(block_shapes([GRID], 15.0), [scene.footprint for scene in scenes])
    assert np.isfinite(covers).all()
    assert all(line.isprintable() for line in getattr(service, "remarks", ()))


def stac_answers(items: list[dict]) -> dict[tuple[str, str], bytes]:
    """Those of an API that knows the items."""
    server = StacServer()
    server.items = {"stac": items}
    root = "https://stac.example.org/stac"
    names = sorted({str(item.get("collection")) for item in items})
    told = {
        ("GET", "stac"): server._root(root),
        ("GET", "collections"): {"collections": [server._collection(name, root) for name in names], "links": []},
        ("POST", "search"): {"type": "FeatureCollection", "features": items, "links": [{"rel": "root", "href": root}]},
    }
    return {key: json.dumps(body).encode() for key, body in told.items()}


def stac_subjects(items: list[dict], span) -> list[Subject]:
    def api(name, kind):
        url = "https://stac.example.org/stac"
        return lambda fetcher: searched(StacService(fetcher=fetcher, name=name, url=url), kind, span)

    def static(fetcher):
        url = "https://stac.example.org/all.json"
        for kind in ("sar", "optical"):
            searched(StacService(fetcher=fetcher, name="stac-static", url=url), kind, span)

    answers = stac_answers(items)
    page = ("POST", "search")
    fixed = answers | {("GET", "v1"): answers["GET", "stac"].replace(b"stac.example.org/stac", PC.encode())}
    fixed |= {page: answers[page].replace(b"stac.example.org/stac", PC.encode())}
    one = {("GET", "*"): answers[page]}
    return [
        Subject("planetary-computer sar", page, fixed, api("planetary-computer", "sar"), ("planetary-computer",)),
        Subject("planetary-computer", page, fixed, api("planetary-computer", "optical"), ("planetary-computer",)),
        Subject("stac root", ("GET", "stac"), answers, api("stac", "sar"), ("stac",)),
        Subject("stac collections", ("GET", "collections"), answers, api("stac", "optical"), ("stac",)),
        Subject("stac page", page, answers, api("stac", "sar"), ("stac",)),
        Subject("stac-static", ("GET", "*"), one, static, ("stac-static",)),
    ]


PC = "planetarycomputer.microsoft.com/api/stac/v1"


def land_cover_subject() -> Subject:
    answers = stac_answers([land_cover_item(42, 15, "https://ai4edataeuwest.blob.core.windows.net")])
    answers = {key: body.replace(b"stac.example.org/stac", PC.encode()) for key, body in answers.items()}
    answers |= {("GET", "v1"): answers["GET", "stac"]}

    def read(fetcher):
        StacService(fetcher=fetcher, name="planetary-computer").land_cover.read(GRID)

    return Subject("worldcover", ("POST", "search"), answers, read, ("planetary-computer", "worldcover"))


def product_subjects(rows: dict, features: dict, feed: dict) -> list[Subject]:
    """Answers of the catalogues of whole products."""
    span, safe = (datetime(2014, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)), SafeConfig()

    def searching(make):
        return lambda fetcher: searched(make(fetcher), "sar", span)

    def told(body):
        return {("GET", "*"): json.dumps(body).encode()}

    hub = "https://hub.example.org/dhus"
    return [
        Subject("cdse", ("GET", "*"), told(rows), searching(lambda f: Cdse(fetcher=f, safe=safe)), ("cdse",)),
        Subject("asf", ("GET", "*"), told(features), searching(lambda f: Asf(fetcher=f, safe=safe)), ("asf",)),
        Subject(
            *("dhus", ("GET", "*"), told(feed), searching(lambda f: Dhus(fetcher=f, safe=safe, url=hub))),
            ("dhus", "hub.example.org"),
        ),
    ]


def own_subjects() -> list[Subject]:
    """Of answers that the stand-ins make."""
    place = Place(grid=GRID)
    items = [rtc_item(place, BLOBS), s2_item(place, BLOBS), e84_item(place, BLOBS)]
    items[1] = json.loads(json.dumps(items[1]).replace("sentinel1euwestrtc.blob", "sentinel2l2a01.blob"))
    second = PRODUCT.renamed(product_id=PRODUCT.product_id[:-4] + "0A0A")
    entry = entry_of(PRODUCT, beginposition="2021-08-09T17:39:53.000Z")
    pool = f"https://datapool.asf.alaska.edu/GRD_HD/SA/{PRODUCT.product_id}.zip"
    return [
        *stac_subjects(items, (datetime(2023, 6, 1, tzinfo=UTC), datetime(2023, 6, 30, tzinfo=UTC))),
        land_cover_subject(),
        *product_subjects(
            {"value": [row_of(PRODUCT), row_of(second)]},
            {"type": "FeatureCollection", "features": [feature_of(PRODUCT, pool)]},
            {"feed": {"opensearch:totalResults": "2", "opensearch:startIndex": "0", "entry": [entry, entry]}},
        ),
    ]


def recorded_subjects(folder: Path) -> list[Subject]:
    """Of answers that services gave. Alaska's search was not recorded."""
    import yaml  # noqa: PLC0415  here alone

    items = [json.loads(path.read_bytes()) for path in sorted((folder / "stac").glob("S*_*.json"))]
    ring = [list(point) for point in PRODUCT.ring]
    items[0]["geometry"] = {"type": "Polygon", "coordinates": [ring]}  # it was recorded with metres for degrees
    rows = json.loads((folder / "cdse_odata/cop_dataspace_search.json").read_bytes())
    own_row = row_of(PRODUCT)
    for row in rows["value"]:  # of Sentinel-2
        row |= {"Name": own_row["Name"], "ContentDate": own_row["ContentDate"]}
    text = yaml.safe_load((folder / "dhus/test_sentinel1_flag.yaml").read_text())
    feed = json.loads(text["interactions"][0]["response"]["body"]["string"])
    products = product_subjects(rows, {"features": []}, feed)
    span = (datetime(2019, 6, 1, tzinfo=UTC), datetime(2020, 8, 1, tzinfo=UTC))
    return [*stac_subjects(items, span), *(one for one in products if one.name != "asf")]


def outcome(read: Callable[[], None]) -> tuple[str, str]:
    """How reading went: read, or the kind of error, and its text."""
    try:
        read()
    except Sar1mError as error:
        return type(error).__name__, str(error)
    return "read", ""


def judge(read: Callable[[], None], names: tuple[str, ...]) -> tuple[str, str]:
    """outcome, with everything that may not be: an untyped error, one that names neither file nor service, or repeats
    a stranger's control characters."""
    try:
        kind, text = outcome(read)
    except MemoryError as error:
        return "out of memory", repr(error)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return "untyped", f"{type(error).__name__}: {error}"
    if kind not in ("read", "SourceError", "RegionError", "AddressError", "ConfigError"):
        return "unexpected", f"{kind} {text}"
    if text and (not any(name in text for name in names) or len(text) > 1_500 or not text.isprintable()):
        return "unnamed", text
    return kind, text


def addresses() -> int:
    """Bytes of address space of this process: libraries' threads reserve most of it and use none."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main() -> None:
    scratch, first, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    answers = [*own_subjects(), *(one for folder in sys.argv[4:] for one in recorded_subjects(Path(folder)))]
    subjects = [*answers, *(make(scratch) for make in REGION_SUBJECTS)]
    limit = addresses() + HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    arm()
    warnings.simplefilter("ignore")  # of the libraries; every one of ours is an error type
    tally: Counter[str] = Counter()
    slowest = (0.0, "")
    for index in range(first, first + count):
        rng = random.Random(index)
        read, done, names = subjects[index % len(subjects)].damage(rng, scratch)
        sys.stderr.write(f"{index} {done}\n")
        started = time.process_time()
        with hang_guard():
            kind, text = judge(read, names)
        slowest = max(slowest, (time.process_time() - started, f"{index} {done}"))
        tally[kind] += 1
        if kind not in ("read", "SourceError", "RegionError", "AddressError", "ConfigError"):
            print(json.dumps({"index": index, "done": done, "kind": kind, "text": text[:600]}), flush=True)
    for whole in answers:  # what is whole must be understood, or its damage shows nothing
        kind, text = judge(partial(whole.read, Answering(whole.answers)), whole.names)
        if kind != "read":
            print(json.dumps({"index": -1, "done": whole.name, "kind": "whole", "text": text[:600]}))
    told = {"tally": tally, "slowest_cpu_s": slowest[0], "slowest": slowest[1], "peak_bytes": peak_bytes()}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
