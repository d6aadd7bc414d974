"""Whole Sentinel-1 GRD products: a SAFE folder or zip read into one validated record, without its pixels."""

from __future__ import annotations

import hashlib
import itertools
import re
from pathlib import Path
from typing import Final

from sar1m.core.radar.product import GrdChannel, GrdProduct, ThermalNoise
from sar1m.io.raster import file_digest
from sar1m.io.safe.annotation import Header, ProductAnnotation, check_same_geometry, read_ads_header, read_annotation
from sar1m.io.safe.archive import MANIFEST, FolderArchive, SafeArchive, open_archive
from sar1m.io.safe.calibration import read_calibration
from sar1m.io.safe.manifest import read_safe_manifest
from sar1m.io.safe.noise import read_noise
from sar1m.io.safe.xml import XmlNode, parse_xml
from sar1m.store.errors import SourceError

_PRODUCT: Final = re.compile(
    r"(?P<platform>S1[A-D])_(?P<mode>IW|EW|WV|S[1-6])_(?P<type>[A-Z]{3})[FHM_]_[012A][SA](?:SH|SV|DH|DV|HH|HV|VV|VH)"
    r"_\d{8}T\d{6}_\d{8}T\d{6}_(?P<orbit>\d{6})_(?P<datatake>[0-9A-F]{6})_[0-9A-F]{4}(?:_COG)?"
)
_IMAGE: Final = re.compile(r"annotation/(s1[a-d]-[a-z0-9]+-[a-z]{3}-(?P<pol>[hv]{2})-[a-z0-9-]+)\.xml")
_CO_POLARISED: Final = ("VV", "HH")
_FETCH: Final = "Fetch the product again."


def read_product(path: Path) -> GrdProduct:
    """The GRD product at path, a SAFE folder or a zip that holds one.

    Every channel that has an annotation is read; its calibration and noise must be there too. Measurements are not
    opened and may be absent.
    Raises SourceError where the product is damaged, incomplete, inconsistent, or not a ground-range detected product of
    IW, EW or stripmap. The message names the file, the element, what was found and what was expected.
    """
    with open_archive(path) as archive:
        product_id = _product_id(archive)
        names = _image_names(archive)
        manifest = read_safe_manifest(_parsed(archive, MANIFEST))
        annotations = {name: read_annotation(_parsed(archive, name), product_id) for name in names}
        _check_agreement(archive, product_id, annotations)
        channels = tuple(_channel(archive, name, annotation) for name, annotation in annotations.items())
    first = next(iter(annotations.values()))
    found = (first.header.absolute_orbit, first.orbit_state)
    if (manifest.absolute_orbit, manifest.orbit_state) != found:
        raise SourceError(
            f"{archive.label(MANIFEST)}: orbit {manifest.absolute_orbit} {manifest.orbit_state}, but the annotation "
            f"states {found[0]} {found[1]}. Files of two products are mixed: fetch the product again."
        )
    return GrdProduct(
        product_id=product_id,
        platform=first.header.platform,
        mode=first.header.mode,
        ipf=manifest.ipf,
        processed_by=manifest.processed_by,
        start=first.header.start,
        stop=first.header.stop,
        orbit_state=first.orbit_state,
        absolute_orbit=first.header.absolute_orbit,
        relative_orbit=manifest.relative_orbit,
        datatake=first.header.datatake,
        geometry=first.geometry,
        channels=channels,
    )


def find_products(folder: Path) -> list[Path]:
    """Paths of products, NAME.SAFE folders and zips of one product, in a folder and its subfolders, sorted.

    A zip with the name of a product counts without being opened, so that a damaged one is not silently ignored. Any
    other zip counts where its directory lists a product.
    Raises SourceError where a folder cannot be listed.
    """
    try:
        here = sorted(folder.iterdir())
        below = [sorted(path.iterdir()) for path in here if path.is_dir() and path.suffix != ".SAFE"]
    except OSError as error:
        raise SourceError(
            f"{error.filename or folder}: cannot be listed: {error.strerror}. Check its name and permissions."
        ) from error
    return sorted(path for path in itertools.chain(here, *below) if _is_product(path))


def product_digest(path: Path) -> str:
    """blake2b-128, hexadecimal, of everything that read_product and read_dn can return.

    It covers the bytes of the XML files, and the bytes of the measurements (folder) or their sizes and checksums (zip,
    so that nothing has to be unpacked).
    """
    digest = hashlib.blake2b(digest_size=16)
    with open_archive(path) as archive:
        digest.update(archive.root.encode())
        for name, member in sorted(archive.members.items()):
            digest.update(f"\0{name}\0{member.size}\0".encode())
            if not name.startswith("measurement/"):
                digest.update(hashlib.blake2b(archive.read(name)).digest())
            elif isinstance(archive, FolderArchive):
                digest.update(file_digest(archive.file(name)).encode())
            else:
                digest.update(f"{member.crc32:08x}".encode())
    return digest.hexdigest()


def _is_product(path: Path) -> bool:
    if path.suffix == ".SAFE":
        return path.is_dir()
    if path.suffix.lower() != ".zip" or not path.is_file():
        return False
    if _PRODUCT.match(path.name):
        return True
    try:
        with open_archive(path):
            return True
    except SourceError:
        return False


def _product_id(archive: SafeArchive) -> str:
    """The product's name. Raises SourceError where products of that name are not read."""
    product_id = archive.root.removesuffix(".SAFE")
    matched = _PRODUCT.fullmatch(product_id)
    if matched is None:
        raise SourceError(
            f"{archive.path}: its folder is named {archive.root[:120]!r}; expected the product's own name, such as "
            "S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13_6FF8.SAFE. Give it back its name."
        )
    if matched["type"] != "GRD" or matched["mode"] == "WV":
        raise SourceError(
            f"{archive.path}: {matched['mode']} {matched['type']} product; expected ground-range detected (GRD) of "
            "IW, EW or stripmap. Fetch the GRD product of the same acquisition."
        )
    return product_id


def _image_names(archive: SafeArchive) -> list[str]:
    """Names of the annotations, one for each polarisation, co-polarised first."""
    found = {name: matched["pol"].upper() for name in archive.members if (matched := _IMAGE.fullmatch(name))}
    names = sorted(found, key=lambda name: (found[name] not in _CO_POLARISED, name))
    if not 1 <= len(names) <= 2 or len(set(found.values())) != len(names):
        raise SourceError(
            f"{archive.path}: {len(names)} annotations ({', '.join(found.values()) or 'none'}) in annotation/; "
            f"expected one or two, each of its own polarisation. {_FETCH}"
        )
    return names


def _parsed(archive: SafeArchive, name: str) -> XmlNode:
    return parse_xml(archive.read(name), archive.label(name))


def _check_agreement(archive: SafeArchive, product_id: str, annotations: dict[str, ProductAnnotation]) -> None:
    """Raises SourceError where names, headers or geometry of the annotations belong to different products."""
    names = list(annotations)
    matched = _PRODUCT.fullmatch(product_id)
    for name, annotation in annotations.items():
        header = annotation.header
        pol = name.removeprefix("annotation/").split("-")[3].upper()
        stated = (header.platform, header.mode, f"{header.absolute_orbit:06d}", header.datatake, header.polarisation)
        named = (*matched.group("platform", "mode", "orbit", "datatake"), pol) if matched else ()
        if stated != named:
            raise SourceError(
                f"{archive.label(name)}: states {', '.join(stated)}, but its name and the product's name state "
                f"{', '.join(named)}. Files of two products are mixed: fetch the product again."
            )
        check_same_geometry(
            annotations[names[0]].geometry, annotation.geometry, (archive.label(names[0]), archive.label(name))
        )


def _channel(archive: SafeArchive, name: str, annotation: ProductAnnotation) -> GrdChannel:
    stem = name.removeprefix("annotation/").removesuffix(".xml")
    calibration_name = f"annotation/calibration/calibration-{stem}.xml"
    calibration = _parsed(archive, calibration_name)
    _check_header(calibration, annotation.header)
    vectors = read_calibration(calibration)
    return GrdChannel(
        polarisation=annotation.header.polarisation,
        measurement=f"measurement/{stem}.tiff",
        sigma=vectors["sigma"],
        beta=vectors["beta"],
        gamma=vectors["gamma"],
        noise=None if annotation.noise_removed else _noise(archive, stem, annotation),
    )


def _noise(archive: SafeArchive, stem: str, annotation: ProductAnnotation) -> ThermalNoise:
    root = _parsed(archive, f"annotation/calibration/noise-{stem}.xml")
    _check_header(root, annotation.header)
    return read_noise(root, (annotation.geometry.lines, annotation.geometry.samples))


def _check_header(root: XmlNode, expected: Header) -> None:
    found = read_ads_header(root)
    differing = [name for name, value in vars(expected).items() if getattr(found, name) != value]
    if differing:
        raise root.wrong(
            ", ".join(f"{name} {getattr(found, name)}" for name in differing),
            ", ".join(f"{getattr(expected, name)}" for name in differing) + ", as in the annotation",
            "adsHeader",
        )
