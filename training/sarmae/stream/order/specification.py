"""What decides the order of samples, and the state from which a stopped run goes on. Semantics: see `order`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from sar1m.store.errors import ConfigError
from sarmae.stream.order.shuffle import ALGORITHM_VERSION

# Unless told otherwise; chosen by tests/benchmarks/results/shuffle.md for stores in scene order, the hard case.
MOST_LANES = 512
WINDOW_BLOCKS = 4  # at least
WINDOWS_SAMPLES = 16_384  # lanes x window, at least: 6 GB of cache at 368 KB a sample

MAY_CHANGE = "World size, workers and threads may change between runs; what decides the order may not."
_REMEDIES = {
    "version": "Finish this run with the version of sarmae that began it, or start a new run.",
    "stores": "Give the same stores, unchanged and in the same order, or start a new run.",
    "sizes": "Give the same stores, unchanged and in the same order, or start a new run.",
    "paired_digest": "The stores' paired flags changed: give the same stores, or start a new run.",
}


@dataclass(frozen=True, kw_only=True)
class StoreShare:
    """One split of one store in the mix. name: for messages. digest: of its bytes. size: samples.

    weight: its share of an epoch relative to the other stores' weights, > 0; None: as many draws as it has samples.
    """

    name: str
    digest: str
    size: int
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"{self.name}: {self.size} samples, expected at least 1. Leave this store out.")
        if self.weight is not None and not (math.isfinite(self.weight) and self.weight > 0):
            raise ConfigError(
                f"{self.name}: weight {self.weight}, expected a finite number above 0. Or leave this store out."
            )


@dataclass(frozen=True, kw_only=True)
class OrderSpec:
    """Everything that decides the order, beside the stores' paired flags.

    global_batch: samples a step over all ranks. unpaired_share: part of an epoch's draws without an optical image;
    None: as the stores have them. keep_tail: evaluation, the last, partial batch counts as a step.
    mode "full": a permutation of single samples. Mode "lanes", for remote stores: blocks of `block` consecutive samples
    (16 to 32 make good ranged reads) go down `lanes` lanes, mixed within `window` samples of a lane; lanes divides
    global_batch; these three are not looked at in mode "full". Left out, lanes and window mix well even where a store
    lies in scene order, and the first batch touches about global_batch blocks. The pipeline's stores are shuffled
    already: lanes = 8, window = block mix them as well and start after 8 to 24 blocks.
    """

    seed: int
    global_batch: int
    stores: tuple[StoreShare, ...]
    unpaired_share: float | None = None
    keep_tail: bool = False
    mode: Literal["full", "lanes"] = "full"
    block: int = 16
    lanes: int | None = None
    window: int | None = None

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_mix()
        if self.mode == "lanes" and self.global_batch % self.lane_count:
            raise ConfigError(
                f"lanes is {self.lanes} and global_batch {self.global_batch}: expected lanes to divide it. "
                f"Use one of {divisors(self.global_batch)}."
            )
        if self.samples < self.global_batch and not self.keep_tail:
            raise ConfigError(
                f"global_batch is {self.global_batch} and the stores hold {self.samples} samples: an epoch would have "
                "no step. Use a smaller global_batch, or keep_tail for an evaluation."
            )

    def _check_numbers(self) -> None:
        if self.mode not in {"full", "lanes"}:
            raise ConfigError(f"mode is {self.mode!r}, expected 'full' (local) or 'lanes' (remote).")
        lowest = {"seed": 0, "global_batch": 1, "block": 1, "lanes": 1, "window": 1}
        for name, least in lowest.items():
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"{name} is {value}, expected at least {least}. Raise it.")

    def _check_mix(self) -> None:
        if not self.stores:
            raise ConfigError("stores is empty, expected at least one store to draw samples from. Name one.")
        unweighted = [store.name for store in self.stores if store.weight is None]
        if 0 < len(unweighted) < len(self.stores):
            raise ConfigError(
                f"{', '.join(unweighted)}: no weight where other stores have one. Give every store a weight, or none."
            )
        if self.unpaired_share is not None and not 0 <= self.unpaired_share <= 1:
            raise ConfigError(f"unpaired_share is {self.unpaired_share}, expected 0 to 1, or none to leave it be.")

    @property
    def samples(self) -> int:
        """Draws an epoch: the sum of the stores' sizes, however they are mixed."""
        return sum(store.size for store in self.stores)

    @property
    def lane_count(self) -> int:
        """Lanes in use: as told, else the largest divisor of global_batch up to MOST_LANES."""
        return self.lanes or max(number for number in divisors(self.global_batch) if number <= MOST_LANES)

    @property
    def window_samples(self) -> int:
        """Window in use: as told, else a lane's part of WINDOWS_SAMPLES and at least WINDOW_BLOCKS blocks."""
        return self.window or max(WINDOW_BLOCKS * self.block, WINDOWS_SAMPLES // self.lane_count)


@dataclass(frozen=True, kw_only=True)
class OrderState:
    """Where a run stands and what its order was made of; a few hundred bytes, whatever the number of samples.

    epoch, step: of the next batch to be delivered. stores: their digests. paired_digest: of the flags where
    unpaired_share needs them. block, lanes, window: None in mode "full", which has none.
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
            remedy = _REMEDIES.get(name, f"Set {name} to what the state holds, or start a new run.")
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
    """Every divisor, ascending."""
    low = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    return sorted({*low, *(number // divisor for divisor in low)})


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
