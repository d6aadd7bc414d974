"""What a release makes of the same damage: our reader, `sar1m verify`, and sha256sum, which any machine has."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from versioned_stores.harms import HARMS, METADATA, flip

from sar1m.releases.verification import verify_release
from sar1m.store.errors import Sar1mError
from sarmae.stream.opening import open_store

SHARDS = "data/train.zarr/sar/c/*/0/0/0"


class _Silence:
    def stage(self, title: str, total: int) -> Any:
        return nullcontext(lambda: None)

    def note(self, text: str) -> None:
        return None


def damage_release(release: Path, scratch: Path) -> dict[str, dict[str, Any]]:
    """By kind of damage: samples of the train split as our reader gives them, and the files that each check names."""
    truth = _pixels(release)
    attempts: list[tuple[str, Callable[[list[Path]], None], str]] = [
        (name, does, SHARDS) for name, does in HARMS.items()
    ]
    attempts.append((METADATA, flip, "data/train.zarr/sar/zarr.json"))
    found = {}
    for name, does, pattern in attempts:
        shutil.copytree(release, scratch)
        does(sorted(scratch.glob(pattern)))
        found[name] = {**_look(scratch, truth), **_checks(scratch)}
        shutil.rmtree(scratch)
    return found


def _pixels(release: Path) -> dict[int, bytes | None]:
    """Digital numbers by row; None where the reader refuses."""
    store = open_store(str(release))
    optical = store.index.optical
    if optical is None:
        raise ValueError(f"{release}: no optical array")
    found: dict[int, bytes | None] = {}
    for row in range(len(store.index)):
        sar = np.zeros((1, *store.index.sar.sample_shape), dtype=store.index.sar.dtype)
        partner = np.zeros((1, *optical.sample_shape), dtype=optical.dtype)
        faults = store.reader.read_into(np.array([row]), np.array([0]), sar, partner)
        found[row] = None if faults else sar.tobytes() + partner.tobytes()
    return found


def _look(release: Path, truth: dict[int, bytes | None]) -> dict[str, Any]:
    try:
        pixels = _pixels(release)
    except Sar1mError as error:
        return {"refused": len(truth), "errors": [f"{type(error).__name__}: {str(error)[-120:]}"]}
    counts = Counter(
        "refused" if pixels[row] is None else "right" if pixels[row] == truth[row] else "silently wrong"
        for row in truth
    )
    return dict(counts)


def _checks(release: Path) -> dict[str, Any]:
    faults = verify_release(release, _Silence()).faults
    command = ["sha256sum", "--check", "--quiet", "manifest-sha256.txt"]
    done = subprocess.run(command, cwd=release, capture_output=True, text=True, check=False)
    named = sorted(line.split(":")[0] for line in done.stdout.splitlines() if "FAILED" in line)
    return {"verify": sorted(fault.path for fault in faults), "sha256sum": named}
