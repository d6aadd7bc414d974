"""The loader over a network: the local tensors, nothing fetched twice, errors that come through, clean ends."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import sarmae
from sar1m.store.cache.bound import FOLDER, CacheConfig
from sar1m.store.cache.place import open_cached
from sar1m.store.cache.segment import PAGE_BYTES
from sar1m.store.errors import OutputError, StoreError, UnreachableError
from sar1m.store.schema import MARKER_FILE, PARTIAL_FILE
from sarmae.stream.layout import open_split
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.reader import SplitReader
from servers.base import Reply, wait_until
from servers.objects import PREFIX, asked_ranges, folder_server
from support.hang_guard import STUCK_S
from support.small_stores import small_store

SAMPLES, SLOTS, BATCH = 1024, 64, 16
STEPS = SAMPLES // BATCH
SETTINGS = {"global_batch": BATCH, "seed": 3, "order": "lanes", "lanes": 2, "window": 32}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """32 shards of 0.2 MB: two or three pages of the cache each, and two blocks of the order."""
    root = tmp_path_factory.mktemp("store")
    return small_store(root, samples=SAMPLES, slots=SLOTS, side=32, compression="none", unpaired=(2, 8, 99))


@pytest.fixture
def served(store):
    with folder_server(store.root) as server:
        yield server


@pytest.fixture
def cache(tmp_path):
    return CacheConfig(root=tmp_path / "cache", max_bytes=2**29, in_flight=4, timeout_s=5.0, retries=1)


def loader(place, cache=None, *, rank=0, world=1, **how):
    return ShardLoader([place], LoaderSettings(**SETTINGS | how), cache=cache, rank_and_world=(rank, world))


@pytest.fixture(scope="module")
def expected(store):
    """The epoch as the local loader hands it out."""
    return list(loader(str(store.root)))


def check_same(found, expected):
    assert [(batch.epoch, batch.step) for batch in found] == [(batch.epoch, batch.step) for batch in expected]
    for one, other in zip(found, expected, strict=True):
        assert all(torch.equal(getattr(one, name), getattr(other, name)) for name in ("sar", "optical", "paired", "id"))


def test_a_part_of_a_release_is_read_over_a_network(store, cache, expected, tmp_path):
    """As a build is, by the marker that `sar1m get` left in place of the release's own."""
    part = shutil.copytree(store.root, tmp_path / "part")
    (part / MARKER_FILE).rename(part / PARTIAL_FILE)
    with folder_server(part) as server:
        check_same(list(loader(server.url + PREFIX, cache)), expected)


def times_asked(server, store):
    """How often each byte of each file was asked for, by file."""
    counts = {path.relative_to(store.root).as_posix(): path for path in store.root.rglob("*") if path.is_file()}
    counts = {name: np.zeros(path.stat().st_size, np.uint8) for name, path in counts.items()}
    for name, start, stop in asked_ranges(server):
        counts[name][start:stop] += 1
    return counts


def most_asked(server, store):
    return max(int(counts.max()) for counts in times_asked(server, store).values() if counts.size)


@pytest.mark.parametrize("threads", [0, 2])
def test_tensors_are_those_of_the_local_loader_and_no_byte_comes_twice(store, served, cache, expected, threads):
    one = loader(served.url + PREFIX, cache, threads=threads)
    check_same(list(one), expected)
    assert {batch.epoch for batch in one} == {1}
    assert most_asked(served, store) == 1
    for array in ("sar", "optical"):
        assert times_asked(served, store)[f"data/train.zarr/{array}/c/0/0/0/0"].all()


def test_a_warm_cache_asks_for_marker_and_manifest_alone(served, cache, expected):
    one = loader(served.url + PREFIX, cache)
    list(one)
    served.asked.clear()
    again = loader(served.url + PREFIX, cache)
    check_same(list(again), expected)
    assert sorted(Path(path).name for path in served.paths()) == ["BUILD_COMPLETE.json", "manifest-sha256.txt"]


def test_opening_fetches_small_files_at_once(served, cache):
    """All but the marker and the manifest are asked for before any of them is answered, as far as requests may fly."""

    def wait_for_others(asked, right):
        if "range" in asked.headers:
            wait_until(lambda: served.most_at_once >= 4)

    served.fault = wait_for_others
    loader(served.url + PREFIX, cache)
    assert served.most_at_once == cache.in_flight


def test_a_small_file_damaged_on_its_way_is_not_kept(store, served, cache, expected):
    def flip_once(asked, right):
        if asked.path.endswith("sample_key/c/0") and asked.nth == 0:
            return replace(right, body=bytes([right.body[0] ^ 1]) + right.body[1:])
        return None

    served.fault = flip_once
    check_same(list(loader(served.url + PREFIX, cache)), expected)


@pytest.mark.parametrize(("begins", "at"), [("bytes=0-", 5000), (f"bytes={2 * PAGE_BYTES}-", -9)])
def test_a_chunk_or_an_index_damaged_on_its_way_is_not_kept(served, cache, expected, begins, at):
    """The first page of a shard holds a chunk, its last one the index."""
    flipped = []

    def flip_once(asked, right):
        if "sar/c/1/" not in asked.path or flipped or not asked.headers["range"].startswith(begins):
            return None
        flipped.append(asked)
        body = bytearray(right.body)
        body[at] ^= 1
        return replace(right, body=bytes(body))

    served.fault = flip_once
    check_same(list(loader(served.url + PREFIX, cache)), expected)
    assert flipped


def test_a_server_that_fails_a_plain_read_is_no_fault_of_samples(served, cache):
    objects = open_cached(served.url + PREFIX, cache)
    index = open_split(objects, "train")
    reader = SplitReader(index, objects, optical=False)
    sar = np.empty((1, *index.sar.sample_shape), index.sar.dtype)
    served.fault = lambda asked, right: Reply(status=403)
    with pytest.raises(UnreachableError, match="access refused"):
        reader.read_into(np.array([5]), np.array([0]), sar, None)


RUNNER = """
import json, sys
from pathlib import Path
from sar1m.store.cache.bound import CacheConfig
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
url, root, rank, world = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
cache = CacheConfig(root=root, max_bytes=int(sys.argv[6]), in_flight=int(sys.argv[7]), timeout_s=60.0)
loader = ShardLoader([url], LoaderSettings(**json.loads(sys.argv[5])), cache=cache, rank_and_world=(rank, world))
for batch in loader:
    print(json.dumps([loader.state_dict(), batch.id.tolist(), int(batch.sar.long().sum())]), flush=True)
"""


def runner(server, cache, rank=0, world=1):
    command = [sys.executable, "-c", RUNNER, server.url + PREFIX, str(cache.root), str(rank), str(world)]
    environment = os.environ | {"PYTHONPATH": str(Path(sarmae.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, json.dumps(SETTINGS), str(cache.max_bytes), str(cache.in_flight)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def present_pages(cache):
    """Pages of the cache whose entry is written: 16 bytes each from byte 64 of a segment's head."""
    heads = [path.read_bytes()[64:4096] for path in (cache.root / FOLDER).rglob("*.segment")]
    return sum(any(head[at : at + 16]) for head in heads for at in range(0, len(head), 16))


def facts_of(batch):
    return [batch.id.tolist(), int(batch.sar.long().sum())]


def test_a_killed_epoch_goes_on_and_asks_for_nothing_it_had(store, served, cache, expected):
    """The server holds back what only later steps want; once all that came is on the disk, the process is killed."""
    cache = replace(cache, in_flight=64, max_bytes=2**31)
    wanted = loader(str(store.root)).order.upcoming(0, 0, 8)
    early = {f"/sar/c/{block.start // SLOTS}/" for block in wanted}
    held_back = threading.Event()

    def hold(asked, right):
        if "/sar/c/" in asked.path and not any(shard in asked.path for shard in early):
            held_back.set()
            served.sleep(60)

    served.fault = hold
    lines = []
    with runner(served, cache) as process:
        assert held_back.wait(STUCK_S)
        lines.append(process.stdout.readline())
        quiet = [0, -1]
        while quiet[0] != quiet[1]:  # what was on its way has come to the disk
            time.sleep(0.5)
            quiet = [quiet[1], present_pages(cache)]
        process.send_signal(signal.SIGKILL)
        lines += process.communicate()[0].splitlines()
    seen = [json.loads(line) for line in lines]
    assert 0 < len(seen) < STEPS
    had = present_pages(cache)
    served.fault = None
    served.asked.clear()
    one = loader(served.url + PREFIX, cache)
    one.load_state_dict(seen[-1][0])
    rest = list(one)
    check_same(rest, expected[len(seen) :])
    assert [each[1:] for each in seen] == [facts_of(batch) for batch in expected[: len(seen)]]
    assert most_asked(served, store) == 1
    fetched = sum(-(-stop // PAGE_BYTES) - start // PAGE_BYTES for _, start, stop in asked_ranges(served))
    assert had + fetched == present_pages(cache)


def test_two_ranks_and_then_one_process_share_a_cache_and_fetch_nothing_twice(store, served, cache, expected):
    """The ranks begin together: no range is served before both have come."""
    both = threading.Event()

    def wait_for_both(asked, right):
        if asked.path.endswith("BUILD_COMPLETE.json") and asked.nth == 1:
            both.set()
        both.wait(STUCK_S)

    served.fault = wait_for_both
    with runner(served, cache, 1, 2) as other:
        first = [facts_of(batch) for batch in loader(served.url + PREFIX, replace(cache, timeout_s=60.0), world=2)]
        second = [json.loads(line)[1:] for line in other.communicate()[0].splitlines()]
    served.fault = None
    together = [
        [key for pair in zip(one[0], other[0], strict=True) for key in pair]
        for one, other in zip(first, second, strict=True)
    ]
    assert together == [batch.id.tolist() for batch in expected]
    check_same(list(loader(served.url + PREFIX, cache)), expected)
    assert most_asked(served, store) == 1


def fetch_threads():
    return [thread.name for thread in threading.enumerate() if "fetch" in thread.name or "decode" in thread.name]


@pytest.mark.parametrize("max_faults", [0, 1000])
def test_a_server_that_goes_away_is_an_error_that_names_the_file_and_the_run_resumes(
    served, cache, expected, max_faults
):
    """Not to be taken for damaged samples, however many of these are allowed."""

    def gone(asked, right):
        return Reply(reset=True) if len(asked_ranges(served)) > 40 else None

    served.fault = gone
    one = loader(served.url + PREFIX, cache, max_faults=max_faults)
    begun = []
    with pytest.raises(StoreError, match=r"/data/train\.zarr/(sar|optical)/c/\d+/0/0/0: the server does not do it"):
        begun.extend(batch for batch in iter(one))
    assert fetch_threads() == []
    assert one.faults == []
    state = json.loads(json.dumps(one.state_dict()))
    served.fault = None
    again = loader(served.url + PREFIX, cache)
    again.load_state_dict(state)
    check_same(list(again), expected[state["step"] :])


def test_an_error_in_a_fetching_thread_reaches_the_consumer(served, cache, monkeypatch):
    one = loader(served.url + PREFIX, cache)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match="No space left"):
        list(one)
    assert fetch_threads() == []


def test_leaving_the_loop_leaves_no_threads_and_asks_for_no_more(served, cache):
    one = loader(served.url + PREFIX, cache)
    served.fault = lambda asked, right: served.sleep(0.1)
    for _ in one:
        break
    asked = len(served.asked)
    assert fetch_threads() == []
    time.sleep(0.3)
    assert len(served.asked) == asked
    assert one.state_dict()["step"] == 1
