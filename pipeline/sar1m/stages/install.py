"""The end of phase 2: what was packed takes the place of the former store.

A packing folder is sealed once everything in it is durable. Only a sealed folder is installed: the marker of the
former store goes first, then the entries move, then comes the manifest, and last the new marker. The same command goes
on from wherever it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sar1m.store.durable import (
    FileDigest,
    digest_file,
    remove_tree,
    settle_folders,
    sync_directory,
    write_durably,
    writing_to,
)
from sar1m.store.errors import StoreError
from sar1m.store.schema import (
    DATA_DIR,
    FAILED_FILE,
    MARKER_FILE,
    PROVENANCE_DIR,
    REJECTED_FILE,
    REPORT_FILE,
    SAMPLES_FILE,
    STATS_DIR,
)
from sar1m.store.seal import payload_files, write_seal
from sar1m.store.seal_text import MAX_SEAL_BYTES
from sar1m.store.side_files import read_json

READY_SUFFIX = ".ready.json"  # of the seal, a file beside the packing folder
_REMEDY = "Remove it and run the same command again."
STORE_NAMES = {DATA_DIR, SAMPLES_FILE, REJECTED_FILE, FAILED_FILE, STATS_DIR, PROVENANCE_DIR, REPORT_FILE.split("/")[0]}


def seal(packed: Path, known: Mapping[Path, FileDigest], facts: Mapping[str, Any]) -> None:
    """Makes a packing folder durable and marks it as ready to be installed.

    known: digests taken while writing, by path; other files are read. facts: of the completion marker.
    """
    digests = {name: known.get(packed / name) or digest_file(packed / name) for name in payload_files(packed)}
    ready = {"facts": dict(facts), "files": {name: [d.sha256, d.size] for name, d in digests.items()}}
    settle_folders(packed)
    write_durably(_ready_path(packed), [json.dumps(ready, sort_keys=True).encode()])


def is_sealed(packed: Path) -> bool:
    """Whether the folder holds a whole store that only waits to be installed."""
    return _ready_path(packed).is_file()


def install(packed: Path, store: Path) -> None:
    """Puts a sealed folder in the place of the store.

    Interrupted at any point, calling it again finishes: what has moved is no longer in the packing folder. Raises
    StoreError where files went missing in between.
    """
    ready = read_json(_ready_path(packed), error=StoreError, remedy=_REMEDY, max_bytes=MAX_SEAL_BYTES)
    digests = {name: FileDigest(sha256=sha256, size=size) for name, (sha256, size) in ready["files"].items()}
    remove_tree(store / MARKER_FILE)
    sync_directory(store)
    _move_entries(packed, store, {name.split("/", 1)[0] for name in digests})
    sync_directory(store)
    _require_whole(store, digests, packed)
    write_seal(store, digests, ready["facts"])
    _unseal(packed)
    remove_tree(packed)


def remove_other_packs(packed: Path) -> None:
    """Removes what was packed under another choice and never installed."""
    if not packed.parent.is_dir():
        return
    others = [path for path in packed.parent.iterdir() if path not in (packed, _ready_path(packed))]
    for folders in (False, True):  # a seal, which is a file, vouches for its whole folder: seals go first
        for path in others:
            if path.is_dir() is folders:
                remove_tree(path)
        sync_directory(packed.parent)


def _move_entries(packed: Path, store: Path, names: set[str]) -> None:
    with writing_to(store):
        for stale in sorted(STORE_NAMES - names):
            remove_tree(store / stale)
        for name in sorted(names):
            if (packed / name).exists():
                remove_tree(store / name)
                (packed / name).rename(store / name)


def _require_whole(store: Path, digests: Mapping[str, FileDigest], packed: Path) -> None:
    """The last check before the store is called complete: somebody may have removed files in the meantime."""
    for name, digest in digests.items():
        if not (store / name).is_file() or (store / name).stat().st_size != digest.size:
            _unseal(packed)
            raise StoreError(f"{store / name}: went missing while the store was installed. Run the same command again.")


def _unseal(packed: Path) -> None:
    """Takes the seal off a folder, durably, before anything in it goes: a seal vouches for all that it lists."""
    remove_tree(_ready_path(packed))
    if packed.parent.is_dir():
        sync_directory(packed.parent)


def _ready_path(packed: Path) -> Path:
    return packed.with_name(packed.name + READY_SUFFIX)
