"""Small numbers that all processes of a build share: a file, locked while it is read and written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from sar1m.store.durable import writing_to
from sar1m.store.errors import StoreError


class SharedNumbers:
    """A file of one struct. Only one process or thread at a time holds it; a killed holder lets it go."""

    def __init__(self, path: Path, layout: str) -> None:
        self._path = path
        self._struct = struct.Struct(layout)

    @contextlib.contextmanager
    def held(self) -> Iterator[HeldNumbers]:
        """Holds the file while the context lasts. Raises OutputError where it cannot be written."""
        with writing_to(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield HeldNumbers(descriptor, self._path, self._struct)
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # a forked child may hold the same descriptor
            os.close(descriptor)


class HeldNumbers:
    """The numbers while they are held."""

    def __init__(self, descriptor: int, path: Path, layout: struct.Struct) -> None:
        self._descriptor, self._path, self._struct = descriptor, path, layout

    def read(self) -> tuple[float, ...]:
        """The numbers; zeros of a new file. Raises StoreError where the file is not ours."""
        content = os.pread(self._descriptor, self._struct.size + 1, 0)
        if not content:
            return self._struct.unpack(bytes(self._struct.size))
        if len(content) != self._struct.size:
            raise StoreError(
                f"{self._path}: holds {len(content)} bytes, expected {self._struct.size}. Remove it: counting starts "
                "again from zero."
            )
        return self._struct.unpack(content)

    def write(self, *numbers: float) -> None:
        """Replaces them by one write: a kill leaves the former or the new ones."""
        with writing_to(self._path):
            os.pwrite(self._descriptor, self._struct.pack(*numbers), 0)
