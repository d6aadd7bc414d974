"""From backscatter to digital numbers: calibration vectors, thermal noise by swath, and the area of a pixel.

Calibration refers to level ground at the reference height of the frame. There, sigma nought is beta nought times the
sine of the incidence angle, and gamma nought is beta nought times its tangent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy import interpolate

from sar1m.core.radar.product import AzimuthNoise, GrdChannel, LutVectors, ThermalNoise
from sar1m.records import F32, F64
from sarworld.safe.circular_orbit import incidence_deg
from sarworld.safe.frame import Frame
from sarworld.safe.scenario import SceneSpec

BETA_GAIN: Final = 474.0  # DN per square root of beta nought, as in products of 2021
VECTOR_STEP_S: Final = 1.0
SAMPLE_STEP: Final = 40
AZIMUTH_STEP: Final = 10
NESZ_DB: Final = {"VV": -24.5, "HH": -24.5, "VH": -25.5, "HV": -25.5}  # sigma nought at a swath's middle
NESZ_EDGE_DB: Final = 4.0  # more at a swath's edges
SWATH_STEP_DB: Final = 0.8  # from one swath to the next
SCALLOPING: Final = 0.1
BURST_LINES: Final = 1340
_AREA_NODES: Final = 24
_FIRST_NOISE_AZIMUTH: Final = "002.90"  # IPF


@dataclass(frozen=True, kw_only=True)
class SwathPart:
    """Samples of the image that belong to one swath; first and last are included."""

    swath: str
    first_sample: int
    last_sample: int


def swath_parts(spec: SceneSpec) -> tuple[SwathPart, ...]:
    """The samples of the image, divided evenly among the swaths of the mode."""
    edges = np.rint(np.linspace(0, spec.samples, len(spec.mode.swaths) + 1)).astype(int).tolist()
    return tuple(
        SwathPart(swath=swath, first_sample=first, last_sample=end - 1)
        for swath, first, end in zip(spec.mode.swaths, edges[:-1], edges[1:], strict=True)
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class LevelGround:
    """Functions of line and sample on level ground at reference height.

    area_beta_m2: area of a pixel in the plane of slant range and azimuth.
    incidence_deg: against the ellipsoid's normal.
    """

    area_beta_m2: interpolate.RectBivariateSpline
    incidence_deg: interpolate.RectBivariateSpline


def level_ground(frame: Frame) -> LevelGround:
    """Area and incidence in a frame: exact on a lattice, by cubic splines between (relative error under 1e-6)."""
    line = np.linspace(-1.0, frame.lines, _AREA_NODES)
    sample = np.linspace(-1.0, frame.samples, _AREA_NODES)
    lines, samples = np.meshgrid(line, sample, indexing="ij")
    height = frame.reference_height_m
    along = frame.locate(lines + 0.5, samples, height) - frame.locate(lines - 0.5, samples, height)
    across = frame.locate(lines, samples + 0.5, height) - frame.locate(lines, samples - 0.5, height)
    points = frame.locate(lines, samples, height)
    time_s, _ = frame.orbit.zero_doppler(points, frame.centre_s)
    angle = incidence_deg(points, frame.orbit.state(time_s)[0])
    area = np.linalg.norm(np.cross(along, across), axis=-1) * np.sin(np.radians(angle))
    return LevelGround(
        area_beta_m2=interpolate.RectBivariateSpline(line, sample, area),
        incidence_deg=interpolate.RectBivariateSpline(line, sample, angle),
    )


def make_channel(spec: SceneSpec, frame: Frame, ground: LevelGround, polarisation: str, measurement: str) -> GrdChannel:
    """Calibration and noise of one polarisation. measurement: name of the TIFF below the product's root."""
    line = _vector_lines(frame)
    sample = np.append(np.arange(0, frame.samples - 1, SAMPLE_STEP), frame.samples - 1)
    angle = np.radians(ground.incidence_deg(line, sample))
    gains = {
        "sigma": BETA_GAIN / np.sqrt(np.sin(angle)),
        "beta": np.full(angle.shape, BETA_GAIN),
        "gamma": BETA_GAIN / np.sqrt(np.tan(angle)),
    }
    vectors = {
        name: LutVectors(line=line, sample=(sample,) * len(line), value=tuple(_as_written(v) for v in values))
        for name, values in gains.items()
    }
    return GrdChannel(
        polarisation=polarisation,
        measurement=measurement,
        noise=_thermal_noise(spec, frame, ground, polarisation),
        **vectors,
    )


def _vector_lines(frame: Frame) -> np.ndarray:
    # one a second, the last beyond the image, as real products have them
    step = round(VECTOR_STEP_S / frame.line_interval_s)
    return np.arange(0, frame.lines + step, step, dtype=np.int64)


def _as_written(values: F64) -> F64:
    return np.asarray([float(f"{value:.6e}") for value in values])


def _thermal_noise(spec: SceneSpec, frame: Frame, ground: LevelGround, polarisation: str) -> ThermalNoise:
    parts = swath_parts(spec)
    line = np.append(_vector_lines(frame)[:-1], frame.lines - 1)
    # both sides of a border between swaths are annotated, so that nothing is interpolated across it
    sample = np.concatenate(
        [np.append(np.arange(p.first_sample, p.last_sample, SAMPLE_STEP), p.last_sample) for p in parts]
    ).astype(np.int64)
    nesz = spec.signal.noise_scale * 10 ** (_nesz_db(parts, sample, polarisation) / 10)
    gain2 = BETA_GAIN**2 / np.sin(np.radians(ground.incidence_deg(line, sample)))
    drift = 1 + 0.02 * np.sin(np.arange(len(line)))[:, None]
    return ThermalNoise(
        range_power=LutVectors(
            line=line, sample=(sample,) * len(line), value=tuple(_as_written(v) for v in nesz * gain2 * drift)
        ),
        azimuth=_azimuth_noise(spec, parts) if takes_azimuth_noise(spec.acquisition.ipf) else (),
    )


def takes_azimuth_noise(ipf: str) -> bool:
    """Whether products of a processor version annotate azimuth noise, in lists of its own."""
    return ipf >= _FIRST_NOISE_AZIMUTH


def _nesz_db(parts: tuple[SwathPart, ...], sample: np.ndarray, polarisation: str) -> F64:
    level = np.empty(len(sample))
    for number, part in enumerate(parts):
        inside = (sample >= part.first_sample) & (sample <= part.last_sample)
        place = (sample[inside] - part.first_sample) / max(part.last_sample - part.first_sample, 1)
        level[inside] = NESZ_DB[polarisation] + SWATH_STEP_DB * number + NESZ_EDGE_DB * (2 * place - 1) ** 2
    return level


def _azimuth_noise(spec: SceneSpec, parts: tuple[SwathPart, ...]) -> tuple[AzimuthNoise, ...]:
    if len(parts) == 1:  # stripmap has no bursts
        return ()
    line = np.append(np.arange(0, spec.lines - 1, AZIMUTH_STEP), spec.lines - 1).astype(np.int64)
    return tuple(
        AzimuthNoise(
            swath=part.swath,
            first_line=0,
            last_line=spec.lines - 1,
            first_sample=part.first_sample,
            last_sample=part.last_sample,
            line=line,
            factor=_as_written(1 + SCALLOPING * (((line / BURST_LINES + number / 3) % 1) * 2 - 1) ** 2),
        )
        for number, part in enumerate(parts)
    )


def noise_power(channel: GrdChannel, lines: slice, samples: int) -> F32:
    """Mean noise power in DN^2 on some lines of the image, (lines, samples).

    Range vectors are interpolated along samples, then along lines, and multiplied by the factor of the swath that a
    pixel lies in.
    """
    if channel.noise is None:
        return np.zeros((lines.stop - lines.start, samples), dtype=np.float32)
    vectors = channel.noise.range_power
    wanted = np.arange(samples)
    rows = np.stack([np.interp(wanted, s, v) for s, v in zip(vectors.sample, vectors.value, strict=True)])
    numbers = np.arange(lines.start, lines.stop)
    power: F64 = interpolate.interp1d(vectors.line, rows, axis=0)(numbers)
    for part in channel.noise.azimuth:
        power[:, part.first_sample : part.last_sample + 1] *= np.interp(numbers, part.line, part.factor)[:, None]
    return power.astype(np.float32)
