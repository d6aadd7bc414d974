"""Work over Dask: every item accounted for, faults as values, poison by name, nothing drawn before there is room."""

import os
import signal

import pytest

from sar1m.flow import Workers, WorkersSettings
from sar1m.flow.workers import IN_FLIGHT_PER_WORKER
from sar1m.store.errors import OutputError, Sar1mError, SourceError


def work(item: int) -> int:
    if item == 13:
        raise SourceError("item 13: no such scene")
    if item == 14:
        raise ZeroDivisionError("a bug")
    if item == 15:
        os.kill(os.getpid(), signal.SIGKILL)
    if item == 16:
        raise OutputError("disk full")
    if item == 17:
        os.kill(os.getpid(), signal.SIGINT)
    return item * item


@pytest.fixture(scope="module")
def cluster():
    with Workers(WorkersSettings(workers=2)) as workers:
        yield workers


def outcomes(workers, items):
    return {outcome.item: outcome for outcome in workers.map(work, items)}


@pytest.mark.parametrize("count", [0, 2])
def test_every_item_has_one_outcome_and_faults_are_values(count, request):
    if count:
        found = outcomes(request.getfixturevalue("cluster"), range(15))
    else:
        with Workers(WorkersSettings(workers=0)) as workers:
            found = outcomes(workers, range(15))
    assert {item: outcome.result for item, outcome in found.items() if not outcome.error} == {
        item: item * item for item in range(13)
    }
    assert (found[13].error, found[13].cause) == ("SourceError", "item 13: no such scene")
    assert (found[14].error, found[14].cause) == ("ZeroDivisionError", "a bug")


def test_item_that_kills_its_worker_is_named_and_the_rest_finish(cluster):
    found = outcomes(cluster, [*range(8), 15, *range(20, 28)])
    assert found[15].error == "WorkerDied"
    assert {item for item, outcome in found.items() if not outcome.error} == {*range(8), *range(20, 28)}


def test_full_disk_ends_the_build(cluster):
    with pytest.raises(OutputError, match="disk full"):
        outcomes(cluster, [1, 16, 2])
    with Workers(WorkersSettings(workers=0)) as here, pytest.raises(OutputError, match="disk full"):
        outcomes(here, [1, 16, 2])


def test_items_are_drawn_only_as_room_becomes_free(cluster):
    drawn = []

    def items():
        for item in range(100, 160):
            drawn.append(item)
            yield item

    room = 2 * IN_FLIGHT_PER_WORKER
    for finished, _ in enumerate(cluster.map(work, items()), start=1):
        assert len(drawn) <= finished + room
    assert len(drawn) == 60


def test_scheduler_given_by_address_is_used_and_left_running(cluster):
    address = cluster._cluster.client.scheduler.address  # a running scheduler, as a user of a cluster has one
    for _ in range(2):
        with Workers(WorkersSettings(scheduler=address)) as guests:
            assert 1 <= guests.count <= 2  # a worker that an earlier test killed may be on its way back
            assert {outcome.result for outcome in guests.map(work, range(5))} == {0, 1, 4, 9, 16}
    assert outcomes(cluster, [3])[3].result == 9


def test_scheduler_that_does_not_answer_is_an_error(monkeypatch):
    monkeypatch.setattr("sar1m.flow.cluster.JOIN_TIMEOUT", "1s")
    with (
        pytest.raises(Sar1mError, match=r"--scheduler tcp://127\.0\.0\.1:9: no Dask scheduler answers"),
        Workers(WorkersSettings(scheduler="tcp://127.0.0.1:9")),
    ):
        pass


def test_more_workers_get_more_items(cluster, monkeypatch):
    """A cluster that grows while it works, as adaptive ones do, is used in full."""
    sizes = iter([1] * 4 + [4] * 100)
    monkeypatch.setattr(Workers, "count", property(lambda _: next(sizes)))
    drawn, most = 0, 0

    def items():
        nonlocal drawn
        for item in range(100, 160):
            drawn += 1
            yield item

    for finished, _ in enumerate(cluster.map(work, items()), start=1):
        most = max(most, drawn - finished)
    assert most == 4 * IN_FLIGHT_PER_WORKER
    assert drawn == 60


def test_ctrl_c_in_a_terminal_leaves_the_workers_to_their_master(cluster):
    assert outcomes(cluster, [17, 1]).keys() == {17, 1}
    assert outcomes(cluster, [17])[17].result == 17 * 17
