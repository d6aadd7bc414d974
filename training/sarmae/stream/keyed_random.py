"""Random draws that depend on nothing but (seed, epoch, sample id, stream name, counter).

A draw is a pure function of its key, so it is the same in any batch, on any rank, in any thread, after any resume.
The generator is SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014) with
the finaliser Mix13 of Stafford: word c of a sample is mix(state + (c + 1) * golden ratio), where the state is a hash of
the key and the sample. Two samples' sequences are stretches of one cycle of 2^64 that start at hashed places: with 1e9
keys of 1e5 words, some 2,700 pairs of stretches overlap somewhere, which is harmless for noise.

Everything is signed 64-bit integer arithmetic that wraps, the same on numpy, on torch's CPU and on its accelerators.
What is not integer is one exact conversion or one table look-up, never log or cos, whose last bit differs between
machines and between the body and the tail of a vector loop.
"""
# B batch, K draws a sample

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeVar

import numpy as np
import torch

from sar1m.store.errors import ConfigError

Array = TypeVar("Array", np.ndarray, torch.Tensor)


def _signed(word: int) -> int:
    """The signed 64-bit integer with the same bits."""
    return word - (1 << 64) if word >= 1 << 63 else word


_GOLDEN: Final = _signed(0x9E3779B97F4A7C15)  # 2^64 / golden ratio, odd
_MIX13: Final = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
_LAST_SHIFT: Final = 31
_QUANTILES: Final = 1 << 16
_BLOCK: Final = 1 << 17  # normal draws at a time on a CPU: the words of a block stay in the second-level cache


@dataclass(frozen=True, kw_only=True)
class DrawKey:
    """What a stream of draws belongs to. stream: what the draws are for, e.g. "crop-flip"; streams of different
    names are independent, so a new use of randomness changes none of the old ones."""

    seed: int
    epoch: int
    stream: str

    @property
    def word(self) -> int:
        """64-bit hash of the key, as a signed integer. Any size and sign of seed and epoch."""
        text = f"{self.seed}|{self.epoch}|{self.stream}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


def uniform(key: DrawKey, ids: Array, count: int) -> Array:
    """(B, count) float64 in [0, 1), multiples of 2^-53, of the samples ids (B,) int64, on their device.

    The first k of K draws are the same for every K >= k. Rounded to float32 a draw may become 1.0.
    """
    words = _shift_right(_words(key, ids, count), 11)
    if isinstance(words, np.ndarray):
        return words.astype(np.float64) * 2.0**-53
    return words.to(torch.float64) * 2.0**-53


def integers(key: DrawKey, ids: Array, count: int, below: int) -> Array:
    """(B, count) int64 in [0, below), of the samples ids (B,) int64, on their device.

    The upper 32 bits of a word times below, shifted right by 32: no value is favoured by more than below / 2^32.
    Raises ConfigError where below is not in 1..2^31.
    """
    if not 1 <= below <= 1 << 31:
        raise ConfigError(f"{key.stream}: integers below {below} asked for; expected a bound from 1 to 2^31.")
    return _shift_right(_shift_right(_words(key, ids, count), 32) * below, 32)


def normal(key: DrawKey, ids: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    """(B, *shape) float32 standard normal fields of the samples ids (B,) int64, on their device.

    A draw is one of 65,536 equally likely quantiles of the normal distribution, by 16 bits of a word: mean 0, variance
    1, largest magnitude 4.32, distribution function exact to 2^-17. A sample's field never depends on the batch it is
    drawn in. Byte order is the machine's: the same on every little-endian one, accelerators included.
    """
    count = math.prod(shape)
    words = -(-count // 4)
    fields = torch.empty((len(ids), words * 4), dtype=torch.float32, device=ids.device)
    table = _normal_quantiles(ids.device)
    samples = max(1, _BLOCK // max(1, count)) if ids.device.type == "cpu" else max(1, len(ids))
    for start in range(0, len(ids), samples):
        sixteen = _words(key, ids[start : start + samples], words).view(torch.int16)
        quantile = sixteen.to(torch.int32).bitwise_and_(_QUANTILES - 1)
        torch.index_select(table, 0, quantile.view(-1), out=fields[start : start + samples].view(-1))
    return fields[:, :count].reshape(len(ids), *shape)


@lru_cache(maxsize=16)  # devices
def _normal_quantiles(device: torch.device) -> torch.Tensor:
    """Quantiles at the middles of 65,536 equal bins, scaled to variance 1 (by 1.00001), float32."""
    middles = (torch.arange(_QUANTILES, dtype=torch.float64) + 0.5) / _QUANTILES
    quantiles: torch.Tensor = torch.special.ndtri(middles)
    return (quantiles / quantiles.square().mean().sqrt()).to(device, torch.float32)


def _words(key: DrawKey, ids: Array, count: int) -> Array:
    """(B, count) int64 words of 64 random bits."""
    states = _mix(ids ^ key.word)
    if isinstance(states, np.ndarray):
        return _mix(states[:, None] + np.arange(1, count + 1, dtype=np.int64) * _GOLDEN)
    steps = torch.arange(1, count + 1, dtype=torch.int64, device=states.device)
    return _mix(states[:, None] + steps * _GOLDEN)


def _mix(word: Array) -> Array:
    """Stafford's Mix13, in place: a bijection of 64 bits in which every input bit flips every output bit half the
    time."""
    for shift, factor in _MIX13:
        word ^= _shift_right(word, shift)
        word *= factor
    word ^= _shift_right(word, _LAST_SHIFT)
    return word


def _shift_right(word: Array, shift: int) -> Array:
    """Logical shift: int64's own is arithmetic and would copy the sign."""
    return (word >> shift) & ((1 << (64 - shift)) - 1)
