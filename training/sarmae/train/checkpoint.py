"""Checkpoints of a run: whole or absent.

    runs/x/checkpoints/
      step-00000500/
        model.safetensors          weights of the model, the projector and their moving average
        optimiser.safetensors      moments of every parameter
        state.json                 step, position in the stream, configuration, random state, sha256 of the two
      LATEST                       name of the newest whole one

A checkpoint is written aside, flushed to the disk, renamed, and only then named in LATEST; a kill at any moment leaves
either the former or the new one. Loading checks the digests and goes back to the newest whole one where LATEST's is
damaged. Steps give the order, never names or times of files: a run that went back to an older checkpoint keeps those
ahead of it until it has passed them. Nothing is unpickled: tensors are safetensors, the rest is JSON.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sar1m.store.durable import digest_file, make_folders, sync_directory, sync_file, write_durably
from sar1m.store.errors import OutputError
from sar1m.store.side_files import read_json
from sarmae.errors import CheckpointError

FOLDER: Final = "checkpoints"
LATEST: Final = "LATEST"
MODEL_FILE: Final = "model.safetensors"
OPTIMISER_FILE: Final = "optimiser.safetensors"
STATE_FILE: Final = "state.json"
FORMAT: Final = 1
_NAME: Final = re.compile(r"step-(\d+)|\.step-(\d+)\.old")  # in full: a copy that a user made is none of ours


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """All that a run needs to go on exactly where it was.

    step: steps taken.
    model, optimiser: tensors on the CPU by flat names.
    facts: JSON values: the position in the stream, the configuration, the shape of the model.
    """

    step: int
    model: Mapping[str, torch.Tensor]
    optimiser: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]


def save(run: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Writes a checkpoint and names it the latest. Returns its folder.

    Then of those up to its step all but the `keep` of the highest steps are removed. Those ahead of it stay: a run that
    went back because LATEST's was damaged has whole ones there. Raises CheckpointError where it cannot be written (a
    full disk); former checkpoints stay as they are.
    """
    folder = run / FOLDER
    name = _folder_name(checkpoint.step)
    aside = folder / f".{name}.tmp"
    try:
        make_folders(folder)
        _clear_unfinished(folder)
        aside.mkdir()
        _write_parts(aside, checkpoint)
        _replace_folder(aside, folder / name)
        write_durably(folder / LATEST, [name.encode()])
    except (OSError, OutputError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / name}: cannot be written: {error}. Free space or choose another run folder, then start the "
            "same command again: it goes on from the latest checkpoint."
        ) from error
    _prune(folder, checkpoint.step, keep)
    return folder / name


def load_latest(run: Path) -> Checkpoint | None:
    """The checkpoint that LATEST names, or else the newest whole one of a run; None where it has none at all.

    Raises CheckpointError where there are checkpoints, but none is whole.
    """
    latest = run / FOLDER / LATEST
    named = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else ""
    found = _by_step(run / FOLDER)
    refused: list[str] = []
    for step in sorted(found, key=lambda step: (_folder_name(step) == named, step), reverse=True):
        try:
            return load(found[step])
        except CheckpointError as error:
            refused.append(str(error))
    if refused:
        raise CheckpointError("No checkpoint of this run is whole:\n" + "\n".join(refused))
    return None


def load(folder: Path) -> Checkpoint:
    """One checkpoint, its digests checked. Raises CheckpointError naming the file that is missing or damaged."""
    facts = _read_facts(folder)
    tensors = {}
    for name in (MODEL_FILE, OPTIMISER_FILE):
        path = folder / name
        try:
            if digest_file(path).sha256 != facts["sha256"][name]:
                raise CheckpointError(f"{path}: damaged: its sha256 is not the one in {STATE_FILE}. {_REMEDY}")
            tensors[name] = load_file(path)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read: {error}. {_REMEDY}") from error
    return Checkpoint(
        step=facts["step"], model=tensors[MODEL_FILE], optimiser=tensors[OPTIMISER_FILE], facts=facts["facts"]
    )


_REMEDY: Final = "Remove this checkpoint's folder to go on from the one before, or fetch it again."


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    facts = read_json(path, error=CheckpointError, remedy=_REMEDY)
    try:
        known = facts["format"]
        complete = isinstance(facts["step"], int) and isinstance(facts["facts"], dict) and len(facts["sha256"]) == 2
        own = facts.pop("own_sha256")
        if own != _facts_digest(facts) or not complete:
            raise ValueError("its digest of itself does not hold")
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged ({error}). {_REMEDY}") from error
    if known != FORMAT:
        raise CheckpointError(f"{path}: format {known}, this version reads {FORMAT}. Use the version that wrote it.")
    return dict(facts)


def _write_parts(folder: Path, checkpoint: Checkpoint) -> None:
    sha256 = {}
    for name, tensors in ((MODEL_FILE, checkpoint.model), (OPTIMISER_FILE, checkpoint.optimiser)):
        save_file({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}, folder / name)
        sync_file(folder / name)
        sha256[name] = digest_file(folder / name).sha256
    facts = {"format": FORMAT, "step": checkpoint.step, "sha256": sha256, "facts": checkpoint.facts}
    text = json.dumps({**facts, "own_sha256": _facts_digest(facts)}, sort_keys=True, indent=1)
    write_durably(folder / STATE_FILE, [text.encode()])  # syncs the names of all three files


def _facts_digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _replace_folder(aside: Path, final: Path) -> None:
    """Renames a folder into place. One of the same step may be there, after a resume from an older checkpoint: until
    the new one has its name, it is found under its name aside."""
    former = _former(final)
    if final.exists():
        shutil.rmtree(former, ignore_errors=True)
        final.rename(former)
    aside.rename(final)
    sync_directory(final.parent)
    shutil.rmtree(former, ignore_errors=True)


def _prune(folder: Path, step: int, keep: int) -> None:
    found = _by_step(folder)
    for old in sorted(known for known in found if known <= step)[:-keep]:
        shutil.rmtree(found[old], ignore_errors=True)


def _by_step(folder: Path) -> dict[int, Path]:
    """Folders of checkpoints by step, whole or not. One that a kill caught between the two renames of its replacement
    is found under its name aside."""
    names = [*folder.glob(".step-*.old"), *folder.glob("step-*")]
    matches = ((path, _NAME.fullmatch(path.name)) for path in names)
    return {int(match[1] or match[2]): path for path, match in matches if match}


def _clear_unfinished(folder: Path) -> None:
    """Removes what kills left of checkpoints that were being written."""
    for unfinished in folder.glob(".step-*.tmp"):
        shutil.rmtree(unfinished, ignore_errors=True)


def _folder_name(step: int) -> str:
    return f"step-{step:08d}"


def _former(final: Path) -> Path:
    return final.with_name(f".{final.name}.old")
