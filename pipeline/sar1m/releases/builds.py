"""Finished builds, opened for a release: complete, of one kind, and in the same order whatever the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sar1m.config import BuildConfig, stored_config
from sar1m.io.zarr_groups import ImageArray
from sar1m.records import StoreKind
from sar1m.releases.build_pixels import BuildChunks, stored_images
from sar1m.stages.pack import image_arrays
from sar1m.store.durable import address_in, digest_file
from sar1m.store.errors import ConfigError, OutputError, Sar1mError, StoreError
from sar1m.store.schema import MANIFEST_FILE, PROVENANCE_DIR, SPLITS, STATS_DIR, group_name
from sar1m.store.seal import read_marker, verify
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.side_files import read_json

FAULTS_SHOWN = 5
AGREEING = {  # by name of a fact: what to do where two builds differ in it
    "quantity": "sigma0 and gamma0 are different quantities: make one release of each.",
    "optical_quantity": "Reflectance and display pictures are different quantities: make one release of each.",
    **dict.fromkeys(
        ("patch_px", "gsd_m", "profile", "polarisations", "optical_bands", "compression", "terrain_layers"),
        "All samples of a release have the same arrays: build one of the two again with the other's configuration.",
    ),
    "encodings": "Schema versions differ in them (dataset_cards/SCHEMA.md): build the older one again.",
}
REFILTER = "Bring them together with `sar1m refilter BUILD --set KEY=VALUE`; it reads no source again."


@dataclass(frozen=True, kw_only=True, eq=False)
class Build:
    """One finished build. digest: sha256 of its manifest, hence of every byte; marker: its completion marker."""

    root: Path
    digest: str
    marker: Mapping[str, Any]
    summary: Mapping[str, Any]
    self_test: Mapping[str, Any]
    config: BuildConfig
    kind: StoreKind

    @property
    def short(self) -> str:
        """What tables call it: 16 hexadecimal digits of its digest."""
        return self.digest[:16]

    @cached_property
    def images(self) -> list[ImageArray]:
        """The arrays of its splits, in the encoding they are stored in."""
        return stored_images(self.root, image_arrays(self.config, self.kind))

    def readers(self) -> dict[str, BuildChunks]:
        """A reader of chunks by split."""
        return {split: BuildChunks(self.root / group_name(split), self.images) for split in SPLITS}

    @property
    def footprints(self) -> Path | None:
        """Its own copy of the places it leaves out."""
        name = self.config.split.exclude_footprints
        return None if name is None else self.root / PROVENANCE_DIR / Path(name).name


def open_builds(roots: Iterable[Path]) -> tuple[Build, ...]:
    """The builds, each once, ordered by the version of their code and then by digest.

    Of each only marker, manifest and statistics are read; require_sound compares the other files. Raises StoreError
    where one is no finished build, ConfigError where they cannot be one release.
    """
    found = {build.digest: build for build in map(_open, roots)}
    if not found:
        raise ConfigError("no builds were given. Name the output folders of finished builds.")
    builds = tuple(sorted(found.values(), key=lambda build: (_version_order(build), build.digest)))
    _require_agreement(builds)
    return builds


def require_sound(build: Build, progress: Callable[[str], None]) -> None:
    """Compares every file of a build with its manifest; progress is called with each name. Raises StoreError naming
    the build and its first faults."""
    faults = verify(build.root, progress)
    if faults:
        shown = "; ".join(f"{fault.path}: {fault.found}" for fault in faults[:FAULTS_SHOWN])
        raise StoreError(f"{build.root}: {len(faults)} files differ from the manifest: {shown}. Build it again.")


def _open(root: Path) -> Build:
    if (address := address_in(root)) is not None:
        raise OutputError(
            f"{address}: is an address; releases are made of builds in folders. Copy the build into one (aws s3 sync, "
            "rclone copy) and give that."
        )
    marker = read_marker(root)
    if marker is None:
        if any((root / name).is_file() for name in RELEASE_MARKERS):
            raise StoreError(f"{root}: a release, or a part of one. Give the builds that it was made of.")
        raise StoreError(f"{root}: not a finished build. Finish it with `sar1m build`.")
    digest = digest_file(root / MANIFEST_FILE).sha256
    if digest != marker["manifest_sha256"]:
        raise StoreError(f"{root / MANIFEST_FILE}: differs from the digest in the completion marker. Build it again.")
    try:
        summary, self_test = (
            read_json(root / STATS_DIR / f"{name}.json", error=StoreError, remedy="")
            for name in ("summary", "self_test")
        )
        kind = StoreKind(
            quantity=summary["quantity"],
            optical_quantity=summary["optical_quantity"],
            polarisations=tuple(summary["polarisations"]),
            bands=tuple(summary["optical_bands"]),
        )
        config = stored_config(root / PROVENANCE_DIR / "config.toml")
    except (OSError, ValueError, KeyError, TypeError, Sar1mError) as error:
        raise StoreError(
            f"{root}: its statistics or configuration cannot be read ({error}). Build it again."
        ) from error
    return Build(
        root=root, digest=digest, marker=marker, summary=summary, self_test=self_test, config=config, kind=kind
    )


def _version_order(build: Build) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", str(build.marker["code_version"])))


def _facts(build: Build) -> dict[str, Any]:
    config = build.config
    return {
        "quantity": build.kind.quantity,
        "optical_quantity": build.kind.optical_quantity,
        "polarisations": build.kind.polarisations,
        "optical_bands": build.kind.bands,
        "patch_px": config.grid.patch_px,
        "gsd_m": config.grid.gsd_m,
        "profile": config.pixels.profile,
        "compression": config.pixels.compression,
        "terrain_layers": config.pixels.terrain_layers,
        "encodings": {image.layout.name: image.encoding.words for image in build.images},
        **{f"split.{key}": value for key, value in config.split.model_dump().items() if key != "exclude_footprints"},
        "split.exclude_footprints": _footprints_digest(build),
        **{f"pack.{key}": value for key, value in config.pack.model_dump().items()},
        "balance.duplicate_hamming": config.balance.duplicate_hamming,
        "balance.duplicate_days": config.balance.duplicate_days,
    }


def _footprints_digest(build: Build) -> str | None:
    try:
        return None if build.footprints is None else digest_file(build.footprints).sha256
    except OSError as error:
        raise StoreError(f"{build.footprints}: cannot be read ({error.strerror}). Build it again.") from error


def _require_agreement(builds: Sequence[Build]) -> None:
    first, *others = builds
    wanted = _facts(first)
    for build in others:
        for name, found in _facts(build).items():
            if found != wanted[name]:
                raise ConfigError(
                    f"{build.root}: {name} is {found!r}, but {wanted[name]!r} in {first.root}: they cannot be one "
                    f"release. {AGREEING.get(name, REFILTER)}"
                )
