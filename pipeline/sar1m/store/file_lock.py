"""Locks on files, between processes and threads: the kernel drops one when its holder dies, whatever kills it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sar1m.store.durable import make_folders, writing_to
from sar1m.store.errors import LockedError


def try_lock(descriptor: int) -> bool:
    """Locks an open file for this holder alone. False at once where another holds it, alone or shared."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked_file(path: Path) -> Iterator[int]:
    """Waits for the lock of a file and holds it; gives its descriptor for reading and writing.

    The file is made where it is missing. Raises OutputError where it cannot be opened.
    """
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(
            path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666
        )  # less the umask: users may share a cache
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may hold the same descriptor
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
def output_lock(folder: Path, *, lock: str = "build-log/lock", work: str = "build") -> Iterator[None]:
    """Holds the lock file of a folder. Raises LockedError at once, naming the process, where another one holds it.

    lock: the file's path in the folder. work: what works there, for the message. OutputError where it cannot be made.
    """
    path = folder / lock
    with writing_to(path):
        make_folders(path.parent)
        stream = path.open("a+", encoding="ascii")
    with stream:
        if not try_lock(stream.fileno()):
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another {work} works here (process {holder}). Wait for it, or give another OUT."
            )
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
