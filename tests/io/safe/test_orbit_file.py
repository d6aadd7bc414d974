"""Orbit files: chosen by name, read, cut to the scene."""

import zipfile
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from sar1m.io.safe.orbit_file import find_orbit, read_orbit
from sar1m.io.safe.product import read_product
from sar1m.store.errors import SourceError
from support.safe_factory import SafeRecipe, state_vectors, write_orbit_file, write_safe

RECIPE = SafeRecipe(polarisations=("VV",))


@pytest.fixture(scope="module")
def product(tmp_path_factory):
    return read_product(write_safe(tmp_path_factory.mktemp("product"), RECIPE))


def read(path, product):
    return read_orbit(path, product.start, product.stop, product.geometry.epoch)


def test_vectors_are_what_was_written_from_a_minute_before_to_a_minute_after(tmp_path, product):
    orbit = read(write_orbit_file(tmp_path, RECIPE), product)
    position_m, velocity_m_s = state_vectors(orbit.time_s)
    np.testing.assert_allclose(orbit.time_s, np.arange(-50.153776, 60, 10), atol=1e-9)
    np.testing.assert_allclose(orbit.position_m, position_m, atol=1e-6)
    np.testing.assert_allclose(orbit.velocity_m_s, velocity_m_s, atol=1e-6)
    assert orbit.source.endswith(".EOF")


def test_a_zipped_file_reads_the_same(tmp_path, product):
    plain = write_orbit_file(tmp_path, RECIPE)
    packed = tmp_path / f"{plain.name}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(plain, plain.name)
    np.testing.assert_array_equal(read(packed, product).position_m, read(plain, product).position_m)
    plain.unlink()
    assert find_orbit(tmp_path, product) == packed


def test_precise_comes_before_restituted_and_newest_first(tmp_path, product):
    restituted = write_orbit_file(tmp_path, RECIPE, kind="RESORB", created="20220101T000000")
    assert find_orbit(tmp_path, product) == restituted
    older = write_orbit_file(tmp_path, RECIPE, created="20210829T122310")
    assert find_orbit(tmp_path, product) == older
    newer = write_orbit_file(tmp_path, RECIPE, created="20210830T000000")
    assert find_orbit(tmp_path, product) == newer


def test_files_of_another_platform_or_time_are_no_help(tmp_path, product):
    write_orbit_file(tmp_path, replace(RECIPE, platform="S1B"))
    write_orbit_file(tmp_path, replace(RECIPE, start=RECIPE.start + timedelta(days=1)))
    write_orbit_file(tmp_path, replace(RECIPE, start=RECIPE.start + timedelta(seconds=200)))
    (tmp_path / "notes.txt").write_text("x")
    assert find_orbit(tmp_path, product) is None
    with pytest.raises(SourceError, match="cannot be listed"):
        find_orbit(tmp_path / "nothing", product)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EARTH_FIXED", "TRUE_OF_DATE", "Ref_Frame: found 'TRUE_OF_DATE'; expected EARTH_FIXED"),
        (
            "UTC=2021-08-09T17:39:53",
            "UTC=2021-08-09T17:39:99",
            "UTC: found '2021-08-09T17:39:99.000000'; expected a UTC",
        ),
        ("UTC=2021-08-09T17:39:53", "UTC=2021-08-09T17:40:53", "List_of_OSVs: found record"),
        ("UTC=2021-08", "UTC=2020-08", "List_of_OSVs: found 0 state vectors around"),
        ("</X>", "e9</X>", "X: found"),
        ('count="60"', 'count="61"', "60 elements but count '61'"),
        ("Earth_Explorer_File", "Other", "found <Other>; expected <Earth_Explorer_File>"),
    ],
)
def test_damage_is_named(tmp_path, product, old, new, message):
    path = write_orbit_file(tmp_path, RECIPE)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(SourceError, match=message) as refused:
        read(path, product)
    assert str(path) in str(refused.value)


def test_a_zip_without_an_orbit_file_and_a_missing_one_are_named(tmp_path, product):
    with zipfile.ZipFile(tmp_path / "x.EOF.zip", "w") as archive:
        archive.writestr("readme", b"x")
    with pytest.raises(SourceError, match=r"x\.EOF\.zip: 0 readable members"):
        read(tmp_path / "x.EOF.zip", product)
    with pytest.raises(SourceError, match=r"y\.EOF: cannot be read"):
        read(tmp_path / "y.EOF", product)
