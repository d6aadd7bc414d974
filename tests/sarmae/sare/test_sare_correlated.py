"""Correlated speckle: its correlation and law, and what a thinned pair leaks of each other's noise."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from sar1m.core.speckle import estimate_enl, speckle_field
from sarmae.config import SareConfig
from sarmae.sare import Sare
from sarmae.sare.spatial import filtered
from sarmae.stream.batch import Batch
from support.campaigns import campaign

BATCH, POLS, SIDE = 24, 2, 224
SCENE_LOOKS = 4.4


def factors(scene_db, **config):
    """Input and target in linear power."""
    batch = Batch(
        sar=scene_db,
        optical=None,
        paired=torch.ones(len(scene_db), dtype=torch.bool),
        id=torch.arange(len(scene_db)) + 100,
        enl=torch.full((len(scene_db),), float("nan")),
        epoch=2,
        step=0,
    )
    parts = Sare(SareConfig(**{"probability": 1.0, **config}), seed=5)(batch)
    return [10 ** (part.double() / 10) for part in parts]


def flat():
    return torch.zeros((BATCH, POLS, SIDE, SIDE))


def correlated_scene():
    """As the simulator makes GRD speckle: three taps, intensities correlated by 0.6 and 0.12."""
    rng = np.random.default_rng(8)
    fields = [speckle_field(rng, (SIDE, SIDE), looks=SCENE_LOOKS, correlated=True) for _ in range(BATCH * POLS)]
    return 10 * torch.from_numpy(np.stack(fields)).log10().view(BATCH, POLS, SIDE, SIDE)


def covariance(first, second, lag, axis):
    """Of two fields of mean 1, the second lag pixels on."""
    length = first.shape[axis] - lag
    return float(((first - 1).narrow(axis, 0, length) * (second - 1).narrow(axis, lag, length)).mean())


@pytest.mark.parametrize(("looks", "correlation_px"), [(1, 1.4), *campaign((16, 1.4), (4.4, 0.5), (1, 3.0))])
def test_intensities_are_correlated_as_configured(looks, correlation_px):
    config = {"speckle": "correlated", "min_looks": looks, "max_looks": looks, "correlation_px": correlation_px}
    field, _ = factors(flat(), **config)
    variance = covariance(field, field, 0, 2)
    independent = field.numel() / max(1, correlation_px**2 * math.pi / 2)
    for axis in (2, 3):
        for lag in (1, 2, 3):
            found = covariance(field, field, lag, axis) / variance
            wanted = math.exp(-((lag / correlation_px) ** 2))
            assert found == pytest.approx(wanted, abs=0.004 + 5 / math.sqrt(independent)), (axis, lag)
    diagonal = float(((field - 1)[..., 1:, 1:] * (field - 1)[..., :-1, :-1]).mean()) / variance
    assert diagonal == pytest.approx(math.exp(-2 / correlation_px**2), abs=0.03)


def test_the_default_is_the_correlation_of_real_chips():
    field, _ = factors(flat(), speckle="correlated", min_looks=4.4, max_looks=4.4)
    variance = covariance(field, field, 0, 2)
    lags = [covariance(field, field, lag, 3) / variance for lag in (1, 2, 3)]
    assert lags == pytest.approx([0.68, 0.21, 0.03], abs=0.01)
    enl = estimate_enl(field[0, 0].numpy().astype(np.float32))
    assert enl.value == pytest.approx(4.4, rel=0.15)


@pytest.mark.parametrize("looks", [4.4, *campaign(1)])
def test_correlation_leaves_the_law_as_it_is(looks):
    field, _ = factors(flat(), speckle="correlated", min_looks=looks, max_looks=looks)
    apart = field[..., ::7, ::7].reshape(-1).numpy()  # 50,000 pixels that know nothing of each other
    assert stats.kstest(apart, stats.gamma(looks, scale=1 / looks).cdf).pvalue > 1e-5
    assert apart.mean() == pytest.approx(1, abs=5 / math.sqrt(looks * apart.size))
    crossed = float(((field - 1)[:, 0] * (field - 1)[:, 1]).mean()) * looks
    assert abs(crossed) < 5 / math.sqrt(field.numel() / 2 / 3)


def leaks(speckle):
    """Covariance of the thinned pair, at lags 0, 1, 2 along columns and 1 along the diagonal."""
    config = {"speckle": speckle, "target": "complement", "enl": SCENE_LOOKS, "correlation_px": 1.4}
    kept, left = factors(correlated_scene(), **config, min_looks=2.2, max_looks=2.2)
    assert float(kept.var()) == pytest.approx(1 / 2.2, rel=0.01)
    assert float(left.var()) == pytest.approx(1 / 2.2, rel=0.01)
    diagonal = float(((kept - 1)[..., 1:, 1:] * (left - 1)[..., :-1, :-1]).mean())
    return [*(covariance(kept, left, lag, 3) for lag in (0, 1, 2)), diagonal]


def test_white_thinning_leaks_where_the_scene_is_correlated():
    # r / L: a neighbour in one part explains 30 % (0.136 of 1/2.2) of the other part's speckle
    assert leaks("thinning") == pytest.approx([0, 0.6 / 4.4, 0.12 / 4.4, 0.36 / 4.4], abs=0.005)


def test_correlated_thinning_does_not():
    assert leaks("correlated_thinning") == pytest.approx([0, 0, 0, 0], abs=0.006)


def test_filtering_is_a_separable_sum_of_shifts():
    white = torch.randn((2, 1, 9, 8), generator=torch.Generator().manual_seed(0))
    taps = torch.tensor([[0.8, 0.4, 0.1], [1.0, 0.0, 0.0]])
    kernel = torch.tensor([0.1, 0.4, 0.8, 0.4, 0.1])
    convolved = torch.nn.functional.conv2d(white[:1], torch.outer(kernel, kernel)[None, None])
    found = filtered(white, taps)
    assert torch.allclose(found[:1], convolved, atol=1e-6)
    assert torch.equal(found[1:], white[1:, :, 2:-2, 2:-2])
