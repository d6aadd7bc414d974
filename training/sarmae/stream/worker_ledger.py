"""What the workers of a DataLoader and the process that trains must agree on: the epoch of a pass, and the faults.

A DataLoader says neither to its workers which pass this is nor to the process that trains how far they came, and a
worker holds a copy of the loader. They therefore share two small files in the system's temporary folder, made by the
first worker and removed with the loader.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from sar1m.store.shared_numbers import SharedNumbers
from sarmae.errors import ChunkError

_WORD_BITS: Final = 64
_WORDS: Final = 16  # of the bit field of workers: up to 1024
_LAYOUT: Final = f"<8q{2 * _WORDS}Q"  # as `join` writes them


class Position(NamedTuple):
    """The batch that comes next."""

    epoch: int
    step: int


@dataclass(frozen=True, kw_only=True)
class Attendance:
    """A worker at the begin of a pass. worker: its number among `workers`. seed: of all workers that a DataLoader
    started together. passes: those this process took before."""

    worker: int
    workers: int
    seed: int
    passes: int


class WorkerLedger:
    """Epochs and faults of one loader, shared by all processes that hold a copy of it."""

    def __init__(self) -> None:
        self._path = Path(tempfile.gettempdir()) / f"sarmae-{secrets.token_hex(12)}"
        self._faults_path = self._path.with_suffix(".faults")
        weakref.finalize(self, _remove, (self._path, self._faults_path), os.getpid())

    @property
    def _numbers(self) -> SharedNumbers:
        return SharedNumbers(self._path, _LAYOUT)  # made anew: a worker that is spawned gets the path alone

    @property
    def used(self) -> bool:
        """Whether workers have taken a pass."""
        return self._path.exists()

    def join(self, attending: Attendance, begin: Position) -> Position:
        """Where the pass begins that a worker joins: the same for all its workers, the first of which opens it.

        begin: where the first pass of all begins. Each pass is the epoch after the one before, unless `move` says so.
        A pass is a new one where the workers are others, have taken another number of passes, or this one has joined
        it already (a seed that is set again before each epoch makes them look alike). Workers that stay may join a
        pass that was broken off when the others are in the next one: they open none, what they read is thrown away.
        """
        word, bit = attending.worker // _WORD_BITS, 1 << attending.worker % _WORD_BITS
        this = (attending.seed, attending.workers, attending.passes)
        with self._numbers.held() as held:
            known, next_epoch, next_step, epoch, step, *rest = map(int, held.read())
            present, joined, before = tuple(rest[:3]), rest[3 : 3 + _WORDS], rest[3 + _WORDS :]
            if not known:
                next_epoch, next_step = begin
            late = present == (attending.seed, attending.workers, attending.passes + 1) and not before[word] & bit
            if late:
                before[word] |= bit
            elif not known or present != this or joined[word] & bit:
                epoch, step, joined, before = next_epoch, next_step, [0] * _WORDS, joined
                next_epoch, next_step = epoch + 1, 0
                present = this
            if not late:
                joined[word] |= bit
            held.write(1, next_epoch, next_step, epoch, step, *present, *joined, *before)
        return Position(epoch, step)

    def move(self, position: Position) -> None:
        """Lets the next pass begin there. Nothing to do before the first one: workers bring the position along."""
        if self.used:
            with self._numbers.held() as held:
                known, _, _, *rest = held.read()
                held.write(known, *position, *rest)

    def next(self) -> Position:
        """Where the next pass begins, once workers have taken one."""
        with self._numbers.held() as held:
            _, epoch, step, *_ = map(int, held.read())
        return Position(epoch, step)

    def add_faults(self, errors: Sequence[ChunkError]) -> None:
        """Adds the faults that a worker met, each sample's once."""
        with self._numbers.held():
            known = {str(error) for error in self.faults()}
            fresh = {str(error): error for error in errors if str(error) not in known}
            with self._faults_path.open("a", encoding="utf-8") as stream:
                for message, error in fresh.items():
                    stream.write(json.dumps([error.sample, message]) + "\n")

    def faults(self) -> list[ChunkError]:
        """The faults of all workers so far."""
        if not self._faults_path.exists():
            return []
        lines = self._faults_path.read_text(encoding="utf-8").splitlines()
        return [ChunkError(message, sample=sample) for sample, message in map(json.loads, lines)]


def _remove(paths: Sequence[Path], maker: int) -> None:
    if os.getpid() == maker:  # a forked worker drops its copy, not the files
        for path in paths:
            path.unlink(missing_ok=True)
