"""Tested samples told apart by what is known about them."""

# S samples

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def parts(name: str, column: NDArray[Any], tested: I64) -> list[tuple[str, I64]]:
    """Settings and the tested samples (numbers, ascending) that each holds; together they hold every one once.

    column: (S,) str or numbers. Text is told apart by value, numbers by thirds of the tested samples: `incidence_deg
    31.2 to 36.9`, lower edge included, the last one's upper edge too. Thirds that share an edge (few values) are one.
    NaN is a part of its own, `unknown`.
    """
    values = column[tested]
    if values.dtype.kind not in "fiub":
        return [(f"{name} {value}", tested[values == value]) for value in np.unique(values)]
    known = ~np.isnan(values.astype(np.float64))
    found = _thirds(name, values[known].astype(np.float64), tested[known]) if known.any() else []
    return found if known.all() else [*found, (f"{name} unknown", tested[~known])]


def _thirds(name: str, values: NDArray[np.float64], tested: I64) -> list[tuple[str, I64]]:
    edges = np.unique(np.quantile(values, [0, 1 / 3, 2 / 3, 1]))
    place = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    return [
        (f"{name} {edges[one]:.4g} to {edges[min(one + 1, len(edges) - 1)]:.4g}", tested[place == one])
        for one in np.unique(place)
    ]
