"""Load on a server: so many connections, each with its next request as soon as it has its answer.

Run as a process of its own, so that what the load costs is not counted with the server. Does not belong here: what is
measured, the servers.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import uvloop

CONNECTIONS = 16
_PATIENCE_SECONDS = 20.0
_HEAD_END = b"\r\n\r\n"


@dataclass(frozen=True)
class Load:
    """What came back.

    Args:
        requests: Answers with status 200.
        failed: Other answers, and connections lost.
        seconds: How long it took.
        p50_ms: Median time to answer.
        p99_ms: 99th percentile.
    """

    requests: int
    failed: int
    seconds: float
    p50_ms: float
    p99_ms: float


def load(port: int, path: str, bodies: Path, seconds: float, *, connections: int = CONNECTIONS) -> Load:
    """Loads a server on 127.0.0.1 from a new process.

    Args:
        port: Its port.
        path: Where the bodies are posted.
        bodies: File with one JSON body a line; they are sent in turns.
        seconds: For how long.
        connections: How many at once.
    """
    command = [sys.executable, "-m", __name__, str(port), path, str(bodies), str(seconds), str(connections)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Load(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """One connection; it posts until the deadline."""

    def __init__(self, requests: itertools.cycle[bytes], deadline: float) -> None:
        self._requests, self._deadline = requests, deadline
        self.latencies: list[float] = []
        self.failed = 0
        self.done = asyncio.get_running_loop().create_future()
        self._buffer, self._missing = bytearray(), -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._missing < 0:
            head = self._buffer.find(_HEAD_END)
            if head < 0:
                return
            start = self._buffer.lower().index(b"content-length:") + len(b"content-length:")
            length = int(self._buffer[start : self._buffer.index(b"\r", start)])
            self._missing = head + len(_HEAD_END) + length
        if len(self._buffer) < self._missing:
            return
        if self._buffer.startswith(b"HTTP/1.1 200"):
            self.latencies.append(time.perf_counter() - self._sent)
        else:
            self.failed += 1
        self._buffer.clear()
        self._missing = -1
        if time.perf_counter() < self._deadline:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.failed += time.perf_counter() < self._deadline
        self.done.set_result(None)

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(next(self._requests))


async def _load(port: int, path: str, bodies: list[bytes], seconds: float, connections: int) -> Load:
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nContent-Length: "
    requests = itertools.cycle([head.encode() + str(len(body)).encode() + _HEAD_END + body for body in bodies])
    started = time.perf_counter()
    loop = asyncio.get_running_loop()
    opened = [
        (await loop.create_connection(lambda: _Connection(requests, started + seconds), "127.0.0.1", port))[1]
        for _ in range(connections)
    ]
    async with asyncio.timeout(seconds + _PATIENCE_SECONDS):
        await asyncio.gather(*(connection.done for connection in opened))
    took = time.perf_counter() - started
    latencies = np.array([latency for connection in opened for latency in connection.latencies]) * 1000
    p50, p99 = np.percentile(latencies, [50, 99]) if len(latencies) else (np.nan, np.nan)
    failed = sum(connection.failed for connection in opened)
    return Load(len(latencies), failed, round(took, 3), round(float(p50), 3), round(float(p99), 3))


def main() -> None:
    """Prints a `Load` as JSON."""
    port, path, bodies, seconds, connections = sys.argv[1:]
    lines = Path(bodies).read_bytes().splitlines()
    found = uvloop.run(_load(int(port), path, lines, float(seconds), int(connections)))
    sys.stdout.write(json.dumps(vars(found)))


if __name__ == "__main__":
    main()
