"""Object servers on the loopback: a folder with Range and faults for tests, and one with the price of a network.

`folder_server` stands on base.Server. For benchmarks, `python tests/servers/objects.py ROOT --latency-ms 30
--stream-mb-per-s 25` runs in a process of its own: every answer waits the latency, then flows at the bandwidth of its
stream, out of the page cache by sendfile, so that it costs the reader's cores little. It prints its port, and answers
/.count with the requests and bytes it has served.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from servers.base import Reply, Server, file_reply

PREFIX = "/bucket"
_TICK_S = 0.02


def folder_server(root: Path, fault=None) -> Server:
    """Serves root under PREFIX. fault: (Asked, right Reply) -> Reply or None for the right one; may be set later."""

    def answer(asked):
        path = root / asked.path.removeprefix(f"{PREFIX}/")
        if not path.is_file():
            return Reply(status=404)
        right = file_reply(asked, path.read_bytes())
        return (server.fault(asked, right) if server.fault else None) or right

    server = Server({f"{PREFIX}/*": answer})
    server.fault = fault
    return server


def asked_ranges(server: Server) -> list[tuple[str, int, int]]:
    """Name, start and stop of every range that was asked for, in the order of asking."""
    found = []
    for asked in list(server.asked):
        parts = re.fullmatch(r"bytes=(\d+)-(\d+)", asked.headers.get("range", ""))
        if parts:
            found.append((asked.path.removeprefix(f"{PREFIX}/"), int(parts[1]), int(parts[2]) + 1))
    return found


@dataclass(kw_only=True)
class PacedServer:
    """GET of files under root, with or without Range, each answer after latency_s and at bytes_per_s."""

    root: Path
    latency_s: float
    bytes_per_s: float
    requests: int = 0
    sent_bytes: int = 0

    def serve(self) -> None:
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        print(listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=self._connection, args=(connection,), daemon=True).start()

    def _connection(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while head := _read_head(stream):
                method, path, _ = head.split(b" ", 2)
                ranged = re.search(rb"(?mi)^range: bytes=(\d+)-(\d+)", head)
                wanted = (int(ranged[1]), int(ranged[2]) + 1) if ranged else None
                self._answer(connection, path.decode(), wanted, send=method == b"GET")

    def _answer(self, connection: socket.socket, path: str, ranged: tuple[int, int] | None, *, send: bool) -> None:
        if path == "/.count":
            body = json.dumps({"requests": self.requests, "sent_bytes": self.sent_bytes}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        began = time.monotonic()
        file = self.root / path.lstrip("/")
        if not file.is_file():
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
            return
        size = file.stat().st_size
        start, stop = ranged or (0, size)
        status = "206 Partial Content" if ranged else "200 OK"
        span = f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n" if ranged else ""
        head = f'HTTP/1.1 {status}\r\nETag: "{size}"\r\n{span}Content-Length: {stop - start}\r\n\r\n'
        self.requests += 1
        time.sleep(max(0.0, began + self.latency_s - time.monotonic()))
        connection.sendall(head.encode())
        if send:
            self._flow(connection, file, start, stop)

    def _flow(self, connection: socket.socket, file: Path, start: int, stop: int) -> None:
        descriptor = os.open(file, os.O_RDONLY)
        try:
            began, at = time.monotonic(), start
            while at < stop:
                due = start + int((time.monotonic() - began + _TICK_S) * self.bytes_per_s)
                if due > at:
                    at += os.sendfile(connection.fileno(), descriptor, at, min(stop, due) - at)
                if at < stop:
                    time.sleep(_TICK_S)
            time.sleep(max(0.0, began + (stop - start) / self.bytes_per_s - time.monotonic()))
            self.sent_bytes += stop - start
        finally:
            os.close(descriptor)


def _read_head(stream) -> bytes:
    """Request line and headers; empty where the client has gone."""
    lines = [stream.readline()]
    while lines[-1] not in {b"\r\n", b""}:
        lines.append(stream.readline())
    return b"".join(lines) if lines[-1] else b""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("--latency-ms", type=float, default=30.0)
    parser.add_argument("--stream-mb-per-s", type=float, default=25.0)
    given = parser.parse_args()
    PacedServer(root=given.root, latency_s=given.latency_ms / 1e3, bytes_per_s=given.stream_mb_per_s * 1e6).serve()


if __name__ == "__main__":
    main()
