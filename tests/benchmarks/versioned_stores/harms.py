"""Ways to damage files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

METADATA = "a byte of the metadata turned"


def flip(files: list[Path]) -> None:
    """Turns a byte in the first, a third of the way in."""
    content = bytearray(files[0].read_bytes())
    content[len(content) // 3] ^= 0xFF
    files[0].write_bytes(content)


def truncate(files: list[Path]) -> None:
    """Leaves half of the first."""
    content = files[0].read_bytes()
    files[0].write_bytes(content[: len(content) // 2])


def delete(files: list[Path]) -> None:
    """Removes the first."""
    files[0].unlink()


def swap(files: list[Path]) -> None:
    """Exchanges the first two."""
    one, other = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(other)
    files[1].write_bytes(one)


HARMS: dict[str, Callable[[list[Path]], None]] = {
    "a byte turned": flip,
    "truncated by half": truncate,
    "deleted": delete,
    "two exchanged": swap,
}
