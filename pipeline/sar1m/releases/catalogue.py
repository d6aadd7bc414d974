"""What several catalogues of a release have in common: place and time, terms, bands, and the words that describe it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd

from sar1m.core.balance import dominant_class
from sar1m.core.sphere import box_around
from sar1m.core.table import F64, Strings, floats
from sar1m.releases.contents import LicenceRow, ReleaseFacts
from sar1m.store.errors import StoreError

AUTHORS: Final = "The SAR-1M engineers"
KEYWORDS: Final = ("SAR", "Sentinel-1", "Sentinel-2", "radar", "remote sensing", "earth observation", "zarr")
COUNTRIES_NAMED: Final = 5

# Licences that let a collection made of their data be passed on under CC-BY-4.0, as long as attribution is kept:
# CDLA-Permissive 1.0 says so in section 3.1, the Copernicus notices ask for nothing but attribution.
ATTRIBUTION_ONLY: Final = frozenset(
    {
        "CC-BY-4.0",
        "CC0-1.0",
        "CDLA-Permissive-1.0",
        "CDLA-Permissive-2.0",
        "Copernicus Sentinel data legal notice",
        "Copernicus WorldDEM-30 licence",
        "USDA NAIP, public domain",
    }
)
LICENCE_URLS: Final[Mapping[str, str]] = {
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CDLA-Permissive-1.0": "https://cdla.dev/permissive-1-0/",
    "CDLA-Permissive-2.0": "https://cdla.dev/permissive-2-0/",
}


@dataclass(frozen=True, kw_only=True)
class OpticalBand:
    """One band of Sentinel-2A's MSI: its common name in STAC, and the middle and width of its response."""

    common_name: str
    centre_nm: float
    width_nm: float


# Sentinel-2 MSI User Guide, spatial and spectral resolution, S2A.
SENTINEL2_BANDS: Final[Mapping[str, OpticalBand]] = {
    name: OpticalBand(common_name=common_name, centre_nm=centre_nm, width_nm=width_nm)
    for name, common_name, centre_nm, width_nm in (
        ("B01", "coastal", 442.7, 21),
        ("B02", "blue", 492.4, 66),
        ("B03", "green", 559.8, 36),
        ("B04", "red", 664.6, 31),
        ("B05", "rededge071", 704.1, 15),
        ("B06", "rededge075", 740.5, 15),
        ("B07", "rededge078", 782.8, 20),
        ("B08", "nir", 832.8, 106),
        ("B8A", "nir08", 864.7, 21),
        ("B09", "nir09", 945.1, 20),
        ("B11", "swir16", 1613.7, 91),
        ("B12", "swir22", 2202.4, 175),
    )
}


@dataclass(frozen=True, kw_only=True)
class SpaceTimeExtent:
    """bounds_lonlat: west, south, east, north of all samples, west > east across the antimeridian (sphere.box_around).
    first, last: of all acquisitions, None without times."""

    bounds_lonlat: tuple[float, float, float, float]
    first: datetime | None
    last: datetime | None


@dataclass(frozen=True, kw_only=True)
class Terms:
    """Under which licence a release as a whole is passed on. spdx: None where each source keeps its own terms."""

    spdx: str | None
    url: str


def extent_of(facts: ReleaseFacts) -> SpaceTimeExtent:
    """Where and when the samples were taken. Raises StoreError for a release without samples."""
    if not len(facts.samples):
        raise StoreError(f"{facts.title}: a release without samples has no place or time. Release other builds.")
    bounds: F64 = np.array(facts.samples["bounds_lonlat"].tolist(), dtype=np.float64).reshape(-1, 4)
    times = [acquisition_times(facts.samples, column) for column in ("sar_datetime", "optical_datetime")]
    known = pd.concat(times).dropna()
    return SpaceTimeExtent(
        bounds_lonlat=box_around(bounds),
        first=None if known.empty else known.min().to_pydatetime(),
        last=None if known.empty else known.max().to_pydatetime(),
    )


def acquisition_times(samples: pd.DataFrame, column: str) -> pd.Series:
    """A column of times in UTC to the microsecond; NaT where unknown, and for the optical ones where unpaired."""
    times = pd.Series(pd.to_datetime(samples[column], utc=True)).astype("datetime64[us, UTC]")
    return times.where(samples["paired"].astype(bool)) if column == "optical_datetime" else times


def rfc3339(time: datetime) -> str:
    """A time as STAC and schema.org write it: 2021-02-23T16:38:30Z."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def release_terms(licences: Sequence[LicenceRow]) -> Terms:
    """The terms of a release as a whole.

    One licence that all pixels share; else CC-BY-4.0 where every licence asks for attribution at most; else none, and
    every source keeps its own terms (LICENSES.csv). Rows without a sample, and rows whose pixels stay with their
    provider, do not count.
    """
    held = {row.licence for row in licences if row.samples and row.redistribution == "redistribute"}
    if len(held) == 1 and held <= LICENCE_URLS.keys():
        spdx = held.pop()
    elif held <= ATTRIBUTION_ONLY:
        spdx = "CC-BY-4.0"
    else:
        return Terms(spdx=None, url="")
    return Terms(spdx=spdx, url=LICENCE_URLS[spdx])


def class_names(samples: pd.DataFrame) -> Strings:
    """One class a sample: the land cover that takes most of it, else its first label, else nothing."""
    labels = samples["labels"]
    return np.array(
        [
            str(cover) or (str(given[0]) if given is not None and len(given) else "")
            for cover, given in zip(dominant_class(samples), labels, strict=True)
        ],
        dtype=object,
    )


def description(facts: ReleaseFacts) -> str:
    """What the release is, in two sentences with its own numbers."""
    summary = facts.summary
    sensor = "simulated SAR" if is_simulated(facts.samples) else "Sentinel-1"
    first = (
        f"{facts.counts['accepted']:,} {sensor} patches of {summary['patch_px']} x {summary['patch_px']} pixels at "
        f"{summary['gsd_m']:g} m ({' and '.join(summary['polarisations'])} {summary['quantity']} in decibels), "
        f"{facts.counts['paired']:,} of them with a co-registered optical partner "
        f"({', '.join(summary['optical_bands'])} as {summary['optical_quantity']})."
    )
    made = "Made by a physical simulator" if is_simulated(facts.samples) else "Built from scenes"
    return f"{first} {made} with measured registration, split by place, sharded as Zarr version 3."


def is_simulated(samples: pd.DataFrame) -> bool:
    """Whether no sample comes from a satellite."""
    return bool((samples["provider"] == "simulated").all())


def sampling_words(facts: ReleaseFacts) -> str:
    """How samples were chosen."""
    return (
        f"Patches of Major TOM cells in: {facts.summary['region']}; {facts.counts['rejected']:,} of "
        f"{facts.counts['candidates']:,} candidates rejected by measured rules, each with its reason in "
        "provenance/rejected.parquet; splits drawn by geographic block."
    )


def bias_words(facts: ReleaseFacts) -> str:
    """Where the samples lie, so that nobody takes them for the whole Earth."""
    samples = facts.samples
    lat = floats(samples, "lat")
    words = f"Latitudes {lat.min():.1f} to {lat.max():.1f} degrees. "
    countries = samples["country"].dropna()
    counts = countries[countries != ""].value_counts()
    if counts.empty:
        return words + "No country is known of any sample."
    ordered = sorted(counts.items(), key=lambda item: (-int(item[1]), str(item[0])))
    shares = ", ".join(f"{name} {count / len(samples):.0%}" for name, count in ordered[:COUNTRIES_NAMED])
    return (
        words + f"Samples lie in {len(counts)} countries, most in {shares}; the rest of the Earth is not represented."
    )


def quantiles(values: F64, percents: Sequence[int]) -> dict[str, Any]:
    """count, and percentiles by name (p05, ...) of the finite values; percentiles None where there is none."""
    known = values[np.isfinite(values)]
    found = {f"p{percent:02d}": float(np.percentile(known, percent)) if known.size else None for percent in percents}
    return {"count": int(known.size), **found}
