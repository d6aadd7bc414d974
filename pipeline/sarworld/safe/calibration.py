"""Calibration and noise of one polarisation, in the structure of real products (S1-RS-MDA-52-7441)."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from sar1m.core.radar.product import AzimuthNoise, GrdProduct, LutVectors, ThermalNoise
from sarworld.safe.annotation import header
from sarworld.safe.radiometry import BETA_GAIN, takes_azimuth_noise
from sarworld.safe.xml import listing, moment, node, numbers, xml_bytes


def calibration_xml(product: GrdProduct, number: int) -> bytes:
    """The calibration file of a channel. number: from 1."""
    channel = product.channels[number - 1]
    vectors = (
        node(
            "calibrationVector",
            *_place(product, channel.sigma, at),
            numbers("sigmaNought", channel.sigma.value[at], ".6e"),
            numbers("betaNought", channel.beta.value[at], ".6e"),
            numbers("gamma", channel.gamma.value[at], ".6e"),
            numbers("dn", [BETA_GAIN] * len(channel.sigma.sample[at]), ".6e"),
        )
        for at in range(len(channel.sigma.line))
    )
    return xml_bytes(
        node(
            "calibration",
            header(product, channel.polarisation, number),
            node("calibrationInformation", ("absoluteCalibrationConstant", "1.000000e+00")),
            listing("calibrationVectorList", vectors),
        )
    )


def noise_xml(product: GrdProduct, noise: ThermalNoise, number: int) -> bytes:
    """The noise file of a channel: range and azimuth vectors, or the one list of IPF before 2.9. number: from 1."""
    head = header(product, product.channels[number - 1].polarisation, number)
    if not takes_azimuth_noise(product.ipf):
        old = _range_vectors(product, noise.range_power, "noiseVector", "noiseLut")
        return xml_bytes(node("noise", head, listing("noiseVectorList", old)))
    return xml_bytes(
        node(
            "noise",
            head,
            listing(
                "noiseRangeVectorList", _range_vectors(product, noise.range_power, "noiseRangeVector", "noiseRangeLut")
            ),
            listing("noiseAzimuthVectorList", (_azimuth_vector(part) for part in noise.azimuth)),
        )
    )


def _range_vectors(product: GrdProduct, vectors: LutVectors, name: str, values: str) -> Iterator[Element]:
    for at, value in enumerate(vectors.value):
        yield node(name, *_place(product, vectors, at), numbers(values, value, ".6e"))


def _place(product: GrdProduct, vectors: LutVectors, at: int) -> tuple[Element | tuple[str, str | int], ...]:
    geometry, line = product.geometry, int(vectors.line[at])
    return (
        ("azimuthTime", moment(geometry.epoch, line * geometry.line_interval_s)),
        ("line", line),
        numbers("pixel", vectors.sample[at], "d"),
    )


def _azimuth_vector(part: AzimuthNoise) -> Element:
    return node(
        "noiseAzimuthVector",
        ("swath", part.swath),
        ("firstAzimuthLine", part.first_line),
        ("firstRangeSample", part.first_sample),
        ("lastAzimuthLine", part.last_line),
        ("lastRangeSample", part.last_sample),
        numbers("line", part.line, "d"),
        numbers("noiseAzimuthLut", part.factor, ".6e"),
    )
