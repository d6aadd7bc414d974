"""Whole runs: the loss falls, a killed run goes on bit for bit, bad input is reported, and nothing hides a NaN."""

import itertools
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sar1m.store.errors import ConfigError, StoreError
from sarmae.config import PretrainConfig, resolve_config
from sarmae.errors import CheckpointError, NonFiniteError
from sarmae.export import CARD_FILE
from sarmae.runs import export_run
from sarmae.train import checkpoint
from sarmae.train.loop import pretrain
from sarmae.train.step import _parts
from support.small_runs import Notes, child, losses, small_config, train, training_store, weights

KILLS = 10


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return training_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def undisturbed(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    process = child(train, small_config(store), folder)
    process.join()
    assert process.exitcode == 0
    return folder


def test_the_loss_falls(undisturbed):
    logged = losses(undisturbed)
    assert sorted(logged) == list(range(1, 25))
    first, last = (sum(logged[step][0] for step in steps) / 5 for steps in (range(1, 6), range(20, 25)))
    assert last < 0.97 * first


def pretrain_until(config, folder, step):
    """Trains, and is killed right after a step was logged; without a step: trains to the end."""

    class Killed(Notes):
        def progress(self, progress):
            if progress.step == step:
                os.kill(os.getpid(), signal.SIGKILL)

    pretrain(config, folder, on_log=Killed().progress)


def test_a_run_killed_ten_times_is_bit_for_bit_the_undisturbed_one(store, undisturbed, tmp_path):
    """R9: by SIGKILL right after a random step, before or after its checkpoint; the tables and weights are the same."""
    rng = random.Random(4)
    for _ in range(KILLS):
        process = child(pretrain_until, small_config(store), tmp_path, rng.randint(1, 24))
        process.join()
        assert process.exitcode in {-signal.SIGKILL, 0}
    process = child(pretrain_until, small_config(store), tmp_path, None)
    process.join()
    assert process.exitcode == 0
    assert losses(tmp_path) == losses(undisturbed)
    assert weights(tmp_path) == weights(undisturbed)


@pytest.mark.parametrize("target", ["log_ratio", "mix"])
def test_a_run_of_features_learns_resumes_and_its_card_states_their_drift(store, tmp_path, target):
    """Killed after step 9 and gone on with, it is bit for bit the undisturbed one."""
    config = small_config(store, model={"target": target, "mix": [1, 1, 1, 1]})
    train(config, tmp_path / "whole")
    process = child(pretrain_until, config, tmp_path / "killed", 9)
    process.join()
    train(config, tmp_path / "killed")
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    logged = losses(tmp_path / "whole")
    first, last = (sum(logged[step][0] for step in steps) / 5 for steps in (range(1, 6), range(20, 25)))
    assert last < first
    card = (export_run(tmp_path / "whole", tmp_path / "encoder").parent / CARD_FILE).read_text()
    assert "log ratios of mean powers" in card
    found = dict(re.findall(r"\| target drift under speckle of (\d+) looks \| ([\d.]+) \|", card))
    drifts = [float(found[looks]) for looks in ("1", "4", "16")]
    assert drifts == sorted(drifts, reverse=True)


def test_pictures_without_a_unit_have_no_mean_power(tmp_path):
    pixels = np.random.default_rng(1).integers(1, 255, (64, 64), dtype=np.uint8)
    (tmp_path / "SAR").mkdir()
    for number in range(8):
        Image.fromarray(pixels).save(tmp_path / f"SAR/{number}.png")
    (tmp_path / "unpaired.json").write_text(json.dumps([f"SAR/{number}.png" for number in range(8)]))
    (tmp_path / "paired.json").write_text("[]")
    sections = {"data": {"published_px": 64}, "sare": {"speckle": "none"}, "train": {"steps": 2}}
    for target, allowed in (("hog", True), ("lowpass", False), ("mix", False)):
        config = small_config(**sections, model={"target": target})
        data = config.data.model_copy(update={"stores": (f"published:{tmp_path}",)})
        config = config.model_copy(update={"data": data})
        if allowed:
            train(config, tmp_path / target)
        else:
            with pytest.raises(ConfigError, match=r"model\.target: .*power, and the SAR values are in units '1'"):
                train(config, tmp_path / target)


def test_a_stop_asked_for_saves_and_says_so(store, undisturbed, tmp_path):
    class Asked(Notes):
        def progress(self, progress):
            super().progress(progress)
            if progress.step == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    watch = Asked()
    outcome = pretrain(small_config(store), tmp_path, watch, watch.progress)
    assert (outcome.step, outcome.exit_code) == (8, 85)  # the signal came after the look for it
    assert "Stopped at step 8, saved. The same command goes on from there." in watch.notes
    outcome, watch = train(small_config(store), tmp_path)
    assert outcome.exit_code == 0
    assert "Going on from the checkpoint of step 8." in watch.notes
    assert sorted(losses(tmp_path)) == list(range(1, 25))


def test_a_signal_after_the_last_look_does_not_queue_a_finished_run_again(store, tmp_path):
    class Late(Notes):
        def progress(self, progress):
            if progress.step == 24:
                os.kill(os.getpid(), signal.SIGTERM)

    assert pretrain(small_config(store), tmp_path, on_log=Late().progress).exit_code == 0


@pytest.mark.parametrize(("samples", "passes"), [(8, 1), (8, 4), (7, 4), (5, 5)])
def test_a_rank_takes_as_many_passes_whatever_it_could_read(samples, passes):
    parts = list(_parts(samples, passes))
    assert len(parts) == passes
    assert [number for part in parts for number in range(samples)[part]] == list(range(samples))
    assert max(part.stop - part.start for part in parts) - min(part.stop - part.start for part in parts) <= 1


def test_a_rank_with_fewer_samples_than_passes_is_told():
    with pytest.raises(StoreError, match=r"3 samples left for 4 passes (?s:.*)data\.max_faults"):
        list(_parts(3, 4))


def test_a_finished_run_started_again_does_nothing(store, undisturbed):
    before = weights(undisturbed), losses(undisturbed)
    outcome, _ = train(small_config(store), undisturbed)
    assert (outcome.step, outcome.exit_code) == (24, 0)
    assert (weights(undisturbed), losses(undisturbed)) == before


def test_a_run_can_begin_from_the_encoder_of_another(store, undisturbed, tmp_path):
    weights_file = export_run(undisturbed, tmp_path / "encoder")
    one_step = {"steps": 1, "lr": 1e-9}
    begun = small_config(store, model={"weights": str(weights_file)}, train=one_step)
    outcome, watch = train(begun, tmp_path / "run")
    assert outcome.exit_code == 0
    assert "Begins from weights of model.safetensors." in watch.notes
    former, later = checkpoint.load_latest(undisturbed), checkpoint.load_latest(tmp_path / "run")
    name = "model.encoder.blocks.0.mlp.fc1.weight"
    torch.testing.assert_close(later.model[name], former.model[name])
    random_ones, _ = train(small_config(store, train=one_step), tmp_path / "random")
    assert not torch.allclose(checkpoint.load_latest(tmp_path / "random").model[name], former.model[name])
    assert random_ones.exit_code == 0


@pytest.mark.parametrize("change", [{"threads": 0}, {"threads": 3, "prefetch": 1}])
def test_threads_change_nothing(store, undisturbed, tmp_path, change):
    process = child(train, small_config(store, data=change), tmp_path)
    process.join()
    assert losses(tmp_path) == losses(undisturbed)


def test_micro_batches_change_nothing_but_rounding(store, undisturbed, tmp_path):
    process = child(train, small_config(store, train={"micro_batch": 2}), tmp_path)
    process.join()
    found, expected = losses(tmp_path), losses(undisturbed)
    assert [value[0] for value in found.values()] == pytest.approx([value[0] for value in expected.values()], rel=1e-4)


def test_another_configuration_is_refused_and_named(store, undisturbed):
    with pytest.raises(ConfigError, match=r"train\.lr: 0\.05 in the run, 0\.1 now"):
        train(small_config(store, train={"lr": 0.1}), undisturbed)


def test_a_run_begun_under_an_earlier_default_goes_on_under_its_own_file_alone(store, undisturbed):
    """sare.probability was 1 by default. A run states every key, so that no default of another version reaches it."""
    config = small_config(store)
    sections = config.model_dump()
    del sections["sare"]["probability"]
    with pytest.raises(ConfigError, match=r"sare\.probability: 1\.0 in the run, 0\.5 now\n.*--config .*config\.toml"):
        train(PretrainConfig.model_validate(sections), undisturbed)
    own = resolve_config(str(undisturbed / "config.toml"), [])
    assert own == config
    assert train(own, undisturbed)[0].exit_code == 0


def test_non_finite_steps_change_nothing_and_end_the_run_by_name(store, tmp_path, monkeypatch):
    """R12: a sample whose error is NaN."""
    from sarmae.train import setup  # noqa: PLC0415 - patched here alone

    class Poisoned(setup.MakeViews):
        def __call__(self, batch):
            views = super().__call__(batch)
            views.target_db[1] = float("inf")
            self.poisoned = batch.id[1].item()
            return views

    monkeypatch.setattr(setup, "MakeViews", Poisoned)
    with pytest.raises(
        NonFiniteError, match=r"Step 3: .* 3 steps in a row(?s:.*)whose own error was not finite"
    ) as found:
        train(small_config(store, train={"max_bad_steps": 3}), tmp_path)
    assert any(str(key) in str(found.value) for key in store.keys.tolist())
    assert checkpoint.load_latest(tmp_path) is None


def test_a_single_bad_step_is_borne_without_effect(store, tmp_path, monkeypatch):
    from sarmae.train import setup  # noqa: PLC0415 - patched here alone

    class Once(setup.MakeViews):
        steps = 0

        def __call__(self, batch):
            views = super().__call__(batch)
            self.steps += 1
            if self.steps == 4:
                views.target_db[0] = float("nan")
                views.input_db[:] = float("inf")
            return views

    monkeypatch.setattr(setup, "MakeViews", Once)
    outcome, watch = train(small_config(store), tmp_path)
    assert outcome.exit_code == 0
    assert watch.steps[-1].bad_steps == 1
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[3]["gradient_norm"] is None
    assert all(lines[step]["loss"] is not None for step in (2, 4, 23))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": {"crop_px": 64}}, "larger than the stored patches of 48 x 48 px"),
        ({"train": {"global_batch": 64}}, "global_batch is 64 and the stores hold 22"),
        ({"model": {"width": 25}}, "width = 25"),
        ({"train": {"device": "cuda:7"}}, r"train\.device: 'cuda:7' cannot be used here"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused_before_the_first_step(store, tmp_path, sections, message):
    with pytest.raises(ConfigError, match=message):
        train(small_config(store, **sections), tmp_path)


def test_a_store_without_statistics_is_refused(tmp_path):
    bare = training_store(tmp_path / "bare", statistics=False)
    with pytest.raises(StoreError, match=r"normalisation\.json"):
        train(small_config(bare), tmp_path / "run")


def test_no_store_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"data\.stores: no store to train on"):
        train(small_config(), tmp_path)


def test_a_checkpoint_of_another_shape_is_told(store, undisturbed, tmp_path):
    saved = checkpoint.load_latest(undisturbed)
    name = next(name for name in saved.model if name.endswith("decoder.mask_token"))
    other = {**saved.model, name: torch.zeros(1, 1, 99)}
    facts = {**saved.facts}
    whole = checkpoint.Checkpoint(step=24, model=other, optimiser=saved.optimiser, facts=facts)
    checkpoint.save(tmp_path, whole, keep=2)
    with pytest.raises(CheckpointError, match=r"mask_token: \(1, 1, 99\) in the checkpoint, \(1, 1, 16\) here"):
        train(small_config(store), tmp_path)


def save_step(folder, step):
    tensors = {"weight": torch.full((200_000,), float(step))}
    saved = checkpoint.Checkpoint(step=step, model=tensors, optimiser=tensors, facts={"step": step})
    checkpoint.save(folder, saved, keep=2)


def save_in_a_loop(folder):
    """Checkpoints of growing steps, until killed."""
    for step in itertools.count(1):
        save_step(folder, step)


def test_a_kill_during_saving_leaves_a_whole_checkpoint(tmp_path):
    """R11: at random moments of the writing; the steps never go back."""
    rng = random.Random(9)
    newest, began = 0, time.monotonic()
    save_step(tmp_path, 1)
    took = time.monotonic() - began  # of the machine as busy as it is
    for _ in range(12):
        process = child(save_in_a_loop, tmp_path)
        time.sleep(0.05 + rng.random() * 4 * took)
        process.kill()
        process.join()
        found = checkpoint.load_latest(tmp_path)
        if found is not None:
            assert torch.equal(found.model["weight"], torch.full((200_000,), float(found.step)))
            assert found.facts == {"step": found.step}
            newest = max(newest, found.step)
    assert newest > 1


@pytest.mark.parametrize("file", ["model.safetensors", "optimiser.safetensors", "state.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(store, tmp_path, file, how):
    tensors = {"weight": torch.arange(500.0)}
    for step in (5, 10):
        saved = checkpoint.Checkpoint(step=step, model=tensors, optimiser=tensors, facts={})
        checkpoint.save(tmp_path, saved, keep=3)
    path = tmp_path / "checkpoints/step-00000010" / file
    content = bytearray(path.read_bytes())
    if how == "flip":
        content[len(content) // 2] ^= 1
    path.write_bytes(content[: len(content) // 2] if how == "cut" else content)
    if how == "remove":
        path.unlink()
    assert checkpoint.load_latest(tmp_path).step == 5
    (tmp_path / "checkpoints/step-00000005/model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="No checkpoint of this run is whole"):
        checkpoint.load_latest(tmp_path)


def test_a_full_disk_is_told_and_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    tensors = {"weight": torch.arange(500.0)}
    checkpoint.save(tmp_path, checkpoint.Checkpoint(step=1, model=tensors, optimiser=tensors, facts={}), keep=3)

    def full(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CheckpointError, match=r"step-00000002: cannot be written: .*No space left"):
        checkpoint.save(tmp_path, checkpoint.Checkpoint(step=2, model=tensors, optimiser=tensors, facts={}), keep=3)
    assert checkpoint.load_latest(tmp_path).step == 1


def opened(handle):
    """Name of the file or folder behind a descriptor."""
    return Path(f"/proc/self/fd/{handle}").readlink().name


def test_everything_of_a_checkpoint_is_synced_before_latest_names_it(tmp_path, monkeypatch):
    done, sync = [], os.fsync

    def recorded(handle):
        done.append(f"sync {opened(handle)}")
        sync(handle)

    def renamed(source, target, *, rename=os.rename):
        done.append(f"rename {Path(target).name}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(os, "rename", renamed)
    monkeypatch.setattr(os, "replace", renamed)
    tensors = {"weight": torch.arange(500.0)}
    checkpoint.save(tmp_path, checkpoint.Checkpoint(step=3, model=tensors, optimiser=tensors, facts={}), keep=3)
    folder = done.index("rename step-00000003")
    for name in ("model.safetensors", "optimiser.safetensors", "rename state.json", ".step-00000003.tmp"):
        assert any(name in action for action in done[:folder]), name
    assert any(action.startswith("sync state.json") for action in done[: done.index("rename state.json")])
    assert "sync checkpoints" in done[folder : done.index("rename LATEST")]
    assert done[-1] == "sync checkpoints"


def test_a_disk_that_fills_up_at_the_end_leaves_the_former_checkpoint(tmp_path, monkeypatch):
    tensors = {"weight": torch.arange(500.0)}
    checkpoint.save(tmp_path, checkpoint.Checkpoint(step=1, model=tensors, optimiser=tensors, facts={}), keep=3)
    sync = os.fsync

    def full(handle):
        if "state.json" in opened(handle):
            raise OSError(28, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match=r"step-00000002: cannot be written: .*No space left"):
        checkpoint.save(tmp_path, checkpoint.Checkpoint(step=2, model=tensors, optimiser=tensors, facts={}), keep=3)
    assert checkpoint.load_latest(tmp_path).step == 1
