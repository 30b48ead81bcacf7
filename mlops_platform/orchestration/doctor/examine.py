"""Everything that is looked at, and in which order.

Does not belong here: the looks.
"""

from __future__ import annotations

import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

from mlops_platform.errors import InputError
from mlops_platform.orchestration.doctor import lake, machine, models, outlets, runs, warehouse
from mlops_platform.orchestration.doctor.airflow import AIRFLOW_SECONDS, airflow
from mlops_platform.orchestration.doctor.clock import SET_THE_CLOCK, clock
from mlops_platform.orchestration.doctor.finding import Finding, Look, Looks, looked

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

_RESTORE = "mlops restore FILE.tar --home NEW_HOME brings a backup back"
_MACHINE: Looks = (
    Look("home", machine.home, _RESTORE),
    Look("disk", machine.disk, "df -h"),
    Look("memory", machine.memory, "free -h"),
    Look("secrets", machine.secrets, "chmod -R go-rwx"),
    Look("ports", machine.ports, "ss -ltnp"),
    Look("alerts", outlets.alerts, "mlops settings"),
    Look("clock", clock, SET_THE_CLOCK),
)
_CRM: Looks = (Look("CRM", outlets.crm, "mlops crm check, which looks closer"),)
_AIRFLOW: Looks = (Look("Airflow", airflow, "airflow dags list-import-errors", AIRFLOW_SECONDS),)
# One after another: Dagster and MLflow both make their databases by Alembic, which knows one at a time.
_SERVERS: Looks = (
    Look("MLflow", models.mlflow, "check MLFLOW_TRACKING_URI", lake.QUERY_SECONDS),
    Look("model", models.model, models.TRAIN, lake.QUERY_SECONDS),
    Look("Dagster", runs.dagster, "mlops up", lake.QUERY_SECONDS),
    Look("daemon", runs.daemon, "mlops up", lake.QUERY_SECONDS),
)
# Each needs the ones before it.
_LAKE: Looks = (
    Look("catalog", lake.catalog, "check MLOPS_CATALOG_URL"),
    Look("warehouse", warehouse.warehouse, "check MLOPS_WAREHOUSE_URL"),
    Look("tables", lake.tables, _RESTORE, lake.QUERY_SECONDS),
    Look("query", lake.test_query, _RESTORE, lake.QUERY_SECONDS),
    Look("online", outlets.online_store, "python -m mlops_platform.inference_pipeline.online_store"),
)
# Not looked at where there is no home: looking would make one.
_IN_A_HOME = {look.subject for look in (*_LAKE, *_SERVERS)}


_GROUPS = (_MACHINE, _CRM, _LAKE, _SERVERS, _AIRFLOW)
SUBJECTS = tuple(look.subject for group in _GROUPS for look in group)


def examine(settings: Settings, subjects: Collection[str] = ()) -> list[Finding]:
    """Looks at everything; changes nothing but what opening the home's databases makes.

    Args:
        settings: The home.
        subjects: What to look at; none: everything.

    Returns:
        The findings, in a fixed order.

    Raises:
        InputError: There is no such subject.
    """
    if unknown := [name for name in subjects if name not in SUBJECTS]:
        raise InputError(f"there is nothing to look at called {unknown[0]!r}", expected=f"one of {', '.join(SUBJECTS)}")
    groups = [tuple(look for look in group if not subjects or look.subject in subjects) for group in _GROUPS]
    found: list[list[Finding]] = [[] for _ in groups]
    home = looked(_MACHINE[0], settings)
    threads = [
        threading.Thread(target=_group, args=(group, settings, home, into), daemon=True)
        for group, into in zip(groups, found, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        # Every look is bounded, and so is a group.
        thread.join()
    return [finding for group in found for finding in group]


def _group(group: Looks, settings: Settings, home: Finding, into: list[Finding]) -> None:
    """The group's looks, one after another."""
    for look in group:
        if look.subject == home.subject:
            into.append(home)
        elif look.subject in _IN_A_HOME and not settings.home.is_dir():
            into.append(Finding(look.subject, is_ok=False, message="there is no home", mend="mlops demo"))
        elif look in _LAKE and not home.is_ok:
            into.append(Finding(look.subject, is_ok=False, message="not looked at: the home was moved", mend=home.mend))
        elif look in _LAKE and (failed := [one.subject for one in into if not one.is_ok]):
            message = f"not looked at: {failed[0]} comes first"
            into.append(Finding(look.subject, is_ok=False, message=message, mend="see above"))
        else:
            into.append(looked(look, settings))
