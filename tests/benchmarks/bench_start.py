"""What a command or an import costs before it does anything: CPU seconds of fresh processes, in turn.

    python tests/benchmarks/bench_start.py [--rounds 11]

Goal: 0.3 CPU-s for `sar1m --version`. Which libraries may not be loaded is held by tests/test_face.py.
"""

from __future__ import annotations

import argparse
import sys

from measure import Section, Spread, run_command, write_results

STARTS = {
    "python -c pass": "pass",
    "import typer": "import typer",
    "import sar1m": "import sar1m",
    "import sarmae": "import sarmae",
    "sar1m --version": "from sar1m.__main__ import main; import sys; sys.argv = ['sar1m', '--version']; main()",
    "sar1m --help": "from sar1m.__main__ import main; import sys; sys.argv = ['sar1m', '--help']; main()",
    "sarmae --version": "from sarmae.__main__ import main; import sys; sys.argv = ['sarmae', '--version']; main()",
    "import sar1m.store.schema": "import sar1m.store.schema",
    "sar1m.build (loads the pipeline)": "import sar1m; sar1m.build",
    "sarmae.ShardLoader (loads PyTorch)": "import sarmae; sarmae.ShardLoader",
}


def main() -> None:
    """Runs every start once to warm the disk, then in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=11)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in STARTS}
    for number in range(rounds + 1):
        for name, program in STARTS.items():
            cpu_s = run_command([sys.executable, "-c", program]).cpu_s
            if number:
                seconds[name].append(cpu_s)
    rows = [{"start": name, "CPU-s": str(Spread.of(found))} for name, found in seconds.items()]
    note = f"User and system time of the process and its children; median and quartiles of {rounds} rounds."
    command = "python tests/benchmarks/bench_start.py"
    print(
        write_results("start", "What a start costs", command, [Section(title="Fresh processes", note=note, rows=rows)])
    )


if __name__ == "__main__":
    main()
