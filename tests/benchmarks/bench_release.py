"""What the table steps of a release cost: merging, duplicates, splits, audit, catalogues, privacy, verifying.

    python tests/benchmarks/bench_release.py [--samples 200000]

A made-up table (tests/support/explorer_tables.py) stands in for two builds without pixels; a quarter of it is run
first, to see whether a step grows faster than its table. CPU seconds, and the largest memory in use during a step
beyond what was in use before it. Packing and hashing of pixels are not here: they are a matter of bytes, not of rows.
Writes results/release.{json,md}. Some four minutes.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measure import Section, run_with_one_thread, write_results

from sar1m.config import BuildConfig
from sar1m.core.splits import block_names
from sar1m.io.tables import parquet_bytes, read_table
from sar1m.records import StoreKind
from sar1m.releases import audit, licences, stats_files, versions
from sar1m.releases.builds import Build
from sar1m.releases.contents import ITEMS_FILE, LicenceRow, ReleaseFacts
from sar1m.releases.croissant import croissant_files
from sar1m.releases.merge import merge
from sar1m.releases.preview import choose_rows
from sar1m.releases.privacy import require_private
from sar1m.releases.provenance import lock_parquet
from sar1m.releases.selection import choose
from sar1m.releases.stac import stac_files
from sar1m.releases.verification import verify_release
from sar1m.store.schema import FAILED_FILE, REJECTED_FILE, SAMPLES_FILE, SPLITS
from sar1m.store.table_columns import FAILED_COLUMNS, REJECTED_COLUMNS, SAMPLE_COLUMNS

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the made-up tables and releases of the tests

from support.explorer_tables import made_facts, made_samples
from support.tiny_releases import Silence, seal_release

MIB = 2**20
COPIES = 200  # pictures that stand twice, so that near-duplicates are met
SHARD_FILES = 800  # of a million samples, two arrays and 512 a shard: 3,908


@dataclass
class Ledger:
    """CPU seconds and MiB by step."""

    steps: dict[str, tuple[float, float]] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Measures what is done inside."""
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM from here on
        before, start = _status("VmRSS"), time.process_time()
        yield
        self.steps[name] = (time.process_time() - start, (_status("VmHWM") - before) / MIB)


def _status(name: str) -> int:
    text = Path("/proc/self/status").read_text(encoding="ascii")
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"/proc/self/status tells no {name}")
    return int(found[1]) * 1024


def made_table(count: int) -> pd.DataFrame:
    """Samples with the keys, blocks and hashes that a build would give them."""
    rng = np.random.default_rng(11)
    table = made_samples(count)
    phash = rng.integers(1, 2**63 - 1, count)
    phash[:COPIES] = phash[COPIES : 2 * COPIES]
    return table.assign(
        key=[f"{number:09d}" for number in range(count)],
        patch=[f"patch-{number}" for number in range(count)],
        block=block_names(table["lon"].to_numpy(), table["lat"].to_numpy(), BuildConfig(name="x").split.block_km),
        phash=phash,
        transform=[[10.0, 0.0, 3e5, 0.0, -10.0, 5e6]] * count,
        datatake=table["sar_product"].str[-11:-5],
        shard=np.int32(0),
        sar_nodata_frac=np.float32(0),
    )


def made_build(root: Path, table: pd.DataFrame) -> Build:
    """Its tables on disk, and nothing else."""
    empty = pd.DataFrame({column.name: [] for column in REJECTED_COLUMNS}, dtype=object)
    failed = pd.DataFrame({column.name: [] for column in FAILED_COLUMNS}, dtype=object)
    for name, frame, columns in (
        (SAMPLES_FILE, table, SAMPLE_COLUMNS),
        (REJECTED_FILE, empty, REJECTED_COLUMNS),
        (FAILED_FILE, failed, FAILED_COLUMNS),
    ):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(parquet_bytes(frame, columns))
    kind = StoreKind(
        quantity="gamma0", optical_quantity="reflectance", polarisations=("VV", "VH"), bands=("B04", "B03", "B02")
    )
    digest = hashlib.sha256(str(root).encode()).hexdigest()
    marker = {"region": root.name, "code_version": "0"}
    return Build(
        root=root,
        digest=digest,
        marker=marker,
        summary={},
        self_test={},
        config=BuildConfig(name="made-up"),
        kind=kind,
    )


def run(count: int, folder: Path) -> Ledger:
    """Every step once, each given what those before it made."""
    ledger, table = Ledger(), made_table(count)
    half = count // 2
    builds = [made_build(folder / "a", table.iloc[:half]), made_build(folder / "b", table.iloc[half:])]
    with ledger.step("merge two builds, near-duplicates included"):
        merged = merge(builds, kept_before=())
    with ledger.step("licence gate"):
        allowed = licences.gate(merged.samples, recipes=False)
    _splits(ledger, allowed, builds[0].config)
    del allowed, merged
    with ledger.step("choose: all of these together"):
        choice = choose(builds, "1.0.0", None, recipes=False)
    samples = choice.samples
    hashes = {name: {"sar": name, "optical": name} for name in samples["sample_id"]}
    tables = _tables(ledger, samples, builds, hashes)
    previous = versions.Previous(
        name="sar-1m",
        version="0.9.0",
        digest="",
        samples=samples.iloc[half // 2 :],
        pixel_hash=dict.fromkeys(samples["sample_id"], "x"),
        tombstones=pd.DataFrame({column.name: [] for column in versions.TOMBSTONE_COLUMNS}),
    )
    with ledger.step("changes since a former version"):
        versions.changes_since(previous, samples, previous.pixel_hash)
    root = folder / "release"
    facts = replace(made_facts(root, samples[[c.name for c in SAMPLE_COLUMNS]]), audit=choice.audit)
    for name, content in tables.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    _catalogues(ledger, facts, samples)
    _checks(ledger, root)
    return ledger


def _splits(ledger: Ledger, allowed: pd.DataFrame, config: BuildConfig) -> None:
    fixed = audit.Fixed(blocks={}, sample_ids=frozenset())
    with ledger.step("draw splits with their gap"):
        placed, near = audit.draw_splits(allowed, config.split, 0, fixed)
    left = np.ones(len(placed), dtype=np.bool_)
    left[near.rows] = False
    with ledger.step("number the samples"):
        samples = audit.number(placed[left], 512, 0)
    with ledger.step("leakage audit"):
        audit.audit_splits(samples, config.split, config.balance.duplicate_hamming)
    half = samples.iloc[: len(samples) // 2]
    kept = audit.Fixed(
        blocks=dict(zip(half["block"], half["split"], strict=True)), sample_ids=frozenset(half["sample_id"])
    )
    with ledger.step("draw splits beside a former version's"):
        audit.draw_splits(allowed, config.split, 0, kept)


def _tables(ledger: Ledger, samples: pd.DataFrame, builds: list[Build], hashes: Any) -> dict[str, bytes]:
    with ledger.step("samples.parquet"):
        made = {SAMPLES_FILE: parquet_bytes(samples, SAMPLE_COLUMNS)}
    with ledger.step("blocks.parquet and splits"):
        made["blocks.parquet"] = audit.blocks_parquet(samples)
        made |= {f"splits/{split}.parquet": audit.split_parquet(samples, split) for split in SPLITS}
    with ledger.step("lock.parquet"):
        made[versions.LOCK_FILE] = lock_parquet(samples, builds, hashes)
    return made


def _catalogues(ledger: Ledger, facts: ReleaseFacts, samples: pd.DataFrame) -> None:
    rows: tuple[LicenceRow, ...] = ()
    with ledger.step("licences and attribution"):
        rows = licences.licence_rows(samples)
        licences.attribution_md(samples, rows, facts.title)
        licences.years_of(samples)
    with ledger.step("coverage"):
        stats_files.coverage_of(samples)
    with ledger.step("STAC collection and items"):
        made = stac_files(replace(facts, licences=rows))
    (facts.root / ITEMS_FILE).write_bytes(made[ITEMS_FILE])
    with ledger.step("rows of the preview"):
        choose_rows(facts.samples)
    shutil.copyfile(facts.root / SAMPLES_FILE, facts.root / "preview.parquet")  # its digest is what counts
    with ledger.step("croissant.json"):
        croissant_files(facts)
    (facts.root / "preview.parquet").unlink()


def _checks(ledger: Ledger, root: Path) -> None:
    for number in range(SHARD_FILES):
        shard = root / f"data/train.zarr/sar/c/{number}/0/0/0"
        shard.parent.mkdir(parents=True)
        shard.write_bytes(number.to_bytes(4, "little"))
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    with ledger.step("privacy scan"):
        require_private(root, names, {"canary-of-this-benchmark": "a canary"})
    with ledger.step("manifest and marker"):
        seal_release(root, name="made-up", version="1.0.0")
    with ledger.step(f"verify, its {SHARD_FILES} shards nearly empty"):
        verify_release(root, Silence())
    with ledger.step("tables of a former version read"):
        read_table(root / SAMPLES_FILE)
        read_table(root / versions.LOCK_FILE)


def rows_of(small: Ledger, large: Ledger) -> list[dict[str, Any]]:
    """Steps with what they cost, and how they grew."""
    return [
        {
            "step": name,
            "CPU s, a quarter": small.steps[name][0],
            "CPU s": cpu,
            "times": f"{cpu / max(small.steps[name][0], 1e-3):.1f}",
            "MiB, a quarter": f"{small.steps[name][1]:.0f}",
            "MiB": f"{mib:.0f}",
        }
        for name, (cpu, mib) in large.steps.items()
    ]


def main() -> None:
    """Run a quarter and the whole, print and write the table."""
    run_with_one_thread()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200_000)
    count = parser.parse_args().samples
    ledgers = []
    for number in (count // 4, count):
        with tempfile.TemporaryDirectory() as folder:
            ledgers.append(run(number, Path(folder)))
    note = (
        f"A made-up table of {count:,} samples in two builds, {COPIES} of them copies of others, and a quarter of it. "
        "times: CPU of the whole over that of the quarter, 4 where a step is linear. MiB: the largest memory in use "
        "during the step beyond what was in use before it; the table itself stays in memory besides. One thread."
    )
    section = Section(title="Steps", note=note, rows=rows_of(*ledgers))
    print(
        write_results("release", "The table steps of a release", "python tests/benchmarks/bench_release.py", [section])
    )


if __name__ == "__main__":
    main()
