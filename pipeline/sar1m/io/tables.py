"""Metadata tables: rows as Arrow with the exact types of the schema, as GeoParquet and as pandas frames."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.io.geoparquet import geo_metadata, outlines_wkb, with_geometry
from sar1m.records import F64, Row
from sar1m.store.errors import StoreError
from sar1m.store.schema import SCHEMA_VERSION
from sar1m.store.table_columns import CANDIDATE_COLUMNS, LATER_COLUMNS, Column

ROW_GROUP = 65536  # rows
_FORMAT: Mapping[str, Any] = {"compression": "zstd", "compression_level": 3}
ARROW_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bool": pa.bool_(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "timestamp": pa.timestamp("us", tz="UTC"),
    "list<string>": pa.list_(pa.string()),
    "list<float64>": pa.list_(pa.float64()),
    "map<float32>": pa.map_(pa.string(), pa.float32()),
}


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of some columns, in their order, with unit and description as field metadata."""
    return pa.schema(
        pa.field(
            column.name,
            ARROW_TYPES[column.type],
            nullable=column.nullable,
            metadata={"unit": column.unit, "description": column.description},
        )
        for column in columns
    )


def candidate_batch(rows: Iterable[Row]) -> pa.RecordBatch:
    """Staged rows as one Arrow batch. Raises StoreError where a row does not fit the schema."""
    schema = arrow_schema(CANDIDATE_COLUMNS)
    prepared = [_arrow_row(row) for row in rows]
    try:
        return pa.RecordBatch.from_pylist(prepared, schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise StoreError(
            f"a staged row does not fit schema {SCHEMA_VERSION}: {error}. Remove the staging folder and build again."
        ) from error


def parquet_bytes(frame: pd.DataFrame, columns: Sequence[Column]) -> bytes:
    """A frame as Parquet; where it has bounds_lonlat, as GeoParquet 1.1.

    The geometry column is the outline of the patch (WKB, longitude and latitude), as io/geoparquet.py writes it. The
    same frame gives the same bytes.
    """
    schema = arrow_schema(columns)
    table = pa.Table.from_pydict(arrow_columns(frame, schema, schema.names), schema=schema)
    boxes = box_numbers(frame["bounds_lonlat"]) if "bounds_lonlat" in schema.names else None
    return b"".join(parquet_pieces([table], schema, boxes))


def arrow_columns(frame: pd.DataFrame, schema: pa.Schema, names: Sequence[str]) -> dict[str, pa.Array]:
    """Some columns of a frame as Arrow, by name, with the types of a schema."""
    return {name: _arrow_column(frame[name], schema.field(name)) for name in names}


def parquet_pieces(tables: Iterable[pa.Table], schema: pa.Schema, boxes: F64 | None) -> Iterator[bytes]:
    """One Parquet file, piece by piece, as the tables are drawn.

    tables: at least one, of the schema; each but the last has a multiple of ROW_GROUP rows. boxes: (n, 4) of all their
    rows, west, south, east, north in degrees; with them the file becomes GeoParquet.
    """
    full = schema
    if boxes is not None:
        metadata = {"geo": geo_metadata(boxes), "sar1m_schema": SCHEMA_VERSION}
        full = schema.append(pa.field("geometry", pa.binary())).with_metadata(metadata)
    sink, done = _Pieces(), 0
    with pq.ParquetWriter(pa.PythonFile(sink, mode="w"), full, **_FORMAT) as writer:
        for table in tables:
            whole = table
            if boxes is not None:
                outlines = outlines_wkb(boxes[done : done + len(table)])
                whole = table.append_column("geometry", outlines).replace_schema_metadata(full.metadata)
            writer.write_table(whole, row_group_size=ROW_GROUP)
            done += len(table)
            yield sink.drained()
    yield sink.drained()


class _Pieces(io.RawIOBase):
    """Keeps what is written until it is drawn."""

    def __init__(self) -> None:
        self._held = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:  # noqa: ANN401 - whatever bytes Arrow hands over
        self._held += content
        return len(content)

    def drained(self) -> bytes:
        held, self._held = bytes(self._held), bytearray()
        return held


def box_numbers(boxes: pd.Series) -> F64:
    """A column of boxes as numbers, (n, 4)."""
    if isinstance(boxes.dtype, pd.ArrowDtype):
        numbers: F64 = boxes.list.flatten().to_numpy(dtype=np.float64).reshape(-1, 4)
        return numbers
    return np.array(list(boxes), dtype=np.float64).reshape(-1, 4)


def slim_frame(table: pa.Table) -> pd.DataFrame:
    """A table as a pandas frame whose lists and maps stay in Arrow; missing values are None, NaN or NaT."""
    nested = {
        field.type: pd.ArrowDtype(field.type)
        for field in table.schema
        if pa.types.is_list(field.type) or pa.types.is_map(field.type)
    }
    return table.to_pandas(types_mapper=nested.get)


def cut_table(table: pa.Table, rows: npt.NDArray[np.int64], replaced: Mapping[str, npt.NDArray[np.int64]]) -> bytes:
    """Some rows of a metadata table as Parquet, with all its columns, known here or not.

    rows: their numbers. replaced: columns of the table that get other values, one a row. GeoParquet stays GeoParquet
    about these rows alone.
    """
    cut = table.take(rows)
    for name, values in replaced.items():
        at = cut.schema.get_field_index(name)
        cut = cut.set_column(at, cut.schema.field(at), pa.array(values, type=cut.schema.field(at).type))
    if "geometry" in cut.column_names and "bounds_lonlat" in cut.column_names:
        bounds = np.array(cut.column("bounds_lonlat").to_pylist(), dtype=np.float64).reshape(-1, 4)
        cut = cut.replace_schema_metadata({**(table.schema.metadata or {}), b"geo": with_geometry(bounds)[1].encode()})
    return _parquet(cut)


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=ROW_GROUP, **_FORMAT)
    return buffer.getvalue()


def read_table(path: Path) -> pd.DataFrame:
    """A metadata table as a pandas frame (geometry as WKB). Raises StoreError where it is missing or damaged."""
    return read_arrow(path).to_pandas(maps_as_pydicts="strict")


def read_arrow(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A metadata table; columns: the ones to read, in this order, None for all.

    A column that a later minor version of the schema brought is empty where the table lacks it. Raises StoreError where
    the table is missing or damaged, or lacks another column that is asked for.
    """
    try:
        if columns is None:
            return pq.read_table(path)
        held = set(pq.read_schema(path).names)
        table = pq.read_table(path, columns=[name for name in columns if name in held])
    except (OSError, pa.ArrowInvalid) as error:
        raise StoreError(
            f"{path}: cannot be read as Parquet ({error}). Check the store with `sar1m verify`."
        ) from error
    absent = [name for name in columns if name not in held]
    missing = [name for name in absent if name not in LATER_COLUMNS]
    if missing:
        raise StoreError(f"{path.name}: columns missing: {', '.join(missing)}. Check the store with `sar1m verify`.")
    for name in absent:
        table = table.append_column(name, pa.nulls(len(table), ARROW_TYPES[LATER_COLUMNS[name].type]))
    return table.select(list(columns))


def _arrow_column(series: pd.Series, field: pa.Field) -> pa.Array:
    if pa.types.is_map(field.type) and not isinstance(series.dtype, pd.ArrowDtype):
        return pa.array([sorted(fractions.items()) for fractions in series], type=field.type)
    return pa.Array.from_pandas(series, type=field.type)


def _arrow_row(row: Row) -> dict[str, Any]:
    """JSON keeps a time as text and a map as an object; Arrow wants a datetime and pairs."""
    typed: dict[str, Any] = {
        name: sorted(value.items()) if isinstance(value, dict) else value for name, value in row.items()
    }
    for name in ("sar_datetime", "optical_datetime"):
        if typed.get(name) is not None:
            typed[name] = datetime.fromisoformat(typed[name]).astimezone(UTC)
    return typed
