"""The scheduler and its workers: started or joined, watched, joined again after a restart, replaced where they died.

A local cluster has its scheduler in this process and its workers in processes of their own, each under a nanny that
starts it again when it dies. A nanny whose worker dies while it starts gives up; `tend` puts a new one in its place.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import dask
from dask.system import CPU_COUNT
from distributed import Client, LocalCluster, Security, Status

from sar1m.flow.job_queue import job_queue
from sar1m.flow.waiting import Waiting
from sar1m.store.errors import ConfigError, WorkersError

ALLOWED_DEATHS: Final = 2  # workers that an item may kill before it is run alone
JOIN_TIMEOUT: Final = "20s"
JOIN_AGAIN_TIMEOUT: Final = "1s"
LOOK_EVERY_S: Final = 2.0
ANSWER_S: Final = 5.0  # a scheduler that takes longer for a short answer does not answer
FRESH_S: Final = 10.0  # workers give a sign of life every few seconds at most
LEAVE_S: Final = 5.0
# Read when a worker's process starts. One numerical thread a worker. glibc keeps freed arrays of up to 32 MiB, the most
# it can, for the next ones: to map every large array anew, page by page, would take a third of the CPU time.
WORKER_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "GDAL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(256 * 2**20),
}


@dataclass(frozen=True, kw_only=True)
class WorkersSettings:
    """Where the work runs.

    scheduler: address of a running Dask scheduler; None: on this machine. tls:// takes its certificates from Dask's
    own configuration (distributed.comm.tls).
    client: of a running scheduler in its place, wherever it came from. Of it address and certificates are taken; what
    else it does is not disturbed.
    cluster: a file that says what to ask of a batch system, see job_queue, in its place.
    workers: processes on this machine; None: one a CPU; 0: no Dask, one item after the other in this process.
    memory_limit: of each process on this machine, as Dask takes it.
    patience_s: how long the work waits for a scheduler that is gone, or for a first worker where there is none.
    """

    scheduler: str | None = None
    client: Client | None = None
    cluster: Path | None = None
    workers: int | None = None
    memory_limit: str = "auto"
    patience_s: float = 60.0

    def __post_init__(self) -> None:
        """Raises ConfigError where more than one scheduler is named."""
        given = {"--scheduler": self.scheduler, "client": self.client, "--cluster": self.cluster}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise ConfigError(f"{' and '.join(named)}: each names a scheduler, and a build has one. Give one of them.")

    @property
    def here(self) -> bool:
        """Whether the work runs in this process, without Dask."""
        return self.workers == 0 and not (self.scheduler or self.client or self.cluster)


@dataclass(frozen=True, kw_only=True)
class _Sign:
    """A worker's last sign of life: the scheduler's time of it, and ours when we first saw that time."""

    scheduler_time: float
    seen: float
    threads: int


class Cluster:
    """A context that holds a client of the scheduler. Its end closes a local cluster, never a scheduler that was
    given."""

    def __init__(self, settings: WorkersSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._waiting = Waiting(settings.patience_s, say)
        self._stack = contextlib.ExitStack()
        self._local: LocalCluster | None = None
        self._address = settings.scheduler or ""
        self._security: Security | None = None
        self._client: Client | None = None
        self._signs: dict[str, _Sign] = {}
        self._looked = -LOOK_EVERY_S

    def __enter__(self) -> Self:
        """Starts or joins the cluster. Raises WorkersError where a given scheduler does not answer, ConfigError where
        the file of a batch system cannot be used."""
        settings = self._settings
        self._stack.enter_context(_silent_dask())
        self._stack.enter_context(dask.config.set(_dask_settings(settings.patience_s)))
        if settings.client is not None:
            self._address, self._security = _door_of(settings.client)
        elif settings.cluster is not None:
            queue = self._stack.enter_context(job_queue(settings.cluster))
            self._address, self._security = str(queue.scheduler_address), queue.security
        elif settings.scheduler is None:
            self._local = self._stack.enter_context(_local_cluster(settings))
            self._address = str(self._local.scheduler_address)
        self._client = _join(self._address, JOIN_TIMEOUT, self._security)
        self._stack.callback(self._leave)
        self._look()
        return self

    def __exit__(self, *exc: object) -> None:
        """Ends the local cluster and its processes."""
        self._stack.close()

    @property
    def client(self) -> Client:
        """The client that is connected at present; another one after join_again."""
        if self._client is None:
            raise RuntimeError("the cluster is used outside its context")
        return self._client

    @property
    def connected(self) -> bool:
        """Whether the connection to the scheduler holds. A scheduler that only hangs keeps it."""
        return str(self.client.status) == "running"

    @property
    def dashboard(self) -> str | None:
        """Address of the dashboard, where there is one."""
        return str(self.client.dashboard_link) if _has_dashboard() else None

    @property
    def threads(self) -> int:
        """Threads of all workers that the scheduler knows, as of some seconds ago."""
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._look()
        return sum(sign.threads for sign in self._signs.values())

    def tend(self) -> bool:
        """Looks after scheduler and workers, every LOOK_EVERY_S seconds at most, however often it is called.

        Puts new workers in the place of local ones that died. Raises WorkersError where for patience_s seconds the
        scheduler has not answered or no worker has given a sign of life. Returns whether it has looked just now.
        """
        if time.monotonic() - self._looked < LOOK_EVERY_S:
            return False
        if not self._look():
            self._waiting.goes_on(f"The scheduler at {self._address} does not answer")
            return True
        self._replace_dead()
        if self.silent(FRESH_S) >= self._signs.keys():
            count = len(self._signs)
            found = f"None of {count} workers gives a sign of life" if count else "No worker is there"
            self._waiting.goes_on(f"{found} at the scheduler {self._address}")
        else:
            self._waiting.over()
        return True

    def progressed(self) -> None:
        """To be called when an item ends: whatever was waited for has come, or was not needed."""
        self._waiting.over()

    def silent(self, for_s: float) -> Set[str]:
        """Addresses of the workers without a sign of life for so many seconds. Workers whose process is stopped or
        whose network is cut stay known to the scheduler for minutes."""
        now = time.monotonic()
        return {address for address, sign in self._signs.items() if now - sign.seen > for_s}

    def lost_to_silence(self) -> tuple[Collection[str], Collection[str]]:
        """Keys of tasks that lie with workers silent for patience_s, done or not, and the other workers' addresses.

        Both are empty where nobody is silent or everybody is.
        """
        silent = self.silent(self._settings.patience_s)
        others = self._signs.keys() - silent
        if not silent or not others:
            return (), ()
        lists = [self._ask(question, workers=sorted(silent)) for question in ("processing", "has_what")]
        return {str(key) for held in lists for keys in (held or {}).values() for key in keys}, sorted(others)

    def join_again(self) -> None:
        """Joins the scheduler anew, as often as it takes. What the former client had in flight is lost.

        Raises WorkersError where no scheduler answers for patience_s.
        """
        gone = f"The scheduler at {self._address} is gone"
        self._waiting.goes_on(gone)
        self._leave()
        while True:
            try:
                self._client = _join(self._address, JOIN_AGAIN_TIMEOUT, self._security)
            except WorkersError:
                self._waiting.goes_on(gone)
                time.sleep(0.2)
            else:
                break
        self._signs.clear()
        self._waiting.over()
        self._say(f"Joined the scheduler at {self._address} again.")

    def _leave(self) -> None:
        # Of a scheduler that hangs or is gone nothing can be taken leave of.
        with contextlib.suppress(Exception):
            self.client.close(timeout=LEAVE_S)

    def _ask(self, question: str, **asked: object) -> Any:  # noqa: ANN401 - whatever the scheduler says
        """The scheduler's answer to one of its remote calls; None where there is none in time."""
        try:
            return self.client.sync(getattr(self.client.scheduler, question), callback_timeout=ANSWER_S, **asked)
        except Exception:  # noqa: BLE001 - no answer, for whatever reason, is what this is to find out
            return None

    def _look(self) -> bool:
        """Reads the workers' signs of life. Returns whether the scheduler answered."""
        known: Mapping[str, Any] | None = None
        if self.connected:
            known = self._ask("identity")
        now = self._looked = time.monotonic()
        if known is None:
            return False
        signs = {}
        for address, worker in known["workers"].items():
            former = self._signs.get(address)
            same = former is not None and former.scheduler_time == worker["last_seen"]
            seen = former.seen if former is not None and same else now
            signs[address] = _Sign(scheduler_time=worker["last_seen"], seen=seen, threads=worker["nthreads"])
        self._signs = signs
        return True

    def _replace_dead(self) -> None:
        if self._local is None:
            return
        dead = [name for name, nanny in self._local.workers.items() if nanny.status in (Status.closed, Status.failed)]
        if dead:
            self._local.sync(_start_again, self._local, dead, callback_timeout=ANSWER_S)


@contextlib.contextmanager
def _silent_dask() -> Iterator[None]:
    """Keeps two logs from the terminal: what they say of lost connections, with tracebacks, is said by us."""
    logs = [logging.getLogger(f"distributed.{part}") for part in ("client", "scheduler")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)


async def _start_again(local: LocalCluster, names: Collection[str]) -> None:
    """Forgets dead nannies, so that the cluster, which wants as many as before, starts new ones."""
    for name in names:
        local.workers.pop(name, None)
    local.scale(len(local.worker_spec))


def _local_cluster(settings: WorkersSettings) -> LocalCluster:
    return LocalCluster(
        n_workers=settings.workers or CPU_COUNT,
        threads_per_worker=1,
        memory_limit=settings.memory_limit,
        silence_logs=logging.ERROR,
        host="127.0.0.1",
        dashboard_address="127.0.0.1:0" if _has_dashboard() else None,
    )


def _door_of(client: Client) -> tuple[str, Security | None]:
    """Where a client's scheduler is, and what opens it. Raises WorkersError where the client has none."""
    scheduler = client.scheduler
    if scheduler is None or str(client.status) != "running":
        raise WorkersError(
            f"The given client of Dask is {client.status}; one that is connected to a scheduler is needed."
        )
    address = str(scheduler.address)
    if address.startswith("inproc://"):
        raise WorkersError("The given client's cluster runs in threads of this process. Start it with processes=True.")
    return address, client.security


def _join(address: str, timeout: str, security: Security | None) -> Client:
    """A client of the scheduler. security: None takes Dask's configuration. Raises WorkersError where none answers or
    its certificates cannot be used."""
    if address.startswith("tls://") and security is None:
        _require_certificates(address)
    try:
        # Not as the default client of this process: one that failed to start would stay it, for all that uses Dask.
        return Client(address, timeout=timeout, security=security, set_as_default=False)
    except (OSError, ValueError) as error:
        named = address if security else f"--scheduler {address}"
        raise WorkersError(f"{named}: no Dask scheduler answers there ({error}).") from error


def _require_certificates(address: str) -> None:
    """Raises WorkersError where Dask's configuration names no certificates that can be used. A loader of certificates,
    which services of clusters bring, is left to itself."""
    remedy = (
        "Set distributed.comm.tls.ca-file, distributed.comm.tls.client.cert and distributed.comm.tls.client.key in "
        "Dask's configuration, in ~/.config/dask or as DASK_DISTRIBUTED__COMM__TLS__CA_FILE and so on."
    )
    if dask.config.get("distributed.client.security-loader", None):
        return
    try:
        given = Security().get_connection_args("client").get("ssl_context")
    except (OSError, ValueError, TypeError) as error:
        raise WorkersError(f"--scheduler {address}: its certificates cannot be used ({error}). {remedy}") from error
    if given is None:
        raise WorkersError(f"--scheduler {address}: needs certificates. {remedy}")


def _has_dashboard() -> bool:
    return importlib.util.find_spec("bokeh") is not None


def _dask_settings(patience_s: float) -> dict[str, Any]:
    return {
        "distributed.scheduler.allowed-failures": ALLOWED_DEATHS,
        # A local worker that is stopped is looked for as often, killed, and started again before patience ends.
        "distributed.scheduler.worker-ttl": f"{patience_s / 3}s",
        "distributed.worker.daemon": True,  # workers end with the process that started them
        # Ctrl-C reaches every process of a terminal. Workers ignore it: the process that started them ends them.
        "distributed.worker.preload": ["import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"],
        # A worker that died starts again; on a busy machine that takes longer than Dask's 15 s, after which the cluster
        # would give the worker up.
        "distributed.deploy.lost-worker-timeout": "600s",
        "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
        "distributed.logging": {"distributed": "error", "bokeh": "error", "tornado": "error"},
        "distributed.comm.timeouts.connect": "30s",
    }
