from __future__ import annotations

from sarmae.evaluate.config import DatasetConfig
from sarmae.evaluate.records import LabelledChips


def open_labelled_store(asked: DatasetConfig, name: str) -> LabelledChips:
    """Being written (8A)."""
    raise NotImplementedError
