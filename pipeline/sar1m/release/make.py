"""A release from finished builds, in one command that can be killed at any moment and run again.

The folder is made beside its place, as <out>.making, and renamed when it is whole and sealed: whoever looks at <out>
sees a complete release or none. The same builds, version and former release give the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sar1m import __version__
from sar1m.errors import ConfigError, OutputError
from sar1m.io.durable import digest_file, remove_tree, sync_directory, write_durably, writing_to
from sar1m.io.lock import output_lock
from sar1m.io.staging import remove_partials
from sar1m.release import versions
from sar1m.release.builds import Build, open_builds, require_sound
from sar1m.release.choose import Choice, choose
from sar1m.release.contents import write_contents
from sar1m.release.privacy import own_secrets
from sar1m.release.records import RELEASE_MARKER_FILE
from sar1m.release.remote import open_place
from sar1m.release.sealed import require_whole_seal
from sar1m.release.versions import Previous
from sar1m.schema import DATA_DIR

if TYPE_CHECKING:
    from sar1m.build import Watch

MAKING_SUFFIX: Final = ".making"
INPUTS_FILE: Final = "inputs.json"  # in the folder under way: what it is being made from
RECORDS_DIR: Final = "records"
ROOT_DIR: Final = "release"
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, kw_only=True)
class ReleaseRequest:
    """What a user asked for. previous: folder of the release this one follows. recipes: recipe-only optical pixels
    are left out and their recipes shipped. check_builds: every file of the builds is compared with its manifest.
    canaries: words that must appear nowhere, beside what privacy.py looks for of itself."""

    version: str
    name: str = "sar-1m"
    previous: Path | None = None
    recipes: bool = False
    check_builds: bool = True
    canaries: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ReleaseSummary:
    """How it ended. marker: RELEASE_COMPLETE.json; audit: leakage_audit.json."""

    root: Path
    marker: Mapping[str, Any]
    audit: Mapping[str, Any] = field(default_factory=dict)
    nothing_to_do: bool = False

    @property
    def title(self) -> str:
        """As one cites it: sar-1m v1.0.0."""
        return f"{self.marker['name']} v{self.marker['version']}"


def make_release(builds: Sequence[Path], out: Path, request: ReleaseRequest, watch: Watch) -> ReleaseSummary:
    """Makes the release, or goes on with one that was interrupted.

    Raises ConfigError where builds do not go together, licences forbid it or the version promises too little,
    StoreError where a build or the former release is damaged or splits leak, OutputError where out holds anything else
    or something private would leave, LockedError where another process makes the same release.
    """
    versions.parse_version(request.version)
    if not _NAME.fullmatch(request.name):
        raise ConfigError(f"name {request.name!r}: expected 1 to 64 letters, digits, dots, dashes or underscores.")
    out = out.absolute()
    opened = open_builds(builds)
    previous = None if request.previous is None else versions.read_previous(request.previous)
    if previous is not None:
        versions.require_follows(request.name, request.version, previous)
    inputs = _inputs(opened, request, previous)
    work = out.with_name(out.name + MAKING_SUFFIX)
    with output_lock(work):
        marker = _finished(out, inputs)
        nothing_to_do = marker is not None
        if marker is None:
            _prepare(work, inputs)
            _check(opened, request, watch)
            choice = choose(opened, request.version, previous, recipes=request.recipes)
            secrets = own_secrets([out, *builds]) | dict.fromkeys(request.canaries, "a canary")
            facts = {"name": request.name, "version": request.version, "inputs": inputs}
            write_contents(work / ROOT_DIR, work / RECORDS_DIR, choice, facts, secrets, watch)
            _install(work / ROOT_DIR, out)
            marker = require_whole_seal(open_place(out)).marker
        remove_tree(work)
    audit = json.loads((out / "leakage_audit.json").read_text(encoding="utf-8"))
    return ReleaseSummary(root=out, marker=marker, audit=audit, nothing_to_do=nothing_to_do)
