"""The end of phase 2: what was packed takes the place of the former store.

A packing folder is sealed once everything in it is durable. Only a sealed folder is installed: the marker of the
former store goes first, then the entries move, then comes the manifest, and last the new marker. The same command goes
on from wherever it was interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sar1m.store.durable import FileDigest
from sar1m.store.errors import StoreError
from sar1m.store.outputs.output import Output, sizes_of
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
from sar1m.store.seal import write_seal
from sar1m.store.seal_text import MAX_SEAL_BYTES
from sar1m.store.side_files import json_value

READY_SUFFIX = ".ready.json"  # of the seal, a file beside the packing folder
_REMEDY = "Remove it and run the same command again."
STORE_NAMES = {DATA_DIR, SAMPLES_FILE, REJECTED_FILE, FAILED_FILE, STATS_DIR, PROVENANCE_DIR, REPORT_FILE.split("/")[0]}


def seal(out: Output, pack: str, known: Mapping[str, FileDigest], facts: Mapping[str, Any]) -> None:
    """Makes the packing folder of an output durable and marks it as ready to be installed.

    pack: its name. known: digests taken while writing, by name in it; other files are read. facts: of the completion
    marker.
    """
    packed = out.below(pack)
    digests = {name: known.get(name) or packed.digest(name) for name in sorted(packed.listing())}
    ready = {"facts": dict(facts), "files": {name: [d.sha256, d.size] for name, d in digests.items()}}
    packed.settle()
    out.write(pack + READY_SUFFIX, [json.dumps(ready, sort_keys=True).encode()])


def is_sealed(out: Output, pack: str) -> bool:
    """Whether the folder holds a whole store that only waits to be installed."""
    return out.size(pack + READY_SUFFIX) is not None


def install(out: Output, pack: str) -> None:
    """Puts a sealed packing folder in the place of the store.

    Interrupted at any point, calling it again finishes. Raises StoreError where files went missing in between.
    """
    try:
        ready = json_value(out.read(pack + READY_SUFFIX, max_bytes=MAX_SEAL_BYTES))
        digests = {name: FileDigest(sha256=sha256, size=size) for name, (sha256, size) in ready["files"].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{out.location}/{pack}{READY_SUFFIX}: {error}. {_REMEDY}") from error
    out.remove(MARKER_FILE)
    out.remove(*sorted(STORE_NAMES - {name.split("/", 1)[0] for name in digests}))
    out.move_in(pack, digests.keys())
    _require_whole(out, pack, digests)
    write_seal(out, digests, ready["facts"])
    out.remove(pack + READY_SUFFIX)  # before anything in the folder goes: a seal vouches for all that it lists
    out.remove(pack)


def remove_other_packs(out: Output, pack: str) -> None:
    """Removes what was packed under another choice and never installed."""
    folder, _, name = pack.rpartition("/")
    packs = out.below(folder)
    others = packs.entries() - {name, name + READY_SUFFIX}
    seals = {one for one in others if one.endswith(READY_SUFFIX)}
    packs.remove(*sorted(seals))  # a seal vouches for its whole folder: seals go first
    packs.remove(*sorted(others - seals))


def _require_whole(out: Output, pack: str, digests: Mapping[str, FileDigest]) -> None:
    """The last check before the store is called complete: somebody may have removed files in the meantime."""
    found = sizes_of(out, digests.keys())
    for name, digest in digests.items():
        if found.get(name) != digest.size:
            out.remove(pack + READY_SUFFIX)
            raise StoreError(
                f"{out.location}/{name}: went missing while the store was installed. Run the same command again."
            )
