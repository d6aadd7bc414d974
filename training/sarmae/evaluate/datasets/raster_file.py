"""The one reader of raster files: PNG, JPEG, TIFF and BMP by GDAL, with all that they state of their values.

What a file states is heeded or refused: nodata, alpha, masks inside and beside it (.msk), scale and offset, unit,
palette, .aux.xml. Depth and sign stay as stored. A file that is cut short, or fails its own checksums, is refused.
GDAL is bound to the driver of the file's first bytes: a virtual raster under a picture's name could name any file.
"""

# N bands, H W pixels

from __future__ import annotations

import itertools
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import SourceError
from sar1m.store.side_files import require_regular, shown
from sarmae.evaluate.extra_packages import extra_package

MOST_VALUES: Final = 2**27  # bands x rows x columns; half a gigabyte as float32
MOST_BANDS: Final = 64
_REMEDY: Final = "Get the file again, or remove it."
_TIFF: Final = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DRIVERS: Final = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    **dict.fromkeys(_TIFF, "GTiff"),
}
_OPTIONS: Final[dict[str, Any]] = {
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",  # else a JPEG cut short is a picture that is half grey
    "GDAL_DISABLE_READDIR_ON_OPEN": "TRUE",  # side files are looked for by name, not in a list of 100,000 chips
    "GDAL_NUM_THREADS": "1",
    "GDAL_CACHEMAX": 2**26,  # bytes; the default is a share of the machine
}
_TYPES: Final = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float32", "float64")
_PNG_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7: Final = ((0, 8, 0, 8), (0, 8, 4, 8), (4, 8, 0, 4), (0, 4, 2, 4), (2, 4, 0, 2), (0, 2, 1, 2), (1, 2, 0, 1))


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterFile:
    """A raster as it is stored, without its alpha.

    values: (N, H, W) in the type of the file; of a palette, its numbers; float64 where scaled.
    missing: (N, H, W), True where the file says that there is no data; None where it says nothing of the kind.
    palette: (256, 3) colours, or None. descriptions: of the bands. unit: as the file states it; may be empty.
    scaled: whether a scale and an offset of the file were applied.
    lossy: whether the values went through a JPEG.
    """

    path: Path
    values: NDArray[Any]
    missing: NDArray[np.bool_] | None
    palette: NDArray[np.uint8] | None
    descriptions: tuple[str, ...]
    unit: str
    scaled: bool
    lossy: bool

    @property
    def depth(self) -> str:
        """Type and unit of the values, for messages and comparisons."""
        return f"{self.values.dtype}{' (scaled)' * self.scaled}{f' in {self.unit}' * bool(self.unit)}"

    def filled(self, values: NDArray[Any] | None = None) -> NDArray[np.float32]:
        """(N, H, W) float32, NaN where there is no data. values: what takes the place of the file's own."""
        with np.errstate(over="ignore"):  # what is missing may be any number
            pixels = (self.values if values is None else values).astype(np.float32)
        if self.missing is not None:
            pixels[self.missing[: len(pixels)]] = np.nan
        return pixels


def read_raster(path: Path) -> RasterFile:
    """A raster file.

    Raises SourceError where it is damaged, cut short, of another format, too large, of complex numbers, of several
    pages, half transparent, or where a block of it was never written. Raises ConfigError where rasterio is not
    installed.
    """
    rasterio = extra_package("rasterio", f"{shown(path)}: reading a picture")
    gdal_error = extra_package("rasterio._err", "reading a picture").CPLE_BaseError  # some pass through rasterio
    driver = _driver_of(path)
    try:
        with warnings.catch_warnings():
            # where a chip lies does not matter here
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.Env(**_OPTIONS), rasterio.open(path, driver=driver) as raster:
                _check_header(path, raster)
                return _read(path, raster)
    except (rasterio.errors.RasterioError, gdal_error, ValueError, OverflowError) as error:
        cause = " ".join(str(error.__cause__ or error).split())[:300]
        raise SourceError(f"{shown(path)}: cannot be read as a picture ({cause}). {_REMEDY}") from error


def _driver_of(path: Path) -> str:
    """GDAL's driver by the first bytes. Raises SourceError for other formats, and a PNG or JPEG that is not whole."""
    require_regular(path, error=SourceError, remedy=_REMEDY)
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
            driver = next((name for magic, name in _DRIVERS.items() if head.startswith(magic)), None)
            content = stream.read() if driver in ("PNG", "JPEG") else b""
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be read: {error.strerror}. {_REMEDY}") from error
    if driver is None:
        found = f"begins with {head!r}" if head else "is empty"
        raise SourceError(
            f"{shown(path)}: cannot be read as a picture ({found}; a PNG, JPEG, TIFF or BMP expected). {_REMEDY}"
        )
    try:
        if driver == "PNG":
            _check_png(content)
        if driver == "JPEG" and content.rfind(b"\xff\xd9") < content.rfind(b"\xff\xda"):
            raise ValueError("no end marker after its last scan")
    except (ValueError, struct.error, zlib.error) as error:
        raise SourceError(f"{shown(path)}: cannot be read as a picture ({error}). {_REMEDY}") from error
    _check_beside(path)
    return driver


def _check_beside(path: Path) -> None:
    """Side files that GDAL opens with any driver must be TIFF files. Raises SourceError for others."""
    for suffix in (".msk", ".MSK", ".ovr", ".OVR"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() or beside.is_symlink():
            require_regular(beside, error=SourceError, remedy="Remove it.")
            with beside.open("rb") as stream:
                if stream.read(4) not in _TIFF:
                    raise SourceError(f"{shown(beside)}: no TIFF, which is what lies beside a raster under that name.")
    if (stray := path.with_suffix(".msk")).exists() and stray.name != f"{path.name}.msk":
        raise SourceError(f"{shown(stray)}: a mask that is not read. Call it {path.name}.msk, or remove it.")


def _check_png(content: bytes) -> None:
    """Raises ValueError, struct.error or zlib.error where chunks, checksums or the number of pixels are not whole.

    content: after the signature. GDAL reads an 8-bit PNG that is cut short without a word.
    Source: PNG specification, third edition, 5.3, 8 and 10.
    """
    at, header, packed = 0, b"", list[bytes]()
    while True:
        length, kind = struct.unpack_from(">I4s", content, at)
        body = content[at + 8 : at + 8 + length]
        if len(body) < length or len(content) < at + 12 + length:
            raise ValueError(f"cut short: {kind!r} of {length} bytes ends after {len(body)}")
        if zlib.crc32(kind + body) != struct.unpack_from(">I", content, at + 8 + length)[0]:
            raise ValueError(f"damaged: the checksum of {kind!r} does not hold")
        header = header or body
        if kind == b"IDAT":
            packed.append(body)
        if kind == b"IEND":
            break
        at += 12 + length
    expected = _png_bytes(header)
    unpacking, found = zlib.decompressobj(), 0
    for body in packed:
        while body and found <= expected:
            found += len(unpacking.decompress(body, 2**20))
            body = unpacking.unconsumed_tail  # noqa: PLW2901 - what is left of it
    if found != expected or not unpacking.eof:
        raise ValueError(f"{found} bytes of pixels, {expected} expected")


def _png_bytes(header: bytes) -> int:
    """Bytes of the filtered rows of a PNG, by its IHDR. Raises ValueError where it is none, or is too large."""
    cols, rows, bits, colours, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if colours not in _PNG_CHANNELS or cols * rows * _PNG_CHANNELS[colours] > MOST_VALUES:
        raise ValueError(f"{rows} rows of {cols} px of colour type {colours}")
    passes = _ADAM7 if interlaced else ((0, 1, 0, 1),)
    total = 0
    for first_row, row_step, first_col, col_step in passes:
        high, wide = -((first_row - rows) // row_step), -((first_col - cols) // col_step)
        total += high * (1 + -(-wide * bits * _PNG_CHANNELS[colours] // 8)) if high > 0 and wide > 0 else 0
    return total


def _check_header(path: Path, raster: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """What the header states, before memory is taken. Raises SourceError."""
    if (
        raster.count > MOST_BANDS
        or raster.count * raster.height * raster.width > MOST_VALUES
        or any(rows * cols > MOST_VALUES for rows, cols in raster.block_shapes)
    ):
        raise SourceError(
            f"{shown(path)}: {raster.count} bands of {raster.height} rows of {raster.width} px; at most {MOST_BANDS} "
            f"bands and {MOST_VALUES} values are read of a file. Cut it into tiles."
        )
    if not set(raster.dtypes) <= set(_TYPES) or len(set(raster.dtypes)) > 1:
        raise SourceError(
            f"{shown(path)}: values of {', '.join(sorted(set(raster.dtypes)))}; one type of real numbers expected. "
            "Write amplitude, or power in dB."
        )
    if len(raster.subdatasets) > 1:
        raise SourceError(
            f"{shown(path)}: {len(raster.subdatasets)} pages; one expected, the others would be left out. Write a file "
            "a page, or one page with several bands."
        )


def _read(path: Path, raster: Any) -> RasterFile:  # noqa: ANN401 - rasterio has no types
    kinds = [one.name for one in raster.colorinterp]
    bands = [number for number, kind in enumerate(kinds, start=1) if kind != "alpha"]
    if not bands or len(bands) < len(kinds) - 1:
        raise SourceError(f"{shown(path)}: bands of {', '.join(kinds)}; values and at most one alpha expected.")
    if raster.driver == "GTiff" and None in raster.nodatavals:
        _check_blocks(path, raster)
    values = raster.read(bands)
    missing = np.zeros(values.shape, dtype=np.bool_)
    for place, number in enumerate(bands):
        missing[place] = _missing(raster, number, values[place])
    palette = None
    if "palette" in kinds:
        palette, alpha = _palette(path, raster, values)
        missing |= _transparent(path, alpha[values[0]])
    if len(bands) < len(kinds):
        missing |= _transparent(path, raster.read(kinds.index("alpha") + 1))
    if path.with_name(path.name + ".msk").exists() and not any(map(_has_mask, raster.mask_flag_enums)):
        raise SourceError(f"{shown(path)}.msk: is no mask to GDAL. Write the mask into the file itself, or remove it.")
    raw = values
    values, unit = _scaled(path, raster, bands, raw)
    if values.dtype == np.float64:
        _check_range(path, values[~missing])
    return RasterFile(
        path=path,
        values=values,
        missing=missing if missing.any() else None,
        palette=palette,
        descriptions=tuple(str(raster.descriptions[number - 1] or "") for number in bands),
        unit=unit,
        scaled=values is not raw,
        lossy=raster.driver == "JPEG"
        or "JPEG" in str(raster.tags(ns="IMAGE_STRUCTURE").get("COMPRESSION", "")).upper(),
    )


def _check_range(path: Path, measured: NDArray[np.float64]) -> None:
    """Raises SourceError for a finite value that float32 cannot hold: it would become infinite on the way."""
    known = measured[np.isfinite(measured)]
    if known.size and float(np.abs(known).max()) > float(np.finfo(np.float32).max):
        raise SourceError(
            f"{shown(path)}: holds {known[np.argmax(np.abs(known))]:g}, more than 32 bits hold. If it stands for no "
            "data, declare it as the file's nodata value."
        )


def _scaled(
    path: Path,
    raster: Any,  # noqa: ANN401 - rasterio has no types
    bands: list[int],
    values: NDArray[Any],
) -> tuple[NDArray[Any], str]:
    """The values with the scales and offsets of their bands, float64 where there are any; and the unit."""
    scales, offsets = (np.array([every[number - 1] for number in bands]) for every in (raster.scales, raster.offsets))
    units = {str(raster.units[number - 1] or "").strip() for number in bands}
    if len(units) > 1 or not np.isfinite([*scales, *offsets]).all() or (scales == 0).any():
        raise SourceError(
            f"{shown(path)}: states the scales {scales.tolist()}, offsets {offsets.tolist()}, units {sorted(units)}; "
            "finite ones, no scale of 0, and one unit expected. Correct the file."
        )
    if (scales != 1).any() or (offsets != 0).any():
        values = values.astype(np.float64) * scales[:, None, None] + offsets[:, None, None]
    return values, units.pop()


def _has_mask(flags: list[Any]) -> bool:
    return [flag.name for flag in flags] == ["per_dataset"]


def _missing(raster: Any, number: int, values: NDArray[Any]) -> NDArray[np.bool_]:  # noqa: ANN401
    """(H, W) of a band: its nodata value and its mask, both where it has both; an alpha apart."""
    flags = [flag.name for flag in raster.mask_flag_enums[number - 1]]
    nodata = raster.nodatavals[number - 1]
    found = np.zeros(values.shape, dtype=np.bool_)
    if "alpha" not in flags and flags != ["all_valid"]:
        found |= raster.read_masks(number) == 0
    if nodata is not None and "nodata" not in flags:
        found |= _equal(values, nodata)
    return found


def _equal(values: NDArray[Any], nodata: float) -> NDArray[np.bool_]:
    """Where values are the nodata value, in the rounding of their type; text rounds the largest float32."""
    if values.dtype.kind != "f":
        return np.asarray(values == nodata)
    own = values.dtype.type(nodata)
    near = np.isclose(values, own, rtol=1e-5, atol=0) if abs(nodata) > 1e30 else values == own
    return np.asarray(near)


def _transparent(path: Path, alpha: NDArray[Any]) -> NDArray[np.bool_]:
    """(H, W) where a picture is transparent. Raises SourceError where it is so in part: its values were mixed."""
    top = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    if not ((alpha == 0) | (alpha == top)).all():
        raise SourceError(
            f"{shown(path)}: half transparent pixels (alpha between 0 and {top}); measured or not expected. Write it "
            "without alpha, or with 0 where there is no data."
        )
    return np.asarray(alpha == 0)


def _palette(
    path: Path,
    raster: Any,  # noqa: ANN401 - rasterio has no types
    values: NDArray[Any],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(256, 3) colours and (256,) alpha of the numbers."""
    if values.dtype != np.uint8 or len(values) > 1:
        raise SourceError(
            f"{shown(path)}: a palette over {len(values)} bands of {values.dtype}; one of uint8 expected."
        )
    colours = np.full((256, 4), (0, 0, 0, 255), dtype=np.uint8)
    for number, colour in raster.colormap(1).items():
        if number < 256:
            colours[number] = colour
    return colours[:, :3], colours[:, 3]


def _check_blocks(path: Path, raster: Any) -> None:  # noqa: ANN401 - rasterio has no types
    """Raises SourceError for a block that was never written: GDAL would give zeros, which nobody measured."""
    rows, cols = raster.block_shapes[0]
    apart = raster.interleaving is not None and raster.interleaving.name == "band"
    planes = range(1, raster.count + 1) if apart else (1,)
    for band, row, col in itertools.product(planes, range(-(-raster.height // rows)), range(-(-raster.width // cols))):
        if raster.get_tag_item(f"BLOCK_OFFSET_{col}_{row}", "TIFF", bidx=band) is None:
            raise SourceError(
                f"{shown(path)}: the block at row {row * rows}, column {col * cols} was never written, and no nodata "
                "value is declared for it. Write the file whole, or declare one."
            )
