"""Warm and cold: what of a folder lies in the system's page cache, and how to change it."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

READ_BYTES = 8 * 2**20
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)


def files(folder: Path) -> Iterator[Path]:
    """Every file below a folder."""
    return (path for path in folder.rglob("*") if path.is_file())


def size_bytes(folder: Path) -> int:
    """What its files take on disk; holes take nothing."""
    return sum(path.stat().st_blocks * 512 for path in files(folder))


def warm(folder: Path) -> None:
    """Reads every file once."""
    room = bytearray(READ_BYTES)
    for path in files(folder):
        with path.open("rb", buffering=0) as stream:
            while stream.readinto(room):
                pass


def evict(folder: Path) -> None:
    """Drops every file's pages; dirty ones are written first."""
    os.sync()
    for path in files(folder):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)


def resident_share(folder: Path) -> float:
    """Share of the folder's pages that lie in the page cache, by mincore; 1 of an empty folder."""
    resident = pages = 0
    for path in files(folder):
        found = _resident(path)
        resident, pages = resident + int(found.sum()), pages + len(found)
    return resident / pages if pages else 1.0


def _resident(path: Path) -> np.ndarray:
    size = path.stat().st_size
    flags = np.zeros(-(-size // mmap.PAGESIZE), dtype=np.uint8)
    if size:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), size, prot=mmap.PROT_READ) as view:
            address = np.frombuffer(view, dtype=np.uint8)
            failed = _libc.mincore(address.ctypes.data, size, flags.ctypes.data)
            del address
        if failed:
            raise OSError(ctypes.get_errno(), f"mincore: {path}")
    return flags & 1
