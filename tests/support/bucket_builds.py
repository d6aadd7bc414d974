"""Small builds into a bucket, in processes of their own that die at chosen requests."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading

from sar1m.store.schema import SCRATCH_DIRS
from support.crash_runner import run_build
from support.hang_guard import STUCK_S


def digest_in(bucket, prefix):
    """As crash_runner.tree_digest, of a prefix of the bucket."""
    digest = hashlib.sha256()
    for name, content in sorted(bucket.objects(f"{prefix}/").items(), key=lambda one: one[0].split("/")):
        if name.split("/", 1)[0] not in SCRATCH_DIRS:
            digest.update(name.encode() + b"\0" + content)
    return digest.hexdigest()


class BuildKiller:
    """The processes come from a fork server, which has imported everything and started no thread: obstore's do not
    survive a fork."""

    def __init__(self, bucket):
        self._bucket = bucket
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["support.bucket_builds", "sar1m.page.build_page"])

    def run(self, address, point=None, *, after=False) -> int:
        """Exit code of a build that dies at its point-th request, before or after that is answered; -9 where it did."""
        before, started, pid = len(self._bucket.requests), threading.Event(), []

        def kill(number, done):
            if point is not None and number - before == point and done == after:
                started.wait(STUCK_S)
                os.kill(pid[0], signal.SIGKILL)

        self._bucket.on_request = kill
        child = self._context.Process(target=build_alone, args=(dict(os.environ), address))
        child.start()
        pid.append(child.pid)
        started.set()
        child.join(STUCK_S)
        self._bucket.on_request = None
        return child.exitcode


def build_alone(environment, address):
    """In a child of the fork server, whose environment is that of its first use."""
    os.environ.update(environment)
    run_build(address)
