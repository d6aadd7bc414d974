"""Verification of a release, on this machine or where it was published: every byte, or a random sample of them.

Full: every file's size and sha256. Sampled: every file's presence and size, the sha256 of some files, and of some
samples' chunks the crc32c that ends each of them, by ranged reads; a sample of a hundred chunks of a terabyte costs
some megabytes. HTTP servers cannot be listed: there, files beyond those of the manifest go unseen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from sar1m.releases.remote import NOT_A_FILE, MissingError, Place, UnreachableError, open_place
from sar1m.releases.sampled import chunk_faults
from sar1m.releases.sealed import Expected, Seal, read_seal
from sar1m.store.errors import StoreError
from sar1m.store.seal import Fault

if TYPE_CHECKING:
    from sar1m.store.progress import Watch

READERS: Final = 4  # files read at a time


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How much of a release is looked at: so many files whole, so many chunks of images, drawn by seed."""

    files: int
    chunks: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class VerifySummary:
    """faults: sorted by name, empty where all is well. part: which part of a release this is, nothing for a whole one.
    files: of the release or the part; read_files, read_bytes, read_chunks: what was compared by digest. listed: whether
    added files could be seen."""

    location: str
    title: str
    part: str
    files: int
    read_files: int
    read_bytes: int
    read_chunks: int
    listed: bool
    faults: tuple[Fault, ...]


def verify_release(location: str | Path, watch: Watch, sampling: Sampling | None = None) -> VerifySummary:
    """Compares a release with its manifest; sampling None compares every byte.

    location: see remote.open_place. Raises StoreError where there is no release or its seal is beyond use,
    UnreachableError where a server does not answer: that is no fault of the release.
    """
    place = open_place(location)
    seal = read_seal(place)
    listing = place.listing()
    faults = [*seal.faults, *_listing_faults(seal, listing)]
    named = {fault.path for fault in faults}
    sound = {name: expected for name, expected in seal.files.items() if name not in named}
    chosen = sorted(sound) if sampling is None else _draw(sorted(sound), sampling)
    digests = {one.sha256: name for name, one in seal.files.items() if one.sha256 is not None}
    with watch.stage("verify", len(chosen)) as step:
        for found in _in_order(lambda name: _content_faults(place, name, sound[name], digests), chosen):
            faults += found
            step()
    chunks, damaged = (0, []) if sampling is None else chunk_faults(place, sound, sampling.chunks, sampling.seed)
    return VerifySummary(
        location=place.location,
        title=seal.title,
        part=seal.part,
        files=len(seal.files),
        read_files=len(chosen),
        read_bytes=sum(sound[name].size or 0 for name in chosen),
        read_chunks=chunks,
        listed=listing is not None,
        faults=tuple(sorted({*faults, *damaged}, key=lambda fault: (fault.path, fault.found))),
    )


def require_sound(location: str | Path, watch: Watch) -> None:
    """Raises StoreError that names the first faults unless every byte of a release is right."""
    summary = verify_release(location, watch)
    if summary.faults:
        named = "; ".join(f"{fault.path}: {fault.found}" for fault in summary.faults[:5])
        raise StoreError(f"{summary.location}: {len(summary.faults)} faults: {named}. Make the release anew.")


def digest_pieces(pieces: Iterator[bytes]) -> tuple[str, int]:
    """sha256 (hexadecimal) and size of content that comes piece by piece."""
    sha256, size = hashlib.sha256(), 0
    for piece in pieces:
        sha256.update(piece)
        size += len(piece)
    return sha256.hexdigest(), size


def _listing_faults(seal: Seal, listing: Mapping[str, int] | None) -> Iterator[Fault]:
    if listing is None:
        return
    for name, expected in seal.files.items():
        if name not in listing:
            yield Fault(path=name, found="missing")
        elif listing[name] == NOT_A_FILE:
            yield Fault(path=name, found="not a regular file")
        elif expected.size is not None and listing[name] != expected.size:
            yield Fault(path=name, found=f"{listing[name]} bytes, expected {expected.size}")
    for name in listing.keys() - seal.files.keys() - seal.own_files:
        yield Fault(path=name, found="not in the manifest")


def _content_faults(place: Place, name: str, expected: Expected, digests: Mapping[str, str]) -> list[Fault]:
    """digests: which file has which content, to say so where files were swapped."""
    try:
        sha256, size = digest_pieces(place.stream(name))
    except UnreachableError:
        raise
    except MissingError:
        return [Fault(path=name, found="missing")]
    except StoreError as error:
        return [Fault(path=name, found=str(error))]
    if sha256 == expected.sha256 or (expected.sha256 is None and size == expected.size):
        return []
    if sha256 in digests:
        return [Fault(path=name, found=f"holds the content of {digests[sha256]}")]
    if expected.size is not None and size != expected.size:
        return [Fault(path=name, found=f"{size} bytes, expected {expected.size}")]
    return [Fault(path=name, found="content differs from its sha256")]


def _draw(names: Sequence[str], sampling: Sampling) -> list[str]:
    rng = np.random.default_rng([sampling.seed, len(names)])
    chosen = rng.choice(len(names), size=min(sampling.files, len(names)), replace=False)
    return [names[number] for number in sorted(chosen)]


def _in_order(task: Callable[[str], list[Fault]], names: Sequence[str]) -> Iterator[list[Fault]]:
    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(task, names)
