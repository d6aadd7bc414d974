"""Downloads of a release, whole or in part, each file checked on its way; the completion marker comes last."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sar1m.releases.fetching import GetSummary, WantedFile, fetch, require_free, require_plain
from sar1m.releases.hub import open_release
from sar1m.releases.part_download import Origin, get_samples
from sar1m.releases.portable_names import require_portable
from sar1m.releases.sample_parts import REQUEST_FILE, SampleChoice
from sar1m.releases.trust import NOBODY, Trust, read_signature, require_trusted
from sar1m.store.durable import remove_partials, remove_tree, settle_folders, write_durably
from sar1m.store.errors import ConfigError, OutputError, StoreError
from sar1m.store.file_lock import output_lock
from sar1m.store.progress import Watch
from sar1m.store.sample_filter import ALL_SAMPLES, SampleFilter
from sar1m.store.schema import (
    DATA_DIR,
    MANIFEST_FILE,
    PARTIAL_FILE,
    RELEASE_MARKER_FILE,
    SIGNATURE_FILE,
    SPLITS,
    group_name,
)
from sar1m.store.seal import Seal, SealedFile, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS, marker_bytes
from sar1m.store.shard_index import SHARD_NAME


@dataclass(frozen=True, kw_only=True)
class Portion:
    """Which part of a release is wanted. Files that are no image data are always included.

    split: train, val or test; None for all.
    shards: how many shards of every image array, from the first; None for all.
    samples: which samples; with all of them the part is by files, else it is by samples (see sample_parts).
    """

    split: str | None = None
    shards: int | None = None
    samples: SampleFilter = ALL_SAMPLES

    def __post_init__(self) -> None:
        """Raises ConfigError for a split that no release has, a number that takes nothing, or shards of a selection."""
        if self.split is not None and self.split not in SPLITS:
            raise ConfigError(f"split {self.split!r}: expected one of {', '.join(SPLITS)}.")
        if self.shards is not None and self.shards < 1:
            raise ConfigError(f"shards {self.shards}: expected at least 1.")
        if self.shards is not None and not self.samples.takes_all:
            raise ConfigError(
                "shards: a part by samples (where, bbox) takes no number of shards. Leave one of them out."
            )

    def holds(self, name: str) -> bool:
        """Whether a file belongs to it."""
        image_data = name.startswith(f"{DATA_DIR}/")
        if self.split is not None and image_data and not name.startswith(f"{group_name(self.split)}/"):
            return False
        shard = SHARD_NAME.fullmatch(name)
        return self.shards is None or shard is None or int(shard["number"]) < self.shards


def get(target: str, out: Path, portion: Portion, watch: Watch, trust: Trust = NOBODY) -> GetSummary:
    """Downloads a release, or goes on with a download that was interrupted. target: see hub.open_release.

    trust: compared before the first file; a signature comes along, whether it is compared or not.

    The download of a part by files ends with PARTIAL_DOWNLOAD.json in place of the completion marker. `sar1m verify`
    checks it as a part, and readers know that its absent shards are not empty ones. A part by samples is a smaller
    store of its own, see sample_parts. Raises StoreError where the release is not
    whole or a file that arrives differs from the manifest, OutputError where out holds something else.
    """
    place = open_release(target)
    seal = require_seal(place, RELEASE_MARKERS)
    if seal.marker_file != RELEASE_MARKER_FILE:
        raise StoreError(f"{place.location}: itself a part of a release. Get it from where the whole one lies.")
    require_portable(seal.files, place.location)
    require_trusted(place, seal, trust)
    signature = read_signature(place, watch)
    out = out.absolute()
    if not portion.samples.takes_all:
        choice = SampleChoice(samples=portion.samples, split=portion.split)
        return get_samples(Origin(place=place, seal=seal, signature=signature), out, choice, watch)
    _require_ours(out, seal)
    with output_lock(out):
        remove_partials(out)
        # What an earlier portion brought stays, and counts as wanted: portions add up to the whole.
        wanted = {name: one for name, one in seal.files.items() if portion.holds(name) or (out / name).exists()}
        # A marker vouches for what lies beside it: it goes before anything else changes.
        for name in RELEASE_MARKERS:
            remove_tree(out / name)
        write_durably(out / MANIFEST_FILE, [seal.manifest_bytes])
        fetched = fetch(
            place, {name: WantedFile(source=name, expected=one) for name, one in wanted.items()}, out, watch
        )
        if signature is not None:
            write_durably(require_free(out, SIGNATURE_FILE), [signature])
        settle_folders(out)
        _write_marker(out, seal, wanted)
    remove_tree(out / "build-log")
    return GetSummary(
        title=seal.title,
        out=out,
        fetched=len(fetched),
        fetched_bytes=sum(one.expected.size or 0 for one in fetched),
        kept=len(wanted) - len(fetched),
        left_out=len(seal.files) - len(wanted),
    )


def _require_ours(out: Path, seal: Seal) -> None:
    """Raises OutputError unless out is new, empty, or holds this very release or a part of it."""
    there = require_plain(out)
    manifest = out / MANIFEST_FILE
    if (out / REQUEST_FILE).is_file():
        raise OutputError(f"{out}: holds a part by samples, which nothing is added to. Give a new or empty folder.")
    if manifest.is_file():
        if manifest.read_bytes() != seal.manifest_bytes:
            raise OutputError(f"{out}: holds another release, or another version of it. Give a new or empty folder.")
        return
    if any(not name.startswith(("build-log/", f"{MANIFEST_FILE}.")) for name in there):
        raise OutputError(f"{out}: is not empty and holds no release. Give a new or empty folder.")


def _write_marker(out: Path, seal: Seal, wanted: Mapping[str, SealedFile]) -> None:
    if wanted.keys() == seal.files.keys():
        write_durably(out / RELEASE_MARKER_FILE, [seal.marker_bytes])
        return
    sizes = {name: seal.sizes[name] for name in wanted}
    write_durably(out / PARTIAL_FILE, [marker_bytes(seal.marker, seal.manifest_bytes, sizes)])
