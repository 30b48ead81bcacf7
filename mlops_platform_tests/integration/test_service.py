"""The service as a user starts it: `bentoml serve`, real HTTP, a Production model, kill -9.

One server answers all tests of this module, in order; the last ones replace its model and kill it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pytest

from mlops_platform.contracts import ONLINE_PREDICTIONS, STANDARD
from mlops_platform.contracts.table import ColumnType
from mlops_platform.inference_pipeline.prediction_log import collect, retire
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import Settings, child_environment, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import ARCHIVED, PRODUCTION, MLflowManager
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0
JSON = {"content-type": "application/json"}

pytestmark = [
    # Importing MLflow warns of MLflow: SQLAlchemy 2.1 deprecates a loader strategy of its, and its types are `Any`.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # It leaves database connections to the collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Server:
    """A running `bentoml serve`."""

    settings: Settings
    process: subprocess.Popen[bytes]
    http: httpx.Client
    output: Path

    def worker(self) -> psutil.Process:
        (found,) = [
            p for p in psutil.Process(self.process.pid).children(recursive=True) if "worker.service" in str(p.cmdline())
        ]
        return found


def eventually(condition: Callable[[], Any], server: Server) -> Any:
    """The condition's first true value; fails when the server ends or the deadline passes."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if found := condition():
                return found
        except httpx.TransportError:
            pass
        ended = server.process.poll()
        if ended is not None or time.monotonic() > deadline:
            pytest.fail(f"waited in vain, exit code {ended}; the server said:\n{server.output.read_text()}")
        time.sleep(0.05)  # between two looks at the condition, not in place of one


def features_table(rows: int, seed: int) -> pa.Table:
    """Random rows inside the contract."""
    rng = np.random.default_rng(seed)
    columns = {}
    for feature in STANDARD.features:
        column = feature.column
        if column.type is ColumnType.STRING:
            columns[column.name] = pa.array(rng.choice(column.isin or ["card", "cash", "unknown"], rows).tolist())
            continue
        low, high = column.ge or 0, column.le or 90
        if column.type is ColumnType.INT:
            columns[column.name] = pa.array(rng.integers(int(low), int(high) + 1, rows), pa.int32())
        else:
            columns[column.name] = pa.array(rng.uniform(low, high, rows))
    return pa.table(columns)


def register_version(settings: Settings, seed: int) -> tuple[str, str]:
    """Fits a small model and registers it; returns (version, run id)."""
    rows = features_table(200, seed)
    churned = rows.column("days_since_last_transaction").to_numpy() > np.random.default_rng(seed).uniform(20, 70, 200)
    model = make_model(hyperparameters={"n_estimators": 20, "min_child_weight": 1}).fit(rows, churned.astype(int))
    manager = MLflowManager(settings)
    with manager.run(settings.experiment_name, f"seed {seed}", {}) as run_id:
        manager.log_model(run_id, model, rows.slice(0, 5).to_pandas())
    tags = {THRESHOLD_TAG: "0.4", TRAINING_SNAPSHOT_TAG: "1"}
    return manager.register_model(f"runs:/{run_id}/model", settings.model_name, tags=tags).version, run_id


def promote(settings: Settings, version: str) -> None:
    MLflowManager(settings).transition_model_stage(
        settings.model_name, version, PRODUCTION, archive_existing_versions=True
    )


@contextmanager
def serving(settings: Settings, folder: Path) -> Iterator[Server]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:ChurnService", "--port", str(port)]
    # In a folder of its own, as from an installed package; BentoML keeps its metrics of running workers in its home.
    environment = child_environment(settings, PYTHONPATH=str(ROOT), BENTOML_HOME=str(folder / "bentoml"))
    output = folder / "server.log"
    with output.open("wb") as file, httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=subprocess.STDOUT)
        server = Server(settings, process, client, output)
        try:
            eventually(lambda: client.get("/livez").status_code == 200, server)
            yield server
        finally:
            family = [process, *psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                for member in family:
                    member.kill()
                process.wait(15)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("service")
    settings = load_settings(home=folder / "home")
    settings.home.mkdir()
    promote(settings, register_version(settings, seed=1)[0])
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
    assert model.items() >= {"version": "1", "stage": "Production", "threshold": 0.4}.items()
    assert [feature["name"] for feature in model["features"]] == [feature.name for feature in STANDARD.features]
    page = server.http.get("/").text
    assert "http" not in page.replace("http-equiv", "")  # loads nothing from elsewhere
    document = server.http.get("/docs.json").json()
    example = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert server.http.post("/predict", json=example).status_code == 200


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
