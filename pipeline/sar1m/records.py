"""Frozen values that pass between the stages. All of them pickle and hold no secrets."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from sar1m.store.schema import OpticalQuantity

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
Bool = npt.NDArray[np.bool_]
Row = dict[str, Any]  # of CANDIDATE_COLUMNS, with values as JSON keeps them

SarQuantity = Literal["sigma0", "gamma0"]
RegistrationStatus = Literal["measured", "field", "scene", "unmeasurable"]
KNOWN_SHIFT: Final[tuple[RegistrationStatus, ...]] = ("measured", "field", "scene")


@dataclass(frozen=True, kw_only=True)
class RasterGrid:
    """A north-up raster in a projected system.

    Pixel (row, col) covers x from left_m + col * gsd_m to the right and y from top_m - row * gsd_m downwards.
    """

    epsg: int
    left_m: float
    top_m: float
    gsd_m: float
    rows: int
    cols: int

    @property
    def transform(self) -> tuple[float, float, float, float, float, float]:
        """Affine a, b, c, d, e, f: x = a col + b row + c, y = d col + e row + f, pixel corners."""
        return (self.gsd_m, 0.0, self.left_m, 0.0, -self.gsd_m, self.top_m)

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """left, bottom, right, top."""
        return (self.left_m, self.top_m - self.rows * self.gsd_m, self.left_m + self.cols * self.gsd_m, self.top_m)

    def window(self, row: int, col: int, rows: int, cols: int) -> RasterGrid:
        """The grid of a pixel window; it may reach beyond this grid."""
        return RasterGrid(
            epsg=self.epsg,
            left_m=self.left_m + col * self.gsd_m,
            top_m=self.top_m - row * self.gsd_m,
            gsd_m=self.gsd_m,
            rows=rows,
            cols=cols,
        )


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A Major TOM cell: name such as 282D_485L, its lower-left corner in lon/lat degrees and its UTM zone."""

    name: str
    lon: float
    lat: float
    epsg: int


@dataclass(frozen=True, kw_only=True)
class SarProduct:
    """One Sentinel-1 scene (or chip of one) as a source offers it. digest: blake2b of the input bytes."""

    product_id: str
    digest: str
    quantity: SarQuantity
    polarisations: tuple[str, ...]
    processing: str
    provider: str
    licence: str
    acquired: datetime | None = None
    platform: str | None = None
    orbit_state: str | None = None
    relative_orbit: int | None = None
    datatake: str | None = None


@dataclass(frozen=True, kw_only=True)
class OpticalProduct:
    """One optical scene (or chip of one). quantity: display means 8-bit pictures without a physical unit."""

    product_id: str
    digest: str
    quantity: OpticalQuantity
    bands: tuple[str, ...]
    provider: str
    licence: str
    acquired: datetime | None = None
    processing_baseline: str | None = None
    offset_applied: int | None = None


@dataclass(frozen=True, kw_only=True)
class PatchPlace:
    """A patch in its block. row, col: of its upper-left pixel on the block's grid without halo."""

    name: str
    row: int
    col: int


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One work item: one block of one scene pair. handle: what the source needs to read it (paths, seeds: no
    secrets)."""

    item_id: str
    source: str
    cell: str
    site: str
    grid: RasterGrid  # the block without its halo
    halo_px: int
    patches: tuple[PatchPlace, ...]
    sar: SarProduct
    optical: OpticalProduct | None
    labels: tuple[str, ...] = ()
    attribution: str = ""
    country: str | None = None
    handle: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuses an item without patches, which would be missing from every count."""
        if not self.patches:
            raise ValueError(f"{self.item_id}: a work item needs at least one patch")


@dataclass(frozen=True, kw_only=True)
class FailedItem:
    """A work item that could not be prepared, or a product that could not even be planned, and why.

    patches: that it would have given. error: the name of the error. cause: its message.
    """

    item_id: str
    patches: int
    error: str
    cause: str


@dataclass(frozen=True, kw_only=True, eq=False)
class BlockPixels:
    """The pixels of one work item on its grid with the halo: H = rows + 2 halo, W = cols + 2 halo.

    sar: (P, H, W) linear power, NaN without data; may be negative after noise removal.
    optical: (B, H, W) reflectance (or 0..255 for display), NaN without data; None where there is no partner.
    registration_optical: (R, H, W), the bands to register with: B02, B03, B04, B08 where all four are there, else what
    there is. Only with all four can brightness stand in for a missing cloud mask.
    swir, cirrus: (H, W) reflectance at 1.6 um and at 1.4 um.
    cloud, snow, water, layover_shadow: (H, W) masks; None where unknown.
    local_incidence_deg: (H, W) angle to the normal of the terrain, NaN where unknown; None without a DEM.
    land_cover: (H, W) class numbers; their names in land_cover_names. incidence_deg: mean angle; None where unknown.
    noise_floor: linear power by polarisation at or under which a pixel counts as noise.
    truth_shift_px: rows and columns, where a source knows the true shift.
    """

    sar: F32
    optical: F32 | None
    registration_optical: F32 | None = None
    swir: F32 | None = None
    cirrus: F32 | None = None
    cloud: Bool | None = None
    cloud_source: str | None = None
    snow: Bool | None = None
    water: Bool | None = None
    layover_shadow: Bool | None = None
    local_incidence_deg: F32 | None = None
    land_cover: U8 | None = None
    land_cover_names: tuple[tuple[int, str], ...] = ()
    incidence_deg: float | None = None
    noise_floor: tuple[float, ...] = (10**-2.5, 10**-2.5)
    truth_shift_px: tuple[float, float] | None = None
    flags: tuple[str, ...] = field(default=())


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """What all samples of one store have in common: units and bands are never mixed."""

    quantity: SarQuantity
    optical_quantity: OpticalQuantity
    polarisations: tuple[str, ...]
    bands: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Where the optical content lies against the SAR content: rows down and columns right, in pixels.

    sigma_px: one standard deviation of row_px, and of col_px, against the true shift.
    psr: (peak - mean) / std, mean and std of the correlation surface outside the peak.
    polarisation_spread_px: half the distance between the shifts of the first and of the second polarisation; NaN with
    one polarisation.
    band_spread_px: root mean square distance of the shifts of the optical bands, each alone with the SAR, from their
    mean; NaN with one band.
    band_offset_px: the greatest distance between two optical bands, measured among themselves; NaN with one band, and
    where a band is constant or too far off to be measured.
    status: measured (on this patch), field (from the other patches of the block, which do not share one shift), scene
    (from the summed surfaces of the scene pair) or unmeasurable.
    """

    row_px: float
    col_px: float
    sigma_px: float
    psr: float
    polarisation_spread_px: float
    band_spread_px: float
    band_offset_px: float
    status: RegistrationStatus
