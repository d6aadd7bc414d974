"""The command line as its user meets it: what it prints where, what it returns, what it does not say."""

import importlib.util
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import rasterio
import xarray

from sar1m import __version__
from sar1m.store.file_lock import output_lock
from sar1m.store.schema import MANIFEST_FILE, MARKER_FILE, SCHEMA_VERSION, SPLITS
from support.campaigns import campaign
from support.crash_runner import SMALL_BUILD, tree_digest
from support.hang_guard import STUCK_S

COMMANDS = ("build", "plan", "status", "refilter", "verify", "report", "info")
CARRIER = "bigearthnet_common"  # the package that carries the sample
CELLS_TO_INTERRUPT = 30  # some seconds of work
SAR_STEP_DB, OPTICAL_STEP = 0.05, 0.001


def command(*arguments):
    """By way of `python -m`, so that it is the package under test whatever lies first in PATH."""
    return [sys.executable, "-m", "sar1m", *map(str, arguments)]


def finished(*arguments, folder):
    """Runs the command as a process of its own."""
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, "COLUMNS": "80"},
    )


@pytest.fixture(scope="module")
def small_config(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "small.toml"
    path.write_text(SMALL_BUILD)
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory, small_build):
    """A finished store of the simulated world."""
    return shutil.copytree(small_build, tmp_path_factory.mktemp("cli") / "store")


def build_words(out, config, cells=4):
    return ["build", "--region", f"simulated:{cells}", "--out", str(out), "--config", str(config), "--workers", "0"]


@pytest.fixture
def copy(built, tmp_path):
    return Path(shutil.copytree(built, tmp_path / "store"))


# ---- help and usage ----


def test_help_says_what_each_command_is_for_and_fits_80_columns(sar1m):
    code, out, err = sar1m("--help")
    assert (code, err) == (0, "")
    assert [name for name in COMMANDS if not re.search(rf"\b{name} +[A-Z]\w+", out)] == []
    assert "75 another build works on the same output" in out
    for name in COMMANDS:
        code, text, _ = sar1m(name, "--help")
        assert code == 0
        out += text
    assert max(map(len, out.splitlines())) <= 80
    assert "Annotated" not in out
    assert "list[" not in out


def test_without_arguments_it_shows_the_help(sar1m):
    code, out, err = sar1m()
    assert code == 2
    assert "Commands" in out + err


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["build"], "Missing option '--region'"),
        (["verify"], "Missing argument 'PLACE'"),
        (["build", "--region", "sample", "--workers", "-1"], "Input should be greater than or equal to 0"),
        (["build", "--region", "sample", "--colour"], "No such option: --colour"),
    ],
)
def test_wrong_usage_exits_2_and_speaks_on_stderr(sar1m, arguments, found):
    code, out, err = sar1m(*arguments)
    assert (code, out) == (2, "")
    assert found in err


def test_the_version_is_the_package_s(sar1m):
    assert sar1m("--version") == (0, f"{__version__}\n", "")


# ---- plan ----


@pytest.fixture
def cut_off(monkeypatch, tmp_path):
    """A service that refuses connections at once; arguments that ask it once."""
    monkeypatch.setenv("SAR1M_PLANETARY_COMPUTER_URL", "http://127.0.0.1:9/stac")
    monkeypatch.setenv("SAR1M_ALLOW_LOOPBACK", "1")
    alone = ("--set", "area.optical=none", "--set", "balance.max_unpaired_share=1")
    return *alone, "--set", "download.attempts=1", "--out", tmp_path / "out"


def test_plan_counts_the_cells_of_a_country_before_it_asks_anyone(sar1m, cut_off):
    """Portugal: 92,000 km2 with Madeira and the Azores, so some 920 cells of 100 km2 and those cut by its coast."""
    code, out, err = sar1m("plan", "--region", "portugal", *cut_off)
    assert code == 1
    assert "127.0.0.1" in err
    counted = re.fullmatch(r"portugal: ([\d,]+) cells of 10 km, up to ([\d,]+) patches per date\.\n", out)
    assert counted is not None
    cells, patches = (int(text.replace(",", "")) for text in counted.groups())
    assert 950 < cells < 1250
    assert patches == 16 * cells


def test_plan_takes_a_box_west_of_greenwich(sar1m, cut_off):
    _, out, _ = sar1m("plan", "--region", "-9,38,-8,39", *cut_off)
    assert out.startswith("box-9W-38N-8W-39N: ")


def test_plan_counts_what_a_source_offers(sar1m, small_config):
    code, out, err = sar1m("plan", "--region", "simulated:5", "--config", small_config)
    assert (code, err) == (0, "")
    assert re.match(r"simulated-5: 5 work items \(\d with an optical partner\), 20 patches of 64 px\.", out)


def test_plan_tells_what_it_did_to_a_file(sar1m, tmp_path, cut_off):
    ring = [[500_000, 4_000_000], [520_000, 4_000_000], [520_000, 4_020_000], [500_000, 4_000_000]]
    crs = {"type": "name", "properties": {"name": "EPSG:32629"}}
    area = tmp_path / "area.geojson"
    area.write_text(json.dumps({"type": "Polygon", "coordinates": [ring], "crs": crs}))
    _, out, err = sar1m("plan", "--region", area, *cut_off)
    assert out.startswith("file-area: ")
    assert err.startswith("note: area.geojson: reprojected from WGS 84 / UTM zone 29N to WGS 84 degrees\n")


# ---- build ----


def test_a_second_run_says_there_is_nothing_to_do(sar1m, built, small_config):
    before = tree_digest(built)
    code, out, err = sar1m(*build_words(built, small_config))
    assert (code, err) == (0, "")
    assert f"Nothing to do: {built} is complete" in " ".join(out.split())
    assert re.search(r"^candidates +16$", out, re.MULTILINE)
    assert f"Store:  {built}\n" in out
    assert tree_digest(built) == before


def test_without_a_terminal_the_output_is_plain_lines(sar1m, tmp_path, small_config):
    code, out, err = sar1m(*build_words(tmp_path / "out", small_config))
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert "\r" not in out
    lines = out.splitlines()
    stages = ["plan", "prepare blocks", "pack shards", "report"]
    assert [line.split(": done in ")[0] for line in lines if ": done in " in line] == stages
    assert "Blocks: 4 prepared, 0 already there, 0 failed." in lines
    counts = {name: int(n) for name, n in re.findall(r"^[=+]? ?(accepted|rejected|failed) +(\d+)$", out, re.MULTILINE)}
    assert sum(counts.values()) == 16
    assert (tmp_path / "out/report/index.html").is_file()
    (page,) = (line.removeprefix("Page:   ") for line in lines if line.startswith("Page:"))
    assert Path(page).is_file()


def test_on_a_terminal_there_is_a_bar(tmp_path, small_config):
    master, slave = pty.openpty()
    environment = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
    running = subprocess.Popen(
        command(*build_words(tmp_path / "out", small_config)), stdout=slave, stderr=subprocess.PIPE, env=environment
    )
    os.close(slave)
    shown = read_all(master)
    with running:
        errors = running.stderr.read()
    assert (running.returncode, errors) == (0, b"")
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"prepare blocks +━+ +4/4 ", text)
    assert re.search(r"pack shards +━+ +(\d+)/\1 ", text)
    assert "prepare blocks: done" not in text


def read_all(master):
    shown = b""
    while select.select([master], [], [], 120)[0]:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
    return shown


@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), *campaign((signal.SIGTERM, 1))])
def test_an_interrupted_build_exits_130_says_so_and_goes_on(sar1m, tmp_path, small_config, number, workers):
    out, log = tmp_path / "out", tmp_path / "err.txt"
    arguments = build_words(out, small_config, cells=CELLS_TO_INTERRUPT)[:-1]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command(*arguments, workers), stdout=errors, stderr=errors) as child,
    ):
        wait_for(lambda: list(out.glob("staging/*/??/*.zip")), child)
        family = psutil.Process(child.pid).children(recursive=True)
        child.send_signal(number)
        assert child.wait(timeout=STUCK_S) == 130, log.read_text()
    assert psutil.wait_procs(family, timeout=STUCK_S)[1] == []
    shown = " ".join(log.read_text().split())
    assert "sar1m: interrupted. What is staged is kept: the same command goes on from there." in shown
    assert "Traceback" not in shown
    code, text, _ = sar1m("status", out)
    assert code == 0
    assert "The store is not complete" in text
    staged = len(list(out.glob("staging/*/??/*.zip")))
    assert 0 < staged < CELLS_TO_INTERRUPT
    assert f"simulated-{CELLS_TO_INTERRUPT}: {staged} of {CELLS_TO_INTERRUPT} work items staged." in text
    if workers == 0:
        code, text, _ = sar1m(*arguments, 0)
        assert code == 0
        assert f"Blocks: {CELLS_TO_INTERRUPT - staged} prepared, {staged} already there, 0 failed." in text


def wait_for(condition, child):
    deadline = time.monotonic() + STUCK_S
    while not condition():
        assert child.poll() is None, "ended before it was interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_another_build_on_the_same_output_exits_75(sar1m, built, small_config):
    with output_lock(built):
        code, out, err = sar1m(*build_words(built, small_config))
    assert (code, out) == (75, "")
    assert err.startswith(f"sar1m: {built}: another build works here (process {os.getpid()}). Wait for it")


# ---- status, info, report ----


def test_status_of_a_finished_store(sar1m, built):
    code, out, err = sar1m("status", built)
    assert (code, err) == (0, "")
    assert "simulated-4: 4 of 4 work items staged." in out
    assert "The store is complete." in out


def test_info_as_json_is_the_marker_and_nothing_else(sar1m, built):
    code, out, err = sar1m("info", built, "--json")
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads((built / MARKER_FILE).read_text())


def test_info_prints_code_that_opens_the_store(sar1m, built):
    code, out, _ = sar1m("info", built)
    assert code == 0
    head = f"crash (simulated-4), schema {SCHEMA_VERSION}, made by sar1m {__version__}: "
    assert re.match(rf"{re.escape(head)}\d+ files", out)
    line = out.splitlines()[-1]
    shown, separator, expression = line.partition("; ")
    assert (shown, separator) == ("import xarray", "; ")
    opened = eval(expression, {"xarray": xarray})  # noqa: S307 - our own line, with warnings as errors
    marker = json.loads((built / MARKER_FILE).read_text())
    assert opened.sizes["sample"] == next(marker["by_split"][split] for split in SPLITS if marker["by_split"][split])


def test_report_prints_the_page_or_writes_another(sar1m, built, tmp_path):
    code, out, _ = sar1m("report", built)
    assert code == 0
    assert Path(out.strip()) == built / "report/index.html"
    code, out, _ = sar1m("report", built, "--to", tmp_path / "page.html")
    assert (code, out) == (0, f"written: {tmp_path}/page.html\n")
    assert (tmp_path / "page.html").read_bytes() == (built / "report/index.html").read_bytes()
    code, out, err = sar1m("report", built, "--to", tmp_path / "no/such/page.html")
    assert (code, out) == (1, "")
    assert "page.html: cannot be written: No such file or directory. Give another file to --to." in err


@pytest.mark.parametrize("name", ["status", "verify", "report", "info", "refilter"])
def test_a_folder_without_a_store_is_told_what_to_do(sar1m, tmp_path, name):
    code, out, err = sar1m(name, tmp_path / "nowhere")
    assert (code, out) == (1, "")
    assert str(tmp_path / "nowhere") in err
    assert "`sar1m build`" in err
    assert not (tmp_path / "nowhere").exists()


# ---- verify ----


def test_verify_passes_a_whole_store(sar1m, built):
    files = len((built / MANIFEST_FILE).read_text().splitlines())
    code, out, err = sar1m("verify", built)
    assert (code, out) == (0, f"{built}: {files} files verified, no fault.\n")
    assert re.fullmatch(r"verify: done in [\d.]+ s\n", err)


def test_verify_names_what_changed_and_building_again_mends_it(sar1m, copy, small_config):
    digest = tree_digest(copy)
    shard = next(path for path in sorted(copy.glob("data/*/sar/c/**/*")) if path.is_file())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    (copy / "samples.parquet").unlink()
    (copy / "notes.txt").write_text("mine")
    code, out, err = sar1m("verify", copy)
    assert (code, out) == (1, "")
    assert f"{shard.relative_to(copy)}: content differs from its sha256\n" in err
    assert "samples.parquet: missing\n" in err
    assert "notes.txt: not in the manifest\n" in err
    assert f"3 faults in {copy}. Delete the named files and run the same build again" in err
    shard.unlink()
    (copy / "notes.txt").unlink()
    assert sar1m(*build_words(copy, small_config))[0] == 0
    assert sar1m("verify", copy)[0] == 0
    assert tree_digest(copy) == digest


@pytest.mark.parametrize("content", [None, "0" * 64 + "  samples.parquet\n"])
def test_a_lost_or_changed_manifest_is_told_and_made_anew(sar1m, copy, small_config, content):
    digest = tree_digest(copy)
    (copy / MANIFEST_FILE).unlink()
    if content is not None:
        (copy / MANIFEST_FILE).write_text(content)
    code, out, err = sar1m("verify", copy)
    assert (code, out) == (1, "")
    assert MANIFEST_FILE in err
    assert sar1m(*build_words(copy, small_config))[0] == 0
    assert tree_digest(copy) == digest


def test_a_damaged_marker_is_told_and_made_anew(sar1m, copy, small_config):
    digest = tree_digest(copy)
    (copy / MARKER_FILE).write_text("{}")
    for name in ("verify", "info", "status"):
        code, _, err = sar1m(name, copy)
        assert code == 1
        assert f"{MARKER_FILE}: damaged completion marker" in err
    assert sar1m(*build_words(copy, small_config))[0] == 0
    assert tree_digest(copy) == digest


# ---- refilter and overrides ----


def test_a_limit_of_zero_over_nothing_but_zeros_still_gives_a_page(sar1m, copy):
    """The small world has no cloud, so every value and the limit fall on one point of the histogram's axis."""
    assert set(pd.read_parquet(copy / "samples.parquet")["cloud_frac"].dropna()) == {0.0}
    assert sar1m("refilter", copy, "--set", "screening.max_cloud_frac=0", "--workers", "0")[0] == 0
    assert "cloud_frac" in (copy / "report/index.html").read_text()


def test_refilter_refuses_what_would_need_the_source(sar1m, built):
    code, out, err = sar1m("refilter", built, "--set", "grid.patch_px=96")
    assert (code, out) == (2, "")
    assert "refilter changes thresholds only; run `sar1m build` with this configuration." in err


def test_refilter_of_an_unfinished_build_says_what_is_missing(sar1m, copy):
    for name in (MARKER_FILE, MANIFEST_FILE, "build-log/config.toml"):
        (copy / name).unlink()
    code, out, err = sar1m("refilter", copy)
    assert (code, out) == (1, "")
    assert "no finished store with thresholds to start from. Finish it with `sar1m build`, or give --config." in err


@pytest.mark.parametrize(
    ("override", "found"),
    [
        (
            "grid.patch=64",
            "--set: grid.patch: unknown key. Valid keys here: gsd_m, halo_px, layout, patch_px, ",
        ),
        (
            "patch_px=64",
            "--set: patch_px: unknown key. Valid keys here: area, balance, download, ",
        ),
        ("grid.patch_px", "--set grid.patch_px: expected section.key=value, such as grid.patch_px=192."),
        ("grid.patch_px=100", "--set: grid.patch_px: Input should be a multiple of 16 (found 100)"),
        (
            "screening.max_cloud_frac=2",
            "--set: screening.max_cloud_frac: Input should be less than or equal to 1 (f",
        ),
    ],
)
def test_a_wrong_override_exits_2_before_anything_is_written(sar1m, tmp_path, override, found):
    code, out, err = sar1m("build", "--region", "simulated:4", "--out", tmp_path / "out", "--set", override)
    assert (code, out) == (2, "")
    assert f"sar1m: {found}" in err
    assert not (tmp_path / "out").exists()


def test_a_scheduler_that_is_none_is_named(sar1m, tmp_path, small_config):
    arguments = build_words(tmp_path / "out", small_config)[:-2]
    code, _, err = sar1m(*arguments, "--scheduler", "127.0.0.1")
    assert code == 1
    assert "sar1m: --scheduler 127.0.0.1: no Dask scheduler answers there" in err


# ---- the embedded sample, end to end ----


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """`sar1m build --region sample` in an empty folder: where, and what the process said."""
    if importlib.util.find_spec(CARRIER) is None:
        pytest.skip(f"the sample's package {CARRIER} is not installed (make test installs it)")
    folder = tmp_path_factory.mktemp("sample")
    done = finished("build", "--region", "sample", "--workers", "0", folder=folder)
    assert done.returncode == 0, done.stderr
    return folder / "build/sample", done


def members(archive):
    """GeoTIFF bytes by chip and band, read here without any of our code."""
    folder = Path(importlib.util.find_spec(CARRIER).submodule_search_locations[0])
    found = {}
    with tarfile.open(folder / archive) as tar:
        for member in tar:
            if member.name.endswith(".tif"):
                chip, band = Path(member.name).stem.rsplit("_", 1)
                found.setdefault(chip, {})[band] = tar.extractfile(member).read()
            elif member.name.endswith(".json"):
                found.setdefault(Path(member.name).parent.name, {})["about"] = json.load(tar.extractfile(member))
    return found


def raster(content):
    with rasterio.MemoryFile(content) as memory, memory.open() as dataset:
        return dataset.read(1).astype(np.float64), dataset.transform, dataset.crs.to_epsg()


def test_the_sample_builds_six_of_six_and_says_so(sample):
    out, done = sample
    assert done.stderr == ""
    assert "Blocks: 6 prepared, 0 already there, 0 failed." in done.stdout
    facts = json.loads((out / MARKER_FILE).read_text())
    assert facts["counts"]["candidates"] == 6
    assert facts["counts"]["accepted"] == 6
    assert sum(facts["by_split"].values()) == 6
    assert min(facts["by_split"].values()) >= 1


def test_the_sample_s_pixels_are_the_chips_own(sample):
    """SAR decibels and, moved by the whole pixels the table states, optical reflectance, within half a step of the
    encoding; the places are the chips' own."""
    out, _ = sample
    sar_chips, optical_chips = members("BigEarthNet-S1-Example.tar.bz2"), members("BigEarthNet-S2-Example.tar.bz2")
    by_place = {"_".join(name.split("_")[5:]): chip for name, chip in sar_chips.items()}
    table = pd.read_parquet(out / "samples.parquet")
    assert sorted(table["site"]) == sorted(by_place)
    margin, side, paired = 4, 112, 0
    for split, rows in table.groupby("split"):
        stored = xarray.open_zarr(out / f"data/{split}.zarr", consolidated=False).load()
        assert list(stored["pol"].values) == ["VV", "VH"]
        assert list(stored["band"].values) == ["B04", "B03", "B02"]
        for row in rows.itertuples():
            chip = by_place[row.site]
            for number, pol in enumerate(("VV", "VH")):
                decibels, transform, epsg = raster(chip[pol])
                expected = decibels[margin : margin + side, margin : margin + side]
                found = stored["sar"].values[row.index, number]
                np.testing.assert_allclose(found, expected, atol=SAR_STEP_DB / 2 + 1e-4)
            assert row.epsg == epsg
            corner = (transform.c + 10 * margin, transform.f - 10 * margin)
            assert (row.transform[2], row.transform[5], row.transform[0]) == (*corner, 10.0)
            if not row.paired:
                assert np.isnan(stored["optical"].values[row.index]).all()
                continue
            paired += 1
            partner = optical_chips[chip["about"]["corresponding_s2_patch"]]
            top, left = margin + int(row.applied_row_px), margin + int(row.applied_col_px)
            for number, band in enumerate(("B04", "B03", "B02")):
                reflectance = raster(partner[band])[0][top : top + side, left : left + side] / 10_000
                found = stored["optical"].values[row.index, number]
                np.testing.assert_allclose(found, reflectance, atol=OPTICAL_STEP / 2 + 1e-6)
    assert paired >= 3


def test_the_sample_is_verified_by_sha256sum_and_by_us(sample):
    out, _ = sample
    checked = subprocess.run(
        ["sha256sum", "--check", "--quiet", MANIFEST_FILE], cwd=out, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout) == (0, b"")
    done = finished("verify", out, folder=out)
    assert done.returncode == 0, done.stderr
    assert "no fault" in done.stdout


def test_refilter_applies_a_threshold_and_comes_back(sample, sar1m, tmp_path):
    copy = shutil.copytree(sample[0], tmp_path / "store")
    former = re.search(r"max_cloud_frac = \S+", (copy / "provenance/config.toml").read_text())
    digest = tree_digest(copy)
    before = json.loads((copy / MARKER_FILE).read_text())
    code, out, err = sar1m("refilter", copy, "--set", "screening.max_cloud_frac=0.0", "--workers", "0")
    assert (code, err) == (0, "")
    assert "Blocks: 0 prepared, 6 already there, 0 failed." in out
    after = json.loads((copy / MARKER_FILE).read_text())
    assert after["counts"]["candidates"] == before["counts"]["candidates"]
    assert after["unpaired_by_reason"]["cloud"] > before["unpaired_by_reason"].get("cloud", 0)
    assert sar1m("verify", copy)[0] == 0
    assert "max_cloud_frac = 0.0\n" in (copy / "provenance/config.toml").read_text()
    code, out, _ = sar1m("refilter", copy, "--set", f"screening.{former[0]}", "--workers", "0")
    assert code == 0
    assert tree_digest(copy) == digest
    code, out, _ = sar1m("refilter", copy, "--workers", "0")
    assert code == 0
    assert "Nothing to do" in out
