"""Connections: how the server stops without dropping a request, and gets rid of clients that never finish one.

uvicorn closes idle connections the moment it is told to stop, and a request on its way there is lost; the supervisor
keeps the listening socket open until its workers are gone, and connections it takes meanwhile are lost, too. So the
supervisor closes the socket first, and each worker then takes what is waiting there, closes it, and tells every client
with its next answer that the connection ends. Does not belong here: what is answered.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import socket

# How long a worker that stops waits for requests on connections that are open already.
DRAIN_SECONDS = 2.0
# And for answers under way then. Containers are killed ten seconds after they are told to stop.
STOP_SECONDS = 5
# A client sends the head of a request within this, after connecting or after its last answer, or is cut off.
SILENT_SECONDS = 30.0
_TICKS_A_SECOND = 10
# The head of a request: its first line and headers.
MAX_HEAD_BYTES = 65_536
# Requests that one connection may send ahead of their answers. A read holds thousands of small ones, and to take them
# all at once would hold up everybody else for half a second.
MAX_AHEAD = 100


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which by itself collects headers, and requests sent ahead, without end."""

    _unfinished = 0

    def data_received(self, data: bytes) -> None:
        """Takes what a client sends, unless that already is more than a head may be, and still none."""
        if self._unfinished > MAX_HEAD_BYTES:
            self.send_400_response("The head of the request is too large.")
            return
        self._unfinished += len(data)
        super().data_received(data)

    def on_message_begin(self) -> None:
        """A request begins; one too many ends the connection."""
        if len(self.pipeline) >= MAX_AHEAD:
            self.transport.abort()
            # What else was read with it is not parsed.
            raise ConnectionAbortedError
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._unfinished = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A part of the body, which the endpoint bounds."""
        self._unfinished = 0
        super().on_body(body)


class PatientServer(uvicorn.Server):
    """uvicorn, stopping with patience, and without patience for clients that send nothing."""

    def __init__(self, config: uvicorn.Config) -> None:
        if config.timeout_graceful_shutdown is None:
            config.timeout_graceful_shutdown = STOP_SECONDS
        config.http = BoundedProtocol
        super().__init__(config)
        self._waiting: dict[Any, tuple[Any, float]] = {}

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second; looks at the connections once a second."""
        if counter % _TICKS_A_SECOND == 0:
            self.cut_silent(time.monotonic())
        return await super().on_tick(counter)

    def cut_silent(self, now: float) -> None:
        """Cuts off connections that have waited for a request, or for their client to read, for too long.

        uvicorn itself waits for ever for a first request, for the rest of a half-sent head, and for a client that
        does not read its answer.

        Args:
            now: Seconds that only grow.
        """
        waiting = {}
        for connection in list(self.server_state.connections):
            cycle, flow = getattr(connection, "cycle", None), getattr(connection, "flow", None)
            if cycle is None or cycle.response_complete or (flow is not None and flow.write_paused):
                before, since = self._waiting.get(connection, (cycle, now))
                # Another request since then: it waits anew.
                waiting[connection] = (cycle, since if before is cycle else now)
        self._waiting = waiting
        for connection, (_, since) in waiting.items():
            if now - since > SILENT_SECONDS:
                connection.transport.abort()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stops: takes the connections that wait, listens no more, answers all that is asked on open ones, ends."""
        application: Any = self.config.app
        application.drain()
        accepted = [found for listener in sockets or [] for found in _accepted(listener)]
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for found in accepted:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, found, ssl=self.config.ssl)
        deadline = time.monotonic() + DRAIN_SECONDS
        while self.server_state.connections and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await super().shutdown(sockets)

    def _protocol(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        made: asyncio.Protocol = kind(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        return made


def _accepted(listener: socket.socket) -> list[socket.socket]:
    """Connections that wait to be accepted; none that comes before the socket closes is left behind."""
    found: list[socket.socket] = []
    listener.setblocking(False)
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return found
        found.append(connection)


def serve_patiently() -> None:
    """Makes BentoML's worker, which names `uvicorn.Server`, use ours: it takes no option for that."""
    setattr(uvicorn, "Server", PatientServer)  # noqa: B010 - mypy allows no assignment to a class


def supervise_patiently() -> None:
    """Makes BentoML's supervisor close the listening socket before it stops the workers."""
    from bentoml._internal.utils import circus

    class ClosingArbiter(circus.Arbiter):
        def stop(self) -> Any:
            self.sockets.close_all()
            return super().stop()

    setattr(circus, "Arbiter", ClosingArbiter)  # noqa: B010 - as above
