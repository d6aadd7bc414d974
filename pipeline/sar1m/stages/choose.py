"""Phase 2, first half: read what is staged, choose, number, and write every table and statistic of the store."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import shapely

from sar1m import __version__
from sar1m.config import BuildConfig
from sar1m.core.select import Selection, select
from sar1m.io.staged import Row, read_record
from sar1m.io.tables import candidate_batch, candidate_frame, parquet_bytes
from sar1m.io.zarr_groups import ImageArray
from sar1m.sources.regions.ecoregions import open_ecoregions
from sar1m.sources.regions.polygon_file import read_polygons
from sar1m.stages.pack import (
    ShardTask,
    image_arrays,
    number_samples,
    pack_digest,
    remove_other_packs,
    shard_tasks,
    write_groups,
)
from sar1m.stages.plan import Plan
from sar1m.stages.statistics import Normalisation, count_summary, self_test_summary, site_summary
from sar1m.store.durable import FileDigest, write_durably
from sar1m.store.errors import StoreError
from sar1m.store.schema import (
    FAILED_COLUMNS,
    FAILED_FILE,
    PROVENANCE_DIR,
    REJECTED_COLUMNS,
    REJECTED_FILE,
    SAMPLE_COLUMNS,
    SAMPLES_FILE,
    SCHEMA_VERSION,
    STATS_DIR,
)

BYTE_DECIDING = (
    *("numpy", "scipy", "numba", "zarr", "numcodecs", "rasterio", "pyproj", "pyarrow", "pandas", "shapely"),
    *("pillow", "jinja2"),
)
BLOCKS_A_BATCH = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Assembly:
    """A store that is chosen but not written. packed: the folder it is written into."""

    staging: Path
    packed: Path
    samples: pd.DataFrame
    selection: Selection
    images: list[ImageArray]
    summary: dict[str, Any]
    self_test: dict[str, Any]
    facts: dict[str, Any]


def choose(staging: Path, plan: Plan, config: BuildConfig) -> Assembly:
    """Reads every staged record and applies the thresholds.

    Raises StoreError where a block is damaged or missing, or where the counts do not add up.
    """
    failed_ids = {item.item_id for item in plan.failed}
    recoveries: list[Row] = []
    keys = (item.key for item in plan.items if item.item_id not in failed_ids)
    candidates = _with_ecoregions(candidate_frame(list(_batches(staging, keys, recoveries))), config)
    selection = _select(candidates, config)
    samples = number_samples(selection.samples, config.pack.shard_samples)
    failed = sum(item.patches for item in plan.failed)
    summary = _summary(plan, config, samples, selection.rejected, failed, candidates)
    if summary["counts"]["candidates"] != plan.patches:
        raise StoreError(
            f"{staging}: {plan.patches} patches were planned, but {summary['counts']} came out. "
            "Remove the staging folder and build again."
        )
    facts = {
        "name": config.name,
        "region": plan.region,
        "schema_version": SCHEMA_VERSION,
        "code_version": __version__,
        "plan": plan.digest(),
        "config": choice_digest(config),
        "counts": summary["counts"],
        "rejected_by_reason": summary["rejected_by_reason"],
        "unpaired_by_reason": summary["unpaired_by_reason"],
        "by_split": summary["by_split"],
    }
    packed = staging / "pack" / pack_digest(samples, selection.rejected, facts)
    return Assembly(
        staging=staging,
        packed=packed,
        samples=samples,
        selection=selection,
        images=image_arrays(config, plan.kind),
        summary=summary,
        self_test=self_test_summary(recoveries),
        facts=facts,
    )


def _batches(staging: Path, keys: Iterator[str], recoveries: list[Row]) -> Iterator[pa.RecordBatch]:
    """Rows of many blocks a batch: of one block each, Arrow's buffers would take three times the memory."""

    def rows(some: Iterable[str]) -> Iterator[Row]:
        for key in some:
            record = read_record(staging, key)
            recoveries.extend(record.self_test)
            yield from ({**row, "key": f"{key}/{row['patch']}"} for row in record.rows)

    while some := list(islice(keys, BLOCKS_A_BATCH)):
        yield candidate_batch(rows(some))


def write_tables(assembly: Assembly, plan: Plan, config: BuildConfig) -> dict[Path, FileDigest]:
    """Writes everything but shards and report into the packing folder; digests by path."""
    remove_other_packs(assembly.packed)
    samples, rejected = assembly.samples, assembly.selection.rejected
    failed = pd.DataFrame(
        [{"item": f.item_id, "patches": f.patches, "error": f.error, "cause": f.cause} for f in plan.failed],
        columns=[column.name for column in FAILED_COLUMNS],
    )
    files: dict[str, bytes] = {
        SAMPLES_FILE: parquet_bytes(samples, SAMPLE_COLUMNS),
        REJECTED_FILE: parquet_bytes(rejected, REJECTED_COLUMNS),
        FAILED_FILE: parquet_bytes(failed, FAILED_COLUMNS),
        f"{STATS_DIR}/summary.json": _json(assembly.summary),
        f"{STATS_DIR}/self_test.json": _json(assembly.self_test),
        f"{STATS_DIR}/splits.json": _json(assembly.selection.audit.to_json()),
        f"{STATS_DIR}/normalisation.json": _json(_normalisation(assembly)),
        f"{PROVENANCE_DIR}/config.toml": config.portable().to_toml().encode(),
        f"{PROVENANCE_DIR}/environment.txt": _environment().encode(),
    }
    footprints = config.portable().split.exclude_footprints
    if footprints is not None:
        files[f"{PROVENANCE_DIR}/{footprints}"] = footprints_json(excluded_boxes(config))
    known = {assembly.packed / name: write_durably(assembly.packed / name, [text]) for name, text in files.items()}
    attributes = {"name": config.name, "kind": asdict(plan.kind)}
    return known | write_groups(assembly.packed, samples, assembly.images, attributes)


def shards(assembly: Assembly) -> Iterator[ShardTask]:
    """Every shard to be written, shard_count of them, made as they are drawn."""
    return shard_tasks(assembly.packed, assembly.staging, assembly.samples, assembly.images)


def footprints_json(boxes: npt.NDArray[np.float64]) -> bytes:
    """Boxes of excluded_boxes as GeoJSON, from which excluded_boxes gives the very same numbers."""
    rings = [[[w, s], [e, s], [e, n], [w, n], [w, s]] for w, s, e, n in boxes.tolist()]
    return _json({"type": "MultiPolygon", "coordinates": [[ring] for ring in rings]})


def excluded_boxes(config: BuildConfig) -> npt.NDArray[np.float64]:
    """Bounding boxes (n, 4), west, south, east, north in degrees, of the footprints to leave out; (0, 4) without a
    file. Raises RegionError where the file cannot be used."""
    if config.split.exclude_footprints is None:
        return np.empty((0, 4))
    polygons, _notes = read_polygons(Path(config.split.exclude_footprints))
    return shapely.bounds(np.array(polygons, dtype=object))  # type: ignore[no-any-return]


def choice_digest(config: BuildConfig) -> str:
    """Of all that decides the choice beside the staged blocks: the configuration, the footprints left out and the
    ecoregions. Raises RegionError or ConfigError where their files cannot be used."""
    polygons = hashlib.blake2b(excluded_boxes(config).tobytes(), digest_size=8)
    ecoregions = open_ecoregions(config.balance)
    if ecoregions is not None:
        polygons.update(ecoregions.digest.encode())
    return f"{config.portable().digest()}-{polygons.hexdigest()}"


def _with_ecoregions(candidates: pd.DataFrame, config: BuildConfig) -> pd.DataFrame:
    """No block's pixels depend on ecoregions: they are looked up when samples are chosen, and refilter changes them."""
    ecoregions = open_ecoregions(config.balance)
    if ecoregions is None:
        return candidates
    return candidates.assign(ecoregion=ecoregions.at(candidates["lon"], candidates["lat"]))


def _select(candidates: pd.DataFrame, config: BuildConfig) -> Selection:
    return select(
        candidates,
        screening=config.screening,
        balance=config.balance,
        split=config.split,
        seed=config.pack.seed,
        excluded=excluded_boxes(config),
    )


def _summary(
    plan: Plan,
    config: BuildConfig,
    samples: pd.DataFrame,
    rejected: pd.DataFrame,
    failed: int,
    candidates: pd.DataFrame,
) -> dict[str, Any]:
    return {
        "name": config.name,
        "region": plan.region,
        "profile": config.pixels.profile,
        "patch_px": config.grid.patch_px,
        "gsd_m": config.grid.gsd_m,
        "quantity": plan.kind.quantity,
        "polarisations": plan.kind.polarisations,
        "optical_quantity": plan.kind.optical_quantity,
        "optical_bands": plan.kind.bands,
        **count_summary(samples, rejected, failed=failed),
        "sites": site_summary(candidates),
    }


def _normalisation(assembly: Assembly) -> dict[str, Any]:
    """Statistics of the training split (of all samples where it is empty): what a trainer normalises with."""
    samples = assembly.samples
    train = samples[samples["split"] == "train"]
    chosen = train if len(train) else samples
    totals = {image.layout.name: Normalisation(image.labels, image.encoding) for image in assembly.images}
    for channels, paired in _sample_statistics(assembly.staging, chosen):
        for name in totals.keys() & channels.keys():
            if paired or name != "optical":
                totals[name].add(channels[name])
    basis = "train" if len(train) else "all samples, since the training split is empty"
    return {"basis": basis, "samples": len(chosen), **{name: total.summary() for name, total in totals.items()}}


def _sample_statistics(staging: Path, samples: pd.DataFrame) -> Iterator[tuple[Row, bool]]:
    """Statistics by sample, block by block in the order of the keys: a fixed order of summation."""
    blocks = samples["key"].str.split("/").str[0]
    for block, rows in samples.groupby(blocks, sort=True):
        paired = dict(zip(rows["patch"], rows["paired"].astype(bool), strict=True))
        for statistics in read_record(staging, str(block)).statistics:
            if statistics["patch"] in paired:
                yield statistics, paired[statistics["patch"]]


def _environment() -> str:
    lines = [f"sar1m=={__version__}", f"python=={platform.python_version()}"]
    return "\n".join([*lines, *(f"{name}=={version(name)}" for name in BYTE_DECIDING)]) + "\n"


def _json(value: Any) -> bytes:  # noqa: ANN401 - any JSON value
    return json.dumps(value, sort_keys=True, indent=1, allow_nan=False, default=_plain).encode() + b"\n"


def _plain(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a statistics file")
