"""Epochs and faults where a DataLoader's workers read: those of the plain loader, however workers are started."""

import copy
import gc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from sar1m.store.errors import ConfigError, StoreError
from sarmae.stream import loader as stream_loader
from sarmae.stream import worker_ledger
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.worker_ledger import Attendance, Position, WorkerLedger
from support.campaigns import campaign
from support.small_stores import small_store

SAMPLES, BATCHES = 23, 5


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), samples=SAMPLES, slots=8, side=16)


def loader(store, **how):
    chosen = LoaderSettings(**{"global_batch": 4, "seed": 5, "threads": 0, **how})
    return ShardLoader([store.root], chosen, rank_and_world=(0, 1))


def dealt(one, workers=2, how="fork", **more):
    return DataLoader(one, batch_size=None, num_workers=workers, multiprocessing_context=how, **more)


def as_worker(monkeypatch, number, of=2):
    """This process as a worker of a DataLoader. (After an error torch waits 5 s for each real one.)"""
    info = SimpleNamespace(id=number, num_workers=of, seed=40 + number)
    monkeypatch.setattr(stream_loader, "get_worker_info", lambda: info)


def seen(batches):
    return [(batch.epoch, batch.step, batch.id.tolist()) for batch in batches]


@pytest.fixture(scope="module")
def expected(store):
    """Epochs 0 to 8 by the plain loader."""
    plain = loader(store)
    return [seen(plain) for _ in range(9)]


@pytest.mark.parametrize(
    ("how", "stay"),
    [("fork", False), ("fork", True), ("spawn", True), *campaign(("spawn", False), ("forkserver", True))],
)
def test_each_pass_is_the_next_epoch_and_set_epoch_holds(store, expected, how, stay):
    one = loader(store)
    passes = dealt(one, how=how, persistent_workers=stay)
    assert [seen(passes) for _ in range(3)] == expected[:3]
    one.set_epoch(7)
    assert [seen(passes), seen(passes)] == expected[7:]
    one.set_epoch(1)
    assert seen(passes) == expected[1]
    one.load_state_dict(loader(store).order.state(4, 2).state_dict())
    assert [seen(passes), seen(passes)] == [expected[4][2:], expected[5]]


def test_the_usual_loop_with_set_epoch_gives_each_epoch_once(store, expected):
    one = loader(store)
    for stay in (False, True):
        passes = dealt(one, persistent_workers=stay)
        for epoch in range(3):
            one.set_epoch(epoch)
            assert seen(passes) == expected[epoch]


def test_a_seed_that_is_set_before_each_epoch_makes_no_epoch_come_twice(store, expected):
    passes, found = dealt(loader(store)), []
    for _ in range(3):
        torch.manual_seed(1)
        found.append(seen(passes))
    assert found == expected[:3]


def test_a_pass_that_is_broken_off_is_an_epoch(store, expected):
    one = loader(store)
    for stay in (False, True):
        passes = dealt(one, persistent_workers=stay, prefetch_factor=1)
        one.set_epoch(0)
        assert seen([next(iter(passes))]) == expected[0][:1]
        assert seen(passes) == expected[1]


def test_other_numbers_of_workers_and_none_go_on_with_the_epochs(store, expected):
    one = loader(store)
    found = [seen(dealt(one, workers)) for workers in (1, 2, 2)]
    found += [seen(one), seen(DataLoader(one, batch_size=None))]
    assert found == expected[:5]


def test_a_worker_that_starts_late_joins_the_pass_of_the_others():
    """The first ends before the second has begun; seeds alike, as when they are set again."""
    ledger = WorkerLedger()
    for epoch in range(3):
        for worker in (1, 0, 2):
            attending = Attendance(worker=worker, workers=3, seed=4, passes=0)
            assert ledger.join(attending, Position(5, 1)) == ((5, 1) if epoch == 0 else (5 + epoch, 0))
    wide = [ledger.join(Attendance(worker=n, workers=200, seed=9, passes=0), Position(0, 0)) for n in range(200)]
    assert set(wide) == {(8, 0)}


def test_a_worker_that_is_late_for_a_pass_broken_off_opens_none():
    """Workers that stay: the second starts after the first has gone on to the next pass (seen on a busy machine)."""

    def joins(worker, passes):
        return ledger.join(Attendance(worker=worker, workers=2, seed=4, passes=passes), Position(0, 0))

    ledger = WorkerLedger()
    assert joins(0, 0) == (0, 0)
    assert joins(0, 1) == (1, 0)
    joins(1, 0)
    assert joins(1, 1) == (1, 0)
    assert ledger.next() == (2, 0)
    assert [joins(0, 0), joins(1, 0)] == [(2, 0), (2, 0)]  # others with the same seed: a new pass


def test_the_position_is_that_of_the_batch_in_hand(store, expected):
    one = loader(store)
    passes = iter(dealt(one))
    next(passes)
    second = next(passes)
    with pytest.raises(ConfigError, match=r"state_dict: .* Save loader\.state_after\(batch\)"):
        one.state_dict()
    again = loader(store)
    again.load_state_dict(one.state_after(second))
    assert seen(again) == expected[0][2:]


@pytest.mark.parametrize(("call", "given"), [("set_epoch", [3]), ("state_dict", []), ("load_state_dict", [{}])])
def test_a_worker_may_not_move_its_copy(store, monkeypatch, call, given):
    one = loader(store)
    as_worker(monkeypatch, 1)
    with pytest.raises(ConfigError, match=f"{call}: called in a worker of a DataLoader"):
        getattr(one, call)(*given)


def test_a_copy_has_epochs_of_its_own(store, expected):
    one = loader(store)
    list(dealt(one))
    other = copy.deepcopy(one)
    assert seen(dealt(other)) == expected[0]
    assert seen(dealt(one)) == expected[1]


def damaged(root, samples):
    broken = small_store(root, samples=SAMPLES, slots=8, side=16)
    for sample in samples:
        path = broken.root / f"data/train.zarr/sar/c/{sample // 8}/0/0/0"
        content = bytearray(path.read_bytes())
        index = np.frombuffer(bytes(content[-8 * 16 - 4 : -4]), dtype="<u8").reshape(8, 2)
        content[int(index[sample % 8, 0]) + 9] ^= 4
        path.write_bytes(content)
    return broken


def test_faults_of_all_workers_are_counted_each_sample_once(tmp_path):
    broken = damaged(tmp_path, (2, 9, 17))
    plain = loader(broken, max_faults=3, tail="keep")
    for _ in range(2):
        assert sum(len(batch) for batch in plain) == SAMPLES - 3
    for stay in (False, True):
        one = loader(broken, max_faults=3, tail="keep")
        passes = dealt(one, persistent_workers=stay)
        for _ in range(2):
            assert sum(len(batch) for batch in passes) == SAMPLES - 3
            assert sorted(map(str, one.faults)) == sorted(map(str, plain.faults))
        assert sorted(fault.sample for fault in one.faults) == [2, 9, 17]


def forked(one):
    """The copy that a forked worker holds."""
    twin = ShardLoader.__new__(ShardLoader)
    vars(twin).update(vars(one))
    return twin


def test_more_faults_than_allowed_stop_the_stream_though_no_worker_met_so_many(store, tmp_path, monkeypatch):
    keys = [batch.id[0].item() for batch in loader(store)]  # of batches 0, 1, 2: two of worker 0, one of worker 1
    samples = [store.keys.tolist().index(key) for key in keys[:3]]
    one = loader(damaged(tmp_path, samples), max_faults=2)
    as_worker(monkeypatch, 0)
    list(forked(one))
    assert sorted(fault.sample for fault in one.faults) == sorted(samples[::2])
    as_worker(monkeypatch, 1)
    with pytest.raises(StoreError, match=r"3 samples are missing or damaged, data\.max_faults allows 2"):
        list(forked(one))


def test_nothing_is_left_in_the_temporary_folder(store, tmp_path, monkeypatch):
    monkeypatch.setattr(worker_ledger.tempfile, "gettempdir", lambda: str(tmp_path))
    one = loader(store)
    assert len(seen(dealt(one))) == BATCHES
    assert [path.name[:7] for path in Path(tmp_path).iterdir()] == ["sarmae-"]
    del one
    gc.collect()
    assert list(Path(tmp_path).iterdir()) == []
