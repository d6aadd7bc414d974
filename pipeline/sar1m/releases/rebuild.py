"""Samples made again from their source and compared with the hashes that a release gives of its pixels.

The samples are built by the same code as a build, under the configuration that the release keeps of each build. Equal
hashes show that the pixels are neither damaged nor invented. Recipes are checked in the same way: their optical pixels
are made from the provider's and compared with the hash that the recipe states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from sar1m.config import BuildConfig, load_config
from sar1m.core.identity import sample_id
from sar1m.io.tables import read_table
from sar1m.io.zarr_groups import ImageArray
from sar1m.records import Candidate
from sar1m.releases.build_pixels import array_hash, decode_pixels, pixel_hash, stored_images
from sar1m.releases.contents import RECIPES_FILE
from sar1m.releases.versions import LOCK_FILE
from sar1m.sources.dispatch import open_source
from sar1m.sources.regions.region import Region, parse_region
from sar1m.sources.source import Source
from sar1m.stages.pack import image_arrays
from sar1m.stages.plan import make_plan
from sar1m.stages.prepare import prepare_block
from sar1m.store.errors import ConfigError, Sar1mError, StoreError
from sar1m.store.places.folder import FolderPlace
from sar1m.store.progress import Watch
from sar1m.store.schema import PROVENANCE_DIR
from sar1m.store.seal import StoreFault, require_seal
from sar1m.store.seal_text import RELEASE_MARKERS
from sar1m.store.settings import override

BUILDS_DIR: Final = f"{PROVENANCE_DIR}/builds"  # one folder a build, named by 16 digits of its digest


@dataclass(frozen=True, kw_only=True)
class RebuildRequest:
    """source: a region as `sar1m build --region` takes it. count: samples to make, drawn by seed from those that the
    source offers. overrides: of the configuration, for inputs that stand elsewhere, such as safe.dem=/dem."""

    release: Path
    source: str
    count: int
    seed: int
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class RebuildSummary:
    """samples: of the release; offered: of them by the source; compared: those made again; recipes: how many of these
    were checked against a recipe. faults: by sample_id in place of a file."""

    samples: int
    offered: int
    compared: tuple[str, ...]
    recipes: int
    faults: tuple[StoreFault, ...]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """A block that holds chosen samples. patches: by sample_id."""

    candidate: Candidate
    source: Source
    config: BuildConfig
    images: Mapping[str, ImageArray]
    patches: Mapping[str, str]


def rebuild(request: RebuildRequest, watch: Watch) -> RebuildSummary:
    """Makes samples of a release in a folder again and compares them.

    Raises StoreError where the release cannot be read, RegionError, ConfigError or SourceError where the source cannot
    be used or offers none of its samples. An item that the source fails to give is a fault of its samples.
    """
    require_seal(FolderPlace(request.release), RELEASE_MARKERS)
    lock = read_table(request.release / LOCK_FILE).set_index("sample_id")
    recipes = _recipe_hashes(request.release)
    region = parse_region(request.source)
    with tempfile.TemporaryDirectory(prefix="sar1m-rebuild-") as scratch:
        with watch.stage("plan", 0):
            offered = list(_offered(request, region, lock, Path(scratch)))
        names = sorted(name for work in offered for name in work.patches)
        chosen = _draw(names, request)
        faults: list[StoreFault] = []
        wanted = [work for work in offered if not chosen.isdisjoint(work.patches)]
        with watch.stage("rebuild", len(wanted)) as step:
            for work in wanted:
                faults += _compare(work, chosen, lock, recipes)
                step()
    return RebuildSummary(
        samples=len(lock),
        offered=len(names),
        compared=tuple(sorted(chosen)),
        recipes=len(chosen & recipes.keys()),
        faults=tuple(sorted(faults, key=lambda fault: fault.path)),
    )


def _draw(names: Sequence[str], request: RebuildRequest) -> set[str]:
    if not names:
        raise ConfigError(
            f"--source {request.source}: offers no sample of {request.release}. Give the region, product or folder "
            "that its samples were built from."
        )
    rng = np.random.default_rng([request.seed, len(names)])
    return {names[n] for n in rng.choice(len(names), size=min(request.count, len(names)), replace=False)}


def _recipe_hashes(release: Path) -> Mapping[str, str]:
    if not (release / RECIPES_FILE).is_file():
        return {}
    recipes = read_table(release / RECIPES_FILE)
    return dict(zip(recipes["sample_id"], recipes["expected_hash"], strict=True))


def _offered(request: RebuildRequest, region: Region, lock: pd.DataFrame, scratch: Path) -> Iterator[_Work]:
    """Blocks of the source that hold samples of the release, build by build under its own configuration."""
    taken: set[str] = set()
    for build, rows in lock.groupby("build", sort=True):
        path = request.release / BUILDS_DIR / str(build) / "config.toml"
        if not path.is_file():
            raise StoreError(f"{path}: missing, so its samples cannot be built again.")
        config = override(load_config(path), request.overrides)
        source = open_source(region, config, scratch / str(build))
        plan, candidates = make_plan(region.label, source.candidates(config), config)
        images = {image.layout.name: image for image in image_arrays(config, plan.kind)}
        _require_same_encodings(request.release, images)
        for candidate in candidates.values():
            held = {sample_id(place.name, candidate.sar): place.name for place in candidate.patches}
            ours = {name: patch for name, patch in held.items() if name in rows.index and name not in taken}
            taken |= ours.keys()
            if ours:
                yield _Work(candidate=candidate, source=source, config=config, images=images, patches=ours)


def _require_same_encodings(release: Path, images: Mapping[str, ImageArray]) -> None:
    """Raises StoreError where this version of the code would encode the pixels in another way than the release has
    them: their hashes could not be equal."""
    for stored in stored_images(release, list(images.values())):
        ours = images[stored.layout.name].encoding
        if stored.encoding.words != ours.words:
            raise StoreError(
                f"{release}: {stored.layout.name} is stored as {stored.encoding.words}, but this version of sar1m "
                f"writes {ours.words}. Rebuild with the version that provenance/builds.json of the release names."
            )


def _compare(work: _Work, chosen: set[str], lock: pd.DataFrame, recipes: Mapping[str, str]) -> list[StoreFault]:
    names = sorted(chosen & work.patches.keys())
    try:
        _record, chunks = prepare_block(work.candidate, work.source.read(work.candidate, work.config), work.config)
    except Sar1mError as error:
        return [
            StoreFault(path=name, found=f"cannot be built again: {type(error).__name__}: {error}") for name in names
        ]
    faults = []
    for name in names:
        made = _hashes(work, work.patches[name], chunks)
        different = _different(made, lock.loc[name], recipes.get(name))
        if different:
            faults.append(StoreFault(path=name, found=f"built again, its {' and '.join(different)} pixels differ"))
    return faults


def _hashes(work: _Work, patch: str, chunks: Mapping[str, bytes]) -> dict[str, str]:
    """By array, of all that were made of a patch."""
    found = {}
    for array, image in work.images.items():
        chunk = chunks.get(f"{patch}/{array}")
        if chunk is not None:
            found[array] = array_hash(decode_pixels(chunk, image, origin=f"{patch}/{array}"), array)
    return found


def _different(made: Mapping[str, str], expected: pd.Series, recipe: str | None) -> Sequence[str]:
    """Arrays whose pixels are not those of the release; other for those that the lock knows only in sum."""
    paired = isinstance(expected["optical_hash"], str)
    different = [] if made.get("sar") == expected["sar_hash"] else ["sar"]
    if paired and made.get("optical") != expected["optical_hash"]:
        different.append("optical")
    if recipe is not None and made.get("optical") != recipe:
        different.append("recipe's optical")
    stored = {array: value for array, value in made.items() if array != "optical" or paired}
    if not different and pixel_hash(stored) != expected["pixel_hash"]:
        different.append("other")
    return different
