"""A SAFE product out of single objects: listed, sieved to what the reader needs, each file checked against
manifest.safe, and put together as a folder NAME.SAFE.

The files lie in the downloader's cache; the folder holds hard links to them, which take no room and share their leases.
Once the cache has dropped a file, its folder goes too, as soon as nobody reads it and another product is put together.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.io.net.checksum import parse_checksum
from sar1m.io.net.download_cache import LEASE_S, process_leases
from sar1m.io.net.faults import StatusError
from sar1m.io.net.fetch import Fetcher
from sar1m.io.raster_open import TIFF_MAGIC
from sar1m.io.safe.archive import MANIFEST, MAX_MEASUREMENT_BYTES, MAX_XML_BYTES, open_archive
from sar1m.io.safe.product import read_product
from sar1m.io.safe.xml import XmlNode, parse_xml
from sar1m.sources.services.cdse.object_store import S3Auth, StoredObject, list_folder
from sar1m.store.durable import remove_tree, sync_directory, writing_to
from sar1m.store.errors import SourceError
from sar1m.store.file_lock import locked_file, try_lock

_WANTED: Final = re.compile(
    r"(?=annotation/.*\.xml$|measurement/.*\.tiff$)(?:annotation/(?:calibration/(?:calibration|noise)-)?|measurement/)"
    r"s1[a-d]-iw-grd-(?P<pol>[hv]{2})-[a-z0-9-]{1,100}\.[a-z]{3,4}"
)
_FETCH: Final = "Fetch the product again."


@dataclass(frozen=True, kw_only=True)
class ObjectFolder:
    """A product in the object store.

    endpoint: without a slash at its end. prefix: of the product's keys, with a slash at its end. polarisations: those
    to fetch.
    """

    product_id: str
    endpoint: str
    bucket: str
    prefix: str
    polarisations: tuple[str, ...]

    @property
    def address(self) -> str:
        """Address of the folder, with a slash at its end."""
        return f"{self.endpoint}/{self.bucket}/{self.prefix}"


@dataclass(frozen=True, kw_only=True)
class _Stated:
    """Size in bytes and checksum (such as md5:0f...) that manifest.safe states for a file."""

    size: int
    checksum: str


def safe_folder(fetcher: Fetcher, product: ObjectFolder, auth: S3Auth) -> Path:
    """The product as a folder with the files of some polarisations.

    It is fetched where it is not there yet, once whatever the number of workers: one listing, and one request a file.
    Raises SourceError where the product cannot be had, an object is not what manifest.safe states, or the folder is not
    the product that was asked for; OutputError where the folder cannot be written (a file system without hard links).
    """
    identity = "\0".join((product.address, *product.polarisations))
    key = hashlib.blake2b(identity.encode(), digest_size=12).hexdigest()
    products = fetcher.settings.root / "products"
    target = products / key / f"{product.product_id}.SAFE"
    while not _held(target):
        with locked_file(products / f"{key}.lock"):
            if not _held(target):
                files = _fetched(fetcher, product, auth)
                _put_together(target, files)
                _check(target, product)
                _sweep(products)
    return target


def _held(folder: Path) -> bool:
    """Takes leases on all files of a folder. False where the folder is not there, or is being removed."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return bool(files) and all(process_leases().take(path) for path in files)


def _fetched(fetcher: Fetcher, product: ObjectFolder, auth: S3Auth) -> dict[str, Path]:
    """Files in the cache by their names in the product, the manifest first. Raises SourceError."""
    with _said_of_keys(product):
        listed = list_folder(fetcher, product.endpoint, product.prefix, auth)
        manifest = listed.get(MANIFEST)
        if manifest is None or manifest.size > MAX_XML_BYTES:
            raise SourceError(f"cdse {product.product_id}: its folder has no {MANIFEST} of a plausible size. {_FETCH}")
        files = {
            MANIFEST: fetcher.download(
                f"{product.address}{MANIFEST}",
                name=MANIFEST,
                auth=auth,
                size=manifest.size,
                checksum=None if manifest.md5 is None else f"md5:{manifest.md5}",
                check=_check_manifest,
            )
        }
        stated = stated_files(files[MANIFEST])
        for name in _chosen(listed, stated, product):
            files[name] = fetcher.download(
                f"{product.address}{name}",
                name=name.rpartition("/")[2],
                auth=auth,
                size=stated[name].size,
                checksum=stated[name].checksum,
                check=_check_tiff if name.startswith("measurement/") else None,
            )
        return files


def stated_files(manifest: Path) -> dict[str, _Stated]:
    """What a manifest says of the product's files, by name. Raises SourceError where it is no manifest, names a file
    twice or says nothing that a file could be checked by.

    Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, SAFE manifest, dataObjectSection.
    """
    found: dict[str, _Stated] = {}
    for row in parse_xml(manifest.read_bytes(), str(manifest)).all("dataObjectSection/dataObject/byteStream"):
        name = _attribute(row, "fileLocation", "href").removeprefix("./")
        if not _WANTED.fullmatch(name):
            continue
        size = _attribute(row, "", "size")
        if name in found or not re.fullmatch(r"\d{1,15}", size, re.ASCII):
            raise row.wrong(f"{name!r} of {size[:20]!r} bytes", "every file once, with its size")
        value = row.text("checksum").lower()
        # 128 bits are an MD5 whatever they are called: the catalogue's items call those of COG editions SHA3-256.
        algorithm = "md5" if len(value) == 32 else _attribute(row, "checksum", "checksumName").lower()
        checksum = f"{algorithm}:{value}"
        parse_checksum(checksum, f"{manifest}: {name}")
        found[name] = _Stated(size=int(size), checksum=checksum)
    return found


def _attribute(row: XmlNode, path: str, name: str) -> str:
    element = row.one(path).element if path else row.element
    return element.get(name, "")


def _chosen(listed: Mapping[str, StoredObject], stated: Mapping[str, _Stated], product: ObjectFolder) -> list[str]:
    """Names of the files to fetch. Raises SourceError where a stated file is not stored, or has another size there."""
    chosen = []
    for name, one in sorted(stated.items()):
        matched = _WANTED.fullmatch(name)
        if matched is None or matched["pol"].upper() not in product.polarisations:
            continue
        stored = listed.get(name)
        limit = MAX_MEASUREMENT_BYTES if name.startswith("measurement/") else MAX_XML_BYTES
        if stored is None or stored.size != one.size or one.size > limit:
            raise SourceError(
                f"cdse {product.product_id}: {name} is stored with {'no' if stored is None else stored.size} bytes; "
                f"{MANIFEST} says {one.size}, at most {limit} are fetched. The product is not used."
            )
        chosen.append(name)
    return chosen


@contextmanager
def _said_of_keys(product: ObjectFolder) -> Iterator[None]:
    """Names the S3 keys where the store refuses: a user has two kinds of credentials."""
    try:
        yield
    except StatusError as error:
        if error.status not in (401, 403):
            raise
        raise SourceError(
            f"cdse {product.product_id}: the object store refuses the S3 keys ({error.status}). Check "
            "CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY, the day on which they expire, and this machine's clock."
        ) from None


def _check_manifest(path: Path) -> None:
    stated_files(path)


def _check_tiff(path: Path) -> None:
    with path.open("rb") as stream:
        if stream.read(4) not in TIFF_MAGIC:
            raise SourceError(f"{path}: is no TIFF. {_FETCH}")


def _put_together(target: Path, files: Mapping[str, Path]) -> None:
    """Makes the folder, whole or not at all. Only one caller may be in here at a time."""
    made = target.with_name(f".{target.name}")
    for left in (made, target):
        remove_tree(left)
    with writing_to(target):
        for name, path in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).hardlink_to(path)
        for folder in {(made / name).parent for name in files}:
            sync_directory(folder)
        made.replace(target)
        sync_directory(target.parent)


def _check(folder: Path, product: ObjectFolder) -> None:
    """Removes the folder and raises SourceError where it is not the product that was asked for."""
    try:
        found = read_product(folder)
        polarisations = tuple(channel.polarisation for channel in found.channels)
        if (found.product_id, polarisations) != (product.product_id, product.polarisations):
            raise SourceError(
                f"{folder}: holds {found.product_id} with {', '.join(polarisations)}; expected "
                f"{', '.join(product.polarisations)}. {_FETCH}"
            )
        with open_archive(folder) as archive:
            for channel in found.channels:
                archive.member(channel.measurement)
    except SourceError:
        remove_tree(folder)
        raise


def _sweep(products: Path) -> None:
    """Removes folders of which the cache has dropped a file and that nobody has read from for LEASE_S."""
    for folder in products.glob("*/*.SAFE"):
        with ExitStack() as stack, contextlib.suppress(FileNotFoundError):
            files = [path for path in folder.rglob("*") if path.is_file()]
            states = [path.stat() for path in files]
            rested = max((state.st_mtime for state in states), default=0.0) < time.time() - LEASE_S
            if not rested or all(state.st_nlink > 1 for state in states):
                continue
            if not all(try_lock(stack.enter_context(path.open("rb")).fileno()) for path in files):
                continue
            gone = folder.with_name(f".gone-{os.getpid()}-{folder.name}")  # one that is left is swept the next time
            folder.rename(gone)
            remove_tree(gone)
