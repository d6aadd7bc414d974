"""Fixed positions of the patches."""

from __future__ import annotations

import torch
from torch import Tensor


def sincos_positions(width: int, grid: int) -> Tensor:
    """Position embedding of a square grid, (1, 1 + grid**2, width) float32, the class token's row (all 0) first.

    The first half of a row encodes the column, the second the row of the patch: sines, then cosines, of
    width / 4 frequencies from 1 down to nearly 1e-4 a patch. Source: He et al. 2021 (MAE), after Vaswani et al. 2017,
    section 3.5. width is a multiple of 4 (ModelSpec sees to it).
    """
    frequencies = 1e4 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(grid, dtype=torch.float64)[:, None] * frequencies
    along = torch.cat([angles.sin(), angles.cos()], dim=1)
    columns = along[None].expand(grid, -1, -1)
    rows = along[:, None].expand(-1, grid, -1)
    patches = torch.cat([columns, rows], dim=2).reshape(grid**2, width)
    return torch.cat([torch.zeros(1, width, dtype=torch.float64), patches]).float()[None]
