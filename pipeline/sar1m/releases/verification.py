"""Verification of a release, on this machine or where it was published: every byte, or a random sample of them.

Full: every file's size and sha256. Sampled: every file's presence and size, the sha256 of some files, and of some
chunks the crc32c at their end, by ranged reads; a sample of a hundred chunks of a terabyte costs some megabytes. An
HTTP server cannot be listed, so files that are not in the manifest cannot be found there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sar1m.releases.chunk_sampling import chunk_faults
from sar1m.releases.hub import open_release
from sar1m.releases.part_check import part_faults
from sar1m.releases.trust import NOBODY, Trust, trust_faults
from sar1m.store.chunk_checksums import QuickComparison
from sar1m.store.errors import StoreError
from sar1m.store.progress import Watch
from sar1m.store.seal import StoreFault, content_faults, listing_faults, read_seal
from sar1m.store.seal_text import RELEASE_MARKERS


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How much of a release is compared. files: read whole; chunks: of images; both are drawn by seed."""

    files: int
    chunks: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class VerifySummary:
    """faults: sorted by name, empty where all is well. part: which part of a release this is, nothing for a whole one.
    files: of the release or the part; read_files, read_bytes, read_chunks: what was compared by digest. listed: whether
    added files could be seen. part_of: of a part by samples that follows from its release, the sha256 of the
    release's manifest."""

    location: str
    title: str
    part: str
    files: int
    read_files: int
    read_bytes: int
    read_chunks: int
    listed: bool
    faults: tuple[StoreFault, ...]
    part_of: str = ""


def verify_release(
    location: str | Path,
    watch: Watch,
    sampling: Sampling | None = None,
    trust: Trust = NOBODY,
    quick: QuickComparison | None = None,
) -> VerifySummary:
    """Compares a release with its manifest; sampling None compares every byte, quick the checksums of chunks instead.

    location: see hub.open_release. trust: what is known of its publisher is compared too. Of a part by samples every
    byte is also compared with what the release's own files in it say, see part_check; sampling leaves that out. Raises
    StoreError where there is no release or its seal is beyond use, UnreachableError where a server does not answer:
    that is no fault of the release.
    """
    place = open_release(location)
    seal = read_seal(place, RELEASE_MARKERS)
    listing = place.listing()
    faults = list(seal.faults)
    if listing is not None:
        faults += listing_faults(seal, listing)
    named = {fault.path for fault in faults}
    sound = {name: expected for name, expected in seal.files.items() if name not in named}
    chosen = sorted(sound) if sampling is None else _draw(sorted(sound), sampling)
    with watch.stage("verify", len(chosen)) as step:
        for found in (quick or content_faults)(place, seal, chosen):
            faults += found
            step()
    faults += trust_faults(place, seal, trust)
    bound = seal.part_of if sampling is None and quick is None else None
    if bound is not None and not faults:
        faults += part_faults(place, seal)
    chunks, damaged = (0, []) if sampling is None else chunk_faults(place, sound, sampling.chunks, sampling.seed)
    read_bytes = sum(sound[name].size or 0 for name in chosen)
    if quick is not None:
        chunks, read_bytes = quick.chunks, quick.read_bytes
    return VerifySummary(
        location=place.location,
        title=seal.title,
        part=seal.part,
        files=len(seal.files),
        read_files=len(chosen),
        read_bytes=read_bytes,
        read_chunks=chunks,
        listed=listing is not None,
        faults=tuple(sorted({*faults, *damaged}, key=lambda fault: (fault.path, fault.found))),
        part_of="" if bound is None or faults else str(bound["manifest_sha256"]),
    )


def require_sound(location: str | Path, watch: Watch) -> None:
    """Raises StoreError that names the first faults unless every byte of a release is right."""
    summary = verify_release(location, watch)
    if summary.faults:
        named = "; ".join(f"{fault.path}: {fault.found}" for fault in summary.faults[:5])
        raise StoreError(f"{summary.location}: {len(summary.faults)} faults: {named}. Make the release anew.")


def _draw(names: Sequence[str], sampling: Sampling) -> list[str]:
    rng = np.random.default_rng([sampling.seed, len(names)])
    chosen = rng.choice(len(names), size=min(sampling.files, len(names)), replace=False)
    return [names[number] for number in sorted(chosen)]
