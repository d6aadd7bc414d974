"""What a user may hand to an audit: folders that lack things, odd names, damaged files, output that is refused."""

import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import sar1m
from sar1m.audit.discover import discover
from sar1m.audit.item import PairWork
from sar1m.audit.run import AuditRequest, audit
from sar1m.cli import app
from sar1m.config import RegistrationConfig
from sar1m.store.errors import ConfigError, OutputError, SourceError
from sar1m.store.progress import LineWatch
from support.known_pairs import eight_bit, eight_bit_amplitude, power_and_bands, write_raster

SIZE = (120, 120)
UTM = {"crs": "EPSG:32633", "transform": (10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0)}


def picture(path: Path, pixels) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def pixels():
    power, bands = power_and_bands(size=SIZE, shift_px=(1.0, -2.0))
    return eight_bit_amplitude(power), eight_bit(bands)


def pair(root: Path, name: str, pixels) -> None:
    picture(root / "sar" / f"{name}.png", pixels[0])
    picture(root / "optical" / f"{name}.png", pixels[1])


def audited(place, out, **options):
    work = PairWork(registration=RegistrationConfig(search_px=8))
    request = AuditRequest(place=str(place), out=out, work=work, workers=0, **options)
    return audit(request, LineWatch(lambda _line: None))


def outcome(summary):
    return {row.pair: (row.status, row.cause) for row in summary.rows}


def test_bad_pairs_are_named_and_counted_beside_the_good_ones(tmp_path, pixels):
    root = tmp_path / "pairs"
    for name in ("good", "broken", "small", "lonely", "two"):
        pair(root, name, pixels)
    (root / "optical/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    picture(root / "optical/small.png", pixels[1][:100])
    (root / "optical/lonely.png").unlink()
    picture(root / "sar/two.tif", pixels[0])
    summary = audited(root, tmp_path / "out")
    found = outcome(summary)
    assert found.pop("good") == ("measured", "")
    assert {status for status, _ in found.values()} == {"failed"}
    assert "broken.png" in found["broken"][1]
    assert "100 x 120 px" in found["small"][1]
    assert "120 x 120 px" in found["small"][1]
    assert "no optical picture belongs to sar/lonely.png" in found["lonely"][1]
    assert "2 SAR pictures have this name" in found["two"][1]
    assert (summary.verdict.measured, summary.verdict.failed) == (1, 4)
    page = summary.page.read_text(encoding="utf-8")
    assert all(name in page for name in found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_named(tmp_path, pixels):
    pair(tmp_path / "pairs", "one", pixels)
    (tmp_path / "pairs/sar/one.png").chmod(0)
    assert "cannot be read" in outcome(audited(tmp_path / "pairs", tmp_path / "out"))["one"][1]


@pytest.mark.parametrize(
    "name", ["with space", "ü-ñ-漢", "tab\tand\nline", "quote'\"<b>", "\x1b[31mred", "comma,semi;"]
)
def test_names_may_hold_any_letters(tmp_path, pixels, name):
    root = tmp_path / "pairs"
    pair(root, name, pixels)
    aligned = tmp_path / "aligned"
    summary = audited(root, tmp_path / "out", write_to=aligned)
    assert outcome(summary) == {name: ("measured", "")}
    assert (aligned / "sar" / f"{name}.png").is_file()
    assert json.loads((aligned / "pairs.json").read_text())[0]["name"] == name
    assert "<b>" not in summary.page.read_text(encoding="utf-8").split("<main>")[1].split("</main>")[0]


def test_links_are_followed_and_a_circle_of_links_ends(tmp_path, pixels):
    pair(tmp_path / "real", "one", pixels)
    root = tmp_path / "pairs"
    root.mkdir()
    (root / "sar").symlink_to(tmp_path / "real/sar")
    (root / "optical").mkdir()
    (root / "optical/one.png").symlink_to(tmp_path / "real/optical/one.png")
    (root / "again").symlink_to(root)
    assert outcome(audited(root, tmp_path / "out")) == {"one": ("measured", "")}


def test_a_folder_without_pairs_says_what_is_expected(tmp_path, pixels):
    (tmp_path / "empty").mkdir()
    picture(tmp_path / "plain/1.png", pixels[0])
    for folder in ("empty", "plain"):
        with pytest.raises(SourceError, match=r"no pair found.*sar/1\.png and optical/1\.jpg"):
            discover(str(tmp_path / folder))
    with pytest.raises(SourceError, match="no such file or folder"):
        discover(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("listed", "words"),
    [
        ({"name": "one"}, "list of objects"),
        ([{"title": "one"}], "has the name None"),
        ([{"name": 3}], "has the name 3"),
    ],
)
def test_a_list_that_is_wrong_as_a_whole_is_refused(tmp_path, pixels, listed, words):
    pair(tmp_path, "one", pixels)
    (tmp_path / "pairs.json").write_text(json.dumps(listed))
    with pytest.raises(SourceError, match=words):
        discover(str(tmp_path))


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"sar": "../secret.png"}, "leads out of"),
        ({"sar": "/etc/passwd"}, "leads out of"),
        ({"corners_epsg32633": [[0, 0], [1, 1]]}, "corners_epsg32633"),
        ({"corners_epsg9999": [[0, 1], [1, 1], [1, 0], [0, 0]]}, "corners_epsg9999"),
        ({"optical": ""}, "no optical picture"),
    ],
)
def test_an_entry_that_is_wrong_fails_by_its_name(tmp_path, pixels, entry, words):
    pair(tmp_path, "one", pixels)
    (tmp_path / "pairs.json").write_text(json.dumps([{"name": "one", **entry}]))
    (found,) = discover(str(tmp_path)).sources
    assert words in found.fault


def test_a_name_that_is_listed_with_two_places_has_none(tmp_path, pixels):
    pair(tmp_path, "one", pixels)
    square = [[0, 1000], [1000, 1000], [1000, 0], [0, 0]]
    moved = [[x + 5000, y] for x, y in square]
    entries = [{"name": "one", "corners_epsg32633": corners} for corners in (square, moved, square)]
    (tmp_path / "pairs.json").write_text(json.dumps(entries))
    found = discover(str(tmp_path))
    assert [(source.name, source.corners, source.fault) for source in found.sources] == [("one", (), "")]
    assert "more than once" in found.remarks[0]


def test_members_of_a_tar_are_paired_and_written_as_files(tmp_path, pixels):
    with tarfile.open(tmp_path / "shard.tar", "w") as archive:
        for name, content in (("7.sar.png", pixels[0]), ("7.opt.png", pixels[1])):
            buffer = io.BytesIO()
            Image.fromarray(content).save(buffer, "PNG")
            member = tarfile.TarInfo(name)
            member.size = len(buffer.getvalue())
            archive.addfile(member, io.BytesIO(buffer.getvalue()))
    summary = audited(tmp_path / "shard.tar", tmp_path / "out", write_to=tmp_path / "aligned")
    assert outcome(summary) == {"7": ("measured", "")}
    assert {path.name for path in (tmp_path / "aligned").iterdir()} == {"7.sar.png", "7.opt.png", "pairs.json"}


def test_a_file_that_is_no_tar_is_refused(tmp_path, pixels):
    with pytest.raises(SourceError, match="not a plain tar"):
        discover(str(picture(tmp_path / "one.png", pixels[0])))


def test_pixels_that_are_not_the_same_ones_are_measured_and_not_written(tmp_path):
    power, bands = power_and_bands(size=(300, 300))
    write_raster(tmp_path / "pairs/sar/1.tif", power[:150, :150], **UTM)
    write_raster(
        tmp_path / "pairs/optical/1.tif",
        bands[:, :150, :150],
        crs=UTM["crs"],
        transform=(10.0, 0, 500_003.0, 0, -10.0, 5_000_000.0),
    )
    summary = audited(tmp_path / "pairs", tmp_path / "out", write_to=tmp_path / "aligned")
    ((status, cause),) = outcome(summary).values()
    assert status == "measured"
    assert "gdalwarp" in cause
    assert (summary.written, summary.not_written) == (0, 1)
    again = CliRunner().invoke(
        app,
        [
            *("audit-pairs", str(tmp_path / "pairs"), "--out", str(tmp_path / "out"), "--limit-px", "99"),
            *("--write", str(tmp_path / "aligned"), "--workers", "0"),
        ],
    )
    assert again.exit_code == 3
    assert "Not written: 1 measured pairs" in again.output


def test_aligned_pictures_never_go_among_or_over_the_pairs(tmp_path, pixels):
    root = tmp_path / "pairs"
    pair(root, "one", pixels)
    for target in (root, root / "aligned", tmp_path):
        with pytest.raises(ConfigError, match="would mix"):
            audited(root, tmp_path / "out", write_to=target)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("")
    with pytest.raises(OutputError, match="holds other files"):
        audited(root, tmp_path / "out", write_to=tmp_path / "mine")


def test_output_that_cannot_be_written_is_one_error_with_its_name(tmp_path, pixels):
    pair(tmp_path / "pairs", "one", pixels)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="file"):
        audited(tmp_path / "pairs", tmp_path / "file" / "out")


def test_the_command_prints_a_verdict_and_says_the_rest_by_its_exit_code(tmp_path, pixels):
    pair(tmp_path / "pairs", "one", pixels)

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "sar1m", *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    far = run("audit-pairs", "pairs", "--search-px", "8", "--workers", "0")
    assert far.returncode == 4
    assert "Not aligned to 1 px: 1 of 1" in far.stdout
    assert (tmp_path / "audit/index.html").is_file()
    told = run("register", "pairs/sar/one.png", "pairs/optical/one.png", "--json", "--search-px", "8")
    assert told.returncode == 0
    figures = json.loads(told.stdout)
    assert (figures["shift_row_px"], figures["shift_col_px"]) == pytest.approx((1.0, -2.0), abs=0.4)
    assert figures["status"] == "measured"
    wrong = run("register", "pairs/sar/one.png", "pairs/optical/one.png", "--sar-unit", "volts")
    assert wrong.returncode == 2
    assert "volts" in wrong.stderr


def test_from_python_one_function_asks_the_same_and_gives_the_table(tmp_path, pixels):
    pair(tmp_path / "mine", "=a", pixels)
    quiet = LineWatch(lambda _line: None)
    found = sar1m.audit_pairs(
        tmp_path / "mine", tmp_path / "out", limit_px=3, sar_unit="linear", workers=0, watch=quiet
    )
    (row,) = found.pairs().to_dict("records")
    assert (row["pair"], row["status"]) == ("=a", "measured")
    assert (row["shift_row_px"], row["shift_col_px"]) == pytest.approx((1.0, -2.0), abs=0.4)
    assert found.holds
    assert "in 8 bits" in row["doubt"]
    assert any("in doubt in 1 pairs" in line for line in found.remarks)
    assert "in doubt in 1 pairs" in found.page.read_text(encoding="utf-8")
    assert (tmp_path / "out/pairs.csv").read_text(encoding="utf-8").splitlines()[1].startswith("'=a,")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"search_px": 5}, "search_px"),
        ({"sar_unit": "watts"}, "expected one of auto, db"),
        ({"resample": True}, "--write"),
    ],
)
def test_what_cannot_be_asked_for_is_refused_from_python_too(tmp_path, pixels, options, words):
    pair(tmp_path / "mine", "a", pixels)
    with pytest.raises(ConfigError, match=words):
        sar1m.audit_pairs(tmp_path / "mine", tmp_path / "out", workers=0, **options)
    assert not (tmp_path / "out").exists()
