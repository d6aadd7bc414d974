"""A part of a release by its samples: a smaller store of its own, of which every sample is bound to the release.

The chunks of the selected samples are read by byte ranges and packed anew, as they are; tables and small arrays are cut
to these samples. Terms, statistics and provenance come as they are; what describes the whole (page, catalogues) stays.
provenance/release keeps what the cut files came from: the release's manifest, marker and tables. So `sar1m verify` can
cut again and compare, and every pixel is compared with the hash in the release's provenance/lock.parquet, which the
release's manifest covers. The marker's part_of names that manifest and what was selected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa

from sar1m.io.tables import cut_table
from sar1m.io.zarr_groups import ImageArray, cut_group
from sar1m.records import I64
from sar1m.releases import contents
from sar1m.releases.array_chunks import ArrayChunks, described_image
from sar1m.releases.build_pixels import pixel_hash
from sar1m.releases.versions import LOCK_FILE
from sar1m.store.errors import StoreError
from sar1m.store.sample_filter import SampleFilter
from sar1m.store.schema import DATA_DIR, PROVENANCE_DIR, SAMPLES_FILE, SPLITS
from sar1m.store.seal import PART_OF, REMEDY
from sar1m.store.seal_text import parse_object
from sar1m.store.shard_index import SHARD_NAME

RELEASE_DIR: Final = f"{PROVENANCE_DIR}/release"
REQUEST_FILE: Final = f"{RELEASE_DIR}/request.json"  # what the folder holds, or will
CUT_TABLES: Final = (SAMPLES_FILE, LOCK_FILE)
_OF_THE_WHOLE: Final = (  # files and folders that describe or list all samples
    *("report/", f"{contents.SPLITS_DIR}/", contents.BLOCKS_FILE, contents.PREVIEW_FILE, contents.ITEMS_FILE),
    *(contents.COLLECTION_FILE, contents.CROISSANT_FILE),
    *(f"{PROVENANCE_DIR}/rejected.parquet", f"{PROVENANCE_DIR}/failed.parquet"),
)
_HASHES: Final = {"sar": "sar_hash", "optical": "optical_hash"}  # arrays with a column of their own in the lock
_SEALS: Final = ("files", "manifest_sha256", "marker_sha256")


@dataclass(frozen=True, kw_only=True)
class SampleChoice:
    """What is wanted of a release. split: one of it, None for all."""

    samples: SampleFilter
    split: str | None = None

    def request(self, manifest_sha256: str) -> dict[str, Any]:
        """As the folder states it while it is filled."""
        return {"manifest_sha256": manifest_sha256, "split": self.split, **self.samples.to_json()}

    @property
    def words(self) -> str:
        """As messages name it."""
        return self.samples.words + ("" if self.split is None else f" of {self.split}")


@dataclass(frozen=True, kw_only=True, eq=False)
class PartRows:
    """The selected rows of a release. samples, lock: its tables, whole. rows: numbers of those selected, ascending."""

    samples: pa.Table
    lock: pa.Table
    rows: I64

    @cached_property
    def splits(self) -> dict[str, I64]:
        """Of each split that has selected samples: their numbers among `rows`, in store order."""
        names = np.array(self.samples.column("split").to_pylist(), dtype=object)[self.rows]
        return {split: found for split in SPLITS if len(found := np.flatnonzero(names == split))}

    @cached_property
    def _columns(self) -> dict[str, list[Any]]:
        return {}

    def column(self, name: str) -> list[Any]:
        """A column of the samples, or else of the lock, at the selected rows."""
        if name not in self._columns:
            table = self.samples if name in self.samples.column_names else self.lock
            self._columns[name] = table.column(name).take(pa.array(self.rows)).to_pylist()
        return self._columns[name]

    def numbers(self, split: str) -> I64:
        """Positions of a split's selected samples in the release's arrays."""
        return np.array(self.column("index"), dtype=np.int64)[self.splits[split]]

    @property
    def ids(self) -> list[str]:
        """sample_id of each."""
        return self.column("sample_id")

    def expected(self, array: str, split: str) -> list[str | None]:
        """By the lock, the hash of each of a split's samples in an array; None where the lock has none."""
        column = _HASHES.get(array)
        members = self.splits[split]
        return [None] * len(members) if column is None else [self.column(column)[member] for member in members]

    def with_chunk(self, source: ArrayChunks, split: str, numbers: Sequence[int]) -> list[int | None]:
        """numbers, one a sample of the split, with None in place of those that have no chunk in an array: in sar all
        have one, in optical the paired ones, in others those that the shards hold."""
        array = source.image.layout.name
        if array == "optical":
            paired = self.column("paired")
            return [number if paired[at] else None for number, at in zip(numbers, self.splits[split], strict=True)]
        return list(numbers) if array == "sar" else source.present(numbers)

    def size(self, split: str) -> int:
        """Samples of a split in the whole release."""
        return int(sum(name == split for name in self.samples.column("split").to_pylist()))

    def tables(self, slots: int) -> dict[str, bytes]:
        """samples.parquet and the lock of the part. slots: samples a shard."""
        index = np.empty(len(self.rows), dtype=np.int64)
        for members in self.splits.values():
            index[members] = np.arange(len(members))
        places = {"index": index, "shard": index // slots}
        return {
            SAMPLES_FILE: cut_table(self.samples, self.rows, places),
            LOCK_FILE: cut_table(self.lock, self.rows, {}),
        }


def select(samples: pa.Table, lock: pa.Table, choice: SampleChoice) -> PartRows:
    """The rows of a release's tables that a choice means. Raises ConfigError where it means none or cannot be applied,
    StoreError where the tables do not go together."""
    if samples.column("sample_id").to_pylist() != lock.column("sample_id").to_pylist():
        raise StoreError(f"{LOCK_FILE} and {SAMPLES_FILE} of the release list different samples. {REMEDY}")
    rows = np.arange(len(samples))
    if choice.split is not None:
        rows = np.flatnonzero(np.array(samples.column("split").to_pylist(), dtype=object) == choice.split)
    found = PartRows(samples=samples, lock=lock, rows=rows[choice.samples.rows(samples.take(pa.array(rows)))])
    for split in found.splits:
        if (np.diff(found.numbers(split)) <= 0).any():
            raise StoreError(f"{SAMPLES_FILE} of the release is not in the order of its store. {REMEDY}")
    return found


def part_name(name: str) -> str | None:
    """Where a file of the release stands in a part of it, None where it does not. Shards are cut, not copied."""
    if SHARD_NAME.fullmatch(name) or name.startswith(_OF_THE_WHOLE):
        return None
    return f"{RELEASE_DIR}/{name}" if name in CUT_TABLES or name.startswith(f"{DATA_DIR}/") else name


def cut_arrays(group: Mapping[str, bytes], rows: PartRows, split: str) -> dict[str, bytes]:
    """The files of a part's group, without the shards, from those of the release's."""
    return cut_group(group, rows.size(split), rows.numbers(split))


def images_of(group: Mapping[str, bytes], shown: str) -> list[ImageArray]:
    """The image arrays of a group's files: those whose samples are pictures."""
    found = []
    for name in sorted(group):
        meta = parse_object(group[name]) if name.endswith("/zarr.json") else {}
        if len(meta.get("shape", ())) == 4:
            found.append(described_image(name.removesuffix("/zarr.json"), meta, f"{shown}/{name}"))
    return found


def part_facts(marker: Mapping[str, Any], rows: PartRows, choice: SampleChoice) -> dict[str, Any]:
    """What the part's marker says: the release's facts, the part's own counts, and part_of."""
    paired, reasons = rows.column("paired"), [reason for reason in rows.column("unpaired_reason") if reason]
    counts = {"accepted": len(paired), "paired": sum(paired), "unpaired": len(paired) - sum(paired)}
    return {
        **{key: value for key, value in marker.items() if key not in _SEALS},
        "counts": {**dict.fromkeys(marker["counts"], 0), "candidates": len(paired), **counts},
        "by_split": {split: len(rows.splits.get(split, ())) for split in SPLITS},
        "unpaired_by_reason": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "rejected_by_reason": {},
        PART_OF: {**choice.request(marker["manifest_sha256"]), "samples": len(rows.samples), "words": choice.words},
    }


def wrong_pixels(rows: PartRows, hashes: Mapping[str, Mapping[str, str]]) -> Iterable[str]:
    """Ids of the selected samples whose pixels are not those of the release's lock. hashes: by sample_id, by array."""
    expected = rows.column("pixel_hash")
    return [name for name, known in zip(rows.ids, expected, strict=True) if pixel_hash(hashes[name]) != known]
