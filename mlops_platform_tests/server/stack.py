"""The servers of the server profile for tests: databases in PostgreSQL, a bucket, and an MLflow server over both.

How to use it: the fixture `stack` of `conftest.py` gives one a module, with databases and a bucket of its own;
`stack.settings(home)` are a home's settings on it, and while the fixture lives, this process's environment has the
bucket's keys, as `stack.environment()` gives to other processes. `stack.database` and `stack.store` are the servers, to
be killed and started again. Without the fixture: `running_stack(database, store, folder)`. What needs no model passes
`has_mlflow=False`, which saves the seconds that MLflow takes to start.

Does not belong here: tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_platform.settings import Settings, load_settings
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.buckets import Bucket
from mlops_platform_tests.integration.object_store import ObjectStore
from mlops_platform_tests.ports import free_port

START_SECONDS = 240.0
# What `tracking_uri` is where there is no MLflow server: the profile asks for one, and nobody answers there.
NOWHERE = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Stack:
    """Running servers.

    Args:
        database: PostgreSQL.
        store: The object store.
        bucket: The stack's own bucket.
        name: Begins the names of the stack's databases.
        tracking_uri: The MLflow server's address.
        folder: Where the MLflow server's home and log are.
        password: Of the databases' user. PostgreSQL asks for none here, and takes any.
    """

    database: postgres.Server
    store: ObjectStore
    bucket: Bucket
    name: str
    tracking_uri: str
    folder: Path
    password: str = ""

    @property
    def has_mlflow(self) -> bool:
        """Whether there is an MLflow server."""
        return self.tracking_uri != NOWHERE

    @property
    def catalog_url(self) -> str:
        """Database of the Iceberg catalog."""
        return self._url("mlops")

    @property
    def dagster_storage_url(self) -> str:
        """Database of Dagster's runs."""
        return self._url("dagster")

    @property
    def mlflow_url(self) -> str:
        """Database of the MLflow server."""
        return self._url("mlflow")

    def _url(self, database: str) -> str:
        url = self.database.url(f"{self.name}_{database}")
        return url.replace("postgres@", f"postgres:{self.password}@") if self.password else url

    def environment(self, home: Path) -> dict[str, str]:
        """What a process of the home finds in its environment: the profile's settings and the bucket's keys."""
        return {
            "MLOPS_HOME": str(home),
            "MLOPS_PROFILE": "server",
            "MLOPS_CATALOG_URL": self.catalog_url,
            "MLOPS_WAREHOUSE_URL": self.bucket.url,
            "MLOPS_DAGSTER_STORAGE_URL": self.dagster_storage_url,
            "MLFLOW_TRACKING_URI": self.tracking_uri,
            **self.bucket.environment(),
        }

    def settings(self, home: Path, **arguments: Any) -> Settings:
        """Settings of a home on these servers."""
        return load_settings(
            home=home,
            profile="server",
            catalog_url=self.catalog_url,
            warehouse_url=self.bucket.url,
            dagster_storage_url=self.dagster_storage_url,
            mlflow_tracking_uri=self.tracking_uri,
            **arguments,
        )


@contextmanager
def running_stack(
    database: postgres.Server,
    store: ObjectStore,
    folder: Path,
    *,
    has_mlflow: bool = True,
    password: str = "",
    tracer: Sequence[str] = (),
) -> Iterator[Stack]:
    """Databases and a bucket on the servers, and an MLflow server over them.

    Dagster's database is made by the platform when it opens the instance, the others here.

    Args:
        database: PostgreSQL.
        store: The object store.
        folder: For the MLflow server's home and log.
        has_mlflow: Whether to start the MLflow server.
        password: Stands in the databases' addresses.
        tracer: The command that the MLflow server is started under, if any.
    """
    port = free_port()
    tracking_uri = f"http://127.0.0.1:{port}" if has_mlflow else NOWHERE
    stack = Stack(database, store, store.bucket(), f"s{uuid.uuid4().hex[:8]}", tracking_uri, folder, password)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.bucket.environment().items():
            patch.setenv(name, value)
        database.run(f"CREATE DATABASE {stack.name}_mlops")
        if not has_mlflow:
            yield stack
            return
        database.run(f"CREATE DATABASE {stack.name}_mlflow")
        with _mlflow_server(stack, port, tracer):
            yield stack


@contextmanager
def _mlflow_server(stack: Stack, port: int, tracer: Sequence[str]) -> Iterator[None]:
    """`mlflow server` as the documented command starts it; it and its workers end with the context."""
    command = (
        *tracer, str(Path(sys.executable).parent / "mlops"), "exec", "--",
        "mlflow", "server", "--artifacts-destination", f"s3://{stack.bucket.name}/mlflow",
        "--port", str(port), "--workers", "1",
    )  # fmt: skip
    environment = {
        **os.environ,
        **stack.bucket.environment(),
        "MLOPS_HOME": str(stack.folder / "mlflow-home"),
        "MLFLOW_BACKEND_STORE_URI": stack.mlflow_url,
        # It would start processes that judge a language model's answers, of which there are none.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    log = stack.folder / "mlflow-server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=stack.folder, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        _await_health(f"{stack.tracking_uri}/health", process, log)
        yield
    finally:
        # Its workers are in its group; and a tracer takes no notice of a signal of its own.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(15)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(url, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the MLflow server did not start: {log.read_text()[-3000:]}")
        time.sleep(0.1)
