"""A real Airflow for tests: its own home, SQLite, LocalExecutor, loopback; commands, servers, what became of a run.

Does not belong here: the platform's homes (`homes.py`), assertions.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from mlops_platform_tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = ROOT / ".venv-airflow" / "bin"
MLOPS = Path(sys.executable).parent / "mlops"
DAGSTER = Path(sys.executable).parent / "dagster-webserver"
PATIENCE_SECONDS = 900

Found = TypeVar("Found")


@dataclass(frozen=True)
class Airflow:
    """One Airflow home.

    Args:
        home: AIRFLOW_HOME.
        dags: Folder of its DAG files.
        variables: More environment.
    """

    home: Path
    dags: Path
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Of every command: nothing of the person who runs the tests but the path."""
        kept = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG", "TMPDIR"}}
        return {
            **kept,
            "PATH": f"{BIN}:{kept['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY": "1",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "MLOPS_BIN": str(MLOPS),
            **self.variables,
        }

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of Airflow that has to succeed; standard error comes with the output."""
        done = self.attempt(*arguments)
        assert done.returncode == 0, done.stdout[-8_000:]
        return done

    def attempt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """A command of Airflow, however it ends."""
        return subprocess.run(
            [str(BIN / "airflow"), *arguments],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def python(self, code: str, *arguments: str) -> Any:
        """What a script in Airflow's Python prints last, as JSON."""
        done = subprocess.run(
            [str(BIN / "python"), "-c", code, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-8_000:]
        return json.loads(done.stdout.splitlines()[-1])

    def test(self, dag: str, at: datetime) -> Run:
        """`airflow dags test`: the whole DAG in one process, for a logical date."""
        done = self.attempt("dags", "test", dag, at.isoformat())
        runs = self.runs(dag)
        assert runs, done.stdout[-8_000:]
        return Run(self, dag, runs[0]["run_id"], runs[0]["state"], done.stdout)

    def runs(self, dag: str) -> list[dict[str, Any]]:
        """Runs of a DAG, the newest first."""
        return self.rows("SELECT run_id, state FROM dag_run WHERE dag_id = ? ORDER BY id DESC", dag)

    def rows(self, sql: str, *values: str) -> list[dict[str, Any]]:
        """What stands in Airflow's database: a command that asks it takes seconds."""
        with closing(sqlite3.connect(f"file:{self.home / 'airflow.db'}?mode=ro", uri=True, timeout=60)) as database:
            database.row_factory = sqlite3.Row
            return [dict(row) for row in database.execute(sql, values)]

    def listed(self, *arguments: str) -> list[dict[str, Any]]:
        """Rows that a command prints as JSON."""
        done = subprocess.run(
            [str(BIN / "airflow"), *arguments, "--output", "json"],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        # Warnings come before it.
        rows = [line for line in done.stdout.splitlines() if line.startswith("[{")]
        return list(json.loads(rows[-1])) if rows else []

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Scheduler, DAG processor and API server on a free port."""
        port = free_port()
        address = f"http://127.0.0.1:{port}"
        self.variables["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] = f"{address}/execution/"
        self.variables["AIRFLOW__API__BASE_URL"] = address
        # Three that start at once would each make up a key of its own for a home without a configuration.
        self.variables["AIRFLOW__API_AUTH__JWT_SECRET"] = secrets.token_hex(32)
        # Only what a test triggers: a DAG that is unpaused would first run for its last cron.
        self.variables["AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE"] = "False"
        commands = (
            ("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            ("scheduler", "--skip-serve-logs"),
            ("dag-processor",),
        )
        with ExitStack() as stack:
            for command in commands:
                stack.enter_context(background([str(BIN / "airflow"), *command], self.environment, self.home))
            eventually(lambda: listens(port))
            yield


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended.

    Args:
        airflow: Where.
        dag: Of which DAG.
        run_id: Its id.
        state: success or failed.
        log: What was printed.
    """

    airflow: Airflow
    dag: str
    run_id: str
    state: str
    log: str = ""

    @property
    def states(self) -> dict[str, str]:
        """The state of each task."""
        sql = "SELECT task_id, state FROM task_instance WHERE dag_id = ? AND run_id = ?"
        return {row["task_id"]: row["state"] for row in self.airflow.rows(sql, self.dag, self.run_id)}


@contextmanager
def background(command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process with all that it starts, ended afterwards; its output is a file in the folder."""
    with (folder / f"{Path(command[0]).name}-{command[1]}.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        # What outlives its parent is of the same group.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def eventually(condition: Callable[[], Found], patience: float = PATIENCE_SECONDS) -> Found:
    """The first true value of a condition."""
    until = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.5)
    return found


def listens(port: int) -> bool:
    """Whether somebody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
