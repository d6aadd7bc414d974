"""Checksums as services state them: `md5:0f...`, `sha256:...`, `sha3-256:...`, `blake3:...`."""

from __future__ import annotations

import hashlib
import importlib
import re
from pathlib import Path
from typing import Final, Protocol

from sar1m.store.errors import SourceError

_HASHLIB: Final = {"md5": "md5", "sha256": "sha256", "sha512": "sha512", "sha3-256": "sha3_256"}
_HEX_CHARS: Final = {"md5": 32, "sha256": 64, "sha512": 128, "sha3-256": 64, "blake3": 64}
_PIECE_BYTES: Final = 2**20


class _Hash(Protocol):
    def update(self, piece: bytes, /) -> object:
        """Adds."""

    def hexdigest(self) -> str:
        """The sum."""


def parse_checksum(text: str, name: str) -> tuple[str, str]:
    """Algorithm and lower-case hexadecimal sum. Raises SourceError, beginning with name, where it cannot be used."""
    algorithm, _, value = text.strip().lower().partition(":")
    if algorithm not in _HEX_CHARS or not re.fullmatch(f"[0-9a-f]{{{_HEX_CHARS[algorithm]}}}", value):
        raise SourceError(
            f"{name}: its checksum {text[:24]!r} is not one of {', '.join(_HEX_CHARS)}, then : and hexadecimal digits."
        )
    return algorithm, value


def file_checksum(path: Path, algorithm: str, name: str) -> str:
    """The sum of a file, read in pieces. Raises SourceError where the algorithm is not installed."""
    summing = _new(algorithm, name)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            summing.update(piece)
    return summing.hexdigest()


def _new(algorithm: str, name: str) -> _Hash:
    if algorithm in _HASHLIB:
        return hashlib.new(_HASHLIB[algorithm], usedforsecurity=False)
    try:
        blake3 = importlib.import_module("blake3")
    except ModuleNotFoundError:
        raise SourceError(f"{name}: has a BLAKE3 checksum and blake3 is not installed. pip install blake3") from None
    summing: _Hash = blake3.blake3()
    return summing
