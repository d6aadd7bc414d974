"""The build log: JSON lines beside the store, never inside it. It alone may hold times, processes and paths."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from sar1m.store.outputs.output import Output


class BuildLog:
    """Appends events to build-log/events.jsonl of an output."""

    def __init__(self, out: Output) -> None:
        self._out = out

    def event(self, name: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line: UTC time, the event's name, facts."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **facts})
        self._out.append("build-log/events.jsonl", line)
