"""What a user can hand in that is wrong, and what the command makes of it: a clear line, a row in a table, never half
a store."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import pandas as pd
import pytest
import xarray

from sar1m.store.file_lock import output_lock
from sar1m.store.seal import verify
from sar1m.store.table_columns import CANDIDATE_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS
from support.crash_runner import SMALL_BUILD, in_child, run_build, tree_digest
from support.geotiffs import speckled_db, utm_grid, write_tiff
from support.hang_guard import STUCK_S
from support.paths import SHARED

SIDE = 96  # of a chip: one patch of 64 px with a halo of 16
CHIPS = """
name = "chips"
[grid]
layout = "chips"
patch_px = 64
patches_per_side = 1
halo_px = 16
[registration]
search_px = 8
[screening]
min_dynamic_range_db = 0.5
[balance]
max_unpaired_share = 1.0
"""
NOBODY = 65534
KNOWN_UNPAIRED = {"radiometric_offset", "optical_nodata", "cloud", "residual", "no_optical", "dt"}


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def build(sar1m, tmp_path):
    """Builds from a region into tmp_path/out under the small chip configuration: exit code, stdout, stderr."""
    config = tmp_path / "chips.toml"
    config.write_text(CHIPS)

    def run(region, *more, out=None):
        return sar1m(
            "build", "--region", region, "--config", config, "--workers", 0, "--out", out or tmp_path / "out", *more
        )

    return run


def write_chips(root, rng, names):
    """A folder of chips by modality: names in order, 20 km apart, each with its optical partner."""
    for number, name in enumerate(names):
        grid = utm_grid(SIDE, SIDE, left_m=400_000.0 + 20_000 * number)
        time_tag = {"datetime": "2021-07-21T16:40:10"}
        write_tiff(root / "S1RTC" / f"{name}.tif", speckled_db(rng, 2, SIDE, SIDE), grid, tags=time_tag)
        numbers = rng.integers(200, 1500, (12, SIDE, SIDE)).astype(np.int16)
        write_tiff(root / "S2L2A" / f"{name}.tif", numbers, grid, tags=time_tag)
    return root


def write_table(root, rows):
    with (root / "scenes.csv").open("w", newline="") as stream:
        table = csv.DictWriter(stream, sorted({column for row in rows for column in row}))
        table.writeheader()
        table.writerows(rows)


def facts_of(out):
    facts = json.loads((out / "BUILD_COMPLETE.json").read_text())
    counts = facts["counts"]
    assert counts["candidates"] == counts["accepted"] + counts["rejected"] + counts["failed"]
    assert counts["accepted"] == counts["paired"] + counts["unpaired"]
    assert verify(out) == []
    return facts


# ---- regions ----


@pytest.mark.parametrize(
    ("region", "found"),
    [
        ("portugl", "region 'portugl': no country of that name or ISO code. Did you mean Portugal?"),
        (
            "38,100,40,105",
            "looks like lat,lon order, since 100 or 105 is no latitude. Expected west,south",
        ),
        ("10,50,9", "expected four numbers west,south,east,north in degrees"),
        ("10,50,11,40", "south (50) is not below north (40). Swap them."),
        ("folder:/no/such/place", "/no/such/place is not an existing folder. Expected folder:<path>"),
        ("simulated:many", "expected simulated:<cells> with 1 to 5061519 cells"),
        ("85,-89,86,-85", "reaches from latitude -89 to -85, but the samples are in UTM"),
    ],
)
def test_a_wrong_region_exits_2_says_why_and_writes_nothing(build, tmp_path, region, found):
    code, out, err = build(region)
    assert (code, out) == (2, "")
    assert err.startswith("sar1m: ")
    assert found in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]], "a polygon crosses itself or is broken: Self-intersection[1 1]"),
        ([[40, 100], [41, 100], [41, 101], [40, 100]], "looks like lat,lon order"),
        ([[500000, 4e6], [6e5, 4e6], [6e5, 5e6], [500000, 4e6]], "the coordinates cannot be degrees"),
        (None, "the file is empty. Expected polygons in GeoJSON or GeoPackage."),
        ("{", "is not JSON"),
    ],
)
def test_a_wrong_area_file_is_named(sar1m, tmp_path, content, found):
    path = tmp_path / "area.geojson"
    if isinstance(content, list):
        path.write_text(json.dumps({"type": "Polygon", "coordinates": [content]}))
    else:
        path.write_text(content or "")
    code, out, err = sar1m("plan", "--region", path)
    assert (code, out) == (2, "")
    assert f"sar1m: {path}: {found}" in err


# ---- folders that cannot be planned ----


def spoil_nothing_there(root, rng):
    shutil.rmtree(root / "S1RTC")


def spoil_not_a_raster(root, rng):
    (root / "S1RTC/b.tif").write_text("this was a picture once")


def spoil_empty(root, rng):
    (root / "S1RTC/b.tif").write_bytes(b"")


def spoil_no_system(root, rng):
    write_tiff(root / "S1RTC/b.tif", speckled_db(rng, 2, SIDE, SIDE), transform=(10, 0, 4e5, 0, -10, 5e6))


def spoil_one_polarisation(root, rng):
    write_tiff(root / "S1RTC/b.tif", speckled_db(rng, 1, SIDE, SIDE), utm_grid(SIDE, SIDE))


def spoil_missing_band(root, rng):
    write_tiff(root / "S2L2A/b.tif", np.ones((11, SIDE, SIDE), dtype=np.int16), utm_grid(SIDE, SIDE))


def spoil_complex(root, rng):
    write_tiff(root / "S1RTC/b.tif", np.ones((2, SIDE, SIDE), dtype=np.complex64), utm_grid(SIDE, SIDE))


def spoil_too_small(root, rng):
    write_tiff(root / "S1RTC/b.tif", speckled_db(rng, 2, 80, 80), utm_grid(80, 80))


@pytest.mark.parametrize(
    ("spoil", "code", "found"),
    [
        (
            spoil_nothing_there,
            1,
            r": nothing here says what the rasters are\. Expected one of: STAC items .* a ta",
        ),
        (
            spoil_not_a_raster,
            1,
            r"/S1RTC/b\.tif: not a TIFF: begins with b'this was a p'\. Only GeoTIFF",
        ),
        (spoil_empty, 1, r"/S1RTC/b\.tif: is empty \(0 bytes\)\. Expected a GeoTIFF; fetch or copy it again\."),
        (spoil_no_system, 1, r"/S1RTC/b\.tif: no coordinate reference system; found none\. Expected a geocoded raster"),
        (spoil_one_polarisation, 1, r"/S1RTC/b\.tif: has 1 band\(s\); a file in S1RTC holds 2: VV, VH\."),
        (spoil_missing_band, 1, r"/S2L2A/b\.tif: has 11 band\(s\); a file in S2L2A holds 12: B01, B02, "),
        (spoil_complex, 1, r"/S1RTC/b\.tif: pixels of type complex64; expected one of .*power is \|z\|\^2"),
        (spoil_too_small, 2, r"b: 80 x 80 px of 10 m are too small for grid\.patch_px = 64 with grid\.halo_px = 16"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused_naming_the_file(build, tmp_path, rng, spoil, code, found):
    """Reported while planning, before hours of work, where --strict asks for it: without it, a bad file costs its pair
    alone (test_build_bad_products.py)."""
    root = write_chips(tmp_path / "scenes", rng, ("a", "b", "c"))
    spoil(root, rng)
    returned, _, err = build(f"folder:{root}", "--strict")
    assert returned == code
    assert re.search(found, err), err
    assert err.startswith("sar1m: ")
    assert not (tmp_path / "out/BUILD_COMPLETE.json").exists()
    (root / "S1RTC").mkdir(exist_ok=True)
    for path in root.glob("*/b.tif"):
        path.unlink()
    if list(root.glob("S1RTC/*.tif")):
        assert build(f"folder:{root}")[0] == 0  # the same command, once the file is gone
        assert facts_of(tmp_path / "out")["counts"]["candidates"] == 2


def test_a_band_that_is_asked_for_and_not_there_is_named(build, tmp_path, rng):
    root = write_chips(tmp_path / "scenes", rng, ("a",))
    code, _, err = build(f"folder:{root}", "--set", 'pixels.optical_bands=["B10"]')
    assert code == 1
    assert "band B10 of pixels.optical_bands is missing; it has B01, B02, " in err


# ---- pixels that are not there ----


def test_one_damaged_chip_is_set_aside_by_name_and_the_rest_are_built(build, tmp_path, rng):
    root = write_chips(tmp_path / "scenes", rng, ("a", "b", "c", "d"))
    grid = utm_grid(SIDE, SIDE, left_m=420_000.0)
    broken = write_tiff(root / "S1RTC/b.tif", speckled_db(rng, 2, SIDE, SIDE), grid, compress="deflate")
    content = broken.read_bytes()
    middle = len(content) // 2  # of the compressed pixels, far from the header: only reading finds it out
    broken.write_bytes(content[:middle] + bytes(2000) + content[middle + 2000 :])
    code, out, err = build(f"folder:{root}")
    assert (code, err) == (3, "")
    shown = " ".join(out.split())
    assert "Blocks: 3 prepared, 0 already there, 1 failed." in shown
    assert "failed: folder_b: SourceError: S1RTC/b.tif: damaged or not a GeoTIFF: " in shown
    facts = facts_of(tmp_path / "out")
    assert facts["counts"]["candidates"] == 4
    assert facts["counts"]["failed"] == 1
    failed = pd.read_parquet(tmp_path / "out/failed.parquet")
    assert failed[["item", "patches", "error"]].to_numpy().tolist() == [["folder_b", 1, "SourceError"]]
    assert "b.tif" in failed["cause"][0]
    assert str(tmp_path) not in failed["cause"][0]
    samples = pd.read_parquet(tmp_path / "out/samples.parquet")
    assert set(samples["site"]) <= {"a", "c", "d"}
    broken.write_bytes(content)
    code, out, _ = build(f"folder:{root}")
    assert code == 0
    assert "Blocks: 1 prepared, 3 already there, 0 failed." in out
    assert len(pd.read_parquet(tmp_path / "out/failed.parquet")) == 0


def test_a_chip_without_a_measurement_is_a_recorded_rejection(build, tmp_path, rng):
    """All NaN, and all zero in decibels: a fill value that nobody declared."""
    root = write_chips(tmp_path / "scenes", rng, ("a", "b", "c"))
    nothing = np.full((2, SIDE, SIDE), np.nan, dtype=np.float32)
    write_tiff(root / "S1RTC/b.tif", nothing, utm_grid(SIDE, SIDE, left_m=420_000.0))
    write_tiff(root / "S1RTC/c.tif", np.zeros_like(nothing), utm_grid(SIDE, SIDE, left_m=440_000.0))
    code, out, err = build(f"folder:{root}")
    assert (code, err) == (0, "")
    rejected = pd.read_parquet(tmp_path / "out/rejected.parquet").set_index("site")
    reasons = rejected[["reason", "measured", "limit"]].to_dict("index")
    assert reasons["b"] == {"reason": "sar_nodata", "measured": 1.0, "limit": 0.01}
    assert reasons["c"] == {"reason": "plateau", "measured": 1.0, "limit": 0.2}
    assert facts_of(tmp_path / "out")["rejected_by_reason"] == {"plateau": 1, "sar_nodata": 1}
    assert re.search(r"^ +for sar_nodata +1$", out, re.MULTILINE)


def test_fill_values_that_nobody_declared_cost_the_sample_or_its_partner(build, tmp_path, rng):
    """By name: half of the SAR at 0.0 dB; a third of the optical side at 32767; a quarter of it; none."""
    root = write_chips(tmp_path / "scenes", rng, ("zero_db", "third", "quarter", "whole"))
    sar = speckled_db(rng, 2, SIDE, SIDE)
    sar[:, : SIDE // 2] = 0.0
    write_tiff(root / "S1RTC/zero_db.tif", sar, utm_grid(SIDE, SIDE, left_m=400_000.0))
    for number, (name, share) in enumerate({"third": 3, "quarter": 4}.items(), start=1):
        optical = rng.integers(200, 1500, (12, SIDE, SIDE)).astype(np.int16)
        optical[:, :, : SIDE // share] = 32767
        write_tiff(root / f"S2L2A/{name}.tif", optical, utm_grid(SIDE, SIDE, left_m=400_000.0 + 20_000 * number))
    code, _, err = build(f"folder:{root}")
    assert (code, err) == (0, "")
    rejected = pd.read_parquet(tmp_path / "out/rejected.parquet").set_index("site")
    assert rejected["reason"].to_dict() == {"zero_db": "plateau"}
    assert rejected.loc["zero_db", "measured"] == pytest.approx(0.5, abs=0.1)
    samples = pd.read_parquet(tmp_path / "out/samples.parquet").set_index("site")
    assert samples["unpaired_reason"].to_dict() == {"third": "saturated", "quarter": "saturated", "whole": ""}
    assert samples["saturated_frac"].between(0.05, 0.45).to_dict() == {"third": True, "quarter": True, "whole": False}
    assert (samples["plateau_frac"] < 0.01).all()


def test_white_of_pictures_is_snow_and_costs_no_partner(build, tmp_path, rng):
    root = tmp_path / "scenes"
    write_tiff(root / "sar.tif", speckled_db(rng, 2, SIDE, SIDE), utm_grid(SIDE, SIDE))
    picture = rng.integers(40, 250, (3, SIDE, SIDE)).astype(np.uint8)
    picture[:, SIDE // 4 :] = 255
    write_tiff(root / "rgb.tif", picture, utm_grid(SIDE, SIDE))
    sar = {"kind": "sar", "path": "sar.tif", "bands": "VV VH", "unit": "db", "quantity": "gamma0"}
    optical = {"kind": "optical", "path": "rgb.tif", "bands": "B04 B03 B02", "unit": "rgb8"}
    write_table(root, [{"pair": "p"} | row for row in (sar, optical)])
    code, _, err = build(f"folder:{root}")
    assert (code, err) == (0, "")
    (sample,) = pd.read_parquet(tmp_path / "out/samples.parquet").to_dict("records")
    assert sample["paired"]
    assert 0.6 < sample["saturated_frac"] < 0.9
    assert sample["optical_plateau_frac"] < 0.05


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside this checkout: the sibling above makes its own")
def test_the_real_chip_without_data_is_a_recorded_rejection(build, tmp_path):
    root = tmp_path / "scenes"
    root.mkdir()
    rows = []
    for name in ("Paraguay_34417", "Nigeria_812045"):
        shutil.copyfile(SHARED / f"data/flood_chips/s1/{name}_S1Hand.tif", root / f"{name}.tif")
        row = {"pair": name, "kind": "sar", "path": f"{name}.tif", "bands": "VV VH", "unit": "db", "quantity": "sigma0"}
        rows.append(row)
    write_table(root, rows)
    code, _, err = build(f"folder:{root}")
    assert (code, err) == (0, "")
    facts = facts_of(tmp_path / "out")
    rejected = pd.read_parquet(tmp_path / "out/rejected.parquet")
    empty = rejected[rejected["site"] == "Paraguay_34417"]
    assert len(empty) > 0
    assert set(empty["reason"]) == {"sar_nodata"}
    assert set(empty["measured"]) == {1.0}
    samples = pd.read_parquet(tmp_path / "out/samples.parquet")
    assert set(samples["site"]) == {"Nigeria_812045"}
    assert facts["unpaired_by_reason"] == {"no_optical": len(samples)}


# ----  non-finite values stop at the border ----


@pytest.fixture
def hostile(tmp_path, rng, build):
    """A store from linear power with holes, infinities, negative power and nodata edges; and what was handed in."""
    root = tmp_path / "scenes"
    powers = {}
    for number, name in enumerate(("holes", "infinities", "negative", "edges", "zeros", "clean")):
        grid = utm_grid(SIDE, SIDE, left_m=400_000.0 + 20_000 * number)
        power = (10 ** (speckled_db(rng, 2, SIDE, SIDE) / 10)).astype(np.float32)
        match name:
            case "holes":
                power[:, 30:33, 30:33] = np.nan
            case "infinities":
                power[0, 40, 40], power[1, 41, 41] = np.inf, -np.inf
            case "negative":
                power[0, 50:60, 50:60] = -1e-4
            case "edges":
                power[:, :, :17] = np.nan  # beside the patch but for one column
            case "zeros":
                power[:] = 0.0
        powers[name] = power
        write_tiff(root / f"{name}.tif", power, grid)
        numbers = rng.integers(200, 1500, (4, SIDE, SIDE)).astype(np.float32) / 1e4
        numbers[:, 20:22, 20:22] = np.nan
        numbers[0, 23, 23] = np.inf
        write_tiff(root / f"{name}_optical.tif", numbers, grid)
    sar = {"kind": "sar", "bands": "VV VH", "unit": "linear", "quantity": "gamma0"}
    optical = {"kind": "optical", "bands": "B02 B03 B04 B08", "unit": "reflectance"}
    rows = [sar | {"pair": name, "path": f"{name}.tif"} for name in powers]
    rows += [optical | {"pair": name, "path": f"{name}_optical.tif"} for name in powers]
    write_table(root, rows)
    code, _, err = build(f"folder:{root}", "--set", "screening.max_sar_nodata_frac=0.05")
    assert (code, err) == (0, "")
    return tmp_path / "out", powers


def test_nothing_that_is_not_finite_stands_in_a_table_unless_it_may_be_missing(hostile):
    out, _ = hostile
    seen = 0
    for name, columns in (("samples", SAMPLE_COLUMNS), ("rejected", REJECTED_COLUMNS)):
        table = pd.read_parquet(out / f"{name}.parquet")
        for column in columns:
            if column.type in ("float32", "float64"):
                values = table[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
                assert not np.isinf(values).any(), (name, column.name)
                measurable = name == "samples" or column.name not in ("dynamic_range_db", "noise_floor_frac")
                if measurable and not column.nullable:
                    assert np.isfinite(values).all(), (name, column.name)
                seen += len(values)
            if column.type == "list<float64>" and name == "samples":
                assert all(np.isfinite(np.asarray(row, dtype=np.float64)).all() for row in table[column.name])
    assert seen > 100
    for path in out.glob("stats/*.json"):
        json.loads(path.read_text(), parse_constant=refuse_constant)


def refuse_constant(text):
    raise AssertionError(f"{text} in a statistics file")


def test_a_pixel_is_missing_in_the_store_where_it_was_missing_and_nowhere_else(hostile):
    out, powers = hostile
    samples = pd.read_parquet(out / "samples.parquet").set_index("site")
    assert set(samples.index) == powers.keys() - {"zeros"}
    inner = slice(16, 16 + 64)
    for split, rows in samples.groupby("split"):
        stored = xarray.open_zarr(out / f"data/{split}.zarr", consolidated=False).load()
        for row in rows.itertuples():
            power, decibels = powers[row.Index][:, inner, inner], stored["sar"].values[row.index]
            np.testing.assert_array_equal(np.isnan(decibels), ~np.isfinite(power))
            assert not np.isinf(decibels).any()
            assert not np.isinf(stored["optical"].values[row.index]).any()


def test_negative_power_is_kept_at_the_floor_and_counted(hostile):
    """100 of 4,096 pixels at a negative power: measurements, so not missing; under any noise floor, so counted."""
    out, _ = hostile
    samples = pd.read_parquet(out / "samples.parquet").set_index("site")
    row = samples.loc["negative"]
    stored = xarray.open_zarr(out / f"data/{row['split']}.zarr", consolidated=False)
    block = stored["sar"].values[row["index"], 0, 34:44, 34:44]
    np.testing.assert_allclose(block, -59.95, atol=1e-3)  # digital number 1
    assert row["sar_nodata_frac"] == 0.0
    assert row["noise_floor_frac"] - samples.loc["clean", "noise_floor_frac"] == pytest.approx(100 / 4096, abs=0.01)
    assert samples.loc["infinities", "sar_nodata_frac"] == pytest.approx(2 / 4096)
    assert "non_finite_input" in samples.loc["infinities", "flags"]


def test_an_all_zero_measurement_is_no_data(hostile):
    out, _ = hostile
    rejected = pd.read_parquet(out / "rejected.parquet").set_index("site")
    assert rejected.loc["zeros", "reason"] == "sar_nodata"
    assert rejected.loc["zeros", "measured"] == 1.0
    facts = facts_of(out)
    assert facts["counts"]["candidates"] == 6
    assert set(facts["unpaired_by_reason"]) <= KNOWN_UNPAIRED


# ---- outputs that cannot be used ----


def test_a_folder_of_somebody_else_is_left_alone(build, tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs/thesis.docx").write_text("years of work")
    code, _, err = build("simulated:1", out=tmp_path / "theirs")
    assert code == 1
    assert f"{tmp_path}/theirs: exists and was not made by sar1m" in err
    assert "Give an empty or new folder" in err
    assert [path.name for path in (tmp_path / "theirs").rglob("*")] == ["thesis.docx"]


def test_an_output_that_is_a_file_is_left_alone(build, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    code, _, err = build("simulated:1", out=tmp_path / "notes.txt")
    assert code == 1
    assert f"{tmp_path}/notes.txt: is a file. Give an empty or new folder" in err
    assert (tmp_path / "notes.txt").read_text() == "mine"
    code, _, err = build("simulated:1", out=tmp_path / "notes.txt/below")
    assert code == 1
    assert f"{tmp_path}/notes.txt: is a file; a folder expected. Give another output folder, or move the file." in err


def test_an_output_without_permission_is_reported(tmp_path):
    """Root may write anywhere, so as nobody, in a fork."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):  # with several processes of pytest one more lies between
        if str(folder) != tempfile.gettempdir():
            folder.chmod(0o755)
    report = tmp_path / "report.txt"
    report.touch(mode=0o666)
    report.chmod(0o666)

    def work():
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        report.write_text(outcome_of(closed / "out"))

    assert in_child(work) == 0
    assert re.fullmatch(
        r"OutputError: .*/closed/out.*: cannot be written: Permission denied\. Free space, mend the permissions or "
        r"give another output folder, then run the same command again: nothing finished is lost\.",
        report.read_text(),
    )


def outcome_of(out):
    """What a small build into out ends with: `done`, or the type and message of its error."""
    try:
        run_build(out)
    except Exception as error:  # noqa: BLE001 - the type is what is tested
        return f"{type(error).__name__}: {error}"
    return "done"


# ----  a full disk ----


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    run_build(out)
    return out


@pytest.mark.parametrize("limit_bytes", [100, 5_000, 40_000])
def test_a_file_too_large_stops_the_build_and_it_resumes_to_the_same_bytes(tmp_path, undisturbed, limit_bytes):
    out = tmp_path / "out"
    assert max(path.stat().st_size for path in undisturbed.rglob("*")) > limit_bytes
    reading, writing = os.pipe()

    def work():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # so that a write past the limit fails instead of killing
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
        os.write(writing, outcome_of(out).encode())

    assert in_child(work) == 0
    message = os.read(reading, 4096).decode()
    os.close(reading)
    os.close(writing)
    assert re.match(r"OutputError: .*: cannot be written: File too large\. Free space", message), message
    assert not (out / "BUILD_COMPLETE.json").exists()
    run_build(out)
    assert tree_digest(out) == tree_digest(undisturbed)
    assert list(out.rglob("*.partial")) == []


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own; where mounting is not allowed the tests above stand in for it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs is not permitted here; RLIMIT_FSIZE is tested instead")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_stops_the_build_and_room_lets_it_go_on(small_disk, sar1m, undisturbed, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(SMALL_BUILD)
    arguments = ("build", "--region", "simulated:4", "--config", config, "--workers", 0, "--out", small_disk / "out")
    code, _, err = sar1m(*arguments)
    assert code == 1
    assert re.search(r"sar1m: .*: cannot be written: No space left on device\. Free space", err), err
    subprocess.run(["mount", "-o", "remount,size=16m", str(small_disk)], check=True)
    code, _, err = sar1m(*arguments)
    assert (code, err) == (0, "")
    assert tree_digest(small_disk / "out") == tree_digest(undisturbed)


# ----  two builds on one output ----


def test_of_two_builds_on_one_output_the_second_leaves_at_once_and_a_dead_one_holds_nothing(sar1m, tmp_path):
    config = tmp_path / "small.toml"
    config.write_text(SMALL_BUILD)
    arguments = ["build", "--region", "simulated:40", "--config", str(config), "--workers", "0"]
    command = [sys.executable, "-m", "sar1m", *arguments, "--out", str(tmp_path / "out")]
    with (tmp_path / "first.txt").open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as first:
        try:
            wait_for(lambda: list(tmp_path.glob("out/staging/*/??/*.zip")), first)
            first.send_signal(signal.SIGSTOP)  # holds the lock for as long as the second takes to come up
            second = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            first.kill()
    assert second.returncode == 75
    assert second.stdout == ""
    shown = " ".join(second.stderr.split())
    assert f"another build works here (process {first.pid}). Wait for it, or give another OUT." in shown
    code, out, _ = sar1m("status", tmp_path / "out")
    assert code == 0
    assert "of 40 work items staged" in out
    with output_lock(tmp_path / "out"):  # the dead one holds nothing
        pass


def wait_for(condition, child):
    deadline = time.monotonic() + STUCK_S
    while not condition():
        assert child.poll() is None, "ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---- real chips ----


@pytest.mark.skipif(not SHARED.is_dir(), reason="no shared/data beside this checkout; the tests above make chips")
def test_real_chips_build_three_of_three_and_state_what_is_left_of_the_shift(sar1m, tmp_path):
    source = SHARED / "data/s1s2_rtc_pairs"
    code, _, err = sar1m(
        "build", "--region", f"folder:{source}", "--config", "chips", "--workers", 0, "--out", tmp_path / "out"
    )
    assert (code, err) == (0, "")
    facts = facts_of(tmp_path / "out")
    assert (facts["counts"]["candidates"], facts["counts"]["accepted"]) == (3, 3)
    sites = {site["site"]: site for site in json.loads((tmp_path / "out/stats/summary.json").read_text())["sites"]}
    assert sorted(sites) == sorted(path.stem for path in (source / "S1RTC").glob("*.tif"))
    for site in sites.values():
        assert site["patches"] == 1
        applied = [site["applied_row_px"], site["applied_col_px"]]
        scene = [site["scene_shift_row_px"], site["scene_shift_col_px"]]
        if site["status"] == "1 measured":
            np.testing.assert_array_equal(applied, np.rint(scene))
            assert 0 <= site["residual_px"] < 1.0
        else:  # said to be unknown, and nothing moved
            assert (site["status"], scene, applied) == ("1 unmeasurable", [None, None], [0, 0])
            assert site["residual_px"] is None
    assert [site["status"] for site in sites.values()].count("1 measured") >= 2
    assert np.hypot(sites["637U_59R_1_3"]["applied_row_px"], sites["637U_59R_1_3"]["applied_col_px"]) >= 1
    assert (
        len({column.name for column in CANDIDATE_COLUMNS} & set(pd.read_parquet(tmp_path / "out/samples.parquet"))) > 50
    )
