"""What the names of Sentinel-1 and Sentinel-2 products say, and the terms that Copernicus data come under."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

COPERNICUS_LICENCE: Final = "Copernicus Sentinel data legal notice"
COPERNICUS_ATTRIBUTION: Final = "Contains modified Copernicus Sentinel data"  # and the year, where it is known
REPEAT_ORBITS: Final = 175  # orbits of one 12-day Sentinel-1 cycle
# Absolute orbit of relative orbit 1. Sentinel-1C moved during commissioning (its orbit 638 is track 15), so no single
# number holds for all of its products: none is given rather than a wrong one.
_FIRST_ORBIT: Final = {"1A": 73, "1B": 27}
_S1_NAME: Final = re.compile(
    r"S(?P<unit>1[A-D])_(?P<mode>IW|EW|WV|S\d)_(?P<level>[A-Z]{3}[A-Z_])_\w{4}"
    r"_(?P<start>\d{8}T\d{6})_\d{8}T\d{6}_(?P<orbit>\d{6})_(?P<datatake>[0-9A-F]{6})"
)
_S2_NAME: Final = re.compile(
    r"S(?P<unit>2[A-D])_MSIL(?P<level>1C|2A)_(?P<start>\d{8}T\d{4,6})_N(?P<baseline>\d{4})_R\d{3}_T\d{2}[A-Z]{3}"
)


@dataclass(frozen=True, kw_only=True)
class S1Name:
    """Fields of a Sentinel-1 product name. relative_orbit: None for a satellite whose cycle is not known here."""

    platform: str
    acquired: datetime
    relative_orbit: int | None
    datatake: str


@dataclass(frozen=True, kw_only=True)
class S2Name:
    """Fields of a Sentinel-2 product name. baseline such as 02.05."""

    platform: str
    level: str
    baseline: str


def parse_s1_name(name: str) -> S1Name | None:
    """Fields of a name such as S1A_IW_GRDH_1SDV_20170613T165043_20170613T165108_017018_01C579_7EEC, else None.

    Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, naming convention; relative orbit =
    (absolute - first) mod 175 + 1 with first 73 for 1A and 27 for 1B.
    """
    match = _S1_NAME.match(name)
    if match is None:
        return None
    first = _FIRST_ORBIT.get(match["unit"])
    return S1Name(
        platform=f"sentinel-{match['unit'].lower()}",
        acquired=datetime.strptime(match["start"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
        relative_orbit=None if first is None else (int(match["orbit"]) - first) % REPEAT_ORBITS + 1,
        datatake=match["datatake"],
    )


def parse_s2_name(name: str) -> S2Name | None:
    """Fields of a name such as S2A_MSIL2A_20170613T101031_N0205_R022_T33UUP_20170613T101608, else None."""
    match = _S2_NAME.match(name)
    if match is None:
        return None
    digits = match["baseline"]
    return S2Name(
        platform=f"sentinel-{match['unit'].lower()}",
        level=match["level"],
        baseline=f"{digits[:2]}.{digits[2:]}",
    )


def orbit_state(acquired: datetime, lon: float) -> str | None:
    """ascending or descending, from the local solar time at the longitude; None outside 3 h of both nodes.

    Sentinel-1 flies a dusk-dawn orbit with its ascending node at 18:00 local time (Torres et al., Remote Sensing of
    Environment 120, 2012), so it passes northward around 18 h and southward around 6 h.
    """
    solar_hour = (acquired.hour + acquired.minute / 60 + lon / 15) % 24
    if 3 <= solar_hour < 9:
        return "descending"
    return "ascending" if 15 <= solar_hour < 21 else None
