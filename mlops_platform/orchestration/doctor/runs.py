"""Dagster: its storage, runs that lost their process, and whether the daemon that runs schedules is alive.

Does not belong here: what runs.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mlops_platform.orchestration.doctor.finding import Finding
from mlops_platform.orchestration.doctor.servers import postgres
from mlops_platform.settings import mask_secrets

if TYPE_CHECKING:
    import dagster as dg

    from mlops_platform.settings import Settings

# Daemons write one every half minute.
_HEARTBEAT_SECONDS = 300
_UP = "mlops up"


def dagster(settings: Settings) -> Finding:
    """Runs and events can be read and written, and every unfinished run has its process."""
    import dagster as dg

    from mlops_platform.orchestration.instance import lost_runs, open_instance

    if settings.dagster_storage_url is not None:
        with postgres(settings.dagster_storage_url, "MLOPS_DAGSTER_STORAGE_URL"):
            pass
    with open_instance(settings) as instance:
        runs = instance.get_runs_count()
        failed = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]))
        lost = lost_runs(instance)
    where = mask_secrets(settings.dagster_storage_url or str(settings.dagster_home))
    if lost:
        ids = ", ".join(run.run_id for run in lost)
        message = f"{where}: runs that began and whose process is gone: {ids}"
        return Finding("Dagster", is_ok=False, message=message, mend=f"{_UP}, whose start marks them failed")
    return Finding("Dagster", is_ok=True, message=f"{where}, {runs} runs, {failed} of them failed")


def daemon(settings: Settings) -> Finding:
    """The daemon that runs schedules and sensors has been heard of lately."""
    from mlops_platform.orchestration.instance import open_instance

    with open_instance(settings) as instance:
        statuses = instance.get_daemon_statuses()
    heard = {name: found for name, found in statuses.items() if found.last_heartbeat is not None}
    if not heard:
        message = "has never run here: no schedule and no sensor does anything"
        return Finding("daemon", is_ok=True, message=message, mend=_UP)
    ages = {name: _age(found) for name, found in heard.items()}
    silent = {name: age for name, age in ages.items() if age.total_seconds() > _HEARTBEAT_SECONDS}
    if silent:
        name, age = max(silent.items(), key=lambda item: item[1])
        minutes = age.total_seconds() / 60
        message = f"{name} was last heard of {minutes:,.0f} minutes ago: schedules and sensors stand still"
        return Finding("daemon", is_ok=settings.profile == "embedded", message=message, mend=_UP)
    if errors := [name for name, found in heard.items() if (found.last_heartbeat and found.last_heartbeat.errors)]:
        mend = "its log says more: <home>/logs/dagster-daemon.log, or docker compose logs dagster-daemon"
        return Finding("daemon", is_ok=False, message=f"{', '.join(errors)} reports errors", mend=mend)
    return Finding("daemon", is_ok=True, message=f"{len(heard)} daemons, heard of in the last 5 minutes")


def _age(status: dg.DaemonStatus | object) -> timedelta:
    heartbeat = getattr(status, "last_heartbeat", None)
    return datetime.now(UTC) - datetime.fromtimestamp(heartbeat.timestamp if heartbeat is not None else 0.0, UTC)
