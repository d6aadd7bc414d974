"""The moving average of the weights: its warm-up, and what a run too short for its decay says."""

import math

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from sarmae.train import checkpoint
from sarmae.train.ema import MovingAverage, steps_to_reach
from support.small_runs import small_config, train, training_store


@pytest.mark.parametrize("decay", [0.9, 0.9999])
def test_it_is_torchs_average_with_the_decay_of_the_warm_up(decay):
    torch.manual_seed(3)
    model = nn.Linear(3, 2)
    theirs = AveragedModel(model, avg_fn=lambda a, w, n: a + (1 - min(decay, n / (9 + n))) * (w - a))
    theirs.update_parameters(model)  # its first call copies
    ours = MovingAverage(model, decay)
    for step in range(120):
        with torch.no_grad():
            model.weight += torch.randn(2, 3)
        ours.update(step)
        theirs.update_parameters(model)
    torch.testing.assert_close(ours.state()["weight"], theirs.module.weight.detach(), rtol=1e-5, atol=1e-5)


def test_the_random_start_is_forgotten_however_large_the_decay():
    """Closed form: the share of the start after n steps is the product of the decays, 9! n! / (n + 9)!; a plain average
    with a decay of 0.9999 would still hold 0.998 of it."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    average = MovingAverage(model, 0.9999)
    nn.init.zeros_(model.weight)
    for step in range(20):
        average.update(step)
    assert average.state()["weight"].item() == pytest.approx(1 / math.comb(29, 9), rel=1e-4)


def test_a_run_too_short_for_its_decay_says_so_and_its_average_is_no_random_start(tmp_path):
    store = training_store(tmp_path / "store")
    assert steps_to_reach(0.9) == 80
    notes = {}
    for ema in (0.9999, 0.5):
        _, watch = train(small_config(store, train={"ema": ema, "steps": 24}), tmp_path / str(ema))
        notes[ema] = [note for note in watch.notes if note.startswith("Warning: train.ema")]
    assert notes[0.5] == []
    assert "train.ema=0.9999 is reached after 89,990 steps, this run has 24" in notes[0.9999][0]
    saved = checkpoint.load_latest(tmp_path / "0.9999").model
    name = "model.decoder.pred.weight"
    train(small_config(store, train={"steps": 1, "lr": 1e-12, "warmup_steps": 0}), tmp_path / "start")
    start = checkpoint.load_latest(tmp_path / "start").model[name]
    assert (saved[f"average.{name}"] - saved[name]).norm() < 0.5 * (start - saved[name]).norm()
