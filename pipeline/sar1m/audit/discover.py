"""What an audit finds at a place: pairs in the order of their names, whatever their kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.audit.pair_files import PAIRS_FILE, FoundPairs, folder_pairs, tar_pairs
from sar1m.audit.reading import DescribedPair, PairSource
from sar1m.audit.stored import stored_pairs
from sar1m.config import resolve_config
from sar1m.records import FailedItem
from sar1m.sources.failures import PlanFailures
from sar1m.sources.folder.features import stac_features
from sar1m.sources.folder.scenes_csv import TABLE_NAME
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError
from sar1m.store.places.opening import is_remote
from sar1m.store.seal_text import MARKERS

# Described scenes are read in blocks of a build's size; chips of 96 px and more as they are.
BLOCKS: Final = ("grid.patch_px=64", "grid.patches_per_side=16", "grid.halo_px=16")


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """sources: the pairs. failed: scenes that are described wrongly. remarks: what is worth saying of the whole."""

    sources: tuple[PairSource, ...]
    failed: tuple[FailedItem, ...] = ()
    remarks: tuple[str, ...] = ()


def discover(location: str) -> Discovery:
    """The pairs at a place: a store or release (also remote), a tar, a folder with pairs.json, with STAC items or a
    scenes.csv, or with pictures that are paired by their names.

    Raises SourceError where there is no such place or no pair, StoreError for a store that is damaged.
    """
    if is_remote(location) or location.startswith("hf://"):
        return _of_store(location)
    path = Path(location.removeprefix("file://"))
    if not path.exists():
        raise SourceError(f"{location}: no such file or folder. Give a folder of pairs, a tar, a store or a release.")
    if path.is_file():
        found = _described(path) if path.name == TABLE_NAME else _of_files(tar_pairs(path))
    elif any((path / marker).is_file() for marker in MARKERS):
        return _of_store(location)
    elif not (path / PAIRS_FILE).exists() and _is_described(path):
        found = _described(path)
    else:
        found = _of_files(folder_pairs(path))
    if not found.sources and not found.failed:
        raise SourceError(
            f"{location}: no pair found. Expected pictures (TIFF, PNG, JPEG) whose paths say sar or optical, as in "
            "sar/1.png and optical/1.jpg or a_s1.tif and a_s2.tif; a pairs.json; STAC items; or a store of sar1m."
        )
    return found


def _of_files(found: FoundPairs) -> Discovery:
    return Discovery(sources=found.pairs, remarks=found.remarks)


def _of_store(location: str) -> Discovery:
    pairs, alone = stored_pairs(location)
    if not pairs:
        raise SourceError(f"{location}: none of its {alone:,} samples has an optical partner.")
    remark = f"{alone:,} samples have no optical partner and are left out."
    return Discovery(sources=tuple(pairs), remarks=(remark,) if alone else ())


def _is_described(root: Path) -> bool:
    return (root / TABLE_NAME).exists() or bool(stac_features(root, PlanFailures().of))


def _described(path: Path) -> Discovery:
    source, config = FolderSource(path), resolve_config("sar1m", BLOCKS)
    candidates = list(source.candidates(config))
    pairs = [DescribedPair(root=str(path), candidate=one, config=config) for one in candidates if one.optical]
    alone = len(candidates) - len(pairs)
    remark = f"{alone:,} blocks of SAR have no optical scene and are left out."
    return Discovery(
        sources=tuple(sorted(pairs, key=lambda pair: pair.name)),
        failed=tuple(source.failures.found),
        remarks=(remark,) if alone else (),
    )
