"""Settings of the downloader, sent to every worker. They hold no secret."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sar1m.config import DownloadConfig
from sar1m.store.addresses import Reach

LOOPBACK_VARIABLE: Final = "SAR1M_ALLOW_LOOPBACK"


@dataclass(frozen=True)
class FetchSettings:
    """Where the downloader keeps its files, and what it may ask.

    root: folder of cache, limiter and meter, shared by all workers of a build (<out>/cache/net).
    limits: [download] of the configuration.
    allow_loopback: lets this machine itself be asked, for tests; SAR1M_ALLOW_LOOPBACK=1 does the same.
    ports: that may be asked on other hosts.
    first_delay_s: upper end of the random wait before the second attempt; it doubles with each further attempt.
    """

    root: Path
    limits: DownloadConfig
    allow_loopback: bool = False
    ports: tuple[int, ...] = (443,)
    first_delay_s: float = 0.5

    @property
    def reach(self) -> Reach:
        """Which addresses may be asked."""
        loopback = self.allow_loopback or os.environ.get(LOOPBACK_VARIABLE) == "1"
        return Reach(loopback=loopback, ports=self.ports)
