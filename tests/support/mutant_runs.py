"""Runs a campaign's program (answer_mutations.py and others): mutants in a process of limited memory."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from support.hang_guard import HANG_CPU_S
from support.paths import SUPPORT


def run_mutants(program, first, count, *arguments, memory_bytes):
    """Runs mutants first to first + count of a program in tests/support; the tally, when none misbehaved.

    Their files lie in memory where that can be: thousands made and removed are slow on a journalling disk.
    """
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as scratch:
        command = [sys.executable, str(SUPPORT / program), scratch, str(first), str(count), *map(str, arguments)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3_000:]}"
    *findings, summary = map(json.loads, done.stdout.splitlines())
    assert findings == []
    assert sum(summary["tally"].values()) == count
    assert summary["slowest_cpu_s"] < HANG_CPU_S
    assert summary["peak_bytes"] < memory_bytes
    return summary["tally"]
