"""A folder as the output of a build, on a disk that all workers share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

from sar1m.store.durable import (
    FileDigest,
    nothing_left_behind,
    remove_partials,
    remove_tree,
    settle_folders,
    sync_directory,
    write_durably,
    writing_to,
)
from sar1m.store.errors import OutputError
from sar1m.store.file_lock import output_lock
from sar1m.store.outputs.output import Output
from sar1m.store.places.folder import FolderPlace, naming_path

# What the methods of Output do is described there.
# ruff: noqa: D102


class FolderOutput(FolderPlace, Output):
    """Files are written aside, synced and renamed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root.absolute())  # workers may run in another folder

    @property
    def work(self) -> Path:
        return self._root

    def below(self, name: str) -> FolderOutput:
        return FolderOutput(self._path(name))

    def entries(self) -> set[str]:
        with writing_to(self._root):
            if self._root.exists() and not self._root.is_dir():
                raise OutputError(f"{self._root}: is a file. Give an empty or new folder as OUT.")
            return {path.name for path in self._root.iterdir()} if self._root.exists() else set()

    def open(self, name: str) -> BinaryIO:
        path = self._path(name)
        with naming_path(path):
            return path.open("rb")

    def local(self, names: Collection[str]) -> AbstractContextManager[Path]:  # noqa: ARG002 - they are there
        return nullcontext(self._root)

    def write(self, name: str, pieces: Iterable[bytes]) -> FileDigest:
        return write_durably(self._path(name), pieces)

    def write_once(self, name: str, content: bytes) -> None:
        write_durably(self._path(name), [content])

    def append(self, name: str, line: str) -> None:
        path = self._path(name)
        with writing_to(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")

    def remove(self, *names: str) -> None:
        paths = [self._path(name) for name in names]
        for path in paths:
            remove_tree(path)
        for folder in sorted({path.parent for path in paths}):
            if folder.is_dir():
                sync_directory(folder)

    def remove_partials(self) -> None:
        remove_partials(self._root)

    def settle(self) -> None:
        settle_folders(self._root)

    def move_in(self, source: str, files: Collection[str]) -> None:
        """Renames the folders; what has moved is no longer in source."""
        packed = self._path(source)
        with writing_to(self._root):
            for name in sorted({name.split("/", 1)[0] for name in files}):
                if (packed / name).exists():
                    remove_tree(self._root / name)
                    (packed / name).rename(self._root / name)
        sync_directory(self._root)

    @contextmanager
    def lock(self, share: str = "") -> Iterator[None]:
        with output_lock(self._root, shared=bool(share)):
            if not share:
                yield
                return
            with output_lock(self._root, lock=f"build-log/lock-{share}", work=f"run of share {share}"):
                yield

    def nothing_left_behind(self, keep: str) -> AbstractContextManager[None]:
        return nothing_left_behind(self._root, keep)
