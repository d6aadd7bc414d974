"""What Earth Engine is asked to compute for a block, and the check of what it sends back.

Pixels come as one structured array a request. Earth Engine writes zeros where an image is masked, so every layer is
unmasked with a number that is no measurement, beyond the image's footprint too, and read back as no data.
"""

from __future__ import annotations

import io
from types import ModuleType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sar1m.config import BuildConfig
from sar1m.records import F32, RasterGrid
from sar1m.sources.pixels import REGISTRATION_BANDS, SCL_CLOUD, SCL_SNOW, USUAL_NESZ, OpticalPixels, SarPixels
from sar1m.sources.scene import Scene
from sar1m.store.errors import SourceError

# Uncompressed bytes of one computePixels and pixels a side. Source: Earth Engine REST reference, projects.image
# computePixels: 48 MB, 32K; read as decimal, the stricter way.
MAX_REQUEST_BYTES: Final = 48_000_000
MAX_SIDE_PX: Final = 32_000

SAR_MASKED: Final = -9999.0  # linear power is never that low
ANGLE_STEP_DEG: Final = 0.01
DN_MASKED: Final = 65535  # Sentinel-2's own number for saturated pixels, which are no measurement either
DN_SCALE: Final = 1e-4
CLEAR_SCORE: Final = 0.60  # cs_cdf from here on is clear: the catalogue's page of Cloud Score+, usual 0.50 to 0.65
CLOUD_MASKED: Final = 255
SCL_NO_DATA: Final = 0
SCL_WATER: Final = 6
WHOLE: Final = 0.999  # of a pixel that no masked neighbour took part in

_TEN_METRES: Final = ("B02", "B03", "B04", "B08")
_COARSER: Final = ("B01", "B05", "B06", "B07", "B8A", "B09", "B11", "B12")


def ee_band(name: str) -> str:
    """Earth Engine's name of a band: B4 for B04."""
    return name[0] + name[1:].lstrip("0")


def sar_polarisations(scene: Scene, config: BuildConfig) -> tuple[str, ...]:
    """The polarisations that the configuration asks for, in its order. Raises SourceError where the scene lacks one."""
    wanted = tuple(config.area.polarisations)
    missing = [name for name in wanted if name not in scene.polarisations]
    if missing or not wanted:
        raise SourceError(
            f"{scene.service} {scene.scene_id}: has the polarisations {', '.join(scene.polarisations) or 'none'}; "
            f"area.polarisations asks for {', '.join(wanted) or 'none'}."
        )
    return wanted


def optical_bands(config: BuildConfig) -> tuple[str, ...]:
    """Bands to fetch: those of the output, then those to register with. Raises SourceError for an unknown band."""
    unknown = [band for band in config.pixels.optical_bands if band not in (*_TEN_METRES, *_COARSER)]
    if unknown or not config.pixels.optical_bands:
        raise SourceError(
            f"earthengine: pixels.optical_bands asks for {', '.join(unknown) or 'nothing'}; Sentinel-2 L2A has "
            f"{', '.join(sorted((*_TEN_METRES, *_COARSER)))}."
        )
    return tuple(dict.fromkeys((*config.pixels.optical_bands, *REGISTRATION_BANDS)))


def sar_layout(polarisations: tuple[str, ...]) -> np.dtype[Any]:
    """Fields of a SAR answer: linear power, and the incidence angle in hundredths of a degree, 0 where unknown."""
    return np.dtype([*((name, "<f4") for name in polarisations), ("angle", "<u2")])


def optical_layout(bands: tuple[str, ...], *, cloud_score: bool) -> np.dtype[Any]:
    """Fields of an optical answer: DN, classes of the scene classification, and 1 for cloud where there is a score."""
    return np.dtype([*((name, "<u2") for name in bands), ("SCL", "u1"), *([("cloud", "u1")] if cloud_score else [])])


def sar_image(ee: ModuleType, asset_id: str, polarisations: tuple[str, ...]) -> Any:  # noqa: ANN401  ee has no types
    """Layers of sar_layout. Power is interpolated bilinearly, never over a masked pixel."""
    image = ee.Image(asset_id).resample("bilinear")
    power = image.select(list(polarisations))
    whole = power.updateMask(power.mask().gte(WHOLE)).unmask(SAR_MASKED, False).toFloat()
    angle = image.select(["angle"]).divide(ANGLE_STEP_DEG).round().unmask(0, False).toUint16()
    return whole.addBands(angle)


def optical_image(ee: ModuleType, scene: Scene, bands: tuple[str, ...]) -> Any:  # noqa: ANN401  ee has no types
    """Layers of optical_layout. 10 m bands are interpolated cubically where the grid is not their own; coarser bands
    are repeated."""
    image = ee.Image(scene.asset("image").href)
    fine = [band for band in bands if band in _TEN_METRES]
    coarse = [band for band in bands if band not in _TEN_METRES]
    sharp = image.select([ee_band(band) for band in fine], fine).resample("bicubic")
    digital = sharp.updateMask(sharp.mask().gte(WHOLE))
    if coarse:
        digital = digital.addBands(image.select([ee_band(band) for band in coarse], coarse))
    layers = digital.select(list(bands)).round().clamp(0, DN_MASKED).unmask(DN_MASKED, False).toUint16()
    layers = layers.addBands(image.select(["SCL"]).unmask(SCL_NO_DATA, False).toByte())
    score = cloud_score_asset(scene)
    if score is None:
        return layers
    cloud = ee.Image(score).select(["cs_cdf"], ["cloud"]).lt(CLEAR_SCORE)
    return layers.addBands(cloud.unmask(CLOUD_MASKED, False).toByte())


def cloud_score_asset(scene: Scene) -> str | None:
    """The id of the Cloud Score+ image that belongs to a scene; None where Earth Engine has none."""
    return next((asset.href for asset in scene.assets if asset.name == "cs_cdf"), None)


def grid_message(grid: RasterGrid) -> dict[str, Any]:
    """A grid in the form that computePixels takes: exact pixels, so that Earth Engine chooses nothing."""
    a, b, c, d, e, f = grid.transform
    return {
        "dimensions": {"width": grid.cols, "height": grid.rows},
        "affineTransform": {
            "scaleX": a,
            "shearX": b,
            "translateX": c,
            "shearY": d,
            "scaleY": e,
            "translateY": f,
        },
        "crsCode": f"EPSG:{grid.epsg}",
    }


def strips(grid: RasterGrid, pixel_bytes: int) -> list[RasterGrid]:
    """The grid in as few strips of whole rows as Earth Engine's limits allow: one for the usual block. Raises
    SourceError where a single row is too long."""
    rows = min(MAX_REQUEST_BYTES // (grid.cols * pixel_bytes), MAX_SIDE_PX)
    if grid.cols > MAX_SIDE_PX or rows < 1:
        raise SourceError(
            f"earthengine: a block of {grid.cols} px a side; Earth Engine computes up to {MAX_SIDE_PX}. Set "
            "grid.patches_per_side or grid.patch_px lower."
        )
    count = -(-grid.rows // rows)
    rows = -(-grid.rows // count)
    return [grid.window(top, 0, min(rows, grid.rows - top), grid.cols) for top in range(0, grid.rows, rows)]


def parse_npy(content: bytes, layout: np.dtype[Any], shape: tuple[int, int], scene_id: str) -> npt.NDArray[Any]:
    """The structured array (rows, cols) in the bytes of a .npy file.

    Objects are never unpickled, and no more memory is taken than was sent. Raises SourceError where the content is
    anything else than an array of this layout and shape.
    Source: NumPy enhancement proposal 1, format version 1.0 and 2.0.
    """
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        found, fortran, dtype = read_header(stream)
    except (ValueError, KeyError, SyntaxError, TypeError, OverflowError, RecursionError) as error:
        raise _unreadable(scene_id, f"{len(content)} bytes that are no .npy file", layout, shape) from error
    if dtype.names is None or dict(_fields(dtype)) != dict(_fields(layout)):
        raise _unreadable(scene_id, f"an array of {str(dtype)[:160]}", layout, shape)
    if found != shape or fortran:
        raise _unreadable(scene_id, f"an array of the shape {str(found)[:60]}", layout, shape)
    body = content[stream.tell() :]
    if len(body) != shape[0] * shape[1] * dtype.itemsize:
        raise _unreadable(scene_id, f"{len(body)} bytes of pixels", layout, shape)
    return np.frombuffer(body, dtype).reshape(shape)


def _fields(dtype: np.dtype[Any]) -> list[tuple[str, np.dtype[Any]]]:
    return [(name, dtype[name]) for name in dtype.names or ()]


def _unreadable(scene_id: str, found: str, layout: np.dtype[Any], shape: tuple[int, int]) -> SourceError:
    return SourceError(
        f"earthengine {scene_id}: sent {found}; expected {shape[0]} x {shape[1]} pixels with "
        f"{', '.join(layout.names or ())}, {shape[0] * shape[1] * layout.itemsize} bytes. Nothing of it is used; build "
        "again to ask again."
    )


def sar_side(pixels: npt.NDArray[Any], polarisations: tuple[str, ...]) -> SarPixels:
    """Linear power, NaN without data, and the mean incidence angle, from an array of sar_layout."""
    power: F32 = np.stack([pixels[name] for name in polarisations]).astype(np.float32)
    power[(power <= SAR_MASKED) | ~np.isfinite(power)] = np.nan
    hundredths = pixels["angle"]
    known = hundredths[hundredths > 0]
    return SarPixels(
        sar=power,
        incidence_deg=float(known.mean(dtype=np.float64) * ANGLE_STEP_DEG) if known.size else None,
        noise_floor=(USUAL_NESZ,) * len(polarisations),
    )


def optical_side(pixels: npt.NDArray[Any], config: BuildConfig) -> OpticalPixels:
    """Reflectance, NaN without data, and masks from an array of optical_layout.

    A pixel without a cloud score, or without a class, is not known to be clear: it counts as cloud.
    """
    classes = pixels["SCL"]
    scored = "cloud" in (pixels.dtype.names or ())
    cloud = pixels["cloud"] != 0 if scored else np.isin(classes, (SCL_NO_DATA, *SCL_CLOUD))
    return OpticalPixels(
        optical=_reflectance(pixels, config.pixels.optical_bands),
        registration_optical=_reflectance(pixels, REGISTRATION_BANDS),
        cloud=cloud,
        cloud_source="cloud_score_plus" if scored else "scl",
        snow=classes == SCL_SNOW,
        water=classes == SCL_WATER,
        flags=frozenset(f"upsampled_{band.lower()}" for band in config.pixels.optical_bands if band in _COARSER),
    )


def _reflectance(pixels: npt.NDArray[Any], bands: tuple[str, ...]) -> F32:
    digital = np.stack([pixels[band] for band in bands])
    reflectance: F32 = digital.astype(np.float32) * np.float32(DN_SCALE)
    reflectance[(digital == DN_MASKED) | (pixels["SCL"] == SCL_NO_DATA)] = np.nan
    return reflectance
