"""Pixels of described rasters on a work item's grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.io.header import RasterHeader, read_header
from sar1m.io.raster import ReadRule, Resampling, read_window
from sar1m.io.raster_open import RasterInput
from sar1m.records import F32, U8, BlockPixels, Bool, RasterGrid
from sar1m.sources.class_tables import product_with
from sar1m.sources.layers import (
    REFLECTANCE_PER_DN,
    BandFile,
    ClassLayer,
    FolderPair,
    OpticalLayer,
    SarLayer,
    resolve_inside,
)
from sar1m.sources.pixels import (
    CIRRUS_BAND,
    REGISTRATION_BANDS,
    SCL_CLOUD,
    SCL_SNOW,
    SWIR_BAND,
    USUAL_NESZ,
    OpticalPixels,
    SarPixels,
    block_pixels,
)
from sar1m.sources.plausible import require_power, require_reflectance, require_room_for_reflectance
from sar1m.store.errors import SourceError

WATER_UNKNOWN: Final = "water_unknown"  # flag: land cover of which nobody says which class is water
_MOST_CLASS: Final = 255
_MOST_SCL: Final = 11
_MOST_FOREIGN: Final = 0.5  # share of pixels
_COARSE: Final = 1.5  # a band with pixels this much larger than the grid's is repeated, not interpolated


class BandReader:
    """Reads bands onto one grid. flags: what is worth a remark about the pixels read so far.

    raster: gives the file that holds a band. described_in: where the bands are described, for messages.
    """

    def __init__(self, grid: RasterGrid, raster: Callable[[BandFile], RasterInput], described_in: str) -> None:
        self._grid = grid
        self._raster = raster
        self._described_in = described_in
        self.flags: set[str] = set()

    def band(self, band: BandFile, rule: ReadRule, kind: str) -> F32:
        """One band (rows, cols), NaN without data. rule: without what is described of the band. kind names it in flags.

        Raises SourceError as read_window does: also where the file states something else than the description.
        """
        described = replace(rule, described=band.stated(self._described_in))
        window = read_window(self._raster(band), self._grid, bands=(band.number,), rule=described)
        if window.resampled:
            self.flags.add(f"resampled_{kind}")
        if window.infinities:
            self.flags.add("non_finite_input")
        plane: F32 = window.pixels[0]
        return plane

    def header(self, band: BandFile) -> RasterHeader:
        """The header of the file that holds a band."""
        return read_header(self._raster(band))

    def resampling(self, band: BandFile, header: RasterHeader) -> Resampling:
        """cubic, or nearest for a band that is much coarser than the grid (and a flag that says so)."""
        grid = header.grid()
        if grid is None or grid.gsd_m < _COARSE * self._grid.gsd_m:
            return "cubic"
        self.flags.add(f"upsampled_{band.name.lower()}")
        return "nearest"


def folder_bands(root: Path, grid: RasterGrid, described_in: str) -> BandReader:
    """A reader of bands in one folder. Files outside it are refused."""
    return BandReader(grid, lambda band: resolve_inside(root, band.path, described_in), described_in)


def read_pair(root: Path, pair: FolderPair, grid: RasterGrid, bands: tuple[str, ...]) -> BlockPixels:
    """SAR in linear power, the optical bands asked for, masks and land cover, all on grid.

    Bilinear for SAR (in power), cubic for optical, nearest for classes, and a plain copy where lattices agree.
    Raises SourceError where a file is missing or damaged, or its numbers contradict the unit it is said to have.
    """
    reader = folder_bands(root, grid, pair.described_in)
    sar = read_sar(reader, pair.sar)
    return block_pixels(sar, read_optical(reader, pair.optical, pair.classes, bands))


def read_optical(
    reader: BandReader, layer: OpticalLayer | None, class_layers: Sequence[ClassLayer], bands: tuple[str, ...]
) -> OpticalPixels:
    """The optical bands asked for, the bands to register with, masks and land cover, on the reader's grid.

    Without a layer the pictures are None, but masks and land cover may still be there. Raises SourceError as read_pair
    does.
    """
    optical, registration = None, None
    if layer is not None:
        wanted = {*bands, *registration_bands(layer, bands)}
        by_name = {band.name: _read_band(reader, layer, band) for band in layer.bands if band.name in wanted}
        optical = np.stack([by_name[name] for name in bands])
        registration = np.stack([by_name[name] for name in registration_bands(layer, bands)])
    classes = {described.kind: _read_classes(reader, described) for described in class_layers}
    cloud, cloud_source, snow = _clouds(classes.get("scl"), classes.get("cloudmask"))
    swir = None if cloud is not None or layer is None else _read_swir(reader, layer)
    cover = classes.get("land_cover")
    return OpticalPixels(
        optical=optical,
        registration_optical=registration,
        swir=swir,
        cirrus=None if layer is None else _read_cirrus(reader, layer),
        cloud=cloud,
        cloud_source=cloud_source,
        snow=snow,
        water=None if cover is None or cover[0].water is None else np.isin(cover[1], cover[0].water),
        land_cover=None if cover is None else cover[1],
        land_cover_names=() if cover is None else cover[0].names,
        flags=frozenset(reader.flags),
    )


def registration_bands(layer: OpticalLayer, bands: tuple[str, ...]) -> tuple[str, ...]:
    """The 10 m bands that the layer has, or those of the output where it has none."""
    found = tuple(band.name for band in layer.bands if band.name in REGISTRATION_BANDS)
    return tuple(sorted(found)) or bands


def read_sar(reader: BandReader, layer: SarLayer) -> SarPixels:
    """Bands of a layer in linear power on the reader's grid, NaN without data.

    A raster states neither noise nor angles: the noise floor is the usual one. Raises SourceError where numbers
    contradict the unit they are said to have.
    """
    linear = layer.unit == "linear"
    rule = ReadRule(
        resampling="bilinear",
        unit=layer.unit,
        zero_is_nodata=linear,
    )
    planes = []
    for band in layer.bands:
        plane = reader.band(band, rule, "sar")
        require_power(plane, layer.unit, f"{band.path}, {band.name}")
        planes.append(plane)
    noise_floor = (USUAL_NESZ,) * len(planes)
    return SarPixels(sar=np.stack(planes), noise_floor=noise_floor, flags=tuple(sorted(reader.flags)))


def _read_band(reader: BandReader, layer: OpticalLayer, band: BandFile) -> F32:
    header, where = reader.header(band), f"{band.path}, {band.name}"
    if layer.unit == "dn":
        scale = band.scale or header.stated_of(band.number).scale or REFLECTANCE_PER_DN
        require_room_for_reflectance(header.dtype, scale, where)
    rule = ReadRule(
        resampling=reader.resampling(band, header),
        unit=layer.unit,
        usual_scale=REFLECTANCE_PER_DN if layer.unit == "dn" else 1.0,
        zero_is_nodata=layer.unit == "dn",
    )
    values = reader.band(band, rule, "optical")
    require_reflectance(values, layer.unit, where)
    return values


def _read_swir(reader: BandReader, layer: OpticalLayer) -> F32 | None:
    """The band by which the brightness test distinguishes snow from cloud, where the layer has it."""
    return next((_read_band(reader, layer, band) for band in layer.bands if band.name == SWIR_BAND), None)


def _read_cirrus(reader: BandReader, layer: OpticalLayer) -> F32 | None:
    """B10, where the layer has it. It is measured, not stored: what is odd about it is no remark on the sample."""
    flags = set(reader.flags)
    plane = next((_read_band(reader, layer, band) for band in layer.bands if band.name == CIRRUS_BAND), None)
    reader.flags = flags
    return plane


def _read_classes(reader: BandReader, layer: ClassLayer) -> tuple[ClassLayer, U8]:
    """A layer and its class numbers, (rows, cols); where there are none 0, or a number that no class has.

    Numbers over 255 (CORINE's codes) are replaced, in the layer too, by the places of their classes, from 1. Raises
    SourceError for numbers that are no classes.
    """
    numbers = reader.band(layer.band, ReadRule(resampling="nearest"), layer.kind)
    if any(number > _MOST_CLASS for number, _ in layer.names):
        layer, numbers = _renumbered(layer, numbers)
    known = numbers[np.isfinite(numbers)]
    if known.size and (known.min() < 0 or known.max() > _MOST_CLASS or np.any(known != np.rint(known))):
        raise SourceError(
            f"{layer.band.path}: {layer.kind} holds numbers from {known.min():g} to {known.max():g}; expected whole "
            "numbers, 0 to 255, or those of the classes that are named."
        )
    if layer.kind == "cloudmask" and known.size and known.max() > 1:
        raise SourceError(
            f"{layer.band.path}: a cloud mask holds 0 (clear) and 1 (cloud or shadow); found {known.max():g}. Write it "
            "so, or describe Sentinel-2's scene classification as scl."
        )
    if layer.kind == "scl" and known.size and known.max() > _MOST_SCL:
        raise SourceError(
            f"{layer.band.path}: Sentinel-2's scene classification has the classes 0 to {_MOST_SCL}; found "
            f"{known.max():g}. If it stands for no data, declare it as nodata; describe other masks as cloudmask."
        )
    _require_own_classes(layer, known)
    if layer.kind == "land_cover" and layer.water is None:
        reader.flags.add(WATER_UNKNOWN)
    unknown = 1 if layer.kind == "cloudmask" else _free_number(layer)
    return layer, np.where(np.isfinite(numbers), numbers, unknown).astype(np.uint8)


def _require_own_classes(layer: ClassLayer, known: F32) -> None:
    """Raises SourceError for land cover most of whose numbers, but for the fills 0 and 255, the product said to be
    there does not have. Classes that a user lists need not be all."""
    product = product_with(layer.names) if layer.kind == "land_cover" else None
    numbers = known[(known != 0) & (known != _MOST_CLASS)]
    if product is None or not numbers.size:
        return
    foreign = ~np.isin(numbers, [number for number, _ in product.names])
    if foreign.mean() > _MOST_FOREIGN:
        found = ", ".join(f"{number:g}" for number in np.unique(numbers[foreign])[:5])
        raise SourceError(
            f"{layer.band.path}: said to be {product.name}, but {100 * foreign.mean():.0f} % of its numbers are none "
            f"of its classes ({found}). Name the product that it is, or its classes one by one."
        )


def _renumbered(layer: ClassLayer, numbers: F32) -> tuple[ClassLayer, F32]:
    """A layer whose classes are numbered from 1 in the order of their numbers, and its pixels."""
    codes = sorted({number for number, _ in layer.names})
    known = np.isfinite(numbers)
    place = np.searchsorted(codes, numbers[known])
    foreign = np.asarray([*codes, -1])[place] != numbers[known]
    if len(codes) >= _MOST_CLASS or foreign.any():
        found = ", ".join(f"{number:g}" for number in np.unique(numbers[known][foreign])[:5])
        raise SourceError(
            f"{layer.band.path}: {layer.kind} holds {found or f'{len(codes)} classes'}; expected the numbers of the "
            f"classes that are named, at most {_MOST_CLASS - 1}."
        )
    placed = numbers.copy()
    placed[known] = place + 1
    rank = {code: number for number, code in enumerate(codes, start=1)}
    names = tuple((rank[number], name) for number, name in layer.names)
    water = None if layer.water is None else tuple(rank[number] for number in layer.water if number in rank)
    return replace(layer, names=names, water=water), placed


def _free_number(layer: ClassLayer) -> int:
    """0, or the largest number that no class has where 0 is a class (water in Dynamic World)."""
    free = {*range(_MOST_CLASS + 1)} - {number for number, _ in layer.names}
    return 0 if 0 in free else max(free)


def _clouds(
    scl: tuple[ClassLayer, U8] | None, mask: tuple[ClassLayer, U8] | None
) -> tuple[Bool | None, str | None, Bool | None]:
    """Cloud mask, where it comes from, and snow mask. A pixel without a class is not known to be clear and counts as
    cloud."""
    if scl is not None:
        return np.isin(scl[1], (0, *SCL_CLOUD)), "scl", scl[1] == SCL_SNOW
    if mask is not None:
        return mask[1] == 1, "cloudmask", None
    return None, None, None
