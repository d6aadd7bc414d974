"""Per-band statistics of the train split of a store, in decibels. The model takes its normalisation from them once and
keeps it in its checkpoints, so it is the same in every arm of an ablation and downstream."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.place import Place
from sar1m.store.schema import STATS_DIR
from sar1m.store.side_files import json_value

NORMALISATION_FILE: Final = f"{STATS_DIR}/normalisation.json"
_MAX_BYTES: Final = 1 << 20  # the pipeline writes about 1 kB
_DEEPEST_DB: Final = 200.0  # |mean| and std beyond this are no backscatter

_REMEDY: Final = "Build the store again, or give mean and standard deviation in the training configuration."


@dataclass(frozen=True, kw_only=True)
class SarStatistics:
    """Mean and standard deviation of every polarisation in decibels, over the pixels with data.

    basis: the split they were measured on. samples: patches they were measured on.
    """

    polarisations: tuple[str, ...]
    mean_db: tuple[float, ...]
    std_db: tuple[float, ...]
    basis: str
    samples: int


def read_statistics(place: Place, polarisations: tuple[str, ...]) -> SarStatistics:
    """Statistics of a store in the order of polarisations, that of the pol dimension.

    Raises StoreError where the file is missing, larger than 1 MiB, not JSON or holds impossible values; ConfigError
    where it does not know a polarisation asked for.
    """
    where = f"{place.location}: {NORMALISATION_FILE}"
    found = _parsed(place, where)
    sar = _mapping(found.get("sar"), f"{where}: sar")
    unknown = [name for name in polarisations if name not in sar]
    if unknown or not polarisations:
        raise ConfigError(
            f"{where}: no statistics of polarisation {', '.join(unknown) or '(none asked for)'}; "
            f"it has {', '.join(sar) or 'none'}. Train on a polarisation that the store holds."
        )
    bands = [_mapping(sar[name], f"{where}: sar.{name}") for name in polarisations]
    labelled = list(zip(polarisations, bands, strict=True))
    samples = found.get("samples")
    return SarStatistics(
        polarisations=polarisations,
        mean_db=tuple(_value_db(band, "mean_db", f"{where}: sar.{name}") for name, band in labelled),
        std_db=tuple(_value_db(band, "std_db", f"{where}: sar.{name}") for name, band in labelled),
        basis=str(found.get("basis", "")),
        samples=samples if isinstance(samples, int) else 0,
    )


def _parsed(place: Place, where: str) -> Mapping[str, object]:
    try:
        content = place.read(NORMALISATION_FILE, max_bytes=_MAX_BYTES)
    except StoreError as error:
        raise StoreError(f"{error} It holds the store's mean and standard deviation. {_REMEDY}") from error
    try:
        found = json_value(content)
    except ValueError as error:
        raise StoreError(f"{where}: {error}. {_REMEDY}") from error
    return _mapping(found, where)


def _mapping(found: object, where: str) -> Mapping[str, object]:
    if not isinstance(found, dict):
        raise StoreError(f"{where}: an object expected, found {type(found).__name__}. {_REMEDY}")
    return found


def _value_db(band: Mapping[str, object], name: str, where: str) -> float:
    found = band.get(name)
    number = found if isinstance(found, int | float) and not isinstance(found, bool) else math.nan
    positive = number > 0 or name != "std_db"
    if not (abs(number) <= _DEEPEST_DB and positive):
        raise StoreError(
            f"{where}: {name} is {found!r}; a {'positive ' if name == 'std_db' else ''}number of decibels within "
            f"{_DEEPEST_DB:g} expected. {_REMEDY}"
        )
    return float(number)
