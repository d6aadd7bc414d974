"""Random rows that stand alone, and permutations that keep to their segments whatever the random bits."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sarmae.stream.order.shuffle import random_rows, shuffle_within


def test_rows_of_random_words_do_not_depend_on_their_neighbours():
    together = random_rows(3, "name", range(5, 9), 7)
    for row in range(4):
        assert np.array_equal(random_rows(3, "name", range(5 + row, 6 + row), 7)[0], together[row])
    assert len(np.unique(together)) == 28
    assert not np.intersect1d(together, random_rows(3, "other", range(5, 9), 7)).size


@given(st.lists(st.integers(0, 40), max_size=20), st.integers(0, 2**32))
def test_nothing_leaves_its_segment(lengths, seed):
    lengths = np.array(lengths, dtype=np.int64)
    moved = shuffle_within(lengths, random_rows(seed, "test", range(1), int(lengths.sum()))[0])
    for segment in np.split(np.arange(lengths.sum()), np.cumsum(lengths)[:-1]):
        assert sorted(moved[segment]) == segment.tolist()


def test_ties_keep_their_order():
    lengths = np.array([5, 3, 0, 9])
    assert np.array_equal(shuffle_within(lengths, np.zeros(17, dtype=np.uint64)), np.arange(17))
