"""A whole scene with known truth: SAFE product, DEM and optical image of one simulated ground.

Files below the folder: <product>.SAFE or .zip, dem/*.tif, optical/<item>.json with its GeoTIFFs, and where asked for
orbits/*.EOF and geoid/egm08_25.gtx.

The image is the sum of the echoes of all facets of the ground that are not in shadow (echo_facets.py), divided by the
area of a pixel in the plane of slant range and azimuth: mean beta nought. Thermal noise is added before speckle
multiplies the sum, so that subtracting its mean recovers the mean. Reflectors are added last, without speckle.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from sar1m.core.radar.geodesy import ecef_from_geodetic
from sar1m.core.utm import lonlat_from_utm, utm_from_lonlat
from sar1m.records import F32, RasterGrid
from sarworld.safe.annotation import AnnotationFacts
from sarworld.safe.circular_orbit import MOTION_RAD_S
from sarworld.safe.echo import view_ground
from sarworld.safe.frame import Frame, make_frame
from sarworld.safe.ground import build_ground, height_at, reference_height_m, truth_grid, world_grid
from sarworld.safe.orbit_file import write_orbit_file
from sarworld.safe.package import write_product
from sarworld.safe.partners import write_dem, write_optical
from sarworld.safe.product import make_product
from sarworld.safe.radiometry import level_ground, swath_parts
from sarworld.safe.scenario import SceneSpec
from sarworld.safe.signal import image_strips
from sarworld.safe.truth import KnownReflector, SafeTruth


def write_scene(folder: Path, spec: SceneSpec) -> SafeTruth:
    """Simulates a scene and writes it below a folder. The same spec gives the same bytes.

    Raises ValueError where the spec is impossible: no such orbit, an incidence outside the mode, a surface too small.
    """
    frame = make_frame(spec, reference_height_m(spec))
    grid = truth_grid(spec, frame)
    world = build_ground(spec, grid)
    outer = world_grid(grid, world)
    product = make_product(spec, frame, lambda lon, lat: height_at(outer, world.height_m, lon, lat))
    on_map, image = view_ground(spec, frame, product, world, grid)
    truth = SafeTruth(
        spec=spec,
        frame=frame,
        product=product,
        path=folder,
        map=on_map,
        image=image,
        reflectors=_survey(spec, frame, outer, world.height_m),
    )
    stated = stated_beside(spec, frame)
    path = write_product(folder, product, stated, lambda channel: image_strips(truth, channel), zipped=spec.zipped)
    write_dem(folder / "dem", spec, outer, world.height_m)
    if spec.partners.orbit_file:
        write_orbit_file(folder / "orbits", product, frame)
    if spec.partners.optical:
        write_optical(folder / "optical", spec, world, grid, product.start)
    return replace(truth, path=path)


def stated_beside(spec: SceneSpec, frame: Frame) -> AnnotationFacts:
    """What the XML states of a frame in addition to the product's record."""
    return AnnotationFacts(
        swaths=swath_parts(spec),
        heading_deg=frame.orbit.heading_deg(frame.centre_s),
        node_s=(frame.orbit.phase_rad % (2 * np.pi)) / MOTION_RAD_S,
        mid_incidence_deg=float(np.mean(spec.mode.incidence_deg)),
        terrain_height_m=frame.reference_height_m,
    )


def _survey(spec: SceneSpec, frame: Frame, grid: RasterGrid, height_m: F32) -> tuple[KnownReflector, ...]:
    """The reflectors on the ground, with exact radar coordinates."""
    asked = spec.ground.reflectors
    centre_x_m, centre_y_m = utm_from_lonlat(spec.lon, spec.lat, grid.epsg)
    x_m = centre_x_m + np.array([reflector.east_m for reflector in asked])
    y_m = centre_y_m + np.array([reflector.north_m for reflector in asked])
    lon, lat = lonlat_from_utm(x_m, y_m, grid.epsg)
    height = height_at(grid, height_m, lon, lat)
    line, sample = frame.image_coordinates(ecef_from_geodetic(lon, lat, height))
    area_m2 = level_ground(frame).area_beta_m2.ev(line, sample)
    places = np.stack([x_m, y_m, lon, lat, height, line, sample], axis=-1).tolist()
    names = ("x_m", "y_m", "lon", "lat", "height_m", "line", "sample")
    return tuple(
        KnownReflector(
            name=reflector.name,
            cross_section_m2=reflector.cross_section_m2,
            energy=reflector.cross_section_m2 / area,
            **dict(zip(names, place, strict=True)),
        )
        for reflector, place, area in zip(asked, places, area_m2.tolist(), strict=True)
    )
