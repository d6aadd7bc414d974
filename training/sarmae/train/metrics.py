"""The metrics of a run: a JSON line and TensorBoard scalars a log step, pictures, and what speed is measured with."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import torch
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from sar1m.store.durable import writing_to
from sar1m.store.side_files import json_value, read_bytes
from sarmae.errors import CheckpointError

METRICS_FILE = "metrics.jsonl"
PICTURES_FOLDER = "pictures"
_MAX_BYTES: Final = 2**30
_REMEDY: Final = "Move it away: the run goes on without the figures of its past."
_MATMUL_SIZES = {"cpu": 1024, "cuda": 8192}
_MATMUL_REPEATS = 5


class Metrics:
    """Writes metrics.jsonl and TensorBoard files into a run's folder. A context; lines are flushed as they come.

    Lines after step `resumed_at` are dropped first: their steps will be taken again. Raises OutputError, here and in
    every call, where they cannot be written (a full disk).
    """

    def __init__(self, run: Path, *, resumed_at: int) -> None:
        self._path = run / METRICS_FILE
        kept = [line for line in read_metrics(self._path) if line["step"] <= resumed_at]
        with writing_to(self._path):
            self._path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
            self._board = SummaryWriter(run / "tensorboard", purge_step=resumed_at + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with writing_to(self._path):
            self._board.close()

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Scalars of a step, by name; one that is not finite is null, as JSON has it."""
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with writing_to(self._path):
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"step": step, **finite}) + "\n")
            for name, value in values.items():
                self._board.add_scalar(name, value, step)

    def picture(self, step: int, name: str, image: torch.Tensor) -> None:
        """An RGB picture, (3, H, W) uint8: into TensorBoard, and as pictures/<name>-<step>.png into the run."""
        folder = self._path.parent / PICTURES_FOLDER
        with writing_to(folder):
            self._board.add_image(name, image, step)
            folder.mkdir(exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).contiguous().numpy()).save(folder / f"{name}-{step:08d}.png")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a metrics file, each with its step; none where there is no file. Lines that a kill cut short
    are left out. Raises CheckpointError where the file cannot be read."""
    if not path.is_file():
        return []
    lines: list[dict[str, Any]] = []
    for text in read_bytes(path, error=CheckpointError, remedy=_REMEDY, max_bytes=_MAX_BYTES).splitlines():
        with suppress(ValueError):
            line = json_value(text)
            lines.extend([line] if isinstance(line, dict) and isinstance(line.get("step"), int) else [])
    return lines


class Stopwatch:
    """Seconds since the last lap, and of these the seconds waited for samples."""

    def __init__(self) -> None:
        self._lap = self._since = time.perf_counter()
        self._waited = 0.0

    def waiting(self) -> None:
        """Marks the begin of a wait for a batch."""
        self._since = time.perf_counter()

    def got(self) -> None:
        """Marks its end."""
        self._waited += time.perf_counter() - self._since

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Does not count the time spent inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self._lap += time.perf_counter() - began

    def lap(self) -> tuple[float, float]:
        """(seconds, seconds waited) since the last lap."""
        now = time.perf_counter()
        seconds, waited = now - self._lap, self._waited
        self._lap, self._waited = now, 0.0
        return seconds, waited


def matmul_ceiling(device: torch.device, *, bf16: bool) -> float:
    """Operations a second of plain square matrix products on this device, in the precision of the run: utilisation is
    stated relative to it. Takes some tenths of a second."""
    size = _MATMUL_SIZES.get(device.type, 4096)
    one = torch.randn(size, size, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    best = float("inf")
    for _ in range(_MATMUL_REPEATS):
        _synchronise(device)
        started = time.perf_counter()
        one @ one
        _synchronise(device)
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
