"""What the tests of the downloader share."""

import json
import os
import subprocess
import sys

import pytest

from sar1m.config import DownloadConfig
from sar1m.io.net.fetch import Fetcher, FetchSettings
from support.hang_guard import STUCK_S
from support.paths import SUPPORT

QUICK = {"connections": 32, "requests_per_s": 1e6, "read_timeout_s": 0.4, "connect_timeout_s": 2.0}


@pytest.fixture
def fetcher(tmp_path):
    """Makes a Fetcher with short time-outs; keywords change [download]."""

    def make(root=tmp_path / "net", **limits):
        return Fetcher(FetchSettings(root, DownloadConfig(**QUICK | limits), allow_loopback=True, first_delay_s=0.02))

    return make


@pytest.fixture
def process(tmp_path):
    """Starts net_process.py with a job; what is left of them is killed at the end, by id."""
    started = []

    def start(root=tmp_path / "net", limits=None, **job):
        job |= {"root": str(root), "limits": QUICK | (limits or {})}
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        command = [sys.executable, str(SUPPORT / "net_process.py"), json.dumps(job)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
        worker.wait(STUCK_S)
        worker.stdout.close()
