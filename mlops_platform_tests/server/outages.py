"""A platform of the server profile as it is deployed: a code location and a daemon in processes of their own.

Belongs here: starting and ending them, launching a run, and following what becomes of it. Does not belong here:
assertions, and the servers themselves (`stack.py`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import dagster as dg
from click.testing import CliRunner
from dagster._cli.job import job_launch_command

from mlops_platform.orchestration.instance import open_instance
from mlops_platform.settings import Settings
from mlops_platform_tests.ports import free_port

PATIENCE_SECONDS = 120.0
POLL_SECONDS = 0.3
WORKSPACE = """load_from:
  - grpc_server:
      host: 127.0.0.1
      port: {port}
      location_name: mlops_platform
"""
T = TypeVar("T")


@dataclass(frozen=True)
class Deployed:
    """A running code location and daemon.

    Args:
        instance: The home's Dagster instance.
        environment: The processes' variables.
        workspace: The file that names the code location.
    """

    instance: dg.DagsterInstance
    environment: Mapping[str, str]
    workspace: Path

    def launch(self, job: str, partition: str) -> str:
        """Starts a job in the code location, as schedules and the UI do; returns the run's id."""
        before = {run.run_id for run in self.instance.get_runs()}
        arguments = ["-w", str(self.workspace), "-j", job, "--tags", json.dumps({"dagster/partition": partition})]
        CliRunner().invoke(job_launch_command, arguments, env=dict(self.environment), catch_exceptions=False)
        (run_id,) = {run.run_id for run in self.instance.get_runs()} - before
        return run_id

    def family(self, run_id: str) -> list[dg.DagsterRun]:
        """A run and the daemon's retries of it."""
        return [run for run in self.instance.get_runs() if run_id in (run.run_id, run.root_run_id)]

    def unfinished(self) -> list[dg.DagsterRun]:
        """Every run that has not ended."""
        return [run for run in self.instance.get_runs() if not run.is_finished]

    def has_succeeded(self, run_id: str) -> bool:
        """Whether the run, or a retry of it, has succeeded; waits while one may still be coming."""

        def is_settled() -> bool:
            family = {run.run_id: run for run in self.family(run_id)}
            return all(
                run.status is dg.DagsterRunStatus.SUCCESS
                or run.tags.get("dagster/will_retry") == "false"
                or run.tags.get("dagster/auto_retry_run_id") in family
                for run in family.values()
                if run.is_finished
            ) and all(run.is_finished for run in family.values())

        until(is_settled, "the run has ended, and so have its retries", 300)
        return any(run.status is dg.DagsterRunStatus.SUCCESS for run in self.family(run_id))


@contextmanager
def deployed(settings: Settings, environment: Mapping[str, str], folder: Path) -> Iterator[Deployed]:
    """Runs the code location and the daemon over a home."""
    port = free_port()
    workspace = folder / "workspace.yaml"
    workspace.write_text(WORKSPACE.format(port=port))
    programs = Path(sys.executable).parent
    location = ("-m", "mlops_platform.definitions", "-a", "defs", "-h", "127.0.0.1", "-p", str(port))
    with open_instance(settings) as instance, ExitStack() as stack:
        code = [str(programs / "dagster"), "api", "grpc", *location]
        stack.enter_context(_running(code, environment, folder / "code.log", lambda: _answers(port)))
        daemon = [str(programs / "dagster-daemon"), "run", "-w", str(workspace)]
        # It retries runs that fail once it has begun to follow the log of events.
        stack.enter_context(_running(daemon, environment, folder / "daemon.log", lambda: _follows(instance)))
        yield Deployed(instance, environment, workspace)


@contextmanager
def _running(
    command: Sequence[str], environment: Mapping[str, str], log: Path, is_ready: Callable[[], bool]
) -> Iterator[None]:
    """A process, from when it is ready."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until(lambda: process.poll() is not None or is_ready(), f"{command[0]} is ready")
        if process.returncode is not None:
            raise RuntimeError(f"{command[0]} ended: {log.read_text()[-3000:]}")
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(found: Callable[[], T], what: str, seconds: float = PATIENCE_SECONDS) -> T:
    """Waits until a call returns something true; returns it.

    Raises:
        TimeoutError: It did not in time.
    """
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{seconds:g} s have passed, and still not: {what}")
        time.sleep(POLL_SECONDS)
    return value


def _follows(instance: dg.DagsterInstance) -> bool:
    return "EVENT_LOG_CONSUMER" in instance.get_daemon_heartbeats()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
