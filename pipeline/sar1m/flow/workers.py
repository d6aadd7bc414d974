"""Items over workers: every item accounted for, whatever happens to workers and scheduler.

`Workers` runs one function over many items: on a cluster of processes on this machine, on any Dask scheduler, or
(workers=0) in this process. It yields an Outcome for every item, in the order of completion. Few items are in flight at
a time; an error becomes a value, so that one bad item ends no build; an item that kills its workers is found and named.
"""

from __future__ import annotations

import contextlib
import queue
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from distributed import Future, get_worker
from distributed.scheduler import KilledWorker

from sar1m.flow.cluster import Cluster, WorkersSettings
from sar1m.stages.deciding import Proof
from sar1m.store.errors import BudgetError, OutputError, Sar1mError, WorkersError

Item = TypeVar("Item")
Result = TypeVar("Result")

IN_FLIGHT_PER_WORKER: Final = 3  # enough to hide the scheduler's latency, few enough to keep memory flat
MOST_LOSSES: Final = 5  # of the scheduler, without one outcome in between
TEND_EVERY_S: Final = 1.0


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


class Workers:
    """A context in which items run.

    say: takes one line on what is waited for. proof: what every process of a cluster has to show before its first item,
    also one that joins late.
    """

    def __init__(
        self, settings: WorkersSettings, say: Callable[[str], None] = lambda _line: None, proof: Proof | None = None
    ) -> None:
        self._proof = proof
        self._cluster = None if settings.here else Cluster(settings, say)
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Starts or joins the cluster. Raises WorkersError where a given scheduler does not answer."""
        if self._cluster is not None:
            self._stack.enter_context(self._cluster)
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends a local cluster and its processes, never a scheduler that was given."""
        self._stack.close()

    @property
    def dashboard(self) -> str | None:
        """Address of the dashboard, where there is one."""
        return None if self._cluster is None else self._cluster.dashboard

    @property
    def count(self) -> int:
        """Worker threads at hand, as of some seconds ago; at least 1."""
        return 1 if self._cluster is None else max(1, self._cluster.threads)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        """Outcomes of function over items, as they complete. Items are drawn only as room becomes free.

        An item whose workers died is run again alone. If they die again, its outcome is the error WorkerDied. Items in
        flight when the scheduler is lost run again once it is back. Raises OutputError and BudgetError at once: a full
        disk or a spent budget is no fault of an item and stops the build. Raises WorkersError where scheduler or
        workers do not come back in time, or where a worker fails the proof.
        """
        for outcome in self._outcomes(function, items):
            for stopping in (OutputError, BudgetError, WorkersError):
                if outcome.error == stopping.__name__:
                    raise stopping(outcome.cause)
            yield outcome

    def _outcomes(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Outcome[Item, Result]]:
        if self._cluster is None:
            for item in items:
                yield attempt(function, item)
            return
        proven = function if self._proof is None else _Proven(function, self._proof)
        together = _Pass(self._cluster, proven, items, lambda: self.count * IN_FLIGHT_PER_WORKER)
        yield from together.outcomes()
        alone = _Pass(self._cluster, proven, together.suspects, lambda: 1)
        yield from alone.outcomes()
        for item in alone.suspects:
            yield Outcome(item=item, error="WorkerDied", cause="killed its workers repeatedly, also when it ran alone")


class _Pass(Generic[Item, Result]):
    """Runs every item once. Items whose workers died get no outcome and are added to suspects.

    room: how many items may be in flight, asked after each outcome, since clusters grow and shrink.
    """

    def __init__(
        self,
        cluster: Cluster,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        room: Callable[[], int],
    ) -> None:
        self.suspects: list[Item] = []
        self._cluster = cluster
        self._function = function
        self._queue = iter(items)
        self._room = room
        self._running: dict[str, tuple[Future[Any], Item]] = {}
        self._landed: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._only: Collection[str] = ()  # workers to submit to; any where empty
        self._losses = 0

    def outcomes(self) -> Iterator[Outcome[Item, Result]]:
        """The outcome of every item but the suspects."""
        self._fill()
        while self._running:
            try:
                key, found = self._landed.get(timeout=TEND_EVERY_S)
            except queue.Empty:
                found = None
            else:
                if key in self._running and not _is_lost(found):
                    future, item = self._running.pop(key)
                    future.release()
                    outcome = self._judge(item, found)
                    self._fill()
                    if outcome is not None:
                        yield outcome
                elif key in self._running:
                    self._start_over()
            self._tend()

    def _judge(self, item: Item, found: Any) -> Outcome[Item, Result] | None:  # noqa: ANN401 - a result or an error
        """The outcome of an item; None where its workers died: it is to be run again."""
        self._losses = 0
        self._cluster.progressed()
        if isinstance(found, KilledWorker):
            self.suspects.append(item)
            return None
        if isinstance(found, ImportError | AttributeError):  # raised where a worker reads what it is sent
            raise WorkersError(
                f"A worker cannot load the code of this build ({found}). Install the same version of sar1m on all "
                "workers, and run the same command again."
            )
        if isinstance(found, Exception):  # what failed around the item, not in it
            return Outcome(item=item, error=type(found).__name__, cause=str(found))
        outcome: Outcome[Item, Result] = found
        return replace(outcome, item=item)

    def _fill(self) -> None:
        """Submits items while there is room."""
        for item in islice(self._queue, max(0, self._room() - len(self._running))):
            client, only = self._cluster.client, list(self._only) or None
            try:
                future = client.submit(attempt, self._function, item, pure=False, workers=only)
            except Exception:
                if self._cluster.connected:
                    raise
                self._queue = chain([item], self._queue)
                self._start_over()
                return
            self._running[str(future.key)] = future, item
            loop: Any = client.loop
            loop.add_callback(_land, future, self._landed)

    def _tend(self) -> None:
        """Looks after the cluster. Takes away what was given to workers that have been silent for long."""
        if not self._cluster.connected:
            self._start_over()
        if not self._cluster.tend():
            return
        held, self._only = self._cluster.lost_to_silence()
        stuck = [self._running.pop(key) for key in held if key in self._running]
        if stuck:
            self._cluster.client.cancel([future for future, _item in stuck], force=True)
            self._queue = chain([item for _future, item in stuck], self._queue)
            self._fill()

    def _start_over(self) -> None:
        """After the scheduler was lost: joins it again, and submits again what was in flight.

        Raises WorkersError where it does not come back, or is lost again and again and nothing is done in between.
        """
        self._losses += 1
        if self._losses > MOST_LOSSES:
            raise WorkersError(
                f"The scheduler was lost {self._losses} times, and no item was finished in between. Look at its log; "
                "what is staged is kept, and the same command goes on from there."
            )
        again = [item for _future, item in self._running.values()]
        self._running.clear()
        self._cluster.join_again()
        self._queue = chain(again, self._queue)
        self._fill()


class _Proven(Generic[Item, Result]):
    """A function that a worker's process runs only once it has shown the proof."""

    shown: ClassVar[set[str]] = set()  # nonces of the proofs that this process has shown

    def __init__(self, function: Callable[[Item], Result], proof: Proof) -> None:
        self._function = function
        self._proof = proof

    def __call__(self, item: Item) -> Result:
        if self._proof.nonce not in self.shown:
            complaint = self._proof.complaint()
            if complaint:
                raise WorkersError(f"The worker {get_worker().address} {complaint}, and run the same command again.")
            self.shown.add(self._proof.nonce)
        return self._function(item)


async def _land(future: Future[Any], landed: queue.SimpleQueue[tuple[str, Any]]) -> None:
    """Puts a future's result, or the error in its place, into landed. Runs in the client's event loop.

    Where a worker dies before its result is fetched, the future becomes lost and is computed anew. result() waits for
    that; the future's status does not show it.
    """
    try:
        landed.put((str(future.key), await future.result()))
    except Exception as error:  # noqa: BLE001 - handed on to who waits for the future
        landed.put((str(future.key), error))


def _is_lost(found: object) -> bool:
    """Whether a future ended for want of a scheduler that knows it."""
    return isinstance(found, CancelledError | OSError)


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
