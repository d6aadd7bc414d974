"""Remote stores through the disk cache: right bytes or an error, nothing fetched twice, a bound that holds."""

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import sarmae
from sar1m.store.cache.bound import FOLDER, CacheConfig
from sar1m.store.cache.segment import PAGE_BYTES, SEGMENT_BYTES
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.places.place import ByteRange
from sar1m.store.schema import MARKER_FILE
from servers.base import wait_until
from servers.objects import PREFIX, asked_ranges, folder_server
from support.hang_guard import STUCK_S
from support.remote_stores import (
    BIG,
    SIZES,
    SMALL,
    allocated_bytes,
    check_random_ranges,
    opened,
    segment_files,
    whole,
    write_store,
)


def test_any_range_has_the_files_bytes_and_no_byte_is_fetched_twice(store, served, config):
    objects = opened(served, config)
    check_random_ranges(objects, store)
    objects.prefetch([whole(BIG), whole(SMALL)])
    assert objects.read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()
    assert objects.read_range(SMALL, 0, 1000) == (store / SMALL).read_bytes()
    seen = {name: np.zeros(size, np.uint8) for name, size in SIZES.items()}
    for name, start, stop in asked_ranges(served):
        seen[name][start:stop] += 1
    assert all((counts == 1).all() for counts in seen.values())


def test_a_prefetch_is_few_requests_in_parallel(store, served, config):
    def wait_for_others(asked, right):
        if "range" in asked.headers:
            wait_until(lambda: served.most_at_once == 3)

    served.fault = wait_for_others
    opened(served, config).prefetch([ByteRange(name=BIG, start=1000, stop=SIZES[BIG] - 10), whole(SMALL)])
    assert sorted(asked_ranges(served)) == [(SMALL, 0, 1000), (BIG, 0, SEGMENT_BYTES), (BIG, SEGMENT_BYTES, SIZES[BIG])]


def test_a_later_process_reads_what_is_cached_without_a_request(store, served, config):
    opened(served, config).prefetch([whole(BIG)])
    served.asked.clear()
    later = opened(served, config)
    later.prefetch([whole(BIG)])
    check_random_ranges(later, store)
    assert served.paths() == [f"{PREFIX}/{MARKER_FILE}"]


RUNNER = """
import os, sys, signal
from pathlib import Path
from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sar1m.store.places.place import ByteRange
config = CacheConfig(root=Path(sys.argv[2]), max_bytes=2**29, in_flight=4, timeout_s=20.0, retries=3)
objects = open_cached(sys.argv[1], config)
for span in sys.argv[3:]:
    start, stop = map(int, span.split("-"))
    objects.prefetch([ByteRange(name="data/train/sar/c/0", start=start, stop=stop)])
    print(span, flush=True)
"""


def runner(server, config, *spans):
    command = [sys.executable, "-c", RUNNER, server.url + PREFIX, str(config.root), *spans]
    environment = os.environ | {"PYTHONPATH": str(Path(sarmae.__file__).parents[1])}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_keeps_what_it_had(store, served, config):
    """Killed while its second request is on the way: the next run fetches the rest, and nothing of the first."""
    arrived = threading.Event()

    def hold_second(asked, right):
        if "range" in asked.headers and f"bytes={PAGE_BYTES * 10}-" in asked.headers["range"]:
            arrived.set()
            served.sleep(20)

    served.fault = hold_second
    with runner(served, config, f"0-{PAGE_BYTES * 10}", f"{PAGE_BYTES * 10}-{PAGE_BYTES * 20}") as process:
        assert arrived.wait(STUCK_S)
        process.send_signal(signal.SIGKILL)
        assert process.communicate()[0].split() == [f"0-{PAGE_BYTES * 10}"]
    served.fault = None
    served.asked.clear()
    objects = opened(served, config)
    objects.prefetch([ByteRange(name=BIG, start=0, stop=PAGE_BYTES * 30)])
    assert asked_ranges(served) == [(BIG, PAGE_BYTES * 10, PAGE_BYTES * 30)]
    assert objects.read_range(BIG, 0, PAGE_BYTES * 30) == (store / BIG).read_bytes()[: PAGE_BYTES * 30]


def test_two_processes_fetch_a_range_once(store, served, config):
    served.fault = lambda asked, right: served.sleep(1.0) if "range" in asked.headers else None
    with runner(served, config, f"0-{SEGMENT_BYTES}") as one, runner(served, config, f"0-{SEGMENT_BYTES}") as other:
        assert one.communicate()[0] == other.communicate()[0] != ""
    assert asked_ranges(served) == [(BIG, 0, SEGMENT_BYTES)]


def damage(path, offset):
    with path.open("r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 0x10]))


@pytest.mark.parametrize(
    ("offset", "refetched"),
    [
        (4096 + 5 * PAGE_BYTES + 9, [(BIG, 5 * PAGE_BYTES, 6 * PAGE_BYTES)]),  # a page's bytes
        (64 + 5 * 16 + 2, [(BIG, 5 * PAGE_BYTES, 6 * PAGE_BYTES)]),  # its crc
        (64 + 5 * 16 + 6, [(BIG, 5 * PAGE_BYTES, 6 * PAGE_BYTES)]),  # its stamp
        (64 + 5 * 16 + 10, [(BIG, 5 * PAGE_BYTES, 6 * PAGE_BYTES)]),  # the check over both
        (3, [(BIG, 0, SEGMENT_BYTES)]),  # the magic
        (12, [(BIG, 0, SEGMENT_BYTES)]),  # the identity, part of every check
    ],
)
def test_what_is_damaged_in_the_cache_is_fetched_again(store, served, config, offset, refetched):
    opened(served, config).prefetch([whole(BIG)])
    served.asked.clear()
    damage(segment_files(config)[0], offset)
    assert opened(served, config).read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()
    assert asked_ranges(served) == refetched


def test_a_segment_cut_short_or_taken_for_another_is_not_believed(store, served, config):
    opened(served, config).prefetch([whole(BIG)])
    first, second, _ = segment_files(config)
    os.truncate(first, 4096 + 3 * PAGE_BYTES + 5)
    second.unlink()
    second.symlink_to(store / BIG)
    objects = opened(served, config)
    assert objects.read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()


def test_another_version_of_the_store_shares_nothing(tmp_path, config):
    root = write_store(tmp_path / "store", seed=1)
    with folder_server(root) as server:
        opened(server, config).prefetch([whole(BIG)])
        write_store(root, seed=2)
        assert opened(server, config).read_range(BIG, 0, SIZES[BIG]) == (root / BIG).read_bytes()


def test_the_bound_holds_and_the_least_recently_used_goes_first(tmp_path, store):
    config = CacheConfig(root=tmp_path / "cache", max_bytes=2**24 + 2**18, request_bytes=SEGMENT_BYTES, in_flight=1)
    with folder_server(store) as server:
        objects = opened(server, config)
        first, second = (ByteRange(name=BIG, start=n * SEGMENT_BYTES, stop=(n + 1) * SEGMENT_BYTES) for n in range(2))
        last = ByteRange(name=BIG, start=2 * SEGMENT_BYTES, stop=SIZES[BIG])
        objects.prefetch([first])
        objects.prefetch([second])
        assert len(segment_files(config)) == 2
        for wanted in (first, last):
            objects.prefetch([wanted])
            assert allocated_bytes(config) <= config.max_bytes
        assert [path.name[:8] for path in segment_files(config)] == ["00000000", "00000002"]
        server.asked.clear()
        objects.prefetch([first, last])
        assert asked_ranges(server) == []
        assert objects.read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()
        assert allocated_bytes(config) <= config.max_bytes


def test_what_another_process_evicts_is_still_read_by_who_has_it_open(store, served, config):
    objects = opened(served, config)
    objects.prefetch([whole(BIG)])
    for path in segment_files(config):
        path.unlink()
    assert objects.read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()
    objects.prefetch([whole(BIG)])
    assert len(segment_files(config)) == 3


def test_a_prefetch_larger_than_the_cache_is_an_error_that_says_so(tmp_path, store):
    config = CacheConfig(
        root=tmp_path / "cache", max_bytes=2**24 + 2**13, request_bytes=SEGMENT_BYTES, in_flight=1, timeout_s=0.5
    )
    with folder_server(store) as server:
        objects = opened(server, config)
        with pytest.raises(ConfigError, match=r"max_bytes = \d+ is less than what runs at once needs"):
            objects.prefetch([whole(BIG)])
        assert allocated_bytes(config) <= config.max_bytes
        check_random_ranges(objects, store, count=5)


def test_a_full_disk_is_named_and_nothing_wrong_is_kept(store, served, config, monkeypatch):
    objects = opened(served, config)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OutputError, match=f"{FOLDER}: cannot be used: No space left"):
        objects.prefetch([whole(BIG)])
    monkeypatch.undo()
    assert objects.read_range(BIG, 0, SIZES[BIG]) == (store / BIG).read_bytes()


@pytest.mark.parametrize("root", ["file", "file/below"])
def test_a_cache_folder_that_cannot_be_is_named(tmp_path, served, root):
    (tmp_path / "file").write_text("")
    objects = opened(served, CacheConfig(root=tmp_path / root, max_bytes=10**9))
    with pytest.raises(OutputError, match="cannot be used"):
        objects.prefetch([whole(SMALL)])


@pytest.mark.parametrize("content", [b"", b"[]", b'{"files": 3}', b'{"files": {"../x": 3}}', b'{"files": {"x": "y"}}'])
def test_a_marker_that_is_none_is_refused(tmp_path, config, content):
    (tmp_path / MARKER_FILE).write_bytes(content)
    with folder_server(tmp_path) as server, pytest.raises(StoreError):
        opened(server, config).read_range("x", 0, 1)


def test_files_and_ranges_outside_the_list_are_refused_without_a_request(served, config):
    objects = opened(served, config)
    with pytest.raises(StoreError, match="has no such file"):
        objects.prefetch([ByteRange(name="data/none", start=0, stop=1)])
    with pytest.raises(StoreError, match=f"{SMALL}: ends at byte 1000"):
        objects.read_range(SMALL, 999, 1001)
    assert served.paths() == [f"{PREFIX}/{MARKER_FILE}"]


def test_small_files_are_read_whole_and_bounded(store, served, config):
    objects = opened(served, config)
    assert objects.read(SMALL, max_bytes=1000) == (store / SMALL).read_bytes()
    assert (objects.size(SMALL), objects.size("data/none")) == (1000, None)
    assert objects.local_path(SMALL) is None
    with pytest.raises(StoreError, match="more than 999 bytes"):
        objects.read(SMALL, max_bytes=999)
    with pytest.raises(StoreError, match="there is no such file"):
        objects.read("data/none", max_bytes=999)
