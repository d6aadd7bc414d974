"""The loader: the same tensors whoever reads them, wherever it was broken off; faults counted, never hidden."""

import gc
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from sar1m.store.errors import ConfigError, StoreError
from sarmae.stream.batch import Batch
from sarmae.stream.buffers import BufferPool
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import CropFlip, LoaderSettings
from sarmae.stream.transforms import crop_flip
from support.examples import examples
from support.small_stores import small_store

SAMPLES = 29


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("store"), samples=SAMPLES, slots=8, side=32, unpaired=(2, 8, 9, 20))


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    return small_store(tmp_path_factory.mktemp("second"), samples=11, slots=4, side=32, unpaired=(1,))


def loader(*stores, rank=0, world=1, **how):
    chosen = LoaderSettings(**{"global_batch": 4, "seed": 5, **how})
    return ShardLoader([each.root for each in stores], chosen, rank_and_world=(rank, world))


def seen(batches):
    """(epoch, step, ids) of batches, and a digest of what a training step would see of them."""
    crop = CropFlip(crop_px=16)
    records = []
    for batch in batches:
        cut = crop_flip(batch, crop, seed=5).batch
        pixels = [
            cut.sar.to(torch.int64).flatten(1).sum(1).tolist(),
            cut.optical.to(torch.int64).flatten(1).sum(1).tolist(),
        ]
        records.append((batch.epoch, batch.step, batch.id.tolist(), batch.paired.tolist(), pixels))
    return records


def test_an_epoch_holds_every_sample_with_its_own_pixels_once(store):
    whole = loader(store, tail="keep")
    found = {}
    for batch in whole:
        for row, key in enumerate(batch.id.tolist()):
            assert key not in found
            found[key] = batch.sar[row].numpy(), batch.optical[row].numpy(), bool(batch.paired[row])
    assert len(found) == SAMPLES
    for sample, key in enumerate(store.keys.tolist()):
        sar, optical, paired = found[key]
        np.testing.assert_array_equal(sar, store.sar[sample])
        np.testing.assert_array_equal(optical, store.optical[sample])
        assert paired == store.paired[sample]


def test_len_is_the_number_of_batches_and_the_next_iteration_is_the_next_epoch(store):
    one = loader(store)
    first, second_epoch = list(one), list(one)
    assert len(one) == len(first) == len(second_epoch) == SAMPLES // 4
    assert {batch.epoch for batch in first} == {0}
    assert {batch.epoch for batch in second_epoch} == {1}
    assert [batch.id.tolist() for batch in first] != [batch.id.tolist() for batch in second_epoch]


@examples(0.4)
@given(
    stop=st.integers(0, 2 * (SAMPLES // 4) - 1),
    former=st.sampled_from([(0, 1), (1, 2), (2, 4), (3, 1)]),
    later=st.sampled_from([(0, 3), (1, 1), (2, 2), (4, 6)]),
)
def test_a_run_broken_off_anywhere_goes_on_with_the_same_tensors(store, stop, former, later):
    """R9: at any step, with other threads and another read-ahead; the state passes through JSON."""
    undisturbed = loader(store)
    expected = seen(batch for _ in range(2) for batch in undisturbed)
    first = loader(store, threads=former[0], prefetch=former[1])
    stream = (batch for _ in range(2) for batch in first)
    begun = [next(stream) for _ in range(stop)]
    state = json.loads(json.dumps(first.state_dict()))
    stream.close()
    again = loader(store, threads=later[0], prefetch=later[1])
    again.load_state_dict(state)
    rest = []
    while len(begun) + len(rest) < len(expected):
        rest.extend(again)
    assert seen(begun) + seen(rest) == expected


@examples(0.2)
@given(stop=st.integers(0, SAMPLES // 4), before=st.sampled_from([1, 2, 4]), after=st.sampled_from([1, 2, 4]))
def test_the_global_order_does_not_depend_on_the_world_size(store, stop, before, after):
    """R10: begun at one world size, gone on with at another: the global batches are those of one process."""
    expected = [sorted(batch.id.tolist()) for batch in loader(store)]
    parts = [list(loader(store, rank=rank, world=before))[:stop] for rank in range(before)]
    states = [loader(store, rank=rank, world=before).state_after(part[-1]) for rank, part in enumerate(parts) if part]
    resumed = []
    for rank in range(after):
        one = loader(store, rank=rank, world=after)
        if states:
            one.load_state_dict(states[0])
        resumed.append(list(one) if stop < len(one) else [])
    found = [sorted(key for part in step for key in part.id.tolist()) for step in zip(*parts, strict=True)]
    found += [sorted(key for part in step for key in part.id.tolist()) for step in zip(*resumed, strict=True)]
    assert found == expected
    assert all(state == states[0] for state in states)


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker:UserWarning")  # more than this machine's cores
@pytest.mark.parametrize("workers", [0, 2, 4])
def test_workers_of_a_dataloader_change_nothing(store, workers):
    expected = seen(loader(store))
    dealt = DataLoader(
        loader(store, threads=0),
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="fork" if workers else None,
    )
    batches = list(dealt)
    assert all(isinstance(batch, Batch) for batch in batches)
    assert seen(batches) == expected


def test_it_can_be_sent_to_a_process_that_is_spawned(store):
    one = loader(store, threads=1)
    next(iter(one))
    copy = pickle.loads(pickle.dumps(one))  # noqa: S301 - our own
    assert seen(copy) == seen(one)


def test_stores_are_mixed_by_weight(store, second):
    mixed = loader(store, second, weights=(1.0, 3.0))
    first = {pixels.tobytes() for pixels in store.sar}
    drawn = [pixels.tobytes() in first for batch in mixed for pixels in batch.sar.numpy()]
    assert len(drawn) == 40
    assert abs(sum(drawn) - 10) <= 1


def test_the_share_of_unpaired_samples_can_be_set(store):
    drawn = torch.cat([batch.paired for batch in loader(store, unpaired_share=0.5)])
    assert abs(int((~drawn).sum()) - len(drawn) / 2) <= 1


def test_a_batch_is_the_holders_own(store):
    """Buffers are used again, but never while any view of a batch is held."""
    one = loader(store, threads=2, prefetch=2)
    kept = []
    for batch in one:
        kept.append((batch.id.clone(), batch.sar[1:, :1], batch.sar[1:, :1].clone()))
        del batch
        gc.collect()
    list(one)
    assert all(torch.equal(view, copy) for _, view, copy in kept)


def test_a_buffer_comes_back_when_the_last_view_is_gone():
    pool = BufferPool(keep=2)
    first = pool.take((4, 8), "uint16")
    place = first.data_ptr()
    view = first[1:, 2:]
    del first
    other = pool.take((4, 8), "uint16")
    assert other.data_ptr() != place
    del view
    assert pool.take((4, 8), "uint16").data_ptr() == place


def damaged(tmp_path, *, samples=(3, 17)):
    """A store with a flipped bit in the SAR chunk of some samples."""
    broken = small_store(tmp_path / "broken", samples=SAMPLES, slots=8, side=32, unpaired=())
    for sample in samples:
        path = broken.root / f"data/train.zarr/sar/c/{sample // 8}/0/0/0"
        content = bytearray(path.read_bytes())
        index = np.frombuffer(bytes(content[-8 * 16 - 4 : -4]), dtype="<u8").reshape(8, 2)
        content[int(index[sample % 8, 0]) + 9] ^= 4
        path.write_bytes(content)
    return broken


def test_damage_stops_the_stream_and_names_the_sample(tmp_path):
    one = loader(damaged(tmp_path, samples=(3,)))
    with pytest.raises(StoreError, match=r"1 samples are missing or damaged.*max_faults allows 0(?s:.*)sample 3 "):
        list(one)


def test_allowed_faults_are_left_out_counted_and_named(tmp_path):
    broken = damaged(tmp_path)
    one = loader(broken, max_faults=2, tail="keep")
    found = [key for batch in one for key in batch.id.tolist()]
    assert sorted(found) == sorted(set(broken.keys.tolist()) - set(broken.keys[[3, 17]].tolist()))
    assert sorted(fault.sample for fault in one.faults) == [3, 17]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"global_batch": 0}, "global_batch is 0, expected at least 1"),
        ({"prefetch": 0}, "prefetch is 0, expected at least 1"),
        ({"weights": (1.0, 2.0)}, "weights: found 2 for 1 stores"),
        ({"global_batch": 64}, "global_batch is 64 and the stores hold 29"),
        ({"rank": 1, "world": 3}, "world size 3: expected a divisor of global_batch = 4"),
    ],
)
def test_settings_that_do_not_fit_are_refused(store, how, message):
    with pytest.raises(ConfigError, match=message):
        loader(store, **how)


def test_stores_that_cannot_stand_in_one_batch_are_refused(store, tmp_path):
    other = small_store(tmp_path / "other", samples=8, side=48)
    with pytest.raises(StoreError, match="Only stores of one profile, band order and patch size"):
        loader(store, other)


def test_no_store_is_refused():
    with pytest.raises(ConfigError, match="No store to read"):
        ShardLoader([])


def test_the_loader_needs_none_of_the_pipelines_libraries():
    program = (
        "import sys, sarmae.stream.loader; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'dask', 'distributed', 'rasterio', 'geopandas', 'pyarrow', 'pandas', 'shapely', 'timm', 'zarr'}))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
