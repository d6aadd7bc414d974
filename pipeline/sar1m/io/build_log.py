"""The build log: JSON lines beside the store, never inside it. It alone may hold times, processes and paths."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sar1m.store.durable import writing_to


class BuildLog:
    """Appends events to build-log/events.jsonl of an output folder."""

    def __init__(self, out: Path) -> None:
        self._path = out / "build-log" / "events.jsonl"
        with writing_to(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def event(self, name: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
        """One line: UTC time, the event's name, facts."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "event": name, **facts})
        with writing_to(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
