"""Locations, names and local files of a store."""

import os
import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.cache.place import open_cached
from sar1m.store.errors import ConfigError, MissingError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.opening import is_remote, open_place
from sar1m.store.places.place import ByteRange, checked_name
from sar1m.store.places.remote import Patience
from servers.base import Reply, Server, file_reply

CANARY = "hunter2canary"


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "shard").write_bytes(bytes(range(256)) * 10)
    return tmp_path


def test_local_reads_give_the_files_bytes(folder):
    objects = FolderPlace(folder)
    content = (folder / "data/shard").read_bytes()
    buffer = bytearray(100)
    objects.read_into("data/shard", 200, memoryview(buffer))
    assert bytes(buffer) == content[200:300]
    assert objects.read_range("data/shard", 2500, 2560) == content[2500:]
    assert objects.read("data/shard", max_bytes=2560) == content
    assert objects.size("data/shard") == 2560
    assert objects.size("data/none") is None
    assert objects.size("data/shard/none") is None
    assert objects.local_path("data/shard").read_bytes() == content


def test_local_reads_beyond_the_file_are_errors_that_name_it(folder):
    objects = FolderPlace(folder)
    with pytest.raises(StoreError, match=r"data/shard: ends at byte 2560.*\[2550, 2561\)"):
        objects.read_range("data/shard", 2550, 2561)
    with pytest.raises(StoreError, match=r"data/shard: ends at byte 2560"):
        objects.read_into("data/shard", 2559, memoryview(bytearray(2)))
    with pytest.raises(StoreError, match=r"data/none: there is no such file"):
        objects.read_range("data/none", 0, 1)
    with pytest.raises(StoreError, match=r"data/shard: holds more than 2559 bytes"):
        objects.read("data/shard", max_bytes=2559)
    with pytest.raises(StoreError, match=r"data: cannot be read"):
        objects.read("data", max_bytes=10)


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../x", "a//b", "a/./b", "a\0b", "a/", "a\\b"])
def test_names_that_leave_the_store_are_refused(folder, name):
    objects = FolderPlace(folder)
    for ask in (objects.size, objects.local_path, lambda n: objects.read_range(n, 0, 1)):
        with pytest.raises(StoreError, match="no name of a file of a store"):
            ask(name)


@given(st.text(alphabet="ab./\\\0 é", max_size=12))
def test_a_checked_name_stays_below_the_root(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        checked_name(name)
    except StoreError:
        return
    assert (root / name).resolve().is_relative_to(root.resolve())
    assert (root / name).resolve() != root.resolve()


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 3), (4, 3)])
def test_ranges_that_are_none_are_refused(start, stop):
    with pytest.raises(StoreError, match="are no range"):
        ByteRange(name="x", start=start, stop=stop)


def test_more_files_than_may_be_open_are_read(tmp_path):
    for number in range(300):
        (tmp_path / str(number)).write_bytes(b"%03d" % number)
    objects = FolderPlace(tmp_path)
    assert [objects.read_range(str(n), 0, 3) for n in range(300)] == [b"%03d" % n for n in range(300)]
    assert len(objects._handles._open) == 256


def test_locations(folder, tmp_path):
    cache = CacheConfig(root=tmp_path / "cache", max_bytes=10**9)
    (folder / "with space").write_bytes(b"x")
    assert open_cached(str(folder)).size("with space") == 1
    assert open_cached(f"file://{folder}").read("with space", max_bytes=1) == b"x"
    assert open_cached("s3://bucket/some/prefix/", cache).location == "s3://bucket/some/prefix"
    assert [is_remote(place) for place in ("/a", "file:///a", "s3://b", "HTTPS://h/p")] == [False, False, True, True]
    for place in (str(folder), "s3://bucket/p"):
        copied = pickle.loads(pickle.dumps(open_cached(place, cache)))  # noqa: S301 - our own
        assert copied.location == place


@pytest.mark.parametrize(
    "location",
    [
        f"https://user:{CANARY}@host/path",
        f"https://{CANARY}@host/path",
        f"https://host/path?token={CANARY}",
        f"https://host/path#{CANARY}",
        f"ftp://host/{CANARY}",
        f"s3:///{CANARY}",
        f"https://[bad/{CANARY}",
    ],
)
def test_locations_with_secrets_or_unknown_schemes_are_refused_without_showing_them(tmp_path, location):
    with pytest.raises(ConfigError, match="expected a path") as refused:
        open_cached(location, CacheConfig(root=tmp_path, max_bytes=10**9))
    assert CANARY not in str(refused.value)
    assert refused.value.__cause__ is None


def test_remote_locations_want_a_cache_and_file_urls_a_path():
    with pytest.raises(ConfigError, match="read through a disk cache"):
        open_cached("https://host/path")
    with pytest.raises(ConfigError, match="file:///path"):
        open_cached("file://otherhost/path")


@pytest.mark.parametrize(
    "change",
    [{"max_bytes": 10**8}, {"request_bytes": 2**20}, {"in_flight": 0}, {"retries": -1}, {"timeout_s": 0.0}],
)
def test_a_cache_too_small_to_work_in_is_refused(tmp_path, change):
    with pytest.raises(ConfigError, match="cache"):
        CacheConfig(**({"root": tmp_path, "max_bytes": 10**9} | change))


CONTENT = bytes(range(256)) * 4


@pytest.mark.parametrize(
    ("location", "endpoint", "path"),
    [
        ("s3://bucket/a/b", "AWS_ENDPOINT_URL", "/bucket/a/b/data/shard"),
        ("gs://bucket/a/b", "GOOGLE_BASE_URL", "/bucket/a%2Fb%2Fdata%2Fshard"),
        ("az://bucket/a/b", "AZURE_STORAGE_ENDPOINT", "/bucket/a/b/data/shard"),
        ("", "", "/a/b/data/shard"),
    ],
)
def test_every_kind_of_server_is_read_through_one_door(monkeypatch, location, endpoint, path):
    for name in [name for name in os.environ if name.startswith(("AWS_", "GOOGLE_", "AZURE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    for kind in ("AWS", "GOOGLE", "AZURE"):
        monkeypatch.setenv(f"{kind}_SKIP_SIGNATURE", "true")

    def answer(asked):
        if asked.path != path:
            return Reply(status=404)
        reply = file_reply(asked, CONTENT)
        return replace(reply, headers=reply.headers | {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"})

    with Server({"/*": answer}) as server:
        if endpoint:
            monkeypatch.setenv(endpoint, server.url)
        place = open_place(location or f"{server.url}/a/b", Patience(retries=0, timeout_s=5.0))
        assert place.read_range("data/shard", 100, 300) == CONTENT[100:300]
        assert b"".join(place.stream("data/shard")) == place.read("data/shard", max_bytes=1024) == CONTENT
        assert (place.size("data/shard"), place.size("data/none")) == (1024, None)
        buffers = bytearray(10), bytearray(5)
        place.read_into("data/shard", 7, *map(memoryview, buffers))
        assert b"".join(buffers) == CONTENT[7:22]
        with pytest.raises(MissingError, match="data/none: there is no such file"):
            place.read("data/none", max_bytes=1)
        with pytest.raises(StoreError, match="holds more than 1023 bytes"):
            place.read("data/shard", max_bytes=1023)
