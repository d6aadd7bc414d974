"""One build an output folder: a lock that the kernel drops when its holder dies, whatever kills it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from sar1m.store.durable import make_folders, writing_to
from sar1m.store.errors import LockedError


@contextlib.contextmanager
def output_lock(folder: Path) -> Iterator[None]:
    """Holds the folder's lock file build-log/lock. Raises LockedError at once where another process holds it."""
    path = folder / "build-log" / "lock"
    with writing_to(path):
        make_folders(path.parent)
        stream = path.open("a+", encoding="ascii")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = stream.read().strip() or "unknown"
            raise LockedError(
                f"{folder}: another build works here (process {holder}). Wait for it, or give another OUT."
            ) from None
        stream.truncate(0)
        stream.write(f"{os.getpid()}\n")
        stream.flush()
        yield
