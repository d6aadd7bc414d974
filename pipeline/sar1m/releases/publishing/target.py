"""What passes between the steps of publishing and the targets."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sar1m.store.seal import Seal

CLAIM_FILE: Final = "PUBLISHING.json"  # at a target while a release is being sent: of which release the files there are


@dataclass(frozen=True, kw_only=True)
class Outgoing:
    """One file of the release: name there, path here, sha256 (hexadecimal) and size in bytes."""

    name: str
    path: Path
    sha256: str
    size: int


@dataclass(frozen=True, kw_only=True)
class PublishOptions:
    """dry_run: only lists what would be sent. private: whether a repository that is made on the hub is private."""

    dry_run: bool = False
    private: bool = False


@dataclass(frozen=True, kw_only=True)
class PublishSummary:
    """sent: names in the order in which they were sent (would be sent, in a dry run). kept: how many files were there
    already, with the right content. already_complete: there was nothing left to do."""

    location: str
    title: str
    sent: tuple[str, ...]
    sent_bytes: int
    kept: int
    already_complete: bool
    dry_run: bool


@dataclass(frozen=True, kw_only=True)
class Closing:
    """What makes a release complete at its target. tag: such as v1.0.0, where the target knows tags. files: all files
    of the release, which are there by now."""

    marker: Outgoing
    tag: str
    files: tuple[Outgoing, ...]

    def large_names(self, part_bytes: int) -> tuple[str, ...]:
        """Names of files of more than so many bytes."""
        return tuple(file.name for file in self.files if file.size > part_bytes)


class Target(Protocol):
    """Where a release is published: a folder, a bucket, a repository of the hub.

    Every failure is a StoreError, ConfigError or OutputError without credentials.
    """

    location: str

    @property
    def keeps_history(self) -> bool:
        """Whether a former version stays readable under its tag when a new one takes its place."""

    def names(self) -> set[str]:
        """Every file that lies there, but for what belongs to the target itself. Empty where there is nothing yet."""

    def read(self, name: str) -> bytes:
        """A small file. MissingError where it is absent."""

    def tags(self) -> set[str]:
        """Versions that were published there; empty where the target knows no tags."""

    def require_room(self, files: Sequence[Outgoing]) -> None:
        """Raises OutputError where the target takes no release of so many files."""

    def claim(self, content: bytes, stale: Sequence[str]) -> None:
        """Puts CLAIM_FILE, making the place first where that is needed, and removes stale files in the same step."""

    def holding(self, files: Sequence[Outgoing]) -> set[str]:
        """Which of files are there already, by size and digest as the target reports them."""

    def send(self, files: Sequence[Outgoing], step: Callable[[], None]) -> None:
        """Puts files there, whatever there was under their names."""

    def differing(self, files: Sequence[Outgoing], step: Callable[[], None]) -> list[str]:
        """Which of files are missing there or have other bytes: the check before a release is called complete."""

    def complete(self, closing: Closing) -> str:
        """Puts the marker, takes the claim away, sets the tag. May be called again. Returns what a user should know,
        empty where there is nothing."""


def claim_of(seal: Seal) -> bytes:
    """The content of CLAIM_FILE: which release is on its way."""
    claim: dict[str, Any] = {key: seal.marker.get(key) for key in ("name", "version", "manifest_sha256")}
    return json.dumps(claim, sort_keys=True).encode() + b"\n"
