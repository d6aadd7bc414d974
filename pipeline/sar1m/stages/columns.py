"""The metadata row of a candidate patch: its identity, the fit of the pair, the quality of its pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from sar1m.core import plateaus
from sar1m.core import quality as measure
from sar1m.core.grid import bounds_lonlat, centres_lonlat
from sar1m.core.identity import sample_id
from sar1m.core.mutual_information import InformationShift
from sar1m.core.registration import BlockRegistration
from sar1m.core.speckle import estimate_enl
from sar1m.records import F32, BlockPixels, Bool, Candidate, PatchPlace, Row, Shift
from sar1m.stages.statistics import finite
from sar1m.store.schema import OpticalQuantity


@dataclass(frozen=True, kw_only=True, eq=False)
class PatchPixels:
    """One patch cut out of its block. optical and masks are already moved by the applied shift. offset_bands: (B, H, W)
    reflectance whose floor shows a radiometric offset."""

    place: PatchPlace
    sar: F32
    optical: F32 | None
    offset_bands: F32 | None
    cloud: Bool | None
    snow: Bool | None
    water: Bool | None
    layover_shadow: Bool | None
    local_incidence_deg: F32 | None
    land_cover: np.ndarray | None


def identity(candidate: Candidate, patch_px: int) -> list[Row]:
    """Names, place, products and rights of every patch of a block, in their order."""
    side = candidate.grid.gsd_m * patch_px
    grids = [candidate.grid.window(place.row, place.col, patch_px, patch_px) for place in candidate.patches]
    lon, lat = centres_lonlat(grids)
    bounds = bounds_lonlat(grids)
    shared = _sar_columns(candidate) | _optical_columns(candidate)
    return [
        shared
        | {
            "sample_id": sample_id(place.name, candidate.sar),
            "patch": place.name,
            "epsg": grid.epsg,
            "transform": list(grid.transform),
            "gsd_m": side / patch_px,
            "lon": float(lon[number]),
            "lat": float(lat[number]),
            "bounds_lonlat": [float(edge) for edge in bounds[number]],
        }
        for number, (place, grid) in enumerate(zip(candidate.patches, grids, strict=True))
    ]


def _sar_columns(candidate: Candidate) -> Row:
    sar = candidate.sar
    return {
        "cell": candidate.cell,
        "site": candidate.site,
        "sar_product": sar.product_id,
        "sar_digest": sar.digest,
        "platform": sar.platform,
        "orbit_state": sar.orbit_state,
        "relative_orbit": sar.relative_orbit,
        "datatake": sar.datatake,
        "sar_datetime": None if sar.acquired is None else sar.acquired.isoformat(),
        "polarisations": list(sar.polarisations),
        "quantity": sar.quantity,
        "processing": sar.processing,
        "provider": sar.provider,
        "labels": list(candidate.labels),
        "country": candidate.country,
        "licence_sar": sar.licence,
        "attribution": candidate.attribution,
    }


def _optical_columns(candidate: Candidate) -> Row:
    optical = candidate.optical
    if optical is None:
        names = ("product", "digest", "datetime", "provider")
        empty: Row = {f"optical_{name}": None for name in names}
        return empty | {
            "processing_baseline": None,
            "offset_applied": None,
            "bands": [],
            "dt_hours": None,
            "licence_optical": None,
        }
    known = optical.acquired is not None and candidate.sar.acquired is not None
    hours = (optical.acquired - candidate.sar.acquired).total_seconds() / 3600 if known else None  # type: ignore[operator]
    return {
        "optical_product": optical.product_id,
        "optical_digest": optical.digest,
        "optical_datetime": None if optical.acquired is None else optical.acquired.isoformat(),
        "optical_provider": optical.provider,
        "processing_baseline": optical.processing_baseline,
        "offset_applied": optical.offset_applied,
        "bands": list(optical.bands),
        "dt_hours": hours,
        "licence_optical": optical.licence,
    }


def pair(registration: BlockRegistration | None, number: int, applied: tuple[int, int]) -> Row:
    """The shift of a patch and of its scene pair, the field of its block, the correction, and the residual.

    number: position of the patch in its block. applied: correction in pixels, rows and columns.
    """
    if registration is None:
        return dict.fromkeys(PAIR_COLUMNS)
    shift, scene, field = registration.patches[number], registration.scene, registration.field
    return {
        "shift_row_px": finite(shift.row_px),
        "shift_col_px": finite(shift.col_px),
        "shift_sigma_px": finite(shift.sigma_px),
        "registration_psr": finite(shift.psr),
        "registration_status": shift.status,
        "polarisation_spread_px": finite(shift.polarisation_spread_px),
        "band_spread_px": finite(shift.band_spread_px),
        "band_offset_px": finite(shift.band_offset_px),
        "scene_shift_row_px": finite(scene.row_px),
        "scene_shift_col_px": finite(scene.col_px),
        "scene_sigma_px": finite(scene.sigma_px),
        "scene_psr": finite(scene.psr),
        "shift_field_order": None if field is None else field.order,
        "shift_field_rms_px": None if field is None else field.rms_px,
        "shift_field_patches": None if field is None else field.patches,
        "applied_row_px": float(applied[0]),
        "applied_col_px": float(applied[1]),
        "residual_px": _residual_px(shift, applied),
    }


def second_pair(registration: BlockRegistration | None, number: int, second: InformationShift | None) -> Row:
    """The shift by mutual information of a patch, and how far it is from the patch's own; None where not measured."""
    if registration is None or second is None:
        return dict.fromkeys(SECOND_COLUMNS)
    shift = registration.patches[number]
    distance_px = math.hypot(second.row_px - shift.row_px, second.col_px - shift.col_px)
    return {
        "second_shift_row_px": finite(second.row_px),
        "second_shift_col_px": finite(second.col_px),
        "second_shift_sigma_px": finite(second.sigma_px),
        "second_shift_status": "measured" if second.clear else "unclear",
        "disagreement_px": finite(distance_px) if second.clear else None,
    }


def quality(pixels: BlockPixels, patch: PatchPixels, optical_quantity: OpticalQuantity | None) -> Row:
    """Measures of the pixels of a patch; None where a mask or the partner is missing."""
    # Speckle multiplies signal and noise alike: with the noise taken off, dark areas would seem to have few looks.
    enl = estimate_enl(patch.sar[0] + np.float32(pixels.noise_floor[0])).value
    optical, cover = patch.optical, patch.land_cover
    return {
        "sar_nodata_frac": measure.sar_nodata_frac(patch.sar),
        "optical_nodata_frac": None if optical is None else measure.optical_nodata_frac(optical),
        **_floors(patch.offset_bands),
        "cloud_frac": measure.mask_frac(patch.cloud),
        "cloud_source": None if patch.cloud is None else pixels.cloud_source,
        "snow_frac": measure.mask_frac(patch.snow),
        "water_frac": measure.mask_frac(patch.water),
        "layover_shadow_frac": measure.mask_frac(patch.layover_shadow),
        "incidence_deg": pixels.incidence_deg,
        **_local_incidence(patch.local_incidence_deg),
        "enl": finite(enl),
        "dynamic_range_db": finite(measure.dynamic_range_db(patch.sar)),
        "noise_floor_frac": finite(measure.noise_floor_frac(patch.sar, pixels.noise_floor)),
        "plateau_frac": finite(plateaus.sar_plateau_frac(patch.sar, pixels.noise_floor)),
        **_fill(optical, display=optical_quantity == "display"),
        "mean_db": [finite(level) for level in measure.mean_db(patch.sar)],
        "phash": measure.perceptual_hash(patch.sar),
        "land_cover": {} if cover is None else measure.land_cover_fractions(cover, pixels.land_cover_names),
        "flags": list(pixels.flags),
    }


def _fill(optical: F32 | None, *, display: bool) -> Row:
    if optical is None:
        return {"optical_plateau_frac": None, "saturated_frac": None}
    return {
        "optical_plateau_frac": finite(plateaus.optical_plateau_frac(optical, display=display)),
        "saturated_frac": finite(plateaus.saturated_frac(optical, display=display)),
    }


def _floors(bands: F32 | None) -> Row:
    lowest, highest = (None, None) if bands is None else map(finite, measure.band_floors(bands))
    return {"optical_floor_min": lowest, "optical_floor_max": highest}


def _local_incidence(angle_deg: F32 | None) -> Row:
    known = np.empty(0) if angle_deg is None else angle_deg[np.isfinite(angle_deg)].astype(np.float64)
    return {
        "local_incidence_deg": float(known.mean()) if known.size else None,
        "local_incidence_std_deg": float(known.std()) if known.size else None,
    }


PAIR_COLUMNS = (
    "shift_row_px",
    "shift_col_px",
    "shift_sigma_px",
    "registration_psr",
    "registration_status",
    "polarisation_spread_px",
    "band_spread_px",
    "band_offset_px",
    "scene_shift_row_px",
    "scene_shift_col_px",
    "scene_sigma_px",
    "scene_psr",
    "shift_field_order",
    "shift_field_rms_px",
    "shift_field_patches",
    "applied_row_px",
    "applied_col_px",
    "residual_px",
)


SECOND_COLUMNS = (
    "second_shift_row_px",
    "second_shift_col_px",
    "second_shift_sigma_px",
    "second_shift_status",
    "disagreement_px",
)


def _residual_px(shift: Shift, applied: tuple[int, int]) -> float | None:
    return finite(math.hypot(shift.row_px - applied[0], shift.col_px - applied[1]))
