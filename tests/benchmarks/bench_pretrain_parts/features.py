"""Features of images and of their 16 px cells: statistics and pixels as they are, and what an encoder makes of them."""

# S samples, P polarisations, G cells along a side, D features

from __future__ import annotations

from typing import NamedTuple

import torch
from bench_pretrain_parts.labelled import CELL_PX
from torch import Tensor
from torch.nn import functional

from sarmae.model.sarmae import SarMae

BINS = 16
LOWEST_DB, HIGHEST_DB = -32.0, 2.0
NO_DATA_DB = -20.0  # under 1 % of the pixels


class Features(NamedTuple):
    """image: (S, D). cells: (S, G, G, D'), row by row as Labelled.cells."""

    image: Tensor
    cells: Tensor


def pixel_statistics(sar_db: Tensor, *, batch: int = 16) -> Features:
    """Mean, standard deviation and a histogram of 16 bins a polarisation. A cell has those of its 3 x 3 cells as well,
    an image also histograms and deviations of its cells' means and deviations."""
    parts = [_statistics(part) for part in sar_db.split(batch)]
    return Features(torch.cat([part.image for part in parts]), torch.cat([part.cells for part in parts]))


def _statistics(sar_db: Tensor) -> Features:
    filled = sar_db.nan_to_num(NO_DATA_DB)
    mean = functional.avg_pool2d(filled, CELL_PX)
    std = (functional.avg_pool2d(filled**2, CELL_PX) - mean**2).clamp(min=0).sqrt()
    shares = _histograms(filled, CELL_PX, (LOWEST_DB, HIGHEST_DB))
    own = torch.cat([mean, std, shares], dim=1)
    around = functional.avg_pool2d(own, 3, stride=1, padding=1, count_include_pad=False)
    whole = [own.mean(dim=(2, 3)), mean.std(dim=(2, 3)), std.std(dim=(2, 3))]
    side = mean.shape[-1]
    whole += [_histograms(values, side, limits)[..., 0, 0] for values, limits in ((mean, (-28, 0)), (std, (0, 10)))]
    return Features(torch.cat(whole, dim=1), torch.cat([own, around], dim=1).permute(0, 2, 3, 1))


def pixels(sar_db: Tensor) -> Features:
    """An image's cell means (16 x 16 a polarisation), flattened; a cell's 512 pixels."""
    filled = sar_db.nan_to_num(NO_DATA_DB)
    grid = filled.shape[-1] // CELL_PX
    cells = functional.pixel_unshuffle(filled, CELL_PX).permute(0, 2, 3, 1)
    return Features(functional.avg_pool2d(filled, CELL_PX).flatten(1), cells.reshape(len(filled), grid, grid, -1))


@torch.no_grad()
def encoded(model: SarMae, sar_db: Tensor, *, batch: int = 16) -> Features:
    """Patch tokens of the tiles that an image falls into: a cell has the mean of its tokens, an image that of all."""
    cells = torch.cat([_cell_tokens(model, part) for part in sar_db.split(batch)])
    return Features(cells.mean(dim=(1, 2)), cells)


def _cell_tokens(model: SarMae, sar_db: Tensor) -> Tensor:
    spec = model.spec
    tiles = sar_db.shape[-1] // spec.image_px
    cut = sar_db.unflatten(3, (tiles, -1)).unflatten(2, (tiles, -1)).permute(0, 2, 4, 1, 3, 5)  # S, i, j, P, h, w
    with torch.autocast(sar_db.device.type, dtype=torch.bfloat16):
        tokens = model.tokens(cut.flatten(0, 2))[:, 1:].float()
    grid = tokens.unflatten(1, (spec.grid, spec.grid)).unflatten(0, (len(sar_db), tiles, tiles))
    whole = grid.permute(0, 5, 1, 3, 2, 4).flatten(4).flatten(2, 3)  # S, D, rows, cols
    return functional.avg_pool2d(whole, CELL_PX // spec.patch_px).permute(0, 2, 3, 1)


def _histograms(values: Tensor, window: int, limits: tuple[float, float]) -> Tensor:
    """(S, P * 16, H / window, W / window): shares of 16 equal bins in each window, the outer bins open."""
    low, high = limits
    numbers = ((values - low) / (high - low) * BINS).long().clamp_(0, BINS - 1)
    rows, cols = numbers.shape[-2] // window, numbers.shape[-1] // window
    windows = numbers.unflatten(3, (cols, window)).unflatten(2, (rows, window))
    first = torch.arange(len(values) * values.shape[1] * rows * cols) * BINS
    windows += first.view(len(values), -1, rows, 1, cols, 1)
    counts = torch.bincount(windows.flatten(), minlength=len(first) * BINS)
    shares = counts.float().view(len(values), -1, rows, cols, BINS) / window**2
    return shares.permute(0, 1, 4, 2, 3).flatten(1, 2)
