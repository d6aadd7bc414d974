"""The errors a user of the trainer can meet. Each names the item, what was found, what was expected, what to do.

Errors of configuration and of stores are the pipeline's own (sar1m.store.errors): one family, one meaning
of exit codes.
"""

from __future__ import annotations

from sar1m.store.errors import Sar1mError, StoreError


class ChunkError(StoreError):
    """One sample's chunk is missing or damaged. sample: its number in its split."""

    def __init__(self, message: str, *, sample: int) -> None:
        super().__init__(message)
        self.sample = sample


class CheckpointError(Sar1mError):
    """A checkpoint or weights file is missing, damaged, or of another shape than the model asked for."""


class NonFiniteError(Sar1mError):
    """A loss (too many steps in a row), features or a probe are not finite, or do not converge. Names the samples."""


class ParityError(Sar1mError):
    """The compiled model computes another loss than the eager one."""
