"""The ASGI application in front of BentoML's: `/predict`, `/model` and the API page; everything else is passed on.

Belongs here: methods, headers, reading a body within bounds. Does not belong here: what is answered (`answers.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from serving.answers import Answer, json_answer
from serving.requests import MAX_BODY_BYTES, RefusedRequestError, too_large

if TYPE_CHECKING:
    from serving.answers import Answerer

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
Application: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

BODY_SECONDS = 30.0
# A larger body takes milliseconds to parse and score: it goes to a thread, so that others are answered meanwhile.
INLINE_BYTES = 65_536


class Endpoint:
    """The routes of ours.

    Args:
        application: BentoML's application.
        answerer: Gives the answerer; there is one from the application's start on.
    """

    def __init__(self, application: Application, answerer: Callable[[], Answerer]) -> None:
        self._application = application
        self._answerer = answerer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answers one request, or passes it on."""
        if scope["type"] != "http" or scope["path"] not in _METHODS:
            await self._application(scope, receive, send)
            return
        started = perf_counter()
        answerer = self._answerer()
        try:
            answer = await _answer(answerer, scope, receive)
        except RefusedRequestError as refusal:
            answer = json_answer(refusal.status, refusal.body(), refusal.headers)
        except ConnectionError:
            return
        head = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        await send({"type": "http.response.body", "body": answer.body if scope["method"] != "HEAD" else b""})
        answerer.metrics.answered(scope["path"], answer.status, perf_counter() - started)


_METHODS: dict[str, tuple[str, ...]] = {
    "/predict": ("POST",),
    "/model": ("GET", "HEAD"),
    "/docs.json": ("GET", "HEAD"),
    "/": ("GET", "HEAD"),
}


async def _answer(answerer: Answerer, scope: Message, receive: Receive) -> Answer:
    path, methods = scope["path"], _METHODS[scope["path"]]
    if scope["method"] not in methods:
        allow = ((b"allow", ", ".join(methods).encode()),)
        raise RefusedRequestError(405, f"{path} takes {' and '.join(methods)} only", headers=allow)
    if path != "/predict":
        return {"/model": answerer.model, "/docs.json": answerer.docs, "/": answerer.page}[path]()
    headers = dict(scope["headers"])
    _require_json(headers)
    body = await _body(headers, receive)
    if len(body) > INLINE_BYTES:
        return await asyncio.to_thread(answerer.predict, body)
    return answerer.predict(body)


def _require_json(headers: dict[bytes, bytes]) -> None:
    """Only plain JSON in UTF-8: browsers then ask before they send another site's form here."""
    kind, _, parameters = headers.get(b"content-type", b"").lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if kind.strip() != b"application/json" or charset not in {b"", b"utf-8"}:
        raise RefusedRequestError(415, "the content type is not application/json in UTF-8")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RefusedRequestError(415, "the body is compressed; expected plain application/json")


async def _body(headers: dict[bytes, bytes], receive: Receive) -> bytes:
    """The whole body.

    Raises:
        RefusedRequestError: It is too large (413, found before it is read where its length is told), or too slow (408).
        ConnectionError: The client went away.
    """
    length = headers.get(b"content-length", b"")
    if length.isdigit() and int(length) > MAX_BODY_BYTES:
        raise too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
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
        close = ((b"connection", b"close"),)
        raise RefusedRequestError(408, f"the body did not arrive within {BODY_SECONDS:g} s", headers=close) from error
