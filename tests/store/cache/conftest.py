"""A store behind a server, and the cache before it, as the tests of the cache take them."""

import pytest

from sar1m.store.cache.bound import CacheConfig
from servers.objects import folder_server
from support.remote_stores import write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("remote-store"), seed=1)


@pytest.fixture
def served(store):
    with folder_server(store) as server:
        yield server


@pytest.fixture
def config(tmp_path):
    return CacheConfig(root=tmp_path / "cache", max_bytes=2**29, in_flight=4, timeout_s=5.0, retries=2)
