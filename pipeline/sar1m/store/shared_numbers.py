"""A few numbers that several processes share: a file, locked while it is read and written."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from sar1m.store.durable import writing_to
from sar1m.store.errors import StoreError
from sar1m.store.file_lock import locked_file


class SharedNumbers:
    """Numbers in one file, held by one process or thread at a time; a killed holder lets go.

    layout: the numbers as the module struct writes them.
    """

    def __init__(self, path: Path, layout: str) -> None:
        self._path = path
        self._struct = struct.Struct(layout)

    @contextlib.contextmanager
    def held(self) -> Iterator[HeldNumbers]:
        """Holds the file while the context lasts. Raises OutputError where it cannot be written."""
        with locked_file(self._path) as descriptor:
            yield HeldNumbers(descriptor, self._path, self._struct)


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
        """Replaces them by one write: a kill leaves the former or the new ones. Raises OutputError."""
        with writing_to(self._path):
            os.ftruncate(self._descriptor, self._struct.size)
            os.pwrite(self._descriptor, self._struct.pack(*numbers), 0)
