"""R7: damaged and hostile answers of catalogues and region files are read or refused by name, in bounded memory and
time. See answer_mutations.py."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from support.answer_mutations import MEMORY_BYTES
from support.campaigns import campaign
from support.hang_guard import HANG_CPU_S
from support.paths import SHARED, SUPPORT

PROGRAM = SUPPORT / "answer_mutations.py"
RECORDED = [path for path in [SHARED / "data/api_responses"] if path.is_dir()]  # beside those of the stand-ins


@pytest.fixture
def scratch(tmp_path):
    """In memory where that can be: thousands of files made and removed are slow on a journalling disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def run_mutants(scratch, first, count):
    """Runs mutants first to first + count in a process of limited memory; the tally, when none misbehaved."""
    command = [sys.executable, str(PROGRAM), str(scratch), str(first), str(count), *map(str, RECORDED)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3_000:]}"
    *findings, summary = map(json.loads, done.stdout.splitlines())
    assert findings == []
    assert sum(summary["tally"].values()) == count
    assert summary["slowest_cpu_s"] < HANG_CPU_S
    assert summary["peak_bytes"] < MEMORY_BYTES
    return summary["tally"]


@pytest.mark.parametrize("count", [100, *campaign(1_000)])
def test_mutants(scratch, count):
    tally = run_mutants(scratch, 0, count)
    assert tally["SourceError"] > 0.25 * count  # the mutations do harm
    assert tally["RegionError"] > 0.1 * count
    assert tally["read"] > 0.25 * count  # and the limits do not


@pytest.mark.long
def test_10000_mutants(scratch):
    run_mutants(scratch, 10_000, 10_000)


def test_the_campaign_sees_faults(tmp_path):
    """The guards themselves, with a reader that hangs, takes memory without end, raises what is not ours, or does not
    say whose fault it was. One process imports the libraries, each fault has a fork of its own."""
    program = """
import functools, os, sys
from support import answer_mutations as campaign
from support.hang_guard import hang_guard

def stop():
    while True: pass
def leak(): bytearray(4 * 2**30)
def crash(): raise KeyError("x")
def blame(): raise campaign.SourceError("something is wrong")

for fault in (stop, leak, crash, blame):
    child = os.fork()
    if not child:
        sys.stdout = open(f"{sys.argv[1]}/{fault.__name__}", "w")
        subject = campaign.Subject("cdse", ("GET", "*"), {("GET", "*"): b"{}"}, lambda _: fault(), ("cdse",))
        campaign.own_subjects, campaign.REGION_SUBJECTS = lambda: [subject], ()
        campaign.hang_guard = functools.partial(hang_guard, 3.0)
        sys.argv[2:] = ["0", "1"]
        campaign.main()
        sys.exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert list(map(int, done.stdout.split())) == [signal.SIGPROF, 0, 0, 0]
    assert "in stop" in done.stderr
    kinds = {
        name: json.loads((tmp_path / name).read_text().splitlines()[0])["kind"] for name in ("leak", "crash", "blame")
    }
    assert kinds == {"leak": "out of memory", "crash": "untyped", "blame": "unnamed"}
