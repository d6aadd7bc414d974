"""Accuracy and speed of range-Doppler geometry: the annotation's own grid, tie points, and sarsen in the same run.

    python tests/benchmarks/bench_geometry.py [--rounds 7]

One core, under a minute. Needs the folder shared beside the checkout and the development dependency sarsen. Prints
tables and writes results/geometry.{json,md}. Lines and samples are pixels of 10 m.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import xarray as xr
from measure import Clock, Section, Spread, run_with_one_thread, write_results
from pyproj import Transformer
from scipy.interpolate import CubicSpline

from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.radar.orbit import positions_at
from sar1m.core.radar.product import GEOLOCATION_GRID, SPEED_OF_LIGHT_M_S, Convention, GrdGeometry, GrdProduct
from sar1m.core.radar.range_doppler import image_coordinates, tau_ref_s
from sar1m.core.radar.tie_points import TiePoints, annotated_tie_points, fit_tie_points, tie_point_coordinates
from sar1m.io.safe.product import read_product
from sar1m.records import F64

SHARED = Path(__file__).resolve().parents[3] / "shared"
PRODUCTS = SHARED / "data/s1_safe_annotations"
GCPS = SHARED / "data/s1_grd_gcp"
GOLDEN = SHARED / "golden/rome_geometry.npz"
UNDULATION_M = 48.6  # of the geoid at Rome: enough where only time is measured
TIE_FIELDS = ("line", "sample", "lon", "lat", "height_m", "incidence_deg")
GCP_IMAGES = {"iw-vv.tiff": ((30.0, 46.0), 26000 / 1280), "s1-vh.tiff": ((20.0, 26.0), 8160 / 408)}

GRID_NOTE = """Computed minus annotated, at the annotation's longitude, latitude and height, under its own convention
(bistatic term, nearest slant-to-ground record). The grid's times are rounded to 1e-6 s, which is 7e-4 lines.
Samples: the grid follows the ground-to-slant polynomial (grsr) exactly, we follow slant-to-ground (srgr), which the
product fits to it to 0.01 px; in IPF 2.36 both have degree 4 and are up to 4 px apart."""

WHY_NOTE = """Our zero-Doppler time less the grid's azimuth time, in microseconds; one line is 1,500. Three ways:
the orbit as we interpolate it (degree-7 Hermite: velocity is the slope of the position); the velocities annotated,
interpolated on their own (cubic splines), as the processor seems to do; and the latter with vectors that are annotated
to the millisecond moved to the time their processor would have had them. What it tells:
6FF8 (orbit from downlink): its velocities differ by 0.012 m/s from the slope of its positions, and the grid follows the
velocities. Explained.
FEC3 (IPF 2.36): its vectors start 2 s before the first line (.215560) but are annotated at .216000, rounded to the
millisecond: 440 us. Moved back by them the grid comes out. Explained.
6D00 (IPF 2.70): 75 us remain, with a spread of 4 us. Excluded: the way of interpolating (degree 3 to 8, local and over
all vectors), velocities against positions (they agree to 1e-4 m/s), range (agrees to 1e-4 m), heights, the bistatic
reference (the times compared here hold none). Its vectors are annotated to the millisecond too, and its sister shows
that they are late: see the next table. Explained but for the spread, 0.003 lines."""

SISTERS_NOTE = """6D00 and FEC3 are one acquisition processed twice, with a precise and a restituted orbit file.
Position of 6D00's annotated orbit less that of FEC3's, moved by its 440 us, at the same times: along the track, up, and
across, in m; and the time the along-track difference takes. Precise and restituted orbits agree to centimetres, as they
do here up and across: it is the time that differs, by about what 6D00's grid says (75 us)."""

TIE_NOTE = """Line and sample from tie points alone against the exact solution at the tie points' own heights, on 20,000
places between them. The lines are good. The samples are not, over land: the slant-to-ground records change every
second with the terrain's mean height, and the tie points stand three seconds apart. Relief comes on top."""

GCP_NOTE = """Control points of measurements averaged some 20 times: every second one along and across predicts the
others; in averaged pixels of some 200 m. The stripmap scene is sea, all heights 0."""

SARSEN_NOTE = """The golden cells (60 x 60, Rome) for accuracy, largest difference; the cells of the 30 m DEM
(360 x 360) for time: CPU time from Earth-fixed points to line and sample, warm, in turn, median and quartiles.
sarsen's default tolerance is 1 m along track."""


def products() -> Iterator[GrdProduct]:
    """The real products, by date."""
    found = [path for path in PRODUCTS.rglob("S1*") if path.suffix in {".zip", ".SAFE"}]
    return (read_product(path) for path in sorted(found, key=lambda path: path.name[17:]))


def spread_of(values: F64) -> str:
    """Mean, standard deviation and largest amount."""
    return f"{values.mean():+.5f} ± {values.std():.5f}, {np.abs(values).max():.5f}"


def grid_points(geometry: GrdGeometry) -> F64:
    """The geolocation grid, Earth-fixed."""
    return ecef_from_geodetic(geometry.grid.lon, geometry.grid.lat, geometry.grid.height_m)


def grid_rows() -> Iterator[dict[str, Any]]:
    """The annotation's grid, product by product."""
    for product in products():
        geometry = product.geometry
        grid = geometry.grid
        seen = image_coordinates(geometry, grid_points(geometry), GEOLOCATION_GRID)
        range_m = grid.slant_range_time_s * SPEED_OF_LIGHT_M_S / 2
        yield {
            "product": product.product_id,
            "IPF": product.ipf,
            "points": grid.line.size,
            "line: mean ± std, max": spread_of(seen.line - grid.line),
            "sample: mean ± std, max": spread_of(seen.sample - grid.sample),
            "slant range, max m": f"{np.abs(seen.slant_range_m - range_m).max():.1e}",
            "tau_ref, ms": f"{1e3 * tau_ref_s(geometry):.6f}",
        }


def why_rows() -> Iterator[dict[str, Any]]:
    """What the grid's times follow."""
    for product in products():
        geometry = product.geometry
        late_s = rounding_s(geometry)
        seen = image_coordinates(geometry, grid_points(geometry), GEOLOCATION_GRID)
        yield {
            "product": product.product_id[-4:],
            "as interpolated, us": spread_us(seen.azimuth_time_s - geometry.grid.azimuth_time_s),
            "by annotated velocities, us": spread_us(late_by_velocities_s(geometry, 0.0)),
            "vectors moved, us": f"{-1e6 * late_s:.0f}" if late_s else "",
            "by annotated velocities, moved, us": spread_us(late_by_velocities_s(geometry, late_s)) if late_s else "",
        }


def spread_us(late_s: F64) -> str:
    """Mean and standard deviation."""
    return f"{1e6 * late_s.mean():+.2f} ± {1e6 * late_s.std():.2f}"


def rounding_s(geometry: GrdGeometry) -> float:
    """By how much the first vector's time differs from a whole second before the first line, if only by rounding."""
    off_s = float(geometry.orbit.time_s[0] - np.round(geometry.orbit.time_s[0]))
    return off_s if abs(off_s) <= 0.5e-3 else 0.0


def late_by_velocities_s(geometry: GrdGeometry, late_s: float) -> F64:
    """Zero-Doppler time less the grid's, with velocities interpolated on their own, by one Newton step from there."""
    orbit, time_s = geometry.orbit, geometry.grid.azimuth_time_s + late_s
    velocities = CubicSpline(orbit.time_s, orbit.velocity_m_s)
    sight_m = grid_points(geometry) - CubicSpline(orbit.time_s, orbit.position_m)(time_s)
    velocity, acceleration = velocities(time_s), velocities(time_s, 1)
    slope = np.sum(acceleration * sight_m, axis=1) - np.sum(velocity**2, axis=1)
    step_s: F64 = -np.sum(velocity * sight_m, axis=1) / slope
    return step_s


def sister_rows() -> Iterator[dict[str, Any]]:
    """The orbits of one acquisition, processed twice."""
    pair = {product.product_id[-4:]: product.geometry for product in products()}
    later, earlier = pair["6D00"], pair["FEC3"]
    time_s = np.linspace(0, 20, 81)
    apart_s = (later.epoch - earlier.epoch).total_seconds() + rounding_s(earlier)
    ours, other = positions_at(later.orbit, time_s), positions_at(earlier.orbit, time_s + apart_s)
    along = ours.velocity_m_s / np.linalg.norm(ours.velocity_m_s, axis=1, keepdims=True)
    up = ours.position_m / np.linalg.norm(ours.position_m, axis=1, keepdims=True)
    axes = {"along, m": along, "up, m": up, "across, m": np.cross(along, up)}
    gap_m = ours.position_m - other.position_m
    late_s = -np.sum(gap_m * along, axis=1) / np.linalg.norm(ours.velocity_m_s, axis=1)
    apart = {name: f"{np.sum(gap_m * axis, axis=1).mean():+.4f}" for name, axis in axes.items()}
    yield apart | {"along, us": f"{1e6 * late_s.mean():.1f}"}


def tie_rows() -> Iterator[dict[str, Any]]:
    """Tie points alone against the exact solution."""
    for product in products():
        points = annotated_tie_points(product.geometry)
        model = fit_tie_points(points)
        lon, lat = places_between(points)
        seen = tie_point_coordinates(model, lon, lat)
        exact = image_coordinates(product.geometry, ecef_from_geodetic(lon, lat, seen.height_m), GEOLOCATION_GRID)
        sample_px = np.abs(seen.sample - exact.sample)
        yield {
            "product": product.product_id[-4:],
            "heights, m": f"{points.height_m.min():.0f} to {points.height_m.max():.0f}",
            "line, rms": float(np.sqrt(np.mean((seen.line - exact.line) ** 2))),
            "sample, rms": float(np.sqrt(np.mean(sample_px**2))),
            "sample, 95 %": float(np.percentile(sample_px, 95)),
            "sample, max": float(sample_px.max()),
        }


def places_between(points: TiePoints) -> tuple[F64, F64]:
    """Longitude and latitude of 200 x 100 places inside the grid, bilinear between tie points in their order."""
    shape = (np.unique(points.line).size, np.unique(points.sample).size)
    row, col = np.meshgrid(np.linspace(0, shape[0] - 1, 200), np.linspace(0, shape[1] - 1, 100), indexing="ij")
    top, left = np.minimum(row.astype(int), shape[0] - 2), np.minimum(col.astype(int), shape[1] - 2)
    down, right = row - top, col - left

    def between(values: F64) -> F64:
        grid = values.reshape(shape)
        upper = grid[top, left] * (1 - right) + grid[top, left + 1] * right
        lower = grid[top + 1, left] * (1 - right) + grid[top + 1, left + 1] * right
        return np.asarray(upper * (1 - down) + lower * down)

    return between(points.lon), between(points.lat)


def gcp_rows() -> Iterator[dict[str, Any]]:
    """Control points inside measurements predict each other."""
    for name, (incidence_deg, averaged) in GCP_IMAGES.items():
        with rasterio.open(next(GCPS.rglob(name))) as image:
            line, sample, lon, lat, height_m = np.array([(p.row, p.col, p.x, p.y, p.z) for p in image.gcps[0]]).T
        angle_deg = incidence_deg[0] + (incidence_deg[1] - incidence_deg[0]) * sample / sample.max()
        values = dict(zip(TIE_FIELDS, (line, sample, lon, lat, height_m, angle_deg), strict=True))
        points = TiePoints(name=name, range_spacing_m=10 * averaged, **values)
        kept = alternating(line) & alternating(sample)
        model = fit_tie_points(replace(points, **{field: value[kept] for field, value in values.items()}))
        seen = tie_point_coordinates(model, lon[~kept], lat[~kept])
        yield {
            "measurement": name,
            "points": line.size,
            "line, max": float(np.abs(seen.line - line[~kept]).max()),
            "sample, rms": float(np.sqrt(np.mean((seen.sample - sample[~kept]) ** 2))),
            "sample, max": float(np.abs(seen.sample - sample[~kept]).max()),
        }


def alternating(values: F64) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Every second of the distinct values, and the last."""
    place = np.unique(values, return_inverse=True)[1]
    return np.asarray((place % 2 == 0) | (place == place.max()))


class Sarsen:
    """sarsen's image coordinates of the Rome product."""

    def __init__(self, epoch: str, line_interval_s: float) -> None:
        from sarsen import orbit, sentinel1  # noqa: PLC0415 - a second to import, and only here

        folder = next((PRODUCTS / "rome").rglob("*.SAFE"))
        self.product = sentinel1.Sentinel1SarProduct(str(folder), "IW/VV")
        self.orbit = orbit.OrbitPolyfitInterpolator.from_position(self.product.state_vectors())
        self.epoch, self.line_interval_s = np.datetime64(epoch, "ns"), line_interval_s

    def coordinates(self, points_m: xr.DataArray, tolerance_m: float) -> tuple[F64, F64]:
        """Line and sample of Earth-fixed points (3, rows, cols)."""
        from sarsen import apps  # noqa: PLC0415 - see above

        seen = apps.simulate_acquisition(points_m, self.orbit, zero_doppler_distance=tolerance_m)
        ground_m = self.product.slant_range_time_to_ground_range(seen.azimuth_time, seen.slant_range_time)
        time_s = (seen.azimuth_time.values - self.epoch) / np.timedelta64(1, "ns") * 1e-9
        return time_s / self.line_interval_s, ground_m.values / 10.0


@cache
def rome() -> GrdGeometry:
    """The geometry of the Rome product."""
    return read_product(next((PRODUCTS / "rome").rglob("*.SAFE"))).geometry


def labelled(points_m: F64) -> xr.DataArray:
    """Earth-fixed points (rows, cols, 3) as sarsen takes them."""
    return xr.DataArray(np.moveaxis(points_m, -1, 0), dims=("axis", "y", "x"), coords={"axis": [0, 1, 2]})


def dem_points() -> F64:
    """The cells of the Rome DEM, Earth-fixed."""
    with rasterio.open(PRODUCTS / "rome/data/Rome-30m-DEM.tif") as dem:
        rows, cols = np.indices(dem.shape) + 0.5
        lon, lat = dem.transform * (cols, rows)
        return ecef_from_geodetic(lon, lat, dem.read(1).astype(np.float64) + UNDULATION_M)


def sarsen_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """Ours and sarsen's, the same cells, in turn."""
    with np.load(GOLDEN) as file:
        golden = {name: file[name] for name in file.files}
    sarsen = Sarsen(str(golden["first_line_utc"]), float(golden["azimuth_time_interval_s"]))
    to_ecef = Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    cells_m = np.stack(to_ecef.transform(golden["lon"], golden["lat"], golden["height"]), axis=-1)
    many_m = dem_points()
    ours = image_coordinates(rome(), cells_m, Convention())
    found = {
        "ours": (ours.line, ours.sample),
        "sarsen, default": sarsen.coordinates(labelled(cells_m), 1.0),
        "sarsen, 1e-6 m": sarsen.coordinates(labelled(cells_m), 1e-6),
    }
    work = {
        "ours": lambda: image_coordinates(rome(), many_m, Convention()),
        "sarsen, default": lambda: sarsen.coordinates(labelled(many_m), 1.0),
        "sarsen, 1e-6 m": lambda: sarsen.coordinates(labelled(many_m), 1e-6),
    }
    Clock().rounds(1, work)
    clock = Clock()
    clock.rounds(rounds, work)
    cells = many_m.shape[0] * many_m.shape[1]
    for name, (line, sample) in found.items():
        time_ms = Spread.of(clock.seconds[name], 1e3)
        yield {
            "who": name,
            "line off golden": f"{np.abs(line - golden['grd_line']).max():.1e}",
            "sample off golden": f"{np.abs(sample - golden['grd_pixel']).max():.1e}",
            "line off ours": f"{np.abs(line - ours.line).max():.1e}",
            "sample off ours": f"{np.abs(sample - ours.sample).max():.1e}",
            "ms": str(time_ms),
            "Mcell / s": cells / time_ms.median / 1e3,
            "ours is faster": time_ms.median / Spread.of(clock.seconds["ours"], 1e3).median,
        }


def speed_rows(rounds: int) -> Iterator[dict[str, Any]]:
    """Ours on few points, as a lattice asks for, and on many."""
    rng = np.random.default_rng(7)
    for count, what in ((1200, "nodes of a lattice, 3 x 20 x 20"), (1_000_000, "points anywhere on the scene")):
        lon, lat = rng.uniform(12.4, 15.2, count), rng.uniform(41.3, 42.6, count)
        points_m = ecef_from_geodetic(lon, lat, rng.uniform(0, 1000, count))
        clock = Clock()
        clock.rounds(rounds, {"ours": lambda points_m=points_m: image_coordinates(rome(), points_m, Convention())})
        yield {"points": count, "what": what, "ms": str(Spread.of(clock.seconds["ours"], 1e3))}


def main() -> None:
    """Run everything, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of the interleaved measurement of time")
    arguments = parser.parse_args()
    if not (PRODUCTS.is_dir() and GCPS.is_dir() and GOLDEN.is_file()):
        parser.error(f"the real products and golden arrays are not there: {SHARED}")
    run_with_one_thread()
    warnings.simplefilter("ignore")  # sarsen's reader warns of the images' missing georeference and of chunks
    sections = [
        Section(title="The annotation's own grid", note=GRID_NOTE, rows=list(grid_rows())),
        Section(title="What the grid's times follow", note=WHY_NOTE, rows=list(why_rows())),
        Section(title="One acquisition, two orbits", note=SISTERS_NOTE, rows=list(sister_rows())),
        Section(title="Tie points alone", note=TIE_NOTE, rows=list(tie_rows())),
        Section(title="Control points inside measurements", note=GCP_NOTE, rows=list(gcp_rows())),
        Section(title="Beside sarsen 0.9.6", note=SARSEN_NOTE, rows=list(sarsen_rows(arguments.rounds))),
        Section(title="Speed", note="CPU time, median and quartiles.", rows=list(speed_rows(arguments.rounds))),
    ]
    print(write_results("geometry", "Range-Doppler geometry", "python tests/benchmarks/bench_geometry.py", sections))


if __name__ == "__main__":
    main()
