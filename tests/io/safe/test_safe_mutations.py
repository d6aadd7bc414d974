"""R7: damaged and hostile products are read or refused by name, in bounded memory and time. See safe_mutations.py."""

import json
import os
import signal
import subprocess
import sys

import pytest

from sar1m.io.safe.product import find_products
from support.campaigns import campaign
from support.mutant_runs import run_mutants
from support.paths import SHARED
from support.safe_mutations import MEMORY_BYTES

REAL = SHARED / "data/s1_safe_annotations"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real products in {REAL}")


def run(first, count, *products):
    tally = run_mutants("safe_mutations.py", first, count, *products, memory_bytes=MEMORY_BYTES)
    assert set(tally) <= {"read", "SourceError", "OutputError"}
    return tally


def real_products():
    return [*find_products(REAL), *find_products(REAL / "rome")]


@pytest.mark.parametrize("count", [60, *campaign(970)])
def test_mutants_of_small_products(count):
    tally = run(0, count)
    assert tally["SourceError"] > 0.6 * count  # the mutations do harm
    assert tally["read"] > 0.05 * count  # and the limits do not


@needs_real
@pytest.mark.parametrize("count", [4, *campaign(30)])
def test_mutants_of_real_products(count):
    run(0, count, *real_products())


@pytest.mark.long
def test_8000_mutants_of_small_products():
    run(10_000, 8_000)


@pytest.mark.long
@needs_real
def test_2000_mutants_of_real_products():
    run(10_000, 2_000, *real_products())


def test_the_campaign_sees_faults(tmp_path):
    """Tests the guards: readers that compute for ever, wait for ever, take memory without limit, or raise an exception
    that is not ours. One process imports the libraries, each fault has a fork of its own."""
    program = """
import functools, os, sys, time
from support import safe_mutations as campaign
from support.hang_guard import hang_guard

def spin():
    while True: pass
def wait(): time.sleep(600)
def leak(): bytearray(4 * 2**30)
def crash(): raise KeyError("x")

campaign.product_digest = str
campaign.hang_guard = functools.partial(hang_guard, 3.0, 30.0)
for fault in (spin, wait, leak, crash):
    child = os.fork()
    if not child:
        sys.stdout = open(f"{sys.argv[1]}/{fault.__name__}", "w")
        campaign.read_product = lambda path: fault()
        if fault is wait: campaign.hang_guard = functools.partial(hang_guard, 3.0, 1.0)
        sys.argv[1:] = [f"{sys.argv[1]}/scratch-{fault.__name__}", "0", "1"]
        campaign.main()
        sys.exit(0)
    print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(map(int, done.stdout.split())) == [signal.SIGPROF, signal.SIGALRM, 0, 0], done.stderr
    assert "in spin" in done.stderr
    kinds = {name: json.loads((tmp_path / name).read_text().splitlines()[0])["kind"] for name in ("leak", "crash")}
    assert kinds == {"leak": "out of memory", "crash": "untyped"}
