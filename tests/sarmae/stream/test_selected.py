"""The loader over some samples of a store: those that DuckDB selects, with their own pixels, wherever they lie."""

import duckdb
import numpy as np
import pandas as pd
import pytest
from torch.utils.data import DataLoader

from sar1m.store.cache.bound import CacheConfig
from sar1m.store.errors import ConfigError, RegionError, StoreError
from sarmae.config import resolve_config
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from servers.objects import PREFIX, asked_ranges, folder_server
from support.small_stores import damage, seal, small_store

SAMPLES = 61
WHERE = "relative_orbit in (45, 125) and not country = 'ESP'"


def with_table(root, samples):
    rng = np.random.default_rng(3)
    table = pd.DataFrame(
        {
            "split": "train",
            "index": np.arange(samples),
            "relative_orbit": rng.choice([45, 125, 7], samples).astype(np.int32),
            "country": rng.choice(["PRT", "ESP", None], samples),
            "lon": np.linspace(170, 190, samples) % 360,
            "lat": np.linspace(5, 6, samples),
        }
    )
    table["lon"] = np.where(table["lon"] > 180, table["lon"] - 360, table["lon"])
    table.sample(frac=1, random_state=1).to_parquet(root / "samples.parquet")
    seal(root)
    return table


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = small_store(tmp_path_factory.mktemp("store"), samples=SAMPLES, slots=8, side=32, unpaired=(2, 8, 9, 20))
    return store, with_table(store.root, SAMPLES)


def loader(place, *, global_batch=2, cache=None, order="auto", **selection):
    settings = LoaderSettings(global_batch=global_batch, seed=5, tail="keep", order=order, block=4)
    return ShardLoader([place], settings, cache=cache, **selection)


def pixels(batches):
    """By id: SAR and optical of every sample, each once."""
    found = {}
    for batch in batches:
        for key, sar, optical in zip(batch.id.tolist(), batch.sar, batch.optical, strict=True):
            assert key not in found
            found[key] = (sar.numpy(), optical.numpy())
    return found


def check(found, store, numbers):
    assert found.keys() == set(store.keys[numbers].tolist())
    for number in numbers:
        sar, optical = found[store.keys[number]]
        np.testing.assert_array_equal(sar, store.sar[number])
        np.testing.assert_array_equal(optical, store.optical[number])


def test_an_epoch_holds_the_selected_samples_with_their_own_pixels(store):
    small, rows = store
    assert len(rows) == SAMPLES
    numbers = duckdb.sql(f'select "index" from rows where {WHERE}').fetchnumpy()["index"]  # noqa: S608
    assert 10 < len(numbers) < 40
    check(pixels(loader(small.root, where=WHERE)), small, numbers)
    workers = DataLoader(loader(small.root, where=WHERE), batch_size=None, num_workers=2)
    check(pixels(workers), small, numbers)


def test_a_box_across_180_degrees_selects_by_the_centre(store):
    small, table = store
    numbers = np.flatnonzero((table["lon"] >= 178) | (table["lon"] <= -175))
    assert {True, False} == set((table["lon"][numbers] > 0).tolist())
    check(pixels(loader(small.root, bbox=(178, 0, -175, 90))), small, numbers)


def test_of_a_remote_store_the_selected_samples_come_in_blocks(store, tmp_path):
    small, table = store
    numbers = np.flatnonzero(table["relative_orbit"] == 45)
    cache = CacheConfig(root=tmp_path, max_bytes=10**9)
    with folder_server(small.root) as server:
        check(pixels(loader(server.url + PREFIX, cache=cache, where="relative_orbit = 45")), small, numbers)
        assert asked_ranges(server)


def test_a_damaged_sample_is_named_by_its_number_in_the_split_and_its_row_left_out(tmp_path):
    small = small_store(tmp_path, samples=12, slots=4, side=24, unpaired=())
    table = with_table(small.root, 12)
    numbers = np.flatnonzero(table["relative_orbit"] == 45)
    bad = int(numbers[-1])
    path = small.group / f"sar/c/{bad // 4}/0/0/0"
    damage(path, len(path.read_bytes()) // 2)
    settings = LoaderSettings(global_batch=2, tail="keep", max_faults=12)
    found = ShardLoader([small.root], settings, where="relative_orbit = 45")
    seen = pixels(found)
    named = {fault.sample for fault in found.faults}
    assert len(found.faults) == len(numbers) - len(seen) == len(named) > 0
    check(seen, small, [number for place, number in enumerate(numbers) if place not in named])
    assert any(f"sample {number} (sar)" in str(fault) for fault in found.faults for number in numbers)


def test_a_run_goes_on_with_the_same_selection_only(store):
    small, _ = store
    state = loader(small.root, where=WHERE).state_dict()
    loader(small.root, where=f"({WHERE})").load_state_dict(state)
    with pytest.raises(ConfigError, match="Give the same stores"):
        loader(small.root, where="relative_orbit = 45").load_state_dict(state)
    with pytest.raises(ConfigError, match="Give the same stores"):
        loader(small.root).load_state_dict(state)


def test_selections_that_cannot_be_are_refused(store, tmp_path):
    small, _ = store
    with pytest.raises(ConfigError, match=r"split 'train': where: there is no column contry.*Did you mean country"):
        loader(small.root, where="contry = 'PRT'")
    with pytest.raises(ConfigError, match="none of 61 samples"):
        loader(small.root, where="lat > 80")
    with pytest.raises(RegionError, match="outside the world"):
        loader(small.root, bbox=(0, 0, 200, 1))
    with pytest.raises(ConfigError, match="no table of samples"):
        loader("published:nowhere", where="lat > 80")
    other = small_store(tmp_path, samples=5)
    with_table(other.root, 4)
    with pytest.raises(StoreError, match="does not list the 5 samples"):
        loader(other.root, where="lat > 0")


def test_a_run_is_configured_by_the_same_words():
    data = resolve_config("smoke", ["data.where=lat > 0", "data.bbox=[178, 0, -175, 90]"]).data
    assert (data.where, data.bbox) == ("lat > 0", (178, 0, -175, 90))
