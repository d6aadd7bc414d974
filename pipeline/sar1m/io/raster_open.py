"""Opens GeoTIFFs: plain local files, bytes in memory, and remote files read by ranges; pictures also as PNG and JPEG.

GDAL chooses the driver by content and not by name. A virtual raster renamed to .tif would read any file, or fetch any
address, that it names. Therefore only the GTiff driver is used (for pictures also those of PNG and JPEG), every path
must be a plain local file, every input must begin like its kind, and what a header states is checked before a pixel is
read. Bytes of remote files come through the
stream that a RangedTiff opens; GDAL itself uses no network.
"""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import rasterio
import rasterio.errors
from rasterio.abc import FileContainer
from rasterio.io import MemoryFile

from sar1m.store.errors import Sar1mError, SourceError

MAX_SIDE_PX: Final = 131_072  # a 1,300 km mosaic at 10 m; beyond that a header is a mistake or an attack
MAX_BANDS: Final = 64
MAX_TILE_BYTES: Final = 2**29  # one decoded tile or strip; GDAL allocates it whole
REAL_DTYPES: Final = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")

TIFF_MAGIC: Final = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_PICTURE_MAGIC: Final = {b"\x89PNG\r\n\x1a\n": "PNG", b"\xff\xd8\xff": "JPEG"}
_NOT_LOCAL: Final = re.compile(r"^(/vsi|[A-Za-z][A-Za-z0-9_.+-]*:)", re.IGNORECASE)
# VRT, GTI and the network drivers refer to other files. GDAL drops drivers only before its first use in a process, so
# this is the second wall; driver="GTiff" at each open is the first.
GDAL_OPTIONS: Final[dict[str, Any]] = {
    "GDAL_SKIP": "VRT DERIVED GTI HTTP WMS WMTS WCS PLMOSAIC EEDA EEDAI DAAS OGCAPI STACTA STACIT NGW",
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # what side_files.py reads is all that counts
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": 2**24,  # bytes; the default, a share of the machine, fills with strips nobody reads again
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TiffBytes:
    """A GeoTIFF held in memory, such as a member of an archive. name: for messages."""

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True, eq=False)
class RangedTiff:
    """A remote GeoTIFF.

    name: for messages.
    open: returns a seekable stream of bytes, which fetches what is read. It is closed after use.
    """

    name: str
    open: Callable[[], io.RawIOBase]


RasterInput = Path | TiffBytes | RangedTiff


def input_name(source: RasterInput) -> str:
    """The name of an input for messages."""
    return str(source) if isinstance(source, Path) else source.name


@contextmanager
def opened(source: RasterInput, *, pictures: bool = False) -> Iterator[rasterio.DatasetReader]:
    """Opens a GeoTIFF as a rasterio dataset. pictures: also a local PNG or JPEG, or its bytes.

    Raises SourceError for GDAL's errors, here and while the dataset is in use. An exception of a remote stream is
    raised as it is.
    """
    name = input_name(source)
    try:
        with ExitStack() as stack:
            stack.enter_context(rasterio.Env(**GDAL_OPTIONS))
            # Masks and images in radar geometry lie nowhere; raster.py refuses others that do not say where they lie.
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            if isinstance(source, TiffBytes):
                driver = _driver_of(source.content[:16], name, pictures=pictures)
                if driver == "PNG":
                    _require_end(io.BytesIO(source.content), name)
                # The memory file must outlive the dataset: rasterio does not copy the bytes.
                memory = stack.enter_context(MemoryFile(source.content))
                yield stack.enter_context(memory.open(driver=driver))
            elif isinstance(source, RangedTiff):
                yield stack.enter_context(_opened_stream(source))
            else:
                path, driver = _checked_path(source, pictures=pictures)
                yield stack.enter_context(rasterio.open(path, driver=driver))
    except rasterio.errors.RasterioError as error:
        kind = "picture" if pictures else "GeoTIFF"
        raise SourceError(f"{name}: damaged or not a {kind}: {error}. Fetch or copy it again.") from error


@contextmanager
def _opened_stream(source: RangedTiff) -> Iterator[rasterio.DatasetReader]:
    with source.open() as stream:
        _driver_of(stream.read(16) or b"", source.name, pictures=False)
        container = _OneStream(stream, stream.seek(0, os.SEEK_END))
        try:
            with rasterio.open("remote.tif", driver="GTiff", opener=container) as dataset:
                yield dataset
        except rasterio.errors.RasterioError as complaint:
            if container.fault is not None:  # GDAL's error follows from that of the stream
                raise container.fault from complaint
            raise
        if container.fault is not None:
            raise container.fault


class _OneStream(FileContainer):  # type: ignore[misc]  # rasterio has no types
    """A stream presented to GDAL as a folder with a single file.

    An exception must not pass through GDAL's C code. A read that fails returns nothing, and fault keeps the exception.
    """

    def __init__(self, stream: io.RawIOBase, size_bytes: int) -> None:
        self._stream = stream
        self.size_bytes = size_bytes
        self.fault: Sar1mError | OSError | None = None

    def open(self, path: str, mode: str = "r", **_options: object) -> _StreamReader:  # noqa: ARG002  rasterio's signature
        return _StreamReader(self)

    def isfile(self, path: str) -> bool:  # noqa: ARG002
        return True

    def isdir(self, path: str) -> bool:  # noqa: ARG002
        return False

    def ls(self, path: str) -> list[str]:  # noqa: ARG002
        return []

    def mtime(self, path: str) -> int:  # noqa: ARG002
        return 0

    def size(self, path: str) -> int:  # noqa: ARG002
        return self.size_bytes

    def rm(self, path: str) -> None:
        raise OSError(errno.EROFS, "read only", path)

    def read_at(self, position: int, size_bytes: int) -> bytes:
        """Bytes of the stream; none after a read has failed."""
        if self.fault is not None:
            return b""
        try:
            self._stream.seek(position)
            return self._stream.read(size_bytes) or b""
        except (Sar1mError, OSError) as fault:
            self.fault = fault
            return b""


class _StreamReader(io.RawIOBase):
    """A reading position in a stream. Several may be open at once."""

    def __init__(self, container: _OneStream) -> None:
        super().__init__()
        self._container = container
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._container.size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._container.size_bytes - self._position)
        content = self._container.read_at(self._position, left if size < 0 else min(size, left))
        self._position += len(content)
        return content


def check_size(dataset: rasterio.DatasetReader, name: str) -> None:
    """Raises SourceError where the sides, bands, pixel type or tile size of a dataset exceed what is read."""
    if max(dataset.width, dataset.height) > MAX_SIDE_PX or dataset.count > MAX_BANDS:
        raise SourceError(
            f"{name}: announces {dataset.height} x {dataset.width} px and {dataset.count} bands; at most "
            f"{MAX_SIDE_PX} x {MAX_SIDE_PX} px and {MAX_BANDS} bands are read. Cut it into tiles."
        )
    strange = sorted(set(dataset.dtypes) - set(REAL_DTYPES))
    if strange:
        raise SourceError(
            f"{name}: pixels of type {', '.join(strange)}; expected one of {', '.join(REAL_DTYPES)}. Detect complex "
            "(SLC) data first: power is |z|^2."
        )
    tile_rows, tile_cols = dataset.block_shapes[0]
    tile_bytes = tile_rows * tile_cols * np.dtype(dataset.dtypes[0]).itemsize
    if tile_bytes > MAX_TILE_BYTES:
        raise SourceError(
            f"{name}: one tile of {tile_rows} x {tile_cols} px takes {tile_bytes} bytes; at most {MAX_TILE_BYTES} are "
            "decoded at once. Write it tiled, e.g. with gdal_translate -of COG."
        )


def _checked_path(path: Path, *, pictures: bool) -> tuple[Path, str]:
    """The absolute path of a plain local file and the driver for it. Raises SourceError for anything else."""
    kind = "picture" if pictures else "GeoTIFF"
    if _NOT_LOCAL.match(str(path)):
        raise SourceError(f"{path}: not a local file name. Addresses and GDAL's virtual paths (/vsi...) are refused.")
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise SourceError(f"{path}: not a regular file. Expected a {kind}.")
        with path.open("rb") as stream:
            head = stream.read(16)
            if not head:
                raise SourceError(f"{path}: is empty (0 bytes). Expected a {kind}; fetch or copy it again.")
            driver = _driver_of(head, str(path), pictures=pictures)
            if driver == "PNG":
                _require_end(stream, str(path))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Expected a {kind}; check the path.") from error
    return path.absolute(), driver


def _require_end(stream: BinaryIO, name: str) -> None:
    """Raises SourceError for a PNG that breaks off. GDAL reads it without an error, and every number is wrong.

    Its chunks are walked to the last one, IEND (PNG specification, 5.3); what lies behind that is not looked at."""
    stream.seek(8)
    while len(start := stream.read(8)) == 8:
        if start[4:] == b"IEND":
            return
        stream.seek(int.from_bytes(start[:4], "big") + 4, os.SEEK_CUR)
    raise SourceError(f"{name}: breaks off before the end of its PNG. Fetch or copy it again.")


def _driver_of(head: bytes, name: str, *, pictures: bool) -> str:
    """The name of GDAL's driver for a file that begins so. Raises SourceError for another kind."""
    if head.startswith(TIFF_MAGIC):
        return "GTiff"
    if not pictures:
        raise SourceError(
            f"{name}: not a TIFF: begins with {head[:12]!r}. Only GeoTIFF files are read; convert it, e.g. with "
            "gdal_translate -of COG."
        )
    for magic, driver in _PICTURE_MAGIC.items():
        if head.startswith(magic):
            return driver
    raise SourceError(
        f"{name}: neither TIFF nor PNG nor JPEG: begins with {head[:12]!r}. Convert it, e.g. with gdal_translate -of "
        "GTiff."
    )
