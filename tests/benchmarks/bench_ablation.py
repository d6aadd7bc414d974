"""What SARE and SARC add, by noise and by teacher: the study `ablation`, with its data, and real images where they are.

    python tests/benchmarks/bench_ablation.py [--work build/ablation] [--set KEY=VALUE ...]

From the root of the repository: simulates a store of 120 cells, masks and ships (what is there is kept), runs `sarmae
evaluate` on the study with tasks on real images added, and puts summary, page and table of scores into results/.
An interrupted run goes on. Two arms at a time, one thread each. On a GPU: --set device=cuda.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from ablation_sets import real_tasks, write_sets

from sar1m import settings
from sarmae.evaluate.cli import STUDY_FOLDERS
from sarmae.evaluate.config import StudyConfig, TaskConfig

RESULTS = Path(__file__).resolve().parent / "results"


def main() -> None:
    """Simulates, studies, keeps the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("build/ablation"))
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    asked = parser.parse_args()
    write_sets(asked.work)
    path = settings.find_file("ablation", STUDY_FOLDERS)
    study = settings.parse(StudyConfig, settings.read_text(path), origin=str(path))
    tasks = (*study.tasks, *(TaskConfig.model_validate(task) for task in real_tasks()))
    whole = asked.work / "study.toml"
    whole.write_text(settings.to_toml(study.model_copy(update={"tasks": tasks})), encoding="utf-8")
    command = [sys.executable, "-m", "sarmae", "evaluate", "--config", str(whole), "--out", str(asked.work / "study")]
    done = subprocess.run([*command, *(word for pair in asked.overrides for word in ("--set", pair))], check=False)
    for name, kept in (
        ("summary.md", "ablation.md"),
        ("scores.csv", "ablation-scores.csv"),
        ("report.html", "ablation.html"),
    ):
        shutil.copyfile(asked.work / "study" / name, RESULTS / kept)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
