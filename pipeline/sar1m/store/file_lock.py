"""Locks on files, between processes and threads: the kernel drops one when its holder dies, whatever kills it.

Some network file systems have no locks (Lustre without `flock`, NFS 3 without its lock daemon, some SMB servers). There
every lock raises OutputError with the way on: for files that are nothing but a lock, SAR1M_LOCKS names a folder on a
local disk that holds them instead, which is safe among the processes of one machine; caches belong on a local disk.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sar1m.store.durable import make_folders, writing_to
from sar1m.store.errors import ConfigError, LockedError, OutputError

LOCKS_VARIABLE: Final = "SAR1M_LOCKS"
# EBADF: NFS asks for an exclusive lock that the file is open for writing.
_NO_LOCKS: Final = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF}


def flock(descriptor: int, operation: int) -> None:
    """fcntl.flock. Raises BlockingIOError as it does, and OutputError where the file system has no locks."""
    with _naming(descriptor):
        fcntl.flock(descriptor, operation)


def lockf(descriptor: int, operation: int) -> None:
    """fcntl.lockf, a lock of the process. Raises as flock."""
    with _naming(descriptor):
        fcntl.lockf(descriptor, operation)


@contextlib.contextmanager
def _naming(descriptor: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        raise OutputError(
            f"{_path_of(descriptor)}: its file system has no file locks ({error.strerror}), without which two "
            "processes could write the same file. Use a disk that has them (Lustre: mount with flock; NFS 4). There is "
            f"another way where all processes run on one machine: set {LOCKS_VARIABLE} to a folder on a local disk, "
            "the same for all of them, and make a cache that lies here a link to a folder on a local disk."
        ) from error


def lock_path(path: Path) -> Path:
    """The file that is locked for a path: itself, or one of the folder that SAR1M_LOCKS names.

    Raises ConfigError where that is no folder.
    """
    named = os.environ.get(LOCKS_VARIABLE)
    if not named:
        return path
    folder = Path(named)
    if not folder.is_absolute() or not folder.is_dir():
        raise ConfigError(f"{LOCKS_VARIABLE}={named}: expected the absolute path of a folder on a local disk.")
    return folder / f"{hashlib.blake2b(os.fsencode(path.resolve()), digest_size=16).hexdigest()}.lock"


def _path_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:  # no Linux
        return "a file"


def try_lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks an open file for this holder alone, or for all that share it. False at once where another holds it, alone
    or, unless this one is to share it too, shared."""
    try:
        flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[int]:
    """Waits for the lock of a file and holds it; gives its descriptor for reading and writing.

    The file is made where it is missing. Raises OutputError where it cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        descriptor = stack.enter_context(_opened(path))
        lock = lock_path(path)
        locked = descriptor if lock == path else stack.enter_context(_opened(lock))
        flock(locked, fcntl.LOCK_EX)
        stack.callback(flock, locked, fcntl.LOCK_UN)  # a forked child may hold the same descriptor
        yield descriptor


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # less the umask: users may share a cache
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_unless_held(path: Path) -> bool:
    """Removes a file that nobody has locked. False where it stays. Who has it open can still read it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        held = not try_lock(descriptor)
        if not held:
            path.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    return not held


@contextlib.contextmanager
def output_lock(
    folder: Path, *, lock: str = "build-log/lock", work: str = "build", shared: bool = False
) -> Iterator[None]:
    """Holds the lock file of a folder. Raises LockedError at once, naming the process, where another one holds it.

    lock: the file's path in the folder. work: what works there, for the message. shared: beside others that share it;
    the message then names the last of them. OutputError where it cannot be made.
    """
    path = folder / lock
    with writing_to(path):
        make_folders(path.parent)
        stream = lock_path(path).open("a+", encoding="ascii")
    with stream:
        if not try_lock(stream.fileno(), shared=shared):
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another {work} works here (process {holder}). Wait for it, or give another OUT."
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
