"""Names of files that a download may create: on every usual system a file of its own, in the folder that was given."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import Final

from sar1m.store.errors import StoreError, printable

_MAX_NAME_BYTES: Final = 1024  # with the folder before it, under the 4,096 of Linux and the 1,024 of macOS
# Source: Microsoft, Naming Files, Paths, and Namespaces. A device also with a suffix and in any case.
_DEVICE: Final = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?", re.IGNORECASE)
_SIGNS: Final = re.compile(r'[<>:"|?*\\]')
_OURS: Final = "build-log"  # holds the lock of a download


def require_portable(names: Iterable[str], where: str) -> None:
    """Raises StoreError, naming the first that cannot be downloaded and why, unless every name is safe.

    names: relative POSIX paths of a release's list. Refused are hidden files (.bashrc, .git/hooks), devices and signs
    of Windows, drives, names that differ only in case or in how accents are written, files that are also folders, and
    names that are too long. where: the release in the message.
    """
    known: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        reason = _unfit(name)
        same = _same(name)
        other = known.setdefault(same, name)
        if reason is None and other != name:
            reason = f"is the same file as {printable(other)!r} where case does not count"
        for end in (at for at, letter in enumerate(same) if letter == "/"):
            folder = folders.setdefault(same[:end], name[:end])
            if reason is None and folder != name[:end]:
                reason = f"lies in the same folder as {printable(folder)!r} where case does not count"
        if reason is not None:
            raise _refused(name, reason, where)
    for same in folders.keys() & known.keys():
        raise _refused(known[same], "is a file and a folder at once", where)


def _refused(name: str, reason: str, where: str) -> StoreError:
    return StoreError(
        f"{where}: lists the file {printable(name[:120])!r}, which {reason}. Nothing was downloaded: no release of "
        "`sar1m` holds such a name, so ask who publishes it."
    )


def _same(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", name).casefold())


def _unfit(name: str) -> str | None:
    """Why a name is not safe; None where it is."""
    if len(name.encode("utf-8", "surrogatepass")) > _MAX_NAME_BYTES:
        return f"has more than {_MAX_NAME_BYTES} bytes"
    if not name.isprintable():
        return "holds control characters"
    if name.startswith("/") or name.partition("/")[0].casefold() == _OURS:
        return "lies where a download keeps its own files" if not name.startswith("/") else "leads out of the folder"
    return next((reason for part in name.split("/") if (reason := _unfit_part(part)) is not None), None)


def _unfit_part(part: str) -> str | None:
    if part.startswith("."):
        return "is hidden, or leads out of the folder"
    if part != part.strip() or part.endswith(".") or not part:
        return "begins or ends with a space, or ends with a dot"
    if _DEVICE.fullmatch(part):
        return "is the name of a device on Windows"
    return 'holds one of the signs < > : " | ? * \\' if _SIGNS.search(part) else None
