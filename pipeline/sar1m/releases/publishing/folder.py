"""A folder as the place of a release: an attached disk, a shared file system, the root of a web server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from typing_extensions import override

from sar1m.releases.publishing.target import CLAIM_FILE, Closing, Outgoing, Target
from sar1m.store.durable import (
    PARTIAL_SUFFIX,
    digest_file,
    remove_partials,
    remove_tree,
    settle_folders,
    write_durably,
    writing_to,
)
from sar1m.store.errors import OutputError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import PIECE_BYTES
from sar1m.store.seal_text import MAX_SEAL_BYTES


class FolderTarget(Target):
    """A folder."""

    keeps_history = False

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self._root = root
        self._place = FolderPlace(root)

    def require_apart(self, release: Path) -> None:
        """Raises OutputError where the release itself, or a folder inside it or around it, is the target."""
        here, there = release.resolve(), self._root.resolve()
        if here == there or here in there.parents or there in here.parents:
            raise OutputError(f"{self.location}: is, holds or lies in the release {release}. Give another folder.")

    @override
    def names(self) -> set[str]:
        """What a killed publishing left half written does not count."""
        with writing_to(self._root):
            if self._root.exists() and not self._root.is_dir():
                raise OutputError(f"{self.location}: is a file. Give a new or empty folder.")
            return {name for name in self._place.listing() if not name.endswith(PARTIAL_SUFFIX)}

    @override
    def read(self, name: str) -> bytes:
        return self._place.read(name, max_bytes=MAX_SEAL_BYTES)

    def tags(self) -> set[str]:
        """None: a folder has no history."""
        return set()

    @override
    def require_room(self, files: Sequence[Outgoing]) -> None:
        """There is no limit to keep."""

    @override
    def claim(self, content: bytes, stale: Sequence[str]) -> None:
        write_durably(self._root / CLAIM_FILE, [content])
        remove_partials(self._root)
        for name in stale:
            remove_tree(self._root / name)

    @override
    def holding(self, files: Sequence[Outgoing]) -> set[str]:
        """By reading them."""
        return {file.name for file in files if self._holds(file)}

    @override
    def send(self, files: Sequence[Outgoing], step: Callable[[], None]) -> None:
        """Each file whole or absent."""
        for file in files:
            write_durably(self._root / file.name, _pieces(file.path))
            step()

    @override
    def differing(self, files: Sequence[Outgoing], step: Callable[[], None]) -> list[str]:
        """By reading them again."""
        wrong = []
        for file in files:
            if not self._holds(file):
                wrong.append(file.name)
            step()
        return wrong

    @override
    def complete(self, closing: Closing) -> str:
        settle_folders(self._root)
        write_durably(self._root / closing.marker.name, _pieces(closing.marker.path))
        remove_tree(self._root / CLAIM_FILE)
        return ""

    def _holds(self, file: Outgoing) -> bool:
        path = self._root / file.name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.size:
            return False
        return digest_file(path).sha256 == file.sha256


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield piece
