"""The annotation of one polarisation, in the structure of real products.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, level-1 product annotation data set; order and formats as
in products of IPF 3.31. Lists that determine neither the position nor the brightness of pixels are empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element

import numpy as np

from sar1m.core.radar.geodesy import SEMI_MAJOR_AXIS_M, SEMI_MINOR_AXIS_M
from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, GrdGeometry, GrdProduct
from sarworld.safe.radiometry import SwathPart
from sarworld.safe.xml import exact, listing, moment, node, numbers, xml_bytes

RADAR_FREQUENCY_HZ: Final = 5.405000454334350e09
RANGE_SAMPLING_HZ: Final = 6.434523812571428e07


@dataclass(frozen=True, kw_only=True, eq=False)
class AnnotationFacts:
    """What the XML states in addition to the product's record.

    heading_deg: of the flight over ground, clockwise from north.
    node_s: time from the ascending node to the first line.
    terrain_height_m: above the ellipsoid.
    """

    swaths: tuple[SwathPart, ...]
    heading_deg: float
    node_s: float
    mid_incidence_deg: float
    terrain_height_m: float


def header(product: GrdProduct, polarisation: str, number: int) -> Element:
    """The adsHeader with which annotation, calibration and noise files begin. number: of the channel, from 1."""
    return node(
        "adsHeader",
        ("missionId", product.platform),
        ("productType", "GRD"),
        ("polarisation", polarisation),
        ("mode", product.mode),
        ("swath", product.mode),
        ("startTime", moment(product.start)),
        ("stopTime", moment(product.stop)),
        ("absoluteOrbitNumber", product.absolute_orbit),
        ("missionDataTakeId", int(product.datatake, 16)),
        ("imageNumber", f"{number:03d}"),
    )


def annotation_xml(product: GrdProduct, stated: AnnotationFacts, number: int) -> bytes:
    """The annotation file of a channel. number: from 1."""
    geometry = product.geometry
    return xml_bytes(
        node(
            "product",
            header(product, product.channels[number - 1].polarisation, number),
            node("qualityInformation", ("productQualityIndex", exact(0.0)), listing("qualityDataList", [])),
            _general(product, stated),
            node("imageAnnotation", _image(product, stated), _processing(product, stated)),
            node("dopplerCentroid", listing("dcEstimateList", [])),
            node("antennaPattern", listing("antennaPatternList", [])),
            node("swathTiming", ("linesPerBurst", 0), ("samplesPerBurst", 0), listing("burstList", [])),
            node("geolocationGrid", _grid(geometry)),
            node("coordinateConversion", _conversions(geometry)),
            node("swathMerging", _merging(product, stated)),
        )
    )


def _general(product: GrdProduct, stated: AnnotationFacts) -> Element:
    geometry = product.geometry
    orbit = geometry.orbit
    terrain = node("terrainHeight", ("azimuthTime", moment(geometry.epoch)), ("value", exact(stated.terrain_height_m)))
    return node(
        "generalAnnotation",
        node(
            "productInformation",
            ("pass", product.orbit_state.capitalize()),
            ("timelinessCategory", "Fast-24h"),
            ("platformHeading", exact(stated.heading_deg)),
            ("projection", "Ground Range"),
            ("rangeSamplingRate", exact(RANGE_SAMPLING_HZ)),
            ("radarFrequency", exact(RADAR_FREQUENCY_HZ)),
            ("azimuthSteeringRate", exact(0.0)),
        ),
        listing("downlinkInformationList", []),
        listing(
            "orbitList",
            (
                node(
                    "orbit",
                    ("time", moment(geometry.epoch, time_s)),
                    ("frame", "Earth Fixed"),
                    _axes("position", position),
                    _axes("velocity", velocity),
                )
                for time_s, position, velocity in zip(orbit.time_s, orbit.position_m, orbit.velocity_m_s, strict=True)
            ),
        ),
        listing("attitudeList", []),
        listing("rawDataAnalysisList", []),
        listing("replicaInformationList", []),
        listing("noiseList", []),
        listing("terrainHeightList", [terrain]),
        listing("azimuthFmRateList", []),
    )


def _axes(name: str, vector: np.ndarray) -> Element:
    return node(name, *((axis, exact(value)) for axis, value in zip("xyz", vector.tolist(), strict=True)))


def _image(product: GrdProduct, stated: AnnotationFacts) -> Element:
    geometry = product.geometry
    still = node("outputDataMean", ("re", exact(0.0)), ("im", exact(0.0)))
    spread = node("outputDataStdDev", ("re", exact(0.0)), ("im", exact(0.0)))
    return node(
        "imageInformation",
        ("productFirstLineUtcTime", moment(product.start)),
        ("productLastLineUtcTime", moment(product.stop)),
        ("ascendingNodeTime", moment(geometry.epoch, -stated.node_s)),
        ("anchorTime", moment(product.start)),
        ("productComposition", "Slice"),
        ("sliceNumber", 1),
        listing("sliceList", []),
        ("slantRangeTime", exact(2 * float(geometry.ground_range.slant_reference_m[0]) / SPEED_OF_LIGHT_M_S)),
        ("pixelValue", "Detected"),
        ("outputPixels", "16 bit Unsigned Integer"),
        ("rangePixelSpacing", f"{geometry.range_spacing_m:.6e}"),
        ("azimuthPixelSpacing", f"{geometry.azimuth_spacing_m:.6e}"),
        ("azimuthTimeInterval", exact(geometry.line_interval_s)),
        ("azimuthFrequency", exact(1 / geometry.line_interval_s)),
        ("numberOfSamples", geometry.samples),
        ("numberOfLines", geometry.lines),
        ("zeroDopMinusAcqTime", exact(0.0)),
        ("incidenceAngleMidSwath", exact(stated.mid_incidence_deg)),
        node("imageStatistics", still, spread),
    )


def _processing(product: GrdProduct, stated: AnnotationFacts) -> Element:
    removed = all(channel.noise is None for channel in product.channels)
    return node(
        "processingInformation",
        ("rawDataAnalysisUsed", "true"),
        ("orbitDataFileUsed", "false"),
        ("attitudeDataFileUsed", "false"),
        ("rxVariationCorrectionApplied", "true"),
        ("antennaElevationPatternApplied", "true"),
        ("antennaAzimuthPatternApplied", "true"),
        ("antennaAzimuthElementPatternApplied", "true"),
        ("dcMethod", "Data Analysis"),
        ("dcInputData", "Range Compressed"),
        ("rangeSpreadingLossCompensationApplied", "true"),
        ("srgrConversionApplied", "true"),
        ("detectionPerformed", "true"),
        ("thermalNoiseCorrectionPerformed", str(removed).lower()),
        listing("swathProcParamsList", (node("swathProcParams", ("swath", part.swath)) for part in stated.swaths)),
        listing("inputDimensionsList", []),
        ("referenceRange", exact(8.0e5)),
        ("ellipsoidName", "WGS84"),
        ("ellipsoidSemiMajorAxis", exact(SEMI_MAJOR_AXIS_M)),
        ("ellipsoidSemiMinorAxis", exact(SEMI_MINOR_AXIS_M)),
        ("bistaticDelayCorrectionApplied", "true"),
    )


def _grid(geometry: GrdGeometry) -> Element:
    grid = geometry.grid
    return listing(
        "geolocationGridPointList",
        (
            node(
                "geolocationGridPoint",
                ("azimuthTime", moment(geometry.epoch, grid.azimuth_time_s[n])),
                ("slantRangeTime", exact(grid.slant_range_time_s[n])),
                ("line", int(grid.line[n])),
                ("pixel", int(grid.sample[n])),
                ("latitude", exact(grid.lat[n])),
                ("longitude", exact(grid.lon[n])),
                ("height", exact(grid.height_m[n])),
                ("incidenceAngle", exact(grid.incidence_deg[n])),
                ("elevationAngle", exact(grid.incidence_deg[n] - 4.0)),
            )
            for n in range(len(grid.line))
        ),
    )


def _conversions(geometry: GrdGeometry) -> Element:
    records = geometry.ground_range
    return listing(
        "coordinateConversionList",
        (
            node(
                "coordinateConversion",
                ("azimuthTime", moment(geometry.epoch, records.time_s[r])),
                ("slantRangeTime", exact(2 * records.slant_reference_m[r] / SPEED_OF_LIGHT_M_S)),
                ("sr0", exact(records.slant_reference_m[r])),
                numbers("srgrCoefficients", records.srgr[r], ".15e"),
                ("gr0", exact(records.ground_reference_m[r])),
                numbers("grsrCoefficients", records.grsr[r], ".15e"),
            )
            for r in range(len(records.time_s))
        ),
    )


def _merging(product: GrdProduct, stated: AnnotationFacts) -> Element:
    bounds = (
        node(
            "swathMerge",
            ("swath", part.swath),
            listing(
                "swathBoundsList",
                [
                    node(
                        "swathBounds",
                        ("azimuthTime", moment(product.start)),
                        ("firstAzimuthLine", 0),
                        ("firstRangeSample", part.first_sample),
                        ("lastAzimuthLine", product.geometry.lines - 1),
                        ("lastRangeSample", part.last_sample),
                    )
                ],
            ),
        )
        for part in stated.swaths
    )
    return listing("swathMergeList", bounds if len(stated.swaths) > 1 else ())
