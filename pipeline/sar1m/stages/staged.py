"""Staged blocks: what phase 1 leaves for phase 2, one file a work item, named by content key.

A staged block is an uncompressed zip: `record.json` with one row of metrics a patch, and for every patch its encoded
chunks `<patch>/sar` and `<patch>/optical`. One file a block rather than one a patch: a sixteenth of the renames and
syncs, and the block is the unit that is done or not done.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sar1m.records import Row
from sar1m.store.chunks import checked_payload
from sar1m.store.durable import write_durably
from sar1m.store.errors import StoreError
from sar1m.store.side_files import json_value

RECORD_NAME = "record.json"
ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold; a real one would make the bytes differ
MAX_RECORD_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class StagedRecord:
    """The record of a staged block. rows: metrics by patch; statistics: channel statistics by patch; self_test:
    recoveries of known shifts."""

    rows: Sequence[Row]
    statistics: Sequence[Row]
    self_test: Sequence[Row]


def staged_path(staging: Path, key: str) -> Path:
    """Where the block of a content key lies. Two levels of folders keep the number of files in one folder small."""
    return staging / key[:2] / f"{key}.zip"


def write_staged(staging: Path, key: str, record: StagedRecord, chunks: Mapping[str, bytes]) -> None:
    """Commits a block; chunks: encoded bytes by `<patch>/<array>`. After a crash it is there whole or not at all.

    Raises OutputError where the disk refuses."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, payload in sorted(chunks.items()):
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), payload)
        text = json.dumps(vars(record), sort_keys=True, allow_nan=False)
        archive.writestr(zipfile.ZipInfo(RECORD_NAME, ZIP_EPOCH), text)
    write_durably(staged_path(staging, key), [buffer.getvalue()])


def read_record(staging: Path, key: str) -> StagedRecord:
    """The record of a staged block. Raises StoreError naming the file where it is damaged."""
    path = staged_path(staging, key)
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(RECORD_NAME).file_size > MAX_RECORD_BYTES:
                raise StoreError(f"{path}: its record claims more than {MAX_RECORD_BYTES} bytes. Delete the file.")
            return StagedRecord(**json_value(archive.read(RECORD_NAME)))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, TypeError) as error:
        raise _damaged(path, error) from error


def read_chunk(staging: Path, key: str, name: str) -> bytes:
    """One encoded chunk, checksum verified. Raises StoreError naming the file where it is missing or damaged."""
    path = staged_path(staging, key)
    try:
        with zipfile.ZipFile(path) as archive:
            chunk = archive.read(name)
        checked_payload(chunk)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _damaged(path, error) from error
    return chunk


def _damaged(path: Path, error: Exception) -> StoreError:
    if isinstance(error, FileNotFoundError):
        return StoreError(
            f"{path}: this staged block is missing. Run the build again to prepare it; on a cluster, every worker must "
            "see the output folder under this very path."
        )
    return StoreError(
        f"{path}: this staged block cannot be read ({type(error).__name__}: {error}). Delete that file and run the "
        "build again: the block is prepared anew."
    )
