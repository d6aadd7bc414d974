"""From figures to tables and words: what is compared, and what was decided."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measure import Section

MB = 1e6
PLAIN = "plain Zarr, as released"
DIRECT = "our release, our reader"
FULL_SAMPLES, FULL_SHARD = 1_000_000, 512  # the size that releases are made for, and the configuration's shard
HUB_FILES = 100_000


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything measured. writing: by layout and newer version, rounds of figures of both versions; reading: by
    contender, rounds; damage: by layout, by kind; readers: by store, by reader."""

    releases: dict[str, Path]
    writing: dict[tuple[str, str], list[Any]]
    reading: dict[str, list[dict[str, float]]]
    damage: dict[str, dict[str, Any]]
    readers: dict[str, dict[str, str]]
    references: dict[str, Any]
    versions: dict[str, str]


def sections(found: Findings) -> list[Section]:
    """In the order in which they are read."""
    return [
        _decision(found), _size(found), _full_size(found), _reading(found), _damage(found), _readers(found), _others()
    ]  # fmt: skip


def _decision(found: Findings) -> Section:
    one = _ratio(found, DIRECT, "one_rate", lambda label: "Icechunk" in label)
    through = _ratio(found, PLAIN, "one_rate", lambda label: "Icechunk" in label)
    note = f"""Releases stay folders of plain Zarr v3 shards, whole, with one manifest; a new version is a new folder.

A release is read by strangers for years, checked by them, and changes rarely: three versions, not three thousand. For
that the folder wins where it matters. Common readers of Zarr open it with nothing installed besides (GDAL once it knows
sharding). Our own reader goes to the shards' bytes: it gives single random samples at {one} the rate of the
fastest Icechunk layout, and has no way into an Icechunk repository. Through zarr-python alone the formats differ less:
plain Zarr in shards is at {through} that layout, which has a chunk a sample. `sha256sum --check` and
`sar1m verify` find every damage and name the file; Icechunk's library offers no such check, and refuses only what a
chunk's own crc32c and its length give away, when that chunk is read. A copy is a copy: rsync, a web server, the hub.

Icechunk is better at two things. Adding samples costs what they weigh instead of a whole release. And it knows which
objects there must be: a deleted shard is an error and two exchanged ones are refused, where zarr-python reads a plain
store's missing shard as no data and an exchanged one as if it were right (our reader and `verify` refuse both, and a
user of zarr-python alone must verify first). Branches, tags, several writers, and commits that no reader sees half done
come besides; of these we have a folder that is renamed when whole, semver, tombstones and `sar1m diff`.

What a version costs us follows from the order, not from the format: a release numbers its samples by a hash, so new
ones stand among the old, every shard changes, and no link to a former version's shard is possible. With new samples
behind the old ones plain shards cost what Icechunk's shards cost; a chunk a sample, Icechunk's cheapest layout, makes
two million objects of a million samples, where the hub takes {HUB_FILES:,} files a repository.

We would decide otherwise for a store that grows every day or that several write at once, such as a build that follows
the satellites: then Icechunk over object storage, with shards that are appended to. The step is small: the same shards
can go in, or be pointed at as virtual chunks without a copy, and a release can be exported from it. Should only the
cost of versions hurt, appending in plain shards comes first."""
    return Section(title="The comparison and the decision", note=note, rows=_summary(found))


def _summary(found: Findings) -> list[dict[str, Any]]:
    icechunk = "Icechunk, sharded, as released"
    rates = {label: median(run["one_rate"] for run in runs) for label, runs in found.reading.items()}
    cpu = {label: median(run["one_cpu_ms"] for run in runs) for label, runs in found.reading.items()}
    damaged = found.damage[DIRECT]
    named = sum(bool(one["verify"]) for one in damaged.values())
    quiet = {
        label: sum(one.get("silently wrong", 0) > 0 for name, one in found.damage[label].items() if name != "none")
        for label in (PLAIN, icechunk)
    }
    kinds = len(damaged)
    opened = {store: sum(told == "yes" for told in readers.values()) for store, readers in found.readers.items()}
    appended = found.writing["Icechunk, a chunk a sample, appended", "1.1.0"]
    return [
        _row(
            "readers that open it with no extra package", *(f"{opened[s]} of {len(found.readers[s])}" for s in opened)
        ),
        _row("read by our direct reader", "yes", "no"),
        _row("one random sample, samples/s", f"{rates[DIRECT]:,.0f} (zarr-python: {rates[PLAIN]:,.0f})", _best(rates)),
        _row("its CPU ms", f"{cpu[DIRECT]:.2f} (zarr-python: {cpu[PLAIN]:.2f})", _best(cpu, least=True)),
        _row("a version with samples added, MB", _mb(found, PLAIN, "1.1.0"), f"{_added(appended) / MB:.2f} at best"),
        _row("kinds of damage that its own check names", f"{named} of {kinds}", "no check"),
        _row("kinds that zarr-python reads wrongly, silently", *(f"{quiet[one]} of {kinds}" for one in quiet)),
        _row("verified without its library (sha256sum)", "yes", "no"),
        _row("commits, branches, several writers", "no", "yes"),
    ]


def _row(what: str, ours: str, icechunk: str) -> dict[str, Any]:
    return {"": what, "our release": ours, "Icechunk": icechunk}


def _best(figures: dict[str, float], *, least: bool = False) -> str:
    best = (min if least else max)(figure for label, figure in figures.items() if "Icechunk" in label)
    return f"{best:.2f} (best layout)" if least else f"{best:,.0f} (best layout)"


def _ratio(found: Findings, label: str, figure: str, against: Callable[[str], bool]) -> str:
    """Median over the rounds, of the best of the others in that round."""
    others = [other for other in found.reading if against(other)]
    ratios = [
        run[figure] / max(found.reading[other][number][figure] for other in others)
        for number, run in enumerate(found.reading[label])
    ]
    return f"{median(ratios):.2g} times"


def _added(rounds: list[Any]) -> float:
    return float(median(figures[1]["added_bytes"] for figures in rounds))


def _mb(found: Findings, label: str, newer: str) -> str:
    return f"{_added(found.writing[label, newer]) / MB:.2f}"


def _size(found: Findings) -> Section:
    rows = []
    for label in dict.fromkeys(label for label, _ in found.writing):
        first = [figures[0] for figures in found.writing[label, "1.1.0"]]
        row: dict[str, Any] = {
            "layout": label,
            "1.0.0, MB": f"{first[0]['whole_bytes'] / MB:.2f}",
            "objects": first[0]["whole_objects"],
        }
        for newer in ("1.1.0", "2.0.0"):
            figures = found.writing[label, newer]
            row[f"{newer} adds, MB"] = f"{_added(figures) / MB:.2f}"
            row[f"objects in {newer}"] = int(median(one[1]["added_objects"] for one in figures))
        row["writing 1.0.0, wall s"] = float(median(one["wall_s"] for one in first))
        row["CPU s"] = float(median(one["cpu_s"] for one in first))
        row["writing 1.1.0, wall s "] = float(median(one[1]["wall_s"] for one in found.writing[label, "1.1.0"]))
        rows.append(row)
    whole = {version: _folder(root) for version, root in found.releases.items()}
    told = ", ".join(f"{version}: {size / MB:.1f} MB in {count} files" for version, (size, count) in whole.items())
    note = (
        "The arrays sar and optical of the train split, 16 samples a shard, all through zarr-python from decoded "
        "pixels (virtual: references alone). 1.1.0 adds samples, 2.0.0 adds some and removes some. What a version "
        "adds: in plain Zarr the files that differ from those of the version before it (the others could be hard "
        "links, or copies inside a bucket; `sar1m publish` makes neither, it writes the whole version); in Icechunk "
        "the new objects, those of chunks that no version uses any more included until garbage is collected. As "
        "released: the order of the release, drawn by a hash; appended: new samples behind the old ones, removed ones"
        " emptied, which no release of ours does. Medians of three rounds. Whole releases, tables and page included: "
        f"{told}."
    )
    return Section(title="Size, and time to write", note=note, rows=rows)


def _folder(root: Path) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file()]
    return sum(sizes), len(sizes)


def _full_size(found: Findings) -> Section:
    shards = -(-FULL_SAMPLES // FULL_SHARD)
    touched = 1 - (1 - 0.01) ** FULL_SHARD
    references = found.references
    rows = [
        {"at a million samples, 512 a shard": "1 % more samples, as released", "share of the pixels' bytes": "100 %"},
        {"at a million samples, 512 a shard": "1 % more samples, appended", "share of the pixels' bytes": "1 %"},
        {
            "at a million samples, 512 a shard": "1 % removed anywhere, shards rewritten",
            "share of the pixels' bytes": f"{touched:.1%}",
        },
        {"at a million samples, 512 a shard": "1 % removed, a chunk a sample", "share of the pixels' bytes": "0 %"},
    ]
    note = (
        f"Computed, not measured. Objects of two arrays: {2 * shards:,} in shards, {2 * FULL_SAMPLES:,} with a chunk a "
        f"sample. Measured: an Icechunk repository with {references['number']:,} references (virtual, all to one "
        "file, which compresses well) "
        f"takes {references['commit_s']:.1f} s to commit, its manifest {references['manifest_bytes'] / MB:.1f} MB, "
        f"{1000 * references['open_s']:.0f} ms to open and {1000 * references['first_read_s']:.0f} ms until the first "
        "sample is read, since the manifest comes first; a plain store needs a zarr.json and one shard's index."
    )
    return Section(title="At full size", note=note, rows=rows)


def _reading(found: Findings) -> Section:
    rows = []
    for label, runs in found.reading.items():
        row: dict[str, Any] = {"reader": label if label == DIRECT else f"{label}, zarr-python"}
        for title, figure in (
            ("open, ms", "open_ms"),
            ("first time, ms", "first_open_ms"),
            ("one random sample, /s", "one_rate"),
            ("CPU ms a sample", "one_cpu_ms"),
            ("32 random, samples/s", "batch_rate"),
            ("CPU ms each", "batch_cpu_ms"),
            ("32 neighbours, samples/s", "run_rate"),
            ("CPU ms each ", "run_cpu_ms"),
        ):
            row[title] = float(median(run[figure] for run in runs))
        rows.append(row)
    note = (
        "SAR and optical pixels of version 1.1.0, decoded and checked against their crc32c, from local files in the "
        "page cache; medians of five rounds in another order each, a process a figure. Ours runs in one thread; "
        "zarr-python uses its own. Opening of ours reads and checks the manifest and the small arrays as well. 32 "
        "random samples through zarr-python are `array.oindex[rows]`, which is slow on shards (slower than one by "
        "one), in plain Zarr and Icechunk alike. Nothing here was measured over a network, where Icechunk's manifest "
        "saves listings and ours saves none because its shards are at known names."
    )
    return Section(title="Reading", note=note, rows=rows)


def _damage(found: Findings) -> Section:
    kinds = list(found.damage[DIRECT])
    rows = []
    for label, by_kind in found.damage.items():
        who = label if label == DIRECT else f"{label}, zarr-python"
        rows.append({"store and reader": who, **{kind: _outcome(by_kind[kind]) for kind in kinds}})
    ours = found.damage[DIRECT]
    for check in ("verify", "sha256sum"):
        named = {kind: f"names {len(ours[kind][check])}" for kind in kinds}
        rows.append(
            {"store and reader": f"our release, {'sar1m verify' if check == 'verify' else 'sha256sum'}", **named}
        )
    note = (
        "Samples of the train split after one file of SAR pixels (a shard, or a chunk where a chunk is a sample; for "
        "metadata: zarr.json or Icechunk's manifest) was damaged: right / refused / silently wrong. Icechunk names its "
        "chunks at random and keeps no digest of them; its library has no verification (garbage_collect and "
        "inspect_snapshot read no chunk), and sha256sum has nothing to compare with. Sharded layouts lose a shard's 16 "
        "samples at once; ours refuses to open a local store in which a shard has another size than it should."
    )
    return Section(title="Damage", note=note, rows=rows)


def _outcome(one: dict[str, Any]) -> str:
    return " / ".join(str(one.get(name, 0)) for name in ("right", "refused", "silently wrong"))


def _readers(found: Findings) -> Section:
    names = list(next(iter(found.readers.values())))
    rows = [{"reader": name, **{store: found.readers[store][name] for store in found.readers}} for name in names]
    told = ", ".join(f"{name} {number}" for name, number in found.versions.items())
    note = (
        f"Each tried on the first SAR sample, against the pixels ({told}). GDAL reads Zarr v3, but the GDAL 3.10 in "
        "this rasterio no sharding. With the package icechunk installed, zarr-python and xarray open a repository "
        "through its store; npm has a JavaScript package as well (not tried). Icechunk 2, which needs Python 3.12, was "
        "not measured: it adds moving chunks within an array without rewriting them (its documentation, "
        "moving-chunks.md), so that a chunk a sample could follow the order of a release at the cost of metadata."
    )
    return Section(title="Who opens it", note=note, rows=rows)


def _others() -> Section:
    rows = [
        {
            "tool": "DVC",
            "how it versions": "files by MD5 in a cache, folders as JSON lists of them; pointers in Git",
            "for us": "deduplicates whole files as links would: no shard of ours stays the same; a reader needs DVC",
            "source": "https://dvc.org/doc/user-guide/project-structure/internal-files",
        },
        {
            "tool": "lakeFS",
            "how it versions": "a server before the object store; branches and commits are pointers to objects",
            "for us": "copy-on-write of whole objects; strangers would need our server, or an export",
            "source": "https://docs.lakefs.io/understand/model",
        },
        {
            "tool": "Git LFS, the Hugging Face hub",
            "how it versions": "pointer files with sha256 and size in Git, contents by sha256 beside it",
            "for us": "what publishing to hf:// uses: a tag a version, unchanged files stored once",
            "source": "https://docs.rs/git-lfs-pointer/0.4.0/git_lfs_pointer/",
        },
    ]
    note = "Not measured. All of them version whole files, which for our order means whole releases."
    return Section(title="Others, in words", note=note, rows=rows)
