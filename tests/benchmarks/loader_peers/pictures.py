"""Folders of pictures through PIL, as published image data sets are read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from loader_peers.common import BATCH, OPTICAL, SAR, Batch, Contender, Store, decode_into, empty_batch, identity
from loader_peers.common import torch_loader as loader_of
from PIL import Image
from torch.utils.data import Dataset

SAMPLES = 1024  # reading them all takes seconds
EIGHT_BIT_STEP = 4  # 0.2 dB a step
ZERO_REFLECTANCE, WHITE_STEPS = 256, 300  # digital number of reflectance 0, steps from there to 0.3


def write(store: Store, folder: Path, *, released: bool) -> None:
    """Channels one above the other as 16-bit PNG, or as the released data set has them: SAR as 8-bit PNG, colours as
    JPEG."""
    side = store.patch_px
    sar, optical = np.empty((2, side, side), SAR), np.empty((3, side, side), OPTICAL)
    for sample in store.samples(SAMPLES):
        decode_into(sample.sar, store.compressed, sar)
        tall = sar.reshape(2 * side, side)
        picture = np.minimum(tall // EIGHT_BIT_STEP, 255).astype(np.uint8) if released else tall
        Image.fromarray(picture).save(folder / f"{sample.key}_sar.png", compress_level=1)
        if sample.optical:
            decode_into(sample.optical, store.compressed, optical)
            name = folder / f"{sample.key}_optical"
            if released:
                shown = np.clip((optical.astype(np.float32) - ZERO_REFLECTANCE) / WHITE_STEPS, 0, 1) * 255
                rgb = Image.fromarray(np.ascontiguousarray(shown.astype(np.uint8).transpose(1, 2, 0)))
                rgb.save(name.with_suffix(".jpg"), quality=95)
            else:
                Image.fromarray(optical.reshape(3 * side, side)).save(name.with_suffix(".png"), compress_level=1)


def write_exact(store: Store, folder: Path) -> None:
    """Without loss."""
    write(store, folder, released=False)


def write_released(store: Store, folder: Path) -> None:
    """With the losses of the released data set."""
    write(store, folder, released=True)


class Pictures(Dataset[Any]):
    """One or two pictures a sample, decoded into the batch."""

    def __init__(self, folder: Path) -> None:
        self.patch_px = int((folder / "patch_px.txt").read_text(encoding="utf-8"))
        names = {path.name.removesuffix("_sar.png"): path for path in sorted(folder.glob("*_sar.png"))}
        partners = {path.stem.removesuffix("_optical"): path for path in sorted(folder.glob("*_optical.*"))}
        self.samples = [(int(key), path, partners.get(key)) for key, path in names.items()]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        batch = empty_batch(len(numbers), self.patch_px)
        sars, opticals = batch[0].numpy(), batch[1].numpy()
        for slot, number in enumerate(numbers):
            key, sar, optical = self.samples[number]
            pixels = _pixels(sar)
            scale = EIGHT_BIT_STEP if pixels.dtype == np.uint8 else 1
            np.multiply(pixels.reshape(sars[slot].shape), scale, out=sars[slot], dtype=SAR, casting="unsafe")
            opticals[slot] = 0 if optical is None else _partner(_pixels(optical))
            batch[2][slot], batch[3][slot] = optical is not None, key
        return batch


def _partner(pixels: np.ndarray) -> np.ndarray:
    """(3, H, W) of a picture in colours, or of channels one above the other."""
    return pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels.reshape(3, -1, pixels.shape[1])


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def load(folder: Path, workers: int) -> Iterable[Batch]:
    """Batches in a new random order every epoch."""
    return loader_of(Pictures(folder), workers, batch_size=BATCH, shuffle=True, drop_last=True, collate_fn=identity)


def _contender(variant: str, write: Callable[[Store, Path], None], what: str, exact: bool) -> Contender:
    settings = f"{what}; {SAMPLES} samples, DataLoader(shuffle=True) over __getitems__"
    return Contender(name="PIL folder", variant=variant, settings=settings, write=write, load=load, exact=exact)


CONTENDERS = (
    _contender("PNG", write_exact, "SAR 16-bit PNG, optical 16-bit PNG, compress_level 1", exact=True),
    _contender(
        "PNG/JPEG", write_released, "SAR 8-bit PNG, optical JPEG: loses values, as the released data", exact=False
    ),
)
