"""What several test files share."""

import os
import signal
import sys

import pytest
from hypothesis import HealthCheck
from hypothesis import settings as properties

from sar1m import cli
from servers.bucket import bucket, bucket_server  # noqa: F401 - fixtures
from servers.delivered import deliver
from support.crash_runner import run_build
from support.once import once
from support.paths import ROOT

# how many examples a property is tried with; support/examples.py gives shares of it. None has a limit in time: a busy
# machine must fail nothing
for name, count in {"default": 30, "ci": 100, "long": 1000}.items():
    properties.register_profile(name, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])
properties.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# programs that tests start find support/ and servers/ too
os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), *filter(None, [os.environ.get("PYTHONPATH")])])


@pytest.fixture(scope="session")
def small_build(tmp_path_factory):
    """A finished store of SMALL_BUILD, four cells of the simulated world, made once a run. Not to be written to."""

    def make(folder):
        run_build(folder)
        return folder

    return once(tmp_path_factory, "small-build", make)


@pytest.fixture(scope="session")
def delivered(tmp_path_factory):
    """A small product as services deliver it, made once a run. Not to be written to."""
    return once(tmp_path_factory, "delivered", deliver)


@pytest.fixture
def sar1m(monkeypatch, capsys):
    """Runs the command in this process: exit code, stdout, stderr."""
    monkeypatch.setenv("COLUMNS", "80")
    former = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["sar1m", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as leaving:
            code = leaving.code or 0
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    yield run
    for number, handler in former.items():
        signal.signal(number, handler)
