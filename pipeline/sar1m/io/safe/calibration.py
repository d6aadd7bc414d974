"""Calibration vectors of one polarisation: digital numbers to sigma, beta and gamma nought.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, calibration annotation data set.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from sar1m.core.radar.product import LutVectors
from sar1m.io.safe.annotation import MAX_SIDE_PX
from sar1m.io.safe.xml import XmlNode
from sar1m.records import F64, I64

MAX_VECTORS: Final = 2_000  # a slice has 27
MAX_CALIBRATION: Final = 1e8  # real values run from 100 to 1,000
_LINES: Final = (-MAX_SIDE_PX, 2 * MAX_SIDE_PX)


def read_calibration(root: XmlNode) -> dict[str, LutVectors]:
    """The tables `sigma`, `beta` and `gamma`, all positive. Raises SourceError naming the vector that is wrong."""
    if root.element.tag != "calibration":
        raise root.wrong(f"<{root.element.tag[:80]}>", "<calibration>")
    vectors = root.listed("calibrationVectorList", "calibrationVector", 2, MAX_VECTORS)
    line = vector_lines(root.one("calibrationVectorList"), vectors)
    sample = tuple(vector_samples(vector) for vector in vectors)
    elements = {"sigma": "sigmaNought", "beta": "betaNought", "gamma": "gamma"}
    return {
        name: LutVectors(
            line=line,
            sample=sample,
            value=tuple(
                vector_values(vector, element, own, least=np.nextafter(0, 1))
                for vector, own in zip(vectors, sample, strict=True)
            ),
        )
        for name, element in elements.items()
    }


def vector_lines(parent: XmlNode, vectors: list[XmlNode]) -> I64:
    """Lines of a list of vectors, (V,), rising; they may lie before 0 or beyond the image."""
    line = np.array([vector.whole("line", *_LINES) for vector in vectors], dtype=np.int64)
    if (np.diff(line) <= 0).any():
        at = int(np.argmax(np.diff(line) <= 0))
        raise parent.wrong(f"line {line[at]} followed by {line[at + 1]}", "lines that rise")
    return line


def vector_samples(vector: XmlNode) -> I64:
    """Samples of one vector, (n,), rising, at least two."""
    sample = vector.whole_numbers("pixel")
    if len(sample) < 2 or sample[0] < -MAX_SIDE_PX or sample[-1] > 2 * MAX_SIDE_PX:
        raise vector.wrong(
            f"{len(sample)} samples from {sample[0]} to {sample[-1]}", f"two or more within {MAX_SIDE_PX}", "pixel"
        )
    return sample


def vector_values(vector: XmlNode, element: str, sample: I64, *, least: float) -> F64:
    """Values of one vector, (n,), one for each sample, from least to MAX_CALIBRATION."""
    value = vector.numbers(element)
    if len(value) != len(sample):
        raise vector.wrong(f"{len(value)} values for {len(sample)} samples", "one for each", element)
    if value.min() < least or value.max() > MAX_CALIBRATION:
        wanted = "positive numbers" if least > 0 else "numbers of at least 0"
        raise vector.wrong(f"{value.min():g} to {value.max():g}", f"{wanted}, at most {MAX_CALIBRATION:g}", element)
    return value
