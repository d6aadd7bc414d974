"""Training of heads: rates, order, flips, and what a failing loss says."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sar1m.store.errors import ConfigError
from sarmae.errors import NonFiniteError
from sarmae.evaluate.fitting import (
    epoch_order,
    fit,
    flip,
    flips_of,
    layerwise_groups,
    parameter_groups,
    schedule,
    seeded,
)
from sarmae.evaluate.study_config import FitConfig
from support.eval_pieces import TinyBackbone


def test_finds_the_least_squares_line():
    inputs = torch.linspace(-1, 1, 50)
    targets = 3.0 * inputs - 0.5
    line = seeded(lambda: nn.Linear(1, 1), seed=0, name="line")

    def step(numbers: Tensor, _epoch: int) -> Tensor:
        return (line(inputs[numbers, None])[:, 0] - targets[numbers]).square().mean()

    losses = fit(
        step,
        parameter_groups(line.parameters()),
        count=50,
        config=FitConfig(epochs=200, lr=0.1, weight_decay=0),
        seed=0,
    )
    assert len(losses) == 200
    assert losses[-1] < 1e-6 < losses[0]
    assert line.weight.item() == pytest.approx(3.0, abs=1e-2)
    assert line.bias.item() == pytest.approx(-0.5, abs=1e-2)


def test_the_head_learns_at_the_full_rate_and_the_first_layer_least():
    backbone, head = TinyBackbone(), nn.Linear(24, 3)
    weights = layerwise_groups(backbone.depth_groups(), head.parameters(), layer_decay=0.5)
    scales = {id(one): group.scale for group in weights for one in group.parameters}
    assert [scales[id(one)] for one in (backbone.embed.weight, backbone.mix.weight, head.weight)] == [0.25, 0.5, 1.0]
    assert {id(one) for one in (*backbone.parameters(), *head.parameters())} == set(scales)


def test_biases_norms_and_positions_do_not_decay_and_frozen_weights_are_left_out():
    matrix, bias = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3))
    positions, frozen = nn.Parameter(torch.ones(1, 9, 3)), nn.Parameter(torch.ones(3, 3), requires_grad=False)
    decaying, still = parameter_groups([matrix, bias, positions, frozen])
    assert (decaying.decays, still.decays) == (True, False)
    assert [id(one) for one in decaying.parameters] == [id(matrix)]
    assert [id(one) for one in still.parameters] == [id(bias), id(positions)]


def test_a_rate_of_zero_of_a_layer_leaves_it_as_it_was():
    still, moving = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    weights = (*parameter_groups([still], scale=0.0), *parameter_groups([moving]))
    fit(lambda *_: (still * moving).sum(), weights, count=4, config=FitConfig(epochs=2), seed=0)
    assert torch.equal(still, torch.ones(2, 2))
    assert not torch.equal(moving, torch.ones(2, 2))


def test_the_rate_warms_up_and_ends_near_zero():
    rate = schedule(FitConfig(epochs=10, batch=7, lr=2.0, warmup_share=0.1), count=50)  # 8 steps an epoch
    assert rate.steps == 80
    assert rate(0) == pytest.approx(2.0 / 8)
    assert rate(7) == pytest.approx(2.0)
    assert rate(44) == pytest.approx(1.0)
    assert 0 < rate(79) < 2e-3


@given(count=st.integers(1, 300), seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_every_epoch_meets_every_sample_once(count: int, seed: int, epoch: int):
    order = epoch_order(count, seed=seed, epoch=epoch)
    assert sorted(order.tolist()) == list(range(count))
    if count > 60:
        assert not torch.equal(order, epoch_order(count, seed=seed, epoch=epoch + 1))


def test_the_step_is_given_each_sample_once_an_epoch_the_last_batch_smaller():
    weight = nn.Parameter(torch.ones(1))
    met: list[tuple[int, list[int]]] = []

    def step(numbers: Tensor, epoch: int) -> Tensor:
        met.append((epoch, numbers.tolist()))
        return weight.sum()

    fit(step, parameter_groups([weight]), count=10, config=FitConfig(epochs=2, batch=4), seed=3)
    assert [(epoch, len(numbers)) for epoch, numbers in met] == [(0, 4), (0, 4), (0, 2), (1, 4), (1, 4), (1, 2)]
    assert sorted(number for epoch, numbers in met if epoch == 1 for number in numbers) == list(range(10))


def test_flips_turn_pictures_and_masks_alike_and_come_in_four_kinds():
    numbers = torch.arange(400)
    flips = flips_of(numbers, seed=1, epoch=2)
    kinds = torch.bincount(flips[:, 0] * 2 + flips[:, 1], minlength=4)
    assert kinds.min() > 70
    assert torch.equal(flips[37:40], flips_of(numbers[37:40], seed=1, epoch=2))
    pictures = torch.arange(400 * 2 * 3 * 4).reshape(400, 2, 3, 4)
    turned = flip(pictures, flips)
    assert torch.equal(turned[:, 1], flip(pictures[:, 1], flips))
    for place in range(20):
        upside_down, swapped = flips[place].tolist()
        expected = pictures[place]
        expected = expected.flip(1) if upside_down else expected
        assert torch.equal(turned[place], expected.flip(2) if swapped else expected)


def test_first_weights_hang_on_seed_and_name_alone_and_disturb_nothing():
    before = torch.random.get_rng_state()
    first, again, other = (
        seeded(lambda: nn.Linear(4, 4), seed=seed, name=name) for seed, name in ((0, "a"), (0, "a"), (0, "b"))
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, other.weight)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_the_epoch_and_the_remedy(loss: float):
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(NonFiniteError, match=r"epoch 0.*Lower fit\.lr"):
        fit(lambda *_: weight.sum() * loss, parameter_groups([weight]), count=3, config=FitConfig(), seed=0)


def test_nothing_to_train_on_is_said():
    weight = nn.Parameter(torch.ones(1))
    with pytest.raises(ConfigError, match="0 samples and 1 groups"):
        fit(lambda *_: weight.sum(), parameter_groups([weight]), count=0, config=FitConfig(), seed=0)
    with pytest.raises(ConfigError, match="5 samples and 0 groups"):
        fit(lambda *_: weight.sum(), (), count=5, config=FitConfig(), seed=0)
