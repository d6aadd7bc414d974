"""Checkpoints of runs that go back, stop anywhere and keep few; one run a folder; one process a torchrun rank."""

import contextlib
import os
import random
import signal
from pathlib import Path

import pytest
import torch

from sar1m.store.errors import ConfigError, LockedError
from sar1m.store.file_lock import output_lock
from sarmae.errors import CheckpointError
from sarmae.train import checkpoint
from sarmae.train.loop import pretrain
from sarmae.train.parallel import read_launch
from support.small_runs import Notes, child, small_config, train, training_store


def save(run, step, keep=3):
    tensors = {"weight": torch.full((8,), float(step))}
    whole = checkpoint.Checkpoint(step=step, model=tensors, optimiser=tensors, facts={"step": step})
    return checkpoint.save(run, whole, keep=keep)


def whole_steps(run):
    steps = set()
    for folder in (run / "checkpoints").glob("step-*"):
        with contextlib.suppress(CheckpointError):
            steps.add(checkpoint.load(folder).step)
    return steps


def damage(run, step):
    path = run / "checkpoints" / f"step-{step:08d}" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("seed", range(6))
def test_neither_latest_nor_the_newest_whole_one_is_ever_removed(tmp_path, monkeypatch, seed):
    """Steps in any order, any `keep`, damage between: a run that went back, by itself or by hand; folders' times say
    nothing. Syncs left out: this is about names."""
    monkeypatch.setattr(os, "fsync", lambda _handle: None)
    rng = random.Random(seed)
    for _ in range(12):
        before, step, keep = whole_steps(tmp_path), rng.choice([1, 2, 3, 5, 8, 13]), rng.randint(1, 3)
        folder = save(tmp_path, step, keep)
        os.utime(folder, (0, rng.randint(0, 10**9)))
        assert (tmp_path / "checkpoints/LATEST").read_text() == folder.name
        assert checkpoint.load_latest(tmp_path).step == step
        kept = whole_steps(tmp_path)
        assert step in kept
        assert max(before | {step}) in kept
        assert len([known for known in kept if known <= step]) <= keep
        if rng.random() < 0.5:
            damage(tmp_path, rng.choice(sorted(kept)))
            assert (kept == {step}) or checkpoint.load_latest(tmp_path).step in kept


def test_a_run_that_went_back_for_a_damaged_one_keeps_what_it_writes(tmp_path):
    """With keep = 1 the step of the damaged one is higher: by names it is the newest."""
    save(tmp_path, 5)
    save(tmp_path, 10)
    damage(tmp_path, 10)
    assert checkpoint.load_latest(tmp_path).step == 5
    save(tmp_path, 7, keep=1)
    assert checkpoint.load_latest(tmp_path).step == 7
    assert not (tmp_path / "checkpoints/step-00000005").exists()
    save(tmp_path, 10, keep=1)  # passed: all is as if nothing had been
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["LATEST", "step-00000010"]


def test_steps_of_nine_digits_are_newer_than_those_of_eight(tmp_path):
    for step in (99_999_998, 99_999_999, 100_000_000):
        save(tmp_path, step, keep=2)
    assert whole_steps(tmp_path) == {99_999_999, 100_000_000}
    (tmp_path / "checkpoints/LATEST").unlink()
    assert checkpoint.load_latest(tmp_path).step == 100_000_000


def test_a_kill_between_the_renames_of_a_replacement_loses_nothing(tmp_path, monkeypatch):
    save(tmp_path, 5, keep=1)
    rename = Path.rename

    def refused(self, target):
        if str(self).endswith(".tmp"):
            raise KeyboardInterrupt  # as a kill: nothing after it runs
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refused)
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 5, keep=1)
    assert not (tmp_path / "checkpoints/step-00000005").exists()
    assert checkpoint.load_latest(tmp_path).step == 5
    save(tmp_path, 6, keep=1)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == ["LATEST", "step-00000006"]


def test_a_copy_that_a_user_made_is_neither_loaded_nor_removed(tmp_path):
    copy = save(tmp_path, 5).rename(tmp_path / "checkpoints/step-00000005-good")
    save(tmp_path, 1, keep=1)
    assert checkpoint.load_latest(tmp_path).step == 1
    assert copy.is_dir()


# ---- one run a folder ----


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return training_store(tmp_path_factory.mktemp("store"))


def test_a_second_run_in_the_folder_ends_at_once_and_names_the_first(store, tmp_path):
    """R5, for runs."""
    second = []

    class Meanwhile(Notes):
        def progress(self, progress):
            if progress.step == 2:
                with pytest.raises(LockedError, match=rf"another run works here \(process {os.getpid()}\)") as found:
                    train(small_config(store), tmp_path)
                second.append(found.value.exit_code)

    outcome = pretrain(small_config(store, train={"steps": 3}), tmp_path, on_log=Meanwhile().progress)
    assert (outcome.step, second) == (3, [75])
    assert train(small_config(store, train={"steps": 3}), tmp_path)[0].exit_code == 0  # let go in the end


def hold(folder, ready):
    with output_lock(folder, lock="lock", work="run"):
        ready.touch()
        signal.pause()


def test_a_killed_run_holds_nothing(store, tmp_path):
    process = child(hold, tmp_path / "run", tmp_path / "ready")
    while not (tmp_path / "ready").exists():
        assert process.is_alive()
    with pytest.raises(LockedError, match=f"process {process.pid}"):
        train(small_config(store, train={"steps": 1}), tmp_path / "run")
    process.kill()
    process.join()
    assert train(small_config(store, train={"steps": 1}), tmp_path / "run")[0].step == 1


# ---- how it was started ----

TORCHRUN = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "node1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1, 0)),
        (TORCHRUN, (3, 4, 1)),
        ({"WORLD_SIZE": "1"}, (0, 1, 0)),
        ({**TORCHRUN, "SLURM_NTASKS": "2", "SLURM_PROCID": "1"}, (3, 4, 1)),  # one torchrun a node
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, (0, 1, 0)),
        ({"SLURM_NTASKS": "8"}, (0, 1, 0)),  # a shell of salloc
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, (0, 1, 0)),  # srun -n 1 in it
    ],
)
def test_a_launch_is_what_torchrun_says(environment, expected):
    launch = read_launch(environment)
    assert (launch.rank, launch.size, launch.local_rank) == expected


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"SLURM_NTASKS": "2", "SLURM_PROCID": "0"},
            r"srun started 2 tasks \(SLURM_NTASKS; this is number 0\).*torchrun",
        ),
        ({"SLURM_NTASKS": "8", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, "srun started 4 tasks"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, "mpirun started 2 tasks"),
        ({"PMI_SIZE": "2", "PMI_RANK": "1"}, "mpiexec started 2 tasks"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT is not set"),
        ({key: TORCHRUN[key] for key in TORCHRUN if key != "RANK"}, "WORLD_SIZE is 4, but RANK is not set"),
        ({**TORCHRUN, "RANK": "4"}, "RANK='4'; a whole number from 0 to 3 expected"),
        ({**TORCHRUN, "RANK": "-1"}, "RANK='-1'"),
        ({**TORCHRUN, "LOCAL_RANK": "one"}, "LOCAL_RANK='one'"),
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE='two'; a whole number from 1 expected"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE='0'"),
    ],
)
def test_tasks_without_torchrun_are_refused_with_what_to_type(environment, message):
    with pytest.raises(ConfigError, match=message) as found:
        read_launch(environment)
    assert "torchrun --nproc-per-node" in str(found.value)


def test_srun_alone_touches_no_folder(store, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    with pytest.raises(ConfigError, match="all in one folder"):
        train(small_config(store), tmp_path / "run")
    assert not (tmp_path / "run").exists()
