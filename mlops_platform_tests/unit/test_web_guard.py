"""Host and Origin: what a browser on this machine sends for its own pages, and what other sites make it send."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlops_platform.errors import SettingsError
from mlops_platform.orchestration.webserver import posted_only
from mlops_platform.settings import load_settings
from mlops_platform.web_guard import Message, guarded_asgi, guarded_wsgi, refusal

ALLOWED = ("ml.example",)


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("", ""),
        ("localhost", ""),
        ("127.0.0.1:3001", ""),
        ("[::1]:3001", ""),
        ("LocalHost:3001", ""),
        ("127.0.0.1:3001", "http://127.0.0.1:3001"),
        ("[::1]:3001", "http://[::1]:3001"),
        ("ml.example", "https://ml.example"),
        ("127.0.0.1:3001", "https://ml.example"),
        ("ML.example:443", "https://ml.example:444"),
    ],
)
def test_our_own_pages(host: str, origin: str) -> None:
    assert refusal(host, origin, ALLOWED) is None


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("evil.example", ""),
        ("evil.example:3001", "http://evil.example:3001"),
        ("localhost.evil.example", ""),
        ("evil.example#localhost", ""),
        ("evil.example/localhost", ""),
        ("localhost@evil.example", ""),
        ("localhost:evil", ""),
        ("localhost, evil.example", ""),
        ("127.0.0.1.", ""),
        ("10.0.0.5:3001", ""),
        ("[::1", ""),
        ("127.0.0.1:3001", "http://evil.example"),
        ("127.0.0.1:3001", "null"),
        ("127.0.0.1:3001", "http://127.0.0.1:8888"),
        ("127.0.0.1:3001", "http://localhost:3001"),
        ("127.0.0.1:3001", "http://127.0.0.1:3001.evil.example"),
        ("127.0.0.1:3001", "http://127.0.0.1:3001@evil.example"),
        ("127.0.0.1:3001", "http://evil.example/ml.example"),
        ("", "http://evil.example"),
        ("ml.example.evil", ""),
    ],
)
def test_other_sites(host: str, origin: str) -> None:
    found = refusal(host, origin, ALLOWED)
    assert found is not None
    assert "evil" not in found


def test_a_websocket_is_closed_before_it_opens() -> None:
    async def application(*_: Any) -> None:
        pytest.fail("it was let in")

    said: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        said.append(message)

    scope = {"type": "websocket", "headers": [(b"host", b"localhost"), (b"origin", b"http://evil.example")]}
    asyncio.run(guarded_asgi(application)(scope, receive, send))
    assert [message["type"] for message in said] == ["websocket.close"]


def test_wsgi() -> None:
    statuses: list[str] = []

    def application(_: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"figures"]

    def start(status: str, _headers: Any) -> None:
        statuses.append(status)

    guarded = guarded_wsgi(application, ALLOWED)
    assert guarded({"HTTP_HOST": "ml.example"}, start) == [b"figures"]
    assert guarded({"HTTP_HOST": "evil.example"}, start) != [b"figures"]
    assert statuses == ["200 OK", "403 Forbidden"]


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLOPS_ALLOWED_HOSTS", "ML.example, exporter")
    assert load_settings().allowed_hosts == ("ml.example", "exporter")
    for wrong in ("https://ml.example", "ml.example:443", "*"):
        monkeypatch.setenv("MLOPS_ALLOWED_HOSTS", wrong)
        with pytest.raises(SettingsError, match="no host's name"):
            load_settings()


@pytest.mark.parametrize(
    ("method", "path", "query", "is_answered"),
    [
        ("GET", "/graphql", b"query=mutation", False),
        ("HEAD", "/some/graphql/", b"query=mutation", False),
        ("GET", "/graphql", b"", True),
        ("POST", "/graphql", b"op=Runs", True),
        ("GET", "/runs", b"q=1", True),
    ],
)
def test_a_link_runs_no_mutation(method: str, path: str, query: bytes, is_answered: bool) -> None:
    statuses: list[int] = []

    async def application(*_: Any) -> None:
        statuses.append(200)

    async def send(message: Message) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": []}
    asyncio.run(posted_only(application)(scope, None, send))  # type: ignore[arg-type]
    assert statuses == [200 if is_answered else 405]
