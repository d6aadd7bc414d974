"""The columns of samples.parquet, in the order of the splits of a store. Needs pyarrow (extra `evaluate`)."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import StoreError, printable
from sar1m.store.schema import SAMPLES_FILE
from sarmae.evaluate.extra_packages import extra_package
from sarmae.stream.opening import Store
from sarmae.stream.sealed import open_sealed

NUMBERS: Final = (
    *("lon", "lat", "incidence_deg", "local_incidence_deg", "local_incidence_std_deg", "dt_hours", "residual_px"),
    *("registration_psr", "sar_nodata_frac", "cloud_frac", "water_frac", "layover_shadow_frac", "dynamic_range_db"),
    *("noise_floor_frac", "relative_orbit"),
)
WORDS: Final = ("cell", "site", "block", "country", "ecoregion", "platform", "orbit_state", "registration_status")
_ORDER_KINDS: Final[dict[str, type]] = {"split": str, "index": int, "paired": bool}
_ORDER: Final = tuple(_ORDER_KINDS)
_MOST_BYTES: Final = 4 << 30


def read_attributes(stores: Sequence[Store]) -> dict[str, NDArray[Any]]:
    """Columns (S,), split after split: NUMBERS as float64, NaN where unknown; WORDS as text, empty where unknown; enl
    from the array of the store; paired, `yes` or `no`.

    stores: the open splits of one store. Raises ConfigError without pyarrow. Raises StoreError where the table is
    missing, was changed, or describes other samples than the arrays.
    """
    table = _read_table(stores[0])
    split, number, paired = (np.asarray(table[name]) for name in _ORDER)
    rows = []
    for store in stores:
        members = np.flatnonzero(split == store.index.split)
        members = members[np.argsort(number[members], kind="stable")]
        if len(members) != len(store.index) or (paired[members] != store.index.paired).any():
            raise StoreError(
                f"{store.index.location}/{SAMPLES_FILE}: {len(members)} samples of {store.index.split}, the arrays "
                f"hold {len(store.index)}, or their pairs differ. Verify the store (sar1m verify)."
            )
        rows.append(members)
    order = np.concatenate(rows)
    words: dict[str, NDArray[Any]] = {name: _words(table[name])[order] for name in WORDS if name in table}
    numbers: dict[str, NDArray[Any]] = {name: _numbers(table[name])[order] for name in NUMBERS if name in table}
    enl = np.concatenate([store.index.enl for store in stores]).astype(np.float64)
    return {**words, **numbers, "enl": enl, "paired": np.where(paired[order], "yes", "no")}


def _read_table(store: Store) -> dict[str, list[Any]]:
    """The columns by name. Raises StoreError where the table cannot be read or holds values of another kind."""
    parquet = extra_package("pyarrow.parquet", f"reading {SAMPLES_FILE}")
    arrow_error = extra_package("pyarrow", f"reading {SAMPLES_FILE}").ArrowException
    content = open_sealed(store.place).read(SAMPLES_FILE, max_bytes=_MOST_BYTES)
    shown = f"{store.index.location}/{SAMPLES_FILE}"
    try:
        file = parquet.ParquetFile(io.BytesIO(content))
        there = [name for name in (*_ORDER, *WORDS, *NUMBERS) if name in file.schema_arrow.names]
        if absent := [name for name in (*_ORDER, "cell") if name not in there]:
            raise StoreError(f"{shown}: no column {absent[0]!r}. Build the store anew.")
        table = file.read(columns=there)
        columns = {name: table[name].to_pylist() for name in there}
    except (arrow_error, OSError, ValueError, TypeError, OverflowError, LookupError) as error:
        cause = printable(" ".join(str(error).split())[:200])
        raise StoreError(f"{shown}: no table that can be read ({cause}). Verify the store (sar1m verify).") from error
    for name, values in columns.items():
        kind = _ORDER_KINDS.get(name, str if name in WORDS else (int, float))
        odd = [one for one in values if not isinstance(one, kind) and (one is not None or name in _ORDER)]
        if odd:
            raise StoreError(f"{shown}: column {name!r} holds {str(odd[0])[:40]!r}. Verify the store (sar1m verify).")
    return columns


def _words(values: Sequence[str | None]) -> NDArray[np.str_]:
    return np.array(["" if value is None else value for value in values], dtype=np.str_)


def _numbers(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
