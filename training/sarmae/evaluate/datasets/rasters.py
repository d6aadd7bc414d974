"""Scenes from raster files: backscatter in dB, or pictures without a unit.

What a file holds is decided by its stated unit or the task's `units`; without either, integers are pictures, and floats
are backscatter in dB where a tenth of them lies below MOSTLY_BELOW_DB.
"""

# C channels, H W pixels

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.side_files import shown
from sarmae.evaluate.datasets.mask_pairs import POLARISATIONS
from sarmae.evaluate.datasets.pictures import one_grey
from sarmae.evaluate.datasets.raster_file import RasterFile, read_raster
from sarmae.evaluate.labelled_images import Units
from sarmae.evaluate.study_config import Scale

MOSTLY_BELOW_DB: Final = -3.0  # a tenth of the pixels: speckle alone gives such fades; linear power is nowhere below 0
MOST_DB: Final = 300.0  # either side; 10 log10 of the smallest power that anybody writes
_TWO_BANDS: Final = ("VV", "VH")  # of Sentinel-1 products in this order; TerraMesh and Sen1Floods11 keep it
_POLARISATION: Final = re.compile(r"(?<![A-Za-z])(HH|HV|VH|VV)(?![A-Za-z])", re.IGNORECASE)
_NUMBERED: Final = re.compile(r"(b|bands?|channels?)?[ _-]?\d*", re.IGNORECASE)
_UNIT_WORDS: Final[Mapping[str, Scale | None]] = {
    **dict.fromkeys(("db", "decibel", "decibels"), "dB"),
    **dict.fromkeys(("linear", "linear power", "power", "natural", "m2/m2"), "linear"),
    **dict.fromkeys(("", "1", "dn", "digital number", "digital numbers", "counts"), None),
}
GREY: Final = ("grey",)


@dataclass(frozen=True, kw_only=True, eq=False)
class RasterImage:
    """pixels: (C, H, W) float32, NaN where there is no data. channels: polarisations, or GREY."""

    pixels: NDArray[np.float32]
    units: Units
    channels: tuple[str, ...]


def read_scene(files: Mapping[str, Path], scale: Scale | None = None) -> RasterImage:
    """A scene from one file, or from one file for each polarisation. What has no finite dB becomes no data.

    scale: what the values are, as the user states it; None: see the head of this module.
    Raises SourceError where a file is broken, a band has no known polarisation, files differ in size or depth, or the
    values are none of backscatter in dB. Raises ConfigError where scale contradicts a file.
    """
    if tuple(files) == ("",):
        return _read_one(files[""], "", scale)
    order = [name for name in POLARISATIONS if name in files]
    scenes = [_read_one(files[name], name, scale) for name in order]
    for name, scene in zip(order, scenes, strict=True):
        if scene.pixels.shape != scenes[0].pixels.shape or scene.units != scenes[0].units:
            raise SourceError(
                f"{shown(files[name])}: {scene.pixels.shape} {scene.units}, but {shown(files[order[0]])} is "
                f"{scenes[0].pixels.shape} {scenes[0].units}. The polarisations of a scene must lie on one grid."
            )
    return RasterImage(
        pixels=np.concatenate([scene.pixels for scene in scenes]), units=scenes[0].units, channels=tuple(order)
    )


def _read_one(path: Path, name: str, wanted: Scale | None) -> RasterImage:
    """name: the polarisation that the file's name states; may be empty."""
    raster = read_raster(path)
    scale = _scale_of(raster, wanted)
    if scale is None and raster.values.dtype.kind != "f":
        grey = raster.filled(one_grey(raster)[None])
        return RasterImage(pixels=grey, units="picture", channels=(name,) if name else GREY)
    pixels = raster.filled()
    if scale == "linear":
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = 10 * np.log10(pixels)
    pixels[~np.isfinite(pixels)] = np.nan
    _check_decibels(path, pixels, stated=scale is not None)
    return RasterImage(pixels=pixels, units="dB", channels=_channels(raster, name))


def _scale_of(raster: RasterFile, wanted: Scale | None) -> Scale | None:
    """What the values are, as the user or the file states it."""
    word = raster.unit.lower()
    if word not in _UNIT_WORDS:
        raise SourceError(
            f"{shown(raster.path)}: in {raster.unit!r} by its own words; backscatter in dB or linear power, or a "
            "picture without a unit expected. Is it an image of a radar? Correct the unit, or remove it."
        )
    stated = _UNIT_WORDS[word]
    if stated is not None and wanted is not None and stated != wanted:
        raise ConfigError(
            f"{shown(raster.path)}: in {raster.unit!r} by its own words, but units = {wanted!r}. Correct one."
        )
    return wanted or stated


def _check_decibels(path: Path, pixels: NDArray[np.float32], *, stated: bool) -> None:
    """Raises SourceError where the values are no backscatter in dB."""
    measured = pixels[~np.isnan(pixels)]
    if not measured.size:
        return
    if (worst := float(measured[np.argmax(np.abs(measured))])) and abs(worst) > MOST_DB:
        raise SourceError(
            f"{shown(path)}: holds {worst:g}, which is no backscatter in dB. If it stands for no data, declare it as "
            "the file's nodata value."
        )
    tenth = float(np.quantile(measured, 0.1))
    if not stated and tenth > MOSTLY_BELOW_DB:
        below = float((measured < 0).mean())
        raise SourceError(
            f"{shown(path)}: float values from {measured.min():g} to {measured.max():g}, {below:.1%} below 0; "
            f"backscatter in dB expected, of which a tenth lies below {MOSTLY_BELOW_DB:g}. Is it linear power? Say "
            'what it is by units = "linear" or "dB" of the dataset. Pictures must be of 8 or 16 bits.'
        )


def _channels(raster: RasterFile, name: str) -> tuple[str, ...]:
    """The polarisation of each band: by the file's name, by the descriptions, or as Sentinel-1 products have two."""
    count = len(raster.values)
    found = [[word.upper() for word in _POLARISATION.findall(text)] for text in raster.descriptions]
    named = tuple(words[0] for words in found if len(set(words)) == 1)
    if name and count == 1 and named in ((), (name,)):
        return (name,)
    if not name and len(named) == count == len(set(named)):
        return named
    if not name and count == len(_TWO_BANDS) and all(map(_NUMBERED.fullmatch, raster.descriptions)):
        return _TWO_BANDS
    expected = f"one band of {name}, as its name says," if name else f"one of {', '.join(POLARISATIONS)} each"
    raise SourceError(
        f"{shown(raster.path)}: {count} float band{'s' * (count != 1)} described as {_described(raster.descriptions)}; "
        f"{expected} expected. Write it into the bands' descriptions."
    )


def _described(descriptions: Sequence[str]) -> str:
    return ", ".join(repr(text or None) for text in descriptions)
