"""croissant.json: what the release holds, for machines: Croissant 1.1 with the terms of GeoCroissant 1.0.

Specifications: http://mlcommons.org/croissant/1.1 and http://mlcommons.org/croissant/geo/1.0.
"""

from __future__ import annotations

from typing import Any, Final

from sar1m.releases.catalogue import (
    AUTHORS,
    KEYWORDS,
    SENTINEL2_BANDS,
    bias_words,
    description,
    extent_of,
    release_terms,
    rfc3339,
    sampling_words,
)
from sar1m.releases.citation import citation_words
from sar1m.releases.contents import (
    CROISSANT_FILE,
    LICENCES_FILE,
    PREVIEW_FILE,
    ReleaseFacts,
)
from sar1m.releases.preview import KEY_COLUMNS
from sar1m.store.durable import digest_file, json_bytes
from sar1m.store.errors import StoreError
from sar1m.store.schema import DATA_DIR, MANIFEST_FILE, RELEASE_MARKER_FILE, SAMPLES_FILE, SPLITS, group_name
from sar1m.store.table_columns import SAMPLE_COLUMNS, Column

Node = dict[str, Any]

CONFORMS_TO: Final = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/geo/1.0")
CONTEXT: Final[Node] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "dct": "http://purl.org/dc/terms/",
    "geocr": "http://mlcommons.org/croissant/geo/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "description": {"@container": "@language"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "name": {"@container": "@language"},
    **{
        term: f"cr:{term}"
        for term in (
            *("arrayShape", "citeAs", "column", "containedIn", "equivalentProperty", "extract", "field", "fileObject"),
            *("fileProperty", "fileSet", "format", "includes", "isArray", "isLiveDataset", "jsonPath", "key", "md5"),
            *("parentField", "path", "recordSet", "references", "regex", "repeated", "replace", "samplingRate"),
            *("separator", "source", "subField", "transform"),
        )
    },
}
DATA_TYPES: Final = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "int32": "sc:Integer",
    "int64": "sc:Integer",
    "float32": "sc:Float",
    "float64": "sc:Float",
    "timestamp": "sc:DateTime",
    "list<string>": "sc:Text",
    "list<float64>": "sc:Float",
}
ARRAY_LENGTHS: Final = {"transform": 6, "bounds_lonlat": 4}  # the others differ from sample to sample
ENCODING_FORMATS: Final = {
    ".parquet": "application/x-parquet",
    ".json": "application/json",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".html": "text/html",
    ".toml": "application/toml",
}
SPLIT_URLS: Final = {"train": "cr:TrainingSplit", "val": "cr:ValidationSplit", "test": "cr:TestSplit"}


def croissant_files(facts: ReleaseFacts) -> dict[str, bytes]:
    """croissant.json, with the digest of every file that lies in the release by now. Zarr groups are file sets; the
    digests of their files are in the manifest. StoreError where samples.parquet or preview.parquet is missing."""
    return {CROISSANT_FILE: json_bytes(croissant(facts))}


def croissant(facts: ReleaseFacts) -> Node:
    """The JSON-LD object."""
    terms = release_terms(facts.licences)
    own = [row.url or row.licence for row in facts.licences if row.samples]
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": facts.name,
        "description": description(facts),
        "version": facts.version,
        "creator": {"@type": "sc:Organization", "name": AUTHORS},
        "citeAs": citation_words(facts),
        "keywords": list(KEYWORDS),
        **({} if facts.published is None else {"datePublished": facts.published.isoformat()}),
        **({} if facts.url is None else {"url": facts.url}),
        "license": terms.url if terms.spdx is not None else sorted({*own, LICENCES_FILE}),
        "isLiveDataset": False,
        **_geography(facts),
        "distribution": _distribution(facts),
        "recordSet": [_splits(), _samples(), _preview()],
    }


def _geography(facts: ReleaseFacts) -> Node:
    """GeoCroissant's terms. Its reference system is one text: all UTM zones of the release, with samples/epsg for each
    sample's own."""
    extent, summary = extent_of(facts), facts.summary
    west, south, east, north = extent.bounds_lonlat
    zones = sorted({int(code) for code in facts.samples["epsg"]})
    names = [*summary["polarisations"], *summary["optical_bands"]]
    node: Node = {
        "spatialCoverage": {
            "@type": "sc:Place",
            "geo": {"@type": "sc:GeoShape", "box": f"{south:.6f} {west:.6f} {north:.6f} {east:.6f}"},
        },
        "geocr:coordinateReferenceSystem": ", ".join(f"EPSG:{code}" for code in zones),
        "geocr:spatialResolution": _quantity(summary["gsd_m"], "m"),
        "geocr:bandConfiguration": {
            "@type": "geocr:BandConfiguration",
            "geocr:totalBands": len(names),
            "geocr:bandNameList": names,
        },
        "geocr:samplingStrategy": sampling_words(facts),
        "geocr:spatialBias": bias_words(facts),
    }
    if extent.first is not None and extent.last is not None:
        node["temporalCoverage"] = f"{rfc3339(extent.first)}/{rfc3339(extent.last)}"
    bands = [_spectral_band(name) for name in summary["optical_bands"] if name in SENTINEL2_BANDS]
    if bands and summary["optical_quantity"] == "reflectance":
        node["geocr:spectralBandMetadata"] = bands
    return node


def _spectral_band(name: str) -> Node:
    band = SENTINEL2_BANDS[name]
    return {
        "@type": "geocr:SpectralBand",
        "name": name,
        "geocr:centerWavelength": _quantity(band.centre_nm, "nm"),
        "geocr:bandwidth": _quantity(band.width_nm, "nm"),
    }


def _quantity(value: float, unit: str) -> Node:
    return {"@type": "sc:QuantitativeValue", "value": value, "unitText": unit}


def _distribution(facts: ReleaseFacts) -> list[Node]:
    names = [path.relative_to(facts.root).as_posix() for path in sorted(facts.root.rglob("*")) if path.is_file()]
    last = (CROISSANT_FILE, MANIFEST_FILE, RELEASE_MARKER_FILE)
    described = [name for name in names if not name.startswith(f"{DATA_DIR}/") and name not in last]
    for needed in (SAMPLES_FILE, PREVIEW_FILE):
        if needed not in described:
            raise StoreError(f"{needed}: not in the release, expected before {CROISSANT_FILE} is written.")
    return [
        *(_file_object(facts, name) for name in described),
        *(_group(split) for split in SPLITS if any(name.startswith(f"{group_name(split)}/") for name in names)),
    ]


def _file_object(facts: ReleaseFacts, name: str) -> Node:
    digest = digest_file(facts.root / name)
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{digest.size} B",
        "encodingFormat": ENCODING_FORMATS.get("." + name.rpartition(".")[2], "text/plain"),
        "sha256": digest.sha256,
    }


def _group(split: str) -> Node:
    return {
        "@type": "cr:FileSet",
        "@id": group_name(split),
        "name": f"{split}.zarr",
        "description": (
            f"Zarr version 3 group of the {split} split: arrays sar (sample, pol, y, x) and optical "
            "(sample, band, y, x) in store order, scale and offset by CF attributes. "
            f"{MANIFEST_FILE} holds the digest of every file."
        ),
        "encodingFormat": "application/vnd.zarr",
        "includes": f"{group_name(split)}/**",
    }


def _splits() -> Node:
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "The splits, by what they are for.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": "splits/name", "name": "name", "dataType": "sc:Text"},
            {"@type": "cr:Field", "@id": "splits/url", "name": "url", "dataType": "sc:URL"},
        ],
        "data": [{"splits/name": split, "splits/url": SPLIT_URLS[split]} for split in SPLITS],
    }


def _samples() -> Node:
    columns = [column for column in SAMPLE_COLUMNS if column.type in DATA_TYPES]
    return {
        "@type": "cr:RecordSet",
        "@id": "samples",
        "name": "samples",
        "description": (
            "One record a sample in store order, split by split: index is its position on the sample dimension of "
            "data/<split>.zarr. The file holds land_cover (a map) and geometry (WKB) besides."
        ),
        "key": {"@id": "samples/sample_id"},
        "field": [_field("samples", SAMPLES_FILE, column) for column in columns],
    }


def _preview() -> Node:
    columns = [column for column in SAMPLE_COLUMNS if column.name in KEY_COLUMNS]
    pictures = [
        {
            "@type": "cr:Field",
            "@id": f"preview/{name}",
            "name": name,
            "description": words,
            "dataType": "sc:ImageObject",
            "source": {
                "fileObject": {"@id": PREVIEW_FILE},
                "extract": {"column": name},
                "transform": {"jsonPath": "bytes"},
            },
        }
        for name, words in (("sar", "first polarisation, grey"), ("optical", "red, green and blue"))
    ]
    return {
        "@type": "cr:RecordSet",
        "@id": "preview",
        "name": "preview",
        "description": "Thumbnails of some samples of every split and class.",
        "key": {"@id": "preview/sample_id"},
        "field": [*(_field("preview", PREVIEW_FILE, column) for column in columns), *pictures],
    }


def _field(record_set: str, file: str, column: Column) -> Node:
    unit = f" [{column.unit}]" if column.unit not in ("", "1") else ""
    field: Node = {
        "@type": "cr:Field",
        "@id": f"{record_set}/{column.name}",
        "name": column.name,
        "description": column.description + unit,
        "dataType": DATA_TYPES[column.type],
        "source": {"fileObject": {"@id": file}, "extract": {"column": column.name}},
    }
    if column.type.startswith("list"):
        field |= {"isArray": True, "arrayShape": str(ARRAY_LENGTHS.get(column.name, -1))}
    if column.name == "split":
        field |= {"references": {"field": {"@id": "splits/name"}}}
    return field
