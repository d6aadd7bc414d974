"""Workers and schedulers that die, hang, are cut off or come back: all items are done, or a typed error says why."""

import contextlib
import random
import signal
import threading
import time

import pytest
from dask import config as dask_config
from distributed import Client, Security

from sar1m.flow import Workers, WorkersSettings
from sar1m.store.errors import WorkersError
from servers.base import wait_until
from support.campaigns import campaign
from support.dask_processes import DaskProcesses, local_worker_processes, send
from support.hang_guard import STUCK_S

ITEMS = 24


def slow(item: int) -> int:
    time.sleep(0.1)
    return item * item


def results(outcomes):
    return sorted(outcome.result for outcome in outcomes if not outcome.error)


SQUARES = sorted(item * item for item in range(ITEMS))


def disturbed(workers, disturb, after=3):
    """Results of all items. disturb: called after so many outcomes."""
    found = []
    for number, outcome in enumerate(workers.map(slow, range(ITEMS)), start=1):
        found.append(outcome)
        if number == after:
            disturb()
    return results(found)


def impatient(workers, disturb, *arguments):
    """Disturbs, and from then on waits for two seconds alone. Before, a busy machine takes long to start workers."""

    def disturb_and_hurry():
        disturb(*arguments)
        workers._cluster._waiting._limit_s = 2.0

    return disturb_and_hurry


def test_local_workers_whose_nannies_gave_up_are_replaced():
    with Workers(WorkersSettings(workers=2, patience_s=STUCK_S)) as workers:
        local = workers._cluster._local

        def give_up():
            for nanny in list(local.workers.values()):
                local.sync(nanny.close)

        assert disturbed(workers, give_up) == SQUARES


@pytest.mark.parametrize("named_by", ["client", *campaign("address")])
def test_scheduler_that_comes_back_is_joined_again(named_by):
    """Also where a client was given: address and certificates are all that is taken of it."""
    lines = []
    with contextlib.ExitStack() as stack:
        dask = stack.enter_context(DaskProcesses().start())
        settings = WorkersSettings(scheduler=dask.address, patience_s=STUCK_S)
        if named_by == "client":
            given = stack.enter_context(Client(dask.address, timeout="60s", set_as_default=False))
            settings = WorkersSettings(client=given, patience_s=STUCK_S)
        with Workers(settings, lines.append) as workers:
            assert disturbed(workers, dask.restart) == SQUARES
    assert any("again" in line for line in lines)
    if named_by == "client":
        with pytest.raises(WorkersError, match="The given client of Dask is clos"), Workers(settings):
            pass


def test_scheduler_that_stays_away_is_a_typed_end():
    lines = []
    with (
        DaskProcesses().start() as dask,
        Workers(WorkersSettings(scheduler=dask.address, patience_s=STUCK_S), lines.append) as workers,
        pytest.raises(WorkersError, match=r"is gone: waited \d+ s in vain.*run the same command again"),
    ):
        disturbed(workers, impatient(workers, dask.kill_scheduler))
    assert any("is gone. Waiting for" in line for line in lines)


def test_scheduler_without_workers_is_waited_for_and_said():
    lines = []
    with DaskProcesses() as dask:
        dask.start_scheduler()
        settings = WorkersSettings(scheduler=dask.address, patience_s=4)
        with Workers(settings, lines.append) as workers, pytest.raises(WorkersError, match="No worker is there"):
            list(workers.map(slow, range(3)))
    assert any("Waiting" in line for line in lines)


def test_worker_that_joins_late_is_waited_for():
    with DaskProcesses() as dask:
        dask.start_scheduler()
        with Workers(WorkersSettings(scheduler=dask.address, patience_s=STUCK_S)) as workers:
            dask.start_worker()
            assert results(workers.map(slow, range(3))) == [0, 1, 4]


@pytest.mark.parametrize("stopped", ["scheduler", *campaign("worker")])
def test_what_is_cut_off_is_a_typed_end(stopped, monkeypatch):
    monkeypatch.setattr("sar1m.flow.cluster.ANSWER_S", 1.0)
    monkeypatch.setattr("sar1m.flow.cluster.FRESH_S", 4.0)
    with DaskProcesses().start() as dask:
        process = dask.scheduler if stopped == "scheduler" else dask.workers[0]
        with (
            pytest.raises(WorkersError, match=r"does not answer|gives a sign of life"),
            Workers(WorkersSettings(scheduler=dask.address, patience_s=STUCK_S)) as workers,
        ):
            disturbed(workers, impatient(workers, send, process, signal.SIGSTOP))


@pytest.mark.campaign
def test_items_of_a_worker_that_is_cut_off_are_done_by_others():
    with (
        DaskProcesses().start(workers=2) as dask,
        Workers(WorkersSettings(scheduler=dask.address, patience_s=20)) as workers,
    ):
        wait_until(lambda: workers.count == 2)
        assert disturbed(workers, lambda: send(dask.workers[0], signal.SIGSTOP)) == SQUARES


def test_scheduler_lost_again_and_again_is_a_typed_end(monkeypatch):
    monkeypatch.setattr("sar1m.flow.workers.MOST_LOSSES", 1)
    lines = []
    with DaskProcesses() as dask:
        dask.start_scheduler()
        again = threading.Thread(target=lambda: [restart_once_joined(dask, lines, times) for times in range(2)])
        with Workers(WorkersSettings(scheduler=dask.address, patience_s=STUCK_S), lines.append) as workers:
            again.start()
            with pytest.raises(WorkersError, match="was lost 2 times"):
                list(workers.map(slow, range(3)))
        again.join()


def restart_once_joined(dask, lines, times):
    """Restarts the scheduler once it was joined again so many times."""
    wait_until(lambda: sum("again" in line for line in lines) >= times)
    dask.kill_scheduler()
    dask.start_scheduler()


def test_certificates_come_from_dasks_own_configuration(tmp_path):
    made, settings, environment = Security.temporary(), {}, {}
    for name, key in (("tls_ca_file", "ca-file"), ("tls_client_cert", "cert"), ("tls_client_key", "key")):
        (tmp_path / key).write_text(getattr(made, name))
        for role in ("",) if key == "ca-file" else ("client.", "scheduler.", "worker."):
            dotted = f"distributed.comm.tls.{role}{key}"
            settings[dotted] = str(tmp_path / key)
            environment["DASK_" + dotted.replace(".", "__").replace("-", "_").upper()] = str(tmp_path / key)
    with DaskProcesses(protocol="tls", **environment).start() as dask:
        given = WorkersSettings(scheduler=dask.address)
        with dask_config.set(settings), Workers(given) as workers:
            assert results(workers.map(slow, range(3))) == [0, 1, 4]
        with pytest.raises(WorkersError, match="needs certificates"), Workers(given):
            pass
        with (
            Client(dask.address, security=made, timeout="60s", set_as_default=False) as client,
            Workers(WorkersSettings(client=client)) as workers,
        ):
            assert results(workers.map(slow, range(3))) == [0, 1, 4]
        lost = {"distributed.comm.tls.ca-file": str(tmp_path / "gone"), "distributed.comm.tls.client.cert": "gone"}
        with (
            dask_config.set(lost),
            pytest.raises(WorkersError, match="its certificates cannot be used"),
            Workers(given),
        ):
            pass


@pytest.mark.campaign
@pytest.mark.parametrize("seed", range(4))
def test_bursts_of_kills(seed):
    """15 kills each, 60 in all. An item whose worker was killed three times, and three times more alone, is named."""
    draw = random.Random(seed)
    left = 15
    with Workers(WorkersSettings(workers=2, patience_s=STUCK_S)) as workers:
        found = []
        for outcome in workers.map(slow, range(60)):
            found.append(outcome)
            if left and draw.random() < 0.3:
                for process in local_worker_processes()[:left]:
                    send(process, signal.SIGKILL)
                    left -= 1
                time.sleep(draw.uniform(0, 1.5))
    assert len(found) == 60
    assert {outcome.error for outcome in found} <= {"", "WorkerDied"}
