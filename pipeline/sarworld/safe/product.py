"""The record of a simulated product, as a reader should return it."""

from __future__ import annotations

import binascii
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import numpy as np

from sar1m.core.radar.geodesy import geodetic_from_ecef
from sar1m.core.radar.product import SPEED_OF_LIGHT_M_S, GeolocationGrid, GrdGeometry, GrdProduct
from sar1m.records import F64
from sarworld.safe.circular_orbit import VECTOR_STEP_S, VECTORS
from sarworld.safe.frame import Frame
from sarworld.safe.radiometry import level_ground, make_channel
from sarworld.safe.scenario import SIMULATOR, SceneSpec

GRID_LINES: Final = 10
GRID_SAMPLES: Final = 21
_HEIGHT_STEPS: Final = 8

HeightAt = Callable[[F64, F64], F64]  # ellipsoidal height in m at lon, lat in degrees


def make_product(spec: SceneSpec, frame: Frame, height_at: HeightAt) -> GrdProduct:
    """The record of a product, with channels in the order of the spec's polarisations.

    height_at: ellipsoidal heights of the ground, for the tie points.
    """
    taken = spec.acquisition
    stop = frame.epoch + timedelta(microseconds=round((frame.lines - 1) * frame.line_interval_s * 1e6))
    ground = level_ground(frame)
    stem = image_stem(spec, frame.epoch, stop)
    channels = tuple(
        make_channel(spec, frame, ground, polarisation, f"measurement/{stem.format(polarisation.lower(), number)}.tiff")
        for number, polarisation in enumerate(taken.polarisations, start=1)
    )
    name = product_id(spec, frame.epoch, stop)
    first_vector_s = VECTOR_STEP_S * (-VECTORS // 2) - frame.epoch.microsecond / 1e6
    return GrdProduct(
        product_id=name,
        platform=taken.platform,
        mode=spec.mode.name,
        ipf=taken.ipf,
        processed_by=SIMULATOR,
        start=frame.epoch,
        stop=stop,
        orbit_state=taken.orbit_state,
        absolute_orbit=taken.absolute_orbit,
        relative_orbit=taken.relative_orbit,
        datatake=f"{taken.datatake:06X}",
        geometry=GrdGeometry(
            name=name,
            epoch=frame.epoch,
            line_interval_s=frame.line_interval_s,
            lines=frame.lines,
            samples=frame.samples,
            range_spacing_m=frame.spacing_m,
            azimuth_spacing_m=frame.spacing_m,
            orbit=frame.orbit.vectors(round(first_vector_s, 6)),
            ground_range=frame.ground_range,
            grid=_geolocation_grid(frame, height_at),
        ),
        channels=channels,
    )


def product_id(spec: SceneSpec, start: datetime, stop: datetime) -> str:
    """The product's name by the product specification, S1-RS-MDA-52-7441. Its last four digits are a checksum of the
    scene's name and seed, so that two specifications have two names."""
    taken, mode = spec.acquisition, spec.mode
    pair = {("VV",): "SV", ("HH",): "SH", ("VV", "VH"): "DV", ("HH", "HV"): "DH"}
    kind = pair.get(taken.polarisations, taken.polarisations[0])
    name = (
        f"{taken.platform}_{mode.name}_GRD{mode.resolution}_1S{kind}_{start:%Y%m%dT%H%M%S}_{stop:%Y%m%dT%H%M%S}"
        f"_{taken.absolute_orbit:06d}_{taken.datatake:06X}"
    )
    return f"{name}_{binascii.crc_hqx(f'{name} {spec.name} {spec.seed}'.encode(), 0xFFFF):04X}"


def image_stem(spec: SceneSpec, start: datetime, stop: datetime) -> str:
    """Name of an image's files without suffix, a format string for polarisation and number."""
    taken = spec.acquisition
    return (
        f"{taken.platform.lower()}-{spec.mode.name.lower()}-grd-{{}}-{start:%Y%m%dt%H%M%S}-{stop:%Y%m%dt%H%M%S}"
        f"-{taken.absolute_orbit:06d}-{taken.datatake:06x}-{{:03d}}"
    )


def _geolocation_grid(frame: Frame, height_at: HeightAt) -> GeolocationGrid:
    """10 x 21 tie points on the ground, by the convention of the geolocation grid (nearest record, bistatic term)."""
    lines, samples = np.meshgrid(
        np.unique(np.rint(np.linspace(0, frame.lines - 1, GRID_LINES)).astype(np.int64)),
        np.unique(np.rint(np.linspace(0, frame.samples - 1, GRID_SAMPLES)).astype(np.int64)),
        indexing="ij",
    )
    line, sample = lines.ravel(), samples.ravel()
    height = np.full(line.shape, frame.reference_height_m)
    for _ in range(_HEIGHT_STEPS):
        points = frame.locate(line, sample, height, nearest=True)
        lon, lat, _ = geodetic_from_ecef(points)
        height = height + 0.7 * (height_at(lon, lat) - height)  # under-relaxed: steep ground would swing
    points = frame.locate(line, sample, height, nearest=True)
    lon, lat, height = geodetic_from_ecef(points)
    time_s, range_m = frame.orbit.zero_doppler(points, frame.centre_s)
    sensor = frame.orbit.state(time_s)[0]
    return GeolocationGrid(
        line=line,
        sample=sample,
        lon=lon,
        lat=lat,
        height_m=height,
        azimuth_time_s=time_s.round(6),
        slant_range_time_s=2 * range_m / SPEED_OF_LIGHT_M_S,
        incidence_deg=_geocentric_incidence_deg(points, sensor),
    )


def _geocentric_incidence_deg(points: F64, sensor: F64) -> F64:
    # real products give it against the radial from the Earth's centre
    sight = sensor - points
    cosine = np.einsum("ni,ni->n", sight, points) / np.linalg.norm(sight, axis=1) / np.linalg.norm(points, axis=1)
    angle: F64 = np.degrees(np.arccos(cosine))
    return angle
