"""The service as a user starts it: `bentoml serve`, real HTTP, a Production model, kill -9.

One server answers all tests of this module, in order; the last ones replace its model and kill it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlops_platform.client import ChurnClient, ClientError
from mlops_platform.contracts import ONLINE_PREDICTIONS, STANDARD
from mlops_platform.inference_pipeline.prediction_log import collect, retire
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import ARCHIVED, MLflowManager
from mlops_platform_tests.integration.servers import (
    ROOT,
    Server,
    eventually,
    features_table,
    promote,
    register_version,
    serving,
)
from mlops_platform_tests.unit.serving.fakes import fill_store

JSON = {"content-type": "application/json"}
# In the online store, as the documents' examples name them, with their tenures.
CUSTOMERS = {"C0000001": 100, "C0000002": 300}

pytestmark = [
    # Importing MLflow warns of MLflow: SQLAlchemy 2.1 deprecates a loader strategy of its, and its types are `Any`.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # It leaves database connections to the collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    settings = load_settings(home=folder / "home")
    settings.home.mkdir()
    promote(settings, register_version(settings, seed=1)[0])
    fill_store(settings, date(2024, 1, 15), **CUSTOMERS)
    with serving(settings, folder) as found:
        eventually(lambda: found.http.get("/readyz").status_code == 200, found)
        yield found


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return features_table(300, seed=7).to_pylist()


def answer(server: Server, features: Any) -> dict[str, Any]:
    response = server.http.post("/predict", json={"features": features})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


def spooled(server: Server) -> list[dict[str, Any]]:
    files = sorted(server.settings.prediction_spool.glob("predictions-*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def test_it_listens_on_loopback_only(server: Server) -> None:
    listening = [c.laddr.ip for c in server.worker().net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


def test_one_row_is_answered_as_documented(server: Server, rows: list[dict[str, Any]]) -> None:
    found = answer(server, rows[0])
    assert list(found) == ["predictions", "probability", "model_metadata", "inference_time_ms"]
    stays, churns = found["probability"]
    assert stays + churns == pytest.approx(1)
    assert found["predictions"] == [int(churns >= 0.4)]
    assert found["model_metadata"] == {"name": "customer_churn_model", "version": "1", "stage": "Production"}
    assert 0 < found["inference_time_ms"] < 10_000


def test_a_list_gives_pairs_equal_to_the_predictors_scores(server: Server, rows: list[dict[str, Any]]) -> None:
    scores = Predictor.load(server.settings).score(rows)
    found = answer(server, rows)
    assert found["predictions"] == scores.prediction.tolist()
    assert {0, 1} == set(found["predictions"])
    assert [pair[1] for pair in found["probability"]] == scores.probability.tolist()
    assert answer(server, rows[:1])["probability"] == [answer(server, rows[0])["probability"]]


def test_each_answer_is_in_the_log(server: Server, rows: list[dict[str, Any]]) -> None:
    response = server.http.post("/predict", json={"features": rows[3]})
    document = response.json()
    logged = next(r for r in spooled(server) if r["prediction_id"] == response.headers["x-prediction-id"])
    assert logged.pop("timestamp").endswith("Z")
    assert logged == {
        "prediction_id": response.headers["x-prediction-id"],
        "model_name": "customer_churn_model",
        "model_version": "v1",
        "features": rows[3],
        "prediction": document["predictions"][0],
        "probability": document["probability"],
        "confidence": max(document["probability"]),
        "inference_latency_ms": document["inference_time_ms"],
    }


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, b"{", JSON),
        (400, b'{"features": NaN}', JSON),
        (400, b"[" * 100_000, JSON),
        (413, b" " * 1_000_001, JSON),
        (413, json.dumps({"features": [{}] * 10_001}).encode(), JSON),
        (415, b"{}", {"content-type": "text/plain"}),
        (415, b"{}", {}),
        (415, b"a=1", {"content-type": "application/x-www-form-urlencoded"}),
        (415, b"x", {"content-type": "multipart/form-data"}),
        (415, b"{}", JSON | {"content-encoding": "gzip"}),
        (422, b"{}", JSON),
        (422, b'{"features": []}', JSON),
        (422, b'{"features": {"tenure_days": 1}}', JSON),
    ],
)
def test_a_bad_request_is_refused(server: Server, status: int, body: bytes, headers: dict[str, str]) -> None:
    response = server.http.post("/predict", content=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.json().keys() == {"error", "fields"}
    assert "Traceback" not in server.output.read_text()


def test_a_body_of_unknown_length_is_bounded_too(server: Server) -> None:
    response = server.http.post("/predict", content=(b" " * 100_000 for _ in range(20)), headers=JSON)
    assert response.status_code == 413


def test_a_field_at_fault_is_named(server: Server, rows: list[dict[str, Any]]) -> None:
    features = rows[0] | {"recency_score": 9, "surprise": 1}
    response = server.http.post("/predict", json={"features": features})
    assert response.status_code == 422
    assert response.json()["fields"] == {
        "recency_score": "is 9; expected an integer from 1 to 5 [score]",
        "surprise": "is no feature of this model",
    }


def test_another_method_is_refused(server: Server) -> None:
    response = server.http.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


def test_the_model_and_the_page_describe_themselves(server: Server) -> None:
    model = server.http.get("/model").json()
    assert model.items() >= {"version": "1", "stage": "Production", "threshold": 0.4, "loaded_from": "registry"}.items()
    # These small models have no serving form.
    assert model["scoring"] == "pipeline"
    assert model["fallback_reason"]
    assert model["training"]["training_run_id"]
    assert model["online_store"].items() >= {"feature_date": "2024-01-15", "customers": 2, "is_stale": True}.items()
    assert [feature["name"] for feature in model["features"]] == [feature.name for feature in STANDARD.features]
    page = server.http.get("/").text
    assert "http" not in page.replace("http-equiv", "")  # loads nothing from elsewhere
    document = server.http.get("/docs.json").json()
    for path in ("/predict", "/explain"):
        examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert server.http.post(path, json=examples["features"]["value"]).status_code == 200


def test_a_customer_is_scored_and_explained_by_its_latest_features(server: Server) -> None:
    found = server.http.post("/explain", json={"customer_id": list(CUSTOMERS)}).json()
    predicted = server.http.post("/predict", json={"customer_id": list(CUSTOMERS)})
    assert found["probability"] == predicted.json()["probability"]
    for contributions, margin, (_, churns) in zip(
        found["contributions"], found["margin"], found["probability"], strict=True
    ):
        assert found["base"] + sum(contributions.values()) == pytest.approx(margin, abs=1e-6)
        assert margin == pytest.approx(math.log(churns / (1 - churns)), abs=1e-4)
    first = next(r for r in spooled(server) if r["prediction_id"] == predicted.headers["x-prediction-id"] + "-0")
    assert first["features"]["tenure_days"] == CUSTOMERS["C0000001"]
    assert len(first["customer_hmac"]) == 64
    assert "C0000001" not in json.dumps(spooled(server))
    assert server.http.post("/predict", json={"customer_id": "C9"}).status_code == 404


@pytest.mark.parametrize("document", ["README.md", "docs/serving.md"])
def test_the_documents_examples_run(server: Server, document: str) -> None:
    commands = [line for line in (ROOT / document).read_text().splitlines() if line.startswith("curl ")]
    assert len(commands) >= 3
    for command in commands:
        here = command.replace("http://127.0.0.1:8000", str(server.http.base_url).rstrip("/")).partition("    #")[0]
        run = subprocess.run(["sh", "-c", f"{here} --fail-with-body"], capture_output=True, text=True, check=True)
        answered = json.loads(run.stdout) if not here.endswith("/metrics") else {"metrics": run.stdout}
        assert answered.keys() & {"predictions", "features", "metrics"}, command


def test_the_client_asks_it(server: Server, rows: list[dict[str, Any]]) -> None:
    with ChurnClient(str(server.http.base_url)) as client:
        assert client.predict(rows[0]).probability == answer(server, rows[0])["probability"][1]
        assert client.predict_customer("C0000002").model_version == client.model()["version"]
        assert client.explain_customer("C0000001").contributions.keys() == rows[0].keys()
        with pytest.raises(ClientError, match="send its features instead"):
            client.predict_customer("C9")


@pytest.mark.parametrize("path", ["/livez", "/healthz", "/readyz"])
def test_health(server: Server, path: str) -> None:
    assert server.http.get(path).status_code == 200


def test_metrics_count(server: Server, rows: list[dict[str, Any]]) -> None:
    def value(line: str) -> float:
        found = [m for m in server.http.get("/metrics").text.splitlines() if m.startswith(line)]
        return float(found[0].rpartition(" ")[2]) if found else 0.0

    answered = 'mlops_serving_requests_total{code="200",route="/predict"}'
    before = value(answered)
    classes = answer(server, rows)["predictions"]
    assert value(answered) == before + 1
    assert value('mlops_serving_predictions_total{prediction="1"}') >= sum(classes) > 0
    assert value('mlops_serving_request_seconds_count{route="/predict"}') > before
    assert value('mlops_serving_model_info{name="customer_churn_model",version="1"}') == 1
    assert value("mlops_serving_prediction_log_failures_total") == 0
    counted = value("mlops_serving_churn_probability_count")
    assert counted >= len(rows)
    assert value('mlops_serving_churn_probability_bucket{le="1.0"}') == counted
    assert 0 < value("mlops_serving_churn_probability_sum") < counted
    assert value('mlops_serving_online_store_age_days{store="sqlite"}') > 365
    eventually(lambda: value("mlops_serving_prediction_log_bytes") > 1000, server)
    assert value("mlops_serving_prediction_log_files") >= 1


def test_a_dead_log_fails_no_prediction(server: Server, rows: list[dict[str, Any]]) -> None:
    shutil.move(server.settings.prediction_spool, server.settings.home / "moved")
    shutil.rmtree(server.settings.home / "moved")
    server.settings.prediction_spool.write_text("in the way")
    answer(server, rows[:5])
    assert "mlops_serving_prediction_log_failures_total 5.0" in server.http.get("/metrics").text
    server.settings.prediction_spool.unlink()
    answer(server, rows[:5])
    assert len(spooled(server)) == 5


def test_a_damaged_version_leaves_the_old_one(server: Server, rows: list[dict[str, Any]]) -> None:
    version, run_id = register_version(server.settings, seed=2)
    (file,) = server.settings.mlflow_artifacts.rglob(f"{run_id}/**/model.skops")
    file.write_bytes(file.read_bytes()[:-1000])
    promote(server.settings, version)
    eventually(lambda: f"version {version} is not used, version 1 stays" in server.output.read_text(), server)
    assert answer(server, rows[0])["model_metadata"]["version"] == "1"


def test_a_new_version_is_taken_over(server: Server, rows: list[dict[str, Any]]) -> None:
    version, _ = register_version(server.settings, seed=3)
    promote(server.settings, version)
    eventually(lambda: answer(server, rows[0])["model_metadata"]["version"] == version, server)
    expected = Predictor.load(server.settings).score(rows[:1]).probability[0]
    assert answer(server, rows[0])["probability"][1] == expected
    info = 'mlops_serving_model_info{name="customer_churn_model",version="%s"} %s'
    metrics = eventually(lambda: server.http.get("/metrics").text, server)
    assert info % (version, "1.0") in metrics
    assert info % ("1", "0.0") in metrics


def test_no_version_in_production_leaves_the_last_one(server: Server, rows: list[dict[str, Any]]) -> None:
    served = answer(server, rows[0])["model_metadata"]["version"]
    MLflowManager(server.settings).transition_model_stage(server.settings.model_name, served, ARCHIVED)
    eventually(lambda: "is in Production" in server.output.read_text(), server)
    assert answer(server, rows[0])["model_metadata"]["version"] == served
    promote(server.settings, served)


def test_kill_9_loses_no_answered_prediction(server: Server, rows: list[dict[str, Any]]) -> None:
    worker = server.worker()
    acknowledged: list[str] = []
    while len(acknowledged) < 1000:
        try:
            response = server.http.post("/predict", json={"features": rows[len(acknowledged) % len(rows)]})
        except httpx.TransportError:
            break
        acknowledged.append(response.headers["x-prediction-id"])
        if len(acknowledged) == 100:
            os.kill(worker.pid, signal.SIGKILL)
    assert 100 <= len(acknowledged) < 1000
    eventually(lambda: server.http.get("/readyz").status_code == 200, server)
    answer(server, rows[0])

    lake = Lake(server.settings)
    lake.publish(collect(lake).draft)
    table = lake.snapshot(ONLINE_PREDICTIONS).to_arrow(["prediction_id"]).column("prediction_id").to_pylist()
    assert set(acknowledged) <= set(table)
    assert len(table) == len(set(table))
    assert len(retire(lake)) == 1  # the dead worker's; the new worker still writes its own
    assert collect(lake).draft.rows.num_rows == 0


def test_without_a_model_it_says_what_to_do(tmp_path: Path) -> None:
    with serving(load_settings(home=tmp_path / "home"), tmp_path) as server:
        assert server.http.get("/readyz").status_code == 503
        response = server.http.post("/predict", json={"features": {}})
        assert response.status_code == 503
        assert "mlops demo" in response.json()["error"]
        # BentoML's own scratch folder aside, asking made nothing.
        assert {path.name for path in (tmp_path / "home").iterdir()} <= {"bentoml"}
