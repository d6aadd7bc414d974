"""How many requests at once, and how many a second: shared by all processes that work under one folder."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sar1m.config import DownloadConfig
from sar1m.store.durable import writing_to
from sar1m.store.file_lock import flock, lock_path, try_lock
from sar1m.store.shared_numbers import SharedNumbers

MAX_PAUSE_S: Final = 300.0  # the longest that a service's Retry-After is honoured
_BURST_S: Final = 1.0  # a second's worth of requests may go at once
_POLL_S: Final = (0.005, 0.03)


class Limiter:
    """Slots and pace for each host. A slot is a locked file, freed when its holder dies.

    A process with a smaller number of connections uses the first of the same slots.
    """

    def __init__(self, root: Path, limits: DownloadConfig) -> None:
        self._root = root / "limits"
        self._connections = limits.connections
        self._interval_s = 1.0 / limits.requests_per_s

    @contextlib.contextmanager
    def turn(self, host: str) -> Iterator[None]:
        """Waits for a free slot and for the pace, then holds the slot while the context lasts."""
        with self._slot(host):
            wait_s = self._reserve(host)
            if wait_s > 0:
                time.sleep(wait_s)
            yield

    def pause(self, host: str, seconds: float) -> None:
        """No process asks this host for so many seconds: it asked one of them to wait."""
        with self._pace(host).held() as numbers:
            (next_s,) = numbers.read()
            numbers.write(max(next_s, time.time() + min(seconds, MAX_PAUSE_S)))

    @contextlib.contextmanager
    def _slot(self, host: str) -> Iterator[None]:
        folder = self._folder(host)
        with writing_to(folder):
            folder.mkdir(parents=True, exist_ok=True)
        descriptor = self._free_slot(folder)
        while descriptor is None:
            time.sleep(random.uniform(*_POLL_S))  # noqa: S311 - no secret hangs on it
            descriptor = self._free_slot(folder)
        try:
            yield
        finally:
            flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)

    def _free_slot(self, folder: Path) -> int | None:
        for index in range(self._connections):
            with writing_to(folder):
                descriptor = os.open(lock_path(folder / f"slot-{index}"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            taken = False
            try:
                taken = try_lock(descriptor)
            finally:
                if not taken:
                    os.close(descriptor)
            if taken:
                return descriptor
        return None

    def _reserve(self, host: str) -> float:
        """Reserves the time of the next request and returns the seconds until then.

        Source: generic cell rate algorithm, ITU-T I.371. One number, the time of the next request, replaces a bucket of
        tokens.
        """
        with self._pace(host).held() as numbers:
            now_s = time.time()  # not monotonic: workers on other machines share it
            (next_s,) = numbers.read()
            if next_s > now_s + MAX_PAUSE_S + self._connections * self._interval_s:
                next_s = now_s  # a clock was set back
            start_s = max(next_s, now_s - _BURST_S)
            numbers.write(start_s + self._interval_s)
        return start_s - now_s

    def _pace(self, host: str) -> SharedNumbers:
        return SharedNumbers(self._folder(host) / "pace", "<d")

    def _folder(self, host: str) -> Path:
        return self._root / hashlib.blake2b(host.encode(), digest_size=8).hexdigest()
