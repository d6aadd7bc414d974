"""The columns of a store's tables: names, types, units and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of the metadata tables. type is an Arrow type name; nullable columns say so.

    since: the schema version that brought it. One that came later than 1.0 is nullable, and empty for samples of older
    stores.
    """

    name: str
    type: Literal[
        "string",
        "bool",
        "int32",
        "int64",
        "float32",
        "float64",
        "timestamp",
        "list<string>",
        "list<float64>",
        "map<float32>",
    ]
    unit: str
    description: str
    nullable: bool = False
    since: str = "1.0"


def _c(name: str, type_: str, unit: str, description: str, *, nullable: bool = False, since: str = "1.0") -> Column:
    return Column(name=name, type=type_, unit=unit, description=description, nullable=nullable, since=since)  # type: ignore[arg-type]


# One row a candidate patch: what a stage measures and writes beside the pixels. Thresholds are applied later.
CANDIDATE_COLUMNS: Final[tuple[Column, ...]] = (
    _c("sample_id", "string", "", "patch and SAR acquisition; stable for ever"),
    _c(
        "key",
        "string",
        "",
        "content key of the staged block (blake2b of products' bytes and all that shapes pixels) and the patch",
    ),
    _c("patch", "string", "", "patch name, e.g. 282D_485L_3_3: cell, column from the west, row from the north"),
    _c("cell", "string", "", "Major TOM cell of 10 km, e.g. 282D_485L"),
    _c("site", "string", "", "name the source gives the place; the cell where it gives none"),
    _c("epsg", "int32", "", "EPSG code of the UTM zone"),
    _c("transform", "list<float64>", "m", "affine a, b, c, d, e, f of the patch: x = a col + b row + c"),
    _c("gsd_m", "float32", "m", "pixel spacing"),
    _c("lon", "float64", "deg", "longitude of the patch centre"),
    _c("lat", "float64", "deg", "latitude of the patch centre"),
    _c("bounds_lonlat", "list<float64>", "deg", "west, south, east, north of the patch"),
    _c("sar_product", "string", "", "product identifier"),
    _c("sar_digest", "string", "", "blake2b of the input bytes"),
    _c("platform", "string", "", "sentinel-1a, ...", nullable=True),
    _c("orbit_state", "string", "", "ascending or descending", nullable=True),
    _c("relative_orbit", "int32", "", "track number", nullable=True),
    _c("datatake", "string", "", "mission data take, hexadecimal", nullable=True),
    _c("sar_datetime", "timestamp", "UTC", "acquisition start", nullable=True),
    _c("polarisations", "list<string>", "", "in the order of the pol dimension"),
    _c("incidence_deg", "float32", "deg", "mean incidence angle against the ellipsoid", nullable=True),
    _c(
        "local_incidence_deg",
        "float32",
        "deg",
        "mean angle between the beam and the terrain's normal; empty without a DEM",
        nullable=True,
    ),
    _c("local_incidence_std_deg", "float32", "deg", "its standard deviation: how rugged the patch is", nullable=True),
    _c("quantity", "string", "", "sigma0 or gamma0"),
    _c("processing", "string", "", "what was done to the SAR pixels before and here"),
    _c("provider", "string", "", "who delivered the SAR pixels"),
    _c("optical_product", "string", "", "product identifier; empty where there is none", nullable=True),
    _c("optical_digest", "string", "", "blake2b of the input bytes", nullable=True),
    _c("optical_datetime", "timestamp", "UTC", "acquisition", nullable=True),
    _c("processing_baseline", "string", "", "Sentinel-2 baseline, e.g. 04.00", nullable=True),
    _c(
        "offset_applied",
        "int32",
        "DN",
        "radiometric offset added to the optical DN (-1000 from baseline 04.00)",
        nullable=True,
    ),
    _c("bands", "list<string>", "", "in the order of the band dimension; empty where unpaired"),
    _c("optical_provider", "string", "", "who delivered the optical pixels", nullable=True),
    _c("dt_hours", "float32", "h", "optical minus SAR acquisition time", nullable=True),
    _c(
        "shift_row_px",
        "float32",
        "px",
        "measured here: rows by which the optical content lies below the SAR's",
        nullable=True,
    ),
    _c(
        "shift_col_px",
        "float32",
        "px",
        "measured here: columns by which the optical content lies right of the SAR's",
        nullable=True,
    ),
    _c("registration_psr", "float32", "1", "peak-to-sidelobe ratio of this patch's correlation surface", nullable=True),
    _c(
        "registration_status",
        "string",
        "",
        "measured, field (from the block's shift field), scene (from the scene pair's summed surfaces) or unmeasurable",
        nullable=True,
    ),
    _c(
        "polarisation_spread_px",
        "float32",
        "px",
        "half the distance between the shifts seen by VV and by VH",
        nullable=True,
    ),
    _c(
        "shift_sigma_px",
        "float32",
        "px",
        "one standard deviation of shift_row_px, and of shift_col_px, against the true shift",
        nullable=True,
        since="1.2",
    ),
    _c(
        "band_spread_px",
        "float32",
        "px",
        "root mean square distance of the shifts seen by the single optical bands from their mean",
        nullable=True,
        since="1.2",
    ),
    _c(
        "band_offset_px",
        "float32",
        "px",
        "greatest distance between two optical bands, measured among themselves; empty with one band, and where a band "
        "is constant or too far off to be measured",
        nullable=True,
        since="1.2",
    ),
    _c("scene_shift_row_px", "float32", "px", "shift of the summed surfaces of the block", nullable=True),
    _c("scene_shift_col_px", "float32", "px", "shift of the summed surfaces of the block", nullable=True),
    _c(
        "scene_sigma_px",
        "float32",
        "px",
        "one standard deviation of the scene shift's components",
        nullable=True,
        since="1.2",
    ),
    _c("scene_psr", "float32", "1", "peak-to-sidelobe ratio of the summed surfaces", nullable=True),
    _c(
        "shift_field_order",
        "int32",
        "",
        "order of the polynomial over the block by which its patches' shifts differ: 0 (constant, beside what patches "
        "measured themselves), 1 (affine), 2 (quadratic); empty where one shift corrects all",
        nullable=True,
        since="1.2",
    ),
    _c(
        "shift_field_rms_px",
        "float32",
        "px",
        "root mean square distance of the block's believed patches from its shift field",
        nullable=True,
        since="1.2",
    ),
    _c("shift_field_patches", "int32", "1", "measured and believed patches of the block", nullable=True, since="1.2"),
    _c("applied_row_px", "float32", "px", "rows by which the optical window was moved to correct", nullable=True),
    _c("applied_col_px", "float32", "px", "columns by which the optical window was moved to correct", nullable=True),
    _c("residual_px", "float32", "px", "length of measured shift minus applied shift", nullable=True),
    # of the share of the measured pairs that mutual information measures too
    _c("second_shift_row_px", "float32", "px", "shift_row_px by mutual information", nullable=True, since="1.2"),
    _c("second_shift_col_px", "float32", "px", "shift_col_px by mutual information", nullable=True, since="1.2"),
    _c(
        "second_shift_sigma_px",
        "float32",
        "px",
        "one standard deviation of the second shift's components, by the jackknife over tiles, calibrated",
        nullable=True,
        since="1.2",
    ),
    _c(
        "second_shift_status",
        "string",
        "",
        "measured, or unclear (no clear peak of mutual information, the rule for windows of 64 px and less with their "
        "halo); empty where it was not asked",
        nullable=True,
        since="1.2",
    ),
    _c(
        "disagreement_px",
        "float32",
        "px",
        "distance of the second shift, where measured, from the shift",
        nullable=True,
        since="1.2",
    ),
    _c("sar_nodata_frac", "float32", "1", "share of pixels without SAR data in any polarisation"),
    _c("optical_nodata_frac", "float32", "1", "share of pixels without optical data", nullable=True),
    _c("cloud_frac", "float32", "1", "share of pixels under cloud or cloud shadow", nullable=True),
    _c(
        "cloud_source",
        "string",
        "",
        "where cloud_frac comes from: scl, s2cloudless-like, brightness test",
        nullable=True,
    ),
    _c("snow_frac", "float32", "1", "share of pixels under snow", nullable=True),
    _c("water_frac", "float32", "1", "share of water pixels", nullable=True),
    _c("layover_shadow_frac", "float32", "1", "share of pixels in radar layover or shadow", nullable=True),
    _c("enl", "float32", "1", "equivalent number of looks on the patch's homogeneous areas", nullable=True),
    _c("dynamic_range_db", "float32", "dB", "98th minus 2nd percentile of the first polarisation", nullable=True),
    _c("noise_floor_frac", "float32", "1", "share of valid pixels at or under the noise floor", nullable=True),
    # of reflectance, of B10 where the partner has it, else of the 10 m bands: least and greatest of the bands
    _c("optical_floor_min", "float32", "1", "1 % quantile of B10, or of the darkest band", nullable=True, since="1.1"),
    _c(
        "optical_floor_max", "float32", "1", "1 % quantile of B10, or of the brightest band", nullable=True, since="1.1"
    ),
    _c(
        "plateau_frac",
        "float32",
        "1",
        "share of valid SAR pixels with the most frequent value as read, of the worst polarisation; values from -60 dB "
        "to the noise floor do not count",
        nullable=True,
        since="1.1",
    ),
    _c(
        "optical_plateau_frac",
        "float32",
        "1",
        "share of valid optical pixels with the most frequent value as read, of the worst band; of display pictures "
        "with the most frequent colour but white",
        nullable=True,
        since="1.1",
    ),
    _c(
        "saturated_frac",
        "float32",
        "1",
        "share of valid optical pixels at reflectance 1.5 or more, or at 255 of display pictures, of the worst band",
        nullable=True,
        since="1.1",
    ),
    _c("mean_db", "list<float64>", "dB", "10 log10 of the mean linear power by polarisation"),
    _c("phash", "int64", "", "64-bit perceptual hash of the SAR patch, as a signed integer"),
    _c("land_cover", "map<float32>", "1", "fractions by class name; empty where unknown"),
    _c("labels", "list<string>", "", "scene labels the source gives; empty where none"),
    _c("country", "string", "", "ISO 3166-1 alpha-3 of the patch centre; empty at sea", nullable=True),
    _c(
        "ecoregion",
        "string",
        "",
        "ecoregion of the patch centre by the file of balance.ecoregions; empty outside all and without a file",
        nullable=True,
    ),
    _c("licence_sar", "string", "", "SPDX identifier or name of the SAR licence"),
    _c("licence_optical", "string", "", "SPDX identifier or name of the optical licence", nullable=True),
    _c("attribution", "string", "", "text that must accompany a redistribution"),
    _c("flags", "list<string>", "", "remarks that reject nothing"),
)

# What phase 2 adds for an accepted sample ...
SAMPLE_COLUMNS: Final[tuple[Column, ...]] = (
    *CANDIDATE_COLUMNS,
    _c("paired", "bool", "", "has an optical partner in the store"),
    _c("unpaired_reason", "string", "", "why the optical partner was left out; empty where paired"),
    _c("block", "string", "", "geographic block by which splits are drawn"),
    _c("split", "string", "", "train, val or test"),
    _c("shard", "int32", "", "number of the shard in its split"),
    _c("index", "int64", "", "position on the sample dimension of its split"),
    _c("duplicates_of", "string", "", "kept here for audits; empty for every accepted sample"),
)

# ... and for a rejected one.
REJECTED_COLUMNS: Final[tuple[Column, ...]] = (
    *CANDIDATE_COLUMNS,
    _c("reason", "string", "", "name of the rule"),
    _c("measured", "float64", "", "what was measured, in the unit of the rule", nullable=True),
    _c("limit", "float64", "", "what the configuration allows, in the same unit", nullable=True),
    _c("duplicates_of", "string", "", "sample_id of the near-duplicate that was kept; empty otherwise"),
)

FAILED_COLUMNS: Final[tuple[Column, ...]] = (
    _c("item", "string", "", "work item: one block of one scene pair"),
    _c("patches", "int64", "", "patches that the item would have given"),
    _c("error", "string", "", "type of the error"),
    _c("cause", "string", "", "its message"),
)

# What tables of older minor versions lack, by name.
LATER_COLUMNS: Final = {
    column.name: column for column in (*SAMPLE_COLUMNS, *REJECTED_COLUMNS, *FAILED_COLUMNS) if column.since != "1.0"
}
