"""R7: damaged and hostile products are read or refused by name, in bounded memory and time. See safe_mutations.py."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sar1m.io.safe.product import find_products
from support.paths import SHARED, SUPPORT
from support.safe_mutations import HANG_S, MEMORY_BYTES

PROGRAM = SUPPORT / "safe_mutations.py"
REAL = SHARED / "data/s1_safe_annotations"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"no real products in {REAL}")


@pytest.fixture
def scratch(tmp_path):
    """In memory where that can be: thousands of folders made and removed are slow on a journalling disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def campaign(scratch, first, count, *products):
    """Runs mutants first to first + count in a process of limited memory; the summary, when none misbehaved."""
    command = [sys.executable, str(PROGRAM), str(scratch), str(first), str(count), *map(str, products)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    *findings, summary = map(json.loads, done.stdout.splitlines())
    assert findings == []
    assert sum(summary["tally"].values()) == count
    assert set(summary["tally"]) <= {"read", "SourceError", "OutputError"}
    assert summary["slowest_s"] < HANG_S
    assert summary["peak_bytes"] < MEMORY_BYTES
    return summary["tally"]


def real_products():
    return [*find_products(REAL), *find_products(REAL / "rome")]


def test_970_mutants_of_small_products(scratch):
    tally = campaign(scratch, 0, 970)
    assert tally["SourceError"] > 600  # the mutations do harm
    assert tally["read"] > 50  # and the limits do not


@needs_real
def test_30_mutants_of_real_products(scratch):
    campaign(scratch, 0, 30, *real_products())


@pytest.mark.long
def test_8000_mutants_of_small_products(scratch):
    campaign(scratch, 10_000, 8_000)


@pytest.mark.long
@needs_real
def test_2000_mutants_of_real_products(scratch):
    campaign(scratch, 10_000, 2_000, *real_products())


@pytest.mark.parametrize(("fault", "kind"), [("hang", None), ("leak", "out of memory"), ("crash", "untyped")])
def test_the_campaign_sees_faults(tmp_path, fault, kind):
    """The guards themselves: a reader that hangs, takes memory without end, or raises what is not ours."""
    faults = {"hang": "time.sleep(60)", "leak": "bytearray(4 * 2**30)", "crash": "raise KeyError('x')"}
    program = (
        "import sys, time\n"
        "from support import safe_mutations\n"
        f"def read_product(path): {faults[fault]}\n"
        "safe_mutations.read_product = read_product\n"
        "safe_mutations.product_digest = str\n"
        "safe_mutations.HANG_S = 0.5\n"
        f"sys.argv = ['', {str(tmp_path)!r}, '0', '1']\n"
        "safe_mutations.main()\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROGRAM.parent, timeout=60)
    if kind is None:
        assert done.returncode == -signal.SIGALRM
        assert "in read_product" in done.stderr
    else:
        assert json.loads(done.stdout.splitlines()[0])["kind"] == kind
