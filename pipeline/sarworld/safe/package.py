"""Whole SAFE products on disk: a folder, or a zip with fixed times, so that the same scene gives the same bytes."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from sar1m.core.radar.product import GrdChannel, GrdProduct
from sarworld.safe.annotation import AnnotationFacts, annotation_xml
from sarworld.safe.calibration import calibration_xml, noise_xml
from sarworld.safe.manifest import digest_record, manifest_xml
from sarworld.safe.measurement import Strip, write_measurement
from sarworld.safe.scenario import LICENCE

_ZIP_TIME: Final = (2021, 1, 1, 0, 0, 0)
_PIECE_BYTES: Final = 2**20

Pixels = Callable[[GrdChannel], Iterable[Strip]]


def write_product(folder: Path, product: GrdProduct, stated: AnnotationFacts, pixels: Pixels, *, zipped: bool) -> Path:
    """Writes a product below a folder as <product id>.SAFE, or as <product id>.zip, and its terms; returns its path.

    pixels: returns the strips of a channel's measurement.
    """
    root = folder / f"{product.product_id}.SAFE"
    for part in ("annotation/calibration", "measurement"):
        (root / part).mkdir(parents=True, exist_ok=True)
    files = _documents(product, stated)
    for name, content in files.items():
        (root / name).write_bytes(content)
    for channel in product.channels:
        path = root / channel.measurement
        write_measurement(path, product.geometry, pixels(channel))
        files[channel.measurement] = digest_record(path.stat().st_size, _md5(path))
    (root / "manifest.safe").write_bytes(manifest_xml(product, stated, files))
    terms = folder / f"{product.product_id}.terms.toml"  # beside the product, where no digest sees it
    terms.write_text(f'licence = "{LICENCE}"\n', encoding="utf-8")
    return _zip(root) if zipped else root


def _documents(product: GrdProduct, stated: AnnotationFacts) -> dict[str, bytes]:
    """The XML files except the manifest, by path below the product's root."""
    files = {}
    for number, channel in enumerate(product.channels, start=1):
        stem = Path(channel.measurement).stem
        files[f"annotation/{stem}.xml"] = annotation_xml(product, stated, number)
        files[f"annotation/calibration/calibration-{stem}.xml"] = calibration_xml(product, number)
        if channel.noise is not None:
            files[f"annotation/calibration/noise-{stem}.xml"] = noise_xml(product, channel.noise, number)
    return files


def _md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _zip(root: Path) -> Path:
    """Packs the folder into a zip beside it and removes the folder."""
    target = root.with_suffix(".zip")
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(root.rglob("*")):
            name = f"{root.name}/{path.relative_to(root).as_posix()}"
            entry = zipfile.ZipInfo(f"{name}/" if path.is_dir() else name, _ZIP_TIME)
            entry.compress_type = zipfile.ZIP_STORED if path.is_dir() else zipfile.ZIP_DEFLATED
            entry.external_attr = (0o40755 if path.is_dir() else 0o100644) << 16
            if path.is_dir():
                archive.writestr(entry, b"")
                continue
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, _PIECE_BYTES)
    shutil.rmtree(root)
    return target
