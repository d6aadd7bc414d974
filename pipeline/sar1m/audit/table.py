"""The table of an audit: as Parquet (GeoParquet where a pair says where it lies) and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.audit.item import PairRow
from sar1m.io.geoparquet import with_geometry
from sar1m.io.tables import arrow_schema
from sar1m.store.foreign_text import spreadsheet_cell
from sar1m.store.table_columns import Column

COLUMNS: Final = tuple(
    Column(name=name, type=kind, unit=unit, description=words, nullable=nullable)  # type: ignore[arg-type]
    for name, kind, unit, words, nullable in (
        ("pair", "string", "", "name of the pair", False),
        ("sar", "string", "", "SAR picture, relative to the place, or its product", False),
        ("optical", "string", "", "optical picture, relative to the place, or its product", False),
        ("status", "string", "", "measured, unmeasurable or failed", False),
        ("shift_row_px", "float64", "px", "rows by which the optical content lies below the SAR's", True),
        ("shift_col_px", "float64", "px", "columns by which the optical content lies right of the SAR's", True),
        ("shift_px", "float64", "px", "length of the shift", True),
        ("sigma_px", "float64", "px", "standard deviation of either component of the shift", True),
        ("confidence_psr", "float64", "1", "peak-to-sidelobe ratio of the summed correlation surfaces", True),
        ("windows", "int32", "", "windows that were compared", False),
        ("windows_measured", "int32", "", "windows that pass the thresholds on their own", False),
        ("windows_apart_px", "float64", "px", "median distance of those windows' shifts from the pair's", True),
        ("shift_m", "float64", "m", "length of the shift on the ground; empty where the place is unknown", True),
        ("rows", "int32", "px", "rows that both pictures have", False),
        ("cols", "int32", "px", "columns that both pictures have", False),
        ("moved_row_px", "float64", "px", "rows by which the written optical picture was moved up", True),
        ("moved_col_px", "float64", "px", "columns by which the written optical picture was moved left", True),
        ("doubt", "string", "", "what in the SAR's numbers speaks against the unit that was stated", False),
        ("cause", "string", "", "why it failed, or was not written", False),
    )
)


def records(rows: Sequence[PairRow]) -> list[dict[str, Any]]:
    """Rows by the names of COLUMNS; None where there is nothing."""
    return [{column.name: _value(row, column.name) for column in COLUMNS} for row in rows]


def parquet_bytes(rows: Sequence[PairRow]) -> bytes:
    """The table as Parquet. Where a pair has a place the column geometry holds its outline (WKB), null for others."""
    table = pa.Table.from_pylist(records(rows), schema=arrow_schema(COLUMNS))
    placed = [number for number, row in enumerate(rows) if row.bounds]
    if placed:
        outlines, geo = with_geometry(np.array([rows[number].bounds for number in placed], dtype=np.float64))
        geometry: list[bytes | None] = [None] * len(rows)
        for number, outline in zip(placed, outlines.to_pylist(), strict=True):
            geometry[number] = outline
        table = table.append_column("geometry", pa.array(geometry, type=pa.binary()))
        table = table.replace_schema_metadata({"geo": geo})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def csv_bytes(rows: Sequence[PairRow]) -> bytes:
    """The table as CSV, UTF-8, with a line of names. Names that a spreadsheet would compute have an apostrophe before
    them; pairs.parquet holds them as they are."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=[column.name for column in COLUMNS], lineterminator="\n")
    writer.writeheader()
    for record in records(rows):
        writer.writerow({name: _short(value) for name, value in record.items()})
    return text.getvalue().encode("utf-8", "surrogateescape")


def _value(row: PairRow, name: str) -> Any:  # noqa: ANN401 - any value of a table
    own = {"shift_row_px": "row_px", "shift_col_px": "col_px", "confidence_psr": "psr"}.get(name, name)
    value = getattr(row, own)
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    return None if isinstance(value, float) and math.isnan(value) else value


def _short(value: Any) -> Any:  # noqa: ANN401 - any value of a table
    if isinstance(value, str):
        return spreadsheet_cell(value)
    return f"{value:.4f}" if isinstance(value, float) else value
