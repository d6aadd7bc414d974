"""The search for private things: a release may hold only known files and columns, and their text is searched.

Searched for by pattern: home folders, e-mail addresses, tokens, keys, signed addresses. Searched for by value: every
environment variable that is called a key, token, secret or password, the folders the release is made from, and canaries
that a caller gives. A message names the file and the kind of a finding, never the finding itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sar1m.releases import audit, provenance, versions
from sar1m.store.errors import OutputError
from sar1m.store.table_columns import FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS, Column

FINDINGS_SHOWN: Final = 10
TEXT_SUFFIXES: Final = frozenset(
    {".md", ".csv", ".json", ".toml", ".txt", ".cff", ".html", ".js", ".css", ".geojson", ""}
)
_SPLIT: Final = r"(?:train|val|test)"
ALLOWED_FILES: Final = tuple(
    re.compile(pattern)
    for pattern in (
        r"README\.md|LICENSE|ATTRIBUTION\.md|LICENSES\.csv|CHANGELOG\.md|ERRATA\.md|CITATION\.cff",
        r"croissant\.json|collection\.json|leakage_audit\.json|manifest-sha256\.txt|RELEASE_COMPLETE\.json",
        r"(?:samples|items|preview|blocks|recipes|tombstones)\.parquet",
        rf"splits/{_SPLIT}\.parquet",
        rf"data/{_SPLIT}\.zarr/(?:[a-z0-9_]+/)?zarr\.json",
        rf"data/{_SPLIT}\.zarr/[a-z0-9_]+/c/\d+(?:/0/0/0)?",
        r"stats/(?:normalisation|histograms|coverage|summary|self_test|splits)\.json",
        r"provenance/(?:config\.toml|environment\.txt|code_version\.txt|builds\.json)",
        r"provenance/(?:lock|rejected|failed)\.parquet|provenance/[\w.-]{1,80}\.geojson",
        r"provenance/builds/[0-9a-f]{16}/(?:config\.toml|environment\.txt|code\.json)",
        r"report/[\w-]+(?:/[\w-]+)*\.(?:html|js|css|json|parquet|bin|webp|png|jpg)",
    )
)
_SHARD: Final = re.compile(rf"data/{_SPLIT}\.zarr/[a-z_]+/c/\d+/0/0/0")
_BY_TABLE: Final[Mapping[str, tuple[Column, ...]]] = {
    "samples.parquet": SAMPLE_COLUMNS,
    "provenance/rejected.parquet": REJECTED_COLUMNS,
    "provenance/failed.parquet": FAILED_COLUMNS,
    "provenance/lock.parquet": provenance.LOCK_COLUMNS,
    "recipes.parquet": provenance.RECIPE_COLUMNS,
    "tombstones.parquet": versions.TOMBSTONE_COLUMNS,
    "blocks.parquet": audit.BLOCK_COLUMNS,
    **{f"splits/{split}.parquet": audit.SPLIT_COLUMNS for split in ("train", "val", "test")},
}
GEOMETRY: Final = "geometry"

LOOKS: Final = {
    "a home folder": re.compile(r"(?<![\w.])/(?:home|Users)/[\w.-]+|(?<![\w.])/root/[\w.-]+|\b[A-Za-z]:\\+Users\\+\w"),
    "an e-mail address": re.compile(r"(?<![\w.+-])[\w.+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b"),
    "a token": re.compile(
        r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b|\bgh[pousr]_\w{30,}|\bhf_[A-Za-z0-9]{30,}|\bxox[abprs]-[\w-]{10,}"
        r"|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]+|-----BEGIN [A-Z ]*PRIVATE KEY|\bBearer [\w.~+/-]{16,}"
    ),
    "a signed address": re.compile(
        r"[?&](?:X-Amz-(?:Signature|Credential)|sig|signature|access_token|api_?key|token|key)=[\w%.~+/-]{8,}",
        re.IGNORECASE,
    ),
}
_DATA_URI: Final = re.compile(r"(?<=;base64,)[A-Za-z0-9+/=]+")  # pictures: any letters may follow each other there
_SECRET_NAMES: Final = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_LEAST_SECRET: Final = 8  # letters; shorter values would be found anywhere


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What was found in which file; found never repeats it."""

    path: str
    found: str


def own_secrets(folders: Sequence[Path], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Values that must not appear, with what each is: secrets of the environment (os.environ where None) by the names
    of their variables, and the absolute paths of the folders."""
    values = os.environ if environment is None else environment
    found = {
        value: f"the value of {name}"
        for name, value in sorted(values.items())
        if _SECRET_NAMES.search(name) and len(value) >= _LEAST_SECRET
    }
    for folder in folders:
        for form in (folder.absolute(), folder.resolve()):
            if len(form.parts) > 2:
                found[str(form)] = "a folder of the maker's machine"
    return found


def require_private(root: Path, names: Sequence[str], secrets: Mapping[str, str]) -> None:
    """Raises OutputError naming files and kinds of findings where the release must not go out. names: relative."""
    findings = [found for name in names for found in findings_in(root, name, secrets)]
    if findings:
        shown = "; ".join(f"{one.path}: {one.found}" for one in findings[:FINDINGS_SHOWN])
        raise OutputError(
            f"{root.name}: {len(findings)} findings that must not be published: {shown}. Remove it from the builds' "
            "inputs (names of products, attributions, footprints) and build them again."
        )


def findings_in(root: Path, name: str, secrets: Mapping[str, str]) -> Iterator[Finding]:
    """What is wrong with one file: not allow-listed, a column that is not, text that must not leave."""
    if not any(pattern.fullmatch(name) for pattern in ALLOWED_FILES):
        yield Finding(path=name, found="a file that has no place in a release")
    path = root / name
    if _SHARD.fullmatch(name):  # pixels of which every chunk was decoded when the release was packed
        return
    if path.suffix == ".parquet":
        yield from _table_findings(path, name, secrets)
    elif (path.suffix in TEXT_SUFFIXES and not name.startswith("data/")) or path.name == "zarr.json":
        text = path.read_bytes().decode("utf-8", errors="replace")
        yield from (Finding(path=name, found=found) for found in _in_text(_DATA_URI.sub("", text), secrets))
    else:
        yield from (Finding(path=name, found=found) for found in _in_bytes(path.read_bytes(), secrets))


def _table_findings(path: Path, name: str, secrets: Mapping[str, str]) -> Iterator[Finding]:
    with pq.ParquetFile(path) as table:
        if name in _BY_TABLE:
            allowed = {column.name for column in _BY_TABLE[name]} | {GEOMETRY}
            for column in sorted(set(table.schema_arrow.names) - allowed):
                yield Finding(path=name, found=f"column {column!r} is not allow-listed")
        metadata = b"\n".join(b"%s=%s" % pair for pair in sorted((table.schema_arrow.metadata or {}).items()))
        found = set(_in_text(metadata.decode("utf-8", errors="replace"), secrets))
        for batch in table.iter_batches(batch_size=8192):
            for column in batch.columns:
                for values in _leaves(column):
                    found |= set(_in_column(values, secrets))
    yield from (Finding(path=name, found=what) for what in sorted(found))


def _leaves(column: pa.Array) -> Iterator[pa.Array]:
    """Columns of text or bytes inside an array of any nesting."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary
    if pa.types.is_map(column.type):
        yield from _leaves(column.keys)
        yield from _leaves(column.items)
    elif pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        yield from _leaves(column.flatten())
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _leaves(child)
    elif any(is_it(column.type) for is_it in (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)):
        yield column


def _in_column(values: pa.Array, secrets: Mapping[str, str]) -> Iterator[str]:
    distinct = pc.unique(values.drop_null()).to_pylist()
    if pa.types.is_binary(values.type):
        yield from _in_bytes(b"\n".join(distinct), secrets)
    else:
        yield from _in_text(_DATA_URI.sub("", "\n".join(distinct)), secrets)


def _in_text(text: str, secrets: Mapping[str, str]) -> Iterator[str]:
    yield from (kind for kind, looks in LOOKS.items() if looks.search(text))
    yield from (kind for value, kind in secrets.items() if value in text)


def _in_bytes(content: bytes, secrets: Mapping[str, str]) -> Iterator[str]:
    """Pixels and pictures: looks mean nothing there, values do."""
    yield from (kind for value, kind in secrets.items() if value.encode() in content)
