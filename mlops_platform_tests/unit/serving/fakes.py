"""A model that needs no training, an answerer and an endpoint around it, and requests by hand.

Does not belong here: tests.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import ModelError
from mlops_platform.inference_pipeline.explain import Contributions
from mlops_platform.inference_pipeline.online_store import materialize
from mlops_platform.inference_pipeline.predictor import Scores
from mlops_platform.inference_pipeline.typed_rows import TypedRows
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.registry import RegisteredModel
from serving.answers import Answerer
from serving.endpoint import Endpoint
from serving.gate import Gate
from serving.metrics import Metrics

JSON = ((b"content-type", b"application/json"),)


@dataclass
class FakePredictor:
    """A logistic model of tenure_days."""

    feature_names: tuple[str, ...]
    has_contributions: bool = True
    model: RegisteredModel = field(
        default_factory=lambda: RegisteredModel("customer_churn_model", "3", "Production", "run", {})
    )
    threshold: float = 0.5
    training_snapshot_id: int = 7
    scoring: str = "booster"
    fallback_reason: str | None = None
    facts: dict[str, str] = field(default_factory=lambda: {"model_type": "xgboost", "as_of": "2024-01-15"})

    def score(self, rows: TypedRows) -> Scores:
        """Log-odds are tenure_days / 100 − 1."""
        chance = 1 / (1 + np.exp(-self._margins(rows)))
        return Scores(chance, (chance >= self.threshold).astype(np.int32))

    def explain(self, rows: TypedRows) -> Contributions:
        """All of it is tenure_days'."""
        if not self.has_contributions:
            raise ModelError("this type of model has no exact contributions")
        values = np.zeros((len(rows), len(self.feature_names)))
        values[:, self.feature_names.index("tenure_days")] = self._margins(rows) + 1
        return Contributions(-1.0, values, self._margins(rows))

    def _margins(self, rows: TypedRows) -> Any:
        return next(rows.numbers(["tenure_days"]))[:, 0].clip(max=1000) / 100 - 1


def make_answerer(home: Path, settings: Settings | None = None, **changes: Any) -> Answerer:
    """An answerer with a fake model and fake metrics."""
    settings = settings or load_settings(home=home)
    schema = RowSchema.of(settings)
    predictor = FakePredictor(schema.names, **changes)
    current: Any = SimpleNamespace(
        served=SimpleNamespace(predictor=predictor, schema=schema), problem=None, source="registry"
    )
    return Answerer(settings, current, mock.create_autospec(Metrics, instance=True))


def make_gate(**changes: Any) -> Gate:
    """A gate that lets everybody in."""
    return Gate(**{"token": None, "concurrency": 64, "rate": None} | changes)


@dataclass
class Response:
    """What came back."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


async def passed_on(scope: Any, receive: Any, send: Any) -> None:
    """In BentoML's place."""
    await send({"type": "http.response.start", "status": 204, "headers": [(b"x-passed", b"on")]})
    await send({"type": "http.response.body", "body": b""})


def make_endpoint(answerer: Answerer, gate: Gate | None = None) -> Endpoint:
    """An endpoint in front of nothing."""
    found = gate or make_gate()
    return Endpoint(passed_on, lambda: answerer, lambda: found)


async def ask(
    endpoint: Endpoint,
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    headers: Sequence[tuple[bytes, bytes]] = JSON,
    receive: Callable[[], Any] | None = None,
) -> Response:
    """One request, from its head to the last byte of the answer."""
    sent: list[Any] = []

    async def whole() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": path, "method": method, "headers": list(headers)}
    await endpoint(scope, receive or whole, send)
    return Response(sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:]))


def asked(endpoint: Endpoint, path: str, body: bytes = b"", **arguments: Any) -> Response:
    """`ask`, run to its end."""
    return asyncio.run(ask(endpoint, path, body, **arguments))


def fill_store(settings: Settings, day: date, **tenure_days: int) -> None:
    """Publishes one row of features a customer, told apart by their tenure, and makes the online store of them."""
    lake = Lake(settings)
    contract = lake.features.customer_features
    meta = {"feature_date": day, "_feature_version": "v1", "_created_at": datetime(2024, 1, 17, tzinfo=UTC)}
    example = RowSchema.of(settings).example()
    rows = [
        meta | example | {"customer_id": name, "tenure_days": tenure, "_feature_hash": name}
        for name, tenure in tenure_days.items()
    ]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(contract))
    lake.publish(Draft(contract, table, scope=(Condition("feature_date", "=", day),)))
    materialize(lake)
