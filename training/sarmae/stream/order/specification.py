"""What decides the order of samples, and the state from which a stopped run goes on. sample_order.py says how."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from sar1m.store.errors import ConfigError
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.order.shuffle import ALGORITHM_VERSION

MOST_LANES = 16  # where settings.lanes is None: a first batch then touches 16 lanes of few blocks
WINDOW = 64  # where settings.window is None

MAY_CHANGE = "World size, workers and threads may change between runs; what decides the order may not."
_KEYS = {"mode": "order", "keep_tail": "tail"}  # of the settings, where a state names them otherwise
_REMEDIES = {
    "version": "Finish this run with the version of sarmae that began it, or start a new run.",
    "stores": "Give the same stores, unchanged and in the same order, or start a new run.",
    "sizes": "Give the same stores, unchanged and in the same order, or start a new run.",
    "paired_digest": "The stores' paired flags changed: give the same stores, or start a new run.",
}


@dataclass(frozen=True, kw_only=True)
class StoreShare:
    """One split of one store in the mix.

    name: for messages. digest: of the store's bytes. size: number of samples. local: whether it lies on a local disk.
    """

    name: str
    digest: str
    size: int
    local: bool = True

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"{self.name}: {self.size} samples, expected at least 1. Leave this store out.")


@dataclass(frozen=True, kw_only=True)
class OrderSpec:
    """Everything that decides the order, beside the stores' paired flags. ConfigError where settings and stores do not
    fit together."""

    settings: LoaderSettings
    stores: tuple[StoreShare, ...]

    def __post_init__(self) -> None:
        self._check_stores()
        settings = self.settings
        if self.in_lanes and settings.global_batch % self.lanes:
            raise ConfigError(
                f"lanes is {self.lanes} and global_batch {settings.global_batch}: expected lanes to divide it. "
                f"Use one of {divisors(settings.global_batch)}."
            )
        if self.samples < settings.global_batch and settings.tail == "drop":
            raise ConfigError(
                f"global_batch is {settings.global_batch} and the stores hold {self.samples} samples: an epoch would "
                "have no step. Use a smaller global_batch, or tail = 'keep' for an evaluation."
            )

    def _check_stores(self) -> None:
        if not self.stores:
            raise ConfigError("stores is empty, expected at least one store to draw samples from. Name one.")
        weights = self.settings.weights
        if weights is None:
            return
        if len(weights) != len(self.stores):
            raise ConfigError(f"weights: found {len(weights)} for {len(self.stores)} stores; give one for each.")
        for store, weight in zip(self.stores, weights, strict=True):
            if not (math.isfinite(weight) and weight > 0):
                raise ConfigError(
                    f"{store.name}: weight {weight}, expected a finite number above 0. Or leave this store out."
                )

    @property
    def samples(self) -> int:
        """Samples drawn in an epoch: the sum of the stores' sizes, however they are mixed."""
        return sum(store.size for store in self.stores)

    @property
    def in_lanes(self) -> bool:
        """Whether the order is `lanes`; otherwise it is `full`."""
        if self.settings.order == "auto":
            return not all(store.local for store in self.stores)
        return self.settings.order == "lanes"

    @property
    def block(self) -> int:
        """Samples that are read in one go: one in order `full`."""
        return self.settings.block if self.in_lanes else 1

    @property
    def lanes(self) -> int:
        """Lanes in use: settings.lanes, or the default for this global batch."""
        return self.settings.lanes or max(n for n in divisors(self.settings.global_batch) if n <= MOST_LANES)

    @property
    def window(self) -> int:
        """Samples of a lane that are mixed with each other."""
        return self.settings.window or WINDOW


@dataclass(frozen=True, kw_only=True)
class OrderState:
    """The position of a run and what its order was made of, as checkpoints hold it; a few hundred bytes.

    The names are those of the file format. mode is settings.order once `auto` is decided; keep_tail is
    settings.tail == "keep". epoch, step: of the next batch. stores: their digests. paired_digest: of the flags where
    unpaired_share needs them. block, lanes, window: None in mode "full", which does not use them.
    """

    version: int = ALGORITHM_VERSION
    mode: str
    seed: int
    global_batch: int
    keep_tail: bool
    stores: tuple[str, ...]
    sizes: tuple[int, ...]
    weights: tuple[float | None, ...]
    unpaired_share: float | None
    paired_digest: str | None
    block: int | None
    lanes: int | None
    window: int | None
    epoch: int
    step: int

    def state_dict(self) -> dict[str, Any]:
        """Plain JSON values: numbers, strings, lists, None."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}


def check_state(found: Mapping[str, Any], expected: OrderState) -> tuple[int, int]:
    """The epoch and step a saved state names, once everything else in it equals what `expected` holds.

    ConfigError for a field that is missing, unknown or different, named with what was found and what to do.
    """
    wanted = expected.state_dict()
    if found.get("version") == ALGORITHM_VERSION and found.keys() != wanted.keys():
        odd = sorted(found.keys() ^ wanted.keys())
        raise ConfigError(
            f"state of the sample order: fields {odd} are missing or unknown. It is damaged or none of ours: "
            "use the state of an earlier checkpoint, or start a new run."
        )
    for field in fields(expected):
        name = field.name
        if name not in {"epoch", "step"} and _plain(found.get(name)) != wanted[name]:
            remedy = _REMEDIES.get(name, f"Set {_KEYS.get(name, name)} to what the state holds, or start a new run.")
            raise ConfigError(
                f"state of the sample order: {name} is {found.get(name)!r} in the state, expected {wanted[name]!r} "
                f"from the present settings. {remedy} {MAY_CHANGE}"
            )
    for name in ("epoch", "step"):
        if type(found[name]) is not int or found[name] < 0:
            raise ConfigError(
                f"state of the sample order: {name} is {found[name]!r}, expected a whole number from 0. "
                "The state is damaged: use an earlier checkpoint."
            )
    return found["epoch"], found["step"]


def divisors(number: int) -> list[int]:
    """All divisors of a number, ascending."""
    low = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*low, *(number // divisor for divisor in low)})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
