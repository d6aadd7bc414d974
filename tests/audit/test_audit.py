"""An audit from pictures to table: shifts that were drawn are found, written away, and gone in a second audit."""

import contextlib
import csv
import io
import json
import math

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sar1m.audit.item import PairRow, PairWork
from sar1m.audit.pair_files import FilePair, PictureAt
from sar1m.audit.reading import HowRead
from sar1m.audit.run import AuditRequest, audit
from sar1m.audit.table import csv_bytes, parquet_bytes
from sar1m.config import RegistrationConfig
from sar1m.store.entry import Interrupted
from sar1m.store.progress import LineWatch
from support.known_pairs import eight_bit, eight_bit_amplitude, power_and_bands, write_pictures, write_raster

SHIFTS = {"a": (2.4, -3.3), "b": (-1.3, 0.6), "c é": (5.2, 6.4)}
UTM = {"crs": "EPSG:32633", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}
QUIET = LineWatch(lambda _line: None)


def work(**options):
    how = {key: options.pop(key) for key in ("sar_unit", "optical_bands") if key in options}
    return PairWork(registration=RegistrationConfig(**options), how=HowRead(**how))


def audited(place, out, *, limit_px=1.0, write_to=None, resample=False, **options):
    asked = PairWork(registration=RegistrationConfig(**options), how=HowRead(), resample=resample)
    request = AuditRequest(place=str(place), out=out, work=asked, limit_px=limit_px, write_to=write_to, workers=0)
    return audit(request, QUIET)


def by_name(summary):
    return {row.pair: row for row in summary.rows}


def measured(sar, optical, **options):
    at = [PictureAt(path=str(path), shown=path.name) for path in (sar, optical)]
    return work(**options)(FilePair(name="one", sar=at[0], optical=at[1]))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs of mine")
    for number, (name, shift_px) in enumerate(SHIFTS.items()):
        write_pictures(root, name, key=number, shift_px=shift_px, suffix=".jpg" if name == "b" else ".png")
    return root


@pytest.fixture(scope="module")
def first(pictures, tmp_path_factory):
    return audited(pictures, tmp_path_factory.mktemp("audit"))


def test_drawn_shifts_are_found_in_8_bit_pictures_without_unit_or_place(first):
    for name, row in by_name(first).items():
        assert row.status == "measured"
        assert (row.row_px, row.col_px) == pytest.approx(SHIFTS[name], abs=0.25)
        assert math.isnan(row.shift_m), "nobody says where it lies"
        assert 0 < row.sigma_px < 0.5
    assert not first.verdict.holds
    assert first.verdict.beyond == 3
    assert first.verdict.line.startswith("Not aligned to 1 px: 3 of 3")


def test_a_limit_that_no_pair_breaks_holds(pictures, tmp_path):
    summary = audited(pictures, tmp_path / "out", limit_px=9.0)
    assert summary.verdict.holds
    assert summary.verdict.line.startswith("Aligned to 9 px: all 3")


@pytest.mark.parametrize("resample", [False, True])
def test_after_writing_a_second_audit_finds_the_fraction_or_nothing(pictures, first, tmp_path, resample):
    aligned = tmp_path / "aligned"
    written = audited(pictures, tmp_path / "once", write_to=aligned, resample=resample)
    assert written.written == 3
    again = by_name(audited(aligned, tmp_path / "twice"))
    before = by_name(first)
    assert again.keys() == before.keys()
    for name, row in again.items():
        found = before[name]
        rest = (0.0, 0.0) if resample else (found.row_px - round(found.row_px), found.col_px - round(found.col_px))
        sigma_px = max(row.sigma_px, found.sigma_px)
        assert (row.row_px, row.col_px) == pytest.approx(rest, abs=sigma_px)
        assert max(abs(row.row_px), abs(row.col_px)) <= 0.5 + sigma_px


def test_written_pictures_keep_names_and_numbers(pictures, tmp_path):
    aligned = tmp_path / "aligned"
    audited(pictures, tmp_path / "out", write_to=aligned)
    names = sorted(path.relative_to(aligned).as_posix() for path in aligned.rglob("*") if path.is_file())
    assert names == sorted(["pairs.json", *(f"{side}/{name}.png" for side in ("sar", "optical") for name in SHIFTS)])
    for entry in json.loads((aligned / "pairs.json").read_text()):
        whole = np.asarray(Image.open(pictures / "sar" / f"{entry['name']}.png"))
        cut = np.asarray(Image.open(aligned / entry["sar"]))
        rows, cols = cut.shape
        top, left = entry["first_row"], entry["first_col"]
        assert np.array_equal(cut, whole[top : top + rows, left : left + cols])
        assert cut.dtype == np.uint8


def test_the_tables_hold_what_was_found(first):
    table, text = pd.read_parquet(first.table), pd.read_csv(first.page.parent / "pairs.csv")
    assert table["pair"].tolist() == text["pair"].tolist() == sorted(SHIFTS)
    expected = [row.shift_px for row in first.rows]
    assert table["shift_px"].to_numpy() == pytest.approx(expected)
    assert text["shift_px"].to_numpy() == pytest.approx(expected, abs=1e-4)
    assert "geometry" not in table, "no pair says where it lies"


def test_an_audit_goes_on_where_it_stopped_and_sees_files_that_changed(pictures, tmp_path):
    root = tmp_path / "pairs"
    for number, name in enumerate("xyz"):
        write_pictures(root, name, key=number, size=(200, 200), shift_px=(2, 1))
    first = audited(root, tmp_path / "out")
    assert first.reused == 0
    with (tmp_path / "out" / "measured.jsonl").open("a") as stream:
        stream.write('{"pair": "cut o')  # as a crash leaves it
    write_pictures(root, "y", key=9, size=(200, 200), shift_px=(-2, -1))
    second = audited(root, tmp_path / "out")
    assert second.reused == 2
    assert by_name(second)["y"].row_px == pytest.approx(-2, abs=0.3)
    assert audited(root, tmp_path / "out", search_px=24).reused == 0


class Breaking(LineWatch):
    """A watch in whose second step the user presses Ctrl-C."""

    def __init__(self):
        super().__init__(lambda _line: None)

    @contextlib.contextmanager
    def stage(self, title, total):
        steps = iter(range(total))

        def step():
            if next(steps) == 1:
                raise Interrupted

        yield step


def test_ctrl_c_loses_no_pair_that_was_measured(tmp_path):
    root = tmp_path / "pairs"
    for number, name in enumerate("xyz"):
        write_pictures(root, name, key=number, size=(120, 120), shift_px=(2, 1))
    request = AuditRequest(place=str(root), out=tmp_path / "out", work=work(search_px=8), workers=0)
    with pytest.raises(Interrupted):
        audit(request, Breaking())
    assert audit(request, QUIET).reused == 2


def test_processes_find_what_one_finds(tmp_path):
    root = tmp_path / "pairs"
    for number, name in enumerate("xyz"):
        write_pictures(root, name, key=number, size=(120, 120), shift_px=(2, 1))
    (root / "sar/y.png").write_bytes(b"no picture")
    alone = audited(root, tmp_path / "alone", search_px=8)
    request = AuditRequest(place=str(root), out=tmp_path / "many", work=work(search_px=8), workers=1)
    assert [str(row) for row in audit(request, QUIET).rows] == [str(row) for row in alone.rows]


# ---- what a picture may hold ----


@pytest.mark.parametrize("kind", ["db", "stated db", "linear", "amplitude16", "rgb", "rgba", "scaled db"])
def test_sar_in_any_quantity_gives_the_same_shift(tmp_path, kind):
    power, bands = power_and_bands(key=3, size=(256, 256), shift_px=(1.6, -2.3))
    decibels = (10 * np.log10(power)).astype(np.float32)
    path = tmp_path / "sar.tif"
    if kind == "db":
        write_raster(path, decibels)
    elif kind == "stated db":
        write_raster(path, decibels + 30, units=["dB"])  # never negative: by its numbers it would be power
    elif kind == "linear":
        write_raster(path, power)
    elif kind == "amplitude16":
        path = tmp_path / "sar.png"
        Image.fromarray((20_000 * np.sqrt(power)).astype(np.uint16)).save(path)
    elif kind == "scaled db":
        write_raster(path, np.rint(100 * decibels).astype(np.int16), scales=[0.01])
    else:
        path = tmp_path / "sar.png"
        planes = [eight_bit_amplitude(power)] * 3 + ([np.full((256, 256), 255, np.uint8)] if kind == "rgba" else [])
        Image.fromarray(np.dstack(planes)).save(path)
    Image.fromarray(eight_bit(bands)).save(tmp_path / "optical.png")
    row = measured(path, tmp_path / "optical.png")
    assert (row.status, row.row_px, row.col_px) == (
        "measured",
        pytest.approx(1.6, abs=0.3),
        pytest.approx(-2.3, abs=0.3),
    )


@pytest.mark.parametrize("kind", ["grey", "grey alpha", "16 bit", "4 bands", "12 bands", "13 bands", "float"])
def test_optical_pictures_of_any_kind_give_the_same_shift(tmp_path, kind):
    power, bands = power_and_bands(key=4, size=(256, 256), shift_px=(-2.7, 1.2), bands=4)
    Image.fromarray(eight_bit_amplitude(power)).save(tmp_path / "sar.png")
    path, dn = tmp_path / "optical.tif", (10_000 * bands).astype(np.uint16)
    if kind.startswith("grey"):
        path = tmp_path / "optical.png"
        grey = (255 * bands[2]).astype(np.uint8)
        Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]) if "alpha" in kind else grey).save(path)
    elif kind == "16 bit":
        path = tmp_path / "optical.png"
        Image.fromarray(dn[1]).save(path)
    elif kind == "float":
        write_raster(path, bands[:3])
    else:
        count = int(kind.split()[0])
        rest = np.random.default_rng(1).integers(0, 9000, (count, 256, 256)).astype(np.uint16)
        rest[[0, 1, 2, 3] if count == 4 else [1, 2, 3, 7]] = dn
        write_raster(path, rest)
    row = measured(tmp_path / "sar.png", path)
    assert (row.status, row.row_px, row.col_px) == (
        "measured",
        pytest.approx(-2.7, abs=0.3),
        pytest.approx(1.2, abs=0.3),
    )


def test_a_frame_of_one_number_in_both_pictures_does_not_pass_for_a_perfect_fit(tmp_path):
    """Tiles cut along one border hold fill there that nobody declared; its edge lies at the same place in both."""
    power, bands = power_and_bands(key=5, size=(256, 256), shift_px=(3.0, 2.0), looks=1.0)
    sar, optical = eight_bit_amplitude(power), eight_bit(bands)
    corner = np.add.outer(np.arange(256), np.arange(256)) < 230
    sar[corner], optical[corner] = 0, 0
    Image.fromarray(sar).save(tmp_path / "sar.png")
    Image.fromarray(optical).save(tmp_path / "optical.png")
    row = measured(tmp_path / "sar.png", tmp_path / "optical.png")
    assert row.status == "measured"
    assert (row.row_px, row.col_px) == pytest.approx((3.0, 2.0), abs=0.6)


def test_pictures_of_different_places_are_unmeasurable(tmp_path):
    power, _ = power_and_bands(key=6, size=(256, 256))
    _, bands = power_and_bands(key=7, size=(256, 256))
    Image.fromarray(eight_bit_amplitude(power)).save(tmp_path / "sar.png")
    Image.fromarray(eight_bit(bands)).save(tmp_path / "optical.png")
    row = measured(tmp_path / "sar.png", tmp_path / "optical.png")
    assert row.status == "unmeasurable"
    assert math.isnan(row.row_px)


def test_a_picture_larger_than_is_held_whole_is_measured_in_windows(tmp_path):
    size = (2300, 700)
    power, bands = power_and_bands(key=8, size=size, shift_px=(4.3, -2.6))
    Image.fromarray(eight_bit_amplitude(power)).save(tmp_path / "sar.png")
    Image.fromarray(eight_bit(bands)).save(tmp_path / "optical.png")
    row = measured(tmp_path / "sar.png", tmp_path / "optical.png")
    assert row.windows == 16
    assert (row.row_px, row.col_px) == pytest.approx((4.3, -2.6), abs=0.15)
    assert row.windows_apart_px < 0.5


# ---- places ----


def test_metres_are_those_of_the_ground(tmp_path):
    power, bands = power_and_bands(key=9, size=(256, 256), shift_px=(3.0, -4.0))
    write_raster(tmp_path / "s.tif", power, **UTM)
    write_raster(tmp_path / "o.tif", bands, **UTM)
    row = measured(tmp_path / "s.tif", tmp_path / "o.tif")
    assert row.shift_m == pytest.approx(10 * row.shift_px, rel=1e-3)  # UTM: 0.9996 on the middle meridian
    west, south, east, north = row.bounds
    assert west < east < west + 0.1
    assert south < north < south + 0.1


def test_optical_pictures_of_another_spacing_are_resampled_onto_the_sar_to_be_measured(tmp_path):
    fine_power, fine_bands = power_and_bands(key=10, size=(512, 512), shift_px=(4.0, -6.0))
    coarse_power = fine_power.reshape(256, 2, 256, 2).mean(axis=(1, 3))
    write_raster(tmp_path / "s.tif", coarse_power, **UTM)
    write_raster(tmp_path / "o.tif", fine_bands, crs=UTM["crs"], transform=(5.0, 0, 500_000.0, 0, -5.0, 5_000_000.0))
    row = measured(tmp_path / "s.tif", tmp_path / "o.tif")
    assert (row.row_px, row.col_px) == pytest.approx((2.0, -3.0), abs=0.25)
    assert row.shift_m == pytest.approx(36, abs=3)


def test_a_list_states_corners_and_the_aligned_list_states_those_of_the_cut(tmp_path):
    root = write_pictures(tmp_path / "pairs", "w", key=11, size=(256, 300), shift_px=(3.3, -2.2))
    corners = [[500_000, 5_000_000], [503_000, 5_000_000], [503_000, 4_997_440], [500_000, 4_997_440]]
    (root / "pairs.json").write_text(json.dumps([{"name": "w", "corners_epsg32633": corners}]))
    aligned = tmp_path / "aligned"
    summary = audited(root, tmp_path / "out", write_to=aligned)
    assert summary.rows[0].shift_m == pytest.approx(10 * summary.rows[0].shift_px, rel=1e-3)
    (entry,) = json.loads((aligned / "pairs.json").read_text())
    top, left = entry["first_row"], entry["first_col"]
    assert entry["corners_epsg32633"][0] == [500_000 + 10 * left, 5_000_000 - 10 * top]
    assert (audited(aligned, tmp_path / "again").rows[0].bounds) != ()


def test_names_that_strangers_gave_are_no_formulas_in_the_table_for_spreadsheets():
    names = ('=HYPERLINK("http://x")', "+1", "-2+3", "@SUM(1)", "plain-1")
    rows = [PairRow(pair=name, key="", sar=f"sar/{name}", status="failed", cause=f"{name}: no pair") for name in names]
    found = list(csv.reader(io.StringIO(csv_bytes(rows).decode())))[1:]
    assert [cells[0] for cells in found] == [f"'{name}" for name in names[:-1]] + ["plain-1"]
    assert not any(cell.startswith(("=", "+", "-", "@")) for cells in found for cell in cells)
    table = pq.read_table(io.BytesIO(parquet_bytes(rows)))
    assert table["pair"].to_pylist() == list(names)
