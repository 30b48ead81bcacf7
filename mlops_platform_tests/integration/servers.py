"""A running `bentoml serve`, small models to put into its registry, and rows to ask it about.

Does not belong here: tests.
"""

from __future__ import annotations

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

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.table import ColumnType
from mlops_platform.settings import Settings, child_environment
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 40.0


@dataclass
class Server:
    """A running `bentoml serve`."""

    settings: Settings
    process: subprocess.Popen[bytes]
    http: httpx.Client
    output: Path

    def worker(self) -> psutil.Process:
        """The process that answers."""
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
        manager.log_model(run_id, model, rows)
    tags = {THRESHOLD_TAG: "0.4", TRAINING_SNAPSHOT_TAG: "1"}
    return manager.register_model(f"runs:/{run_id}/model", settings.model_name, tags=tags).version, run_id


def promote(settings: Settings, version: str) -> None:
    """Puts a version into Production, and archives the one before."""
    MLflowManager(settings).transition_model_stage(
        settings.model_name, version, PRODUCTION, archive_existing_versions=True
    )


@contextmanager
def serving(settings: Settings, folder: Path, **variables: str) -> Iterator[Server]:
    """Serves from a home.

    Args:
        settings: The home.
        folder: Where the server runs and keeps its output.
        **variables: More environment variables.
    """
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:ChurnService", "--port", str(port)]
    # In a folder of its own, as from an installed package; BentoML keeps its metrics of running workers in its home.
    environment = child_environment(settings, PYTHONPATH=str(ROOT), BENTOML_HOME=str(folder / "bentoml"), **variables)
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
