"""Folders named by modality, files of one place with one name: how TerraMesh and SSL4EO-S12 chips are laid out.

    S1RTC/<name>.tif   VV, VH gamma nought in dB        S2L2A/<name>.tif  12 bands of DN, no B10
    S1GRD/<name>.tif   VV, VH sigma nought in dB        S2L1C/<name>.tif  13 bands of DN
    LULC/<name>.tif    land cover in TerraMesh's order  S2RGB/<name>.tif  8-bit pictures, red green blue
    SCL/<name>.tif     Sentinel-2 scene classification  cloudmask/<name>.tif  0 clear, 1 cloud or shadow

One SAR folder is needed. Of the optical ones the first that exists is used, in the order S2L2A, S2L1C, S2RGB. Other
folders (DEM, NDVI) are left alone. DN are taken as harmonised, that is without the offset of baseline 04.00, as
TerraMesh publishes them (its DN of 2023 begin at about 250, far under 1000). Acquisition times come from the TIFF tag
`datetime`; where the optical file has none, from the S2RGB picture made of the same acquisition.
Rasters laid out so but with other units need a scenes.csv.
Source: Blumenstiel et al., TerraMesh, arXiv 2504.11172.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from sar1m.io.header import RasterHeader, read_header
from sar1m.records import SarQuantity
from sar1m.sources.class_tables import TERRAMESH
from sar1m.sources.failures import Failing
from sar1m.sources.layers import (
    OPTICAL_BANDS,
    RGB_BANDS,
    BandFile,
    ClassKind,
    ClassLayer,
    FolderPair,
    OpticalLayer,
    SarLayer,
    checked_name,
    offset_in_dn,
    parse_datetime,
    resolve_inside,
    settled,
)
from sar1m.store.errors import SourceError, printable

SAR_FOLDERS: Final[Mapping[str, SarQuantity]] = {"S1RTC": "gamma0", "S1GRD": "sigma0"}
OPTICAL_FOLDERS: Final[Mapping[str, tuple[str, ...]]] = {
    "S2L2A": tuple(band for band in OPTICAL_BANDS if band != "B10"),
    "S2L1C": OPTICAL_BANDS,
    "S2RGB": RGB_BANDS,
}
CLASS_FOLDERS: Final[Mapping[str, ClassKind]] = {"LULC": "land_cover", "SCL": "scl", "CLOUDMASK": "cloudmask"}
_SAR_BANDS: Final = ("VV", "VH")


@dataclass(frozen=True, kw_only=True)
class _Raster:
    """One file: path relative to the folder, what it says of itself."""

    path: str
    header: RasterHeader
    acquired: datetime | None


def modality_folders(root: Path) -> dict[str, Path]:
    """Subfolders with a known modality name, by that name in capitals, whatever their own case."""
    known = {*SAR_FOLDERS, *OPTICAL_FOLDERS, *CLASS_FOLDERS}
    return {path.name.upper(): path for path in sorted(root.iterdir()) if path.is_dir() and path.name.upper() in known}


def modality_pairs(root: Path, failing: Failing) -> list[FolderPair]:
    """One pair for each file in a SAR folder, in the order of folder and file names.

    failing: sets a pair aside where a file cannot be opened, leads out of root or has another number of bands.
    """
    folders = modality_folders(root)
    files = {modality: _files(folder) for modality, folder in folders.items()}
    optical = next((modality for modality in OPTICAL_FOLDERS if modality in files), None)
    pairs = []
    for modality in (m for m in SAR_FOLDERS if m in files):
        for stem, path in files[modality].items():
            with failing(printable(stem)):
                pairs.append(
                    FolderPair(
                        name=checked_name(stem, str(path)),
                        described_in=str(path),
                        sar=_sar_layer(root, modality, path),
                        optical=None if optical is None else _optical_layer(root, optical, files, stem),
                        classes=_class_layers(root, files, stem),
                    )
                )
    return pairs


def _files(folder: Path) -> dict[str, Path]:
    """TIFF files of a folder by stem, sorted."""
    found = [path for path in folder.iterdir() if path.suffix.lower() in (".tif", ".tiff")]
    return {path.stem: path for path in sorted(found)}


def _raster(root: Path, path: Path, expected_bands: tuple[str, ...]) -> _Raster:
    relative = path.relative_to(root).as_posix()
    header = read_header(resolve_inside(root, relative, str(path)))
    if header.bands != len(expected_bands):
        raise SourceError(
            f"{path}: has {header.bands} band(s); a file in {path.parent.name} holds {len(expected_bands)}: "
            f"{', '.join(expected_bands)}. Describe other layouts in a scenes.csv."
        )
    tag = dict(header.tags).get("datetime")
    acquired = None if tag is None else parse_datetime(tag, f"{path}, tag datetime")
    return _Raster(path=relative, header=header, acquired=acquired)


def _bands(raster: _Raster, names: tuple[str, ...]) -> tuple[BandFile, ...]:
    """The bands of a file with what it states of them. The folder's name states no scale, offset or nodata."""
    bands = (BandFile(name=name, path=raster.path, number=number) for number, name in enumerate(names, start=1))
    return tuple(settled(band, raster.header, f"the folder {Path(raster.path).parent}") for band in bands)


def _sar_layer(root: Path, modality: str, path: Path) -> SarLayer:
    raster = _raster(root, path, _SAR_BANDS)
    return SarLayer(
        product_id=f"{modality}_{path.stem}",
        bands=_bands(raster, _SAR_BANDS),
        unit="db",
        quantity=SAR_FOLDERS[modality],
        acquired=raster.acquired,
        platform="sentinel-1",  # which of them the files do not say
        processing=f"{modality} chip as delivered, {SAR_FOLDERS[modality]} in dB",
    )


def _optical_layer(
    root: Path, modality: str, files: Mapping[str, Mapping[str, Path]], stem: str
) -> OpticalLayer | None:
    path = files[modality].get(stem)
    if path is None:
        return None
    raster = _raster(root, path, OPTICAL_FOLDERS[modality])
    acquired = raster.acquired
    picture = files.get("S2RGB", {}).get(stem)
    if acquired is None and picture is not None:
        acquired = _raster(root, picture, RGB_BANDS).acquired
    display = modality == "S2RGB"
    bands = _bands(raster, OPTICAL_FOLDERS[modality])
    return OpticalLayer(
        product_id=f"{modality}_{stem}",
        bands=bands,
        unit="rgb8" if display else "dn",
        offset_applied=None if display else offset_in_dn(bands[0]),
        acquired=acquired,
    )


def _class_layers(root: Path, files: Mapping[str, Mapping[str, Path]], stem: str) -> tuple[ClassLayer, ...]:
    layers = []
    for modality, kind in CLASS_FOLDERS.items():
        path = files.get(modality, {}).get(stem)
        if path is not None:
            band = _bands(_raster(root, path, (kind,)), (kind,))[0]
            layer = ClassLayer(kind=kind, band=band)
            cover = replace(layer, names=TERRAMESH.names, water=tuple(TERRAMESH.water))
            layers.append(cover if kind == "land_cover" else layer)
    return tuple(layers)
