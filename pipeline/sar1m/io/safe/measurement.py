"""Pixels of a product: windows of digital numbers.

From a folder they are read directly. An image in a zip is first unpacked into a scratch folder, once. Any number of
processes may share a scratch folder. A copy is named by its content, written under another name under a lock, and
renamed when it is complete. The least recently used copies are removed to make room. A copy that is removed while it is
read stays readable (POSIX); a reader that finds it gone unpacks it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import rasterio
from rasterio.windows import Window

from sar1m.core.radar.product import GrdChannel, GrdGeometry, GrdProduct, ImageWindow
from sar1m.io.raster_open import check_size, opened
from sar1m.io.safe.archive import MAX_MEASUREMENT_BYTES, FolderArchive, SafeArchive, open_archive
from sar1m.records import U16
from sar1m.store.durable import PARTIAL_SUFFIX, writing_to
from sar1m.store.errors import OutputError, SourceError
from sar1m.store.file_lock import try_lock

SCRATCH_LIMIT_BYTES: Final = 40 * 10**9  # of copies in one scratch folder; some twenty images
LOCK_WAIT_S: Final = 600.0  # a copy of 1.7 GB takes 5 to 20 s
MAX_INFLATION: Final = 1_100  # deflate reaches 1,032; an image without echoes comes near
_OVERHEAD_BYTES: Final = 16 * 2**20  # tables of strips, tie points
_TRIES: Final = 5
_FETCH: Final = "Fetch the product again."


def read_dn(path: Path, product: GrdProduct, channel: GrdChannel, window: ImageWindow, scratch: Path) -> U16:
    """Digital numbers of a window of one channel, (lines, samples); 0 means no data.

    path: the folder or zip that the product was read from.
    scratch: folder for the images of zips.
    Raises SourceError, naming the file, where the image is missing, empty, cut short, damaged, or not of the size and
    type that the annotation states; OutputError where scratch cannot be written; ValueError where the window is not
    inside the image.
    """
    _check_window(window, product.geometry)
    with open_archive(path) as archive:
        label, size = archive.label(channel.measurement), archive.member(channel.measurement).size
        if not size:
            raise SourceError(
                f"{label}: is empty (0 bytes). Expected a TIFF of {product.geometry.lines} x "
                f"{product.geometry.samples} px. {_FETCH}"
            )
        if isinstance(archive, FolderArchive):
            return _read_window(archive.file(channel.measurement), label, product.geometry, window)
        for attempt in range(_TRIES):
            copy = _copy(archive, channel.measurement, product.geometry, scratch)
            try:
                return _read_window(copy, label, product.geometry, window)
            except SourceError:
                if copy.exists() or attempt == _TRIES - 1:
                    raise
    raise OutputError(
        f"{scratch}: copies disappear as soon as they are made. Give a scratch folder that nothing else uses."
    )


def _check_window(window: ImageWindow, geometry: GrdGeometry) -> None:
    last_line, last_sample = window.line + window.lines, window.sample + window.samples
    if min(window.line, window.sample) < 0 or min(window.lines, window.samples) < 1:
        raise ValueError(f"{geometry.name}: {window} is no window: it starts before 0 or is empty")
    if last_line > geometry.lines or last_sample > geometry.samples:
        raise ValueError(
            f"{geometry.name}: {window} is not inside the image of {geometry.lines} x {geometry.samples} px"
        )


def _read_window(file: Path, label: str, geometry: GrdGeometry, window: ImageWindow) -> U16:
    try:
        with opened(file) as dataset:
            _check_image(dataset, file, geometry)
            part = Window(window.sample, window.line, window.samples, window.lines)
            dn: U16 = dataset.read(1, window=part)
            return dn
    except SourceError as error:
        raise error if str(error).startswith(label) else SourceError(f"{label}: {error}") from error


def _check_image(dataset: rasterio.DatasetReader, file: Path, geometry: GrdGeometry) -> None:
    found = (dataset.height, dataset.width, dataset.count, dataset.dtypes[0])
    expected = (geometry.lines, geometry.samples, 1, "uint16")
    if found != expected:
        raise SourceError(
            f"{file}: an image of {found[0]} x {found[1]} px, {found[2]} band(s), {found[3]}; the annotation says "
            f"{expected[0]} x {expected[1]} px, 1 band, uint16. {_FETCH}"
        )
    check_size(dataset, str(file))
    rows, cols = dataset.block_shapes[0]
    block = f"{(geometry.samples - 1) // cols}_{(geometry.lines - 1) // rows}"
    offset, length = (
        int(dataset.get_tag_item(f"BLOCK_{name}_{block}", "TIFF", bidx=1) or 0) for name in ("OFFSET", "SIZE")
    )
    size = file.stat().st_size
    if offset + length > size:
        raise SourceError(f"{file}: is cut short: {size} bytes, its last strip ends at {offset + length}. {_FETCH}")


def _copy(archive: SafeArchive, name: str, geometry: GrdGeometry, scratch: Path) -> Path:
    """Path of the image's copy in scratch, which is made where it is missing."""
    member = archive.member(name)
    identity = f"{archive.root}\0{name}\0{member.size}\0{member.crc32}"
    target = scratch / f"{hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()}.tiff"
    with writing_to(scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    if not _is_whole(target, member.size):
        with _lock(target.with_suffix(".lock")):
            if not _is_whole(target, member.size):
                _make_room(scratch, member.size)
                _inflate(archive, name, geometry, target)
    with contextlib.suppress(OSError):  # evicted just now: the reader will find out
        os.utime(target)
    return target


def _is_whole(target: Path, size: int) -> bool:
    return target.is_file() and target.stat().st_size == size


def _inflate(archive: SafeArchive, name: str, geometry: GrdGeometry, target: Path) -> None:
    """Unpacks a member under another name, within limits, and renames it. A failure leaves nothing behind."""
    limit = min(2 * geometry.lines * geometry.samples * 3 // 2 + _OVERHEAD_BYTES, MAX_MEASUREMENT_BYTES)
    partial = target.with_name(target.name + PARTIAL_SUFFIX)
    try:
        with archive.stream(name, limit, MAX_INFLATION) as pieces, writing_to(target), partial.open("wb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())  # later, its size alone shows that a copy is complete
        with writing_to(target):
            partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _make_room(scratch: Path, wanted: int) -> None:
    """Removes the least recently used copies until wanted bytes fit, and partial copies of killed processes."""
    now = time.time()
    copies: list[tuple[float, int, Path]] = []
    for path in [*scratch.glob("*.tiff"), *scratch.glob(f"*.tiff{PARTIAL_SUFFIX}")]:
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.suffix == PARTIAL_SUFFIX and now - status.st_mtime > LOCK_WAIT_S:
                path.unlink(missing_ok=True)
            elif path.suffix != PARTIAL_SUFFIX:
                copies.append((status.st_mtime, status.st_size, path))
    held = sum(size for _, size, _ in copies)
    for _, size, path in sorted(copies):
        if held + wanted <= SCRATCH_LIMIT_BYTES:
            break
        with writing_to(path):
            path.unlink(missing_ok=True)
        held -= size


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Lets one process at a time make a copy. The lock of a process that dies is freed; the empty file stays."""
    deadline = time.monotonic() + LOCK_WAIT_S
    with writing_to(path):
        stream = path.open("ab")
    with stream:
        while not try_lock(stream.fileno()):
            if time.monotonic() > deadline:
                raise OutputError(
                    f"{path}: another process has held this lock for {LOCK_WAIT_S:.0f} s. See whether it hangs; "
                    "give another scratch folder, or remove the file."
                )
            time.sleep(0.05)
        yield
