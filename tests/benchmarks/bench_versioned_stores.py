"""Versions of a data set as release folders beside Icechunk repositories: size, speed, damage, who can read them.

    python tests/benchmarks/bench_versioned_stores.py [--python PYTHON] [--scratch FOLDER] [--node-modules FOLDER]

Three releases of simulated builds (1.0.0; 1.1.0 with samples added; 2.0.0 with some added and some removed) are the
samples; their train split is written in every layout. --python: an interpreter with requirements-versioned.txt, this
one by default; --node-modules: where npm installed zarrita and @zarrita/storage. Reading and writing go round by round
in another order each, every figure in a process of its own, files in the page cache. Writes
results/versioned-stores.{json,md}. About five minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from measure import ONE_THREAD, write_results
from versioned_stores.compared import Findings, sections
from versioned_stores.damage_ours import damage_release

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SCRATCH = Path("build/bench/versioned")
BUILDS = {"most": ("8", "1"), "fewer": ("7", "1"), "more": ("3", "2")}  # simulated cells and the world's seed, by name
RELEASES = {  # builds by version; the later two follow the first
    "1.0.0": ("most",),
    "1.1.0": ("most", "more"),
    "2.0.0": ("fewer", "more"),
}
SHARD_SAMPLES = 16
LAYOUTS = (
    "plain Zarr, as released",
    "plain Zarr, appended",
    "Icechunk, sharded, as released",
    "Icechunk, sharded, appended",
    "Icechunk, a chunk a sample, as released",
    "Icechunk, a chunk a sample, appended",
    "Icechunk, virtual chunks in our shards",
)
DAMAGED = (*(label for label in LAYOUTS if "as released" in label), "Icechunk, a chunk a sample, without crc32c")
READ = (LAYOUTS[0], LAYOUTS[2], LAYOUTS[4], LAYOUTS[6])
DIRECT = "our release, our reader"
ROUNDS = 5
SECONDS = 1.0
REFERENCES = 1_000_000
OURS = Path(sys.executable)


def launch(python: Path, *words: object) -> Any:
    """What versioned_stores.one_run says. Raises RuntimeError with its last words where it fails."""
    paths = (ROOT / "training", ROOT / "pipeline", HERE) if python == OURS else (HERE,)
    environment = os.environ | ONE_THREAD | {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [str(python), "-m", "versioned_stores.one_run", *map(str, words)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def make_releases(scratch: Path) -> dict[str, Path]:
    """By version; made once and kept."""
    made: dict[str, Path] = {}
    for name, (cells, seed) in BUILDS.items():
        settings = ("--set", f"pack.shard_samples={SHARD_SAMPLES}", "--set", f"seed={seed}")
        _sar1m("build", "--region", f"simulated:{cells}", "--out", scratch / name, *settings)
    for version, builds in RELEASES.items():
        out = scratch / "releases" / version
        follows = ("--previous", made["1.0.0"]) if made else ()
        _sar1m("release", *(scratch / name for name in builds), "--version", version, "--out", out, *follows)
        made[version] = out
    return made


def _sar1m(*words: object) -> None:
    command = [str(OURS), "-m", "sar1m", *map(str, words)]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {(done.stdout + done.stderr)[-2000:]}")


def measure_writing(python: Path, releases: dict[str, Path], folder: Path) -> dict[tuple[str, str], list[Any]]:
    """By layout and newer version, a list of what each round gave: figures of both versions."""
    found: dict[tuple[str, str], list[Any]] = defaultdict(list)
    work = [(label, newer) for label in LAYOUTS for newer in ("1.1.0", "2.0.0")]
    for number in range(3):
        random.Random(number).shuffle(work)
        for label, newer in work:
            target = folder / f"{LAYOUTS.index(label)}-{newer}"
            found[label, newer].append(launch(python, "write", label, target, releases["1.0.0"], releases[newer]))
    return {key: found[key] for key in sorted(found, key=lambda key: (LAYOUTS.index(key[0]), key[1]))}


def measure_reading(python: Path, releases: dict[str, Path], folder: Path) -> dict[str, list[dict[str, float]]]:
    """By contender, a list of rounds, of version 1.1.0."""
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    contenders = [*READ, DIRECT]
    for number in range(ROUNDS):
        random.Random(number).shuffle(contenders)
        for label in contenders:
            if label == DIRECT:
                found[label].append(launch(OURS, "direct", releases["1.1.0"], SECONDS))
            else:
                target = folder / f"{LAYOUTS.index(label)}-1.1.0"
                found[label].append(launch(python, "read", label, target, SECONDS))
        rates = ", ".join(f"{label}: {median(one['one_rate'] for one in found[label]):,.0f}/s" for label in found)
        print(f"round {number}: {rates}", flush=True)
    return {label: found[label] for label in (DIRECT, *READ)}


def measure_damage(python: Path, releases: dict[str, Path], scratch: Path) -> dict[str, dict[str, Any]]:
    """By layout and kind of damage."""
    found = {}
    for label in DAMAGED:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        found[label] = launch(python, "damage", label, releases["1.1.0"], scratch)
    shutil.rmtree(scratch)
    found[DIRECT] = damage_release(releases["1.1.0"], scratch)
    return found


def readers_of(python: Path, folder: Path, release: Path, modules: Path | None) -> dict[str, str]:
    """Which readers open a folder."""
    found: dict[str, str] = launch(python, "foreign", folder, release)
    if modules is not None:
        script = modules.absolute().parent / "zarrita.mjs"  # node looks for modules beside the script
        shutil.copyfile(HERE / "versioned_stores/zarrita.mjs", script)
        done = subprocess.run(["node", str(script), str(folder)], capture_output=True, text=True, check=False)
        error = re.search(r"\w+Error", done.stderr)
        found["zarrita (JavaScript)"] = f"no ({error[0] if error else done.returncode})" if done.returncode else "yes"
    return found


def main() -> None:
    """Make the releases, measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", type=Path, default=OURS)
    parser.add_argument("--scratch", type=Path, default=SCRATCH)
    parser.add_argument("--node-modules", type=Path)
    given = parser.parse_args()
    scratch, python = given.scratch.absolute(), given.python.absolute()
    scratch.mkdir(parents=True, exist_ok=True)
    releases = make_releases(scratch)
    folder = scratch / "releases"  # beside the releases: virtual chunks may lie below the repository's own parent
    stores = {
        "our release": releases["1.1.0"] / "data/train.zarr",
        "Icechunk": folder / f"{LAYOUTS.index(LAYOUTS[2])}-1.1.0",
    }
    writing = measure_writing(python, releases, folder)
    shutil.rmtree(scratch / "references", ignore_errors=True)
    findings = Findings(
        releases=releases,
        writing=writing,
        reading=measure_reading(python, releases, folder),
        damage=measure_damage(python, releases, scratch / "damage"),
        readers={
            name: readers_of(python, store, releases["1.1.0"], given.node_modules) for name, store in stores.items()
        },
        references={"number": REFERENCES, **launch(python, "references", scratch / "references", REFERENCES)},
        versions=launch(python, "versions"),
    )
    command = "python tests/benchmarks/bench_versioned_stores.py"
    print(write_results("versioned-stores", "Versions: release folders beside Icechunk", command, sections(findings)))


if __name__ == "__main__":
    main()
