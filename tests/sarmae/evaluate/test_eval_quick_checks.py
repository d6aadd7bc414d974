"""Quick checks of runs: what they say of speckle, predictions and pairs that are known."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage, stats

from sar1m.store.errors import ConfigError
from sarmae.config import SareConfig
from sarmae.errors import CheckpointError
from sarmae.evaluate.quick import injected_speckle
from sarmae.evaluate.quick.checks import quick_checks
from sarmae.evaluate.quick.features import check_pairs, check_reconstruction
from sarmae.evaluate.quick.injected_speckle import check_speckle
from sarmae.model.patches import mask_by_noise
from sarmae.model.spec import TARGETS
from sarmae.sare import Sare
from sarmae.stream.batch import Batch
from sarmae.train.objective import Projector
from sarmae.train.step import Views
from support.small_runs import small_config, train, training_store
from support.tiny_models import batch_db, tiny_model, tiny_spec

CPU = torch.device("cpu")
LOOKS = 4.0


def scenes(samples=3, side_px=168, smooth_px=0.0):
    """Even ground of -12 dB under gamma speckle of LOOKS looks, or under correlated speckle of as many."""
    draws = np.random.default_rng(3)
    if smooth_px:
        field = np.stack(
            [ndimage.gaussian_filter(draws.standard_normal((side_px, side_px)), smooth_px) for _ in range(samples)]
        )
        power = stats.gamma.ppf(stats.norm.cdf(field / field.std()), LOOKS, scale=1 / LOOKS)
    else:
        power = draws.gamma(LOOKS, 1 / LOOKS, (samples, side_px, side_px))
    return Batch(
        sar=torch.from_numpy(10 * np.log10(power) - 12).float()[:, None],
        optical=None,
        paired=torch.zeros(samples, dtype=torch.bool),
        id=torch.arange(samples) + 11,
        enl=torch.full((samples,), LOOKS),
        epoch=0,
        step=0,
    )


def speckle(values=None, units="dB", **config):
    check = check_speckle(SareConfig(**config), values or scenes(), units, 0)
    return dict(check.values), check


# ---- injected speckle ----


def test_gamma_speckle_is_what_it_claims_and_as_white_as_white_scenes():
    values, check = speckle(speckle="gamma", min_looks=2, max_looks=8)
    for looks in (2, 4, 8):
        assert values[f"{looks} looks: mean of the factor"] == pytest.approx(1, abs=0.01)
        assert values[f"{looks} looks: ENL of the factor"] == pytest.approx(looks, rel=0.03)
        assert values[f"{looks} looks: KS distance to gamma"] < 0.02
    assert values["scenes: measured ENL, median"] == LOOKS
    assert abs(values["scenes: correlation of neighbours"]) < 0.03
    assert values["scenes: KS distance to gamma of the measured ENL"] < 0.03
    assert "has mean 1 and the gamma law" in check.verdict
    assert "as in the scenes' own" in check.verdict


def test_correlated_scenes_differ_from_white_speckle_and_agree_with_correlated():
    values, check = speckle(scenes(smooth_px=1.0), speckle="gamma", min_looks=4, max_looks=4)
    assert 0.6 < values["scenes: correlation of neighbours"] < 0.85
    assert abs(values["injected: correlation of neighbours"]) < 0.03
    assert "by 0.7" in check.verdict
    values, check = speckle(scenes(smooth_px=1.0), speckle="correlated", min_looks=4, max_looks=4)
    assert 0.55 < values["injected: correlation of neighbours"] < 0.75
    assert "as in the scenes' own" in check.verdict


def test_lognormal_speckle_is_reported_to_brighten():
    values, check = speckle(speckle="lognormal", sigma_max=2.5)
    assert values["as drawn: mean of the factor"] > 1.05
    assert "brightens the scene" in check.verdict
    assert "no gamma law" in check.verdict


def test_the_distance_is_that_of_scipy():
    batch = scenes(samples=1)
    noisy = Sare(SareConfig(speckle="lognormal", probability=1.0), seed=0)(batch)[0]
    factor = (10 ** ((noisy - batch.sar).double() / 10)).flatten().numpy()
    mean = factor.mean()
    looks = mean**2 / factor.var(ddof=1)
    oracle = stats.kstest(factor / mean, stats.gamma(looks, scale=1 / looks).cdf).statistic
    values, _ = speckle(batch, speckle="lognormal")
    assert oracle > 0.02
    assert values["as drawn: KS distance to gamma"] == pytest.approx(oracle, abs=2e-3)


def test_pixels_without_data_and_samples_without_looks_are_left_out():
    whole = scenes()
    holed = replace(whole, sar=whole.sar.clone(), enl=whole.enl.clone())
    holed.sar[0, :, :80] = float("nan")
    holed.enl[2] = float("nan")
    values, _ = speckle(holed, speckle="gamma", min_looks=4, max_looks=4)
    assert values["4 looks: mean of the factor"] == pytest.approx(1, abs=0.01)
    assert all(np.isfinite(value) for value in values.values())
    none = replace(whole, enl=torch.full((3,), float("nan")))
    values, check = speckle(none, speckle="gamma", min_looks=4, max_looks=4)
    assert "scenes: correlation of neighbours" not in values
    assert "0 homogeneous windows" in check.verdict


@pytest.mark.parametrize(("units", "model"), [("dB", "none"), ("display brightness", "lognormal")])
def test_where_speckle_has_no_law_it_is_not_asked(units, model):
    values, check = speckle(units=units, speckle=model)
    assert not values
    assert check.verdict.startswith("Not checked")


def test_a_factor_of_other_looks_is_reported(monkeypatch):
    """Speckle of twice the looks that it claims."""

    class Weak(Sare):
        def __init__(self, config, **more):
            looks = {"min_looks": 2 * config.min_looks, "max_looks": 2 * config.max_looks}
            super().__init__(config.model_copy(update=looks), **more)

    monkeypatch.setattr(injected_speckle, "Sare", Weak)
    _, check = speckle(speckle="gamma", min_looks=4, max_looks=4)
    assert "the factor has 8" in check.verdict


# ---- reconstruction ----


def views_of(spec, samples=6, anchors=None, paired=True):
    _, target, noise = batch_db(spec, samples=samples)
    return Views(target, target, noise, anchors, torch.full((samples,), paired))


@pytest.mark.parametrize("norm_pix", [True, False])
def test_errors_of_trivial_predictors_are_those_of_plain_arithmetic(norm_pix):
    spec = tiny_spec(norm_pix=norm_pix)
    model, views = tiny_model(spec), views_of(spec)
    views.target_db[0, :, 4:6] = float("nan")
    values = dict(check_reconstruction(model, [views]).values)
    target = (views.target_db - model.normalise.mean_db[:, None, None]) / model.normalise.std_db[:, None, None]
    target = target.numpy().astype(np.float64)
    masked = mask_by_noise(views.noise, spec.kept, 0).mask.numpy().reshape(-1, 4, 4)
    masked = np.kron(masked, np.ones((8, 8))).astype(bool)[:, None].repeat(2, axis=1)
    seen = np.where(masked, np.nan, target)
    guess = np.nanmean(seen, axis=(2, 3), keepdims=True)
    assert values["masked, mean of the band"] == pytest.approx(np.nanmean(target[masked] ** 2), rel=1e-5)
    by_visible = np.nanmean(((target - guess) ** 2)[masked])
    assert values["masked, mean of the visible patches"] == pytest.approx(by_visible, rel=1e-5)
    tiles = target.reshape(6, 2, 4, 8, 4, 8)
    flat = np.broadcast_to(np.nanmean(tiles, axis=(1, 3, 5), keepdims=True), tiles.shape).reshape(target.shape)
    if norm_pix:
        own = np.nanmean(((target - flat) ** 2)[masked])
        assert values["masked, each patch's own mean"] == pytest.approx(own, rel=1e-5)
    else:
        assert "masked, each patch's own mean" not in values


@pytest.mark.parametrize("target", [*TARGETS, "mix"])
@pytest.mark.parametrize("norm_pix", [True, False])
def test_a_model_that_knows_the_masked_patches_explains_them(norm_pix, target, monkeypatch):
    spec = tiny_spec(norm_pix=norm_pix, target=target)
    model, views = tiny_model(spec), views_of(spec)
    answers = model.answers

    def knows(*given, wrong=0.0):
        _, targets = answers(*given)
        return targets.values + wrong, targets

    monkeypatch.setattr(model, "answers", knows)
    check = check_reconstruction(model, [views, views])
    values = dict(check.values)
    assert values["masked patches"] == pytest.approx(0, abs=1e-9)
    assert values["share of the error explained on masked patches"] == pytest.approx(1)
    assert "100.0% better" in check.verdict
    assert "12 samples" in check.compared
    monkeypatch.setattr(model, "answers", partial(knows, wrong=100.0))
    assert "worse" in check_reconstruction(model, [views]).verdict


# ---- pairs ----


def pieces(samples=12):
    spec = tiny_spec()
    return tiny_model(spec), Projector(spec.width, 24, 10, seed=1), views_of(spec, samples=samples)


def test_a_projector_that_meets_the_teacher_knows_its_partners():
    model, projector, views = pieces()
    with torch.no_grad():
        out = model(views.input_db, views.target_db, views.noise)
        anchors = torch.zeros(12, 16, 10)
        anchors.scatter_(1, out.ids_keep[:, :, None].expand(-1, -1, 10), projector(out.visible))
    values, check = asked_pairs(model, projector, views._replace(anchors=anchors))
    assert values["cosine, own partner"] == pytest.approx(1, abs=1e-5)
    assert values["centred cosine, own partner"] == pytest.approx(1, abs=1e-5)
    assert values["share of tokens nearer to their own partner"] == 1
    assert check.verdict.startswith("Features match their own partner")


def test_a_constant_is_no_evidence_however_high_its_cosine():
    model, projector, views = pieces()
    draws = torch.Generator().manual_seed(4)
    with torch.no_grad():
        projector.second.bias.fill_(5.0)
    anchors = 3.0 + 0.3 * torch.randn(12, 16, 10, generator=draws)
    values, check = asked_pairs(model, projector, views._replace(anchors=anchors))
    assert values["cosine, own partner"] > 0.95
    assert values["cosine, a constant to the partners"] > 0.95
    assert abs(values["centred cosine, own partner"]) < 0.2
    assert check.verdict.startswith("Features do not match their own partner")


def test_unpaired_samples_and_too_few_pairs_are_not_asked():
    model, projector, views = pieces()
    anchors = torch.randn(12, 16, 10, generator=torch.Generator().manual_seed(4))
    anchors[7:] = 1e6
    paired = torch.arange(12) < 7
    values, check = asked_pairs(model, projector, views._replace(anchors=anchors, paired=paired))
    assert not values
    assert "7 paired samples, 8 needed" in check.verdict
    twice = views._replace(anchors=anchors, paired=paired)
    assert dict(check_pairs(model, projector, [twice, twice]).values)["cosine, own partner"] < 1
    assert "14 samples" in check_pairs(model, projector, [twice, twice]).compared
    assert "0 paired" in asked_pairs(model, projector, views._replace(paired=paired & False))[1].verdict


def asked_pairs(model, projector, views):
    check = check_pairs(model, projector, [views])
    return dict(check.values), check


# ---- runs ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run with a teacher on a small store, and its store."""
    root = tmp_path_factory.mktemp("quick")
    store = training_store(root / "store")
    config = small_config(
        store,
        model={"patch_px": 16, "mask_ratio": 0.5},
        sarc={"teacher": "linear_patch", "hidden": 16},
        train={"steps": 3, "checkpoint_every": 3},
    )
    train(config, root / "run")
    return root / "run", store


def test_a_run_answers_all_three_and_the_same_for_the_same_seed(trained):
    run, store = trained
    checks, again, other = (quick_checks(run, [str(store.root)], seed, CPU) for seed in (0, 0, 1))
    assert [check.name for check in checks] == ["injected speckle", "reconstruction", "optical pairs"]
    assert all(np.isfinite([value for _, value in check.values]).all() for check in checks)
    assert all(check.values and check.compared.endswith("(train split)") for check in checks)
    assert "20 samples" in checks[2].compared  # of 22, two have no partner
    assert checks == again
    assert checks != other


def test_a_run_without_teacher_or_speckle_is_not_asked_for_them(trained, tmp_path):
    _, store = trained
    config = small_config(store, sare={"speckle": "none"}, train={"steps": 1, "checkpoint_every": 1})
    train(config, tmp_path / "run")
    speckled, reconstructed, pairs = quick_checks(tmp_path / "run", [str(store.root)], 0, CPU)
    assert "injects no speckle" in speckled.verdict
    assert "sarc.teacher = none" in pairs.verdict
    assert reconstructed.values
    assert not speckled.values
    assert not pairs.values


def test_a_teacher_that_is_not_at_hand_is_reported_and_stops_nothing(trained, monkeypatch):
    def absent(config, device):
        raise CheckpointError("no weights here")

    monkeypatch.setattr("sarmae.evaluate.quick.checks.open_anchors", absent)
    pairs = quick_checks(trained[0], [str(trained[1].root)], 0, CPU)[2]
    assert not pairs.values
    assert "no weights here" in pairs.verdict


def test_no_run_and_no_store_are_reported(trained, tmp_path):
    with pytest.raises(CheckpointError, match="no such folder"):
        quick_checks(tmp_path / "nothing", [str(trained[1].root)], 0, CPU)
    with pytest.raises(ConfigError, match="no store to look at"):
        quick_checks(trained[0], [], 0, CPU)
