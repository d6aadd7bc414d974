"""The build log: JSON lines beside the store, never inside it. It alone may hold times, processes and paths."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sar1m.store.outputs.output import Output


class BuildLog:
    """Appends events to a file in the folder build-log of an output.

    name: of the file. Processes that work side by side have one each: not all network disks append whole lines.
    """

    def __init__(self, out: Output, name: str = "events") -> None:
        self._out = out
        self._name = f"build-log/{name}.jsonl"

    def event(self, name: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line: UTC time, the event's name, facts."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **facts})
        self._out.append(self._name, line)
