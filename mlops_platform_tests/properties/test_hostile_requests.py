"""Whatever is sent to the service's routes, it answers below 500 and with finite numbers: 2,000 made-up requests.

They are drawn from a seed: valid bodies, valid ones with a few things wrong, and bytes changed at random, over all
routes and methods, against a fitted model. Does not belong here: what exactly is answered (`unit/serving`).
"""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter
from datetime import date
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest

from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import Settings, load_settings
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import RegisteredModel
from mlops_platform_tests.integration.servers import features_table
from mlops_platform_tests.unit.serving.fakes import Response, asked, fill_store, make_endpoint
from serving.answers import Answerer
from serving.endpoint import Endpoint
from serving.metrics import Metrics

REQUESTS = 20_000 if os.environ.get("FULL_PROOFS") else 2_000
HOSTILE: list[Any] = [
    None, True, False, 0, -1, -0.0, 1.5, 2**31, 2**63, -(2**63), 10**400, 1e308, -1e308, 5e-324, 3.5e38, 0.1, "", " ",
    "NaN", "unknown", "premium", "\ud800", "\x00", "é", "x" * 5000, "'; DROP TABLE customers; --", "${jndi:ldap://x}",
    [], {}, [[]], [{}], [None], {"a": {}}, [1, 2, 3], {"$ref": "#"}, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip
KEYS = ["features", "customer_id", "tenure_days", "__proto__", "", "\x00", "é", "a" * 300, "churn_score"]
METHODS = ["POST"] * 12 + ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "\x00"]
PATHS = ["/predict"] * 8 + ["/explain"] * 4 + ["/model", "/", "/docs.json", "/elsewhere"]
KINDS = [b"application/json"] * 15 + [
    b"application/json; charset=utf-8",
    b"application/json;charset=utf-16",
    b"",
    b"a/b",
]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Endpoint:
    settings: Settings = load_settings(home=tmp_path_factory.mktemp("hostile") / "home")
    fill_store(settings, date(2024, 1, 15), C1=100, C2=300)
    rows = features_table(200, seed=1)
    churned = rows["days_since_last_transaction"].to_numpy() > np.random.default_rng(1).uniform(20, 70, 200)
    pipeline = make_model(hyperparameters={"n_estimators": 20, "min_child_weight": 1}).fit(rows, churned.astype(int))
    names = tuple(pipeline["features"].feature_names_in_)
    model = RegisteredModel("customer_churn_model", "1", "Production", "run", {})
    predictor = Predictor(model, pipeline, 0.4, 1, names)
    predictor.use_one_thread()
    served = SimpleNamespace(predictor=predictor, schema=RowSchema.of(settings, names))
    current: Any = SimpleNamespace(served=served, problem=None, source="registry")
    return make_endpoint(Answerer(settings, current, mock.create_autospec(Metrics, instance=True)))


def document(chance: random.Random, rows: list[dict[str, Any]]) -> Any:
    """A body as a client would send it, and then more or less of it spoilt."""
    kind = chance.random()
    if kind < 0.25:
        named: Any = chance.choice(["C1", "C2", "C9", ["C1", "C2"], ["C1"] * 1001, *HOSTILE])
        found: Any = {"customer_id": named}
    elif kind < 0.3:
        return chance.choice(HOSTILE)
    else:
        picked = [dict(chance.choice(rows)) for _ in range(chance.randint(1, 4))]
        found = {"features": picked if chance.random() < 0.4 else picked[0]}
    for _ in range(chance.choice([0, 0, 0, 0, 1, 1, 2, 3])):
        spoil(chance, found)
    return found


def spoil(chance: random.Random, found: dict[str, Any]) -> None:
    """Changes, adds or takes away one member somewhere."""
    within: Any = found
    if chance.random() < 0.9:
        inner = found.get("features")
        within = (
            inner if isinstance(inner, dict) else chance.choice(inner) if isinstance(inner, list) and inner else found
        )
    if not isinstance(within, dict):
        return
    how = chance.random()
    if how < 0.6 and within:
        within[chance.choice(list(within))] = chance.choice(HOSTILE)
    elif how < 0.8 and within:
        within.pop(chance.choice(list(within)))
    else:
        within[chance.choice(KEYS)] = chance.choice(HOSTILE)


def body_of(chance: random.Random, found: Any) -> bytes:
    body = bytearray(json.dumps(found, ensure_ascii=chance.random() < 0.8).encode("utf-8", "surrogatepass"))
    how = chance.random()
    if how < 0.1:
        for _ in range(chance.randint(1, 5)):
            body[chance.randrange(len(body))] = chance.randrange(256)
    elif how < 0.15:
        del body[chance.randrange(len(body)) :]
    elif how < 0.18:
        body = body * 2
    elif how < 0.2:
        body = bytearray(
            chance.choice([b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000, b" " * 1_000_001, b"\xef\xbb\xbf{}"])
        )
    return bytes(body)


def require_decent(path: str, response: Response) -> None:
    assert 200 <= response.status < 500
    if path == "/elsewhere" or not response.body or response.headers[b"content-type"] != b"application/json":
        return

    def refuse(name: str) -> None:
        raise AssertionError(name)

    found = json.loads(response.body, parse_constant=refuse)
    if response.status != 200:
        assert found.keys() == {"error", "fields"}
    elif path in {"/predict", "/explain"}:
        pairs = found["probability"] if isinstance(found["probability"][0], list) else [found["probability"]]
        assert all(math.isfinite(share) and 0 <= share <= 1 for pair in pairs for share in pair)


def test_nothing_hostile_breaks_it(endpoint: Endpoint) -> None:
    chance = random.Random(20240115)
    rows = features_table(50, seed=2).to_pylist()
    seen: Counter[int] = Counter()
    for number in range(REQUESTS):
        path, method = chance.choice(PATHS), chance.choice(METHODS)
        body = body_of(chance, document(chance, rows))
        headers = [(b"content-type", chance.choice(KINDS)), (b"authorization", chance.randbytes(8))]
        if chance.random() < 0.05:
            headers.append((b"content-length", chance.choice([b"99999999999", b"-1", b"x", "²".encode(), b"5"])))
        response = asked(endpoint, path, body, method=method, headers=headers)
        assert response.status < 500, (number, method, path, body[:500], response.body)
        require_decent(path, response)
        seen[response.status] += 1
    # Not everything was refused at the door.
    assert seen[200] > REQUESTS / 10
    assert seen.keys() >= {200, 204, 400, 404, 405, 413, 415, 422}
