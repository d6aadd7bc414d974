"""Only one build at a time in a prefix of a bucket: an object that is made on the condition that it is not there.

Its holder renews it every BEAT_S seconds, on the condition that it is still his. A lock that was not renewed for
LAPSE_S seconds is free, by the clock of the bucket alone; one whose holder was a process of this very machine is free
as soon as that process is gone.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from sar1m.store.durable import PARTIAL_SUFFIX
from sar1m.store.errors import LockedError, MissingError, OutputError, Sar1mError
from sar1m.store.outputs.refusals import naming_refusals
from sar1m.store.side_files import json_value

if TYPE_CHECKING:
    from sar1m.store.durable import FileDigest
    from sar1m.store.places.remote import BucketClient

# ruff: noqa: PLC0415 - as in bucket.py

LOCK_NAME: Final = "build-log/lock.json"  # of a share: build-log/lock-<share>.json
BEAT_S: Final = 20.0
LATE_S: Final = 45.0  # after so long without a beat nothing is written before the next one
LAPSE_S: Final = 120.0
_MOST_BYTES: Final = 10_000
_held_here: set[str] = set()  # nonces of the locks that this process holds


@dataclass(frozen=True, kw_only=True)
class _Found:
    """A lock that is there: what it says of its holder, its version, and when it was renewed."""

    holder: dict[str, Any]
    version: dict[str, str]
    renewed: datetime


class _LockedOutput(Protocol):
    """What the lock needs of the output that it locks, which holds it."""

    @property
    def location(self) -> str: ...
    @property
    def bucket(self) -> BucketClient: ...
    def below(self, name: str) -> _LockedOutput: ...
    def listing(self) -> Mapping[str, int]: ...
    def shown(self, name: str) -> str: ...
    def write(self, name: str, pieces: Iterable[bytes]) -> FileDigest: ...
    def remove(self, *names: str) -> None: ...
    def patiently(self, shown: str, request: Callable[[], None]) -> None: ...


class BucketLock:
    """The lock of one output; workers, and who only reads, never take it."""

    def __init__(self, out: _LockedOutput) -> None:
        self._out = out
        self._name, self._content, self._nonce = LOCK_NAME, b"", ""
        self._version: Any = None  # of the object, while it is held
        self._beaten = 0.0
        self._beating = threading.Lock()
        self._ended = threading.Event()

    @contextmanager
    def held(self, share: str = "") -> Iterator[None]:
        """Holds it. Raises LockedError at once, naming the holder, where another build does.

        share: the name of a share of a build. Shares of other names may work beside it, but no whole build.
        """
        self._name = f"build-log/lock-{share}.json" if share else LOCK_NAME
        self._nonce = nonce = secrets.token_hex(8)
        holder = {"process": os.getpid(), "host": socket.gethostname(), "nonce": nonce, **_process_of(os.getpid())}
        self._content = json.dumps(holder).encode()
        _held_here.add(nonce)
        self._ended.clear()
        try:
            self._take()
            self._require_alone(share)
            heart = threading.Thread(target=self._beat_on, daemon=True)
            heart.start()
            try:
                yield
            finally:
                self._ended.set()
                heart.join()
                self._leave()
        finally:
            _held_here.discard(nonce)

    def require(self) -> None:
        """Raises LockedError where the lock was held here and another build has taken it since."""
        if self._version is not None and time.monotonic() - self._beaten > LATE_S:
            self._beat()
        if self._version is False:
            raise LockedError(
                f"{self._out.location}: another build took over, since this one gave no sign of life for {LAPSE_S:.0f} "
                "s. Run the same command again when that one has ended."
            )

    def _take(self) -> None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._put("create")
        except AlreadyExistsError:
            pass
        else:
            self._require_conditions()
            return
        found = self._require_free(self._name)
        try:
            self._put("create" if found is None else found)
        except (AlreadyExistsError, PreconditionError):
            raise LockedError(
                f"{self._out.location}: another build has just begun here. Wait for it, or give another OUT."
            ) from None

    def _require_alone(self, share: str) -> None:
        """Each takes its own lock before it looks at the others', so that of two at most one goes on."""
        try:
            inside = self._out.below("build-log").listing()
            others = {LOCK_NAME} if share else {f"build-log/{one}" for one in inside if one.startswith("lock")}
            for name in sorted(others - {self._name}):
                self._require_free(name)
        except Sar1mError:
            self._leave()
            raise

    def _require_conditions(self) -> None:
        """A service that ignores conditions would let two builds in."""
        from obstore.exceptions import AlreadyExistsError

        with suppress(AlreadyExistsError):
            self._put("create")
            self._leave()
            raise OutputError(
                f"{self._out.location}: its service ignores the condition If-None-Match of a PUT, so two builds could "
                "write at once. Use a service that keeps it, or build into a folder."
            )

    def _require_free(self, name: str) -> dict[str, str] | None:
        """The version of a lock that nobody holds any more; None where there is none. Raises LockedError otherwise."""
        found = self._read(name)
        if found is None or found.holder.get("nonce") == self._nonce:  # ours where the answer that made it was lost
            return None if found is None else found.version
        age_s = (self._now() - found.renewed).total_seconds()
        if not _is_gone(found.holder) and age_s < LAPSE_S:
            raise LockedError(
                f"{self._out.location}: another build works here (process {found.holder.get('process', 'unknown')} on "
                f"{found.holder.get('host', 'an unknown host')}, last sign of life {max(0.0, age_s):.0f} s ago). Wait "
                f"for it, or give another OUT. Was it killed, its lock is free {LAPSE_S:.0f} s after that sign."
            )
        return found.version

    def _read(self, name: str) -> _Found | None:
        import obstore

        try:
            with naming_refusals(self._out.shown(name), "read"):
                answer = obstore.get(self._out.bucket, name)
                meta = answer.meta
                holder = _holder(bytes(answer.bytes())[:_MOST_BYTES])
        except MissingError:
            return None
        version = {key: str(meta[key]) for key in ("e_tag", "version") if meta.get(key)}
        return _Found(holder=holder, version=version, renewed=meta["last_modified"])

    def _now(self) -> datetime:
        """The time of the bucket's own clock."""
        import obstore

        probe = f"build-log/{secrets.token_hex(8)}{PARTIAL_SUFFIX}"
        self._out.write(probe, [b""])
        with naming_refusals(self._out.shown(probe), "read"):
            now: datetime = obstore.head(self._out.bucket, probe)["last_modified"]
        self._out.remove(probe)
        return now

    def _put(self, condition: Any) -> None:  # noqa: ANN401 - "create", or a version that obstore gave
        import obstore

        def put() -> None:
            made = obstore.put(self._out.bucket, self._name, self._content, mode=condition, use_multipart=False)
            self._version = {key: value for key, value in dict(made).items() if value}
            self._beaten = time.monotonic()

        self._out.patiently(self._out.shown(self._name), put)

    def _beat(self) -> None:
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._beating:
            if not self._version:
                return
            try:
                self._put(self._version)
            except (AlreadyExistsError, PreconditionError, MissingError):
                found = self._read(self._name)  # the answer to a former beat may have been lost
                self._version = found.version if found and found.holder.get("nonce") == self._nonce else False

    def _beat_on(self) -> None:
        while not self._ended.wait(BEAT_S):
            with suppress(Sar1mError):  # the next beat tries again; what is written meanwhile meets the same trouble
                self._beat()

    def _leave(self) -> None:
        with suppress(Sar1mError):
            if time.monotonic() - self._beaten > LATE_S:
                self._beat()
            if self._version:
                self._version = None
                self._out.remove(self._name)
        self._version = None


def _holder(content: bytes) -> dict[str, Any]:
    try:
        found = json_value(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _process_of(number: int) -> dict[str, str]:
    """What tells a process from all others of all machines: boot, process namespace, start. Empty on other systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
        started = Path(f"/proc/{number}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return {}
    return {"machine": f"{boot} {namespace}", "started": started}


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    here = _process_of(os.getpid())
    if not here or holder.get("machine") != here["machine"] or not isinstance(holder.get("process"), int):
        return False
    if holder["process"] == os.getpid():
        return holder.get("nonce") not in _held_here
    return _process_of(holder["process"]).get("started") != holder.get("started")
