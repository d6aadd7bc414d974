"""A small synthetic Sentinel-1 product for tests: real structure, plausible orbit, tiny image. Nothing here uses the
package's own geometry or readers."""

from __future__ import annotations

import functools
import zipfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from rasterio.control import GroundControlPoint
from rasterio.io import MemoryFile

SPEED_OF_LIGHT_M_S = 299_792_458.0
EARTH_RATE = 7.292115e-5
SEMI_MAJOR_M, SEMI_MINOR_M = 6_378_137.0, 6_356_752.314245
NEAR_RANGE_M = 800_000.0
ORBIT_STEP_S, ORBIT_LEAD_S = 10.0, 70.0
DEGREE = 5
CROSS = {"VV": "VH", "HH": "HV"}
NAMESPACES = (
    'xmlns:xfdu="urn:ccsds:schema:xfdu:1" xmlns:safe="http://www.esa.int/safe/sentinel-1.0" '
    'xmlns:s1="http://www.esa.int/safe/sentinel-1.0/sentinel-1" '
    'xmlns:s1sarl1="http://www.esa.int/safe/sentinel-1.0/sentinel-1/sar/level-1"'
)


@dataclass(frozen=True, kw_only=True)
class SafeRecipe:
    """What the product is to be. old_noise: the format of IPF before 2.9; noise_removed: none is needed."""

    polarisations: tuple[str, ...] = ("VV", "VH")
    platform: str = "S1A"
    mode: str = "IW"
    start: datetime = datetime(2021, 8, 9, 17, 39, 53, 153776, tzinfo=UTC)
    lines: int = 48
    samples: int = 64
    spacing_m: float = 10.0
    line_interval_s: float = 1.5e-3
    ipf: str = "003.40"
    old_noise: bool = False
    noise_removed: bool = False
    absolute_orbit: int = 39156
    relative_orbit: int | None = 59
    datatake: int = 0x49F13
    unique: str = "6FF8"
    seed: int = 1

    @property
    def stop(self) -> datetime:
        return self.start + timedelta(seconds=(self.lines - 1) * self.line_interval_s)

    @property
    def name(self) -> str:
        """The product's name without .SAFE."""
        kind = ("S" if len(self.polarisations) == 1 else "D") + self.polarisations[0][0]
        times = f"{self.start:%Y%m%dT%H%M%S}_{self.stop:%Y%m%dT%H%M%S}"
        numbers = f"{self.absolute_orbit:06d}_{self.datatake:06X}_{self.unique}"
        return f"{self.platform}_{self.mode}_GRDH_1S{kind}_{times}_{numbers}"

    def stem(self, polarisation: str) -> str:
        """Name of one polarisation's files without folder and ending."""
        times = f"{self.start:%Y%m%dt%H%M%S}-{self.stop:%Y%m%dt%H%M%S}"
        number = self.polarisations.index(polarisation) + 1
        return (
            f"{self.platform}-{self.mode}-grd-{polarisation}-{times}-{self.absolute_orbit:06d}-{self.datatake:06x}-"
            f"{number:03d}"
        ).lower()


def write_safe(folder: Path, recipe: SafeRecipe | None = None, dn: dict[str, np.ndarray] | None = None) -> Path:
    """Writes NAME.SAFE into folder and returns its path. dn: (lines, samples) uint16 by polarisation, else drawn."""
    recipe = recipe or SafeRecipe()
    return write_members(folder / f"{recipe.name}.SAFE", safe_members(recipe, dn))


def write_members(root: Path, members: dict[str, bytes]) -> Path:
    """Writes files below root."""
    for name, content in members.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_safe_zip(
    path: Path,
    recipe: SafeRecipe | None = None,
    dn: dict[str, np.ndarray] | None = None,
    method: int = zipfile.ZIP_DEFLATED,
) -> Path:
    """Writes the product as a zip at path, with directory entries as services do."""
    recipe = recipe or SafeRecipe()
    root = f"{recipe.name}.SAFE"
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for folder in ("", "annotation/", "annotation/calibration/", "measurement/"):
            archive.writestr(f"{root}/{folder}", b"")
        for name, content in safe_members(recipe, dn).items():
            archive.writestr(f"{root}/{name}", content)
    return path


def safe_members(recipe: SafeRecipe, dn: dict[str, np.ndarray] | None = None) -> dict[str, bytes]:
    """Content of every file by its name below the product's root."""
    members = {"manifest.safe": manifest_xml(recipe).encode()}
    for polarisation in recipe.polarisations:
        stem = recipe.stem(polarisation)
        pixels = draw_dn(recipe, polarisation) if dn is None else dn[polarisation]
        members[f"annotation/{stem}.xml"] = annotation_xml(recipe, polarisation).encode()
        members[f"annotation/calibration/calibration-{stem}.xml"] = calibration_xml(recipe, polarisation).encode()
        members[f"annotation/calibration/noise-{stem}.xml"] = noise_xml(recipe, polarisation).encode()
        members[f"measurement/{stem}.tiff"] = tiff_bytes(recipe, pixels)
    return members


def draw_dn(recipe: SafeRecipe, polarisation: str) -> np.ndarray:
    """Speckled digital numbers with a border of zeros on the near side."""
    rng = np.random.default_rng([recipe.seed, recipe.polarisations.index(polarisation)])
    dn = np.sqrt(3e4 * rng.gamma(4.4, 1 / 4.4, (recipe.lines, recipe.samples))).astype(np.uint16)
    dn[:, : recipe.samples // 20] = 0
    return dn


# ---- geometry ----


def state_vectors(time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Earth-fixed positions (n, 3) and velocities of a circular orbit that passes 45 degrees north, ascending."""
    radius_m, inclination = 7_068_000.0, np.radians(98.18)
    rate = np.sqrt(3.986004418e14 / radius_m**3)
    angle = np.radians(45.5) + rate * np.asarray(time_s, dtype=np.float64)
    node = np.radians(12.0) - EARTH_RATE * np.asarray(time_s, dtype=np.float64)
    along = np.stack([np.cos(angle), np.sin(angle) * np.cos(inclination), np.sin(angle) * np.sin(inclination)], -1)
    ahead = np.stack([-np.sin(angle), np.cos(angle) * np.cos(inclination), np.cos(angle) * np.sin(inclination)], -1)
    position = radius_m * _turned(along, node)
    velocity = radius_m * rate * _turned(ahead, node)
    velocity += np.cross([0.0, 0.0, -EARTH_RATE], position)
    return position, velocity


def _turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.stack([x * np.cos(angle) - y * np.sin(angle), x * np.sin(angle) + y * np.cos(angle), z], -1)


def target_at(time_s: float, slant_range_m: float) -> np.ndarray:
    """The point of the ellipsoid seen to the right at zero Doppler, Earth-fixed."""
    (position,), (velocity,) = state_vectors(np.array([time_s]))
    ahead = velocity / np.linalg.norm(velocity)
    down = -(position - ahead * (position @ ahead))
    down /= np.linalg.norm(down)
    right = np.cross(down, ahead)
    low, high = np.radians(5.0), np.radians(60.0)
    scale = np.array([SEMI_MAJOR_M, SEMI_MAJOR_M, SEMI_MINOR_M])
    for _ in range(80):
        look = (low + high) / 2
        point = position + slant_range_m * (np.cos(look) * down + np.sin(look) * right)
        outside = np.linalg.norm(point / scale) > 1
        low, high = (low, look) if outside else (look, high)
    return point


def geodetic(point: np.ndarray) -> tuple[float, float]:
    """Longitude and latitude in degrees of a point of the ellipsoid."""
    flat = (SEMI_MINOR_M / SEMI_MAJOR_M) ** 2
    return (
        float(np.degrees(np.arctan2(point[1], point[0]))),
        float(np.degrees(np.arctan2(point[2], flat * np.hypot(point[0], point[1])))),
    )


@functools.lru_cache(maxsize=256)
def ground_range_fits(recipe: SafeRecipe, time_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of ground range from slant range less NEAR_RANGE_M, and back; arc lengths on a sphere."""
    (position,), _ = state_vectors(np.array([time_s]))
    height, radius = float(np.linalg.norm(position)), float(np.linalg.norm(target_at(time_s, NEAR_RANGE_M)))
    reach_m = max(recipe.samples * recipe.spacing_m, 1_000.0)
    slant = NEAR_RANGE_M + np.linspace(-0.1 * reach_m, reach_m, 60)
    arc = radius * np.arccos((height**2 + radius**2 - slant**2) / (2 * height * radius))
    ground = arc - radius * np.arccos((height**2 + radius**2 - NEAR_RANGE_M**2) / (2 * height * radius))
    return _fit(slant - NEAR_RANGE_M, ground), _fit(ground, slant)


def _fit(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    scale = np.abs(x).max()
    return np.polynomial.polynomial.polyfit(x / scale, y, DEGREE) / scale ** np.arange(DEGREE + 1)


@functools.lru_cache(maxsize=64)
def tie_points(recipe: SafeRecipe) -> list[dict[str, float]]:
    """A grid of 4 x 5 points on the ellipsoid."""
    points = []
    for line in np.unique(np.linspace(0, recipe.lines - 1, 4).astype(int)):
        for sample in np.unique(np.linspace(0, recipe.samples - 1, 5).astype(int)):
            time_s = float(line * recipe.line_interval_s)
            slant_m = float(
                np.polynomial.polynomial.polyval(sample * recipe.spacing_m, ground_range_fits(recipe, time_s)[1])
            )
            point = target_at(time_s, slant_m)
            (position,), _ = state_vectors(np.array([time_s]))
            sight, up = position - point, point / np.linalg.norm(point)
            incidence = float(np.degrees(np.arccos(sight @ up / np.linalg.norm(sight))))
            lon, lat = geodetic(point)
            points.append(
                {"time_s": time_s, "slant_m": slant_m, "line": int(line), "sample": int(sample)}
                | {"lon": lon, "lat": lat, "incidence": incidence}
            )
    return points


# ---- files ----


def utc(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%S.%f")


def numbers(name: str, values: np.ndarray, form: str = ".6e") -> str:
    return f'<{name} count="{len(values)}">{" ".join(format(value, form) for value in values)}</{name}>'


def listed(name: str, items: list[str]) -> str:
    """<nameList count="..."> with one <name> an item."""
    return (
        f'<{name}List count="{len(items)}">' + "".join(f"<{name}>{item}</{name}>" for item in items) + f"</{name}List>"
    )


def header(recipe: SafeRecipe, polarisation: str) -> str:
    return (
        f"<adsHeader><missionId>{recipe.platform}</missionId><productType>GRD</productType>"
        f"<polarisation>{polarisation}</polarisation><mode>{recipe.mode}</mode><swath>{recipe.mode}</swath>"
        f"<startTime>{utc(recipe.start)}</startTime><stopTime>{utc(recipe.stop)}</stopTime>"
        f"<absoluteOrbitNumber>{recipe.absolute_orbit}</absoluteOrbitNumber>"
        f"<missionDataTakeId>{recipe.datatake}</missionDataTakeId>"
        f"<imageNumber>{recipe.polarisations.index(polarisation) + 1:03d}</imageNumber></adsHeader>"
    )


def annotation_xml(recipe: SafeRecipe, polarisation: str) -> str:
    near_s = 2 * NEAR_RANGE_M / SPEED_OF_LIGHT_M_S
    orbit_s = np.arange(-ORBIT_LEAD_S, ORBIT_LEAD_S + ORBIT_STEP_S, ORBIT_STEP_S)
    orbits = [
        f"<time>{utc(recipe.start + timedelta(seconds=float(time_s)))}</time><frame>Earth Fixed</frame>"
        + "".join(
            f"<{name}>"
            + "".join(f"<{axis}>{value:.15e}</{axis}>" for axis, value in zip("xyz", vector, strict=True))
            + f"</{name}>"
            for name, vector in (("position", position), ("velocity", velocity))
        )
        for time_s, position, velocity in zip(orbit_s, *state_vectors(orbit_s), strict=True)
    ]
    conversions = []
    for time_s in np.arange(-1.0, (recipe.stop - recipe.start).total_seconds() + 2.0):
        srgr, grsr = ground_range_fits(recipe, time_s)
        conversions.append(
            f"<azimuthTime>{utc(recipe.start + timedelta(seconds=float(time_s)))}</azimuthTime>"
            f"<slantRangeTime>{near_s:.15e}</slantRangeTime><sr0>{NEAR_RANGE_M:.15e}</sr0>"
            f"{numbers('srgrCoefficients', srgr, '.15e')}<gr0>0.000000000000000e+00</gr0>"
            f"{numbers('grsrCoefficients', grsr, '.15e')}"
        )
    grid = [
        f"<azimuthTime>{utc(recipe.start + timedelta(seconds=point['time_s']))}</azimuthTime>"
        f"<slantRangeTime>{2 * point['slant_m'] / SPEED_OF_LIGHT_M_S:.15e}</slantRangeTime>"
        f"<line>{point['line']}</line><pixel>{point['sample']}</pixel><latitude>{point['lat']:.15e}</latitude>"
        f"<longitude>{point['lon']:.15e}</longitude><height>0.000000000000000e+00</height>"
        f"<incidenceAngle>{point['incidence']:.15e}</incidenceAngle><elevationAngle>3.0e+01</elevationAngle>"
        for point in tie_points(recipe)
    ]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<product>{header(recipe, polarisation)}'
        "<generalAnnotation><productInformation><pass>Ascending</pass><timelinessCategory>Fast-24h</timelinessCategory>"
        "<projection>Ground Range</projection><radarFrequency>5.405000454334350e+09</radarFrequency>"
        f"</productInformation>{listed('orbit', orbits)}</generalAnnotation>"
        "<imageAnnotation><imageInformation>"
        f"<productFirstLineUtcTime>{utc(recipe.start)}</productFirstLineUtcTime>"
        f"<productLastLineUtcTime>{utc(recipe.stop)}</productLastLineUtcTime><slantRangeTime>{near_s:.15e}</slantRangeTime>"
        "<pixelValue>Detected</pixelValue><outputPixels>16 bit Unsigned Integer</outputPixels>"
        f"<rangePixelSpacing>{recipe.spacing_m:.6e}</rangePixelSpacing>"
        f"<azimuthPixelSpacing>{recipe.spacing_m:.6e}</azimuthPixelSpacing>"
        f"<azimuthTimeInterval>{recipe.line_interval_s:.15e}</azimuthTimeInterval>"
        f"<numberOfSamples>{recipe.samples}</numberOfSamples><numberOfLines>{recipe.lines}</numberOfLines>"
        "</imageInformation><processingInformation>"
        f"<thermalNoiseCorrectionPerformed>{str(recipe.noise_removed).lower()}</thermalNoiseCorrectionPerformed>"
        "<bistaticDelayCorrectionApplied>true</bistaticDelayCorrectionApplied>"
        "</processingInformation></imageAnnotation>"
        f"<geolocationGrid>{listed('geolocationGridPoint', grid)}</geolocationGrid>"
        f"<coordinateConversion>{listed('coordinateConversion', conversions)}</coordinateConversion></product>\n"
    )


def lut_axes(recipe: SafeRecipe) -> tuple[np.ndarray, np.ndarray]:
    """Lines and samples of the vectors; the last sample closes the image, as in real products."""
    lines = np.linspace(0, recipe.lines + 4, 4).astype(int)
    return lines, np.unique(np.append(np.arange(0, recipe.samples, 16), recipe.samples - 1))


def calibration_xml(recipe: SafeRecipe, polarisation: str) -> str:
    lines, samples = lut_axes(recipe)
    fall = 1 - 0.1 * samples / recipe.samples
    vectors = [
        f"<azimuthTime>{utc(recipe.start + timedelta(seconds=float(line * recipe.line_interval_s)))}</azimuthTime>"
        f"<line>{line}</line>{numbers('pixel', samples, 'd')}{numbers('sigmaNought', 660 * fall)}"
        f"{numbers('betaNought', 474 * np.ones(len(samples)))}{numbers('gamma', 612 * fall)}"
        f"{numbers('dn', 474 * np.ones(len(samples)))}"
        for line in lines
    ]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<calibration>{header(recipe, polarisation)}<calibrationInformation>'
        "<absoluteCalibrationConstant>1.000000e+00</absoluteCalibrationConstant></calibrationInformation>"
        f"{listed('calibrationVector', vectors)}</calibration>\n"
    )


def noise_xml(recipe: SafeRecipe, polarisation: str) -> str:
    """Range vectors, and azimuth vectors of two swaths unless old_noise or stripmap."""
    lines, samples = lut_axes(recipe)
    kind, lut = ("noiseVector", "noiseLut") if recipe.old_noise else ("noiseRangeVector", "noiseRangeLut")
    vectors = [
        f"<azimuthTime>{utc(recipe.start)}</azimuthTime><line>{line}</line>{numbers('pixel', samples, 'd')}"
        f"{numbers(lut, 2_400 * (1 + 0.3 * np.cos(samples / recipe.samples * 6)))}"
        for line in lines[:-1]
    ]
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<noise>{header(recipe, polarisation)}{listed(kind, vectors)}'
        + ("" if recipe.old_noise else listed("noiseAzimuthVector", azimuth_noise(recipe)))
        + "</noise>\n"
    )


def azimuth_noise(recipe: SafeRecipe) -> list[str]:
    line = np.unique(np.append(np.arange(0, recipe.lines, 10), recipe.lines - 1))
    middle = recipe.samples // 2
    parts = {"1": (0, middle - 1), "2": (middle, recipe.samples - 1)} if recipe.mode in ("IW", "EW") else {}
    return [
        f"<swath>{recipe.mode}{swath}</swath><firstAzimuthLine>0</firstAzimuthLine>"
        f"<firstRangeSample>{first}</firstRangeSample><lastAzimuthLine>{recipe.lines - 1}</lastAzimuthLine>"
        f"<lastRangeSample>{last}</lastRangeSample>{numbers('line', line, 'd')}"
        f"{numbers('noiseAzimuthLut', 1 + 0.1 * np.sin(line / 7 + int(swath)))}"
        for swath, (first, last) in parts.items()
    ]


def manifest_xml(recipe: SafeRecipe) -> str:
    relative = recipe.relative_orbit
    stated = "" if relative is None else f'<safe:relativeOrbitNumber type="start">{relative}</safe:relativeOrbitNumber>'
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<xfdu:XFDU {NAMESPACES} version="esa/safe/sentinel-1.0">'
        '<metadataSection><metadataObject ID="processing"><metadataWrap><xmlData><safe:processing name="GRD Post '
        'Processing"><safe:facility organisation="ESA" name="test">'
        f'<safe:software name="Sentinel-1 IPF" version="{recipe.ipf}"/>'
        "</safe:facility></safe:processing></xmlData></metadataWrap></metadataObject>"
        '<metadataObject ID="measurementOrbitReference"><metadataWrap><xmlData><safe:orbitReference>'
        f'<safe:orbitNumber type="start">{recipe.absolute_orbit}</safe:orbitNumber>{stated}<safe:extension>'
        "<s1:orbitProperties><s1:pass>ASCENDING</s1:pass></s1:orbitProperties></safe:extension></safe:orbitReference>"
        "</xmlData></metadataWrap></metadataObject></metadataSection></xfdu:XFDU>\n"
    )


def tiff_bytes(recipe: SafeRecipe, dn: np.ndarray, **options: object) -> bytes:
    """A measurement: one band, one line a strip, tie points instead of a transform."""
    points = [
        GroundControlPoint(row=point["line"], col=point["sample"], x=point["lon"], y=point["lat"], z=0.0)
        for point in tie_points(recipe)
    ]
    profile = {"driver": "GTiff", "height": dn.shape[0], "width": dn.shape[1], "count": 1, "dtype": dn.dtype}
    with MemoryFile() as memory:
        with memory.open(**profile, **{"blockysize": 1, "gcps": points, "crs": "EPSG:4326"} | options) as dataset:
            dataset.write(dn, 1)
        return memory.read()


def write_orbit_file(
    folder: Path, recipe: SafeRecipe, *, kind: str = "POEORB", created: str = "20210829T122310"
) -> Path:
    """An orbit file over two minutes around the scene, with the recipe's own vectors, moved by nothing."""
    first = recipe.start.replace(microsecond=0) - timedelta(seconds=240)
    instants = [first + timedelta(seconds=10 * step) for step in range(60)]
    seconds = np.array([(instant - recipe.start).total_seconds() for instant in instants])
    vectors = []
    for instant, position, velocity in zip(instants, *state_vectors(seconds), strict=True):
        values = dict(zip(("X", "Y", "Z", "VX", "VY", "VZ"), [*position, *velocity], strict=True))
        vectors.append(
            f"<OSV><TAI>TAI={utc(instant + timedelta(seconds=37))}</TAI><UTC>UTC={utc(instant)}</UTC>"
            f"<UT1>UT1={utc(instant)}</UT1><Absolute_Orbit>+{recipe.absolute_orbit}</Absolute_Orbit>"
            + "".join(f'<{axis} unit="m">{value:.6f}</{axis}>' for axis, value in values.items())
            + "<Quality>NOMINAL</Quality></OSV>"
        )
    content = (
        '<?xml version="1.0" ?>\n<Earth_Explorer_File><Earth_Explorer_Header><Fixed_Header>'
        "<Mission>Sentinel-1A</Mission></Fixed_Header><Variable_Header><Ref_Frame>EARTH_FIXED</Ref_Frame><Time_Reference>UTC</Time_Reference>"
        '</Variable_Header></Earth_Explorer_Header><Data_Block type="xml">'
        f'<List_of_OSVs count="{len(vectors)}">{"".join(vectors)}</List_of_OSVs></Data_Block></Earth_Explorer_File>\n'
    )
    validity = f"V{instants[0]:%Y%m%dT%H%M%S}_{instants[-1]:%Y%m%dT%H%M%S}"
    path = folder / f"{recipe.platform}_OPER_AUX_{kind}_OPOD_{created}_{validity}.EOF"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path
