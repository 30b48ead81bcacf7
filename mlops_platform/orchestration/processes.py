"""`mlops up`: Dagster's UI and daemon, MLflow's UI, the service and the exporter as child processes on loopback.

Does not belong here: what they serve.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.errors import PlatformError, StorageError
from mlops_platform.orchestration.instance import open_instance, reap
from mlops_platform.settings import child_environment, mask_secrets, with_driver

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

PORTS = {"Dagster": 3001, "MLflow": 5000, "service": 8000, "metrics": 9101}
STOP_SECONDS = 20
HOST = "127.0.0.1"

# Also right from an installed wheel, where there is no project folder.
WORKSPACE = """load_from:
  - python_module:
      module_name: mlops_platform.definitions
      attribute: defs
      location_name: mlops_platform
"""


@dataclass(frozen=True, slots=True)
class Service:
    """One child process.

    Args:
        name: What a person calls it.
        command: Its command line.
        url: Where to open it; None for one without a page.
        variables: Environment variables of its own.
    """

    name: str
    command: tuple[str, ...]
    url: str | None
    variables: dict[str, str] = field(default_factory=dict)


def services(settings: Settings, workspace: Path) -> list[Service]:
    """The processes of `mlops up`; MLflow's is not one of them where an MLflow server is set."""
    binaries = Path(sys.executable).parent
    dagster = ("-w", str(workspace))
    listen = ("--host", HOST, "--port")
    found = [
        Service(
            "Dagster UI",
            (
                # Not the script `dagster-webserver`: it answers pages of other sites, too.
                sys.executable, "-m", "mlops_platform.orchestration.webserver", *dagster,
                *listen, str(PORTS["Dagster"]),
            ),
            f"http://{HOST}:{PORTS['Dagster']}",
        ),
        Service("Dagster daemon", (str(binaries / "dagster-daemon"), "run", *dagster), None),
        Service(
            "MLflow UI",
            (
                # One person looks at it: the default of four workers takes a gigabyte more.
                str(binaries / "mlflow"), "ui", "--workers", "1",
                "--allowed-hosts", ",".join(f"{name}:{PORTS['MLflow']}" for name in (HOST, "localhost")),
                *listen, str(PORTS["MLflow"]),
            ),
            f"http://{HOST}:{PORTS['MLflow']}",
            # Everybody on the machine can read a command line, and the address may hold a password.
            {
                "MLFLOW_BACKEND_STORE_URI": with_driver(settings.tracking_uri),
                # Seven processes of 130 MB that would wait for jobs of MLflow's, of which there are none.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            },
        ),
        Service(
            "Prediction service",
            (str(binaries / "bentoml"), "serve", "serving.service:ChurnService", *listen, str(PORTS["service"])),
            f"http://{HOST}:{PORTS['service']}",
        ),
        Service(
            "Metrics",
            (str(binaries / "mlops"), "metrics", "serve", *listen, str(PORTS["metrics"])),
            f"http://{HOST}:{PORTS['metrics']}",
        ),
    ]  # fmt: skip
    return [service for service in found if service.name != "MLflow UI" or not has_mlflow_server(settings)]


def has_mlflow_server(settings: Settings) -> bool:
    """Whether MLflow is reached over HTTP, so that it has a page already."""
    return settings.tracking_uri.startswith(("http://", "https://"))


def run_up(settings: Settings, say: Callable[[str], None]) -> None:
    """Runs all services until one ends or Ctrl-C; then stops all.

    Args:
        settings: The home.
        say: Called with each line for the user.

    Raises:
        StorageError: A service ended by itself.
    """
    with open_instance(settings) as instance:
        for run_id in reap(instance):
            say(f"run {run_id} had lost its process and was marked failed")
    logs = settings.home / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace.yaml"
        workspace.write_text(WORKSPACE, encoding="utf-8")
        started: list[tuple[Service, subprocess.Popen[bytes]]] = []
        try:
            for service in services(settings, workspace):
                log = logs / f"{service.name.lower().replace(' ', '-')}.log"
                with log.open("ab") as output:
                    process = subprocess.Popen(  # noqa: S603 - our own command lines
                        service.command,
                        env=child_environment(settings, **service.variables),
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        stdin=subprocess.DEVNULL,
                        # A group of its own: Ctrl-C reaches us first, and we stop them in order.
                        start_new_session=True,
                    )
                started.append((service, process))
                say(f"{service.name:<20}{service.url or 'no page':<26}log: {log}")
            if has_mlflow_server(settings):
                say(f"{'MLflow':<20}{mask_secrets(settings.tracking_uri):<26}a server of its own")
            say("Ctrl-C stops all.")
            _wait(started)
        except KeyboardInterrupt:
            say("stopping")
        finally:
            _stop([process for _, process in started])


def _wait(started: list[tuple[Service, subprocess.Popen[bytes]]]) -> None:
    signal.signal(signal.SIGTERM, _interrupt)
    while True:
        for service, process in started:
            try:
                code = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            error: PlatformError = StorageError(
                f"{service.name} ended with exit code {code}",
                hint="its log, named above, says why; `mlops doctor` checks the ports.",
            )
            raise error


def _interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to each, and SIGKILL to its whole group if it has not ended in time."""
    import os

    for process in processes:
        if process.poll() is None:
            process.terminate()
    for process in processes:
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
