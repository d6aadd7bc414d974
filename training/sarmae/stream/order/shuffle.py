"""Permutations out of counter-based random bits: the same on every machine and under every version of numpy.

Only raw Philox output is used, which numpy promises to keep (NEP 19 lets Generator.permutation change), and it is
turned into a permutation by sorting keys that are all different, so that no sorting algorithm can decide the result.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]

ALGORITHM_VERSION = 1  # part of every key and of every saved state; goes up whenever an order comes out differently
WORDS_PER_COUNT = 4  # 64-bit words that Philox4x64 gives for one value of its counter


def random_rows(seed: int, name: str, rows: range, width: int) -> U64:
    """(len(rows), width) random words. Row i depends on seed, name, width and i alone, not on the rows drawn with it.

    rows: consecutive, not negative. Source: Salmon et al., Parallel random numbers: as easy as 1, 2, 3 (SC11).
    """
    key = hashlib.blake2b(f"sarmae order {ALGORITHM_VERSION}/{seed}/{name}".encode(), digest_size=16).digest()
    stride = -(-width // WORDS_PER_COUNT)
    philox = np.random.Philox(key=int.from_bytes(key, "little"), counter=rows.start * stride)
    words = philox.random_raw(len(rows) * stride * WORDS_PER_COUNT)
    return words.reshape(len(rows), -1)[:, :width]


def shuffle_within(lengths: I64, words: U64) -> I64:
    """Permutation of range(sum(lengths)) that moves nothing out of its segment. A single segment: a full permutation.

    lengths: (segments,) of consecutive segments, 0 allowed. words: (sum(lengths),) random. A sort key is the segment,
    then random bits, then the place in the segment, which settles ties; 2**20 samples leave 43 random bits or more.
    Takes 48 bytes a sample while it runs.
    """
    if not len(words):
        return np.empty(0, dtype=np.int64)
    segment_bits = (len(lengths) - 1).bit_length()
    place_mask = np.uint64((1 << (int(lengths.max()) - 1).bit_length()) - 1)
    begins = np.repeat(np.cumsum(lengths) - lengths, lengths)
    keys = (words >> np.uint64(segment_bits)) & ~place_mask
    keys |= (np.arange(len(words)) - begins).astype(np.uint64)
    if segment_bits:
        keys |= np.repeat(np.arange(len(lengths), dtype=np.uint64) << np.uint64(64 - segment_bits), lengths)
    keys.sort()
    begins += (keys & place_mask).astype(np.int64)
    return begins
