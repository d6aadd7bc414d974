"""The contract: what the pipeline writes, the trainer reads, value for value, and learns from."""

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray

from sarmae.config import resolve_config
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.transforms import Dequantise
from support.small_runs import train

SMALL = ["train.steps=12", "train.log_every=1", "train.device=cpu", "model.width=32", "model.heads=2", "model.depth=1"]


@pytest.fixture(scope="module")
def sample_store(tmp_path_factory):
    """The embedded sample, built as a user builds it."""
    folder = tmp_path_factory.mktemp("sample")
    command = [sys.executable, "-m", "sar1m", "build", "--region", "sample", "--out", str(folder), "--workers", "0"]
    subprocess.run(command, check=True, capture_output=True)
    return folder


def test_the_loader_gives_what_xarray_reads(sample_store):
    """Decibels, reflectance, pairing, looks and names of every sample, by a reader that knows nothing of ours."""
    by_key = {}
    loader = ShardLoader([sample_store], LoaderSettings(global_batch=2, tail="keep"))
    dequantise = Dequantise(loader.sar, loader.optical)
    for batch in loader:
        values = dequantise(batch)
        for row, key in enumerate(batch.id.tolist()):
            by_key[key] = values.sar[row].numpy(), values.optical[row].numpy(), batch.enl[row].item()
    store = xarray.open_zarr(sample_store / "data/train.zarr", consolidated=False)
    assert sorted(by_key) == sorted(store.sample_key.values.tolist())
    for sample, key in enumerate(store.sample_key.values.tolist()):
        sar_db, display, enl = by_key[key]
        np.testing.assert_allclose(sar_db, store.sar[sample].values, atol=1e-4)
        reflectance = store.optical[sample].values
        there = ~np.isnan(reflectance)
        np.testing.assert_allclose(display[there], np.clip(reflectance[there] / 0.3, 0, 1), atol=1e-6)
        np.testing.assert_array_equal(enl, store.enl.values[sample])


def test_a_run_on_the_sample_learns(sample_store, tmp_path):
    config = resolve_config("smoke", SMALL)
    config = config.model_copy(update={"data": config.data.model_copy(update={"stores": (str(sample_store),)})})
    outcome, watch = train(config, tmp_path)
    assert outcome.exit_code == 0
    assert watch.steps[-1].loss < watch.steps[0].loss
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [*range(1, 13), 12]  # last the drift of the target
