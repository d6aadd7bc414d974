"""R7: damaged and hostile answers of catalogues and region files are read or refused by name, in bounded memory and
time. See answer_mutations.py."""

import json
import signal
import subprocess
import sys

import pytest

from support.answer_mutations import MEMORY_BYTES
from support.campaigns import campaign
from support.mutant_runs import run_mutants
from support.paths import SHARED

RECORDED = [path for path in [SHARED / "data/api_responses"] if path.is_dir()]  # beside those of the stand-ins


def run(first, count):
    return run_mutants("answer_mutations.py", first, count, *RECORDED, memory_bytes=MEMORY_BYTES)


@pytest.mark.parametrize("count", [100, *campaign(1_000)])
def test_mutants(count):
    tally = run(0, count)
    assert tally["SourceError"] > 0.25 * count  # the mutations do harm
    assert tally["RegionError"] > 0.1 * count
    assert tally["read"] > 0.25 * count  # and the limits do not


@pytest.mark.long
def test_10000_mutants():
    run(10_000, 10_000)


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
