"""What a build needs of the place it writes to, whatever it is. What was written is read through Place."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol

from sar1m.store.durable import FileDigest, digest_pieces
from sar1m.store.places.place import Place


class Output(Place, Protocol):
    """Read and write access to the files of one build. Safe for threads; pickles without credentials.

    A file is whole or absent, whatever is interrupted. Where the place refuses, the error is an OutputError.
    """

    @property
    def work(self) -> Path:
        """A folder of this machine for caches, and for what libraries can only have as files. It need not exist."""

    @abstractmethod
    def below(self, name: str) -> Output:
        """The output that is a folder of this one."""

    @abstractmethod
    def listing(self) -> Mapping[str, int]:
        """As of a Place. Every output can be listed."""

    @abstractmethod
    def entries(self) -> set[str]:
        """The first parts of all names. Empty where nothing is there. Raises OutputError where this is a file."""

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """A file to read and seek in. Raises MissingError where there is none."""

    @abstractmethod
    def local(self, names: Collection[str]) -> AbstractContextManager[Path]:
        """A folder of this machine that holds these files, for libraries that only read paths. A copy goes again."""

    @abstractmethod
    def write(self, name: str, pieces: Iterable[bytes]) -> FileDigest:
        """Writes pieces one after the other into one file. After a crash it holds its former content or all pieces."""

    @abstractmethod
    def write_once(self, name: str, content: bytes) -> None:
        """Writes a file whose name decides its content: who comes second changes nothing."""

    @abstractmethod
    def append(self, name: str, line: str) -> None:
        """Adds a line to a log. After a crash the last lines may be missing."""

    @abstractmethod
    def remove(self, *names: str) -> None:
        """Removes files, and folders with all below them, durably. Absent is fine."""

    @abstractmethod
    def remove_partials(self) -> None:
        """Removes what interrupted runs left half written."""

    @abstractmethod
    def settle(self) -> None:
        """Makes all names durable, also in folders that an interrupted run made. Call it before a marker is written,
        which states that all these files are there."""

    @abstractmethod
    def move_in(self, source: str, files: Collection[str]) -> None:
        """Puts files below source in the place of what lies here under the first parts of their names.

        Called again after an interruption, it goes on. source may keep its files, until remove takes it away.
        """

    @abstractmethod
    def lock(self, share: str = "") -> AbstractContextManager[None]:
        """Only one build works here. Raises LockedError at once, naming the process, where another one does.

        share: the name of a share of a build. Shares work beside each other, but not two of the same name.
        """

    @abstractmethod
    def nothing_left_behind(self, keep: str) -> AbstractContextManager[None]:
        """Removes what was not there before where what is done raises a Sar1mError. keep: a name with which all of it
        stays."""

    def digest(self, name: str) -> FileDigest:
        """Digest and size of a file that is there."""
        return digest_pieces(self.stream(name))


def sizes_of(output: Output, names: Collection[str]) -> dict[str, int]:
    """Bytes of the files that are there, by name. names: those that are asked for; others may be among the answer."""
    found: dict[str, int] = {}
    for top in sorted({name.split("/", 1)[0] for name in names}):
        if top in names:
            size = output.size(top)
            found |= {} if size is None else {top: size}
        else:
            found |= {f"{top}/{name}": size for name, size in output.below(top).listing().items()}
    return found
