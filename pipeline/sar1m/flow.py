"""Work items over Dask, the only module that imports it.

`Workers` runs one function over many items: on a cluster of processes on this machine, on any Dask scheduler, or
(workers=0) in this process. It yields an Outcome for every item, in the order of completion. Few items are in flight at
a time; an error becomes a value, so that one bad item ends no build; an item that kills its workers is found and named.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, Self, TypeVar

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, LocalCluster, as_completed
from distributed.scheduler import KilledWorker

from sar1m.store.errors import BudgetError, OutputError, Sar1mError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER = 3  # enough to hide the scheduler's latency, few enough to keep memory flat
ALLOWED_DEATHS = 2  # workers that an item may kill before it is run alone
JOIN_TIMEOUT = "20s"
# Read when a worker's process starts. One numerical thread a worker. glibc keeps freed arrays of up to 32 MiB, the most
# it can, for the next ones: to map every large array anew, page by page, would take a third of the CPU time.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Item, Result]):
    """What became of an item: a result, or the type (error) and message (cause) of the error that stopped it.

    trace: the traceback of an error that is not a Sar1mError, for the build log.
    """

    item: Item
    result: Result | None = None
    error: str = ""
    cause: str = ""
    trace: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkersSettings:
    """Where the work runs.

    scheduler: address of a running Dask scheduler; None: on this machine.
    workers: processes on this machine; None: one a CPU; 0: no Dask, one item after the other in this process.
    memory_limit: of each process on this machine, as Dask takes it.
    """

    scheduler: str | None = None
    workers: int | None = None
    memory_limit: str = "auto"


class Workers:
    """A context in which items run. Its end closes the local cluster, never a scheduler that was given."""

    def __init__(self, settings: WorkersSettings) -> None:
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._client: Client | None = None

    def __enter__(self) -> Self:
        """Starts or joins the cluster. Raises Sar1mError where a given scheduler does not answer."""
        settings = self._settings
        if settings.scheduler is None and settings.workers == 0:
            return self
        self._stack.enter_context(dask.config.set(_dask_settings()))
        if settings.scheduler is not None:
            client = _join(settings.scheduler)
        else:
            client = Client(self._stack.enter_context(_local_cluster(settings)), set_as_default=False)
        self._client = self._stack.enter_context(client)
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends the local cluster and its processes."""
        self._stack.close()

    @property
    def dashboard(self) -> str | None:
        """Address of the dashboard, where there is one."""
        return str(self._client.dashboard_link) if self._client is not None and _has_dashboard() else None

    @property
    def waiting(self) -> bool:
        """Whether there is a scheduler without any worker yet."""
        return self._client is not None and not self._client.nthreads()

    @property
    def count(self) -> int:
        """Worker threads at hand; 1 without Dask."""
        return 1 if self._client is None else max(1, sum(self._client.nthreads().values()))

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        """Outcomes of function over items, as they complete. Items are drawn only as room becomes free.

        An item whose workers died is run again alone. If they die again, its outcome is the error WorkerDied. Raises
        OutputError and BudgetError at once: a full disk or a spent budget is no fault of an item and stops the build.
        """
        for outcome in self._outcomes(function, items):
            for stopping in (OutputError, BudgetError):
                if outcome.error == stopping.__name__:
                    raise stopping(outcome.cause)
            yield outcome

    def _outcomes(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        if self._client is None:
            for item in items:
                yield attempt(function, item)
            return
        suspects: list[Item] = []
        yield from _run(self._client, function, items, lambda: self.count * IN_FLIGHT_PER_WORKER, suspects)
        killers: list[Item] = []
        yield from _run(self._client, function, suspects, lambda: 1, killers)
        for item in killers:
            yield Outcome(item=item, error="WorkerDied", cause="killed its workers repeatedly, also when it ran alone")


def _run(
    client: Client,
    function: Callable[[Item], Result],
    items: Iterable[Item],
    room: Callable[[], int],
    suspects: list[Item],
) -> Iterator[Outcome[Item, Result]]:
    """Runs every item once. Items whose workers died get no outcome and are added to suspects.

    room: how many items may be in flight, asked after each outcome, since clusters grow and shrink.
    """
    queue = iter(items)
    running: dict[Future[Any], Item] = {}

    def submit(batch: Iterable[Item]) -> list[Future[Any]]:
        futures = {client.submit(attempt, function, item, pure=False): item for item in batch}
        running.update(futures)
        return list(futures)

    completed = as_completed(submit(islice(queue, room())), loop=client.loop)
    for future in completed:
        item = running.pop(future)
        outcome = _fetch(future, item)
        future.release()
        completed.update(submit(islice(queue, max(0, room() - len(running)))))
        if outcome is None:
            suspects.append(item)
        else:
            yield outcome


def attempt(function: Callable[[Item], Result], item: Item) -> Outcome[Item, Result]:
    """Runs function on one item and turns an error into a value. After an error that is not a Sar1mError it tries once
    more."""
    for last in (False, True):
        try:
            return Outcome(item=item, result=function(item))
        except Sar1mError as error:
            return Outcome(item=item, error=type(error).__name__, cause=str(error))
        except Exception as error:  # noqa: BLE001 - the item boundary: one bad item must not end a build of a million
            if last:
                cause = str(error) or repr(error)
                return Outcome(item=item, error=type(error).__name__, cause=cause, trace=traceback.format_exc())
    raise RuntimeError("unreachable")


def _fetch(future: Future[Any], item: Any) -> Outcome[Any, Any] | None:  # noqa: ANN401 - any item
    """The outcome of a future; None where the item's workers died or the scheduler dropped it: it is to be run again.

    Where a worker dies before its result is fetched, the future becomes lost and is computed anew. result() waits for
    that; the future's status does not show it.
    """
    try:
        outcome: Outcome[Any, Any] = future.result()
    except (KilledWorker, CancelledError):
        return None
    except Exception as error:  # noqa: BLE001 - the item boundary: what failed around the item, not in it
        return Outcome(item=item, error=type(error).__name__, cause=str(error))
    return replace(outcome, item=item)


def _local_cluster(settings: WorkersSettings) -> LocalCluster:
    return LocalCluster(
        n_workers=settings.workers or CPU_COUNT,
        threads_per_worker=1,
        memory_limit=settings.memory_limit,
        silence_logs=logging.ERROR,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0" if _has_dashboard() else None,
    )


def _join(address: str) -> Client:
    try:
        # Not as the default client of this process: one that failed to start would stay it, for all that uses Dask.
        return Client(address, timeout=JOIN_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Sar1mError(f"--scheduler {address}: no Dask scheduler answers there ({error}).") from error


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def _dask_settings() -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        "distributed.worker.daemon": True,  # workers end with the process that started them
        # Ctrl-C reaches every process of a terminal. Workers ignore it: the process that started them ends them.
        "distributed.worker.preload": ["import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"],
        # A worker that died starts again; on a busy machine that takes longer than Dask's 15 s, after which the cluster
        # would give the worker up, and without workers wait for ever.
        "distributed.deploy.lost-worker-timeout": "600s",
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.logging": {"distributed": "error", "bokeh": "error", "tornado": "error"},
        "distributed.comm.timeouts.connect": "30s",
    }
