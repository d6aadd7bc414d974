"""Speckle by Monte Carlo against what the theory says of it. Tolerances are five standard errors of 3.2 million pixels,
plus 5e-4 for the tables where they show."""

import math

import numpy as np
import pytest
import torch
from scipy import special, stats

from sarmae.config import SareConfig
from sarmae.sare import Sare
from sarmae.stream.batch import Batch
from support.campaigns import campaign

BATCH, POLS, SIDE = 32, 2, 224
PIXELS = BATCH * POLS * SIDE * SIDE
SCENE_DB = 20.0  # as far from the floor as a city
TABLE = 5e-4


def batch_of(sar_db):
    count = len(sar_db)
    return Batch(
        sar=sar_db,
        optical=None,
        paired=torch.ones(count, dtype=torch.bool),
        id=torch.arange(count) * 7919 + 3,
        enl=torch.full((count,), float("nan")),
        epoch=0,
        step=0,
    )


def flat(count=BATCH, side=SIDE):
    return torch.full((count, POLS, side, side), SCENE_DB)


def speckled_scene(looks, seed=5):
    """White Gamma speckle on the flat scene, by numpy."""
    factor = np.random.default_rng(seed).standard_gamma(looks, (BATCH, POLS, SIDE, SIDE), dtype=np.float32) / looks
    return SCENE_DB + 10 * torch.from_numpy(factor).log10()


def factors(decibels):
    """Linear power over the scene's."""
    return 10 ** ((decibels.double() - SCENE_DB) / 10)


def run(sar_db, **config):
    return Sare(SareConfig(**{"probability": 1.0, **config}), seed=11)(batch_of(sar_db))


def same_looks(looks):
    return {"min_looks": looks, "max_looks": looks}


def check_moments(factor, looks):
    """Mean 1 and variance 1/looks of a Gamma variate whose excess kurtosis is 6/looks."""
    count = factor.numel()
    assert float(factor.mean()) == pytest.approx(1, abs=5 / math.sqrt(looks * count) + TABLE)
    spread = math.sqrt((2 + 6 / looks) / count)  # of the sample variance, relative
    assert float(factor.var()) * looks == pytest.approx(1, abs=5 * spread + TABLE)


def correlation(first, second):
    return float(torch.corrcoef(torch.stack([first.reshape(-1), second.reshape(-1)]))[0, 1])


@pytest.mark.parametrize("looks", [1, *campaign(0.5, 2.3, 16)])
def test_gamma_has_the_moments_and_the_law_of_its_looks(looks):
    speckled, _ = run(flat(), speckle="gamma", **same_looks(looks))
    factor = factors(speckled)
    check_moments(factor, looks)
    assert float((speckled - SCENE_DB).double().var()) == pytest.approx(
        18.86 * float(special.polygamma(1, looks)), rel=3e-3
    )
    law = stats.gamma(looks, scale=1 / looks)
    assert stats.kstest(factor.reshape(-1)[::41].numpy(), law.cdf).pvalue > 1e-5
    share = float((factor > law.isf(1e-4)).double().mean())  # the brightest 320 pixels
    assert share == pytest.approx(1e-4, rel=0.28)


def test_polarisations_and_neighbours_have_their_own_speckle():
    factor = factors(run(flat(), speckle="gamma", **same_looks(1))[0])
    assert abs(correlation(factor[:, 0], factor[:, 1])) < 5 / math.sqrt(PIXELS / 2)
    assert abs(correlation(factor[..., 1:], factor[..., :-1])) < 5 / math.sqrt(PIXELS)
    assert abs(correlation(factor[1:], factor[:-1])) < 5 / math.sqrt(PIXELS)


@pytest.mark.parametrize("extra", [2, *campaign(1, 8)])
def test_extra_looks_give_k_distributed_power(extra):
    own = 4.4
    scene = speckled_scene(own)
    speckled, _ = run(scene, speckle="gamma", **same_looks(extra))
    factor = factors(speckled)
    cv2 = float(factor.var() / factor.mean() ** 2)
    assert 1 / cv2 == pytest.approx(own * extra / (own + extra + 1), rel=0.005)
    # K-distributed: E[I^3] is the product of both Gammas' third moments, which no Gamma of that variance has
    third = np.prod([(1 + 1 / looks) * (1 + 2 / looks) for looks in (own, extra)])
    assert float((factor**3).mean()) == pytest.approx(third, rel=0.05)
    neper = speckled.double() * math.log(10) / 10
    added = special.polygamma(1, own) + special.polygamma(1, extra)
    assert float(neper.var()) == pytest.approx(added, rel=0.004)


def test_looks_are_drawn_log_uniformly_by_sample():
    speckled, _ = run(flat(count=2000, side=32), speckle="gamma", min_looks=1, max_looks=16)
    looks = 1 / factors(speckled).flatten(1).var(dim=1).numpy()  # each to 4 %
    assert stats.kstest(np.log(looks) / np.log(16), "uniform").statistic < 0.04


@pytest.mark.parametrize(("own", "kept"), [(4.4, 3.5), *campaign((4.4, 1), (10, 4))])
def test_thinning_gives_exactly_the_kept_and_the_left_looks(own, kept):
    scene = speckled_scene(own)
    parts = run(scene, speckle="thinning", target="complement", enl=own, **same_looks(kept))
    for part, looks in zip(map(factors, parts), (kept, own - kept), strict=True):
        check_moments(part, looks)
        law = stats.gamma(looks, scale=1 / looks)
        assert stats.kstest(part.reshape(-1)[::41].numpy(), law.cdf).pvalue > 1e-5
    kept_part, left_part = map(factors, parts)
    assert abs(correlation(kept_part, left_part)) < 5 / math.sqrt(PIXELS)  # 0.0028
    assert abs(correlation(kept_part.log(), left_part.log())) < 5 / math.sqrt(PIXELS)
    mended = (kept * kept_part + (own - kept) * left_part) / own
    assert torch.allclose(mended, factors(scene), rtol=0.01)  # nothing is lost, to the tables' steps


def test_thinning_with_too_many_looks_leaks():
    # assumed 6 for 4.4: E[X1 X2] = (1 + 1/4.4) / (1 + 1/6), +5.2 %
    pair = run(speckled_scene(4.4), speckle="thinning", target="complement", enl=6, **same_looks(2))
    kept, left = map(factors, pair)
    assert float((kept * left).mean()) - 1 == pytest.approx(0.0519, abs=0.002)


def test_thinning_keeps_at_most_nine_tenths_log_uniformly():
    speckled, target = run(flat(count=2000, side=32), speckle="thinning", target="complement", enl=4.4)
    # of a flat scene the factors' variances are (L-l)/(l (L+1)) and l/((L-l)(L+1)): their ratio is ((L-l)/l)^2
    ratio = (factors(speckled).flatten(1).var(dim=1) / factors(target).flatten(1).var(dim=1)).sqrt()
    kept_looks = (4.4 / (1 + ratio)).numpy()
    spread = np.log(kept_looks) / np.log(0.9 * 4.4)
    assert stats.kstest(spread, "uniform").statistic < 0.06  # 16 levels, each 1/32 off at most
    assert kept_looks.max() < 0.9 * 4.4 * 1.03


def kept_and_left(scene_enl, **config):
    """Looks that samples of these ENL were thinned by, estimated from the factors' variances on a flat scene."""
    batch = batch_of(flat(count=len(scene_enl)))
    batch.enl = torch.tensor(scene_enl)
    settings = {"probability": 1.0, "speckle": "thinning", "target": "complement", **same_looks(2), **config}
    kept, left = Sare(SareConfig(**settings), seed=3)(batch)
    ratio = (factors(kept).flatten(1).var(dim=1) / factors(left).flatten(1).var(dim=1)).sqrt()
    return batch.sar, kept, left, 2 * (1 + ratio)


def test_looks_are_the_scenes_own_then_the_default():
    _, _, _, looks = kept_and_left([10.0, 4.4, float("nan"), 0.0, float("inf")], default_enl=6.0)
    assert looks.tolist() == pytest.approx([10, 4.4, 6, 6, 6], rel=0.04)  # classes 5 % apart, noise 1 %
    _, _, _, looks = kept_and_left([10.0, float("nan")], enl=5.0)
    assert looks.tolist() == pytest.approx([5, 5], rel=0.02)
    _, _, _, looks = kept_and_left([500.0])
    assert looks.tolist() == pytest.approx([64], rel=0.06)


def test_a_scene_of_too_few_looks_stays_as_it_is():
    scene, kept, left, _ = kept_and_left([1.5, 2.0, 4.4])
    assert torch.equal(kept[:2], scene[:2])
    assert torch.equal(left[:2], scene[:2])
    assert not torch.equal(kept[2], scene[2])


def test_lognormal_is_biased_as_the_authors_is():
    speckled, target = run(flat(), speckle="lognormal", sigma_max=0.7)
    factor = factors(speckled).flatten(1)
    sigma = factor.log().std(dim=1)
    assert torch.allclose(factor.mean(dim=1), (sigma**2 / 2).exp(), rtol=0.01)
    assert float(factor[sigma.argmax()].mean()) == pytest.approx(1.27, abs=0.015)  # 0.69 of the 0.7 that give 1.28
    assert stats.kstest(sigma.numpy() / 0.7, "uniform").pvalue > 1e-4
    assert torch.equal(target, flat())
