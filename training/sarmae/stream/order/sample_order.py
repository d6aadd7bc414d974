"""The order of samples: pure functions of (specification, epoch, step).

**Numbers.** The stores are laid end to end. A sample's global number is the offset of its store plus its place in the
split.

**An epoch** draws as many samples as the stores hold, N. Without weights and unpaired_share every sample is drawn once.
With weights, store s gets N * weight_s / sum(weights) draws; with unpaired_share, that part of the draws is of unpaired
samples; each is rounded to a whole number less than one away. A pool is a store, or its paired or unpaired samples. The
draws of a pool run through whole permutations of it, one after the other and over the ends of epochs (mixing.py). In
order "full" no sample comes again before all others of its pool have come, but for the dropped tail. In order "lanes",
which takes the draws of an epoch in another order, this holds at the ends of epochs.

**A step** is a global batch of G samples: step t of an epoch holds positions [t * G, (t + 1) * G) of its N draws. There
are N // G steps. The last N % G draws are dropped, others in each epoch; with tail = "keep" (evaluation) they are one
more, shorter batch. The (epoch, step) of a state is that of the next batch.

**Ranks.** Rank r of W takes positions r, r + W, r + 2W ... of each global batch. W divides G (order "full") or the
number of lanes C (order "lanes"), so the global batches are the same, in the same order, for every such W. Of a kept
tail the ranks get numbers of samples that differ by one at most and may be 0.

**Order "full"** permutes single samples, for local disks. **Order "lanes"** is for remote stores, where a read should
be a range. It works in four steps. Blocks of consecutive samples of a pool are permuted. The sequence is cut into C
lanes of equal length; the first N % C hold one more, and a block on the border of two lanes is read by both. Each lane
is mixed within windows, whose borders lie at another place in each lane, so that reads spread evenly. Then one sample
of each lane is taken in turn. C and the window follow from the settings, not from the machine. Position p of any batch
comes from lane p mod C, so rank r reads the lanes that are r modulo W and no others. At any time about
C * (window + block) samples must be at hand. Blocks start at multiples of `block` in the split: let it divide the
number of samples a shard. With unpaired_share set, a block holds samples of one kind, near each other but with the
other kind between them.

**Cost** (tests/benchmarks/results/shuffle.md). An epoch's stream is made when it is first asked for, and kept: 8 bytes
a sample for each of two epochs, 8 more for the pools, and 50 to 75 bytes a sample while it is made. For a million
samples this takes 0.07 s of one core and keeps 24 MB. A batch is a slice of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sar1m.store.errors import ConfigError
from sarmae.stream.order.mixing import Flags, mix_of
from sarmae.stream.order.shuffle import I64, random_rows, shuffle_within
from sarmae.stream.order.specification import OrderSpec, OrderState, check_state, divisors


@dataclass(frozen=True, kw_only=True)
class BlockRange:
    """Samples [start, stop) of a store, first needed at `step`."""

    store: int
    start: int
    stop: int
    step: int


class Order:
    """Which samples make up each batch. paired: (size,) flags of each store, needed where unpaired_share is set."""

    def __init__(self, spec: OrderSpec, paired: Flags = ()) -> None:
        self.spec = spec
        self._mix = mix_of(spec, paired)
        self._offsets = np.cumsum([0, *(store.size for store in spec.stores)])
        self._paired_digest = None if spec.settings.unpaired_share is None else _digest_of(paired)
        self._streams: dict[int, I64] = {}

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        whole, left = divmod(self.spec.samples, self.spec.settings.global_batch)
        return whole + (1 if left and self.spec.settings.tail == "keep" else 0)

    def batch(self, epoch: int, step: int) -> I64:
        """(G,) global numbers, fewer in a kept tail. IndexError for an epoch below 0 or a step outside [0, steps)."""
        return self._steps_of(epoch, step, 1).copy()

    def rank_batch(self, epoch: int, step: int, rank: int, world: int) -> I64:
        """(G / world,) global numbers: every world-th of the global batch from position `rank` on."""
        self.check_world(rank, world)
        return self._steps_of(epoch, step, 1)[rank::world].copy()

    def locate(self, numbers: I64) -> tuple[I64, I64]:
        """Store and place in its split of each global number, in the shape given. IndexError outside [0, N)."""
        if np.any(numbers < 0) or np.any(numbers >= self._offsets[-1]):
            raise IndexError(f"sample numbers must lie in [0, {self._offsets[-1]}), found {numbers}.")
        store = np.searchsorted(self._offsets, numbers, side="right") - 1
        return store, numbers - self._offsets[store]

    def upcoming(self, epoch: int, step: int, count: int, rank: int = 0, world: int = 1) -> list[BlockRange]:
        """The blocks that a rank needs from `step` on, for `count` steps at most, each once, in the order of need.

        Ends with the epoch: ask for step 0 of the next. Blocks hold spec.block samples, fewer at a store's end.
        """
        self.check_world(rank, world)
        per_rank = self.spec.settings.global_batch // world
        store, place = self.locate(self._steps_of(epoch, step, count)[rank::world])
        block = self.spec.block
        _, first = np.unique(self._offsets[store] + place // block * block, return_index=True)
        return [
            BlockRange(
                store=int(store[i]),
                start=(start := int(place[i]) // block * block),
                stop=min(start + block, self.spec.stores[store[i]].size),
                step=step + i // per_rank,
            )
            for i in np.sort(first).tolist()
        ]

    def check_world(self, rank: int, world: int) -> None:
        """ConfigError unless ranks of this world size can share the batches, and this is one of them."""
        name, shared = (
            ("lanes", self.spec.lanes) if self.spec.in_lanes else ("global_batch", self.spec.settings.global_batch)
        )
        if world < 1 or shared % world:
            raise ConfigError(
                f"world size {world}: expected a divisor of {name} = {shared}. Use one of {divisors(shared)} processes."
            )
        if not 0 <= rank < world:
            raise ConfigError(f"rank {rank}: expected 0 to {world - 1} at world size {world}. Start ranks from 0.")

    def state(self, epoch: int, step: int) -> OrderState:
        """What to save so that a run goes on with batch (epoch, step)."""
        spec, settings, in_lanes = self.spec, self.spec.settings, self.spec.in_lanes
        return OrderState(
            mode="lanes" if in_lanes else "full",
            seed=settings.seed,
            global_batch=settings.global_batch,
            keep_tail=settings.tail == "keep",
            stores=tuple(store.digest for store in spec.stores),
            sizes=tuple(store.size for store in spec.stores),
            weights=settings.weights or (None,) * len(spec.stores),
            unpaired_share=settings.unpaired_share,
            paired_digest=self._paired_digest,
            block=spec.block if in_lanes else None,
            lanes=spec.lanes if in_lanes else None,
            window=spec.window if in_lanes else None,
            epoch=epoch,
            step=step,
        )

    def resume(self, state_dict: Mapping[str, Any]) -> tuple[int, int]:
        """(epoch, step) of the batch to go on with; at an epoch's end, the next one's first.

        ConfigError where the state is damaged or was made by another order than this.
        """
        epoch, step = check_state(state_dict, self.state(0, 0))
        if step > self.steps:
            raise ConfigError(
                f"state of the sample order: step is {step}, expected at most {self.steps}, the steps of an epoch. "
                "The state is damaged: use an earlier checkpoint."
            )
        return (epoch, step) if step < self.steps else (epoch + 1, 0)

    def _steps_of(self, epoch: int, step: int, count: int) -> I64:
        if epoch < 0 or not 0 <= step < self.steps:
            raise IndexError(f"epoch {epoch}, step {step}: epochs count from 0, steps from 0 to {self.steps - 1}.")
        last, samples = min(step + count, self.steps), self.spec.settings.global_batch
        return self._stream(epoch)[step * samples : last * samples]

    def _stream(self, epoch: int) -> I64:
        """(N,) the epoch's numbers. The last two epochs are kept: one being trained on, one being prefetched."""
        if (known := self._streams.get(epoch)) is not None:
            return known
        draws = self._draws(epoch)
        stream = _interleave(draws, self.spec, epoch) if self.spec.in_lanes else draws
        kept = list(self._streams.items())[-1:]
        self._streams = dict([*kept, (epoch, stream)])  # replaced, never changed: other threads may be reading it
        return stream

    def _draws(self, epoch: int) -> I64:
        """(N,) the pools' runs riffled together, each pool's in its own order."""
        seed = self.spec.settings.seed
        drawn = [pool.draw(seed, epoch, self.spec.block) for pool in self._mix.pools]
        bases = np.cumsum([0, *(pool.size for pool in self._mix.pools)])
        firsts = np.concatenate([runs[0] + base for runs, base in zip(drawn, bases, strict=False)])
        lengths = np.concatenate([runs[1] for runs in drawn])
        if len(drawn) > 1:
            turns = _riffle(np.array([len(runs[0]) for runs in drawn]), seed, epoch)
            firsts, lengths = firsts[turns], lengths[turns]
        begins = np.cumsum(lengths) - lengths
        positions = np.repeat(firsts - begins, lengths)
        positions += np.arange(len(positions))
        draws: I64 = self._mix.members[positions]
        return draws


def _riffle(counts: I64, seed: int, epoch: int) -> I64:
    """(sum(counts),) an even mix of several sequences laid end to end, each still in its own order."""
    total = int(counts.sum())
    owners = np.repeat(np.arange(len(counts)), counts)
    mixed = owners[shuffle_within(np.array([total]), random_rows(seed, "riffle", range(epoch, epoch + 1), total)[0])]
    turns = np.empty(total, dtype=np.int64)
    turns[np.argsort(mixed, kind="stable")] = np.arange(total)
    return turns


def _interleave(draws: I64, spec: OrderSpec, epoch: int) -> I64:
    """(N,) the draws parted into lanes, mixed within windows of a lane, one of each lane in turn."""
    lanes, total = spec.lanes, len(draws)
    short, longer = divmod(total, lanes)
    starts = np.arange(lanes) * short + np.minimum(np.arange(lanes), longer)
    lengths = _window_lengths(np.append(starts, total), spec.window)
    words = random_rows(spec.settings.seed, "windows", range(epoch, epoch + 1), total)[0]
    mixed = draws[shuffle_within(lengths, words)]
    turn, lane = np.divmod(np.arange(total), lanes)
    stream: I64 = mixed[starts[lane] + turn]
    return stream


def _window_lengths(borders: I64, window: int) -> I64:
    """(segments,) lengths of the windows of all lanes, end to end; lane l's first is shorter by window * l / lanes."""
    lanes = len(borders) - 1
    inner = [
        np.arange(start + window - number * window // lanes, stop, window)
        for number, (start, stop) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True))
    ]
    return np.diff(np.unique(np.concatenate([borders, *inner])))


def _digest_of(flags: Flags) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for store in flags:
        digest.update(np.packbits(store).tobytes())
    return digest.hexdigest()
