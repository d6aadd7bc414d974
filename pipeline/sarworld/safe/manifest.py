"""The manifest of a SAFE product, in the structure of real ones (S1-RS-MDA-52-7441, SAFE manifest)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Final
from xml.etree.ElementTree import Element

from sar1m.core.radar.product import GrdProduct
from sarworld.safe.annotation import AnnotationFacts
from sarworld.safe.xml import Leaf, moment, node, xml_bytes

_SPACES: Final = {
    "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "xmlns:gml": "http://www.opengis.net/gml",
    "xmlns:xfdu": "urn:ccsds:schema:xfdu:1",
    "xmlns:safe": "http://www.esa.int/safe/sentinel-1.0",
    "xmlns:s1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1",
    "xmlns:s1sar": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar",
    "xmlns:s1sarl1": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1",
    "xmlns:s1sarl2": "http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-2",
    "xmlns:gx": "http://www.google.com/kml/ext/2.2",
    "version": "esa/safe/sentinel-1.0/sentinel-1/sar/level-1/grd/standard/iwdp",
}
_SCHEMAS: Final = {"noise": "Noise", "calibration": "Calibration", "product": "Product"}
_NSSDC: Final = {"S1A": "2014-016A", "S1B": "2016-025A", "S1C": "2024-235A"}


def manifest_xml(product: GrdProduct, stated: AnnotationFacts, files: Mapping[str, bytes]) -> bytes:
    """The manifest of a product.

    files: content of each XML file, by path below the product's root; for a measurement, its digest_record instead.
    """
    return xml_bytes(
        node(
            "xfdu:XFDU",
            node("informationPackageMap", _package_map(product, files)),
            node("metadataSection", *_metadata(product, stated)),
            node("dataObjectSection", *(_data_object(name, content) for name, content in files.items())),
            **_SPACES,
        )
    )


def digest_record(size: int, md5: str) -> bytes:
    """Size and MD5 sum in place of the content of a file that is too large to hold."""
    return f"{size} {md5}".encode()


def object_id(name: str) -> str:
    """The identifier of a file in the manifest: its kind and its name without punctuation."""
    stem = name.rsplit("/", 1)[-1].rsplit(".", 1)[0].replace("-", "")
    return f"product{stem}" if name.startswith("annotation/s1") else stem


def _kind(name: str) -> str:
    """The schema of a file, as named in the manifest."""
    if name.startswith("measurement/"):
        return "Measurement"
    return next((schema for kind, schema in _SCHEMAS.items() if object_id(name).startswith(kind)), "Product")


def _package_map(product: GrdProduct, files: Mapping[str, bytes]) -> Element:
    mode = "SM" if product.mode.startswith("S") else product.mode
    units = (
        node(
            "xfdu:contentUnit",
            node("dataObjectPointer", dataObjectID=object_id(name)),
            unitType="Measurement Data Unit" if _kind(name) == "Measurement" else "Metadata Unit",
            repID=f"s1Level1{_kind(name)}Schema",
        )
        for name in files
    )
    return node(
        "xfdu:contentUnit",
        *units,
        unitType="SAFE Archive Information Package",
        textInfo=f"Sentinel-1 {mode} Level-1 GRD Product",
        dmdID="acquisitionPeriod platform generalProductInformation measurementOrbitReference measurementFrameSet",
        pdiID="processing",
    )


def _metadata(product: GrdProduct, stated: AnnotationFacts) -> Iterator[Element]:
    yield _wrapped("processing", "Processing", _processing(product), "PROVENANCE", "PDI")
    yield _wrapped("platform", "Platform Description", _platform(product))
    yield _wrapped("measurementOrbitReference", "Orbit Reference", _orbit(product, stated))
    yield _wrapped("generalProductInformation", "General Product Information", _general(product))
    period = node(
        "safe:acquisitionPeriod", ("safe:startTime", moment(product.start)), ("safe:stopTime", moment(product.stop))
    )
    yield _wrapped("acquisitionPeriod", "Acquisition Period", period)
    yield _wrapped("measurementFrameSet", "Frame Set", _frame_set(product))


def _wrapped(
    name: str, text: str, content: Element, classification: str = "DESCRIPTION", category: str = "DMD"
) -> Element:
    wrap = node("metadataWrap", node("xmlData", content), mimeType="text/xml", vocabularyName="SAFE", textInfo=text)
    return node("metadataObject", wrap, ID=name, classification=classification, category=category)


def _processing(product: GrdProduct) -> Element:
    software = node("safe:software", name="Sentinel-1 IPF", version=product.ipf)
    place = {"country": "None", "name": "Simulator", "site": "None"}
    facility = node("safe:facility", software, organisation=product.processed_by, **place)
    return node(
        "safe:processing", facility, name="GRD Post Processing", start=moment(product.stop), stop=moment(product.stop)
    )


def _platform(product: GrdProduct) -> Element:
    mode: list[Leaf] = [
        ("s1sarl1:mode", "SM" if product.mode.startswith("S") else product.mode),
        ("s1sarl1:swath", product.mode),
    ]
    sensor = node("safe:familyName", abbreviation="SAR")
    sensor.text = "Synthetic Aperture Radar"
    return node(
        "safe:platform",
        ("safe:nssdcIdentifier", _NSSDC.get(product.platform, "")),
        ("safe:familyName", "SENTINEL-1"),
        ("safe:number", product.platform[-1]),
        node("safe:instrument", sensor, node("safe:extension", node("s1sarl1:instrumentMode", *mode))),
    )


def _orbit(product: GrdProduct, stated: AnnotationFacts) -> Element:
    def numbered(name: str, value: int | None) -> list[Element]:
        ends = [node(name, type=end) for end in ("start", "stop")]
        for end in ends:
            end.text = str(value)
        return ends

    return node(
        "safe:orbitReference",
        *numbered("safe:orbitNumber", product.absolute_orbit),
        *numbered("safe:relativeOrbitNumber", product.relative_orbit),
        ("safe:cycleNumber", 1),
        ("safe:phaseIdentifier", 1),
        node(
            "safe:extension",
            node(
                "s1:orbitProperties",
                ("s1:pass", product.orbit_state.upper()),
                ("s1:ascendingNodeTime", moment(product.start, -stated.node_s)),
            ),
        ),
    )


def _general(product: GrdProduct) -> Element:
    polarisations: list[Leaf] = [
        ("s1sarl1:transmitterReceiverPolarisation", channel.polarisation) for channel in product.channels
    ]
    return node(
        "s1sarl1:standAloneProductInformation",
        ("s1sarl1:instrumentConfigurationID", 7),
        ("s1sarl1:missionDataTakeID", int(product.datatake, 16)),
        *polarisations,
        ("s1sarl1:productClass", "S"),
        ("s1sarl1:productClassDescription", "SAR Standard L1 Product"),
        ("s1sarl1:productComposition", "Slice"),
        ("s1sarl1:productType", "GRD"),
        ("s1sarl1:productTimelinessCategory", "Fast-24h"),
    )


def _frame_set(product: GrdProduct) -> Element:
    grid = product.geometry.grid
    last_line, last_sample = grid.line.max(), grid.sample.max()
    corners = [
        int(((grid.line == line) & (grid.sample == sample)).argmax())
        for line, sample in ((last_line, 0), (last_line, last_sample), (0, last_sample), (0, 0))
    ]
    print_ = node(
        "safe:footPrint",
        ("gml:coordinates", " ".join(f"{grid.lat[n]:.6f},{grid.lon[n]:.6f}" for n in corners)),
        srsName="http://www.opengis.net/gml/srs/epsg.xml#4326",
    )
    return node("safe:frameSet", node("safe:frame", print_))


def _data_object(name: str, content: bytes) -> Element:
    if _kind(name) == "Measurement":
        size, md5 = content.decode().split()
    else:
        size, md5 = str(len(content)), hashlib.md5(content, usedforsecurity=False).hexdigest()
    checksum = node("checksum", checksumName="MD5")
    checksum.text = md5
    mime = "application/octet-stream" if _kind(name) == "Measurement" else "text/xml"
    stream = node(
        "byteStream", node("fileLocation", locatorType="URL", href=f"./{name}"), checksum, mimeType=mime, size=size
    )
    return node("dataObject", stream, ID=object_id(name), repID=f"s1Level1{_kind(name)}Schema")
