"""Arrow batches that wait on this machine's disk instead of in memory."""

from __future__ import annotations

import mmap
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from sar1m.store.durable import writing_to

_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class ArrowScratch:
    """Batches of one schema: written one after the other, then read as often as wished, by columns.

    folder: on a disk with space. The file has no name, so that nothing is left behind, whatever ends the process.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema, self._folder = schema, folder
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - it lives as long as this object
        weakref.finalize(self, self._file.close)
        self._writer: pa.RecordBatchFileWriter | None = pa.ipc.new_file(self._file, schema, options=_OPTIONS)

    def write(self, batch: pa.RecordBatch | pa.Table) -> None:
        """Adds rows. Raises OutputError where the disk refuses, ValueError once something was read."""
        if self._writer is None:
            raise ValueError("the rows are being read: no more can be added")
        with writing_to(self._folder):
            self._writer.write(batch)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """What was written, batch by batch. columns: the ones to read, None for all."""
        with writing_to(self._folder):
            if self._writer is not None:
                self._writer.close()
                self._file.flush()
                self._writer = None
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        wanted = None if columns is None else [self.schema.get_field_index(name) for name in columns]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        with pa.ipc.open_file(pa.py_buffer(mapped), options=options) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows in memory. columns: the ones to read, in this order, None for all."""
        names = self.schema.names if columns is None else list(columns)
        schema = pa.schema([self.schema.field(name) for name in names])
        return pa.Table.from_batches([batch.select(names) for batch in self.batches(columns)], schema=schema)
