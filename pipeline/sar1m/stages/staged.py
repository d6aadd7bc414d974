"""Staged blocks: what phase 1 leaves for phase 2, one file a work item, named by content key.

A staged block is an uncompressed zip: `record.json` with one row of metrics a patch, and for every patch its encoded
chunks `<patch>/sar` and `<patch>/optical`. One file a block rather than one a patch: a sixteenth of the renames and
syncs, and the block is the unit that is done or not done.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from sar1m.records import Row
from sar1m.store.chunks import checked_payload
from sar1m.store.errors import MissingError, StoreError
from sar1m.store.outputs.output import Output
from sar1m.store.side_files import own_json

RECORD_NAME = "record.json"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would make the bytes differ
MAX_RECORD_BYTES = 64 * 2**20
_SUFFIX = ".zip"


@dataclass(frozen=True, kw_only=True)
class StagedRecord:
    """The record of a staged block. rows: metrics by patch; statistics: channel statistics by patch; self_test:
    recoveries of known shifts."""

    rows: Sequence[Row]
    statistics: Sequence[Row]
    self_test: Sequence[Row]


def staged_name(key: str) -> str:
    """Where the block of a content key lies below staging. Two levels of folders keep the number of files in one folder
    small."""
    return f"{key[:2]}/{key}{_SUFFIX}"


def staged_keys(staging: Output) -> set[str]:
    """The content keys of all blocks that are staged."""
    return {name.rpartition("/")[2].removesuffix(_SUFFIX) for name in staging.listing() if name.endswith(_SUFFIX)}


def write_staged(staging: Output, key: str, record: StagedRecord, chunks: Mapping[str, bytes]) -> None:
    """Commits a block; chunks: encoded bytes by `<patch>/<array>`. After a crash it is there whole or not at all.

    Raises OutputError where the output refuses."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, payload in sorted(chunks.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), payload)
        text = json.dumps(vars(record), sort_keys=True, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(RECORD_NAME, ZIP_EPOCH), text)
    staging.write_once(staged_name(key), buffer.getvalue())


def read_record(staging: Output, key: str) -> StagedRecord:
    """The record of a staged block. Raises StoreError naming the file where it is damaged."""
    with _opened(staging, key) as archive:
        if archive.getinfo(RECORD_NAME).file_size > MAX_RECORD_BYTES:
            raise ValueError(f"its record claims more than {MAX_RECORD_BYTES} bytes")
        return StagedRecord(**own_json(archive.read(RECORD_NAME)))


def read_chunk(staging: Output, key: str, name: str) -> bytes:
    """One encoded chunk, checksum verified. Raises StoreError naming the file where it is missing or damaged."""
    with _opened(staging, key) as archive:
        chunk = archive.read(name)
        checked_payload(chunk)
        return chunk


@contextmanager
def _opened(staging: Output, key: str) -> Iterator[zipfile.ZipFile]:
    """A staged block to read in. What goes wrong meanwhile becomes a StoreError that names the file."""
    name = staged_name(key)
    shown = f"{staging.location}/{name}"
    try:
        with staging.open(name) as stream, zipfile.ZipFile(stream) as archive:
            yield archive
    except MissingError as error:
        raise StoreError(
            f"{shown}: this staged block is missing. Run the build again to prepare it; on a cluster, every worker "
            "must see the output folder under this very path."
        ) from error
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise StoreError(
            f"{shown}: this staged block cannot be read ({type(error).__name__}: {error}). Delete that file and run "
            "the build again: the block is prepared anew."
        ) from error
