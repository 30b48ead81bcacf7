"""The client against the service's own routes, without a network; and what it does when nobody answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_platform.client import ChurnClient, ClientError
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings
from mlops_platform_tests.unit.serving.fakes import ask, make_answerer, make_endpoint, make_gate
from serving.endpoint import Endpoint

ROW = RowSchema.of(load_settings()).example()
TOKEN = "0123456789abcdef"  # noqa: S105 - made up


def client_of(endpoint: Endpoint, **arguments: Any) -> ChurnClient:
    def answered(request: httpx.Request) -> httpx.Response:
        headers = [(name.lower(), value) for name, value in request.headers.raw]
        found = asyncio.run(ask(endpoint, request.url.path, request.content, method=request.method, headers=headers))
        return httpx.Response(found.status, headers=list(found.headers.items()), content=found.body)

    return ChurnClient(transport=httpx.MockTransport(answered), **arguments)


@pytest.fixture
def client(tmp_path: Path) -> ChurnClient:
    return client_of(make_endpoint(make_answerer(tmp_path / "home")))


def test_predictions(client: ChurnClient) -> None:
    found = client.predict(ROW | {"tenure_days": 100})
    assert (found.prediction, found.probability) == (1, 0.5)
    assert (found.model_name, found.model_version) == ("customer_churn_model", "3")
    assert found.prediction_id.startswith("PRED_")
    many = client.predict_many([ROW | {"tenure_days": days} for days in (0, 100)])
    assert [one.prediction for one in many] == [0, 1]
    assert [one.prediction_id[-2:] for one in many] == ["-0", "-1"]


def test_explanations(client: ChurnClient) -> None:
    found = client.explain(ROW | {"tenure_days": 300})
    assert found.base + sum(found.contributions.values()) == pytest.approx(found.margin) == 2.0
    assert found.prediction.prediction == 1


def test_the_model(client: ChurnClient) -> None:
    assert client.model()["version"] == "3"


def test_a_refusal_says_what_the_service_said(client: ChurnClient) -> None:
    with pytest.raises(ClientError, match="tenure_days is -1; expected an integer") as caught:
        client.predict(ROW | {"tenure_days": -1})
    assert (caught.value.status, list(caught.value.fields)) == (422, ["tenure_days"])


def test_a_number_that_is_none_never_leaves(client: ChurnClient) -> None:
    with pytest.raises(ClientError, match="not JSON compliant"):
        client.predict(ROW | {"churn_score": float("nan")})


def test_a_token_is_shown(tmp_path: Path) -> None:
    endpoint = make_endpoint(make_answerer(tmp_path / "home"), make_gate(token=TOKEN))
    assert client_of(endpoint, token=TOKEN).model()["version"] == "3"
    with pytest.raises(ClientError) as caught:
        client_of(endpoint).model()
    assert caught.value.status == 401


def trying(answers: list[Any], **arguments: Any) -> tuple[Callable[[], Any], list[float]]:
    """A client's call that meets these answers one after the other, and how long it waits between them."""
    waits: list[float] = []

    def answered(request: httpx.Request) -> httpx.Response:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, httpx.Response)
        return found

    client = ChurnClient(transport=httpx.MockTransport(answered), sleep=waits.append, **arguments)
    return client.model, waits


def busy(status: int = 503, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, json={"error": "busy", "fields": {}}, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


GOOD = httpx.Response(200, json={"version": "3"})


def test_it_comes_again_later_and_later() -> None:
    call, waits = trying([httpx.ConnectError("refused"), busy(), httpx.ConnectTimeout("slow"), GOOD])
    assert call() == {"version": "3"}
    assert waits == [0.1, 0.2, 0.4]


def test_it_waits_as_long_as_it_is_told_and_no_longer_than_bearable() -> None:
    call, waits = trying([busy(retry_after="2"), busy(429, retry_after="86400"), busy(retry_after="soon"), GOOD])
    call()
    assert waits == [2.0, 30.0, 0.4]


def test_it_gives_up() -> None:
    call, waits = trying([busy(), busy(), busy()], retries=2)
    with pytest.raises(ClientError, match="busy") as caught:
        call()
    assert (caught.value.status, len(waits)) == (503, 2)
    call, waits = trying([httpx.ConnectError("refused")], retries=0)
    with pytest.raises(ClientError, match="does not answer: ConnectError: refused"):
        call()
    assert not waits


@pytest.mark.parametrize("error", [httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
def test_what_may_have_been_scored_is_not_asked_again(error: Exception) -> None:
    call, waits = trying([error])
    with pytest.raises(ClientError, match="does not answer"):
        call()
    assert not waits


def test_an_answer_that_is_not_the_services() -> None:
    call, _ = trying([httpx.Response(502, text="<html>proxy</html>")])
    with pytest.raises(ClientError, match="HTTP 502 Bad Gateway") as caught:
        call()
    assert caught.value.status == 502
