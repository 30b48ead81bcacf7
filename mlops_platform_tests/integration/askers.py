"""Threads that keep asking a service, and remember what it answered.

Does not belong here: assertions; clients that mean harm (`attackers.py`).
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mlops_platform_tests.integration.servers import Server

JSON = {"content-type": "application/json"}
WAIT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer that arrived whole.

    Args:
        started: When it was asked, by `time.monotonic`.
        ended: When the last byte was there.
        body: Number of the body it answers.
        status: HTTP status.
        version: Version of the model it names.
        prediction_id: Under which it is logged.
        churns: Chance of churn of each row.
        is_list: Whether rows of it are logged one by one.
    """

    started: float
    ended: float
    body: int
    status: int
    version: str = ""
    prediction_id: str = ""
    churns: tuple[float, ...] = ()
    is_list: bool = False

    @classmethod
    def of(cls, started: float, body: int, response: http.client.HTTPResponse, content: bytes) -> Asked:
        """Reads an answer of `/predict`; of a refusal the status only."""
        ended = time.monotonic()
        if response.status != 200:
            return cls(started, ended, body, response.status)
        found = json.loads(content)
        is_list = isinstance(found["probability"][0], list)
        pairs: list[Any] = found["probability"] if is_list else [found["probability"]]
        return cls(
            started,
            ended,
            body,
            200,
            found["model_metadata"]["version"],
            response.headers["x-prediction-id"],
            tuple(pair[1] for pair in pairs),
            is_list,
        )


class Asker(threading.Thread):
    """Asks on one connection, body after body, until it is told to end or the server is gone.

    Args:
        port: Of the service.
        bodies: What it asks, in turn.
        pause: Seconds between two requests.
        first: Number of the body it begins with.
    """

    def __init__(self, port: int, bodies: Sequence[bytes], pause: float, first: int) -> None:
        super().__init__(daemon=True)
        self.answers: list[Asked] = []
        self.lost: list[str] = []
        self._port, self._bodies, self._pause, self._next = port, bodies, pause, first
        self._is_over = threading.Event()

    def end(self) -> None:
        """It asks nothing more."""
        self._is_over.set()

    def run(self) -> None:
        """Asks; one request that gets no answer is the last."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_SECONDS)
        try:
            while not self._is_over.wait(self._pause):
                number = self._next % len(self._bodies)
                self._next += 1
                started = time.monotonic()
                connection.request("POST", "/predict", self._bodies[number], JSON)
                response = connection.getresponse()
                self.answers.append(Asked.of(started, number, response, response.read()))
        except (OSError, http.client.HTTPException) as error:
            self.lost.append(repr(error))
        finally:
            connection.close()


@contextmanager
def asking(server: Server, bodies: Sequence[bytes], *, askers: int, pause: float) -> Iterator[list[Asker]]:
    """So many askers at work; afterwards they have ended."""
    assert server.http.base_url.port is not None
    made = [Asker(server.http.base_url.port, bodies, pause, first) for first in range(askers)]
    for asker in made:
        asker.start()
    try:
        yield made
    finally:
        for asker in made:
            asker.end()
        for asker in made:
            asker.join(2 * WAIT_SECONDS)


def all_answers(askers: Sequence[Asker]) -> list[Asked]:
    """What all of them were answered, until now."""
    return [answer for asker in askers for answer in list(asker.answers)]
