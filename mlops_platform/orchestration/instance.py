"""The Dagster instance of a home: its dagster.yaml, and the reaper of runs whose process is gone.

Does not belong here: what runs (`jobs.py`), starting the UI (`processes.py`).
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import dagster as dg
import psutil

from mlops_platform.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_platform.settings import Settings

# Runs, events and schedules in SQLite files in DAGSTER_HOME; nothing is sent anywhere.
DAGSTER_YAML = """# Written by mlops: the Dagster instance of this home.
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster.core.run_coordinator
  class: DefaultRunCoordinator
run_retries:
  enabled: true
"""

HOST_TAG, PID_TAG, STARTED_TAG = "mlops/host", "mlops/pid", "mlops/process_started"


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The home's persistent instance, made on first use.

    Raises:
        StorageError: DAGSTER_HOME can't be written.
    """
    prepare(settings)
    return dg.DagsterInstance.from_config(str(settings.dagster_home))


def prepare(settings: Settings) -> None:
    """Makes DAGSTER_HOME with its dagster.yaml; an existing one is left as it is.

    Raises:
        StorageError: DAGSTER_HOME can't be written.
    """
    path = settings.dagster_home / "dagster.yaml"
    try:
        settings.dagster_home.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(DAGSTER_YAML, encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"the home {settings.home} can't be written: {error}",
            expected="a folder this user can create and write",
            hint="choose another with --home DIR or MLOPS_HOME, or mend its permissions.",
        ) from error


def process_tags() -> dict[str, str]:
    """Tags that name the process a run lives in."""
    process = psutil.Process()
    return {
        HOST_TAG: socket.gethostname(),
        PID_TAG: str(os.getpid()),
        STARTED_TAG: f"{process.create_time():.2f}",
    }


def reap(instance: dg.DagsterInstance) -> list[str]:
    """Fails the runs whose process is gone: a killed run would stay STARTED for ever.

    Returns:
        Ids of the runs that were failed.
    """
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    gone = [run for run in instance.get_runs(unfinished) if _is_gone(run.tags)]
    for run in gone:
        instance.report_run_failed(
            run, message="The process of this run is gone; it was killed or its machine stopped."
        )
    return [run.run_id for run in gone]


def _is_gone(tags: Mapping[str, str]) -> bool:
    if tags.get(HOST_TAG) != socket.gethostname() or PID_TAG not in tags:
        return False
    try:
        return f"{psutil.Process(int(tags[PID_TAG])).create_time():.2f}" != tags[STARTED_TAG]
    except psutil.NoSuchProcess:
        return True
