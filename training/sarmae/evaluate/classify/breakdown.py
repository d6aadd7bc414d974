"""Parts of the tested samples, by what is known about them."""

# S samples

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

I64 = NDArray[np.int64]


def parts(name: str, column: NDArray[Any], tested: I64) -> list[tuple[str, I64]]:
    """The parts of the tested samples, as pairs of a setting and sample numbers (ascending). Every sample is in one
    part.

    name: of the attribute.
    column: (S,) text or numbers. Text gives one part for each value. Numbers give thirds of the tested samples, such as
    `incidence_deg 31.2 to 36.9`: the lower edge is included, and in the last part the upper edge too. Thirds with a
    common edge (few values) are one part. NaN is the part `unknown`.
    tested: numbers of the tested samples.
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
