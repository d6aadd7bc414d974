"""Windows of pixels from folders and zips, and the copies in scratch."""

import errno
import multiprocessing
import os
import shutil
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from sar1m.core.radar.product import ImageWindow
from sar1m.io.safe import measurement
from sar1m.io.safe.measurement import read_dn
from sar1m.io.safe.product import read_product
from sar1m.store.errors import OutputError, SourceError
from support.hang_guard import STUCK_S
from support.paths import SHARED
from support.safe_factory import SafeRecipe, draw_dn, tiff_bytes, write_safe, write_safe_zip

ROME = (
    SHARED
    / "data"
    / ("s1_safe_annotations/rome/data/S1B_IW_GRDH_1SDV_20211223T051122_20211223T051147_030148_039993_5371.SAFE")
)
RECIPE = SafeRecipe(polarisations=("VV", "VH"), lines=30, samples=50)
WINDOW = ImageWindow(line=3, sample=5, lines=7, samples=9)


def read(path, scratch, window=WINDOW, channel=0):
    product = read_product(path)
    return read_dn(path, product, product.channels[channel], window, scratch)


def image_of(folder, polarisation="VV"):
    return folder / f"measurement/{RECIPE.stem(polarisation)}.tiff"


@pytest.mark.parametrize("method", [None, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_windows_are_slices_of_what_was_written(tmp_path, method):
    path = write_safe(tmp_path, RECIPE) if method is None else write_safe_zip(tmp_path / "p.zip", RECIPE, method=method)
    whole = ImageWindow(line=0, sample=0, lines=30, samples=50)
    corner = ImageWindow(line=29, sample=49, lines=1, samples=1)
    for channel, polarisation in enumerate(RECIPE.polarisations):
        written = draw_dn(RECIPE, polarisation)
        assert read(path, tmp_path / "scratch", channel=channel).dtype == np.uint16
        np.testing.assert_array_equal(read(path, tmp_path / "scratch", channel=channel), written[3:10, 5:14])
        np.testing.assert_array_equal(read(path, tmp_path / "scratch", whole, channel), written)
        np.testing.assert_array_equal(read(path, tmp_path / "scratch", corner, channel), written[29:, 49:])
    assert (tmp_path / "scratch").exists() == (method is not None)


@pytest.mark.parametrize("window", [(-1, 0, 2, 2), (0, 0, 31, 2), (0, 49, 2, 2), (0, 0, 0, 2), (29, 0, 2, 2)])
def test_a_window_that_leaves_the_image_is_the_callers_mistake(tmp_path, window):
    line, sample, lines, samples = window
    with pytest.raises(ValueError, match=r"is no window: |is not inside the image of"):
        read(
            write_safe(tmp_path, RECIPE), tmp_path, ImageWindow(line=line, sample=sample, lines=lines, samples=samples)
        )


def test_an_image_of_zeros_is_read(tmp_path):
    blank = {name: np.zeros((30, 50), dtype=np.uint16) for name in RECIPE.polarisations}
    assert not read(write_safe_zip(tmp_path / "p.zip", RECIPE, blank), tmp_path / "scratch").any()


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"is empty \(0 bytes\). Expected a TIFF of 30 x 50 px"),
        (b"<VRTDataset/>" + b" " * 100, "not a TIFF: begins with b'<VRTDataset/"),
        (tiff_bytes(RECIPE, draw_dn(RECIPE, "VV"))[:-1], r"is cut short: \d+ bytes, its last strip ends at"),
        (tiff_bytes(RECIPE, draw_dn(RECIPE, "VV"), compress="deflate")[:-1], "is cut short"),
        (tiff_bytes(RECIPE, draw_dn(RECIPE, "VV"))[:200], "damaged or not a GeoTIFF"),
        (tiff_bytes(RECIPE, np.ones((30, 51), np.uint16)), "an image of 30 x 51 px, .* annotation says 30 x 50 px"),
        (tiff_bytes(RECIPE, np.ones((30, 50), np.float32)), "float32; the annotation says"),
    ],
)
def test_an_image_that_is_not_what_the_annotation_says_is_refused(tmp_path, packed, content, message):
    path = write_safe(tmp_path, RECIPE)
    image_of(path).write_bytes(content)
    if packed:
        with zipfile.ZipFile(tmp_path / "p.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(path.rglob("*")):
                archive.write(file, file.relative_to(tmp_path))
        path = tmp_path / "p.zip"
    with pytest.raises(SourceError, match=message) as refused:
        read(path, tmp_path / "scratch")
    assert str(refused.value).startswith(str(path))
    assert image_of(path).name in str(refused.value)


def test_a_missing_image_is_named_and_the_rest_of_the_product_is_read(tmp_path):
    path = write_safe(tmp_path, RECIPE)
    image_of(path, "VH").unlink()
    assert read(path, tmp_path).any()
    with pytest.raises(SourceError, match=r"measurement/s1a-iw-grd-vh.*\.tiff: missing. Found in measurement: s1a-iw"):
        read(path, tmp_path, channel=1)


# ---- scratch ----


def copies(scratch):
    return sorted(scratch.glob("*.tiff"))


def test_a_member_is_inflated_once_whatever_the_zip_is_called(tmp_path):
    first, second = (write_safe_zip(tmp_path / name, RECIPE) for name in ("a.zip", "b.zip"))
    scratch = tmp_path / "scratch"
    read(first, scratch)
    (copy,) = copies(scratch)
    inode = copy.stat().st_ino
    read(second, scratch)
    assert [path.stat().st_ino for path in copies(scratch)] == [inode]
    read(first, scratch, channel=1)
    other = write_safe_zip(tmp_path / "c.zip", replace(RECIPE, seed=9))
    read(other, scratch)
    assert len(copies(scratch)) == 3
    copy.write_bytes(copy.read_bytes()[:-5])  # a copy of another size is none
    assert read(first, scratch).any()


def test_the_copy_used_least_recently_makes_room(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    zips = [write_safe_zip(tmp_path / f"{seed}.zip", replace(RECIPE, seed=seed)) for seed in range(4)]
    names = []
    for path in zips[:3]:
        read(path, scratch)
        (new,) = set(copies(scratch)) - set(names)
        names.append(new)
    size = names[0].stat().st_size
    for age, name in zip((300, 100, 200), names, strict=True):
        os.utime(name, (time.time() - age,) * 2)
    read(zips[0], scratch)  # used just now
    dead = scratch / "00.tiff.partial"
    dead.write_bytes(b"x")
    os.utime(dead, (0, 0))
    monkeypatch.setattr(measurement, "SCRATCH_LIMIT_BYTES", 3 * size)
    read(zips[3], scratch)
    assert [name.exists() for name in names] == [True, True, False]
    assert not dead.exists()


def test_a_copy_that_vanishes_before_it_is_opened_is_made_again(tmp_path, monkeypatch):
    path, scratch = write_safe_zip(tmp_path / "p.zip", RECIPE), tmp_path / "scratch"
    genuine, lost = measurement._copy, []

    def lose_two(*arguments):
        copy = genuine(*arguments)
        if len(lost) < 2:
            lost.append(copy)
            copy.unlink()
        return copy

    monkeypatch.setattr(measurement, "_copy", lose_two)
    np.testing.assert_array_equal(read(path, scratch), draw_dn(RECIPE, "VV")[3:10, 5:14])
    assert len(lost) == 2


def test_a_copy_that_another_process_removes_stays_readable(tmp_path):
    path, scratch = write_safe_zip(tmp_path / "p.zip", RECIPE), tmp_path / "scratch"
    read(path, scratch)
    with rasterio.open(copies(scratch)[0]) as dataset:
        copies(scratch)[0].unlink()
        np.testing.assert_array_equal(dataset.read(1), draw_dn(RECIPE, "VV"))


def test_a_full_disk_is_an_output_error_and_leaves_nothing(tmp_path, monkeypatch):
    path, scratch = write_safe_zip(tmp_path / "p.zip", RECIPE), tmp_path / "scratch"
    genuine = Path.open

    class Full:
        def __init__(self, stream):
            self.stream = stream

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.stream.close()

        def write(self, piece):
            self.stream.write(piece[:100])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def opened(self, mode="r", *arguments, **options):
        stream = genuine(self, mode, *arguments, **options)
        return Full(stream) if self.name.endswith(".partial") else stream

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        read(path, scratch)
    assert list(scratch.glob("*.tiff*")) == []
    monkeypatch.undo()
    assert read(path, scratch).any()


def test_a_damaged_member_leaves_no_copy(tmp_path):
    path, scratch = write_safe_zip(tmp_path / "p.zip", RECIPE, method=zipfile.ZIP_STORED), tmp_path / "scratch"
    content = path.read_bytes()
    pixels = draw_dn(RECIPE, "VV")[20].tobytes()
    assert content.count(pixels) == 1
    path.write_bytes(content.replace(pixels, pixels[::-1]))
    with pytest.raises(SourceError, match=r"p\.zip \(S1A.*vv.*\): cannot be read \(BadZipFile: Bad CRC-32"):
        read(path, scratch)
    assert list(scratch.glob("*.tiff*")) == []


def test_an_image_larger_than_the_annotation_says_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(measurement, "_OVERHEAD_BYTES", 0)
    grown = {name: np.zeros((300, 50), dtype=np.uint16) for name in RECIPE.polarisations}
    with pytest.raises(SourceError, match=r"announces \d+ bytes from \d+; expected at most 4500"):
        read(write_safe_zip(tmp_path / "p.zip", RECIPE, grown), tmp_path / "scratch")


def _inflate_together(path, scratch, start, answers):
    start.wait()
    answers.put(int(read(path, scratch).sum()))


def test_processes_that_want_one_member_at_once_all_get_it(tmp_path):
    recipe = replace(RECIPE, lines=2000, samples=700)
    path, scratch = write_safe_zip(tmp_path / "p.zip", recipe), tmp_path / "scratch"
    context = multiprocessing.get_context("fork")
    start, answers = context.Event(), context.Queue()
    workers = [context.Process(target=_inflate_together, args=(path, scratch, start, answers)) for _ in range(4)]
    for worker in workers:
        worker.start()
    start.set()
    sums = {answers.get(timeout=STUCK_S) for _ in workers}
    for worker in workers:
        worker.join(STUCK_S)
    assert sums == {int(draw_dn(recipe, "VV")[3:10, 5:14].sum())}
    assert len(copies(scratch)) == 1
    assert list(scratch.glob("*.partial")) == []


def test_a_lock_that_is_never_given_back_is_reported(tmp_path, monkeypatch):
    path, scratch = write_safe_zip(tmp_path / "p.zip", RECIPE), tmp_path / "scratch"
    read(path, scratch)
    (copy,) = copies(scratch)
    copy.unlink()
    monkeypatch.setattr(measurement, "LOCK_WAIT_S", 0.1)
    with measurement._lock(copy.with_suffix(".lock")), pytest.raises(OutputError, match=r"has held this lock for 0 s"):
        read(path, scratch)


@pytest.mark.skipif(not ROME.is_dir(), reason=f"no real product in {ROME}")
def test_the_corners_of_a_real_full_size_image(tmp_path):
    """Rome's measurement has its full size and is zero throughout."""
    last = ImageWindow(line=16704 - 99, sample=26101 - 99, lines=100, samples=100)
    assert not read(ROME, tmp_path, ImageWindow(line=0, sample=0, lines=100, samples=100)).any()
    assert not read(ROME, tmp_path, last).any()
    copy = tmp_path / ROME.name
    shutil.copytree(ROME, copy)
    (image,) = copy.glob("measurement/*")
    image.chmod(0o600)
    image.write_bytes(b"")
    with pytest.raises(SourceError, match=r"is empty \(0 bytes\). Expected a TIFF of 16705 x 26102 px"):
        read(copy, tmp_path)
