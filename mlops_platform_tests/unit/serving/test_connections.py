"""Connections that send nothing are cut off, and no others. Stopping is tried with real processes (`integration`)."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import uvicorn

from serving.connections import (
    MAX_AHEAD,
    MAX_HEAD_BYTES,
    SILENT_SECONDS,
    STOP_SECONDS,
    BoundedProtocol,
    PatientServer,
)

DONE, BUSY = True, False


class Connection:
    """What the server sees of one."""

    def __init__(self, cycle: Any = None, *, is_read: bool = True) -> None:
        self.cycle = cycle
        self.flow = SimpleNamespace(write_paused=not is_read)
        self.is_cut = False
        self.transport = SimpleNamespace(abort=self._cut)

    def _cut(self) -> None:
        self.is_cut = True


def request(is_answered: bool) -> Any:
    return SimpleNamespace(response_complete=is_answered)


def server(*connections: Any) -> PatientServer:
    made = PatientServer(uvicorn.Config("none"))
    made.server_state.connections = set(connections)
    return made


def test_one_that_never_sends_a_request_is_cut() -> None:
    silent, answered = Connection(), Connection(request(DONE))
    patient = server(silent, answered)
    patient.cut_silent(0.0)
    patient.cut_silent(SILENT_SECONDS)
    assert not silent.is_cut
    patient.cut_silent(SILENT_SECONDS + 1)
    assert silent.is_cut
    assert answered.is_cut


def test_one_that_is_being_answered_or_asks_again_is_not() -> None:
    busy, lively = Connection(request(BUSY)), Connection(request(DONE))
    patient = server(busy, lively)
    for second in range(int(3 * SILENT_SECONDS)):
        # Between two looks a request came and was answered.
        lively.cycle = request(DONE) if second % 20 == 0 else lively.cycle
        patient.cut_silent(float(second))
    assert not busy.is_cut
    assert not lively.is_cut


def test_one_whose_answer_is_not_read_is_cut_though_it_asked_more() -> None:
    unread = Connection(request(BUSY), is_read=False)
    patient = server(unread)
    for second in (0.0, SILENT_SECONDS, SILENT_SECONDS + 1):
        assert not unread.is_cut
        patient.cut_silent(second)
    assert unread.is_cut


def test_answers_under_way_have_a_limit_when_it_stops() -> None:
    assert server().config.timeout_graceful_shutdown == STOP_SECONDS
    own = uvicorn.Config("none", timeout_graceful_shutdown=3)
    assert PatientServer(own).config.timeout_graceful_shutdown == 3


class Wire(asyncio.Transport):
    """Takes what is written, and knows whether it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None:
        """What was read is handed over by hand."""

    def resume_reading(self) -> None:
        """As above."""


def send(*parts: bytes) -> tuple[Wire, bytes]:
    """What came back, and the body that the application got, of one connection that sent these parts."""
    taken = bytearray()

    async def application(scope: Any, receive: Any, answer: Any) -> None:
        while True:
            message = await receive()
            taken.extend(message.get("body", b""))
            if not message.get("more_body"):
                break
        await answer({"type": "http.response.start", "status": 204, "headers": []})
        await answer({"type": "http.response.body", "body": b""})

    async def scenario() -> Wire:
        config = uvicorn.Config(application, http=BoundedProtocol, log_config=None)
        config.load()
        wire = Wire()
        protocol = BoundedProtocol(config, uvicorn.server.ServerState(), {})
        protocol.connection_made(wire)
        for part in parts:
            if not wire.is_closed:
                protocol.data_received(part)
            # One for the task that answers, one for what it waits for.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        protocol.connection_lost(ConnectionError())
        return wire

    return asyncio.run(scenario()), bytes(taken)


LINE = b"POST / HTTP/1.1\r\nhost: localhost\r\n"


def test_a_head_without_end_is_refused() -> None:
    for parts in ([LINE, *[b"x: " + b"y" * 1000 + b"\r\n"] * 200], [LINE + b"x: ", *[b"y" * 1000] * 200]):
        wire, _ = send(*parts)
        assert wire.is_closed
        assert wire.written.startswith(b"HTTP/1.1 400 ")
        assert b"too large" in wire.written


def test_large_bodies_and_many_requests_are_no_head() -> None:
    body = b"z" * (3 * MAX_HEAD_BYTES)
    head = LINE + f"content-length: {len(body)}\r\n\r\n".encode()
    wire, taken = send(head + body[:100], *(body[at : at + 9000] for at in range(100, len(body), 9000)))
    assert taken == body
    assert wire.written.startswith(b"HTTP/1.1 204 ")
    wire, _ = send(*[LINE + b"a: " + b"y" * 1000 + b"\r\ncontent-length: 0\r\n\r\n"] * 100)
    assert wire.written.count(b"HTTP/1.1 204 ") == 100
    assert not wire.is_closed


def test_requests_ahead_of_their_answers_are_bounded() -> None:
    ask = LINE + b"content-length: 0\r\n\r\n"
    wire, _ = send(ask * MAX_AHEAD)
    assert not wire.is_closed
    wire, _ = send(ask * (MAX_AHEAD + 2))
    assert wire.is_closed
    assert wire.written.count(b" 204 ") <= 1
