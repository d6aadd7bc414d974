"""Targets of masked patches: against plain loops, closed forms and what speckle does to them."""

import math

import numpy as np
import pytest
import torch

from sar1m.store.errors import ConfigError
from sarmae.model.patches import to_images
from sarmae.model.spec import HOG_BINS, RATIO_SIZES_PX, TARGETS, ModelSpec
from sarmae.model.targets import LOWPASS_PX, make_targets
from sarmae.stream.normalise import Normalise
from sarmae.train.target_drift import DRIFTS, target_drift
from support.tiny_models import tiny_model, tiny_spec

KINDS = (*TARGETS, "mix")


def images(spec, key=0, *, missing=0.1):
    rng = np.random.default_rng(key)
    side, bands = spec.image_px, len(spec.polarisations)
    image = rng.normal(-12, 4, (2, bands, side, side)) + np.linspace(0, 6, side)
    image[rng.random(image.shape) < missing] = np.nan
    image[0, 0, :9, :14] = np.nan
    return torch.tensor(image, dtype=torch.float32)


def every(spec, batch=2):
    return torch.arange(spec.patches).expand(batch, -1)


def maps_of(values, places):
    """(B, features, n, n) of targets of all patches."""
    return to_images(values, places).numpy()


def window_mean(image_db, rows, cols, whole):
    part = image_db[max(rows[0], 0) : max(rows[1], 0), max(cols[0], 0) : max(cols[1], 0)]
    good = part[~np.isnan(part)].astype(np.float64)
    return np.mean(10 ** (good / 10)) if len(good) >= 0.25 * whole else np.nan


def plain_lowpass(image_db, row, col):
    half = LOWPASS_PX // 2
    return 10 * np.log10(
        window_mean(image_db, (row - half, row + half + 1), (col - half, col + half + 1), LOWPASS_PX**2)
    )


def plain_ratios(image_db, row, col):
    """By size: along rows, along columns."""
    ratios = []
    for size in RATIO_SIZES_PX:
        half = size // 2
        before, after, across = (-half, 0), (1, half + 1), (-half, half + 1)
        for axis in (0, 1):
            means = []
            for side in (before, after):
                rows, cols = (side, across) if axis == 0 else (across, side)
                where = [(ends[0] + at, ends[1] + at) for ends, at in ((rows, row), (cols, col))]
                means.append(window_mean(image_db, *where, half * size))
            ratios.append(np.log(means[0] / means[1]))
    return ratios


def plain_histogram(image, top, left, side):
    """Of a cell of a normalised picture, (H, W), NaN without data."""
    votes, seen = np.zeros(HOG_BINS), 0
    for row in range(top, top + side):
        for col in range(left, left + side):
            if 0 < row < len(image) - 1 and 0 < col < len(image) - 1:
                down, right = image[row + 1, col] - image[row - 1, col], image[row, col + 1] - image[row, col - 1]
                if not np.isnan(down + right):
                    seen += 1
                    place = (math.atan2(down, right) % math.pi) / math.pi * HOG_BINS
                    share = place - math.floor(place)
                    votes[int(place) % HOG_BINS] += (1 - share) * math.hypot(down, right)
                    votes[(int(place) + 1) % HOG_BINS] += share * math.hypot(down, right)
    votes /= side**2
    return votes / (np.linalg.norm(votes) + 1e-3) if seen >= 0.25 * side**2 else np.full(HOG_BINS, np.nan)


@pytest.mark.parametrize("changed", [{}, {"patch_px": 16, "image_px": 48, "polarisations": ("HH",)}])
def test_lowpass_and_ratios_are_those_of_plain_loops(changed):
    for kind in ("lowpass", "log_ratio"):
        spec = tiny_spec(target=kind, norm_pix=False, **changed)
        model, given = tiny_model(spec), images(spec)
        values, valid = model.targets(given, every(spec))
        got, there = (maps_of(part, spec.places) for part in (values, valid))
        side, bands = spec.patch_px // spec.places, len(spec.polarisations)
        mean_db, std_db = model.normalise.mean_db.numpy(), model.normalise.std_db.numpy()
        for sample, band in np.ndindex(2, bands):
            for row, col in np.ndindex(got.shape[2:]):
                at = (row * side + side // 2, col * side + side // 2)
                picture = given[sample, band].numpy()
                if kind == "lowpass":
                    expected = [(plain_lowpass(picture, *at) - mean_db[band]) / std_db[band]]
                else:
                    expected = plain_ratios(picture, *at)
                found = np.where(there, got, np.nan)[sample, band::bands, row, col]
                assert found == pytest.approx(expected, abs=2e-5, nan_ok=True)


def test_histograms_are_those_of_plain_loops():
    spec = tiny_spec(target="hog")
    model, given = tiny_model(spec), images(spec)
    values, valid = model.targets(given, every(spec))
    found = np.where(*(maps_of(part, spec.hog_cells) for part in (valid, values)), np.nan)
    picture = np.where(given.isnan(), np.nan, model.normalise(given))
    side = spec.patch_px // spec.hog_cells
    for sample, band, row, col in np.ndindex(2, 2, *found.shape[2:]):
        expected = plain_histogram(picture[sample, band], row * side, col * side, side)
        ours = found[sample, band * HOG_BINS : (band + 1) * HOG_BINS, row, col]
        assert ours == pytest.approx(expected, abs=1e-5, nan_ok=True)


def test_a_step_gives_its_own_ratio_whatever_the_gain():
    """10 dB from column 16 on: the window before a place just left of it over the one after it is a tenth."""
    spec = ModelSpec(image_px=32, patch_px=16, target="log_ratio", polarisations=("VV",))
    picture = torch.full((1, 1, 32, 32), -15.0)
    picture[..., 15:] += 10
    normalise = Normalise([-12.0], [4.0])
    values, valid = make_targets(picture, every(spec, 1), spec, normalise)
    louder, _ = make_targets(picture + 25, every(spec, 1), spec, normalise)
    torch.testing.assert_close(values, louder, atol=1e-5, rtol=0)
    maps = to_images(values, 4)[0]
    down, right = maps[::2], maps[1::2]
    assert down.abs().max() < 1e-6
    assert right[:, 4, 3].tolist() == pytest.approx([-math.log(10)] * 3, abs=1e-5)  # centred on column 14
    assert valid.any()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_valid_is_no_matter(kind):
    """Loss and gradients are finite, the loss counts the valid values, and of nothing nothing is asked."""
    spec = tiny_spec(target=kind, mix=(1, 2, 3, 4))
    model, given = tiny_model(spec), images(spec)
    noise = torch.rand(2, spec.patches, generator=torch.Generator().manual_seed(1))
    out = model(given, given, noise)
    out.loss.backward()
    assert torch.isfinite(out.loss)
    assert all(torch.isfinite(weight.grad).all() for weight in model.parameters() if weight.requires_grad)
    assert out.prediction.shape == (2, spec.decoded, spec.target_values)
    values, valid = model.targets(given, out.ids_decode)
    assert values.shape == valid.shape == out.prediction.shape
    assert int(out.values) == int(valid.sum())
    nothing = torch.full_like(given, torch.nan)
    assert float(model(given, nothing, noise).loss.detach()) == 0


def test_a_mix_weighs_the_parts_own_errors():
    weights = (1.0, 0.0, 3.0, 0.5)
    spec = tiny_spec(target="mix", mix=weights)
    given = images(spec, missing=0.0)[1:]
    model = tiny_model(spec)
    values, valid = model.targets(given, every(spec, 1))
    assert valid[:, spec.grid + 1].all()
    inner = values[:, spec.grid + 1 : spec.grid + 2]
    means, start = [], 0
    for name in spec.target_parts:
        alone = tiny_model(tiny_spec(target=name)).targets(given, every(spec, 1)).values
        own = alone[:, spec.grid + 1 : spec.grid + 2]
        part = inner[..., start : start + own.shape[2]]
        torch.testing.assert_close(part, own * spec.part_scale(name))
        start += own.shape[2]
        means.append(float(own.square().mean()))
    assert start == spec.target_values
    expected = np.average(means, weights=[weight for weight in weights if weight])
    assert float(inner.square().mean()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_predictions_in_the_targets_own_unit(kind):
    spec = tiny_spec(target=kind, mix=(0, 1, 1, 0))
    model, given = tiny_model(spec), images(spec)
    noise = torch.rand(2, spec.patches, generator=torch.Generator().manual_seed(1))
    answer, (wanted, valid) = model.answers(given, given, noise)
    assert answer.shape == wanted.shape == valid.shape == (2, spec.patches, spec.part_values(spec.target_parts[0]))
    if spec.target_parts[0] != "pixel":
        with pytest.raises(ConfigError, match="no pixels to reconstruct"):
            model.reconstruct(given, given, noise)


def test_speckle_moves_wide_ratios_less_than_pixels():
    """The drift falls with the looks. A flat scene's pixels and ratios are speckle alone; structure steadies both."""
    smooth = torch.nn.functional.interpolate(
        torch.randn(4, 2, 6, 6, generator=torch.Generator().manual_seed(0)) * 6 - 12, size=(64, 64), mode="bicubic"
    )
    drifts = {}
    for kind in ("pixel", "lowpass", "log_ratio"):
        model = tiny_model(tiny_spec(image_px=64, target=kind, norm_pix=False))
        drifts[kind] = list(target_drift(model, smooth, seed=3).values())
        assert drifts[kind] == sorted(drifts[kind], reverse=True)
        assert list(target_drift(model, smooth, seed=3)) == list(DRIFTS.values())
    assert drifts["log_ratio"][0] < 0.3 * drifts["pixel"][0]
    assert drifts["lowpass"][0] < 0.3 * drifts["pixel"][0]


def test_the_drift_of_pixels_is_the_variance_of_speckle_in_decibels():
    """Closed form: the variance of 10 log10 of Gamma(L, 1/L) plus its squared mean, over the variance of the scene."""
    scene = torch.randn(8, 2, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 12
    model = tiny_model(tiny_spec(image_px=64, norm_pix=False))
    model.normalise = Normalise([-12.0, -12.0], [4.0, 4.0])
    for looks, found in zip(DRIFTS, target_drift(model, scene, seed=1).values(), strict=True):
        decibel = (10 / math.log(10)) ** 2
        trigamma = sum(1 / (looks + n) ** 2 for n in range(100_000))
        bias = float(torch.digamma(torch.tensor(float(looks), dtype=torch.float64))) - math.log(looks)
        assert found == pytest.approx(decibel * (trigamma + bias**2) / 16, rel=0.03)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"target": "ratio"}, "expected one of pixel, lowpass, log_ratio, hog and mix"),
        ({"target": "mix", "mix": (0, 0, 0, 0)}, "at least one above 0"),
        ({"target": "mix", "mix": (1, 1)}, "one weight for each of pixel, lowpass, log_ratio, hog"),
        ({"target": "mix", "mix": (1, -1, 0, 0)}, "none negative"),
    ],
)
def test_targets_that_are_none_are_refused(changed, message):
    with pytest.raises(ConfigError, match=message):
        ModelSpec(**changed)
