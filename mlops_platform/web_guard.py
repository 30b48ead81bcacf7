"""Which requests a listener of ours answers, told by the headers Host and Origin.

A page of another site can make a browser on this machine send requests to a port on loopback: under its own Origin, or,
by having its name resolve to 127.0.0.1 (DNS rebinding), under its own Host and as if it were the same site. Both carry
a foreign name. What is no browser sends no Origin, and at worst no Host. Belongs here: the decision, and the two
wrappers that apply it. Does not belong here: who may log in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from typing import Any, TypeAlias
from urllib.parse import urlsplit

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApplication: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
WsgiApplication: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
HINT = "MLOPS_ALLOWED_HOSTS names the hosts this port is asked under, besides loopback's"


def refusal(host: str, origin: str, allowed: Collection[str] = ()) -> str | None:
    """Why a request is refused; None if it is not.

    Args:
        host: The header Host; empty if there is none.
        origin: The header Origin; empty if there is none.
        allowed: Names a request may be for and come from, besides loopback's; without port, in lower case.

    Returns:
        One line for the caller, which repeats nothing of the request.
    """
    if host and (name := _name(f"//{host}")) not in LOOPBACK_NAMES and name not in allowed:
        return f"this Host is not served here; {HINT}"
    # The page's own site, or one that is named: another port of this machine is another site.
    if origin and origin.partition("://")[2] != host and _name(origin) not in allowed:
        return "requests of this Origin are not answered here"
    return None


def guarded_asgi(application: AsgiApplication, allowed: Collection[str] = ()) -> AsgiApplication:
    """An ASGI application that answers 403 in place of a foreign request; a WebSocket is closed before it opens."""

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in {"http", "websocket"}:
            await application(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"] if name in {b"host", b"origin"}}
        problem = refusal(headers.get(b"host", ""), headers.get(b"origin", ""), allowed)
        if problem is None:
            await application(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
        else:
            head = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 403, "headers": head})
            await send({"type": "http.response.body", "body": f"{problem}\n".encode()})

    return guarded


def guarded_wsgi(application: WsgiApplication, allowed: Collection[str] = ()) -> WsgiApplication:
    """A WSGI application that answers 403 in place of a foreign request."""

    def guarded(environment: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        problem = refusal(environment.get("HTTP_HOST", ""), environment.get("HTTP_ORIGIN", ""), allowed)
        if problem is None:
            return application(environment, start)
        start("403 Forbidden", [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{problem}\n".encode()]

    return guarded


def _name(address: str) -> str | None:
    """The host's name in an address, in lower case; None if there is none."""
    try:
        parts = urlsplit(address)
        # A port that is no number makes the whole no address.
        _ = parts.port
        return parts.hostname
    except ValueError:
        return None
