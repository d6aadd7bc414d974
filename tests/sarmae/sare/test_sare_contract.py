"""What a sample's speckle depends on, what happens at the edges, and what is refused."""

from dataclasses import replace

import pytest
import torch

from sar1m.store.errors import ConfigError
from sar1m.store.schema import SAR_FLOOR_DB
from sarmae.config import SareConfig
from sarmae.sare import Sare
from sarmae.stream.batch import Batch, ImageSpec

MODELS = [
    {"speckle": "gamma"},
    {"speckle": "correlated"},
    {"speckle": "thinning", "target": "complement", "enl": 4.4},
    {"speckle": "correlated_thinning", "target": "complement", "enl": 4.4},
    {"speckle": "lognormal"},
]
PINNED_DB = [-15.408465, -12.929617, -15.987154]
every_model = pytest.mark.parametrize("config", MODELS, ids=lambda config: config["speckle"])


def made_batch(count=6, side=200, epoch=1):
    """Large enough for torch to split a field between threads."""
    generator = torch.Generator().manual_seed(1)
    return Batch(
        sar=torch.randn((count, 2, side, side), generator=generator) * 4 - 14,
        optical=None,
        paired=torch.ones(count, dtype=torch.bool),
        id=torch.randint(0, 2**62, (count,), generator=generator),
        enl=torch.full((count,), 4.4),
        epoch=epoch,
        step=0,
    )


def sare(config, seed=9):
    return Sare(SareConfig(**{"probability": 1.0, **config}), seed=seed)


def spec(units, dtype="uint16"):
    return ImageSpec(
        name="sar",
        labels=("VV", "VH"),
        sample_shape=(2, 8, 8),
        dtype=dtype,
        scale_factor=0.05,
        add_offset=-60.0,
        units=units,
        slots=1,
        codec="none",
    )


@every_model
def test_a_sample_s_speckle_knows_no_neighbour(config):
    model, batch = sare(config), made_batch()
    whole = model(batch)
    for rows in ([3], [5, 1], [4, 3, 2, 1, 0]):
        some = model(batch.select(torch.tensor(rows)))
        assert all(torch.equal(part, all_[rows]) for part, all_ in zip(some, whole, strict=True))
    again = sare(config)(replace(batch, step=77))
    assert all(torch.equal(*pair) for pair in zip(again, whole, strict=True))


@every_model
def test_threads_change_no_bit(config):
    model, batch, threads = sare(config), made_batch(count=2), torch.get_num_threads()
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            found.append(model(batch)[0])
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@every_model
def test_one_sample_at_a_time_gives_the_bits_of_all_at_once(config):
    """The way of an accelerator, followed here on the CPU: rows of silence in place of branches."""
    model, batch = sare({**config, "probability": 0.5}), made_batch()
    tables = model._on(batch.sar.device)
    rows = model._draw_rows(batch, tables)
    assert 0 < int((rows == 0).sum()) < len(batch)
    positions = model._positions(batch, slice(0, len(batch)), tables, rows)
    at_once = torch.empty_like(batch.sar)
    model._apply(batch.sar, tables.on_input, positions, at_once)
    assert torch.equal(at_once, model(batch)[0])


@every_model
def test_seed_and_epoch_count(config):
    first = sare(config)(made_batch())[0]
    assert not torch.equal(sare(config)(made_batch(epoch=2))[0], first)
    assert not torch.equal(sare(config, seed=10)(made_batch())[0], first)


def test_the_speckle_of_a_key_stays_what_it_is():
    # a run that goes on meets the noise it would have met: this changes with a new major version only
    batch = replace(made_batch(count=1, side=4), id=torch.tensor([2**61 + 5]), sar=torch.full((1, 2, 4, 4), -14.0))
    assert sare(MODELS[0])(batch)[0][0, 1, 2, 1:].tolist() == pytest.approx(PINNED_DB, abs=1e-3)


@every_model
def test_no_data_stays_no_data_and_nothing_else_is_lost(config):
    batch = made_batch()
    batch.sar[0] = torch.nan
    batch.sar[1, 0, 3:9] = torch.nan
    empty = torch.isnan(batch.sar)
    for part in sare(config)(batch):
        assert torch.equal(torch.isnan(part), empty)
        assert bool(torch.isfinite(part[~empty]).all())


@every_model
def test_decibels_end_at_the_floor_of_the_store(config):
    batch = made_batch()
    batch.sar = torch.full_like(batch.sar, SAR_FLOOR_DB + 0.05)
    speckled, target = sare(config)(batch)
    assert float(speckled.min()) == SAR_FLOOR_DB
    assert float(target.min()) >= SAR_FLOOR_DB


def test_half_of_the_samples_get_speckle_where_no_key_says_otherwise():
    """The paper's share, so that every run also sees images as they are. Source: SARMAE, section on SARE."""
    batch = made_batch(count=200, side=8)
    speckled, _ = Sare(SareConfig(), seed=9)(batch)
    touched = (speckled != batch.sar).flatten(1).any(dim=1)
    assert float(touched.double().mean()) == pytest.approx(0.5, abs=0.11)  # three standard errors


@every_model
def test_probability_is_of_samples(config):
    batch = made_batch(count=2000, side=4)
    before = batch.sar.clone()
    speckled, target = sare({**config, "probability": 0.25})(batch)
    touched = (speckled != before).flatten(1).any(dim=1)
    assert int(touched.sum()) == pytest.approx(500, abs=97)  # five standard deviations
    assert torch.equal(speckled[~touched], before[~touched])
    assert torch.equal(target[~touched], before[~touched])
    assert torch.equal(batch.sar, before)
    assert torch.equal(sare({**config, "probability": 0})(batch)[0], before)


def test_none_and_clean_targets_are_the_very_tensors():
    batch = made_batch()
    speckled, target = sare({"speckle": "none"})(batch)
    assert speckled is batch.sar
    assert target is batch.sar
    assert sare({"speckle": "gamma"})(batch)[1] is batch.sar


def test_an_empty_batch_stays_empty():
    batch = made_batch().select(torch.zeros(0, dtype=torch.int64))
    assert [part.shape for part in sare(MODELS[2])(batch)] == [(0, 2, 200, 200)] * 2


@every_model
def test_physics_is_refused_on_display_pictures(config):
    if config["speckle"] == "lognormal":
        Sare(SareConfig(**config), seed=1, units="1").check(spec("1", "uint8"))
        with pytest.raises(ConfigError, match="units 'dB'"):
            Sare(SareConfig(**config), seed=1, units="1").check(spec("dB"))
    else:
        with pytest.raises(ConfigError, match="lognormal, none"):
            Sare(SareConfig(**config), seed=1, units="1")
    sare(config).check(spec("dB"))
    with pytest.raises(ConfigError, match=r"'sar' in units '1'; dB expected"):
        sare(config).check(spec("1", "uint8"))
    sare({"speckle": "none"}).check(spec("1", "uint8"))


def test_lognormal_multiplies_brightness_without_limits():
    batch = made_batch(count=40)
    batch.sar = torch.full_like(batch.sar, 250.0)
    speckled, _ = Sare(SareConfig(speckle="lognormal", probability=1.0), seed=9, units="1")(batch)
    decibels, _ = sare({"speckle": "lognormal"})(replace(batch, sar=torch.zeros_like(batch.sar)))
    assert torch.allclose(speckled / 250, 10 ** (decibels / 10), rtol=1e-5)
    assert float(speckled.max()) > 255


def test_digital_numbers_are_refused():
    batch = made_batch()
    with pytest.raises(ConfigError, match="Dequantise"):
        sare(MODELS[0])(replace(batch, sar=batch.sar.to(torch.int32)))


def test_settings_that_could_not_act_are_refused():
    with pytest.raises(ValueError, match="goes with a thinning model"):
        SareConfig(speckle="gamma", target="complement")
    with pytest.raises(ConfigError, match="cannot be thinned"):
        sare({"speckle": "thinning", "enl": 4.4, "min_looks": 4})
