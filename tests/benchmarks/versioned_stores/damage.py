"""What zarr-python makes of a damaged store: of every sample, right, refused, or wrong without a word."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from versioned_stores.harms import HARMS, METADATA, flip
from versioned_stores.layouts import ARRAYS, Layout, Version, open_arrays, write


def pixel_files(layout: Layout, target: Path) -> list[Path]:
    """Shards or chunks of the SAR array, largest first, those of about the same size side by side."""
    if layout.kind == "plain":
        return sorted((target / "v0/sar").glob("c/*/0/0/0"))
    found = (target / "chunks").iterdir()
    return sorted((path for path in found if path.stat().st_size > 4096), key=lambda path: -path.stat().st_size)


def metadata_files(layout: Layout, target: Path) -> list[Path]:
    """What tells where the pixels are."""
    if layout.kind == "plain":
        return [target / "v0/sar/zarr.json"]
    return sorted((target / "manifests").iterdir(), key=lambda path: -path.stat().st_size)[:1]


def look(layout: Layout, target: Path, version: Version) -> dict[str, Any]:
    """Samples by what reading them gives, against the release's pixels."""
    try:
        arrays = open_arrays(layout, target, 0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what a user sees
        return {"refused": len(version.ids), "errors": [_words(error)]}
    counts: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for row in range(len(version.ids)):
        try:
            same = all(np.array_equal(arrays[name][row], version.pixels[name][row]) for name in ARRAYS)
            counts["right" if same else "silently wrong"] += 1
        except Exception as error:  # noqa: BLE001
            counts["refused"] += 1
            errors[_words(error)] += 1
    return {**counts, "errors": list(errors)}


def try_all(layout: Layout, version: Version, scratch: Path) -> dict[str, dict[str, Any]]:
    """Every damage on a copy of its own of a store of one version."""
    whole, copy = scratch / "whole", scratch / "copy"
    write(layout, whole, [version])
    found = {"none": look(layout, whole, version)}
    attempts = [(name, does, pixel_files) for name, does in HARMS.items()]
    attempts.append((METADATA, flip, metadata_files))
    for name, does, choose in attempts:
        shutil.copytree(whole, copy)
        does(choose(layout, copy))
        found[name] = look(layout, copy, version)
        shutil.rmtree(copy)
    return found


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
