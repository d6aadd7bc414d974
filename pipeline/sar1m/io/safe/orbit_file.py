"""Precise and restituted orbit files (.EOF, also zipped), whose state vectors replace those of the annotation.

Source: Sentinels POD service file format specification, GMES-GSEG-EOPG-FS-10-0075.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from sar1m.core.radar.product import GrdProduct, Orbit
from sar1m.io.safe.annotation import MIN_STATE_VECTORS, ORBIT_RADIUS_M, ORBIT_SPEED_M_S, checked_orbit
from sar1m.io.safe.archive import read_only_member
from sar1m.io.safe.xml import XmlNode, parse_xml, seconds_between
from sar1m.records import F64
from sar1m.store.errors import SourceError

MARGIN: Final = timedelta(seconds=60)  # six vectors of 10 s on either side of the scene
MAX_ORBIT_FILE_BYTES: Final = 16 * 2**20  # a precise orbit of 26 hours has 4.4 MB
MAX_VECTORS: Final = 40_000  # 26 hours have 9,361
_NAME: Final = re.compile(
    r"(?P<platform>S1[A-D])_OPER_AUX_(?P<kind>POEORB|RESORB)_[A-Z]{4}_(?P<created>\d{8}T\d{6})"
    r"_V(?P<first>\d{8}T\d{6})_(?P<last>\d{8}T\d{6})\.EOF(?:\.zip)?"
)
_RANK: Final = ("RESORB", "POEORB")


def find_orbit(folder: Path, product: GrdProduct) -> Path | None:
    """The best orbit file in a folder for a product, judged by file names; None where there is none.

    The file must be of the product's platform and valid from MARGIN before the scene to MARGIN after it. Precise orbits
    are preferred to restituted ones, then the newest file.
    Raises SourceError where the folder cannot be listed.
    """
    best: tuple[tuple[int, str, str], Path] | None = None
    try:
        paths = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}. Check the folder of orbit files.") from error
    for path in paths:
        matched = _NAME.fullmatch(path.name)
        if matched is None or matched["platform"] != product.platform:
            continue
        valid = _time(matched["first"], path), _time(matched["last"], path)
        if valid[0] <= product.start - MARGIN and product.stop + MARGIN <= valid[1]:
            rank = (_RANK.index(matched["kind"]), matched["created"], path.name)
            best = max(best, (rank, path)) if best is not None else (rank, path)
    return best[1] if best is not None else None


def read_orbit(path: Path, start: datetime, stop: datetime, epoch: datetime) -> Orbit:
    """State vectors of an orbit file from MARGIN before start to MARGIN after stop.

    path: .EOF or .EOF.zip.
    epoch: times of the result are seconds after it.
    Raises SourceError where the file is damaged, not Earth-fixed, or does not cover the scene.
    """
    root = parse_xml(_content(path), str(path))
    if root.element.tag.rpartition("}")[2] != "Earth_Explorer_File":
        raise root.wrong(f"<{root.element.tag[:80]}>", "<Earth_Explorer_File>, an orbit file")
    root.choice("{*}Earth_Explorer_Header/{*}Variable_Header/{*}Ref_Frame", ("EARTH_FIXED",))
    listing = root.one("{*}Data_Block/{*}List_of_OSVs")
    vectors = root.listed("{*}Data_Block/{*}List_of_OSVs", "{*}OSV", MIN_STATE_VECTORS, MAX_VECTORS)
    instants = [vector.instant_of(vector.text("{*}UTC").removeprefix("UTC="), "{*}UTC") for vector in vectors]
    near = [
        (vector, instant)
        for vector, instant in zip(vectors, instants, strict=True)
        if start - MARGIN <= instant <= stop + MARGIN
    ]
    if len(near) < MIN_STATE_VECTORS:
        raise listing.wrong(
            f"{len(near)} state vectors around {start} to {stop}, all lie from {min(instants)} to {max(instants)}",
            f"at least {MIN_STATE_VECTORS}: an orbit file of that day",
        )
    orbit = Orbit(
        time_s=np.array([seconds_between(epoch, instant) for _, instant in near]),
        position_m=_triples([vector for vector, _ in near], "", ORBIT_RADIUS_M[1]),
        velocity_m_s=_triples([vector for vector, _ in near], "V", ORBIT_SPEED_M_S[1]),
        source=path.name,
    )
    return checked_orbit(orbit, seconds_between(epoch, stop), listing)


def _triples(vectors: list[XmlNode], prefix: str, most: float) -> F64:
    return np.array([[vector.number(f"{{*}}{prefix}{axis}", -most, most) for axis in "XYZ"] for vector in vectors])


def _content(path: Path) -> bytes:
    if path.suffix.lower() == ".zip":
        return read_only_member(path, ".EOF", MAX_ORBIT_FILE_BYTES)
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_ORBIT_FILE_BYTES + 1)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}. Check the orbit file.") from error
    if len(content) > MAX_ORBIT_FILE_BYTES:
        raise SourceError(f"{path}: more than {MAX_ORBIT_FILE_BYTES} bytes; an orbit file has 4.4 MB. Fetch it again.")
    return content


def _time(text: str, path: Path) -> datetime:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        raise SourceError(
            f"{path}: its name holds {text}, which is no time. Give the orbit file its own name."
        ) from None
