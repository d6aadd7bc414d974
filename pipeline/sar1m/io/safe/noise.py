"""Thermal noise vectors of one polarisation.

There are two formats: one list of range vectors (IPF before 2.9), or range vectors and azimuth vectors by swath.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, noise annotation data set; MPC-0392.
"""

from __future__ import annotations

from typing import Final

from sar1m.core.radar.product import AzimuthNoise, LutVectors, ThermalNoise
from sar1m.io.safe.annotation import MAX_SIDE_PX
from sar1m.io.safe.calibration import MAX_VECTORS, vector_lines, vector_samples, vector_values
from sar1m.io.safe.xml import XmlNode

SCANNING_MODES: Final = ("IW", "EW")  # their bursts scallop: power varies along azimuth, swath by swath
MAX_SWATH_CHARS: Final = 4


def read_noise(root: XmlNode, shape: tuple[int, int]) -> ThermalNoise:
    """Noise of an image, without azimuth vectors for IPF before 2.9 and for stripmap, whose list is empty.

    shape: lines and samples of the image.
    Raises SourceError naming the vector that is wrong.
    """
    if root.element.tag != "noise":
        raise root.wrong(f"<{root.element.tag[:80]}>", "<noise>")
    old = root.element.find("noiseVectorList") is not None
    kind = "noiseVector" if old else "noiseRangeVector"
    vectors = root.listed(f"{kind}List", kind, 2, MAX_VECTORS)
    sample = tuple(vector_samples(vector) for vector in vectors)
    power = tuple(
        vector_values(vector, "noiseLut" if old else "noiseRangeLut", own, least=0)
        for vector, own in zip(vectors, sample, strict=True)
    )
    return ThermalNoise(
        range_power=LutVectors(line=vector_lines(root.one(f"{kind}List"), vectors), sample=sample, value=power),
        azimuth=() if old else _azimuth(root, shape),
    )


def _azimuth(root: XmlNode, shape: tuple[int, int]) -> tuple[AzimuthNoise, ...]:
    scanning = root.text("adsHeader/mode") in SCANNING_MODES
    vectors = root.listed("noiseAzimuthVectorList", "noiseAzimuthVector", int(scanning), MAX_VECTORS)
    return tuple(_azimuth_vector(vector, shape) for vector in vectors)


def _azimuth_vector(vector: XmlNode, shape: tuple[int, int]) -> AzimuthNoise:
    lines, samples = shape
    swath = vector.text("swath")
    first_line = vector.whole("firstAzimuthLine", -lines, lines)
    first_sample = vector.whole("firstRangeSample", -samples, samples)
    line = vector.whole_numbers("line")
    factor = vector_values(vector, "noiseAzimuthLut", line, least=0)
    if len(swath) > MAX_SWATH_CHARS or not swath.isalnum():
        raise vector.wrong(repr(swath[:40]), "a swath such as IW1", "swath")
    if line[0] < -MAX_SIDE_PX or line[-1] > 2 * MAX_SIDE_PX:
        raise vector.wrong(f"lines from {line[0]} to {line[-1]}", f"lines within {MAX_SIDE_PX}", "line")
    return AzimuthNoise(
        swath=swath,
        first_line=first_line,
        last_line=vector.whole("lastAzimuthLine", first_line, 2 * lines),
        first_sample=first_sample,
        last_sample=vector.whole("lastRangeSample", first_sample, 2 * samples),
        line=line,
        factor=factor,
    )
