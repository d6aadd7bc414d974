"""Stores of other schema versions: every 1.x is read by every reader, a 2.x is refused by each."""

import re

import numpy as np
import pandas as pd
import pytest
import xarray
import zarr
from typer.testing import CliRunner

import sar1m
from sar1m.cli import app
from sar1m.io.tables import read_table
from sar1m.page.build_page import render_report
from sar1m.releases.rebuild import RebuildRequest, rebuild
from sar1m.store.errors import ConfigError, Sar1mError, StoreError
from sar1m.store.schema import SCHEMA_VERSION, display_brightness, optical_encoding
from sar1m.store.table_columns import LATER_COLUMNS
from sarmae.stream.loader import ShardLoader
from sarmae.stream.loader_settings import LoaderSettings
from sarmae.stream.transforms import Dequantise
from support.frozen_stores import resealed, thaw, with_things_to_come
from support.made_releases import lock_of, make_build, marker_of, release
from support.paths import ROOT
from support.tiny_releases import Silence


def loaded(store):
    """Decibels and brightness of all samples, by key, through the trainer's stream."""
    loader = ShardLoader([store], LoaderSettings(global_batch=1, tail="keep", threads=0))
    dequantise = Dequantise(loader.sar, loader.optical)
    values = [dequantise(batch) for batch in loader]
    return {int(one.id): (one.sar[0].numpy(), one.optical[0].numpy()) for one in values}


def run(*arguments):
    """The command line in this process: what it printed, and the error it ended with."""
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(params=["1.0", "1.9"])
def stores(request, tmp_path):
    """Build and release of schema 1.0, and the same with additions of a version to come."""
    build, made = thaw(tmp_path / "frozen")
    if request.param == "1.9":
        with_things_to_come(build), with_things_to_come(made)
    return build, made


def test_the_trainer_decodes_any_1_x_by_the_arrays_own_scale(stores):
    """The oracle is xarray, which knows CF and nothing of ours. What a teacher sees is reflectance 0..0.3 as 0..1."""
    for store in stores:
        found = loaded(store)
        truth = xarray.open_zarr(store / "data/train.zarr", consolidated=False)
        assert sorted(found) == sorted(truth.sample_key.values.tolist())
        for number, key in enumerate(truth.sample_key.values.tolist()):
            sar_db, brightness = found[key]
            np.testing.assert_allclose(sar_db, truth.sar[number].values, atol=1e-4)
            shown = np.clip(truth.optical[number].values / 0.3, 0, 1)
            np.testing.assert_allclose(brightness, shown, atol=1e-6)
            assert 0.02 < brightness.mean() < 0.9


def test_info_verify_report_and_python_read_any_1_x(stores, tmp_path):
    build, made = stores
    for store in stores:
        version = sar1m.open(store).facts["schema_version"]
        assert version in ("1.0", "1.9")
        assert run("info", store).exception is None
        assert sar1m.verify(store, watch=Silence()) == []
        assert sar1m.open(store).split("train").optical.notnull().all()
        assert len(sar1m.open(store).samples()) == 3
    assert "saturated_frac" in render_report(build)
    part = tmp_path / "part"
    assert run("get", made, part, "--shards", "1").exception is None
    assert len(loaded(part)) == 3


def test_a_release_of_a_1_x_build_keeps_its_pixels_and_its_encoding(stores, tmp_path):
    build, former = stores
    made = release([build], tmp_path / "release", version="1.0.1", name="frozen", previous=former).root
    marker = marker_of(made)
    assert marker["schema_version"] == SCHEMA_VERSION
    assert marker["changes"] == {"added": 0, "removed": 0, "changed": 0, "moved": 0}
    assert lock_of(made)["pixel_hash"].equals(lock_of(former)["pixel_hash"])
    array = zarr.open_array(made / "data/train.zarr/optical", mode="r")
    assert (array.dtype, array.attrs["scale_factor"]) == (np.uint8, pytest.approx(0.3 / 254))
    samples = read_table(made / "samples.parquet")
    assert set(LATER_COLUMNS) <= set(samples.columns)
    assert samples[sorted(LATER_COLUMNS)].isna().all(axis=None)
    assert sar1m.verify(made, watch=Silence()) == []
    for key, (sar_db, brightness) in loaded(former).items():
        for there, here in zip((sar_db, brightness), loaded(made)[key], strict=True):
            np.testing.assert_array_equal(there, here)


def test_builds_of_two_minor_versions_go_together_where_their_arrays_do(tmp_path):
    old, _ = thaw(tmp_path / "a")
    same, _ = thaw(tmp_path / "b")
    with_things_to_come(same)
    made = release([old, same], tmp_path / "release").root
    assert marker_of(made)["counts"]["accepted"] == 3
    new = make_build(tmp_path / "new", 1, "grid.patch_px=32", 'name="frozen-1.0"')
    with pytest.raises(ConfigError, match=r"encodings is .*uint(8|16), 0.001.* cannot be one .* build the older one"):
        release([old, new], tmp_path / "mixed")
    with pytest.raises(StoreError, match=r"Schema 1\.0 held reflectance in 8 bits"):
        ShardLoader([old, new], LoaderSettings(global_batch=1))


def test_samples_of_another_encoding_are_not_rebuilt_to_a_false_alarm(tmp_path):
    _, made = thaw(tmp_path)
    with pytest.raises(StoreError, match=r"optical is stored as uint8, 0\.0011811 a step .* writes uint16, 0\.001"):
        rebuild(RebuildRequest(release=made, source="simulated:1", count=1, seed=1), Silence())


READERS = {
    "loader": lambda build, _made, _out: ShardLoader([build], LoaderSettings(global_batch=1)),
    "loader of a release": lambda _build, made, _out: ShardLoader([made], LoaderSettings(global_batch=1)),
    "open": lambda build, _made, _out: sar1m.open(build),
    "open of a release": lambda _build, made, _out: sar1m.open(made),
    "verify": lambda build, _made, _out: sar1m.verify(build, watch=Silence()),
    "verify of a release": lambda _build, made, _out: sar1m.verify(made, watch=Silence()),
    "release": lambda build, _made, out: release([build], out),
    "rebuild": lambda _build, made, _out: rebuild(
        RebuildRequest(release=made, source="simulated:1", count=1, seed=1), Silence()
    ),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("version", ["2.0", "0.9", "11.0", "x", None, 1.0])
def test_another_major_version_is_refused_by_every_reader(tmp_path, reader, version):
    build, made = thaw(tmp_path)
    resealed(build, schema_version=version), resealed(made, schema_version=version)
    with pytest.raises(Sar1mError, match=rf"schema version {re.escape(str(version))}, but .* reads schema 1\.x"):
        READERS[reader](build, made, tmp_path / "out")


def test_another_major_version_is_refused_at_the_command_line(tmp_path):
    """And as the former release: the new one is of 1.x, the one it follows is not."""
    build, made = thaw(tmp_path)
    resealed(made, schema_version="2.0")
    with pytest.raises(StoreError, match=r"schema version 2\.0"):
        release([build], tmp_path / "out", version="1.0.1", name="frozen", previous=made)
    resealed(build, schema_version="2.0")
    for arguments in (
        ("info", build),
        ("report", build),
        ("info", made),
        ("verify", build),
        ("get", made, tmp_path / "copy"),
    ):
        refused = run(*arguments).exception
        assert isinstance(refused, StoreError), arguments
        assert "schema version 2.0" in str(refused)


def test_columns_that_came_later_can_be_empty_and_stand_in_the_table_of_changes():
    table = (ROOT / "dataset_cards/SCHEMA.md").read_text(encoding="utf-8")
    assert LATER_COLUMNS
    for name, column in LATER_COLUMNS.items():
        assert column.nullable, name
        assert re.search(rf"^\| {re.escape(column.since)} \|.*`{name}`", table, re.MULTILINE), name
    assert f"| {SCHEMA_VERSION} |" in table


def test_bright_and_negative_reflectance_keep_their_values():
    """Fresh snow, a bright cloud and the lowest value of baseline 04.00, to half a step; nodata stays nodata."""
    reflectance = np.array([-0.0999, -0.02, 0.0004, 0.3, 0.3004, 0.95, 1.6, 6.5, np.nan], dtype=np.float32)
    for profile, step in (("training", 1e-3), ("archive", 1e-4)):
        encoding = optical_encoding(profile, "reflectance")
        kept = slice(0, -2) if profile == "archive" else slice(0, None)
        back = encoding.decode(encoding.encode(reflectance))
        np.testing.assert_allclose(back[kept], reflectance[kept], atol=step / 2 + 1e-6)
        assert np.isnan(back[-1])
    shown = display_brightness(encoding, encoding.encode(reflectance))
    np.testing.assert_allclose(shown, [0, 0, 0.0004 / 0.3, 1, 1, 1, 1, 1, 0], atol=3e-4)
    assert pd.isna(reflectance[-1])
