"""The way of a part by samples into its folder: tables, then what is copied, then what is cut, the marker last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sar1m.io.tables import read_arrow
from sar1m.releases.array_chunks import AT_ONCE, ArrayChunks
from sar1m.releases.fetching import GetSummary, WantedFile, fetch, require_free, require_plain
from sar1m.releases.sample_parts import (
    CUT_TABLES,
    RELEASE_DIR,
    REQUEST_FILE,
    PartRows,
    SampleChoice,
    cut_arrays,
    images_of,
    part_facts,
    part_name,
    select,
    wrong_pixels,
)
from sar1m.store.durable import (
    FileDigest,
    digest_file,
    json_bytes,
    remove_partials,
    remove_tree,
    settle_folders,
    write_durably,
)
from sar1m.store.errors import OutputError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.places.folder import FolderPlace
from sar1m.store.places.place import Place
from sar1m.store.progress import Watch
from sar1m.store.schema import MANIFEST_FILE, PARTIAL_FILE, RELEASE_MARKER_FILE, SIGNATURE_FILE, SPLITS, group_name
from sar1m.store.seal import REMEDY, Seal, SealedFile, write_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.shard_index import SHARD_NAME, shard_name, shard_pieces
from sar1m.store.side_files import read_json


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The release that a part is taken of. signature: of its manifest, None where there is none."""

    place: Place
    seal: Seal
    signature: bytes | None


def get_samples(origin: Origin, out: Path, choice: SampleChoice, watch: Watch) -> GetSummary:
    """Brings a part by samples into out, or goes on with one that was interrupted. See portions.get.

    Raises ConfigError where nothing, or nothing that can be, is selected; StoreError where what comes is not what the
    release's manifest and lock say; OutputError where out holds something else.
    """
    place, seal = origin.place, origin.seal
    request = choice.request(seal.marker["manifest_sha256"])
    _require_ours(out, request)
    with output_lock(out):
        remove_partials(out)
        for name in RELEASE_MARKERS:
            remove_tree(out / name)
        part = _Part(place=place, seal=seal, out=out)
        part.put({REQUEST_FILE: json_bytes(request)})
        tables = {str(part_name(name)): name for name in CUT_TABLES}
        part.copy(tables, watch)
        samples, lock = (read_arrow(out / name) for name in tables)
        rows = select(samples, lock, choice)
        part.copy(_copied(seal, rows), watch)
        part.cut(rows, watch)
        if origin.signature is not None:
            part.put({f"{RELEASE_DIR}/{SIGNATURE_FILE}": origin.signature})
        settle_folders(out)
        write_seal(out, part.digests, part_facts(seal.marker, rows, choice), PARTIAL_FILE)
    remove_tree(out / "build-log")
    return GetSummary(
        title=seal.title,
        out=out,
        fetched=part.fetched,
        fetched_bytes=part.fetched_bytes,
        kept=part.kept,
        left_out=sum(part_name(name) is None and not SHARD_NAME.fullmatch(name) for name in seal.files),
        part=f"{len(rows.rows):,} of {len(rows.samples):,} samples",
    )


def _require_ours(out: Path, request: Mapping[str, Any]) -> None:
    """Raises OutputError unless out is new, empty, holds this very part, or only the tables of the same release."""
    there = require_plain(out)
    found = None
    if REQUEST_FILE in there:
        found = read_json(out / REQUEST_FILE, error=OutputError, remedy="Give a new or empty folder.")
    same = found is None or (isinstance(found, dict) and found.get("manifest_sha256") == request["manifest_sha256"])
    begun = all(name.startswith(("build-log/", f"{RELEASE_DIR}/")) for name in there)
    if found != request and not (begun and same):
        raise OutputError(f"{out}: holds something else, or another part of a release. Give a new or empty folder.")


def _copied(seal: Seal, rows: PartRows) -> dict[str, str]:
    """Files of the release that come as they are: name in the part, name in the release."""
    unused = tuple(f"{group_name(split)}/" for split in SPLITS if split not in rows.splits)
    names = [name for name in seal.files if not name.startswith(unused) and name not in CUT_TABLES]
    return {new: name for name in names if (new := part_name(name)) is not None}


@dataclass(kw_only=True, eq=False)
class _Part:
    """A part on its way. digests: of what is there, by name. fetched, kept: files and shards; their bytes."""

    place: Place
    seal: Seal
    out: Path
    digests: dict[str, FileDigest] = field(default_factory=dict)
    fetched: int = 0
    fetched_bytes: int = 0
    kept: int = 0

    def put(self, files: Mapping[str, bytes]) -> None:
        """Writes small files that are made here."""
        for name, content in files.items():
            self.digests[name] = write_durably(require_free(self.out, name), [content])

    def copy(self, names: Mapping[str, str], watch: Watch) -> None:
        """Brings files of the release: name here, name there."""
        wanted = {new: WantedFile(source=name, expected=self.seal.files[name]) for new, name in names.items()}
        came = fetch(self.place, wanted, self.out, watch)
        self.fetched += len(came)
        self.kept += len(wanted) - len(came)
        self.fetched_bytes += sum(one.expected.size or 0 for one in came)
        for new, one in wanted.items():
            self.digests[new] = FileDigest(sha256=one.expected.sha256 or "", size=one.expected.size or 0)

    def cut(self, rows: PartRows, watch: Watch) -> None:
        """Cuts tables, arrays and shards to the selected samples, and compares every pixel with the release's lock."""
        self.put({f"{RELEASE_DIR}/{MANIFEST_FILE}": self.seal.manifest_bytes})
        self.put({f"{RELEASE_DIR}/{RELEASE_MARKER_FILE}": self.seal.marker_bytes})
        hashes: dict[str, dict[str, str]] = {name: {} for name in rows.ids}
        slots = 1
        with watch.stage("samples", len(rows.splits)) as step, ThreadPoolExecutor(AT_ONCE) as pool:
            for split in rows.splits:
                group = group_name(split)
                arrays = cut_arrays(self._whole_group(group), rows, split)
                self.put({f"{group}/{name}": content for name, content in arrays.items()})
                for image in images_of(arrays, group):
                    slots = image.layout.shard_samples
                    source = ArrayChunks(self.place, self.seal.files, group, image, pool)
                    self._shards(rows, split, source, hashes)
                    self.fetched_bytes += source.read_bytes
                step()
        self.put(rows.tables(slots))
        for name in wrong_pixels(rows, hashes):
            raise StoreError(
                f"{self.place.location}: sample {name}: its pixels differ from the release's lock. {REMEDY}"
            )

    def _whole_group(self, group: str) -> dict[str, bytes]:
        folder = self.out / RELEASE_DIR / group
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def _shards(self, rows: PartRows, split: str, source: ArrayChunks, hashes: Mapping[str, dict[str, str]]) -> None:
        """Every shard of one array, those that are there already and right left alone."""
        array, slots = source.image.layout.name, source.image.layout.shard_samples
        ids = [rows.ids[member] for member in rows.splits[split]]
        numbers = rows.with_chunk(source, split, rows.numbers(split).tolist())
        expected = rows.expected(array, split)
        for shard, first in enumerate(range(0, len(ids), slots)):
            some = slice(first, first + slots)
            if all(number is None for number in numbers[some]):
                continue
            name = f"{group_name(split)}/{shard_name(array, shard)}"
            found = self._held(name, source, first, numbers[some])
            if found is not None and _agree(found, expected[some]):
                self.digests[name] = digest_file(self.out / name)
                self.kept += 1
            else:
                found = []
                pieces = shard_pieces(self._chunks(source, numbers[some], ids[some], found), slots=slots)
                self.digests[name] = write_durably(require_free(self.out, name), pieces)
                self.fetched += 1
                for one, a, b in zip(ids[some], found, expected[some], strict=True):
                    if not _agree([a], [b]):
                        raise StoreError(
                            f"{self.place.location}: sample {one}, {array}: its pixels differ from the release's lock. "
                            f"{REMEDY}"
                        )
            for one, pixels in zip(ids[some], found, strict=True):
                if pixels is not None:
                    hashes[one][array] = pixels

    def _held(
        self, name: str, source: ArrayChunks, first: int, numbers: Sequence[int | None]
    ) -> list[str | None] | None:
        """Hashes of the pixels of a shard that is there, None where it is not, or not whole."""
        path = self.out / name
        if path.is_symlink() or not path.is_file():
            return None
        held = source.elsewhere(FolderPlace(self.out), {name: SealedFile(sha256=None, size=path.stat().st_size)})
        here = [None if number is None else first + slot for slot, number in enumerate(numbers)]
        try:
            return list(held.hashes(here))
        except StoreError:
            return None

    def _chunks(
        self, source: ArrayChunks, numbers: Sequence[int | None], ids: Sequence[str], found: list[str | None]
    ) -> Iterator[bytes | None]:
        """The chunks, whose hashes are added to found as they pass."""
        for one, chunk in zip(ids, source.chunks(numbers), strict=True):
            found.append(None if chunk is None else source.hash_of(chunk, one))
            yield chunk


def _agree(found: Sequence[str | None], expected: Sequence[str | None]) -> bool:
    return all(b is None or a == b for a, b in zip(found, expected, strict=True))
