"""Runs jobs in this process on a home's persistent instance, and keeps what each asset did.

Belongs here: execution and its bookkeeping. Does not belong here: which runs a command needs (`demo.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import dagster as dg

from mlops_platform.errors import PlatformError
from mlops_platform.orchestration.heartbeat import beating
from mlops_platform.orchestration.instance import process_tags
from mlops_platform.orchestration.run_cost import metered

Progress = Callable[[str], None]


@dataclass
class Stage:
    """What one asset did in all runs of the demo."""

    asset: str
    rows: int | None = None
    snapshot_id: str | None = None
    seconds: float = 0.0
    checks_passed: int = 0
    checks_failed: int = 0


class Runner:
    """Executes jobs in this process on a persistent instance, and keeps a stage for each asset."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, progress: Progress) -> None:
        self._definitions = definitions
        self._instance = instance
        self._progress = progress
        self._stages: dict[dg.AssetKey, Stage] = {}
        self._rows: dict[str, dict[str | None, int]] = {}
        self.spent: dict[str, float] = {}

    @property
    def stages(self) -> list[Stage]:
        """One a asset, in the order they first ran."""
        return list(self._stages.values())

    def stage(self, key: dg.AssetKey) -> Stage:
        """The stage of an asset, made on first use."""
        return self._stages.setdefault(key, Stage(key.to_user_string()))

    def run(
        self,
        job: str,
        partition: str | None,
        *,
        only: Sequence[dg.AssetKey] | None = None,
        note: str = "",
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> dg.ExecuteInProcessResult:
        """Executes a job, or some of its assets, for one partition.

        Raises:
            PlatformError: A step failed for a reason the user can mend.
        """
        run_id = str(uuid.uuid4())
        started = perf_counter()

        def watch(entry: dg.EventLogEntry) -> None:
            event = entry.dagster_event
            if event is not None and event.event_type_value == "STEP_START":
                name = str(event.step_key).replace("__", "/")
                self._progress(" ".join(part for part in (name, partition or "", note) if part))

        self._instance.add_event_listener(run_id, watch)
        try:
            with metered(self._instance, run_id), beating(self._instance, run_id):
                result = self._definitions.resolve_job_def(job).execute_in_process(
                    instance=self._instance,
                    run_id=run_id,
                    partition_key=partition,
                    asset_selection=list(only) if only is not None else None,
                    tags={**process_tags(), **(tags or {})},
                    # Failures are told once, by the command; the run's own log is in the UI.
                    run_config={
                        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                        "ops": dict(config or {}),
                    },
                )
        except Exception as error:
            mendable = _mendable(error)
            if mendable is error:
                raise
            raise mendable from error
        self.spent[job] = self.spent.get(job, 0.0) + perf_counter() - started
        self._collect(result)
        return result

    def _collect(self, result: dg.ExecuteInProcessResult) -> None:
        for event in result.all_events:
            if event.event_type_value == "STEP_SUCCESS":
                self.stage(_key(event.step_key)).seconds += event.step_success_data.duration_ms / 1000
        for event in result.get_asset_materialization_events():
            metadata = event.materialization.metadata
            stage = self.stage(event.asset_key)  # type: ignore[arg-type]
            for name in ("dagster/row_count", "dagster/partition_row_count"):
                if name in metadata:
                    # By partition: one that two jobs of the demo materialize counts once.
                    rows = self._rows.setdefault(stage.asset, {})
                    rows[event.materialization.partition] = int(str(metadata[name].value))
                    stage.rows = sum(rows.values())
            if "snapshot_id" in metadata:
                stage.snapshot_id = str(metadata["snapshot_id"].value)
        for check in result.get_asset_check_evaluations():
            stage = self.stage(check.asset_key)
            if check.passed:
                stage.checks_passed += 1
            else:
                stage.checks_failed += 1


def _key(step_key: str | None) -> dg.AssetKey:
    return dg.AssetKey(str(step_key).split("__"))


def _mendable(error: BaseException) -> BaseException:
    """The PlatformError behind a step's failure; the failure itself where there is none."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, PlatformError):
            return cause
        seen.append(cause)
        # Causes can form a circle where a library raises an earlier error again.
        cause = cause.__cause__ or cause.__context__
    return error
