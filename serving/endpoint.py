"""The ASGI application in front of BentoML's: our own routes; everything else is passed on.

Belongs here: methods, headers, reading a body within bounds. Does not belong here: what is answered (`answers.py`), who
is let in (`gate.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from serving.answers import Answer, json_answer
from serving.gate import METRICS, PROBES
from serving.requests import MAX_BODY_BYTES, RefusedRequestError, too_large

if TYPE_CHECKING:
    from serving.answers import Answerer
    from serving.gate import Gate

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 30.0
# What is left to a body that arrives while the service stops.
LAST_BODY_SECONDS = 3.0


_CLOSE = (b"connection", b"close")
_METHODS: dict[str, tuple[str, ...]] = {
    "/predict": ("POST",),
    "/explain": ("POST",),
    "/model": ("GET", "HEAD"),
    "/docs.json": ("GET", "HEAD"),
    "/": ("GET", "HEAD"),
}


class Endpoint:
    """The routes of ours.

    Args:
        application: BentoML's application.
        answerer: Gives the answerer; there is one from the application's start on.
        gate: Gives the gate, from then on, too.
    """

    def __init__(self, application: Application, answerer: Callable[[], Answerer], gate: Callable[[], Gate]) -> None:
        self._application = application
        self._answerer, self._gate = answerer, gate
        self._is_draining = False
        self._bodies: set[asyncio.Timeout] = set()

    def drain(self) -> None:
        """From now on every answer tells its client that the connection ends with it, and bodies must hurry."""
        self._is_draining = True
        latest = asyncio.get_running_loop().time() + LAST_BODY_SECONDS
        for body in self._bodies:
            if not body.expired():
                body.reschedule(min(body.when() or latest, latest))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or passes it on."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        path = scope["path"]
        if path in PROBES:
            await self._pass_on(scope, receive, send)
            return
        started = perf_counter()
        answerer, gate = self._answerer(), self._gate()
        try:
            headers = dict(scope["headers"])
            gate.require_same_site(headers.get(b"host", b""), headers.get(b"origin", b""))
            if path == METRICS:
                answerer.metrics.hand_over()
            else:
                gate.require_token(headers.get(b"authorization", b""))
            if path not in _METHODS:
                await self._pass_on(scope, receive, send)
                return
            answer = await self._answer(answerer, gate, scope, headers, receive)
        except RefusedRequestError as refusal:
            answer = json_answer(refusal.status, refusal.body(), refusal.headers)
        except ConnectionError:
            return
        head = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        if self._is_draining:
            head.append(_CLOSE)
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})
        answerer.metrics.answered(path if path in _METHODS else "other", answer.status, perf_counter() - started)

    async def _pass_on(self, scope: Message, receive: Receive, send: Send) -> None:
        """To BentoML, whose access log fails at a content type that is no text; none of its routes needs one."""
        scope["headers"] = [
            (name, value) for name, value in scope["headers"] if name != b"content-type" or value.isascii()
        ]
        await self._application(scope, receive, self._closing(send))

    def _closing(self, send: Send) -> Send:
        """While draining, BentoML's answers end their connection as well."""
        if not self._is_draining:
            return send

        async def closing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), _CLOSE]
            await send(message)

        return closing

    async def _answer(
        self, answerer: Answerer, gate: Gate, scope: Message, headers: dict[bytes, bytes], receive: Receive
    ) -> Answer:
        path, methods = scope["path"], _METHODS[scope["path"]]
        if scope["method"] not in methods:
            allow = ((b"allow", ", ".join(methods).encode()),)
            raise RefusedRequestError(405, f"{path} takes {' and '.join(methods)} only", headers=allow)
        if methods != ("POST",):
            return {"/model": answerer.model, "/docs.json": answerer.docs, "/": answerer.page}[path]()
        gate.require_rate()
        _require_json(headers)
        body = await self._body(headers, receive)
        answered = answerer.predict if path == "/predict" else answerer.explain
        with gate.scoring():
            # In a thread, so that others are answered meanwhile.
            if path == "/explain" or answerer.takes_long(body):
                return await asyncio.to_thread(answered, body)
            return answered(body)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """The whole body.

        Raises:
            RefusedRequestError: It is too large (413, before it is read where its length is told), or too slow (408).
            ConnectionError: The client went away.
        """
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > MAX_BODY_BYTES:
            raise too_large()
        body = bytearray()
        limit = asyncio.timeout(LAST_BODY_SECONDS if self._is_draining else BODY_SECONDS)
        try:
            async with limit:
                self._bodies.add(limit)
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionError
                    body += message.get("body", b"")
                    if len(body) > MAX_BODY_BYTES:
                        raise too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError as error:
            raise RefusedRequestError(408, "the body did not arrive in time", headers=(_CLOSE,)) from error
        finally:
            self._bodies.discard(limit)


def _require_json(headers: dict[bytes, bytes]) -> None:
    """Only plain JSON in UTF-8: browsers then ask before they send another site's form here."""
    kind, _, parameters = headers.get(b"content-type", b"").lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if kind.strip() != b"application/json" or charset not in {b"", b"utf-8"}:
        raise RefusedRequestError(415, "the content type is not application/json in UTF-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RefusedRequestError(415, "the body is compressed; expected plain application/json")
