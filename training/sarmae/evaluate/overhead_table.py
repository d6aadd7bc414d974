"""What the encoders of a study cost. Measured once for each architecture and kept: times differ from run to run, so
they are not part of the scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Final

from sar1m.store.durable import write_durably
from sar1m.store.errors import Sar1mError, StoreError
from sar1m.store.progress import Watch
from sar1m.store.side_files import read_json
from sarmae.evaluate.backbones import open_backbone
from sarmae.evaluate.datasets import open_dataset
from sarmae.evaluate.overhead import measure_overhead
from sarmae.evaluate.report.study_tables import Table
from sarmae.evaluate.score_files import ScoreFiles
from sarmae.evaluate.study_config import ArmConfig
from sarmae.train.parallel import pick_device

OVERHEAD_FILE: Final = "overhead.json"


def write_overhead(files: ScoreFiles, watch: Watch) -> None:
    """Measures every architecture of the study on images of its first task, unless that was done before."""
    if (files.folder / OVERHEAD_FILE).is_file() or not files.study.tasks:
        return
    study, device = files.study, pick_device(files.study.device)
    inputs = open_dataset(study.tasks[0]).inputs
    measured: dict[str, Any] = {}
    for arm in _architectures(files):
        run = files.run(arm, study.seeds[0]) if arm.encoder is None else None
        try:
            backbone = open_backbone(arm, inputs, study=study, seed=study.seeds[0], run=run)
            if backbone.learns:
                measured[arm.name] = asdict(measure_overhead(backbone, inputs, device=device))
        except Sar1mError as error:
            watch.note(f"Overhead of {arm.name} not measured: {error}")
    write_durably(files.folder / OVERHEAD_FILE, [json.dumps(measured, indent=1).encode() + b"\n"])


def overhead_table(files: ScoreFiles) -> Table | None:
    """The table of measured costs; None where nothing was measured."""
    path = files.folder / OVERHEAD_FILE
    if not path.is_file():
        return None
    measured = read_json(path, error=StoreError, remedy="Remove it and run the study again.")
    rows = tuple(row for name, costs in measured.items() for row in _rows(name, costs))
    note = (
        "Each encoder and a plain timm ViT of the same shape were measured in turns, on the machine of this study. "
        "Latency: of one image. Throughput: at the best of a few batch sizes. The encoder's normalisation is included."
    )
    head = ("encoder", "latency, ms", "images/s", "memory, MiB", "weights, M", "multiply-adds, G", "largest difference")
    return Table(title="What the encoders cost", note=note, head=head, rows=rows)


def _architectures(files: ScoreFiles) -> Iterator[ArmConfig]:
    """Every encoder that exists already, and the first pretrained arm of each architecture."""
    seen = set()
    for arm in files.study.arms:
        shape = files.study.pretraining_of(arm, files.study.seeds[0]).model
        key = arm.encoder or shape.model_dump_json(include={"size", "width", "depth", "heads", "patch_px"})
        if key not in seen:
            seen.add(key)
            yield arm


def _rows(name: str, costs: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    difference = costs["largest_difference"]
    yield _row(name, costs["encoder"], "" if difference is None else f"{difference:.1e}")
    if costs["plain"] is not None:
        yield _row(f"plain timm ViT as {name}", costs["plain"], "")


def _row(name: str, cost: dict[str, Any], difference: str) -> tuple[str, ...]:
    memory = "–" if cost["peak_mib"] is None else f"{cost['peak_mib']:.0f}"
    latency = f"{cost['latency_p50_ms']:.2f} (90 %: {cost['latency_p90_ms']:.2f})"
    speed = f"{cost['images_per_s']:,.0f} (batch {cost['best_batch']})"
    return name, latency, speed, memory, f"{cost['weights_m']:.2f}", f"{cost['multiply_adds_g']:.2f}", difference
