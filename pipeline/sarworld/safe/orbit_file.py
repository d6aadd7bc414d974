"""Precise orbit files of a simulated pass. Source: GMES-GSEG-EOPG-FS-10-0075, Sentinels POD service file format."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from sar1m.core.radar.product import GrdProduct
from sar1m.records import F64
from sarworld.safe.frame import Frame
from sarworld.safe.xml import listing, moment, node, xml_bytes

STEP_S: Final = 10.0
REACH_S: Final = 200.0  # before the first and after the last line
_TAI_AHEAD_S: Final = 37.0


def write_orbit_file(folder: Path, product: GrdProduct, frame: Frame) -> Path:
    """Writes the pass as a precise orbit file (POEORB) in a folder and returns its path.

    Real files hold 26 hours, this one the scene and some minutes around it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    end_s = (frame.lines - 1) * frame.line_interval_s + REACH_S
    first_s = -REACH_S - frame.epoch.microsecond / 1e6  # on whole seconds
    time_s = np.arange(first_s, end_s, STEP_S)
    header = node(
        "Earth_Explorer_Header",
        node("Fixed_Header", ("Mission", f"Sentinel-{product.platform[1:]}")),
        node("Variable_Header", ("Ref_Frame", "EARTH_FIXED"), ("Time_Reference", "UTC")),
    )
    vectors = listing("List_of_OSVs", _vectors(product, frame, time_s))
    root = node("Earth_Explorer_File", header, node("Data_Block", vectors, type="xml"))
    first, last = (product.start + timedelta(seconds=float(seconds)) for seconds in (time_s[0], time_s[-1]))
    created = product.start + timedelta(days=20)
    name = (
        f"{product.platform}_OPER_AUX_POEORB_OPOD_{created:%Y%m%dT%H%M%S}"
        f"_V{first:%Y%m%dT%H%M%S}_{last:%Y%m%dT%H%M%S}.EOF"
    )
    (folder / name).write_bytes(xml_bytes(root))
    return folder / name


def _vectors(product: GrdProduct, frame: Frame, time_s: F64) -> Iterator[Element]:
    position, velocity, _ = frame.orbit.state(time_s)
    for seconds, place, motion in zip(time_s.tolist(), position.tolist(), velocity.tolist(), strict=True):
        yield node(
            "OSV",
            ("TAI", f"TAI={moment(frame.epoch, seconds + _TAI_AHEAD_S)}"),
            ("UTC", f"UTC={moment(frame.epoch, seconds)}"),
            ("UT1", f"UT1={moment(frame.epoch, seconds)}"),
            ("Absolute_Orbit", f"+{product.absolute_orbit}"),
            *(_measured(axis, value, "m") for axis, value in zip("XYZ", place, strict=True)),
            *(_measured(f"V{axis}", value, "m/s") for axis, value in zip("XYZ", motion, strict=True)),
            ("Quality", "NOMINAL"),
        )


def _measured(name: str, value: float, unit: str) -> Element:
    element = node(name, unit=unit)
    element.text = f"{value:+.6f}"
    return element
