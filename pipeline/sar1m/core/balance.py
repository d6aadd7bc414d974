"""Shares that hold over the whole dataset: unpaired samples, water, and any one land-cover class."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sar1m.config import BalanceConfig
from sar1m.core.table import F64, I64, U64, Bool, Rejections, Strings, floats


def balance_rejections(table: pd.DataFrame, paired: Bool, draw: U64, config: BalanceConfig) -> Rejections:
    """Rows left out so that the shares hold in what remains.

    draw: a random number a row; of the rows in excess, those with the highest go. Rules: class_share (dominant
    land-cover class; rows without land cover belong to none), water_patch_share, unpaired_share; taken in turn until
    all three hold at once. measured: the share when the row went. A share that must hold in what remains can leave
    nothing: where no sample is paired and fewer than all may be unpaired, none is left.
    """
    water = floats(table, "water_frac").astype(np.float32) >= np.float32(config.water_patch_frac)
    dominant = dominant_class(table) if config.max_class_share < 1 else np.full(len(table), "", dtype=object)
    alive = np.ones(len(table), dtype=np.bool_)
    parts = [Rejections.of(np.empty(0, dtype=np.int64), "", np.nan, np.nan)]
    while True:
        before = alive.sum()
        for part in (
            *_over_class_share(dominant, alive, draw, config.max_class_share),
            *_over_share(water, alive, draw, "water_patch_share", config.max_water_patch_share),
            *_over_share(~paired, alive, draw, "unpaired_share", config.max_unpaired_share),
        ):
            fresh = alive[part.rows]
            parts.append(_take(part, fresh))
            alive[part.rows] = False
        if alive.sum() == before:
            return Rejections.join(parts)
