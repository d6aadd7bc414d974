"""R7 on the readers of evaluation: damaged and hostile sets are read or refused by name, in bounded memory and time,
and nothing in them is substituted. See evaluation_mutations.py."""

import json
import os
import signal
import subprocess
import sys

import pytest

from support.campaigns import campaign
from support.evaluation_mutations import FAULTS, MEMORY_BYTES
from support.mutant_runs import run_mutants


def run(first, count):
    return run_mutants("evaluation_mutations.py", first, count, memory_bytes=MEMORY_BYTES)


@pytest.mark.parametrize("count", [60, *campaign(1_000)])
def test_mutants(count):
    tally = run(0, count)
    assert tally["SourceError"] + tally["StoreError"] > 0.4 * count  # the mutations do harm
    assert tally["read"] > 0.15 * count  # and the limits do not


@pytest.mark.long
def test_10000_mutants():
    run(10_000, 10_000)


def test_the_campaign_sees_faults(tmp_path):
    """The guards themselves, with readers that hang, take memory without end, raise what is not ours, blame nobody, or
    give another picture. One process imports the libraries, each fault has a fork of its own."""
    program = """
import functools, os, sys
import numpy as np
from pathlib import Path
from support import evaluation_mutations as campaign
from support.hang_guard import hang_guard
from sarmae.evaluate.datasets.pictures import GreyImage

def spin(_):
    while True: pass
def leak(_): bytearray(8 * 2**30)
def crash(_): raise KeyError("x")
def blame(_): raise campaign.Sar1mError("something is wrong")
def half(_): return GreyImage(pixels=np.zeros((24, 24), np.uint8), depth="uint8")

campaign.hang_guard = functools.partial(hang_guard, 3.0)
for fault in (spin, leak, crash, blame, half):
    child = os.fork()
    if not child:
        sys.stdout = open(f"{sys.argv[1]}/{fault.__name__}", "w")
        if fault is half:
            campaign.read_grey = half
            campaign.make_mutant = lambda index, sets, folder: (
                "folders", "nothing", lambda: campaign._as_pillow(sets["folders"] / "a/0.png"))
        else:
            campaign.open_dataset = fault
        sys.argv[1:] = [f"{sys.argv[1]}/scratch-{fault.__name__}", "0", "1"]
        Path(sys.argv[1], "mutant").mkdir(parents=True)
        campaign.main()
        sys.stdout.flush()
        os._exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(map(int, done.stdout.split())) == [signal.SIGPROF, 0, 0, 0, 0], done.stderr
    assert "in spin" in done.stderr
    names = ("leak", "crash", "blame", "half")
    kinds = [json.loads((tmp_path / name).read_text().splitlines()[0])["kind"] for name in names]
    assert kinds == ["out of memory", "untyped", "unnamed", "substituted"]
    assert set(kinds) == set(FAULTS)
