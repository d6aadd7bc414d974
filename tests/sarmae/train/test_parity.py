"""The gate of torch.compile lets equal losses through and stops others."""

import pytest
import torch

from sarmae.errors import ParityError
from sarmae.train.objective import Objective
from sarmae.train.parity import check_parity
from sarmae.train.step import Views
from support.tiny_models import tiny_model, tiny_spec


class Compiled(torch.nn.Module):
    """An objective whose loss is off by a share."""

    def __init__(self, objective, share):
        super().__init__()
        self.objective, self.share = objective, share

    def forward(self, *given):
        losses = self.objective(*given)
        return losses._replace(mae=losses.mae * (1 + self.share))


@pytest.fixture
def objective():
    return Objective(tiny_model(), None)


@pytest.fixture
def views():
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(4, 2, 32, 32, generator=generator) * 4 - 12
    noise = torch.rand(4, tiny_spec().patches, generator=generator)
    return Views(images, images, noise, None, torch.ones(4, dtype=torch.bool))


def test_the_same_computation_passes(objective, views):
    assert check_parity(Compiled(objective, 0.0), objective, views, autocast=False, step=0) == 0.0
    assert check_parity(Compiled(objective, 5e-5), objective, views, autocast=False, step=0) == pytest.approx(
        5e-5, rel=0.1
    )


@pytest.mark.parametrize(("share", "autocast"), [(2e-4, False), (0.05, True), (float("nan"), False)])
def test_another_one_is_stopped_and_told(objective, views, share, autocast):
    with pytest.raises(ParityError, match=r"Step 7: the compiled loss is .* train\.compile=false"):
        check_parity(Compiled(objective, share), objective, views, autocast=autocast, step=7)
