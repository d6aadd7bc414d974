"""What holds for all tests of schedulers and workers that die."""

import gc
import warnings

import pytest


@pytest.fixture(autouse=True)
def _sockets_that_dask_lost():
    """A client leaves the socket to a scheduler that was killed to Python, which warns of it in some later test."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()
