"""`mlops doctor`: is everything there, and which command mends what is not.

Does not belong here: mending.
"""

from __future__ import annotations

import shlex
import shutil
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_platform.data_pipeline.crm import find_source, span
from mlops_platform.errors import PlatformError
from mlops_platform.home_backup.backup import moved_from
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.processes import PORTS
from mlops_platform.settings import mask_secrets
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import MLflowManager

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

MINIMUM_FREE_GB = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Args:
        subject: What was looked at.
        is_ok: Whether it is in order.
        message: What was found.
        mend: The command that mends it; empty if nothing is to be done.
    """

    subject: str
    is_ok: bool
    message: str
    mend: str = ""


def examine(settings: Settings) -> list[Finding]:
    """Looks at paths, CRM, catalog, MLflow, Dagster and ports; changes nothing but what opening them makes."""
    looks: list[tuple[str, Callable[[Settings], Finding]]] = [
        ("home", _home),
        ("CRM", _crm),
        ("tables", _tables),
        ("MLflow", _mlflow),
        ("Dagster", _dagster),
        ("ports", _ports),
    ]
    return [_safely(subject, look, settings) for subject, look in looks]


def _safely(subject: str, look: Callable[[Settings], Finding], settings: Settings) -> Finding:
    try:
        return look(settings)
    except PlatformError as error:
        return Finding(subject, is_ok=False, message=error.problem, mend=error.hint or "")


def _home(settings: Settings) -> Finding:
    if settings.home.exists() and not settings.home.is_dir():
        mend = "choose a folder with --home DIR or MLOPS_HOME"
        return Finding("home", is_ok=False, message=f"{settings.home} is a file", mend=mend)
    if not settings.home.is_dir():
        return Finding("home", is_ok=False, message=f"{settings.home} does not exist yet", mend="mlops demo")
    if (made_at := moved_from(settings)) is not None:
        # Works on a home in the wrong place too: a backup finds the files by where they are.
        mend = f"move it with: mlops backup FILE.tar --home {shlex.quote(str(settings.home))}, then "
        mend += "mlops restore FILE.tar --home NEW_HOME"
        message = f"home was moved: made at {made_at}, now at {settings.home}; its tables name files there"
        return Finding("home", is_ok=False, message=message, mend=mend)
    free = shutil.disk_usage(settings.home).free / 1e9
    message = f"{settings.home}, {free:.1f} GB free"
    if free < MINIMUM_FREE_GB:
        return Finding("home", is_ok=False, message=message, mend=f"free {MINIMUM_FREE_GB:.0f} GB on this disk")
    return Finding("home", is_ok=True, message=message)


def _crm(settings: Settings) -> Finding:
    if settings.crm_url is None and not settings.sources:
        return Finding("CRM", is_ok=False, message="none is set", mend="set MLOPS_CRM_URL, or run: mlops demo")
    source = find_source(settings)
    found = span(settings, source.url, source.tables)
    where = mask_secrets(source.url)
    return Finding("CRM", True, f"{where}, {found.rows:,} transactions from {found.first_day} to {found.last_day}")


def _tables(settings: Settings) -> Finding:
    if not settings.home.is_dir():
        return Finding("tables", is_ok=False, message="there is no home", mend="mlops demo")
    if moved_from(settings) is not None:
        return Finding("tables", is_ok=False, message="not looked at: the home was moved")
    lake = Lake(settings)
    contracts = lake.contracts
    written = [name for name, contract in contracts.items() if lake.snapshot(contract).snapshot_id is not None]
    missing = [name for name in contracts if name not in written]
    if not written:
        return Finding("tables", is_ok=False, message="no table has been written", mend="mlops demo")
    note = f"; not written yet: {', '.join(missing)}" if missing else ""
    return Finding("tables", is_ok=True, message=f"{len(written)} of {len(contracts)} tables{note}")


def _mlflow(settings: Settings) -> Finding:
    if not settings.home.is_dir():
        return Finding("MLflow", is_ok=False, message="there is no home", mend="mlops demo")
    manager = MLflowManager(settings)
    where = mask_secrets(settings.tracking_uri)
    model = manager.production(settings.model_name)
    return Finding("MLflow", is_ok=True, message=f"{where}, {model.name} version {model.version} in Production")


def _dagster(settings: Settings) -> Finding:
    if not settings.home.is_dir():
        return Finding("Dagster", is_ok=False, message="there is no home", mend="mlops demo")
    with open_instance(settings) as instance:
        runs = instance.get_runs_count()
    return Finding("Dagster", is_ok=True, message=f"{settings.dagster_home}, {runs} runs")


def _ports(settings: Settings) -> Finding:
    taken = [f"{name} {port}" for name, port in PORTS.items() if _is_taken(port)]
    if taken:
        return Finding("ports", True, f"in use (is `mlops up` running?): {', '.join(taken)}")
    return Finding("ports", is_ok=True, message=f"free: {', '.join(str(port) for port in PORTS.values())}")


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0
