"""What differs between two releases: samples added, removed, changed in their pixels, moved between splits.

Either may be a part of a release. What its release has and the part does not hold is left out of the comparison, and
told as such: it was not selected, which is not to be removed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sar1m.releases.sample_parts import RELEASE_DIR
from sar1m.releases.versions import LOCK_FILE
from sar1m.stages.deciding import Code, codes_of, in_words
from sar1m.store.errors import StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.schema import SAMPLES_FILE, group_name
from sar1m.store.seal import Seal, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.shard_index import shard_name

_HASHES: Final = {"sar": "sar_hash", "optical": "optical_hash"}


@dataclass(frozen=True, kw_only=True)
class ChangedSample:
    """arrays: those whose pixels differ, sar before optical; other where neither does (terrain layers)."""

    sample_id: str
    arrays: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class MovedSample:
    """The split it was in, and the one it is in now."""

    sample_id: str
    before: str
    after: str


@dataclass(frozen=True, kw_only=True)
class ReleaseDiff:
    """before, after: titles of the releases. All samples in the order of their ids; unchanged: how many are in both,
    with the same pixels, in the same split.

    before_part, after_part: which part of it is compared, in words; empty for a whole release. not_held: samples that
    both releases have and one of the parts does not hold; nothing is known of their pixels.

    code: modules and libraries that made after and not before; empty where nothing differs or one of them, of a schema
    before 1.3, does not say.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[ChangedSample, ...]
    moved: tuple[MovedSample, ...]
    unchanged: int
    before_part: str = ""
    after_part: str = ""
    not_held: tuple[str, ...] = ()
    code: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether both hold the same samples with the same pixels in the same splits, as far as parts hold them."""
        return not (self.added or self.removed or self.changed or self.moved)

    def to_json(self) -> dict[str, Any]:
        """JSON values, complete."""
        return {
            "before": self.before,
            "before_part": self.before_part,
            "after": self.after,
            "after_part": self.after_part,
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [{"sample_id": one.sample_id, "arrays": list(one.arrays)} for one in self.changed],
            "moved": [{"sample_id": one.sample_id, "before": one.before, "after": one.after} for one in self.moved],
            "unchanged": self.unchanged,
            "not_held": list(self.not_held),
            "code": list(self.code),
        }

    def lines(self, most: int = 20) -> Iterator[str]:
        """A table for a terminal: counts, then at most so many samples of each kind."""
        yield f"{self.before} -> {self.after}"
        for title, part in ((self.before, self.before_part), (self.after, self.after_part)):
            if part:
                yield f"{title}: {part}. Samples that it does not hold are not compared."
        kinds: dict[str, list[str]] = {
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": [f"{one.sample_id}  {', '.join(one.arrays)}" for one in self.changed],
            "moved": [f"{one.sample_id}  {one.before} -> {one.after}" for one in self.moved],
        }
        for kind, samples in kinds.items():
            yield f"{kind:<10}{len(samples):>12,}"
        yield f"{'unchanged':<10}{self.unchanged:>12,}"
        if self.before_part or self.after_part:
            yield f"{'not held':<10}{len(self.not_held):>12,}"
        if self.code:
            yield f"made by other code: {in_words(list(self.code))}"
        for kind, samples in kinds.items():
            yield from (f"{kind:<10}{sample}" for sample in samples[:most])
            if len(samples) > most:
                yield f"{kind:<10}... and {len(samples) - most:,} more (all of them: --json)"


def diff(before: Path, after: Path) -> ReleaseDiff:
    """Compares two releases or parts of releases in folders by their tables; no pixel is read.

    A sample is removed where the release that after is, or is a part of, does not have it. Raises StoreError where one
    is no release.
    """
    one, other = _read(before), _read(after)
    old, new = one.held, other.held
    both = old.merge(new, left_index=True, right_index=True, suffixes=("_old", "_new"))
    moved = both["split_old"] != both["split_new"]
    changed = both["pixel_hash_old"] != both["pixel_hash_new"]
    pairs = both.loc[moved, ["split_old", "split_new"]].itertuples(name=None)
    return ReleaseDiff(
        before=one.seal.title,
        after=other.seal.title,
        added=_names(new.index.difference(one.ids)),
        removed=_names(old.index.difference(other.ids)),
        changed=tuple(
            ChangedSample(sample_id=str(name), arrays=_arrays(row)) for name, row in both[changed].iterrows()
        ),
        moved=tuple(MovedSample(sample_id=str(name), before=str(a), after=str(b)) for name, a, b in pairs),
        unchanged=int((~moved & ~changed).sum()),
        before_part=one.seal.part,
        after_part=other.seal.part,
        not_held=_names(one.ids.intersection(other.ids).difference(both.index)),
        code=tuple(one.code.differences(other.code)) if one.code.modules and other.code.modules else (),
    )


def _code_of(release: Path, files: Iterable[str]) -> Code:
    """Of all its builds; digests and versions that differ between them side by side."""
    modules: dict[str, str] = {}
    libraries: dict[str, str] = {}
    for code in codes_of(FolderPlace(release), files):
        for whole, part in ((modules, code.modules), (libraries, code.libraries)):
            for name, found in part.items():
                held = set(whole.get(name, found).split(" and "))
                whole[name] = " and ".join(sorted(held | {found}))
    return Code(modules=modules, libraries=libraries)


def _names(index: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(map(str, index)))


def _arrays(row: pd.Series) -> tuple[str, ...]:
    different = tuple(
        array for array, column in _HASHES.items() if (row[f"{column}_old"] or "") != (row[f"{column}_new"] or "")
    )
    return different or ("other",)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Compared:
    """held: split and hashes by sample_id, in the order of the ids. ids: of the whole release. code: that made it."""

    seal: Seal
    code: Code
    held: pd.DataFrame
    ids: pd.Index


def _read(release: Path) -> _Compared:
    seal = require_seal(FolderPlace(release), RELEASE_MARKERS)
    lock = _columns(release / LOCK_FILE, ["sample_id", *_HASHES.values(), "pixel_hash"])
    splits = _columns(release / SAMPLES_FILE, ["sample_id", "split"])
    if not lock.index.is_unique or set(lock.index) != set(splits.index):
        raise StoreError(
            f"{release}: {LOCK_FILE} and {SAMPLES_FILE} list different samples. Check it with `sar1m verify`."
        )
    held, ids = lock.join(splits).sort_index(), lock.index
    if seal.part_of is not None:
        ids = _columns(release / RELEASE_DIR / LOCK_FILE, ["sample_id"]).index
    elif seal.part:
        shards = _columns(release / SAMPLES_FILE, ["sample_id", "split", "shard"])
        names = [f"{group_name(one.split)}/{shard_name('sar', one.shard)}" for one in shards.itertuples()]
        held = held.loc[sorted(shards.index[[name in seal.files for name in names]])]
    return _Compared(seal=seal, code=_code_of(release, seal.files), held=held, ids=ids)


def _columns(path: Path, names: list[str]) -> pd.DataFrame:
    """Some columns of a table of a release, by sample_id; texts as Python objects, None where empty."""
    try:
        table = pq.read_table(path, columns=names)
        frame = pd.DataFrame({name: pd.Series(table[name].to_pylist(), dtype=object) for name in names})
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        raise StoreError(f"{path}: cannot be read ({type(error).__name__}). Check it with `sar1m verify`.") from error
    return frame.set_index("sample_id")
