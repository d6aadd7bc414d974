"""Work items over Dask: bounded work in flight, faults kept as values, poison found by name.

The only module that imports Dask. `Workers` runs one function over many items on a local cluster, on any Dask
scheduler, or (workers=0) in this process, and yields an Outcome for every item, in the order of completion.
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
ALLOWED_DEATHS = 2  # workers a task may take down before it is suspected
JOIN_TIMEOUT = "20s"
# Read when a worker's process starts. One numerical thread a worker; and glibc keeps freed arrays up to 32 MiB, the
# most it can, for the next ones. Otherwise every large array is mapped anew, page by page: a third of the CPU time.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[Item, Result]):
    """What became of an item: a result, or the type and message of the error that stopped it. trace: where an error
    came from that is not one of ours, for the build log."""

    item: Item
    result: Result | None = None
    error: str = ""
    cause: str = ""
    trace: str = ""


@dataclass(frozen=True, kw_only=True)
class WorkersSettings:
    """Where the work runs. scheduler: address of a running Dask scheduler; workers: processes on this machine
    (0: no Dask, everything in this process, one item after the other); memory_limit: of each local worker."""

    scheduler: str | None = None
    workers: int | None = None
    memory_limit: str = "auto"


class Workers:
    """A context in which items run. Closes the local cluster, never a scheduler that was given."""

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
            self._client = self._stack.enter_context(_join(settings.scheduler))
        else:
            cluster = LocalCluster(
                n_workers=settings.workers or CPU_COUNT,
                threads_per_worker=1,
                memory_limit=settings.memory_limit,
                silence_logs=logging.ERROR,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0" if _has_dashboard() else None,
            )
            local = Client(self._stack.enter_context(cluster), set_as_default=False)
            self._client = self._stack.enter_context(local)
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
        """Outcomes of function over items, as they complete; items are drawn only as room becomes free.

        An item that took workers down with it is run again alone; only if it does so again is it reported, as
        WorkerDied. Raises OutputError and BudgetError at once: a full disk or a spent budget stops the build, it is no
        fault of an item.
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
        yield from self._pass(function, items, lambda: self.count * IN_FLIGHT_PER_WORKER, suspects)
        condemned: list[Item] = []
        yield from self._pass(function, suspects, lambda: 1, condemned)
        for item in condemned:
            yield Outcome(item=item, error="WorkerDied", cause="killed its workers again and again, also when alone")

    def _pass(
        self, function: Callable[[Item], Result], items: Iterable[Item], room: Callable[[], int], suspects: list[Item]
    ) -> Iterator[Outcome[Item, Result]]:
        """room: how many items may be in flight, asked again and again, since clusters grow and shrink."""
        client = self._client
        if client is None:
            raise RuntimeError("Workers.map needs the context to be entered")
        queue = iter(items)
        running: dict[Future[Any], Item] = {}

        def submit(batch: Iterable[Item]) -> list[Future[Any]]:
            futures = {client.submit(attempt, function, item, pure=False): item for item in batch}
            running.update(futures)
            return list(futures)

        completed = as_completed(submit(islice(queue, room())), loop=client.loop)
        for future in completed:
            item = running.pop(future)
            outcome = _outcome(future, item)
            future.release()
            completed.update(submit(islice(queue, max(0, room() - len(running)))))
            if outcome is None:
                suspects.append(item)
            else:
                yield outcome


def attempt(function: Callable[[Item], Result], item: Item) -> Outcome[Item, Result]:
    """Runs function on one item and turns its fault into a value. An error that is not ours is tried once more."""
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


def _outcome(future: Future[Any], item: Any) -> Outcome[Any, Any] | None:  # noqa: ANN401 - any item
    """None where the item's workers died or the scheduler let go of it: it is to be run again.

    A finished future whose worker dies before its result is fetched goes back to lost and is computed anew; result()
    waits for that, the status alone would not tell.
    """
    try:
        outcome: Outcome[Any, Any] = future.result()
    except (KilledWorker, CancelledError):
        return None
    except Exception as error:  # noqa: BLE001 - the item boundary: what failed around the item, not in it
        return Outcome(item=item, error=type(error).__name__, cause=str(error))
    return replace(outcome, item=item)


def _join(address: str) -> Client:
    try:
        # Not the process's default: one that failed to start would stay it, and catch whatever else uses Dask.
        return Client(address, timeout=JOIN_TIMEOUT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise Sar1mError(f"--scheduler {address}: no Dask scheduler answers there ({error}).") from error


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def _dask_settings() -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        "distributed.worker.daemon": True,  # workers end with the process that started them
        # Ctrl-C reaches every process of a terminal: the one that was started by hand ends the others.
        "distributed.worker.preload": ["import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"],
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.logging": {"distributed": "error", "bokeh": "error", "tornado": "error"},
        "distributed.comm.timeouts.connect": "30s",
    }
