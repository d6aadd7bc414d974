"""A store of two files behind a server, and what tests of its cache look at."""

from pathlib import Path

import numpy as np

from sar1m.store.cache.bound import FOLDER
from sar1m.store.cache.place import open_cached
from sar1m.store.cache.segment import PAGE_BYTES, SEGMENT_BYTES
from sar1m.store.places.place import ByteRange
from sar1m.store.schema import MARKER_FILE
from sar1m.store.seal_text import marker_bytes
from servers.objects import PREFIX

BIG = "data/train/sar/c/0"
SMALL = "data/train/optical/c/0"
SIZES = {BIG: 2 * SEGMENT_BYTES + 3 * PAGE_BYTES + 77, SMALL: 1000}


def write_store(root: Path, seed: int) -> Path:
    for name, size in SIZES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(np.random.default_rng([seed, size]).bytes(size))
    (root / MARKER_FILE).write_bytes(marker_bytes({"seed": seed}, b"", SIZES))
    return root


def opened(server, config):
    return open_cached(server.url + PREFIX, config)


def whole(name):
    return ByteRange(name=name, start=0, stop=SIZES[name])


def segment_files(config):
    return sorted((config.root / FOLDER).glob("*/*/*.segment"))


def allocated_bytes(config):
    return sum(path.stat().st_blocks * 512 for path in (config.root / FOLDER).rglob("*") if path.is_file())


def check_random_ranges(objects, store, count=40):
    content = (store / BIG).read_bytes()
    rng = np.random.default_rng(3)
    for start in rng.integers(0, SIZES[BIG], count):
        stop = min(SIZES[BIG], int(start) + int(rng.integers(1, 3 * PAGE_BYTES)))
        assert objects.read_range(BIG, int(start), stop) == content[start:stop]
