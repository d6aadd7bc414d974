"""All staged records of a build, read once, as Arrow on scratch: what phase 2 works on.

Candidates are kept by row and channel statistics by channel. Only the columns that a step asks for are in memory, and
no row ever is a Python object for longer than its batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sar1m.io.scratch import ArrowScratch
from sar1m.io.tables import (
    ROW_GROUP,
    arrow_columns,
    arrow_schema,
    box_numbers,
    candidate_batch,
    parquet_pieces,
    slim_frame,
)
from sar1m.records import I64, Bool, Row
from sar1m.stages.staged import StagedRecord, read_record
from sar1m.store.outputs.output import Output
from sar1m.store.table_columns import CANDIDATE_COLUMNS, Column

BLOCKS_A_BATCH = 128
MOST_BUCKETS = 256  # files open at once while rows are put in order
REPLACED = {"ecoregion"}  # candidate columns that phase 2 fills
CHANNEL_SCHEMA = pa.schema(
    {
        "row": pa.int64(),
        "array": pa.string(),
        "channel": pa.int32(),
        "count": pa.int64(),
        "sum_dn": pa.int64(),
        "sum_squares_dn": pa.int64(),
        "first_bin": pa.int32(),
        "histogram": pa.list_(pa.int32()),
    }
)


class StagedTable:
    """The records of staged blocks, in the order of their keys as given. rows: how many candidates there are.
    recoveries: of the self-test.

    staging: the staged blocks. Raises StoreError where a block is missing or damaged or does not fit the schema,
    OutputError where the scratch cannot be written.
    """

    def __init__(self, staging: Output, keys: Iterable[str]) -> None:
        self.rows, self.recoveries = 0, list[Row]()
        self._scratch: Path = staging.work
        self._candidates = ArrowScratch(self._scratch, arrow_schema(CANDIDATE_COLUMNS))
        self._channels = ArrowScratch(self._scratch, CHANNEL_SCHEMA)
        left = iter(keys)
        while some := list(islice(left, BLOCKS_A_BATCH)):
            self._add({key: read_record(staging, key) for key in some})

    def _add(self, records: Mapping[str, StagedRecord]) -> None:
        rows = [{**row, "key": f"{key}/{row['patch']}"} for key, record in records.items() for row in record.rows]
        numbers = {row["key"]: self.rows + number for number, row in enumerate(rows)}
        channels = [
            {"row": numbers[f"{key}/{of['patch']}"], "array": array, "channel": number, **channel}
            for key, record in records.items()
            for of in record.statistics
            for array, stated in of.items()
            if array != "patch"
            for number, channel in enumerate(stated)
        ]
        self._candidates.write(candidate_batch(rows))
        self._channels.write(pa.RecordBatch.from_pylist(channels, schema=CHANNEL_SCHEMA))
        self.rows += len(rows)
        for record in records.values():
            self.recoveries.extend(record.self_test)

    def frame(self, columns: Sequence[str]) -> pd.DataFrame:
        """Some columns of all candidates, and `row`, their number here. Lists and maps stay in Arrow, missing values
        are None, NaN or NaT."""
        return slim_frame(self._candidates.table(columns)).assign(row=np.arange(self.rows))

    def channels(self, wanted: Bool) -> Iterator[tuple[str, pa.Table]]:
        """Channel statistics (CHANNEL_SCHEMA) of some candidates, batch by batch, by the name of their array.

        wanted: (rows,).
        """
        for batch in self._channels.batches():
            here = pa.Table.from_batches([batch]).filter(pa.array(wanted[np.asarray(batch["row"])]))
            for array in sorted(here["array"].unique().to_pylist()):
                yield array, here.filter(pc.equal(here["array"], array))

    def parquet(self, frame: pd.DataFrame, columns: Sequence[Column]) -> Iterator[bytes]:
        """The Parquet file of some candidates in the order of a frame, in pieces: what tables.parquet_bytes gives.

        frame: `row` of each candidate, bounds_lonlat, and those of the columns that phase 2 adds. Rows are brought into
        order by buckets on scratch, each of one or more row groups, so that memory does not grow with the table.
        """
        schema = arrow_schema(columns)
        own = [name for name in schema.names if name not in self._candidates.schema.names or name in REPLACED]
        tables = (
            pa.Table.from_pydict(
                {name: staged[name] for name in schema.names if name not in own}
                | arrow_columns(frame.iloc[start : start + len(staged)], schema, own),
                schema=schema,
            )
            for start, staged in self._in_order(frame["row"].to_numpy(dtype=np.int64))
        )
        return parquet_pieces(tables, schema, box_numbers(frame["bounds_lonlat"]))

    def _in_order(self, rows: I64) -> Iterator[tuple[int, pa.Table]]:
        """Candidates in an order, by row groups, with the position of each group's first row."""
        position = np.full(self.rows, -1, dtype=np.int64)
        position[rows] = np.arange(len(rows))
        size = ROW_GROUP * max(-(-len(rows) // (ROW_GROUP * MOST_BUCKETS)), 1)
        schema = self._candidates.schema.append(pa.field("position", pa.int64()))
        buckets = [ArrowScratch(self._scratch, schema) for _ in range(max(-(-len(rows) // size), 1))]
        for first, part in self._parts():
            at = position[first : first + len(part)]
            for number in np.unique(at[at >= 0] // size).tolist():
                inside = np.flatnonzero((at >= 0) & (at // size == number))
                taken = part.take(pa.array(inside)).append_column("position", pa.array(at[inside]))
                buckets[number].write(taken)
        for number, bucket in enumerate(buckets):
            held = bucket.table()
            ordered = held.take(pa.array(np.argsort(np.asarray(held["position"]), kind="stable"))).combine_chunks()
            for start in range(0, max(len(ordered), 1), ROW_GROUP):
                yield number * size + start, ordered.slice(start, ROW_GROUP)

    def _parts(self) -> Iterator[tuple[int, pa.Table]]:
        """All candidates some ten thousand at a time, with the number of the first."""
        first, held = 0, list[pa.RecordBatch]()
        for batch in self._candidates.batches():
            held.append(batch)
            if sum(map(len, held)) >= ROW_GROUP:
                yield first, pa.Table.from_batches(held)
                first, held = first + sum(map(len, held)), []
        if held:
            yield first, pa.Table.from_batches(held)
