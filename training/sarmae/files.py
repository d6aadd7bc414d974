"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from sar1m.store.errors import OutputError


def write_durably(path: Path, content: bytes) -> None:
    """Puts a file in place as a whole, also over a kill or a loss of power; makes its folder. OutputError names it."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written ({error}); room for {len(content):,} bytes in a folder of yours expected. "
            "Give another folder, or make room."
        ) from error


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
