"""Downloads: whole and right, or an error; resumed where they broke off; once for all who want them."""

import fcntl
import hashlib
import json
import os
import random
import signal
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from sar1m.io.net import download_cache as cache_module
from sar1m.io.net.download_cache import DownloadCache
from sar1m.io.net.fetch import OfflineError, StatusError
from sar1m.store.errors import SourceError
from servers.base import Reply, Server, file_reply, wait_until
from servers.faults import KINDS, Faulty, once
from support.campaigns import campaign
from support.hang_guard import STUCK_S

MIB = 2**20


def content_of(name, size=20_000):
    body = random.Random(name).randbytes(size - 4)
    return body + zlib.crc32(body).to_bytes(4, "big")


def check_crc(path):
    """A structural check, as that of a zip or a TIFF."""
    content = path.read_bytes()
    if len(content) < 4 or zlib.crc32(content[:-4]).to_bytes(4, "big") != content[-4:]:
        raise SourceError("its checksum inside does not fit")


def summed(content, algorithm="md5"):
    return f"{algorithm}:{hashlib.new(algorithm.replace('-', '_'), content).hexdigest()}"


def files(asked):
    return file_reply(asked, content_of(asked.path))


def outcome_of(worker):
    """What a process printed, after it ended."""
    out, _ = worker.communicate(timeout=STUCK_S)
    assert worker.returncode == 0
    return json.loads(out)


# ---- R6 ----


def proofs(name):
    """What marks a good file, in four ways that services have."""
    content = content_of(f"/{name}")
    return [
        {"size": len(content), "checksum": summed(content)},
        {"checksum": summed(content, "sha3-256")},
        {"size": len(content), "check": check_crc},
        {"check": check_crc},
    ][int(name) % 4]


def outcomes_of(ours, server, count):
    def one(number):
        for _ in range(5):
            try:
                path = ours.download(f"{server.url}/{number}", name=f"{number}.bin", **proofs(str(number)))
            except OfflineError:
                continue  # ordered; it is there a moment later
            except StatusError as error:
                return f"refused {error.status}"
            except SourceError as error:
                return "gave up" if "attempts, none complete" in str(error) else str(error)
            return "good" if path.read_bytes() == content_of(f"/{number}") else "BAD"
        return "offline"

    with ThreadPoolExecutor(16) as threads:
        return list(threads.map(one, range(count)))


@pytest.mark.parametrize("count", [200, *campaign(1000), pytest.param(10_000, marks=pytest.mark.long)])
def test_no_bad_download_is_believed(fetcher, count):
    faulty = Faulty(files, 0.3, KINDS, seed=count)
    with Server({"/*": faulty}, max_requests=20 * count) as server:
        ours = fetcher(attempts=8)
        outcomes = outcomes_of(ours, server, count)
        usage = ours.usage()
    assert set(faulty.happened) == set(KINDS)
    assert sum(faulty.happened.values()) > 0.3 * count
    assert "BAD" not in outcomes
    assert set(outcomes) <= {"good", "gave up"}
    assert outcomes.count("good") >= 0.99 * count
    assert usage.requests == len(server.asked) < 2 * count
    assert usage.bytes < 1.5 * count * 20_000
    whole = [path for path in (ours.settings.root / "cache/whole").rglob("*") if path.is_file()]
    assert len(whole) == outcomes.count("good")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"offline"}))
@pytest.mark.parametrize("proof", range(4))
def test_each_fault_alone_is_survived(fetcher, kind, proof):
    with Server({"/*": once(kind, files)}) as server:
        path = fetcher().download(f"{server.url}/{proof}", name="x.bin", **proofs(str(proof)))
        assert path.read_bytes() == content_of(f"/{proof}")
        assert len(server.asked) <= 3


@pytest.mark.parametrize("kind", ["html_with_200", "flipped_bit", "cut_with_length", "reset", "too_many"])
def test_attempts_end(fetcher, kind):
    with Server({"/*": Faulty(files, 1.0, (kind,))}) as server:
        with pytest.raises(SourceError, match=r"x\.bin.*4 attempts") as caught:
            fetcher(attempts=4).download(f"{server.url}/0", name="x.bin", **proofs("0"))
        assert len(server.asked) == 4
        assert "?" not in str(caught.value)
        assert server.bytes_sent <= 4 * 20_000


# ---- one download ----


def test_what_fails_is_kept_aside_with_its_reason(fetcher):
    ours = fetcher(attempts=3)
    with Server({"/*": Faulty(files, 1.0, ("flipped_bit",))}) as server, pytest.raises(SourceError):
        ours.download(f"{server.url}/0", name="x.bin", **proofs("0"))
    kept = sorted((ours.settings.root / "quarantine").iterdir())
    assert [path.name.partition("-")[2] for path in kept] == ["x.bin", "x.bin.reason.txt"]
    assert "md5" in kept[1].read_text()
    assert kept[0].read_bytes() != content_of("/0")
    assert not [path for path in (ours.settings.root / "cache").rglob("*") if path.is_file()]


def test_an_offline_product_is_named(fetcher):
    with Server({"/0": once("offline", files)}) as server:
        with pytest.raises(OfflineError, match=r"x\.bin: is offline at 127\.0\.0\.1"):
            fetcher().download(f"{server.url}/0", name="x.bin", **proofs("0"))
        assert len(server.asked) == 1
        assert fetcher().download(f"{server.url}/0", name="x.bin", **proofs("0")).exists()


def test_what_nobody_could_check_is_not_downloaded(fetcher):
    unsized = {"/0": lambda asked: replace(files(asked), send_length=False)}
    with Server(unsized) as server, pytest.raises(SourceError, match="states no length"):
        fetcher().download(f"{server.url}/0", name="x.bin")
    with Server({"/0": files}) as server:
        assert fetcher().download(f"{server.url}/0", name="x.bin").read_bytes() == content_of("/0")


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".hidden", "x" * 161, "a\nb", "a b", "/etc/passwd"])
def test_a_name_is_a_file_name(fetcher, name):
    with pytest.raises(SourceError, match="no file name"):
        fetcher().download("http://127.0.0.1:9/x", name=name)


@pytest.mark.parametrize("checksum", ["md5", "md5:12", "crc32:00000000", "sha256:" + "g" * 64, "0f" * 16])
def test_a_checksum_we_cannot_compute_is_an_error(fetcher, checksum):
    with Server({"/0": files}) as server:
        with pytest.raises(SourceError, match="its checksum"):
            fetcher().download(f"{server.url}/0", name="x.bin", checksum=checksum)
        assert server.asked == []


def test_files_told_apart_by_query_alone_are_two_files(fetcher):
    with Server({"/get": lambda asked: file_reply(asked, asked.query["id"][0].encode())}) as server:
        ours = fetcher()
        for name in ("a", "b"):
            assert ours.download(f"{server.url}/get?id={name}&sig=1", name=name).read_text() == name
        assert ours.download(f"{server.url}/get?id=a&sig=2", name="a").read_text() == "a"
        assert len(server.asked) == 2


def test_a_broken_download_goes_on_where_it_was(fetcher):
    content = content_of("big", 4 * MIB)
    served = once("cut_with_length", lambda asked: file_reply(asked, content))
    with Server({"/big": served}) as server:
        path = fetcher().download(f"{server.url}/big", name="x.bin", size=len(content))
        assert path.read_bytes() == content
        assert server.asked[1].headers["range"] == f"bytes={2 * MIB}-"
        assert server.asked[1].headers["if-range"] == '"v1"'
        assert server.bytes_sent == len(content)


@pytest.mark.parametrize("kind", ["range_ignored", "etag_changed"])
def test_another_file_is_not_glued_to_the_first(fetcher, kind):
    """Cut in the middle, and replaced by other content (of the same size) before the download goes on."""
    former, latter = content_of("former"), content_of("latter")

    def route(asked):
        if asked.nth == 0:
            return replace(file_reply(asked, former), cut_at=10_000)
        if kind == "etag_changed":
            return file_reply(asked, latter, etag='"v2"')
        return Reply(body=latter, content_type="application/octet-stream")

    with Server({"/x": route}) as server:
        assert fetcher().download(f"{server.url}/x", name="x.bin", size=20_000).read_bytes() == latter
        assert len(server.asked) == 2


def test_a_server_that_forgets_if_range_gives_no_mixture(fetcher):
    former, latter = content_of("former"), content_of("latter")

    def route(asked):
        if asked.nth == 0:
            return replace(file_reply(asked, former), cut_at=10_000)
        headers = {name: value for name, value in asked.headers.items() if name != "if-range"}
        return file_reply(replace(asked, headers=headers), latter, etag='"v2"')

    with Server({"/x": route}) as server:
        assert fetcher().download(f"{server.url}/x", name="x.bin", size=20_000).read_bytes() == latter


# ---- processes ----


def slow(content, **more):
    return lambda asked: replace(file_reply(asked, content), trickle_s=0.01, trickle_bytes=2**16, **more)


def partials(ours):
    return list((ours.settings.root / "cache/partial").glob("*.part"))


def test_a_killed_download_goes_on_in_another_process(fetcher, process):
    content = content_of("big", 16 * MIB)
    ours = fetcher()
    with Server({"/big": slow(content)}) as server:
        job = {"what": "download", "url": f"{server.url}/big", "size": len(content), "checksum": summed(content)}
        for round_ in (4, 9):
            worker = process(**job)
            wait_until(lambda least=round_: partials(ours) and partials(ours)[0].stat().st_size > least * MIB)
            os.kill(worker.pid, signal.SIGKILL)
            worker.wait(STUCK_S)
        have = partials(ours)[0].stat().st_size
        path = ours.download(job["url"], name="item.bin", size=job["size"], checksum=job["checksum"])
        assert path.read_bytes() == content
        assert server.asked[-1].headers["range"] == f"bytes={have}-"
        assert len(server.asked) == 3
        assert len(content) <= ours.usage().bytes <= len(content) + 2 * MIB  # a step of the meter a kill
        ours.download(job["url"], name="item.bin", size=job["size"], checksum=job["checksum"])
        assert len(server.asked) == 3
    assert not partials(ours)


def test_four_processes_that_want_one_file_fetch_it_once(fetcher, process):
    content = content_of("big", 4 * MIB)
    with Server({"/big": slow(content)}) as server:
        job = {"what": "download", "url": f"{server.url}/big", "size": len(content), "checksum": summed(content)}
        workers = [process(**job, threads=2) for _ in range(4)]
        assert [outcome_of(worker) for worker in workers] == [{"done": 2}] * 4
        assert len(server.asked) == 1


def test_a_file_made_whole_between_look_and_lock_is_not_claimed(tmp_path, monkeypatch):
    """Another process is done just after this one saw that it was not."""
    partial, final = tmp_path / "p.part", tmp_path / "whole"
    locked = cache_module._locked

    def late(path):
        final.write_bytes(b"whole")
        return locked(path)

    monkeypatch.setattr(cache_module, "_locked", late)
    with cache_module.claimed(partial, final) as stream:
        assert stream is None
    assert not partial.exists()
    assert final.read_bytes() == b"whole"


# ---- room ----


def held_bytes(ours):
    return sum(path.stat().st_size for path in (ours.settings.root / "cache/whole").rglob("*") if path.is_file())


def test_the_cache_stays_under_its_limit_and_forgets_the_oldest(fetcher, monkeypatch):
    monkeypatch.setattr(cache_module, "LEASE_S", -1.0)
    monkeypatch.setattr(cache_module, "_KEPT_OPEN", 2)
    ours = fetcher(cache_gb=110_000 / 1e9)
    with Server({"/*": files}) as server:
        for number in range(12):
            ours.download(f"{server.url}/{number}", name=f"{number}.bin")
            assert held_bytes(ours) <= 110_000
        names = {path.name for path in (ours.settings.root / "cache/whole").rglob("*.bin")}
        assert "11.bin" in names
        assert "0.bin" not in names
        assert len(names) >= 3
        assert ours.download(f"{server.url}/0", name="0.bin").read_bytes() == content_of("/0")


def test_what_is_in_use_is_not_evicted(fetcher, monkeypatch, tmp_path):
    ours = fetcher(cache_gb=30_000 / 1e9)
    with Server({"/*": files}) as server:
        first = ours.download(f"{server.url}/0", name="0.bin")
        os.utime(first, (0, 0))  # asked for long ago, but held by this process
        ours.download(f"{server.url}/1", name="1.bin")
        ours.download(f"{server.url}/2", name="2.bin")
        assert first.read_bytes() == content_of("/0")


def test_an_evicted_file_stays_readable_to_who_has_it_open(tmp_path):
    cache = DownloadCache(tmp_path, 100)
    path = cache.folder / "whole/k/x.bin"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 90)
    os.utime(path, (0, 0))
    partial = cache.folder / "partial/p.part"
    partial.parent.mkdir()
    partial.write_bytes(b"y" * 90)
    with path.open("rb") as reader, partial.open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        (tmp_path / "cache-size").write_bytes((90).to_bytes(8, "little"))
        os.utime(partial, (0, 0))
        cache.add(stream, partial, cache.folder / "whole/q/y.bin", durable=True)
        assert not path.exists()
        assert reader.read() == b"x" * 90
    assert (cache.folder / "whole/q/y.bin").read_bytes() == b"y" * 90


def test_a_damaged_state_of_a_partial_file_restarts_it(fetcher):
    ours, content = fetcher(attempts=1), content_of("/0")
    with Server({"/0": once("cut_with_length", files)}) as server:
        with pytest.raises(SourceError):
            ours.download(f"{server.url}/0", name="x.bin", size=len(content))
        partials(ours)[0].with_suffix(".json").write_text(json.dumps([1]) + "}")
        path = ours.download(f"{server.url}/0", name="x.bin", size=len(content))
        assert path.read_bytes() == content
        assert "range" not in server.asked[1].headers
        assert isinstance(path, Path)
