"""The contract between the pipeline that writes a store and everyone who reads it.

Arrays, units, encodings, chunk and shard shapes, metadata columns, file names. This module imports numpy alone, so that
a training node or any other script can use it without the geospatial libraries.

Versions are MAJOR.MINOR. A minor version only adds: columns, arrays, files, and encodings that readers of the same
major version decode by scale_factor and add_offset. A major version may change what is there. Every reader takes all
minor versions of its major version. dataset_cards/SCHEMA.md lists what each version changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

SCHEMA_VERSION: Final = "1.2"

SPLITS: Final = ("train", "val", "test")
NODATA_DN: Final = 0  # of both arrays: digital number 0 never encodes a measurement

# Names inside a finished store. The manifest covers exactly these. Everything else in the output folder lies under the
# names of SCRATCH_DIRS and may be deleted.
DATA_DIR: Final = "data"
SAMPLES_FILE: Final = "samples.parquet"
REJECTED_FILE: Final = "rejected.parquet"
FAILED_FILE: Final = "failed.parquet"
STATS_DIR: Final = "stats"
REPORT_FILE: Final = "report/index.html"
PROVENANCE_DIR: Final = "provenance"
MANIFEST_FILE: Final = "manifest-sha256.txt"
MARKER_FILE: Final = "BUILD_COMPLETE.json"
RELEASE_MARKER_FILE: Final = "RELEASE_COMPLETE.json"  # of a release, with the same fields and more
PARTIAL_FILE: Final = "PARTIAL_DOWNLOAD.json"  # of a part of a release: the same, but `files` are those that are there
SCRATCH_DIRS: Final = ("staging", "cache", "build-log")


def group_name(split: str) -> str:
    """The Zarr group of a split, relative to the store."""
    return f"{DATA_DIR}/{split}.zarr"


Profile = Literal["training", "archive"]
OpticalQuantity = Literal["reflectance", "display"]


@dataclass(frozen=True, kw_only=True)
class LinearEncoding:
    """Integer storage of a physical value: value = add_offset + scale_factor * DN; DN 0 means no data.

    dtype: numpy name of an unsigned integer; units: CF unit string. DN runs from 1 to the largest of dtype.
    """

    dtype: Literal["uint8", "uint16"]
    scale_factor: float
    add_offset: float
    units: str
    long_name: str

    @property
    def max_dn(self) -> int:
        return int(np.iinfo(self.dtype).max)

    def encode(self, physical: np.ndarray) -> np.ndarray:
        """Digital numbers of physical values, any shape. NaN becomes 0 (no data); values beyond the range of the
        encoding are clipped to its ends, never to 0. Error of a value inside the range is at most scale_factor / 2."""
        dn = np.asarray(physical - self.add_offset)
        dn /= self.scale_factor
        np.clip(np.rint(dn, out=dn), 1, self.max_dn, out=dn)
        np.copyto(dn, NODATA_DN, where=np.isnan(dn))
        return dn.astype(self.dtype)

    def decode(self, dn: np.ndarray) -> np.ndarray:
        """Physical values as float32, any shape; NaN where the digital number is 0."""
        physical = self.add_offset + self.scale_factor * dn.astype(np.float64)
        return np.where(dn == NODATA_DN, np.nan, physical).astype(np.float32)

    @property
    def words(self) -> str:
        """As messages name it: uint16, 0.05 a step from -60."""
        return f"{self.dtype}, {self.scale_factor:.6g} a step from {self.add_offset:.6g}"

    def cf_attributes(self) -> dict[str, float | int | str]:
        """Attributes by which xarray and other CF readers decode the array."""
        return {
            "units": self.units,
            "long_name": self.long_name,
            "scale_factor": self.scale_factor,
            "add_offset": self.add_offset,
            "_FillValue": NODATA_DN,
        }


SAR_FLOOR_DB: Final = -60.0  # DN 1 stands just above; measured values under it are clipped there and counted


def sar_encoding(profile: Profile, quantity: str) -> LinearEncoding:
    """Backscatter in decibels. training: 0.05 dB a step (RMSE 0.014 dB against 2.19 dB of speckle at 4.4 looks);
    archive: 0.01 dB. quantity: sigma0 or gamma0, part of the array's long name."""
    step_db = {"training": 0.05, "archive": 0.01}[profile]
    return LinearEncoding(
        dtype="uint16", scale_factor=step_db, add_offset=SAR_FLOOR_DB, units="dB", long_name=f"{quantity} backscatter"
    )


REFLECTANCE_OFFSET: Final = -0.256  # in steps of 0.001 dark land lies at 256..511, where its high bits pack to nothing


def optical_encoding(profile: Profile, quantity: OpticalQuantity) -> LinearEncoding:
    """Optical pixels. reflectance: 16 bits that clip neither snow nor the negative values of baseline 04.00; training:
    0.001 a step (RMSE 0.0003) over -0.255..65; archive: 0.0001 a step over -0.1..6.4. display: 8-bit pictures without a
    physical unit, kept as they came (0 becomes 1, since 0 means no data).

    Schema 1.0 kept the reflectance of the training profile in 8 bits over 0..0.3, where snow and bright soil clip.
    Readers go by the array's own attributes, never by the profile.
    """
    if quantity == "display":
        return LinearEncoding(
            dtype="uint8", scale_factor=1.0, add_offset=0.0, units="1", long_name="display brightness"
        )
    step, offset = {"training": (1e-3, REFLECTANCE_OFFSET), "archive": (1e-4, -0.1)}[profile]
    return LinearEncoding(
        dtype="uint16", scale_factor=step, add_offset=offset, units="1", long_name="surface reflectance"
    )


DISPLAY_WHITE_REFLECTANCE: Final = 0.3  # most land lies under it
DISPLAY_WHITE: Final = 255.0


def display_brightness(encoding: LinearEncoding, dn: np.ndarray) -> np.ndarray:
    """Digital numbers of an optical array as what a frozen optical encoder and a picture see: float32 from 0 (black) to
    1 (white), any shape; 0 where there is no data.

    Reflectance 0 to 0.3 is stretched to 0 to 1, and what is under or over it is black or white. Display pictures (one
    digital number a step, from 0) are divided by 255. This is the one place where the stretch is stated.
    """
    pictures = encoding.scale_factor == 1 and encoding.add_offset == 0
    white = DISPLAY_WHITE if pictures else DISPLAY_WHITE_REFLECTANCE
    return np.nan_to_num(np.clip(encoding.decode(dn) / np.float32(white), 0, 1), nan=0.0).astype(np.float32)


LOCAL_INCIDENCE_ENCODING: Final = LinearEncoding(
    dtype="uint8", scale_factor=0.5, add_offset=-0.5, units="degree", long_name="local incidence angle"
)
LAYOVER_SHADOW_ENCODING: Final = LinearEncoding(
    dtype="uint8", scale_factor=1.0, add_offset=-1.0, units="1", long_name="layover or shadow (1), neither (0)"
)


@dataclass(frozen=True, kw_only=True)
class ArrayLayout:
    """Shape rules of one array of a split: one chunk a sample, shard_samples chunks a shard."""

    name: str
    dims: tuple[str, ...]
    sample_shape: tuple[int, ...]
    dtype: str
    shard_samples: int

    @property
    def chunk_shape(self) -> tuple[int, ...]:
        return (1, *self.sample_shape)

    @property
    def shard_shape(self) -> tuple[int, ...]:
        return (self.shard_samples, *self.sample_shape)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one decoded sample."""
        return int(np.prod(self.sample_shape)) * np.dtype(self.dtype).itemsize


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
        "measured, scene (from the scene pair's summed surfaces) or unmeasurable",
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
        "greatest distance between two optical bands, measured among themselves",
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
    _c("applied_row_px", "float32", "px", "rows by which the optical window was moved to correct", nullable=True),
    _c("applied_col_px", "float32", "px", "columns by which the optical window was moved to correct", nullable=True),
    _c("residual_px", "float32", "px", "length of measured shift minus applied shift", nullable=True),
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
