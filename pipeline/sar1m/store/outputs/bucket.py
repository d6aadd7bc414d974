"""A prefix of a bucket (s3, gs, az) as the output of a build. Workers need not share a disk.

Every file goes in one request: it is whole or absent, and no parts are left behind. What a file holds is stated by its
sha256, which goes with it as metadata. A bucket knows no renaming: a packed store is copied into its place by the
server, and the copies become the store with the manifest and the marker. The log is an object for every few seconds.

Credentials, endpoint and other options come from the environment of each process (see sar1m.store.places.remote); they
are never pickled. SAR1M_STORAGE_TIMEOUT_S: seconds for one attempt of a request, 300 by default. SAR1M_WORK: the folder
of this machine for caches, by default one of the system's folder for temporary files.
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from typing_extensions import override

from sar1m.store.durable import PARTIAL_SUFFIX, FileDigest
from sar1m.store.errors import ConfigError, MissingError, OutputError, Sar1mError
from sar1m.store.outputs.bucket_lock import BucketLock
from sar1m.store.outputs.output import Output
from sar1m.store.outputs.refusals import naming_refusals
from sar1m.store.places.failures import asked_again
from sar1m.store.places.place import checked_name
from sar1m.store.places.remote import Patience, RemotePlace

if TYPE_CHECKING:
    from sar1m.store.places.remote import BucketClient, Client

# obstore is for those who write to buckets: it is imported with the first request.
# What the methods of Output do is described there.
# ruff: noqa: PLC0415

TIMEOUT_VARIABLE: Final = "SAR1M_STORAGE_TIMEOUT_S"
WORK_VARIABLE: Final = "SAR1M_WORK"
_TIMEOUT_S: Final = 300.0
_RETRY_S: Final = 120.0
_DIGEST: Final = "sha256"  # name of the metadata
_AT_ONCE: Final = 8  # copies
_DELETED_AT_ONCE: Final = 1000
_LARGEST: Final = 5 * 10**9  # bytes of one request, and of one copy, at S3
_LOG_EVERY_S: Final = 10.0
_AHEAD_BYTES: Final = 2**19  # of a file that is read in: more than most chunks and records

_clients: dict[tuple[int, str], Client] = {}  # by process and location: workers make an output for every item


class BucketOutput(RemotePlace, Output):
    """A prefix of a bucket. location: checked, without a slash at its end."""

    def __init__(self, location: str) -> None:
        super().__init__(location, patience=patience())
        self._lock_held = BucketLock(self)
        self._lines: list[str] = []
        self._log_name, self._log_count, self._logged = "", 0, time.monotonic()

    def __reduce__(self) -> tuple[type[BucketOutput], tuple[str]]:
        """Without clients, which hold credentials, and without the lock, which is the build's own."""
        return (type(self), (self.location,))

    @property
    def work(self) -> Path:
        top = Path(os.environ.get(WORK_VARIABLE) or tempfile.gettempdir()).absolute()
        named = hashlib.blake2b(self.location.encode(), digest_size=8).hexdigest()
        return top / f"sar1m-{os.getuid()}-{named}"

    @override
    def client(self) -> Client:
        key = (os.getpid(), self.location)
        if key not in _clients:
            _clients[key] = super().client()
        return _clients[key]

    @override
    def below(self, name: str) -> BucketOutput:
        inner = BucketOutput(f"{self.location}/{checked_name(name)}")
        inner._lock_held = self._lock_held
        return inner

    @override
    def read(self, name: str, *, max_bytes: int) -> bytes:
        return asked_again(lambda: super(BucketOutput, self).read(name, max_bytes=max_bytes))

    @override
    def read_range(self, name: str, start: int, stop: int) -> bytes:
        return asked_again(lambda: super(BucketOutput, self).read_range(name, start, stop))

    @override
    def listing(self) -> Mapping[str, int]:
        return self._below("")

    @override
    def entries(self) -> set[str]:
        import obstore

        def listed() -> set[str]:
            with naming_refusals(self.location, "listed"):
                found = obstore.list_with_delimiter(self.bucket)
            names = [*found["common_prefixes"], *(one["path"] for one in found["objects"])]
            return {str(name).split("/", 1)[0] for name in names}

        return asked_again(listed)

    @override
    def open(self, name: str) -> BinaryIO:
        size = self.size(name)
        if size is None:
            raise MissingError(f"{self.shown(name)}: there is no such object.")
        return cast("BinaryIO", _RangedFile(self, name, size))

    @override
    @contextmanager
    def local(self, names: Collection[str]) -> Iterator[Path]:
        self.work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="read-", dir=self.work) as folder:
            for name in names:
                path = Path(folder, checked_name(name))
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.open("wb") as stream:
                    for piece in self.stream(name):
                        stream.write(piece)
            yield Path(folder)

    @override
    def write(self, name: str, pieces: Iterable[bytes]) -> FileDigest:
        import obstore

        content = self._content(name, pieces)
        digest = FileDigest(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
        with naming_refusals(self.shown(name), "written"):
            obstore.put(self.bucket, name, content, attributes={_DIGEST: digest.sha256}, use_multipart=False)
        return digest

    @override
    def write_once(self, name: str, content: bytes) -> None:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        content = self._content(name, [content])

        def put() -> None:
            with suppress(AlreadyExistsError):
                obstore.put(self.bucket, name, content, mode="create", use_multipart=False)

        self.patiently(self.shown(name), put)

    def patiently(self, shown: str, request: Callable[[], None]) -> None:
        """Makes a request that obstore does not repeat by itself, since it changes something only once."""

        def made() -> None:
            with naming_refusals(shown, "written"):
                request()

        asked_again(made)

    @override
    def append(self, name: str, line: str) -> None:
        if not self._log_name:
            began = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            self._log_name = f"{name.removesuffix('.jsonl')}/{began}-{secrets.token_hex(4)}"
        self._lines.append(f"{line}\n")
        if time.monotonic() - self._logged >= _LOG_EVERY_S:
            self._write_log()

    def _write_log(self) -> None:
        if self._lines:
            self.write(f"{self._log_name}-{self._log_count:06}.jsonl", ["".join(self._lines).encode()])
            self._lines, self._log_count = [], self._log_count + 1
        self._logged = time.monotonic()

    @override
    def remove(self, *names: str) -> None:
        import obstore

        self._lock_held.require()
        inside = [f"{name}/{inner}" for name in names for inner in self._below(checked_name(name))]
        every = [*inside, *names]
        for first in range(0, len(every), _DELETED_AT_ONCE):
            some = every[first : first + _DELETED_AT_ONCE]
            try:
                with naming_refusals(self.shown(some[0]), "removed"):
                    obstore.delete(self.bucket, some)
            except MissingError:  # S3 does not mind, others do, and then may have left the rest
                for name in some:
                    with suppress(MissingError), naming_refusals(self.shown(name), "removed"):
                        obstore.delete(self.bucket, name)

    @override
    def remove_partials(self) -> None:
        left = [f"build-log/{name}" for name in self._below("build-log") if name.endswith(PARTIAL_SUFFIX)]
        if left:
            self.remove(*left)

    @override
    def settle(self) -> None:
        """An object that was written is there for good."""

    @override
    def move_in(self, source: str, files: Collection[str]) -> None:
        """By copies on the server, all of them again after an interruption; source keeps its files."""
        import obstore

        def copy(name: str) -> None:
            self._lock_held.require()
            try:
                with naming_refusals(self.shown(name), "written"):
                    obstore.copy(self.bucket, f"{source}/{name}", name)
            except MissingError:  # a file of the former store must not pass for it
                self.remove(name)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(copy, sorted(files)):
                pass
        folders = {name.split("/", 1)[0] for name in files if "/" in name}
        stale = {f"{top}/{name}" for top in folders for name in self._below(top)} - set(files)
        if stale:
            self.remove(*sorted(stale))

    @override
    @contextmanager
    def lock(self, share: str = "") -> Iterator[None]:
        with self._lock_held.held(share):
            try:
                yield
            except BaseException:
                with suppress(Sar1mError):  # what went wrong first counts
                    self._write_log()
                raise
            self._write_log()

    @override
    @contextmanager
    def nothing_left_behind(self, keep: str) -> Iterator[None]:
        fresh = not self.entries()
        try:
            yield
        except Sar1mError:
            with suppress(Sar1mError):
                if fresh and keep not in (there := self.entries()):
                    self.remove(*sorted(there))
            raise

    @override
    def digest(self, name: str) -> FileDigest:
        """As the object's metadata state it; of objects without it by reading them."""
        import obstore

        with naming_refusals(self.shown(name), "read"):
            found = obstore.get(self.bucket, name, options={"head": True})
            stated = found.attributes.get(_DIGEST)
        return super().digest(name) if stated is None else FileDigest(sha256=stated, size=int(found.meta["size"]))

    @property
    def bucket(self) -> BucketClient:
        """The client of this process."""
        return cast("BucketClient", self.client())

    def _content(self, name: str, pieces: Iterable[bytes]) -> bytes:
        self._lock_held.require()
        content = b"".join(pieces)
        if len(content) > _LARGEST:
            raise OutputError(
                f"{self.shown(checked_name(name))}: would hold {len(content):,} bytes; one request takes "
                f"{_LARGEST:,}. Set pack.shard_samples lower."
            )
        return content

    def _below(self, folder: str) -> dict[str, int]:
        """Bytes of the objects in a folder by their names in it."""
        import obstore

        skipped = len(folder) + 1 if folder else 0

        def listed() -> dict[str, int]:
            with naming_refusals(f"{self.location}/{folder}".rstrip("/"), "listed"):
                pages = obstore.list(self.bucket, prefix=folder or None)
                return {str(one["path"])[skipped:]: int(one["size"]) for page in pages for one in page}

        return asked_again(listed)


class _RangedFile(io.RawIOBase):
    """An object to read and seek in. Reads ahead: one request for a name and what follows it."""

    def __init__(self, place: BucketOutput, name: str, size: int) -> None:
        self._place, self._name, self._size = place, name, size
        self._at = 0
        self._start, self._ahead = 0, b""

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def tell(self) -> int:
        return self._at

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    @override
    def readinto(self, buffer: Any) -> int:
        stop = min(self._at + len(buffer), self._size)
        if self._at >= stop:
            return 0
        if not self._start <= self._at <= stop <= self._start + len(self._ahead):
            self._start = max(0, min(self._at, self._size - _AHEAD_BYTES))
            until = min(self._size, max(stop, self._start + _AHEAD_BYTES))
            self._ahead = self._place.read_range(self._name, self._start, until)
        buffer[: stop - self._at] = self._ahead[self._at - self._start : stop - self._start]
        read, self._at = stop - self._at, stop
        return read


def patience() -> Patience:
    """How long a bucket is waited for. Raises ConfigError where SAR1M_STORAGE_TIMEOUT_S is no number of seconds."""
    named = os.environ.get(TIMEOUT_VARIABLE) or str(_TIMEOUT_S)
    try:
        seconds = float(named)
        if not 0 < seconds <= 86_400:
            raise ValueError
    except ValueError:
        raise ConfigError(f"{TIMEOUT_VARIABLE}={named}: expected seconds, over 0 and up to 86400.") from None
    return Patience(timeout_s=seconds, retry_s=min(seconds, _RETRY_S))
