"""The annotation of one polarisation: geometry, orbit, conversions, tie points.

Source: Sentinel-1 product specification, S1-RS-MDA-52-7441, level-1 product annotation data set.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from sar1m.core.radar.product import GeolocationGrid, GrdGeometry, GroundRange, Orbit
from sar1m.io.safe.xml import XmlNode, seconds_between
from sar1m.records import F64
from sar1m.store.errors import SourceError

MAX_SIDE_PX: Final = 65_000
MIN_STATE_VECTORS: Final = 4  # degree-7 interpolation needs four
MAX_RECORDS: Final = 20_000
MAX_COEFFICIENTS: Final = 32
MAX_SCENE_S: Final = 1_800.0  # longer than any data take; times beyond lie in another product
POLARISATIONS: Final = ("VV", "VH", "HH", "HV")
MODES: Final = ("IW", "EW", "S1", "S2", "S3", "S4", "S5", "S6")
ORBIT_RADIUS_M: Final = (6.6e6, 7.6e6)
ORBIT_SPEED_M_S: Final = (6_000.0, 9_000.0)
SLANT_RANGE_S: Final = (3e-3, 1.2e-2)  # two-way; 450 to 1,800 km
MAX_GRID_LATE_S: Final = 0.01  # the grid's bistatic term is under 0.3 ms, half a slant range time 3 ms
_INFORMATION: Final = "imageAnnotation/imageInformation"
_BISTATIC: Final = "imageAnnotation/processingInformation/bistaticDelayCorrectionApplied"


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """The adsHeader with which annotation, calibration and noise files begin. start, stop: of the image."""

    platform: str
    polarisation: str
    mode: str
    start: datetime
    stop: datetime
    absolute_orbit: int
    datatake: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductAnnotation:
    """The annotation of one polarisation.

    orbit_state: ascending or descending. noise_removed: whether the processor has removed the thermal noise.
    """

    header: Header
    geometry: GrdGeometry
    orbit_state: str
    noise_removed: bool


def read_ads_header(root: XmlNode) -> Header:
    """The adsHeader of an annotation, calibration or noise file. Raises SourceError where it is not of a GRD image."""
    node = root.one("adsHeader")
    node.choice("productType", ("GRD",))
    start, stop = node.instant("startTime"), node.instant("stopTime")
    if not 0 < seconds_between(start, stop) <= MAX_SCENE_S:
        raise node.wrong(f"stop {stop} after start {start}", f"a scene of at most {MAX_SCENE_S:g} s", "stopTime")
    return Header(
        platform=node.choice("missionId", ("S1A", "S1B", "S1C", "S1D")),
        polarisation=node.choice("polarisation", POLARISATIONS),
        mode=node.choice("mode", MODES),
        start=start,
        stop=stop,
        absolute_orbit=node.whole("absoluteOrbitNumber", 0, 10**6),
        datatake=f"{node.whole('missionDataTakeId', 0, 16**6 - 1):06X}",
    )


def read_annotation(root: XmlNode, product_id: str) -> ProductAnnotation:
    """The annotation, validated. Raises SourceError naming the element that is missing or impossible."""
    if root.element.tag != "product":
        raise root.wrong(f"<{root.element.tag[:80]}>", "<product>, an annotation")
    header = read_ads_header(root)
    image = root.one(_INFORMATION)
    image.choice("pixelValue", ("Detected",))
    image.choice("outputPixels", ("16 bit Unsigned Integer",))
    root.choice("generalAnnotation/productInformation/projection", ("Ground Range",))
    passing = root.choice("generalAnnotation/productInformation/pass", ("Ascending", "Descending"))
    _require_bistatic_correction(root)
    return ProductAnnotation(
        header=header,
        geometry=_geometry(root, image, product_id),
        orbit_state=passing.lower(),
        noise_removed=root.flag("imageAnnotation/processingInformation/thermalNoiseCorrectionPerformed"),
    )


def _require_bistatic_correction(root: XmlNode) -> None:
    """Raises SourceError for a product whose lines stand at the times of echoes, not at zero-Doppler times.

    True in all real products known, IPF 2.36 to 3.90; it means the correction at one range, see
    core.radar.product.Convention.
    """
    if not root.flag(_BISTATIC):
        raise SourceError(
            f"{root.file}: {_BISTATIC} is false; expected true. Without this correction the lines stand some 3 ms (two "
            "lines) off their zero-Doppler times, by an amount that the annotation does not state. Leave the product "
            "out, or take one that ESA's processor made."
        )


def check_same_geometry(first: GrdGeometry, second: GrdGeometry, names: tuple[str, str]) -> None:
    """Raises SourceError where two polarisations of a product differ in geometry. names: of the files, for messages."""
    numbers = {
        "epoch": seconds_between(first.epoch, second.epoch) == 0,
        "azimuthTimeInterval": first.line_interval_s == second.line_interval_s,
        "numberOfLines": first.lines == second.lines,
        "numberOfSamples": first.samples == second.samples,
        "rangePixelSpacing": first.range_spacing_m == second.range_spacing_m,
        "orbitList": _same(vars(first.orbit), vars(second.orbit)),
        "coordinateConversionList": _same(vars(first.ground_range), vars(second.ground_range)),
        "geolocationGridPointList": _same(
            {name: getattr(first.grid, name) for name in ("line", "sample", "lon", "lat")}, vars(second.grid)
        ),
    }
    differing = [name for name, same in numbers.items() if not same]
    if differing:
        raise SourceError(
            f"{names[1]}: differs from {names[0]} in {', '.join(differing)}; expected one geometry for all "
            "polarisations of a product. Files of two products are mixed: fetch the product again."
        )


def _same(first: dict[str, object], second: dict[str, object]) -> bool:
    return all(np.array_equal(value, second[name]) for name, value in first.items())  # type: ignore[arg-type]


def _geometry(root: XmlNode, image: XmlNode, product_id: str) -> GrdGeometry:
    epoch, last = image.instant("productFirstLineUtcTime"), image.instant("productLastLineUtcTime")
    lines, samples = image.whole("numberOfLines", 2, MAX_SIDE_PX), image.whole("numberOfSamples", 2, MAX_SIDE_PX)
    interval_s = image.number("azimuthTimeInterval", 1e-5, 1e-1)
    duration_s = seconds_between(epoch, last)
    if abs(duration_s - (lines - 1) * interval_s) > interval_s:
        raise image.wrong(
            f"{lines} lines of {interval_s:g} s from {epoch} to {last}",
            "as many lines as fill the time",
            "numberOfLines",
        )
    return GrdGeometry(
        name=product_id,
        epoch=epoch,
        line_interval_s=interval_s,
        lines=lines,
        samples=samples,
        range_spacing_m=image.number("rangePixelSpacing", 1, 200),
        azimuth_spacing_m=image.number("azimuthPixelSpacing", 1, 200),
        orbit=_orbit(root, epoch, duration_s),
        ground_range=_ground_range(root, epoch, duration_s),
        grid=_grid(root, epoch, (lines, samples), interval_s),
    )


def _orbit(root: XmlNode, epoch: datetime, duration_s: float) -> Orbit:
    vectors = root.listed("generalAnnotation/orbitList", "orbit", MIN_STATE_VECTORS, MAX_RECORDS)
    for vector in vectors:
        vector.choice("frame", ("Earth Fixed",))
    return checked_orbit(
        Orbit(
            time_s=np.array([vector.seconds("time", epoch) for vector in vectors]),
            position_m=_triples(vectors, "position", ORBIT_RADIUS_M[1]),
            velocity_m_s=_triples(vectors, "velocity", ORBIT_SPEED_M_S[1]),
            source="annotation",
        ),
        duration_s,
        root.one("generalAnnotation/orbitList"),
    )


def checked_orbit(orbit: Orbit, duration_s: float, node: XmlNode) -> Orbit:
    """The same orbit, once it is found plausible.

    Raises SourceError, naming node, where the times do not rise, a radius or speed is not Sentinel-1's, or the vectors
    do not cover the scene (0 to duration_s) to within one step.
    """
    check_rising(orbit.time_s, node)
    step_s = float(np.diff(orbit.time_s).max())
    first_s, last_s = float(orbit.time_s[0]), float(orbit.time_s[-1])
    if first_s > step_s or last_s < duration_s - step_s:
        raise node.wrong(
            f"state vectors from {first_s:.1f} to {last_s:.1f} s after the first line",
            f"vectors over the scene of {duration_s:.1f} s",
        )
    for values, bounds, unit in (
        (orbit.position_m, ORBIT_RADIUS_M, "m from the Earth's centre"),
        (orbit.velocity_m_s, ORBIT_SPEED_M_S, "m/s"),
    ):
        length = np.linalg.norm(values, axis=1)
        if length.min() < bounds[0] or length.max() > bounds[1]:
            raise node.wrong(f"{length.min():.4g} to {length.max():.4g} {unit}", f"{bounds[0]:.4g} to {bounds[1]:.4g}")
    return orbit


def check_rising(time_s: F64, node: XmlNode) -> None:
    """Raises SourceError where times do not rise."""
    steps = np.diff(time_s)
    if (steps <= 0).any():
        at = int(np.argmax(steps <= 0))
        raise node.wrong(f"record {at + 1} {-steps[at]:g} s before record {at}", "times that rise")


def _triples(vectors: list[XmlNode], name: str, most: float) -> F64:
    return np.array([[vector.number(f"{name}/{axis}", -most, most) for axis in "xyz"] for vector in vectors])


def _ground_range(root: XmlNode, epoch: datetime, duration_s: float) -> GroundRange:
    records = root.listed("coordinateConversion/coordinateConversionList", "coordinateConversion", 1, MAX_RECORDS)
    node = root.one("coordinateConversion/coordinateConversionList")
    time_s = np.array([record.seconds("azimuthTime", epoch) for record in records])
    check_rising(time_s, node)
    if time_s[0] > duration_s or time_s[-1] < 0:
        raise node.wrong(
            f"records from {time_s[0]:.1f} to {time_s[-1]:.1f} s", f"some within the scene of {duration_s:.1f} s"
        )
    return GroundRange(
        time_s=time_s,
        slant_reference_m=np.array([record.number("sr0", 0, 2e6) for record in records]),
        srgr=_coefficients(records, "srgrCoefficients"),
        ground_reference_m=np.array([record.number("gr0", -1e6, 2e6) for record in records]),
        grsr=_coefficients(records, "grsrCoefficients"),
    )


def _coefficients(records: list[XmlNode], name: str) -> F64:
    """Coefficients (records, degree + 1). The linear one must be positive: ranges increase together."""
    rows = [record.numbers(name) for record in records]
    for record, row in zip(records, rows, strict=True):
        if not 2 <= len(row) <= MAX_COEFFICIENTS or len(row) != len(rows[0]) or row[1] <= 0:
            raise record.wrong(
                f"{len(row)} coefficients, the linear one {row[1] if len(row) > 1 else 'missing'}",
                f"{len(rows[0])} as in the first record, from 2 to {MAX_COEFFICIENTS}, the linear one positive",
                name,
            )
    return np.array(rows)


def _grid(root: XmlNode, epoch: datetime, shape: tuple[int, int], interval_s: float) -> GeolocationGrid:
    name = "geolocationGrid/geolocationGridPointList"
    points = root.listed(name, "geolocationGridPoint", 4, MAX_RECORDS)
    lines, samples = shape

    def numbers(name: str, least: float, most: float) -> F64:
        return np.array([point.number(name, least, most) for point in points])

    grid = GeolocationGrid(
        line=np.array([point.whole("line", -lines, 2 * lines) for point in points]),
        sample=np.array([point.whole("pixel", -samples, 2 * samples) for point in points]),
        lon=numbers("longitude", -180, 180),
        lat=numbers("latitude", -90, 90),
        height_m=numbers("height", -1_000, 10_000),
        azimuth_time_s=np.array([point.seconds("azimuthTime", epoch) for point in points]),
        slant_range_time_s=numbers("slantRangeTime", *SLANT_RANGE_S),
        incidence_deg=numbers("incidenceAngle", 10, 60),
    )
    late_s = float(np.abs(grid.azimuth_time_s - grid.line * interval_s).max())
    if late_s > MAX_GRID_LATE_S:
        raise root.wrong(f"azimuth times {late_s:.3g} s off their lines", f"at most {MAX_GRID_LATE_S} s", name)
    return grid
