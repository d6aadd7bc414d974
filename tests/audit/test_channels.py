"""Which numbers of a picture are registered: power of SAR in closed form, optical bands in the order of wavelength."""

import re

import numpy as np
import pytest

from sar1m.audit.channels import TYPICAL_POWER, optical_channels, sar_channels
from sar1m.io.picture import read_picture
from sar1m.store.errors import ConfigError, SourceError
from support.known_pairs import write_raster

WHOLE = (0, 0, 30, 40)


def numbers(dtype=np.float32, bands=1, low=1, high=200):
    return np.random.default_rng(1).integers(low, high, (bands, 30, 40)).astype(dtype)


def picture(tmp_path, values, **options):
    return read_picture(write_raster(tmp_path / "one.tif", values, **options))


def test_decibels_that_the_file_states_become_power_also_where_none_is_negative(tmp_path):
    values = numbers(high=40)
    found = sar_channels(picture(tmp_path, values, units=["dB"]), "auto")
    np.testing.assert_allclose(found.values(*WHOLE), 10 ** (values / 10), rtol=1e-5)


def test_decibels_are_known_by_negative_numbers_with_their_scale_applied(tmp_path):
    values = numbers(np.int16, low=-2500, high=-500)
    found = sar_channels(picture(tmp_path, values, scales=[0.01]), "auto")
    np.testing.assert_allclose(found.values(*WHOLE), 10 ** (values / 1000.0), rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "unit", "power"), [("uint8", "auto", 2), ("float32", "auto", 1), ("float32", "amplitude", 2)]
)
def test_numbers_without_a_unit_are_amplitudes_or_power_scaled_to_a_usual_mean(tmp_path, dtype, unit, power):
    values = numbers(dtype)
    found = sar_channels(picture(tmp_path, values), unit).values(*WHOLE)
    expected = values.astype(float) ** power
    np.testing.assert_allclose(found, TYPICAL_POWER * expected / expected.mean(), rtol=1e-5)


def test_missing_pixels_are_no_power(tmp_path):
    values = numbers(np.uint8)
    values[0, 3, 4] = 0
    found = sar_channels(picture(tmp_path, values, nodata=0), "auto").values(*WHOLE)
    assert np.argwhere(np.isnan(found)).tolist() == [[0, 3, 4]]


@pytest.mark.filterwarnings("error")
def test_a_picture_without_any_data_has_no_power_and_no_warning(tmp_path):
    found = sar_channels(picture(tmp_path, np.full_like(numbers(), np.nan)), "auto").values(*WHOLE)
    assert np.isnan(found).all()


@pytest.mark.parametrize(
    ("values", "options", "unit", "words"),
    [
        (numbers(), {"units": ["dB"]}, "linear", "states its values as db"),
        (numbers(), {"units": ["m"]}, "auto", "states the unit m"),
        (numbers(np.int16, low=-2500, high=-500), {}, "auto", "neither decibels nor power"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, values, options, unit, words):
    with pytest.raises(SourceError, match=words):
        sar_channels(picture(tmp_path, values, **options), unit)


@pytest.mark.parametrize(
    ("values", "options", "unit", "words"),
    [
        (
            numbers() / np.float32(200),
            {"units": ["dB"]},
            "auto",
            "decibels are stated.* 0.0.* to .*Are they linear power",
        ),
        (numbers() / np.float32(200), {}, "db", "decibels are stated"),
        (numbers(high=150) - np.float32(300), {}, "db", "decibels are stated, and its numbers run from -29"),
        (-numbers(high=30), {}, "linear", "linear power is stated.*Are they decibels"),
        (-numbers(high=30), {"units": ["1"]}, "auto", "linear power is stated.*Are they decibels"),
        (numbers(np.uint8), {}, "linear", "in 8 bits.*Are they amplitudes"),
        (-numbers(high=30), {}, "amplitude", "no amplitude is negative"),
    ],
)
def test_a_stated_unit_that_the_numbers_contradict_is_doubted_in_words(tmp_path, values, options, unit, words):
    found = sar_channels(picture(tmp_path, values, **options), unit)
    assert re.search(words, found.doubt)
    assert found.doubt.startswith(str(tmp_path / "one.tif"))


@pytest.mark.parametrize(
    ("values", "options", "unit"),
    [
        (-numbers(high=30), {"units": ["dB"]}, "auto"),
        (numbers() / np.float32(200) - np.float32(0.01), {}, "linear"),
        (numbers(np.uint8), {}, "amplitude"),
        (numbers(np.uint8), {"scales": [0.001]}, "linear"),
        (numbers(np.uint8), {}, "auto"),
        (np.full_like(numbers(), np.nan), {}, "db"),
    ],
)
def test_a_unit_that_fits_and_one_that_nobody_stated_are_not_doubted(tmp_path, values, options, unit):
    assert sar_channels(picture(tmp_path, values, **options), unit).doubt == ""


def test_equal_channels_count_once_and_no_more_than_two_polarisations(tmp_path):
    one, two, three = (numbers(np.uint8, high=200 - step)[0] for step in range(3))
    assert sar_channels(picture(tmp_path, np.stack([one, one, one])), "auto").bands == (0,)
    assert sar_channels(picture(tmp_path, np.stack([one, two, three])), "auto").bands == (0, 1)


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        (1, {}, (0,)),
        (3, {}, (2, 1, 0)),
        (4, {"photometric": "RGB"}, (2, 1, 0, 3)),
        (4, {}, (0, 1, 2, 3)),
        (12, {}, (1, 2, 3, 7)),
        (13, {}, (1, 2, 3, 7)),
        (5, {"descriptions": ["B8", "red", "SCL", "B03", "blue"]}, (4, 3, 1, 0)),
    ],
)
def test_optical_bands_stand_in_the_order_of_their_wavelength(tmp_path, count, options, expected):
    values = np.stack([numbers(np.uint16, high=500 + step)[0] for step in range(count)])
    assert optical_channels(picture(tmp_path, values, **options), None).bands == expected


def test_bands_that_nobody_names_are_asked_for(tmp_path):
    values = np.stack([numbers(np.uint16, high=500 + step)[0] for step in range(7)])
    many = picture(tmp_path, values)
    with pytest.raises(SourceError, match="--optical-bands"):
        optical_channels(many, None)
    assert optical_channels(many, (7, 2)).bands == (6, 1)
    with pytest.raises(ConfigError, match="not 8"):
        optical_channels(many, (1, 8))
