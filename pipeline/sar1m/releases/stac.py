"""collection.json and items.parquet: the release as a STAC 1.1 collection, its items as stac-geoparquet 1.0.

An item is a sample. Its assets `sar` and `optical` point at the array in the Zarr group of its split, by a path
relative to both files; `sar1m:index` is the sample's position on the array's first dimension. STAC has no term for a
slice of an array, and one asset a chunk would name byte ranges inside shards, which no client opens. A property that an
item lacks is null in its row of items.parquet: a column has no other way to say it.
Specifications: https://github.com/radiantearth/stac-spec, v1.1.0; https://github.com/stac-utils/stac-geoparquet.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.core.table import F64, Bool, floats
from sar1m.io.geoparquet import with_geometry
from sar1m.io.tables import ARROW_TYPES
from sar1m.releases.catalogue import (
    AUTHORS,
    KEYWORDS,
    SENTINEL2_BANDS,
    acquisition_times,
    description,
    extent_of,
    release_terms,
    rfc3339,
)
from sar1m.releases.contents import COLLECTION_FILE, CROISSANT_FILE, ITEMS_FILE, LICENCE_FILE, ReleaseFacts
from sar1m.store.durable import json_bytes
from sar1m.store.schema import SAMPLES_FILE, group_name
from sar1m.store.table_columns import SAMPLE_COLUMNS
from sar1m.store.version import __version__

Node = dict[str, Any]

STAC_VERSION: Final = "1.1.0"
STAC_GEOPARQUET_VERSION: Final = "1.0.0"
ZARR_TYPE: Final = "application/vnd.zarr; version=3"
PARQUET_TYPE: Final = "application/vnd.apache.parquet"
PROJECTION: Final = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"
EO: Final = "https://stac-extensions.github.io/eo/v2.0.0/schema.json"
SAR: Final = "https://stac-extensions.github.io/sar/v1.0.0/schema.json"
SAT: Final = "https://stac-extensions.github.io/sat/v1.0.0/schema.json"
PROCESSING: Final = "https://stac-extensions.github.io/processing/v1.1.0/schema.json"
SENTINEL1_FREQUENCY_GHZ: Final = 5.405  # Sentinel-1 product specification
ORBIT_STATES: Final = ("ascending", "descending")
# Columns under a prefix of our own, since STAC has no term of that meaning.
OWN_COLUMNS: Final = (
    *("split", "index", "shard", "block", "cell", "paired", "quantity", "dt_hours", "residual_px"),
    *("registration_status", "dynamic_range_db", "labels", "country", "sar_product", "optical_product"),
)
_PRODUCT: Final = re.compile(r"S1[A-D]_(IW|EW|WV|S[1-6])_(GRD|SLC|OCN|RAW)")
_BBOX: Final = ("xmin", "ymin", "xmax", "ymax")  # xmin > xmax across the antimeridian, as in any bbox
_LINK: Final = pa.struct([("href", pa.string()), ("rel", pa.string()), ("type", pa.string())])


def stac_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """Both files. A sample whose acquisition times are unknown is no STAC item (datetime is required): it is counted
    in the collection's sar1m:samples_without_time."""
    about = collection(facts)
    return {COLLECTION_FILE: json_bytes(about), ITEMS_FILE: _items_parquet(facts, about)}


def collection(facts: ReleaseFacts) -> Node:
    """The collection as JSON. Its licence is `other` where every source keeps its own."""
    extent, terms, summary = extent_of(facts), release_terms(facts.licences), facts.summary
    times, bands = _times(facts.samples), _bands(facts.summary)
    interval = None if extent.first is None or extent.last is None else [rfc3339(extent.first), rfc3339(extent.last)]
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [EO] if _has_eo(bands) else [],
        "id": facts.name,
        "title": facts.title,
        "description": description(facts),
        "keywords": list(KEYWORDS),
        "license": terms.spdx or "other",
        "providers": [{"name": AUTHORS, "roles": ["producer", "processor"]}],
        "extent": {
            "spatial": {"bbox": [list(extent.bounds_lonlat)]},
            "temporal": {"interval": [interval or [None, None]]},
        },
        "summaries": {
            "gsd": [summary["gsd_m"]],
            "proj:code": [f"EPSG:{code}" for code in sorted({int(code) for code in facts.samples["epsg"]})],
            "sar1m:split": {split: int(count) for split, count in sorted(summary["by_split"].items())},
            "sar1m:version": [facts.version],
        },
        "sar1m:samples_without_time": int(times.isna().sum()),
        "links": [
            {"rel": "license", "href": f"./{LICENCE_FILE}", "type": "text/plain"},
            {"rel": "describedby", "href": f"./{CROISSANT_FILE}", "type": "application/ld+json"},
            *([] if facts.url is None else [{"rel": "about", "href": facts.url}]),
        ],
        "assets": _collection_assets(summary["by_split"]),
        "item_assets": {name: _asset(name, own) for name, own in bands.items()},
    }


def _collection_assets(splits: Mapping[str, int]) -> Node:
    groups = {
        f"data-{split}": {
            "href": f"./{group_name(split)}",
            "type": ZARR_TYPE,
            "title": f"Zarr group of the {split} split",
            "roles": ["data"],
        }
        for split, count in splits.items()
        if count
    }
    tables = {
        name: {"href": f"./{file}", "type": PARQUET_TYPE, "title": title, "roles": [role]}
        for name, file, title, role in (
            ("items", ITEMS_FILE, "items as stac-geoparquet", "collection-mirror"),
            ("samples", SAMPLES_FILE, "all metadata as GeoParquet", "metadata"),
        )
    }
    return {**groups, **tables}


def _bands(summary: Mapping[str, Any]) -> dict[str, list[Node]]:
    """Bands by asset, in the order of the array's second dimension."""
    optical = []
    for name in summary["optical_bands"]:
        band: Node = {"name": name}
        if name in SENTINEL2_BANDS and summary["optical_quantity"] == "reflectance":
            known = SENTINEL2_BANDS[name]
            band["eo:common_name"] = known.common_name
            band["eo:center_wavelength"] = round(known.centre_nm / 1000, 6)  # STAC: micrometres
        optical.append(band)
    sar = [{"name": name} for name in summary["polarisations"]]
    return {"sar": sar, **({"optical": optical} if optical else {})}


def _has_eo(bands: Mapping[str, list[Node]]) -> bool:
    return any(term.startswith("eo:") for band in bands.get("optical", []) for term in band)


def _asset(name: str, bands: list[Node]) -> Node:
    return {"type": ZARR_TYPE, "roles": ["data"], "title": f"{name} patch, at sar1m:index of the array", "bands": bands}


def _items_parquet(facts: ReleaseFacts, about: Node) -> bytes:
    times = _times(facts.samples)
    samples = facts.samples[times.notna().to_numpy()].reset_index(drop=True)
    bounds: F64 = np.array(samples["bounds_lonlat"].tolist(), dtype=np.float64).reshape(-1, 4)
    bands = _bands(facts.summary)
    covering = {"bbox": {name: ["bbox", name] for name in _BBOX}}
    outlines, geo = with_geometry(bounds, covering)
    arrays = {
        **_core(samples, bounds, outlines, about),
        "stac_extensions": _extensions(samples, bands),
        "assets": _assets(samples, bands),
        "datetime": pa.Array.from_pandas(times.dropna(), type=pa.timestamp("us", tz="UTC")),
        **_platform(samples),
        **_projection(samples, facts.summary["patch_px"]),
        **_instrument(samples),
        **_own(samples),
    }
    known = {name: array for name, array in arrays.items() if array.null_count < len(samples)}
    stac = {"version": STAC_GEOPARQUET_VERSION, "collections": {about["id"]: about}}
    table = pa.table(known).replace_schema_metadata({"geo": geo, "stac-geoparquet": json.dumps(stac, sort_keys=True)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", compression_level=3, row_group_size=65536)
    return buffer.getvalue()


def _times(samples: pd.DataFrame) -> pd.Series:
    """The item's datetime: when the SAR looked, else when the optical partner was taken."""
    sar, optical = (acquisition_times(samples, column) for column in ("sar_datetime", "optical_datetime"))
    return sar.where(sar.notna(), optical)


def _core(samples: pd.DataFrame, bounds: F64, outlines: pa.Array, about: Node) -> dict[str, pa.Array]:
    link = {"rel": "collection", "href": f"./{COLLECTION_FILE}", "type": "application/json"}
    count = len(samples)
    boxes = pa.StructArray.from_arrays([pa.array(bounds[:, column]) for column in range(4)], names=_BBOX)
    return {
        "type": _repeated("Feature", count),
        "stac_version": _repeated(STAC_VERSION, count),
        "id": pa.array(samples["sample_id"].tolist(), type=pa.string()),
        "geometry": outlines,
        "bbox": boxes,
        "links": pa.array([[link]] * count, type=pa.list_(_LINK)),
        "collection": _repeated(about["id"], count),
    }


def _extensions(samples: pd.DataFrame, bands: Mapping[str, list[Node]]) -> pa.Array:
    """Of each item those whose fields it has."""
    paired = _is_paired(samples)
    has: list[tuple[str, Bool]] = [
        (PROJECTION, np.ones(len(samples), dtype=np.bool_)),
        (EO, paired if _has_eo(bands) else paired & np.isfinite(floats(samples, "cloud_frac"))),
        (SAR, np.array([name is not None for name, _ in _products(samples)], dtype=np.bool_)),
        (SAT, (_orbit_states(samples).notna() | samples["relative_orbit"].notna()).to_numpy(dtype=np.bool_)),
        (PROCESSING, np.ones(len(samples), dtype=np.bool_)),
    ]
    rows = [[uri for uri, there in has if there[row]] for row in range(len(samples))]
    return pa.array(rows, type=pa.list_(pa.string()))


def _assets(samples: pd.DataFrame, bands: Mapping[str, list[Node]]) -> pa.Array:
    """A struct with a field an asset, null where an unpaired sample has none."""
    arrays = []
    for name, its_bands in bands.items():
        shared = _asset(name, its_bands)
        there = _is_paired(samples) if name == "optical" else np.ones(len(samples), dtype=np.bool_)
        rows = [
            {"href": f"./{group_name(split)}/{name}", **shared} if have else None
            for split, have in zip(samples["split"], there, strict=True)
        ]
        arrays.append(pa.array(rows, type=pa.array([{"href": "", **shared}]).type))
    return pa.StructArray.from_arrays(arrays, names=list(bands))


def _platform(samples: pd.DataFrame) -> dict[str, pa.Array]:
    platforms = samples["platform"].where(samples["platform"].notna(), None)
    ours = platforms.astype(object).map(lambda name: isinstance(name, str) and name.startswith("sentinel-1"))
    return {
        "platform": pa.Array.from_pandas(platforms, type=pa.string()),
        "constellation": pa.array(["sentinel-1" if own else None for own in ours], type=pa.string()),
        "instruments": pa.array([["c-sar"] if own else None for own in ours], type=pa.list_(pa.string())),
        "gsd": pa.array(floats(samples, "gsd_m")),
    }


def _projection(samples: pd.DataFrame, patch_px: int) -> dict[str, pa.Array]:
    transforms: F64 = np.array(samples["transform"].tolist(), dtype=np.float64).reshape(-1, 6)
    a, _, left, _, e, top = transforms.T
    boxes = np.stack([left, top + e * patch_px, left + a * patch_px, top], axis=1)
    return {
        "proj:code": pa.array([f"EPSG:{code}" for code in samples["epsg"]], type=pa.string()),
        "proj:shape": pa.array([[patch_px, patch_px]] * len(samples), type=pa.list_(pa.int64())),
        "proj:transform": pa.array(transforms.tolist(), type=pa.list_(pa.float64())),
        "proj:bbox": pa.array(boxes.tolist(), type=pa.list_(pa.float64())),
    }


def _instrument(samples: pd.DataFrame) -> dict[str, pa.Array]:
    """Fields of the sar, sat, eo and processing extensions; the sar ones only of Sentinel-1's products, whose names
    hold mode and type."""
    products = _products(samples)
    sentinel1 = np.array([mode is not None for mode, _ in products], dtype=np.bool_)
    polarisations = [
        list(names) if own else None for names, own in zip(samples["polarisations"], sentinel1, strict=True)
    ]
    cloud_percent = np.where(_is_paired(samples), 100 * floats(samples, "cloud_frac"), np.nan)
    enl = np.where(sentinel1, floats(samples, "enl"), np.nan)
    return {
        "sar:instrument_mode": pa.array([mode for mode, _ in products], type=pa.string()),
        "sar:product_type": pa.array([type_ for _, type_ in products], type=pa.string()),
        "sar:frequency_band": pa.array(["C" if own else None for own in sentinel1], type=pa.string()),
        "sar:center_frequency": pa.array([SENTINEL1_FREQUENCY_GHZ if own else None for own in sentinel1], pa.float64()),
        "sar:polarizations": pa.array(polarisations, type=pa.list_(pa.string())),
        "sar:looks_equivalent_number": pa.array(enl, from_pandas=True),
        "sat:orbit_state": pa.Array.from_pandas(_orbit_states(samples), type=pa.string()),
        "sat:relative_orbit": pa.Array.from_pandas(samples["relative_orbit"], type=pa.int32()),
        "eo:cloud_cover": pa.array(cloud_percent, from_pandas=True),
        "processing:lineage": pa.Array.from_pandas(samples["processing"], type=pa.string()),
        "processing:software": pa.array([{"sar1m": __version__}] * len(samples)),
    }


def _own(samples: pd.DataFrame) -> dict[str, pa.Array]:
    columns = {column.name: column for column in SAMPLE_COLUMNS}
    return {
        f"sar1m:{name}": pa.Array.from_pandas(samples[name], type=ARROW_TYPES[columns[name].type])
        for name in OWN_COLUMNS
    }


def _products(samples: pd.DataFrame) -> list[tuple[str | None, str | None]]:
    """Mode and type of each SAR product by its name; None where it is no product of Sentinel-1's."""
    matches = (_PRODUCT.match(str(name)) for name in samples["sar_product"])
    return [(None, None) if found is None else (_mode(found[1]), found[2]) for found in matches]


def _mode(name: str) -> str:
    return "SM" if name.startswith("S") else name  # a stripmap product is named by its beam, S1 to S6


def _orbit_states(samples: pd.DataFrame) -> pd.Series:
    return samples["orbit_state"].where(samples["orbit_state"].isin(ORBIT_STATES), None)


def _is_paired(samples: pd.DataFrame) -> Bool:
    paired: Bool = samples["paired"].to_numpy(dtype=np.bool_)
    return paired


def _repeated(text: str, count: int) -> pa.Array:
    return pa.array([text] * count, type=pa.string())
