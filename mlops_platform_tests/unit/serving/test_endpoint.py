"""The routes in front of BentoML: who is asked for a token, when places are taken, and what draining says."""

from __future__ import annotations

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from mlops_platform_tests.unit.serving.fakes import ask, asked, make_answerer, make_endpoint, make_gate, passed_on
from serving.answers import Answer, Answerer
from serving.endpoint import Endpoint
from serving.gate import METRICS, PROBES

TOKEN = "0123456789abcdef"  # noqa: S105 - made up
OPEN_PATHS = (*PROBES, METRICS)
FOREIGN = [(b"host", b"evil.example:8000")], [(b"host", b"localhost:8000"), (b"origin", b"http://evil.example")]


@pytest.fixture
def answerer(tmp_path: Path) -> Answerer:
    return make_answerer(tmp_path / "home")


@pytest.fixture
def body(answerer: Answerer) -> bytes:
    served = answerer.current.served
    assert served is not None
    return json.dumps({"features": served.schema.example()}).encode()


def test_open_paths_and_unknown_ones_are_passed_on(answerer: Answerer) -> None:
    endpoint = make_endpoint(answerer)
    for path in (*OPEN_PATHS, "/elsewhere"):
        assert asked(endpoint, path, method="GET").headers[b"x-passed"] == b"on"


def test_bentoml_gets_no_content_type_that_is_no_text(answerer: Answerer) -> None:
    gate, seen = make_gate(), []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        seen.append([name for name, _ in scope["headers"]])
        await passed_on(scope, receive, send)

    endpoint = Endpoint(application, lambda: answerer, lambda: gate)
    for kind in (b"text/plain", b"\xf2/plain"):
        for path in ("/livez", "/elsewhere"):
            assert asked(endpoint, path, headers=[(b"x", b"y"), (b"content-type", kind)]).status == 204
    assert seen == [[b"x", b"content-type"]] * 2 + [[b"x"]] * 2


def test_with_a_token_only_open_paths_are(answerer: Answerer, body: bytes) -> None:
    endpoint = make_endpoint(answerer, make_gate(token=TOKEN))
    for path in OPEN_PATHS:
        assert asked(endpoint, path, method="GET").status == 204
    for path in ("/", "/model", "/docs.json", "/schema.json", "/elsewhere"):
        assert asked(endpoint, path, method="GET").status == 401
    for path in ("/predict", "/explain"):
        assert asked(endpoint, path, body).status == 401
        shown = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {TOKEN}".encode())]
        assert asked(endpoint, path, body, headers=shown).status == 200


@pytest.mark.parametrize("headers", FOREIGN)
def test_what_another_site_makes_a_browser_send_is_refused(
    answerer: Answerer, body: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    endpoint = make_endpoint(answerer)
    for path in ("/", "/model", "/docs.json", "/metrics", "/elsewhere"):
        assert asked(endpoint, path, method="GET", headers=headers).status == 403
    sent = [(b"content-type", b"application/json"), *headers]
    assert asked(endpoint, "/predict", body, headers=sent).status == 403
    for path in PROBES:
        assert asked(endpoint, path, method="GET", headers=headers).status == 204
    named = make_endpoint(answerer, make_gate(allowed_hosts=("evil.example",)))
    assert asked(named, "/predict", body, headers=sent).status == 200


def test_a_rate_holds_for_scoring_only(answerer: Answerer, body: bytes) -> None:
    endpoint = make_endpoint(answerer, make_gate(rate=1.0, clock=lambda: 0.0))
    assert asked(endpoint, "/predict", body).status == 200
    refused = asked(endpoint, "/explain", body)
    assert (refused.status, refused.headers[b"retry-after"]) == (429, b"1")
    assert asked(endpoint, "/model", method="GET").status == 200


def test_a_busy_service_says_so_and_recovers(answerer: Answerer, body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()

    def slow(_: bytes) -> Answer:
        go_on.wait(20)
        return Answer(200, b"{}")

    endpoint = make_endpoint(answerer, make_gate(concurrency=1))
    monkeypatch.setattr(answerer, "explain", slow)

    async def scenario() -> None:
        first = asyncio.create_task(ask(endpoint, "/explain", body))
        await asyncio.sleep(0)
        second = await ask(endpoint, "/predict", body)
        assert (second.status, second.headers[b"retry-after"]) == (503, b"1")
        assert (await ask(endpoint, "/model", method="GET")).status == 200
        go_on.set()
        assert (await first).status == 200
        assert (await ask(endpoint, "/predict", body)).status == 200

    asyncio.run(scenario())


def test_a_slow_sender_takes_no_place(answerer: Answerer, body: bytes) -> None:
    endpoint = make_endpoint(answerer, make_gate(concurrency=1))

    async def scenario() -> None:
        rest: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def receive() -> Any:
            return await rest

        slow = asyncio.create_task(ask(endpoint, "/predict", receive=receive))
        await asyncio.sleep(0)
        assert (await ask(endpoint, "/predict", body)).status == 200
        rest.set_result({"type": "http.request", "body": body, "more_body": False})
        assert (await slow).status == 200

    asyncio.run(scenario())


def test_a_body_that_does_not_arrive_is_given_up(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.endpoint.BODY_SECONDS", 0.0)

    async def never() -> Any:
        await asyncio.get_running_loop().create_future()

    refused = asked(make_endpoint(answerer), "/predict", receive=never)
    assert (refused.status, refused.headers[b"connection"]) == (408, b"close")


def test_a_client_that_went_away_gets_no_answer(answerer: Answerer) -> None:
    async def gone() -> Any:
        return {"type": "http.disconnect"}

    with pytest.raises(IndexError):
        asked(make_endpoint(answerer), "/predict", receive=gone)


def test_draining_ends_every_connection(answerer: Answerer, body: bytes) -> None:
    endpoint = make_endpoint(answerer)
    assert b"connection" not in asked(endpoint, "/predict", body).headers

    async def scenario() -> None:
        endpoint.drain()
        for path, method in (("/predict", "POST"), ("/livez", "GET"), ("/elsewhere", "GET"), ("/model", "PUT")):
            assert (await ask(endpoint, path, body, method=method)).headers[b"connection"] == b"close"

    asyncio.run(scenario())


def test_draining_hurries_a_body_on_its_way(answerer: Answerer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serving.endpoint.LAST_BODY_SECONDS", 0.0)
    endpoint = make_endpoint(answerer)

    async def never() -> Any:
        await asyncio.get_running_loop().create_future()

    async def scenario() -> None:
        slow = asyncio.create_task(ask(endpoint, "/predict", receive=never))
        await asyncio.sleep(0)
        endpoint.drain()
        assert (await slow).status == 408
        # And one that begins now has no more time.
        assert (await ask(endpoint, "/predict", receive=never)).status == 408

    asyncio.run(asyncio.wait_for(scenario(), 10))
