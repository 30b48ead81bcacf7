"""What another orchestrator has to know of a job, read from the Definitions as plain data.

Does not belong here: what is made of it (`airflow_pack/`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import dagster as dg

from mlops_platform.errors import InputError


@dataclass(frozen=True)
class AssetFacts:
    """One asset.

    Args:
        description: What it holds.
        owners: Teams, without `team:`.
        group: Its group.
        parents: The assets it reads, of whatever job.
    """

    description: str
    owners: tuple[str, ...]
    group: str
    parents: frozenset[str]


@dataclass(frozen=True)
class JobFacts:
    """One scheduled asset job.

    Args:
        name: Its name.
        description: What it does.
        cron: When it runs.
        timezone: Of the cron expression.
        retries: How often more a failed run is tried.
        window_hours: Length of its partitions' windows, which start at local midnight.
        key_format: Of its partitions' keys, which are the windows' local starts.
        selected: The assets it materializes.
        assets: All assets of the Definitions.
    """

    name: str
    description: str
    cron: str
    timezone: str
    retries: int
    window_hours: int
    key_format: str
    selected: frozenset[str]
    assets: Mapping[str, AssetFacts]


def job_facts(definitions: dg.Definitions, job: str) -> JobFacts:
    """The facts of a job.

    Raises:
        InputError: There is no such job, or it has not exactly one schedule with one cron expression.
    """
    repository = definitions.get_repository_def()
    if not repository.has_job(job):
        raise InputError(f"the Definitions have no job {job}", expected="a job of each DAG's name")
    made = repository.get_job(job)
    schedules = [schedule for schedule in repository.schedule_defs if schedule.job_name == job]
    crons = [schedule.cron_schedule for schedule in schedules]
    if len(crons) != 1 or not isinstance(crons[0], str):
        names = ", ".join(schedule.name for schedule in schedules) or "none"
        raise InputError(f"job {job} has schedules: {names}", expected="exactly one, with one cron expression")
    windows = made.partitions_def
    if not isinstance(windows, dg.TimeWindowPartitionsDefinition):
        raise InputError(f"job {job} has no partitions by time", expected="days, or windows of some hours")
    graph = definitions.resolve_asset_graph()
    return JobFacts(
        name=job,
        description=made.description or "",
        cron=crons[0],
        timezone=schedules[0].execution_timezone or "UTC",
        retries=int(made.tags.get("dagster/max_retries", "0")),
        window_hours=_window_hours(job, windows),
        key_format=windows.fmt,
        selected=frozenset(key.to_user_string() for key in made.asset_layer.executable_asset_keys),
        assets={
            key.to_user_string(): AssetFacts(
                description=graph.get(key).description or "",
                owners=tuple(owner.removeprefix("team:") for owner in graph.get(key).owners),
                group=graph.get(key).group_name,
                parents=frozenset(parent.to_user_string() for parent in graph.get(key).parent_keys),
            )
            for key in graph.get_all_asset_keys()
        },
    )


def _window_hours(job: str, windows: dg.TimeWindowPartitionsDefinition) -> int:
    found = re.fullmatch(r"0 (?:0|\*/(\d+)) \* \* \*", windows.cron_schedule)
    hours = int(found[1] or 24) if found else 0
    if not hours or 24 % hours:
        raise InputError(
            f"the partitions of job {job} follow the cron {windows.cron_schedule!r}",
            expected="days, or windows of a whole part of a day",
        )
    return hours
