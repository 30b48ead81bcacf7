"""What a prediction costs: `make bench-serving` prints it and writes `.mlops/bench/serving.json`.

The service as a user gets it (validation, metrics and prediction log on), an echo of the same JSON on the same server,
FastAPI around the Pipeline, and `mlflow models serve`: same model, same rows, each in processes of its own, loaded in
turns. Nothing is asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from mlops_platform.settings import Settings, child_environment, load_settings
from mlops_platform.training_pipeline.fitting import calibrate, fit_pipeline
from mlops_platform.training_pipeline.model_digest import FILES_DIGEST_TAG, PIPELINE_FILE
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.benchmarks.load import Load, load
from mlops_platform_tests.benchmarks.measuring import show
from mlops_platform_tests.integration.servers import features_table
from mlops_platform_tests.ports import free_port

REPORT = Path(".mlops/bench/serving.json")
ROOT = Path(__file__).resolve().parents[2]
TRAIN_ROWS, BODIES = 20_000, 200
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
SECONDS = 3.0
START_SECONDS = 120.0


@dataclass(frozen=True)
class Peer:
    """A running server, and where it takes which bodies."""

    process: psutil.Process
    port: int
    path: str
    dialect: str = "ours"

    def cpu_seconds(self) -> float:
        """What its processes have spent so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(sum(member.cpu_times()[:2]) for member in family)


def make_home(folder: Path) -> tuple[Settings, str]:
    """A home with a model of the default settings in Production; returns it and the model's run."""
    import pyarrow as pa

    settings = load_settings(home=folder / "home")
    rows = features_table(TRAIN_ROWS, seed=1)
    chance = np.random.default_rng(1).uniform(20, 70, TRAIN_ROWS)
    churned = (rows.column("days_since_last_transaction").to_numpy() > chance).astype(np.int64)
    rows = rows.append_column("churned", pa.array(churned))
    held_back = rows.slice(0, TRAIN_ROWS // 5)
    model = calibrate(fit_pipeline(make_model(), rows, churned), held_back)
    manager = MLflowManager(settings)
    with manager.run(settings.experiment_name, "bench", {}) as run_id:
        manager.log_model(run_id, model, rows.drop_columns(["churned"]))
    digest = manager.client.get_run(run_id).data.tags[FILES_DIGEST_TAG]
    tags = {THRESHOLD_TAG: "0.5", TRAINING_SNAPSHOT_TAG: "1", FILES_DIGEST_TAG: digest}
    version = manager.register_model(f"runs:/{run_id}/model", settings.model_name, tags=tags).version
    manager.transition_model_stage(settings.model_name, version, PRODUCTION, archive_existing_versions=True)
    return settings, run_id


def write_bodies(folder: Path, rows_a_request: int) -> dict[str, Path]:
    """Bodies of random rows, one a line, for the service and for MLflow's."""
    rows = features_table(BODIES * rows_a_request, seed=2).to_pylist()
    found = {name: folder / f"{name}-{rows_a_request}.jsonl" for name in ("ours", "mlflow")}
    ours, mlflow = [], []
    for start in range(0, len(rows), rows_a_request):
        part = rows[start : start + rows_a_request]
        ours.append(json.dumps({"features": part if rows_a_request > 1 else part[0]}))
        mlflow.append(json.dumps({"dataframe_records": part}))
    found["ours"].write_text("\n".join(ours))
    found["mlflow"].write_text("\n".join(mlflow))
    return found


@contextmanager
def started(command: list[str], folder: Path, environment: dict[str, str], probe: str) -> Iterator[tuple[Any, int]]:
    """A server on a free port; `{port}` in the command stands for it."""
    port = free_port()
    command = [word.replace("{port}", str(port)) for word in command]
    folder.mkdir()
    with (folder / "output.log").open("wb") as output:
        process = psutil.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not _answers(port, probe):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "output.log").read_text())
                time.sleep(0.1)
            yield process, port
        finally:
            family = [*process.children(recursive=True), process] if process.poll() is None else []
            for member in family:
                member.terminate()
            for member in psutil.wait_procs(family, 15)[1]:
                member.kill()


def _answers(port: int, probe: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}{probe}").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def peers(settings: Settings, run_id: str, folder: Path) -> Iterator[dict[str, Peer]]:
    """All servers, running."""
    # MLflow looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = child_environment(settings, PYTHONPATH=str(ROOT), BENTOML_HOME=str(folder / "bentoml"), PATH=path)
    pipeline = settings.mlflow_artifacts / settings.experiment_name / run_id / "artifacts" / PIPELINE_FILE
    local = MLflowManager(settings).client.download_artifacts(run_id, "model", str(folder))
    bento = [sys.executable, "-m", "bentoml", "serve", "--port", "{port}"]
    fastapi = ["mlops_platform_tests.benchmarks.serving_peers:fastapi_pipeline", "--factory", "--no-access-log"]
    commands = {
        "service": ([*bento, "serving.service:ChurnService"], "/readyz"),
        "echo": ([*bento, "mlops_platform_tests.benchmarks.serving_peers:EchoService"], "/readyz"),
        "fastapi": ([sys.executable, "-m", "uvicorn", *fastapi, "--port", "{port}"], "/openapi.json"),
        "mlflow": (
            # Only `mlflow models serve` itself needs to be allowed to read the model.
            [
                "env",
                "MLFLOW_ALLOW_PICKLE_DESERIALIZATION=true",
                sys.executable,
                "-m",
                "mlflow",
                "models",
                "serve",
                "-m",
                local,
                "-p",
                "{port}",
                "--env-manager",
                "local",
            ],
            "/ping",
        ),
    }
    environment["MODEL_FILE"] = str(pipeline if pipeline.is_file() else Path(local) / Path(PIPELINE_FILE).name)
    with ExitStack() as stack:
        running = {
            name: stack.enter_context(started(command, folder / name, environment, probe))
            for name, (command, probe) in commands.items()
        }
        service, echo, plain, mlflow = (running[name] for name in commands)
        yield {
            "service": Peer(*service, "/predict"),
            "echo of the bytes": Peer(*echo, "/bytes"),
            "echo of the JSON": Peer(*echo, "/json"),
            "FastAPI, DataFrame, Pipeline": Peer(*plain, "/predict"),
            "mlflow models serve": Peer(*mlflow, "/invocations", "mlflow"),
        }


def measure(running: dict[str, Peer], bodies: dict[str, Path]) -> dict[str, Any]:
    """CPU and answers of every server over interleaved rounds, and how many times the service's they are."""
    rounds: dict[str, list[tuple[Load, float]]] = {name: [] for name in running}
    for name, peer in running.items():
        warm = load(peer.port, peer.path, bodies[peer.dialect], 1.0)
        if warm.failed or not warm.requests:
            raise RuntimeError(f"{name} does not answer: {warm}")
    for _ in range(ROUNDS):
        for name, peer in running.items():
            spent = peer.cpu_seconds()
            loaded = load(peer.port, peer.path, bodies[peer.dialect], SECONDS)
            rounds[name].append((loaded, (peer.cpu_seconds() - spent) / max(loaded.requests, 1) * 1e6))
    found: dict[str, Any] = {name: _median(each) for name, each in rounds.items()}
    ours = found["service"]
    for name, peer in found.items():
        if name != "service":
            peer["its CPU ÷ ours"] = round(peer["cpu_us"] / ours["cpu_us"], 3)
            peer["our requests/s ÷ its"] = round(ours["requests_s"] / peer["requests_s"], 3)
    return found


def _median(rounds: list[tuple[Load, float]]) -> dict[str, Any]:
    loads = [asdict(each) | {"requests_s": each.requests / each.seconds, "cpu_us": cpu} for each, cpu in rounds]
    names = ("requests_s", "cpu_us", "p50_ms", "p99_ms")
    return {name: round(statistics.median(each[name] for each in loads), 2) for name in names} | {
        "requests": sum(each["requests"] for each in loads),
        "failed": sum(each["failed"] for each in loads),
    }


def main() -> None:
    """Measures everything."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        settings, run_id = make_home(folder)
        with peers(settings, run_id, folder) as running:
            for rows in (1, 100):
                found[f"{rows} rows a request" if rows > 1 else "one row a request"] = measure(
                    running, write_bodies(folder, rows)
                )
                show(found)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
