"""Keyed draws: what they depend on, what they do not, and whether they look random."""

from statistics import NormalDist

import numpy as np
import pytest
import torch
from scipy import stats

from sar1m.store.errors import ConfigError
from sarmae.stream import keyed_random
from sarmae.stream.keyed_random import DrawKey, integers, normal, uniform

KEY = DrawKey(seed=7, epoch=3, stream="test")
LEAST_P = 1e-6  # of every test of randomness: about forty of them, none random from run to run
PINNED_INTEGERS = [[45, 678, 196], [939, 124, 387]]
PINNED_NORMALS = [1.548500, -0.242026]


def key(**other):
    return DrawKey(**{"seed": 7, "epoch": 3, "stream": "test", **other})


def test_first_words_are_those_of_splitmix64():
    # Vigna's reference generator splitmix64.c, seed 0, gives these; uniform keeps the upper 53 bits of each word
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    state = np.zeros(1, dtype=np.int64)
    words = keyed_random._mix(state[:, None] + np.arange(1, 4, dtype=np.int64) * keyed_random._GOLDEN)
    assert words[0].view(np.uint64).tolist() == published


def test_the_draws_of_a_key_stay_what_they_are():
    # a checkpoint resumes with the crops and the noise it would have met: these change with a new format only
    ids = np.array([1, 2**62], dtype=np.int64)
    assert integers(KEY, ids, 3, 1000).tolist() == PINNED_INTEGERS
    assert normal(KEY, torch.from_numpy(ids), (5,))[1, 3:].tolist() == pytest.approx(PINNED_NORMALS, abs=1e-6)


@pytest.mark.parametrize("draw", [lambda k, i: uniform(k, i, 5), lambda k, i: integers(k, i, 5, 33)])
def test_numpy_and_torch_give_the_same_bits(draw):
    ids = np.array([0, 1, -1, 2**62, 2**63 - 1, -(2**63)], dtype=np.int64)
    assert np.array_equal(draw(KEY, ids), draw(KEY, torch.from_numpy(ids.copy())).numpy())


def test_a_draw_depends_on_its_own_sample_alone():
    ids = torch.tensor([5, 9, 1, 2**40])
    alone = [uniform(KEY, ids[k : k + 1], 4) for k in range(4)]
    assert torch.equal(uniform(KEY, ids, 4), torch.cat(alone))
    assert torch.equal(uniform(KEY, ids.flip(0), 4).flip(0), uniform(KEY, ids, 4))
    assert torch.equal(uniform(KEY, ids, 9)[:, :4], uniform(KEY, ids, 4))
    assert ids.tolist() == [5, 9, 1, 2**40]  # what is mixed in place is never the caller's own


def test_every_part_of_the_key_counts():
    ids = torch.arange(8)
    others = [KEY, key(seed=8), key(seed=-7), key(epoch=4), key(stream="tes")]
    seen = {tuple(uniform(other, ids, 1)[:, 0].tolist()) for other in others}
    assert len(seen) == len(others)
    assert len(np.unique(uniform(KEY, ids, 1000).numpy())) == 8000


def sequence_along(axis):
    """A quarter of a million draws in the order of counters, neighbouring ids, epochs or seeds."""
    ids = np.arange(4096, dtype=np.int64)
    if axis == "counters":
        return uniform(KEY, ids[:64], 4096).reshape(-1)
    if axis == "ids":
        return uniform(KEY, ids, 64).T.reshape(-1)
    return np.stack([uniform(key(**{axis: number}), ids[:64], 1)[:, 0] for number in ids.tolist()], axis=1).reshape(-1)


@pytest.mark.parametrize("axis", ["counters", "ids", "epoch", "seed"])
def test_uniform_and_serially_independent(axis):
    sequence = sequence_along(axis)
    assert sequence.min() >= 0
    assert sequence.max() < 1
    counts = np.bincount((sequence * 256).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > LEAST_P
    coarse = (sequence * 16).astype(int)
    for lag in (1, 2, 64):
        pairs = np.bincount(coarse[:-lag] * 16 + coarse[lag:], minlength=256)
        assert stats.chisquare(pairs).pvalue > LEAST_P
        correlation = np.corrcoef(sequence[:-lag], sequence[lag:])[0, 1]
        assert 2 * stats.norm.sf(abs(correlation) * np.sqrt(len(sequence) - lag)) > LEAST_P


def test_low_bits_are_as_random_as_high_ones():
    words = (uniform(KEY, np.arange(512, dtype=np.int64), 512) * 2.0**53).astype(np.int64)
    set_bits = [(words >> bit & 1).mean() for bit in range(53)]
    assert np.abs(np.array(set_bits) - 0.5).max() < 6 * 0.5 / 512


@pytest.mark.parametrize("below", [1, 2, 3, 33, 1 << 31])
def test_integers_reach_all_of_their_range_evenly(below):
    drawn = integers(KEY, np.arange(256, dtype=np.int64), 256, below)
    assert drawn.min() >= 0
    assert drawn.max() < below
    if 1 < below < 100:
        assert stats.chisquare(np.bincount(drawn.reshape(-1), minlength=below)).pvalue > LEAST_P


@pytest.mark.parametrize("below", [0, -1, (1 << 31) + 1])
def test_integers_below_an_impossible_bound_are_refused(below):
    with pytest.raises(ConfigError, match="from 1 to"):
        integers(KEY, np.zeros(1, dtype=np.int64), 1, below)


def test_normal_fields_are_normal_and_white():
    fields = normal(KEY, torch.arange(16), (2, 96, 95)).numpy().astype(np.float64)
    assert fields.shape == (16, 2, 96, 95)
    flat = fields.reshape(-1)
    assert stats.kstest(flat, "norm").pvalue > LEAST_P
    assert abs(flat.std() - 1) < 6 / np.sqrt(2 * flat.size)
    assert abs(stats.kurtosis(flat)) < 6 * np.sqrt(24 / flat.size)
    neighbours = [
        (fields[:, :, 1:], fields[:, :, :-1]),
        (fields[..., 1:], fields[..., :-1]),
        (fields[:, :1], fields[:, 1:]),
        (fields[1:], fields[:-1]),
    ]
    for one, other in neighbours:
        assert abs(np.mean(one * other)) < 6 / np.sqrt(one.size)


def test_normal_quantiles_are_those_of_the_distribution():
    values = normal(KEY, torch.arange(64), (1 << 14,)).unique().numpy()
    assert len(values) == 65536  # a million draws miss none
    exact = np.array([NormalDist().inv_cdf((k + 0.5) / 65536) for k in range(0, 65536, 257)])
    assert np.abs(values[::257] - exact).max() < 5e-5


@pytest.mark.parametrize("shape", [(2, 224, 224), (3, 5), (1,)])
def test_a_field_is_the_same_in_any_batch_and_with_any_threads(shape):
    ids = torch.arange(12) * 977
    whole = normal(KEY, ids, shape)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1 if threads > 1 else 2)
        assert torch.equal(normal(KEY, ids, shape), whole)
    finally:
        torch.set_num_threads(threads)
    picked = torch.tensor([11, 0, 7])
    assert torch.equal(normal(KEY, ids[picked], shape), whole[picked])
    assert torch.equal(normal(KEY, ids[5:6], shape)[0], whole[5])


def test_no_samples_no_fields():
    assert normal(KEY, torch.empty(0, dtype=torch.int64), (2, 4, 4)).shape == (0, 2, 4, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_bits_of_the_cpu():
    ids = torch.arange(9) * 12345
    assert torch.equal(normal(KEY, ids.cuda(), (2, 33, 31)).cpu(), normal(KEY, ids, (2, 33, 31)))
    assert torch.equal(uniform(KEY, ids.cuda(), 7).cpu(), uniform(KEY, ids, 7))
