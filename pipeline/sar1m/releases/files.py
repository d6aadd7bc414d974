"""Everything inside a release, file by file in a fixed order: pixels, tables, statistics, provenance, catalogues, the
page; then the search for private things and the seal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any, Final

from sar1m.io.tables import parquet_bytes
from sar1m.releases import licences, stats_files
from sar1m.releases.audit import blocks_parquet, split_parquet
from sar1m.releases.build_pixels import pixel_hash
from sar1m.releases.card import card_files
from sar1m.releases.citation import citation_files
from sar1m.releases.contents import (
    ATTRIBUTION_FILE,
    AUDIT_FILE,
    BLOCKS_FILE,
    LICENCES_FILE,
    RECIPES_FILE,
    SPLITS_DIR,
    TOMBSTONES_FILE,
    ReleaseFacts,
)
from sar1m.releases.croissant import croissant_files
from sar1m.releases.explorer.explorer_page import explorer_files
from sar1m.releases.preview import preview_files
from sar1m.releases.privacy import require_private
from sar1m.releases.provenance import lock_parquet, recipes_parquet
from sar1m.releases.selection import ReleaseSelection
from sar1m.releases.shards import Packed, pack
from sar1m.releases.stac import stac_files
from sar1m.releases.versions import LOCK_FILE, Changes, changes_since, require_semver, tombstones_parquet
from sar1m.stages.pack import all_checksum_files, environment_text, metadata_files
from sar1m.store.durable import FileDigest, digest_file, json_bytes, write_durably
from sar1m.store.progress import Watch
from sar1m.store.schema import PROVENANCE_DIR, RELEASE_MARKER_FILE, SAMPLES_FILE, SCHEMA_VERSION, SPLITS, STATS_DIR
from sar1m.store.seal import payload_files, write_seal
from sar1m.store.table_columns import FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS
from sar1m.store.version import __version__

Generator = Callable[[ReleaseFacts], dict[str, bytes]]
# In this order: each may read what those before it wrote; croissant.json describes them all.
GENERATORS: Final[tuple[Generator, ...]] = (
    preview_files,
    stac_files,
    citation_files,
    explorer_files,
    card_files,
    croissant_files,
)


class _Writer:
    """Files of the release under way, and their digests."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.digests: dict[str, FileDigest] = {}

    def put(self, files: Mapping[str, bytes | None]) -> None:
        """Writes files by relative name; None is no file."""
        for name, content in files.items():
            if content is not None:
                self.digests[name] = write_durably(self.root / name, [content])

    def note(self, digests: Mapping[Path, FileDigest]) -> None:
        """Takes over what others wrote."""
        self.digests |= {path.relative_to(self.root).as_posix(): digest for path, digest in digests.items()}


def write_contents(
    root: Path,
    records: Path,
    choice: ReleaseSelection,
    identity: Mapping[str, Any],
    secrets: Mapping[str, str],
    watch: Watch,
) -> None:
    """Writes a whole sealed release into root, keeping shards that an earlier run finished.

    records: where the shards' records lie. identity: name, version, where given published and url, and what else of
    its origin the marker shall say. secrets: see privacy.own_secrets. Raises StoreError, ConfigError and OutputError as
    make.make_release.
    """
    writer = _Writer(root)
    samples, builds = choice.samples, choice.merged.builds
    named = {key: identity[key] for key in ("name", "version")}
    writer.put(metadata_files(samples, builds[0].images, {**named, "kind": asdict(builds[0].kind)}))
    packed = pack(root, records, samples, builds, watch)
    writer.note(packed.digests)
    counts = {split: int((samples["split"] == split).sum()) for split in SPLITS}
    writer.put(all_checksum_files(counts, builds[0].images, packed.checksums))
    changes = _changes(choice, identity["version"], packed)
    with watch.stage("tables and catalogues", 0):
        writer.put(_tables(choice, packed, changes, identity["version"]))
        writer.put(_provenance(choice, identity["name"]))
        facts = _facts(root, choice, packed, changes, identity)
        writer.put(_statistics(choice, packed, facts))
        for generate in GENERATORS:
            writer.put(generate(facts))
    summarised = {key: facts.summary[key] for key in ("by_split", "rejected_by_reason", "unpaired_by_reason", "region")}
    marker = {
        **identity,
        **summarised,
        "counts": facts.counts,
        "schema_version": SCHEMA_VERSION,
        "code_version": __version__,
        "previous": facts.previous,
        "changes": facts.changes,
        "builds": [build.digest for build in builds],
    }
    _seal(writer, marker, secrets)


def _facts(
    root: Path, choice: ReleaseSelection, packed: Packed, changes: Changes, identity: Mapping[str, Any]
) -> ReleaseFacts:
    samples = choice.samples
    summary = stats_files.summary_of(identity["name"], identity["version"], choice.merged, samples, choice.rejected)
    return ReleaseFacts(
        root=root,
        name=identity["name"],
        version=identity["version"],
        samples=samples[[column.name for column in SAMPLE_COLUMNS]],
        rejected=choice.rejected,
        counts=summary["counts"],
        normalisation=stats_files.normalisation_of(packed, choice.merged.builds[0].images, samples),
        audit=choice.audit,
        summary=summary,
        licences=licences.licence_rows(samples),
        years=licences.years_of(samples),
        previous=None if choice.previous is None else choice.previous.version,
        changes=changes.counts(),
        published=None if "published" not in identity else date.fromisoformat(identity["published"]),
        url=identity.get("url"),
    )


def _statistics(choice: ReleaseSelection, packed: Packed, facts: ReleaseFacts) -> dict[str, bytes | None]:
    """Licences, audit and statistics as files."""
    samples, images = choice.samples, choice.merged.builds[0].images
    stats = {
        "summary": facts.summary,
        "self_test": stats_files.self_test_of(choice.merged, samples, choice.rejected),
        "normalisation": facts.normalisation,
        "coverage": stats_files.coverage_of(samples),
        "histograms": stats_files.histograms_of(packed, images, samples, choice.rejected),
    }
    return {
        AUDIT_FILE: json_bytes(facts.audit),
        LICENCES_FILE: licences.licences_csv(facts.licences),
        ATTRIBUTION_FILE: licences.attribution_md(samples, facts.licences, facts.title),
        **{f"{STATS_DIR}/{name}.json": json_bytes(value) for name, value in stats.items()},
    }


def _changes(choice: ReleaseSelection, version: str, packed: Packed) -> Changes:
    names = choice.samples["sample_id"].tolist()
    if choice.previous is None:
        return Changes(added=tuple(sorted(names)), removed=(), changed=(), moved=())
    hashes = {name: pixel_hash(packed.hashes[name]) for name in names}
    changes = changes_since(choice.previous, choice.samples, hashes)
    require_semver(version, choice.previous.version, changes)
    return changes


def _tables(choice: ReleaseSelection, packed: Packed, changes: Changes, version: str) -> dict[str, bytes | None]:
    samples, builds, previous = choice.samples, choice.merged.builds, choice.previous
    return {
        SAMPLES_FILE: parquet_bytes(samples, SAMPLE_COLUMNS),
        BLOCKS_FILE: blocks_parquet(samples),
        **{f"{SPLITS_DIR}/{split}.parquet": split_parquet(samples, split) for split in SPLITS},
        f"{PROVENANCE_DIR}/rejected.parquet": parquet_bytes(choice.rejected, REJECTED_COLUMNS),
        f"{PROVENANCE_DIR}/failed.parquet": parquet_bytes(choice.merged.failed, FAILED_COLUMNS),
        LOCK_FILE: lock_parquet(samples, builds, packed.hashes),
        RECIPES_FILE: recipes_parquet(samples, builds),
        TOMBSTONES_FILE: tombstones_parquet(previous, changes, version, choice.rejected) if previous else None,
    }


def _provenance(choice: ReleaseSelection, name: str) -> dict[str, bytes | None]:
    """config.toml is the newest build's under the release's name; every build's own stands below builds/."""
    builds = choice.merged.builds
    config = builds[-1].config.portable().model_copy(update={"name": name})
    files: dict[str, bytes | None] = {
        "config.toml": config.to_toml().encode(),
        "environment.txt": environment_text().encode(),
        "code_version.txt": f"sar1m {__version__}\n".encode(),
        "builds.json": json_bytes([_build_row(build.short, build.marker) for build in builds]),
    }
    for build in builds:
        for kept in ("config.toml", "environment.txt", "code.json"):
            path = build.root / PROVENANCE_DIR / kept
            if path.name != "code.json" or path.is_file():  # schema 1.3 and later
                files[f"builds/{build.short}/{kept}"] = path.read_bytes()
    if builds[-1].footprints is not None:
        files[builds[-1].footprints.name] = builds[-1].footprints.read_bytes()
    return {f"{PROVENANCE_DIR}/{file}": content for file, content in files.items()}


def _build_row(short: str, marker: Mapping[str, Any]) -> dict[str, Any]:
    columns = ("name", "region", "code_version", "schema_version", "plan", "config", "counts", "manifest_sha256")
    return {"build": short, **{key: marker[key] for key in columns}}


def _seal(writer: _Writer, facts: Mapping[str, Any], secrets: Mapping[str, str]) -> None:
    """The search for private things, the manifest over what lies there, then the marker."""
    root = writer.root
    names = payload_files(root)
    require_private(root, names, secrets)
    digests = {name: writer.digests.get(name) or digest_file(root / name) for name in names}
    write_seal(root, digests, facts, RELEASE_MARKER_FILE)
