"""Limits and budgets hold over all processes of a build, whatever dies in between."""

import json
import os
import signal
import struct
import threading
import time

import pytest

from sar1m.io.net.fetch import Usage
from sar1m.io.net.limits import Limiter
from sar1m.store.errors import BudgetError, StoreError
from servers.base import Server, file_reply, reply_json
from support.hang_guard import STUCK_S


def outcome_of(worker):
    out, _ = worker.communicate(timeout=STUCK_S)
    assert worker.returncode == 0
    return json.loads(out)


class Crowd:
    """A route that counts how many are in it at once."""

    def __init__(self, stay_s=0.02):
        self.stay_s = stay_s
        self.now = self.most = 0
        self.lock = threading.Lock()

    def __call__(self, asked):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.stay_s)
        with self.lock:
            self.now -= 1
        return reply_json([])


def test_no_more_connections_than_allowed_in_four_processes(process):
    crowd = Crowd()
    with Server({"/": crowd}) as server:
        limits = {"connections": 3, "read_timeout_s": 5.0}
        workers = [process(what="request", url=server.url, times=8, threads=4, limits=limits) for _ in range(4)]
        assert [outcome_of(worker) for worker in workers] == [{"done": 32}] * 4
    assert crowd.most == 3


def test_no_faster_than_allowed_in_four_processes(process, tmp_path):
    began_s = time.time()
    with Server({"/": lambda asked: reply_json([])}) as server:
        limits = {"requests_per_s": 20.0, "read_timeout_s": 5.0}
        workers = [process(what="request", url=server.url, times=3, threads=5, limits=limits) for _ in range(4)]
        assert [outcome_of(worker) for worker in workers] == [{"done": 15}] * 4
    ended_s = time.time()
    (next_s,) = struct.unpack("<d", next((tmp_path / "net").rglob("pace")).read_bytes())
    assert next_s >= began_s - 1.0 + 60 / 20  # each of the 60 took its place in one row, after a burst of a second
    assert ended_s >= next_s - 1 / 20  # and waited for it


@pytest.mark.parametrize(
    ("limits", "cost", "most"),
    [({"max_requests": 30}, 0.0, 30), ({"max_units": 10.0}, 0.25, 40)],
)
def test_a_budget_is_used_to_the_end_and_not_exceeded(process, fetcher, limits, cost, most):
    with Server({"/": lambda asked: reply_json([])}) as server:
        shared = limits | {"read_timeout_s": 5.0}
        workers = [
            process(what="request", url=server.url, times=5, threads=4, cost=cost, limits=shared) for _ in range(4)
        ]
        outcomes = [outcome_of(worker) for worker in workers]
        assert len(server.asked) == most
    assert sum(outcome.get("done", 0) for outcome in outcomes) == most
    assert sum(outcome.get("BudgetError", 0) for outcome in outcomes) == 80 - most
    assert fetcher().usage() == Usage(requests=most, bytes=2 * most, units=most * cost)


def test_a_budget_of_bytes_refuses_before_the_first(fetcher):
    content = bytes(3_000_000)
    with Server({"/*": lambda asked: file_reply(asked, content)}) as server:
        ours = fetcher(max_gb=5e6 / 1e9)
        ours.download(f"{server.url}/a", name="a", size=len(content))
        with pytest.raises(BudgetError, match=r"download\.max_gb"):
            ours.download(f"{server.url}/b", name="b", size=len(content))
        assert len(server.asked) == 1  # the size was known: nothing was asked
        with pytest.raises(BudgetError, match=r"download\.max_gb"):
            ours.download(f"{server.url}/b", name="b")
        assert len(server.asked) == 2  # it was not: the answer's head stated it
        assert ours.usage().bytes == len(content)
        ours.ranged(f"{server.url}/c").read(1_000_000)
        with pytest.raises(BudgetError):
            ours.ranged(f"{server.url}/d").readall()
        assert ours.usage().bytes <= 5_000_000


def test_a_refused_request_costs_no_units(fetcher):
    def route(asked):
        return reply_json([], status=429) if asked.nth < 2 else reply_json([])

    with Server({"/": route}) as server:
        ours = fetcher()
        ours.request("GET", server.url, cost=2.5)
        assert ours.usage() == Usage(requests=3, bytes=2, units=2.5)


def test_a_killed_process_frees_its_slot(process, fetcher):
    entered = threading.Event()

    def route(asked):
        if asked.nth == 0:
            entered.set()
            server.sleep(30)
        return reply_json("free")

    with Server({"/": route}) as server:
        worker = process(what="request", url=server.url, limits={"connections": 1, "read_timeout_s": 30.0})
        assert entered.wait(STUCK_S)
        os.kill(worker.pid, signal.SIGKILL)
        worker.wait(STUCK_S)
        assert fetcher(connections=1).request("GET", server.url).json() == "free"


def test_hosts_do_not_wait_for_each_other(fetcher):
    entered = threading.Event()

    def route(asked):
        if asked.headers["host"].startswith("127"):
            entered.set()
            server.sleep(2)
        return reply_json([])

    with Server({"/": route}) as server:
        ours = fetcher(connections=1, read_timeout_s=5.0)
        slow = threading.Thread(target=ours.request, args=("GET", server.url))
        slow.start()
        assert entered.wait(STUCK_S)
        ours.request("GET", f"http://localhost:{server.port}/")
        assert slow.is_alive()
        slow.join()


def test_a_clock_set_back_does_not_stop_the_build(fetcher):
    settings = fetcher(requests_per_s=10.0).settings
    limiter = Limiter(settings.root, settings.limits)
    with limiter.turn("host"):
        pass
    pace = next(settings.root.rglob("pace"))
    pace.write_bytes(struct.pack("<d", time.time() + 1e6))
    with limiter.turn("host"):
        pass
    assert struct.unpack("<d", pace.read_bytes())[0] < time.time() + 1


def test_a_damaged_meter_is_an_error_not_a_fresh_start(fetcher):
    ours = fetcher()
    ours.usage()
    (ours.settings.root / "meter").write_bytes(b"xyz")
    with pytest.raises(StoreError, match="Remove it"):
        ours.usage()
