"""What the exporter reads from Dagster's instance: runs by job with their cost, and each asset's last materialization.

Does not belong here: the tables' figures (`monitoring/exporter_tables.py`), measuring a run's cost (`run_cost.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import dagster as dg

from mlops_platform.monitoring.metrics import Family, Figure
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.run_cost import CPU_TAG, READ_TAG, WRITTEN_TAG

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

# A job whose last run lies further back than so many runs has no figures.
RUNS_LOOKED_AT = 500
ROW_COUNTS = ("dagster/partition_row_count", "dagster/row_count")

# Not `job`: that label is the scrape job's.
_ASSET, _JOB = ("asset",), ("job_name",)
ASSET_SECONDS = Family("mlops_asset_run_seconds", "Run time of the asset's last materialization.", _ASSET)
ASSET_ROWS = Family("mlops_asset_rows", "Rows of the asset's last materialization.", _ASSET)
ASSET_MADE = Family("mlops_asset_last_materialization_timestamp_seconds", "When the asset was last made.", _ASSET)
RUNS = Family("mlops_job_runs_total", "Runs that have ended.", ("job_name", "status"), "counter")
IN_PROGRESS = Family("mlops_job_runs_in_progress", "Runs that were begun and have not ended.", _JOB)
SUCCEEDED = Family("mlops_job_last_success_timestamp_seconds", "When a run last succeeded.", _JOB)
FAILED = Family("mlops_job_last_failure_timestamp_seconds", "When a run last failed; 0: none did.", _JOB)
RUN_SECONDS = Family("mlops_job_last_run_seconds", "Run time of the last run that succeeded.", _JOB)
RUN_COSTS = {
    CPU_TAG: Family("mlops_job_last_run_cpu_seconds", "CPU time of the last run that succeeded.", _JOB),
    READ_TAG: Family("mlops_job_last_run_read_bytes", "Bytes read by the last run that succeeded.", _JOB),
    WRITTEN_TAG: Family("mlops_job_last_run_written_bytes", "Bytes written by the last run that succeeded.", _JOB),
}
FAMILIES = (
    ASSET_SECONDS, ASSET_ROWS, ASSET_MADE, RUNS, IN_PROGRESS, SUCCEEDED, FAILED, RUN_SECONDS, *RUN_COSTS.values(),
)  # fmt: skip

_ENDED: Mapping[dg.DagsterRunStatus, str] = {
    dg.DagsterRunStatus.SUCCESS: "success",
    dg.DagsterRunStatus.FAILURE: "failure",
    dg.DagsterRunStatus.CANCELED: "canceled",
}


@dataclass
class RunsSource:
    """The runs of a home's instance as a source of figures.

    Args:
        settings: The home.
    """

    settings: Settings
    _seen: object = None
    _figures: tuple[Figure, ...] = field(default=())
    _seconds: dict[tuple[str, str], float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The instance, in a word."""
        return "dagster"

    def read(self) -> tuple[Figure, ...]:
        """The figures as of the last change of any run; none where Dagster never ran here."""
        if not self.settings.dagster_home.is_dir():
            return ()
        with open_instance(self.settings) as instance:
            last = instance.get_run_records(limit=1, order_by="update_timestamp")
            seen = [(record.dagster_run.run_id, record.update_timestamp) for record in last]
            if seen != self._seen:
                self._seen = None
                self._figures = (*_jobs(instance), *self._assets(instance))
                self._seen = seen
        return self._figures

    def _assets(self, instance: dg.DagsterInstance) -> Iterator[Figure]:
        for key, event in instance.get_latest_materialization_events(instance.all_asset_keys()).items():
            made = event.asset_materialization if event is not None else None
            if event is None or made is None:
                continue
            name = key.to_user_string()
            yield ASSET_MADE.figure(event.timestamp, name)
            rows = next((made.metadata[count].value for count in ROW_COUNTS if count in made.metadata), None)
            if isinstance(rows, int):
                yield ASSET_ROWS.figure(rows, name)
            if event.step_key is not None and (seconds := self._step_seconds(instance, event.run_id, event.step_key)):
                yield ASSET_SECONDS.figure(seconds, name)

    def _step_seconds(self, instance: dg.DagsterInstance, run_id: str, step: str) -> float | None:
        """How long a step took, asked for once; None while it still runs."""
        if (run_id, step) not in self._seconds:
            for found in instance.get_run_step_stats(run_id, [step]):
                if found.start_time is not None and found.end_time is not None:
                    self._seconds[run_id, step] = found.end_time - found.start_time
        return self._seconds.get((run_id, step))


def _jobs(instance: dg.DagsterInstance) -> Iterator[Figure]:
    last: dict[tuple[str, dg.DagsterRunStatus], dg.RunRecord] = {}
    for record in instance.get_run_records(limit=RUNS_LOOKED_AT):
        last.setdefault((record.dagster_run.job_name, record.dagster_run.status), record)
    for job in sorted({job for job, _ in last}):
        ended = 0
        for status, word in _ENDED.items():
            count = instance.get_runs_count(dg.RunsFilter(job_name=job, statuses=[status]))
            ended += count
            yield RUNS.figure(count, job, word)
        yield IN_PROGRESS.figure(instance.get_runs_count(dg.RunsFilter(job_name=job)) - ended, job)
        failed = last.get((job, dg.DagsterRunStatus.FAILURE))
        yield FAILED.figure((failed.end_time or 0.0) if failed else 0.0, job)
        if (succeeded := last.get((job, dg.DagsterRunStatus.SUCCESS))) is not None:
            yield from _success(succeeded, job)


def _success(record: dg.RunRecord, job: str) -> Iterator[Figure]:
    if record.end_time is not None:
        yield SUCCEEDED.figure(record.end_time, job)
        if record.start_time is not None:
            yield RUN_SECONDS.figure(record.end_time - record.start_time, job)
    for tag, family in RUN_COSTS.items():
        if tag in record.dagster_run.tags:
            yield family.figure(float(record.dagster_run.tags[tag]), job)
