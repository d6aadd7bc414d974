"""A store or release in a folder of this machine."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sar1m.store.errors import MissingError, StoreError
from sar1m.store.places.handles import Descriptor, Handles, read_fully
from sar1m.store.places.place import NOT_A_FILE, PIECE_BYTES, ByteRange, Place, checked_name, too_large, too_short

# What the methods of Place do is described there.
# ruff: noqa: D102


class FolderPlace(Place):
    """The files below a folder. Files that ranges were read from stay open until close."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._handles = Handles(self._open)

    def __repr__(self) -> str:
        return f"FolderPlace({str(self._root)!r})"

    def __reduce__(self) -> tuple[type[FolderPlace], tuple[Path]]:
        return (type(self), (self._root,))

    @property
    def location(self) -> str:
        return str(self._root)

    def read(self, name: str, *, max_bytes: int) -> bytes:
        path = self._path(name)
        with naming_path(path), path.open("rb") as stream:
            content = stream.read(min(os.fstat(stream.fileno()).st_size, max_bytes) + 1)
        if len(content) > max_bytes:
            raise too_large(str(path), max_bytes)
        return content

    def size(self, name: str) -> int | None:
        path = self._path(name)
        try:
            with naming_path(path):
                return path.stat().st_size
        except MissingError:
            return None

    def stream(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        with naming_path(path), path.open("rb") as stream:
            while piece := stream.read(PIECE_BYTES):
                yield piece

    def read_range(self, name: str, start: int, stop: int) -> bytes:
        content = bytearray(len(ByteRange(name=name, start=start, stop=stop)))
        self.read_into(name, start, memoryview(content))
        return bytes(content)

    def read_into(self, name: str, start: int, *buffers: memoryview) -> None:
        try:
            filled = read_fully(self._handles.get(name).number, start, buffers)
        except OSError as error:  # not naming_path: a context manager for each of a million reads costs time
            raise _unreadable(self._path(name), error) from error
        wanted = sum(map(len, buffers))
        if filled < wanted:
            raise too_short(str(self._path(name)), ByteRange(name=name, start=start, stop=start + wanted), filled)

    def listing(self) -> Mapping[str, int]:
        """Links are listed as what they are and never followed."""
        sizes: dict[str, int] = {}
        for folder, folders, files in os.walk(self._root):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            for name in [*files, *links]:
                path = Path(folder, name)
                found = path.lstat()
                size = found.st_size if stat.S_ISREG(found.st_mode) else NOT_A_FILE
                sizes[path.relative_to(self._root).as_posix()] = size
        return sizes

    def local_path(self, name: str) -> Path:
        """The file's path, whether it exists or not."""
        return self._path(name)

    def close(self) -> None:
        self._handles.clear()

    def _path(self, name: str) -> Path:
        return self._root / checked_name(name)

    def _open(self, name: str) -> Descriptor:
        return Descriptor(self._path(name))


@contextmanager
def naming_path(path: Path) -> Iterator[None]:
    """Turns a system's refusal to read into a StoreError that names the path, a MissingError where it is absent."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StoreError:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return MissingError(f"{path}: there is no such file. Check the location, and that the store is complete.")
    return StoreError(f"{path}: cannot be read: {error.strerror or error}. Check the disk and the permissions.")
