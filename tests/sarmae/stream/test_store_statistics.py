"""Statistics of a store and the normalisation made of them."""

import json
import math

import pytest
import torch

from sar1m.store.errors import ConfigError, StoreError
from sar1m.store.places.folder import FolderPlace
from sarmae.stream.band_statistics import NORMALISATION_FILE, read_statistics
from sarmae.stream.normalise import Normalise

GOOD = {
    "basis": "train",
    "samples": 99,
    "sar": {"VH": {"mean_db": -19.3, "std_db": 8.8}, "VV": {"mean_db": -11.4, "std_db": 5}},
    "optical": {},
}


def store(tmp_path, content):
    path = tmp_path / NORMALISATION_FILE
    path.parent.mkdir()
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return FolderPlace(tmp_path)


def test_bands_come_in_the_order_asked_for(tmp_path):
    found = read_statistics(store(tmp_path, GOOD), ("VV", "VH"))
    assert found.mean_db == (-11.4, -19.3)
    assert found.std_db == (5.0, 8.8)
    assert (found.basis, found.samples, found.polarisations) == ("train", 99, ("VV", "VH"))


def test_a_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(StoreError, match=r"normalisation\.json.*training configuration"):
        read_statistics(FolderPlace(tmp_path), ("VV",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "nests deeper"),
        ("[]", "an object expected, found list"),
        ('{"sar": 3}', "sar: an object expected"),
        ({"sar": {"VV": None}}, "sar.VV: an object expected"),
        ({"sar": {"VV": {"std_db": 5}}}, "mean_db is None"),
        ({"sar": {"VV": {"mean_db": -11, "std_db": 0}}}, "std_db is 0; a positive number"),
        ({"sar": {"VV": {"mean_db": -11, "std_db": -1.0}}}, "std_db is -1.0"),
        ({"sar": {"VV": {"mean_db": math.nan, "std_db": 5}}}, "mean_db is nan"),
        ({"sar": {"VV": {"mean_db": math.inf, "std_db": 5}}}, "mean_db is inf"),
        ({"sar": {"VV": {"mean_db": 10**400, "std_db": 5}}}, "holds the integer 1000"),
        ({"sar": {"VV": {"mean_db": True, "std_db": 5}}}, "mean_db is True"),
        ({"sar": {"VV": {"mean_db": "-11", "std_db": 5}}}, "mean_db is '-11'"),
        (" " * (1 << 20) + "{}", "more than 1048576 bytes"),
    ],
)
def test_impossible_statistics_are_refused_by_name(tmp_path, content, message):
    with pytest.raises(StoreError, match=message) as caught:
        read_statistics(store(tmp_path, content), ("VV",))
    assert "normalisation.json" in str(caught.value)


@pytest.mark.parametrize("asked", [("VV", "HH"), ()])
def test_unknown_polarisations_are_named(tmp_path, asked):
    with pytest.raises(ConfigError, match="it has VH, VV"):
        read_statistics(store(tmp_path, GOOD), asked)


def test_normalised_bands_and_the_way_back():
    normalise = Normalise((-11.0, -19.0), (5.0, 8.0))
    db = torch.tensor([-11.0, -1.0, -27.0]).repeat(2, 2, 4, 1)
    normalised = normalise(db)
    assert normalised[0, 0, 0].tolist() == pytest.approx([0.0, 2.0, -3.2])
    assert normalised[1, 1, 3].tolist() == pytest.approx([1.0, 2.25, -1.0])
    assert torch.allclose(normalise.denormalise(normalised), db, atol=1e-5)


def test_no_data_is_0():
    normalise = Normalise((-11.0,), (5.0,))
    db = torch.tensor([[[[-11.0, math.nan], [-6.0, math.nan]]]])
    assert normalise(db).tolist() == [[[[0.0, 0.0], [1.0, 0.0]]]]


def test_constants_travel_in_the_state_dict():
    saved = Normalise((-11.0, -19.0), (5.0, 8.0)).state_dict()
    assert set(saved) == {"mean_db", "std_db"}
    other = Normalise((0.0, 0.0), (1.0, 1.0))
    other.load_state_dict(saved)
    assert other.mean_db.tolist() == [-11.0, -19.0]
    assert not list(other.parameters())


@pytest.mark.parametrize(
    ("mean_db", "std_db"),
    [((), ()), ((1.0,), (1.0, 2.0)), ((1.0,), (0.0,)), ((1.0,), (-1.0,)), ((math.nan,), (1.0,)), ((1.0,), (math.inf,))],
)
def test_impossible_constants_are_refused(mean_db, std_db):
    with pytest.raises(ConfigError, match="positive standard deviation"):
        Normalise(mean_db, std_db)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 4, 4), (2, 4, 4)])
def test_another_number_of_bands_is_refused(shape):
    with pytest.raises(ConfigError, match=r"\(batch, 2, rows, columns\)"):
        Normalise((-11.0, -19.0), (5.0, 8.0))(torch.zeros(shape))
