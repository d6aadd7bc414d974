"""A SAFE product in a folder or a zip, behind one small interface.

Nothing that a zip states is trusted. Only names on a list are read, sizes and compression ratios are limited while
bytes are read, checksums are verified, and nothing is unpacked to disk.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441 (names of members); APPNOTE 6.3 (zip).
"""

from __future__ import annotations

import io
import re
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Final

from typing_extensions import override

from sar1m.store.errors import SourceError

MAX_XML_BYTES: Final = 32 * 2**20  # a slice has 1.8 MB at most; ten slices in one product still fit
MAX_MEASUREMENT_BYTES: Final = 4 * 2**30  # the largest GRD image takes 1.7 GB
MAX_XML_RATIO: Final = 400  # a noise table of zeros reaches 90
RATIO_GRACE_BYTES: Final = 2**20  # short members may shrink as they like
MAX_MEMBERS: Final = 16  # two polarisations of four files each, and the manifest, are 9
MAX_ENTRIES: Final = 5_000  # of a zip, previews and reports included; real ones have about 30
MAX_DIRECTORY_BYTES: Final = 2**20  # of a zip's central directory; real ones take 8 kB
PIECE_BYTES: Final = 2**20

MANIFEST: Final = "manifest.safe"
_ALLOWED: Final = re.compile(
    r"manifest\.safe|annotation/[a-z0-9-]{1,120}\.xml|annotation/calibration/(?:calibration|noise)-[a-z0-9-]{1,120}\.xml"
    r"|measurement/[a-z0-9-]{1,120}\.tiff"
)
_ROOT: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}\.SAFE")
_ENCRYPTED: Final = 0x1
_METHODS: Final = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_FOLDERS: Final = {"annotation", "annotation/calibration", "measurement"}
_COPY: Final = "copy the file itself there."
_FETCH: Final = "Fetch the product again."


@dataclass(frozen=True, kw_only=True)
class Member:
    """A file of the product as its archive lists it. name: relative to the product's root. crc32: None in a folder."""

    name: str
    size: int
    crc32: int | None


class SafeArchive(ABC):
    """A product's members by name.

    path: of the folder or zip. root: name of the product's own folder, NAME.SAFE.
    """

    path: Path
    root: str
    members: Mapping[str, Member]

    @abstractmethod
    def label(self, name: str) -> str:
        """The name of a member for messages."""

    def member(self, name: str) -> Member:
        """The member of a name. Raises SourceError where the product does not have it."""
        if name not in self.members:
            folder = str(PurePosixPath(name).parent)
            beside = [path.name for path in map(PurePosixPath, self.members) if str(path.parent) == folder]
            raise SourceError(
                f"{self.label(name)}: missing. Found in {folder}: {', '.join(beside) or 'nothing'}; expected the "
                f"complete product. {_FETCH}"
            )
        return self.members[name]

    def read(self, name: str, limit: int = MAX_XML_BYTES) -> bytes:
        """The bytes of a member, checksum verified. Raises SourceError where it is missing, damaged or too large."""
        with self.stream(name, limit, MAX_XML_RATIO) as pieces:
            return b"".join(pieces)

    @abstractmethod
    @contextmanager
    def stream(self, name: str, limit: int, ratio: float) -> Iterator[Iterator[bytes]]:
        """The member's bytes in pieces of at most PIECE_BYTES. The checksum is verified once all of them are read.

        limit: bytes. ratio: of unpacked to packed bytes; applies to members over RATIO_GRACE_BYTES.
        Raises SourceError as soon as one of the two is exceeded.
        """


class FolderArchive(SafeArchive):
    """An unpacked product."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path.resolve().name if path.name in ("", ".", "..") else path.name
        self.members = {member.name: member for member in _folder_members(path)}
        _check_census(self)

    @override
    def label(self, name: str) -> str:
        return f"{self.path}/{name}"

    @override
    @contextmanager
    def stream(self, name: str, limit: int, ratio: float) -> Iterator[Iterator[bytes]]:
        self.member(name)
        with ExitStack() as stack:
            with _reading(self.label(name)):
                opened = stack.enter_context((self.path / name).open("rb"))
            yield _bounded(opened, limit, self.label(name))

    def file(self, name: str) -> Path:
        """The path of a member."""
        return self.path / self.member(name).name


class ZipArchive(SafeArchive):
    """A product in a zip, as CDSE and ASF deliver it. Opened by open_archive."""

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = opened
        entries = opened.infolist()
        if len(entries) > MAX_ENTRIES:
            raise SourceError(f"{path}: {len(entries)} entries, a product has about 30. {_FETCH}")
        self.root = _only_root(entries, path)
        self._entries = _zip_entries(entries, self.root, path)
        self.members = {
            name: Member(name=name, size=entry.file_size, crc32=entry.CRC) for name, entry in self._entries.items()
        }
        _check_census(self)

    @override
    def label(self, name: str) -> str:
        return f"{self.path} ({self.root}/{name})"

    @override
    @contextmanager
    def stream(self, name: str, limit: int, ratio: float) -> Iterator[Iterator[bytes]]:
        self.member(name)
        entry, label = self._entries[name], self.label(name)
        most = max(int(entry.compress_size * ratio), RATIO_GRACE_BYTES)
        if entry.file_size > min(limit, most):
            raise SourceError(
                f"{label}: announces {entry.file_size} bytes from {entry.compress_size}; expected at most "
                f"{min(limit, most)}. No real product is compressed this much. {_FETCH}"
            )
        with ExitStack() as stack:
            with _reading(label):
                opened = stack.enter_context(self._zip.open(entry))
            yield _bounded(opened, min(limit, most), label, exactly=entry.file_size)


@contextmanager
def open_archive(path: Path) -> Iterator[SafeArchive]:
    """Opens the product at path: its folder, or a zip that holds one product.

    Raises SourceError where path is missing or neither, and where it holds no product, several products, links, special
    files, members that stand twice or are encrypted, or names that point outside the product.
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        raise SourceError(f"{path}: cannot be read: {error}. Expected a .SAFE folder or a zip of one.") from error
    if stat.S_ISDIR(status.st_mode):
        yield FolderArchive(path)
        return
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(f"{path}: not a regular file. Expected a .SAFE folder or a zip of one.")
    with _opened_zip(path) as opened:
        yield ZipArchive(path, opened)


def read_only_member(path: Path, suffix: str, limit: int) -> bytes:
    """The bytes of the one member of a zip whose name ends in suffix.

    Raises SourceError where there is not exactly one, or it is damaged or over limit bytes.
    """
    with _opened_zip(path) as opened, ExitStack() as stack:
        entries = [entry for entry in opened.infolist() if entry.filename.endswith(suffix)]
        if len(entries) != 1 or entries[0].flag_bits & _ENCRYPTED or entries[0].compress_type not in _METHODS:
            raise SourceError(f"{path}: {len(entries)} readable members *{suffix}; expected one. Fetch the file again.")
        with _reading(str(path)):
            stream = stack.enter_context(opened.open(entries[0]))
        return b"".join(_bounded(stream, limit, str(path), exactly=entries[0].file_size))


@contextmanager
def _opened_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(_DirectoryLimit(io.FileIO(path)))
            opened = stack.enter_context(zipfile.ZipFile(raw))
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
            raise SourceError(
                f"{path}: cannot be opened as a zip ({error}). Expected a product's .SAFE folder, or a zip as the "
                "service delivered it: fetch it again."
            ) from error
        yield opened


class _DirectoryLimit(io.BufferedReader):
    """Refuses single reads so large that only a forged central directory asks for them."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MAX_DIRECTORY_BYTES + 1 if size is None or size < 0 else size
        if wanted > MAX_DIRECTORY_BYTES + 1:
            raise zipfile.BadZipFile(f"its directory claims {wanted} bytes, at most {MAX_DIRECTORY_BYTES} are read")
        return super().read(wanted)


@contextmanager
def _reading(label: str) -> Iterator[None]:
    """Turns faults of reading into SourceError. It encloses reads alone, so that faults of the caller pass."""
    try:
        yield
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise _unreadable(label, error) from error


def _bounded(opened: IO[bytes], limit: int, label: str, exactly: int | None = None) -> Iterator[bytes]:
    """The stream in pieces, up to limit bytes. exactly: the size that the zip's directory states."""
    total = 0
    while True:
        with _reading(label):
            piece = opened.read(min(PIECE_BYTES, limit - total + 1))
        total += len(piece)
        if total > limit:
            raise SourceError(f"{label}: more than {limit} bytes; no member of its kind is that large. {_FETCH}")
        if not piece:
            break
        yield piece
    if exactly is not None and total != exactly:
        raise SourceError(f"{label}: holds {total} bytes, expected {exactly}. {_FETCH}")


def _folder_members(path: Path) -> Iterator[Member]:
    """The members in the product's four folders. Links are refused: they could pass any file off as the product's."""
    try:
        for folder in (path, path / "annotation", path / "annotation/calibration", path / "measurement"):
            for file in sorted(folder.iterdir()) if folder.is_dir() else []:
                name = file.relative_to(path).as_posix()
                status = file.lstat()
                if name in _FOLDERS and not stat.S_ISDIR(status.st_mode):
                    raise SourceError(f"{file}: not a folder. Expected a product as it was unpacked; {_COPY}")
                if not _ALLOWED.fullmatch(name):
                    continue
                if not stat.S_ISREG(status.st_mode):
                    raise SourceError(f"{file}: a link or a special file. Expected the product's own file; {_COPY}")
                yield Member(name=name, size=status.st_size, crc32=None)
    except OSError as error:
        raise _unreadable(str(path), error) from error


def _only_root(entries: list[zipfile.ZipInfo], path: Path) -> str:
    """Name of the one folder that holds all of a zip. Refuses names that point outside it."""
    for entry in entries:
        name = entry.orig_filename
        parts = name.rstrip("/").split("/")
        if (
            not name.isprintable()
            or "\\" in name
            or ":" in name
            or name.startswith("/")
            or {"", ".", ".."} & set(parts)
        ):
            raise SourceError(
                f"{path}: holds a member named {name[:120]!r}, which may point outside the product. {_FETCH}"
            )
    roots = sorted({entry.filename.split("/")[0] for entry in entries})
    products = [root for root in roots if _ROOT.fullmatch(root)]
    if len(products) != 1:
        raise SourceError(
            f"{path}: holds {len(products)} products ({', '.join(root[:80] for root in roots[:4]) or 'it is empty'}); "
            "expected one folder NAME.SAFE. Give one zip for each product."
        )
    return products[0]


def _zip_entries(entries: list[zipfile.ZipInfo], root: str, path: Path) -> dict[str, zipfile.ZipInfo]:
    members: dict[str, zipfile.ZipInfo] = {}
    for entry in entries:
        name = entry.filename.removeprefix(f"{root}/")
        if name == entry.filename or not _ALLOWED.fullmatch(name):
            continue
        kind = stat.S_IFMT(entry.external_attr >> 16)
        problem = (
            "is there twice" * (name in members)
            or f"is a link or a special file (mode {kind:o})" * (kind not in (0, stat.S_IFREG))
            or "is encrypted" * bool(entry.flag_bits & _ENCRYPTED)
            or f"is packed by method {entry.compress_type}, not deflate" * (entry.compress_type not in _METHODS)
        )
        if problem:
            raise SourceError(f"{path} ({root}/{name}): {problem}. A product's zip has plain files; {_FETCH.lower()}")
        members[name] = entry
    return members


def _check_census(archive: SafeArchive) -> None:
    if len(archive.members) > MAX_MEMBERS:
        raise SourceError(f"{archive.path}: {len(archive.members)} members, at most {MAX_MEMBERS} expected. {_FETCH}")
    if MANIFEST not in archive.members:
        raise SourceError(
            f"{archive.path}: no {MANIFEST} in it. Expected a Sentinel-1 product: a folder NAME.SAFE or a zip of one. "
            "Check the path."
        )


def _unreadable(label: str, error: Exception) -> SourceError:
    found = f"{type(error).__name__}: {error}" if not isinstance(error, OSError) else error.strerror or str(error)
    return SourceError(f"{label}: cannot be read ({found[:200]}). {_FETCH}")
