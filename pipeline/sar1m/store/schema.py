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

SCHEMA_VERSION: Final = "1.3"

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
SIGNATURE_FILE: Final = f"{MANIFEST_FILE}.sig"  # of a release's manifest, where its publisher signed it
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
