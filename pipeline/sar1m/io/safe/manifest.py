"""The manifest of a product, which alone states the processor's version and the relative orbit.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, SAFE manifest.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from sar1m.io.safe.xml import XmlNode

RELATIVE_ORBITS: Final = 175  # of one repeat cycle
_IPF: Final = re.compile(r"\d{1,3}\.\d{1,3}", re.ASCII)
_FACILITY: Final = "metadataSection/metadataObject[@ID='processing']/metadataWrap/xmlData/{*}processing/{*}facility"
_SOFTWARE: Final = f"{_FACILITY}/{{*}}software"
_LONGEST_NAME: Final = 80
_ORBIT: Final = "metadataSection/metadataObject[@ID='measurementOrbitReference']/metadataWrap/xmlData/{*}orbitReference"


@dataclass(frozen=True, kw_only=True)
class SafeManifest:
    """What is read from a manifest.

    ipf: version of the processor, such as 003.31.
    processed_by: the organisation; empty where the manifest does not state it.
    relative_orbit: of the first line; None where the manifest does not state it.
    orbit_state: ascending or descending.
    """

    ipf: str
    processed_by: str
    absolute_orbit: int
    relative_orbit: int | None
    orbit_state: str


def read_safe_manifest(root: XmlNode) -> SafeManifest:
    """The manifest, validated. Raises SourceError where it is not that of a Sentinel-1 level-1 product."""
    if not root.element.tag.endswith("}XFDU"):
        raise root.wrong(f"<{root.element.tag[-80:]}>", "<xfdu:XFDU>, a manifest")
    version = root.one(_SOFTWARE).element.get("version", "")
    if not _IPF.fullmatch(version):
        raise root.wrong(repr(version[:40]), "a version such as 003.31", f"{_SOFTWARE}/@version")
    orbit = root.one(_ORBIT)
    relative = "{*}relativeOrbitNumber[@type='start']"
    passing = orbit.choice("{*}extension/{*}orbitProperties/{*}pass", ("ASCENDING", "DESCENDING"))
    stated = orbit.element.find(relative) is not None
    return SafeManifest(
        ipf=version,
        processed_by=root.one(_FACILITY).element.get("organisation", "")[:_LONGEST_NAME],
        absolute_orbit=orbit.whole("{*}orbitNumber[@type='start']", 0, 10**6),
        relative_orbit=orbit.whole(relative, 1, RELATIVE_ORBITS) if stated else None,
        orbit_state=passing.lower(),
    )
