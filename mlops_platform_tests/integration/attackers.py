"""Clients that mean harm: bodies without end, a byte a second, half a request and away; in a process of their own.

`python -m mlops_platform_tests.integration.attackers PORT` attacks until its standard input ends, and says then what it
did. Does not belong here: assertions; clients that only ask (`askers.py`).
"""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
BIG_BYTES = 50_000_000
CONNECTIONS = 50
_CHUNK = b" " * 250_000
_TYPE = b"content-type: application/json\r\n"
_HEAD = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n" + _TYPE
# Closing then resets the connection, as when a machine vanishes.
_RESET = struct.pack("ii", 1, 0)


class Attack(threading.Thread):
    """One way to do harm, again and again.

    Args:
        once: Does it once; gets the port, and an event that ends it early.
        port: Of the service.
        is_over: Ends it.
    """

    def __init__(self, once: Callable[[int, threading.Event], None], port: int, is_over: threading.Event) -> None:
        super().__init__(daemon=True, name=once.__name__)
        self.rounds = 0
        self.failed: list[str] = []
        self._once, self._port, self._is_over = once, port, is_over

    def run(self) -> None:
        """Until it is over; being cut off is what it must expect."""
        while not self._is_over.is_set():
            self.rounds += 1
            try:
                self._once(self._port, self._is_over)
            except ConnectionError:
                pass
            except OSError as error:
                self.failed.append(f"{self.name}: {error!r}")


def large_body(port: int, is_over: threading.Event) -> None:
    """Sends 50 MB as it has announced, answer or not."""
    with _connected(port, _HEAD + b"content-length: %d\r\n\r\n" % BIG_BYTES) as client:
        for _ in range(0, BIG_BYTES, len(_CHUNK)):
            if is_over.is_set():
                return
            client.sendall(_CHUNK)


def endless_body(port: int, is_over: threading.Event) -> None:
    """Sends 50 MB in chunks of a body that tells no length."""
    with _connected(port, _HEAD + b"transfer-encoding: chunked\r\n\r\n") as client:
        for _ in range(0, BIG_BYTES, len(_CHUNK)):
            if is_over.is_set():
                return
            client.sendall(b"%x\r\n%b\r\n" % (len(_CHUNK), _CHUNK))


def requests_ahead(port: int, is_over: threading.Event) -> None:
    """Sends thousands of requests at once."""
    with _connected(port, b"GET /docs.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 5_000):
        is_over.wait(0.1)


def unread_answers(port: int, is_over: threading.Event) -> None:
    """50 connections that ask for a megabyte of answers and read nothing."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(_connected(port, b"GET /docs.json HTTP/1.1\r\nhost: localhost\r\n\r\n" * 90))
            if is_over.wait(0.1):
                return
        is_over.wait(10)


def slow_senders(port: int, is_over: threading.Event) -> None:
    """50 connections that send a head, and 50 that send a body, a byte a second."""
    head = _HEAD + b"x-padding: " + b"x" * 1000
    body = json.dumps({"features": {"x" * 1000: 1}}).encode()
    with ExitStack() as stack:
        slow = [(stack.enter_context(_connected(port, b"")), head) for _ in range(CONNECTIONS)]
        begun = _HEAD + b"content-length: %d\r\n\r\n" % len(body)
        slow += [(stack.enter_context(_connected(port, begun)), body) for _ in range(CONNECTIONS)]
        for second in range(len(body)):
            for client, sent in slow:
                client.sendall(sent[second : second + 1])
            if is_over.wait(1.0):
                return


def half_requests(port: int, is_over: threading.Event) -> None:
    """50 connections that send a half and stay, while others send a half and vanish."""
    body = json.dumps({"features": {}}).encode()
    whole = _HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    with ExitStack() as stack:
        for number in range(CONNECTIONS):
            stack.enter_context(_connected(port, whole[: number * len(whole) // CONNECTIONS]))
        for number in range(20 * CONNECTIONS):
            with _connected(port, whole[: number % len(whole)]) as client:
                if number % 2:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            if is_over.wait(0.01):
                return


ATTACKS = (
    large_body, large_body, endless_body, endless_body, requests_ahead, unread_answers, slow_senders, half_requests,
)  # fmt: skip


@dataclass
class Attacks:
    """What the attackers did, once they have ended.

    Args:
        rounds: How often each way to do harm was begun.
        failed: What went wrong with them, being cut off aside.
    """

    rounds: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)


@contextmanager
def attacking(port: int) -> Iterator[Attacks]:
    """All attacks at once; afterwards they have ended."""
    command = [sys.executable, "-m", __name__, str(port)]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        found = Attacks()
        try:
            yield found
        finally:
            said, _ = process.communicate(timeout=60)
        found.rounds, found.failed = json.loads(said)


def main(port: int) -> None:
    """Attacks until standard input ends."""
    is_over = threading.Event()
    made = [Attack(once, port, is_over) for once in ATTACKS]
    for attack in made:
        attack.start()
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    sys.stdin.read()
    is_over.set()
    rounds: Counter[str] = Counter()
    for attack in made:
        attack.join(30)
        rounds[attack.name] += attack.rounds
    sys.stdout.write(json.dumps([rounds, [failure for attack in made for failure in attack.failed]]))


@contextmanager
def _connected(port: int, sent: bytes) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
        client.sendall(sent)
        yield client


if __name__ == "__main__":
    main(int(sys.argv[1]))
