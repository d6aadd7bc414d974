"""Windows with a truth by consensus, and the methods that are run on them."""

from __future__ import annotations

import csv
import importlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import rasterio
from registration_parts.members import F32, F64
from registration_parts.pairs import RTC_FOLDER, phase_single, phase_summed, rtc_pairs, sample_pairs
from skimage.registration import phase_cross_correlation

Method = Callable[[F32, F32, Sequence[tuple[int, int, int, int]]], F64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Window:
    """sar (P, n, n) linear power and optical (B, n, n) brightness, with the truth of their shift.

    truth_px: (row, col). sigma_px: of the truth, in two dimensions.
    """

    pair: str
    split: str
    strength: str
    sar: F32
    optical: F32
    truth_px: F64
    sigma_px: float

    def centre(self, size: int) -> tuple[F32, F32]:
        start = (self.sar.shape[-1] - size) // 2
        area = np.s_[:, start : start + size, start : start + size]
        return self.sar[area], self.optical[area]


def scene_windows(table: Path, images: Callable[[str], tuple[F32, F32]], *, split: str, every: int) -> list[Window]:
    """Blocks of 256 px of every so many-th scene; images gives amplitude and brightness of a scene by its name."""
    rows = _rows(table, split)
    scenes = sorted({row["pair"] for row in rows})[::every]
    found = []
    for scene in scenes:
        amplitude, optical = images(scene)
        for row in (row for row in rows if row["pair"] == scene):
            top, left, size = (int(row[name]) for name in ("row0", "col0", "size"))
            area = np.s_[:, top : top + size, left : left + size]
            found.append(_window(row, (amplitude[area] / np.float32(255)) ** 2, optical[area]))
    return found


def site_windows(table: Path) -> list[Window]:
    """Whole chips of the sample and of s1s2_rtc_pairs that have a consensus."""
    pairs = {pair.name: pair for pair in (*sample_pairs(), *rtc_pairs())}
    rows = [row for row in _rows(table, "sites") if row["pair"] in pairs]
    return [_window(row, pairs[row["pair"]].sar, pairs[row["pair"]].optical) for row in rows]


def colour_of_rtc(name: str) -> F32:
    """The picture in blue, green, red (3, 224, 224), 0 to 1, of the same acquisition as the twelve bands."""
    with rasterio.open(RTC_FOLDER / "S2RGB" / f"{name}.tif") as raster:
        return np.asarray(raster.read()[::-1] / 255, np.float32)


def ours(register_block: Callable[..., Any], settings: Any) -> Method:
    """The package's method, without its gate: of the windows together."""

    def method(sar: F32, optical: F32, windows: Sequence[tuple[int, int, int, int]]) -> F64:
        shift = register_block(sar, optical, masked=None, windows=windows, settings=settings).scene
        return np.array([shift.row_px, shift.col_px])

    return method


def of_each(estimate: Callable[[F32, F32], Any]) -> Method:
    """A method for one window: the median over the windows."""

    def method(sar: F32, optical: F32, windows: Sequence[tuple[int, int, int, int]]) -> F64:
        found = []
        for row, col, rows, cols in windows:
            area = np.s_[:, row : row + rows, col : col + cols]
            one = estimate(sar[area], optical[area])
            found.append([one.row_px, one.col_px] if hasattr(one, "row_px") else one)
        return np.asarray(np.median(found, axis=0))

    return method


def scikit_image(sar: F32, optical: F32) -> F64:
    """skimage.registration.phase_cross_correlation of the first polarisation in decibels with the root of grey."""
    grey = np.sqrt(np.maximum(optical, 0)).mean(axis=0)
    shift, *_ = phase_cross_correlation(np.log(np.maximum(sar[0], 10**-3.5)), grey, upsample_factor=20)
    return -np.asarray(shift)


RIVALS: dict[str, Method] = {
    "phase, channels summed": of_each(phase_summed),
    "phase, one channel": of_each(phase_single),
    "scikit-image": of_each(scikit_image),
}


def package_at(revision: str) -> tuple[ModuleType, ModuleType]:
    """sar1m.core.registration and sar1m.config as they were at a revision; this checkout's stay as they are."""
    root = Path(__file__).resolve().parents[3]
    packed = subprocess.run(
        ["git", "-C", str(root), "archive", revision, "pipeline/sar1m"], check=True, capture_output=True
    ).stdout
    now = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "sar1m"}
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(folder, filter="data")
        sys.path.insert(0, str(Path(folder) / "pipeline"))
        try:
            then = importlib.import_module("sar1m.core.registration"), importlib.import_module("sar1m.config")
        finally:
            sys.path.pop(0)
            for name in [name for name in sys.modules if name.split(".")[0] == "sar1m"]:
                del sys.modules[name]
            sys.modules.update(now)
    return then


def unrelated(windows: list[Window], size: int, *, turns: int) -> Iterator[tuple[F32, F32]]:
    """SAR of one window with the optical picture of a window of another pair, in so many orientations."""
    for number, one in enumerate(windows):
        others = [other for other in windows if other.pair != one.pair]
        if not others:
            continue
        _, optical = others[(7919 * number) % len(others)].centre(size)
        for turn in range(turns):
            turned = np.rot90(optical, turn % 4, axes=(1, 2))
            yield one.centre(size)[0], np.ascontiguousarray(turned[:, ::-1] if turn >= 4 else turned)


def _rows(table: Path, split: str) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return [row for row in csv.DictReader(stream) if row["split"] == split and row["strength"] != "none"]


def _window(row: dict[str, str], sar: F32, optical: F32) -> Window:
    return Window(
        pair=row["pair"],
        split=row["split"],
        strength=row["strength"],
        sar=sar,
        optical=optical,
        truth_px=np.array([float(row["row_px"]), float(row["col_px"])]),
        sigma_px=float(row["sigma_px"]),
    )
