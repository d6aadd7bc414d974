"""What a pair is read from: two picture files, a described block of scenes, or a sample of a store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sar1m.audit.align import Overlap, overlap_of
from sar1m.audit.channels import Channels, SarUnit, optical_channels, sar_channels
from sar1m.audit.measure import ReadWindow
from sar1m.audit.pair_files import FilePair, PictureAt
from sar1m.audit.stored import StoredPair
from sar1m.config import BuildConfig
from sar1m.io.header import wkt_of
from sar1m.io.picture import Georeference, Picture
from sar1m.io.raster import ReadRule, read_window
from sar1m.records import F32, Candidate
from sar1m.sources.folder.source import FolderSource
from sar1m.store.errors import SourceError


@dataclass(frozen=True, kw_only=True)
class DescribedPair:
    """A block of scenes that STAC items or a scenes.csv describe, as a build would read it."""

    root: str
    candidate: Candidate
    config: BuildConfig

    @property
    def name(self) -> str:
        return self.candidate.item_id

    def state(self) -> list[object]:
        """What changes when what is measured does."""
        optical = self.candidate.optical
        return [self.name, self.candidate.sar.digest, optical.digest if optical else None, self.config.pixel_digest()]


PairSource = FilePair | DescribedPair | StoredPair


@dataclass(frozen=True, kw_only=True)
class HowRead:
    """What the user says of the pictures: the unit of the SAR, and the optical bands in the order of wavelength."""

    sar_unit: SarUnit = "auto"
    optical_bands: tuple[int, ...] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class OpenPair:
    """A pair at hand. sar, optical: windows as measure takes them. ground: None where nobody says where it lies.

    overlap: where the two can be cut as they are; why_not says why not where they cannot. doubt: see Channels.
    """

    sar: ReadWindow
    optical: ReadWindow
    size: tuple[int, int]
    ground: Georeference | None
    overlap: Overlap | None = None
    why_not: str = ""
    doubt: str = ""


def open_pair(source: PairSource, how: HowRead) -> OpenPair:
    """Reads a pair. Raises SourceError, StoreError or ConfigError where that cannot be done."""
    if isinstance(source, DescribedPair):
        return _described(source)
    if isinstance(source, StoredPair):
        decibels = source.pixels("sar")
        power = np.power(np.float32(10), decibels / np.float32(10))
        return _arrays(power, source.pixels("optical"), source.ground, "samples of a store are cut when it is built")
    if source.fault or source.sar is None or source.optical is None:
        raise SourceError(f"{source.name}: {source.fault or 'no pair'}.")
    sar, optical = source.placed(source.sar.read()), source.placed(source.optical.read())
    powers = sar_channels(sar, how.sar_unit)
    bands = optical_channels(optical, how.optical_bands)
    shared = overlap_of(sar, optical)
    if shared is None:
        return replace(_warped(powers, bands, source.optical), doubt=powers.doubt)
    return OpenPair(
        sar=_within(powers, shared.sar),
        optical=_within(bands, shared.optical),
        size=shared.sar.size,
        ground=shared.sar.ground,
        overlap=shared,
        doubt=powers.doubt,
    )


def _within(channels: Channels, part: Picture) -> ReadWindow:
    return Channels(picture=part, bands=channels.bands, unit=channels.unit, gain=channels.gain).values


def _arrays(power: F32, bands: F32, ground: Georeference | None, why_not: str) -> OpenPair:
    def window(planes: F32) -> ReadWindow:
        return lambda row, col, rows, cols: planes[:, row : row + rows, col : col + cols]

    rows, cols = power.shape[-2:]
    return OpenPair(sar=window(power), optical=window(bands), size=(rows, cols), ground=ground, why_not=why_not)


def _described(source: DescribedPair) -> OpenPair:
    read = FolderSource(Path(source.root)).read(source.candidate, source.config)
    bands = read.registration_optical
    if bands is None:
        raise SourceError(f"{source.name}: no optical scene covers it. Give one that does, or leave it out.")
    if read.cloud is not None:
        bands = np.where(read.cloud, np.float32(np.nan), bands)
    halo, grid = source.candidate.halo_px, source.candidate.grid
    wide = grid.window(-halo, -halo, grid.rows + 2 * halo, grid.cols + 2 * halo)
    ground = Georeference(crs_wkt=wkt_of(wide.epsg), transform=wide.transform)
    return _arrays(read.sar, bands, ground, "described scenes are cut by `sar1m build`")


def _warped(powers: Channels, bands: Channels, optical: PictureAt) -> OpenPair:
    """The optical bands resampled onto the SAR's pixels, for measuring alone. Raises SourceError where the SAR's pixels
    are no upright squares of a system with a code, or the optical picture is no file."""
    sar = powers.picture
    grid = None if sar.ground is None else sar.ground.square_grid(sar.size)
    if grid is None or optical.in_tar:
        raise SourceError(
            f"{bands.picture.name}: its pixels are others than those of {sar.name} (system, spacing or offset), and "
            "cannot be resampled onto them. Bring it onto the SAR's grid first, with gdalwarp -t_srs, -tr and -te."
        )
    planes = [
        read_window(Path(optical.path), grid, bands=(index + 1,), rule=ReadRule(resampling="cubic")).pixels
        for index in bands.bands
    ]
    if not np.isfinite(planes[0]).any():
        raise SourceError(f"{bands.picture.name}: lies beside {sar.name}. Check which belong together.")
    rows, cols = sar.size
    return _arrays(
        powers.values(0, 0, rows, cols),
        np.concatenate(planes),
        sar.ground,
        "the pixels of the two are not the same ones: bring the optical picture onto the SAR's grid first (gdalwarp)",
    )
