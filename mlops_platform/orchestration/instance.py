"""The Dagster instance of a home: its dagster.yaml, and the reaper of runs whose process is gone.

Does not belong here: what runs (`jobs.py`), starting the UI (`processes.py`).
"""

from __future__ import annotations

import os
import socket
import time
from importlib.util import find_spec
from typing import TYPE_CHECKING

import dagster as dg
import psutil
import yaml
from dagster._core.storage.tags import GRPC_INFO_TAG

from mlops_platform.errors import InputError, SettingsError, StorageError
from mlops_platform.settings import variable_kept, with_driver
from mlops_platform.storage.database import ensure_database

if TYPE_CHECKING:
    from pathlib import Path

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
STORAGE_VARIABLE = "MLOPS_DAGSTER_STORAGE_URL"
# Named, not written: the address holds a password.
POSTGRESQL = f"""storage:
  postgres:
    postgres_url:
      env: {STORAGE_VARIABLE}
"""

# A run of another machine that has said nothing for so long is taken for dead; a living one speaks every 45 s.
SILENT_SECONDS = 180.0

HOST_TAG, PID_TAG, STARTED_TAG = "mlops/host", "mlops/pid", "mlops/process_started"


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The home's persistent instance, made on first use.

    Raises:
        PlatformError: As `prepare`.
    """
    prepare(settings)
    with variable_kept(STORAGE_VARIABLE, with_driver(settings.dagster_storage_url or "") or None):
        return dg.DagsterInstance.from_config(str(settings.dagster_home))


def prepare(settings: Settings) -> None:
    """Makes DAGSTER_HOME with its dagster.yaml, and the databases; a file that a person changed stays as it is.

    Raises:
        InputError: Dagster's runs are to be in PostgreSQL, and its package for that is missing.
        SettingsError: A dagster.yaml that a person changed puts them elsewhere.
        StorageError: DAGSTER_HOME can't be written, or a database not be reached or made.
    """
    path, wanted = settings.dagster_home / "dagster.yaml", DAGSTER_YAML
    if settings.dagster_storage_url is not None:
        if find_spec("dagster_postgres") is None:
            raise InputError(
                "Dagster's runs in PostgreSQL need the package dagster-postgres",
                hint='install the extra: pip install "mlops-platform[server]".',
            )
        ensure_database(settings.dagster_storage_url, STORAGE_VARIABLE)
        if settings.catalog_url is not None:
            ensure_database(settings.catalog_url, "MLOPS_CATALOG_URL")
        wanted += POSTGRESQL
    try:
        settings.dagster_home.mkdir(parents=True, exist_ok=True)
        found = path.read_text(encoding="utf-8") if path.exists() else DAGSTER_YAML
        if found in (DAGSTER_YAML, DAGSTER_YAML + POSTGRESQL):
            if found != wanted or not path.exists():
                draft = path.with_suffix(f".{os.getpid()}.tmp")
                draft.write_text(wanted, encoding="utf-8")
                draft.replace(path)
        elif settings.dagster_storage_url is not None:
            _require_storage(path, found)
    except OSError as error:
        raise StorageError(
            f"the home {settings.home} can't be written: {error}",
            expected="a folder this user can create and write",
            hint="choose another with --home DIR or MLOPS_HOME, or mend its permissions.",
        ) from error


def _require_storage(path: Path, text: str) -> None:
    """Refuses a person's dagster.yaml that keeps runs elsewhere than the settings say."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} can't be read: {error}", hint=f"mend or remove {path}.") from error
    wanted = yaml.safe_load(POSTGRESQL)["storage"]
    if not isinstance(found, dict) or found.get("storage") != wanted:
        raise SettingsError(
            f"{path} keeps Dagster's runs elsewhere than {STORAGE_VARIABLE} says",
            expected=f"storage: {{postgres: {{postgres_url: {{env: {STORAGE_VARIABLE}}}}}}}",
            hint=f"write this to {path}, remove the file to have it made anew, or unset {STORAGE_VARIABLE}.",
        )


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
    gone = lost_runs(instance)
    for run in gone:
        instance.report_run_failed(
            run, message="The process of this run is gone; it was killed or its machine stopped."
        )
    return [run.run_id for run in gone]


def lost_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """The runs that began and whose process is gone, on this machine or another."""
    unfinished = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    return [run for run in instance.get_runs(unfinished) if _is_gone(instance, run)]


def _is_gone(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    host, pid = run.tags.get(HOST_TAG), run.tags.get(PID_TAG)
    if host == socket.gethostname() and pid is not None:
        try:
            return f"{psutil.Process(int(pid)).create_time():.2f}" != run.tags[STARTED_TAG]
        except psutil.NoSuchProcess:
            return True
    # A container that is made anew has another name, and its runs are gone with the old one. A launched run that died
    # before it could name its process has no tag of ours; one that somebody executes on his own has neither.
    return (host is not None or GRPC_INFO_TAG in run.tags) and _is_silent(instance, run.run_id)


def _is_silent(instance: dg.DagsterInstance, run_id: str) -> bool:
    latest = instance.get_records_for_run(run_id, limit=1, ascending=False).records
    return not latest or time.time() - latest[0].timestamp > SILENT_SECONDS
