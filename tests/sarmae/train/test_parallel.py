"""Two processes by torchrun and gloo: the same global order and the same losses as one, for DDP and for FSDP."""

import json
import os
import subprocess
import sys

import pytest

from support.campaigns import campaign
from support.hang_guard import STUCK_S
from support.small_runs import losses, small_config, train, training_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return training_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def one_process(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("one")
    train(small_config(store, **SHORT), folder)
    return losses(folder)


SHORT = {
    "train": {"steps": 6, "checkpoint_every": 3, "ema": 0.9},
    "sarc": {"teacher": "linear_patch", "hidden": 16},
    "model": {"patch_px": 16},
}


def by_torchrun(config, folder, processes):
    path = folder.parent / f"{folder.name}.toml"
    path.write_text(config.to_toml())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += ["-m", "sarmae", "pretrain", "--config", str(path), "--out", str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=STUCK_S, check=False)


@pytest.mark.parametrize("parallel", ["ddp", *campaign("fsdp")])
def test_two_processes_take_the_steps_of_one(store, one_process, tmp_path, parallel):
    """R10. One unpaired sample in five: some ranks draw no pair in a step, and the gradient must still be the mean over
    all pairs of both."""
    config = small_config(store, **{**SHORT, "train": {**SHORT["train"], "parallel": parallel}})
    done = by_torchrun(config, tmp_path / "two", 2)
    assert done.returncode == 0, done.stderr
    found = losses(tmp_path / "two")
    assert sorted(found) == sorted(one_process)
    for step, values in one_process.items():
        assert found[step][1:3] == pytest.approx(values[1:3], rel=2e-4), step
    resumed = by_torchrun(small_config(store, **SHORT), tmp_path / "two", 1)
    assert resumed.returncode == 0, resumed.stderr
    assert "Done: 6 steps" in resumed.stdout


@pytest.mark.campaign
def test_a_world_size_that_does_not_divide_the_batch_is_reported(store, tmp_path):
    done = by_torchrun(small_config(store, **SHORT), tmp_path / "three", 3)
    assert done.returncode != 0
    assert "world size 3: expected a divisor of global_batch = 4" in done.stderr + done.stdout


def test_the_metrics_are_json(store, tmp_path):
    train(small_config(store, **SHORT), tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [*range(1, 7), 6]  # last the drift of the target
    assert {"loss", "mae", "sarc", "gradient_norm", "lr", "images_per_s", "utilisation", "data_wait"} <= lines[0].keys()
