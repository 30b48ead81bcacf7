"""The whole line once: CRM to drift report, through Dagster, on the home's persistent instance.

Belongs here: which runs make up a demo and what is reported of them. Does not belong here: printing (`console.py`).
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.data_pipeline.crm import HistorySpan, span
from mlops_platform.data_pipeline.crm_load import seed, synthetic_model
from mlops_platform.errors import InputError, PlatformError
from mlops_platform.orchestration.best_possible import best_possible_auc
from mlops_platform.orchestration.instance import open_instance, process_tags, reap
from mlops_platform.orchestration.jobs import INFERENCE, INGEST, PREDICTION_LOG, TRAINING
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.settings import pin
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.promotion import Decision

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

SEED_CUSTOMERS, SEED_DAYS, SEED, SEED_UNTIL = 5_000, 730, 7, date(2026, 6, 30)

CUSTOMER_FEATURES = dg.AssetKey(["feature_store", "customer_features"])

Progress = Callable[[str], None]
Builder = Callable[["Settings"], dg.Definitions]


@dataclass
class Stage:
    """What one asset did in all runs of the demo."""

    asset: str
    rows: int | None = None
    snapshot_id: str | None = None
    seconds: float = 0.0
    checks_passed: int = 0
    checks_failed: int = 0


@dataclass
class Demo:
    """Result of a demo.

    Args:
        status: `ok`, or `not_promoted` when the gate refused the model.
        as_of: Last complete local day of the data.
        seconds: Wall time of everything.
        stages: One a asset, in the order they ran.
        decision: The gate's.
        best_possible: Best possible ROC-AUC on the held-out rows; None for a real CRM.
        predictions: Rows scored; None when not promoted.
        drift_detected: None when not promoted.
        report_path: The drift report.
        reason: The gate's reason.
        spent: Seconds by part, for those who ask where the time goes.
    """

    status: str
    as_of: date
    seconds: float
    stages: list[Stage]
    decision: Decision
    best_possible: float | None
    predictions: int | None
    drift_detected: bool | None
    report_path: str | None
    reason: str
    spent: dict[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The documented demo.json."""
        model, metrics = self.decision.model, self.decision.evaluation.metrics
        return {
            "status": self.status,
            "as_of": self.as_of.isoformat(),
            "seconds": round(self.seconds, 2),
            "stages": [vars(stage) | {"seconds": round(stage.seconds, 3)} for stage in self.stages],
            "model": {
                "name": model.name,
                "version": model.version,
                "stage": model.stage,
                "model_type": model.tags.get("model_type"),
                "roc_auc": metrics.roc_auc,
                "roc_auc_recency_only": self.decision.evaluation.recency.theirs,
                "roc_auc_best_possible": self.best_possible,
            },
            "predictions": None if self.predictions is None else {"rows": self.predictions},
            "drift": None
            if self.drift_detected is None
            else {"drift_detected": self.drift_detected, "report_path": self.report_path},
            "reason": self.reason,
        }


def run_demo(
    settings: Settings, build: Builder, *, crm_url: str | None, as_of: date | None, progress: Progress
) -> Demo:
    """Runs the whole line and returns what it did.

    Args:
        settings: The home.
        build: Makes the Definitions of settings.
        crm_url: The CRM; None: a synthetic one in the home.
        as_of: Last complete local day; None: the CRM's last day with a transaction.
        progress: Called with a line whenever something starts.

    Raises:
        PlatformError: Bad input, with what to do about it.
    """
    start = perf_counter()
    instance = open_instance(settings)
    reap(instance)
    url = crm_url or _seeded(settings, progress)
    progress("reading the CRM's span")
    history = span(settings, url)
    day = _as_of(settings, history, as_of)
    settings = pin(settings, history_start=history.first_day, crm_url=url).model_copy(update={"as_of": day})
    dates = labelled_dates(day, history.first_day, settings.horizon_days)
    partitions = Partitions(settings)
    tick = min(clock.tick_of(day, settings.zone), clock.last_ended_tick(clock.now(settings), settings.zone))
    runner = _Runner(build(settings), instance, progress)
    runner.spent["crm"] = perf_counter() - start

    runner.run(INGEST, partitions.day_key(day))
    wanted = {*dates.all, clock.feature_date_of(tick, settings.zone)} - {day}
    for number, feature_date in enumerate(sorted(wanted), start=1):
        note = f"{number}/{len(wanted)}"
        runner.run(INGEST, partitions.day_key(feature_date), only=[CUSTOMER_FEATURES], note=note)
    result = runner.run(TRAINING, partitions.day_key(day))
    decision: Decision = result.output_for_node("ml__production_model")
    predictions, drift_detected, report = None, None, None
    if decision.promoted:
        result = runner.run(INFERENCE, partitions.tick_key(tick))
        predictions = runner.stage(dg.AssetKey(["ml", "predictions"])).rows
        drift_detected, report = _drift(result)
    runner.run(PREDICTION_LOG, None)
    progress("computing the best possible score")
    model = synthetic_model(url)
    evaluated = decision.evaluation.evaluation_date
    lake = Lake(settings)
    return Demo(
        status="ok" if decision.promoted else "not_promoted",
        as_of=day,
        best_possible=best_possible_auc(lake, model, evaluated) if model is not None else None,
        stages=runner.stages,
        decision=decision,
        predictions=predictions,
        drift_detected=drift_detected,
        report_path=report,
        reason=decision.reason,
        seconds=perf_counter() - start,
        spent=runner.spent,
    )


def run_training(settings: Settings, build: Builder, *, progress: Progress) -> Decision:
    """Runs the training job for the last complete day, with the feature_dates it still needs.

    Raises:
        PlatformError: Bad input, with what to do about it.
    """
    instance = open_instance(settings)
    reap(instance)
    day = clock.last_complete_day(clock.now(settings), settings.zone)
    runner = _Runner(build(settings), instance, progress)
    partitions = Partitions(settings)
    dates = labelled_dates(day, settings.first_partition_day, settings.horizon_days)
    for feature_date in dates.all:
        runner.run(TRAINING, partitions.day_key(feature_date), only=[CUSTOMER_FEATURES])
    decision: Decision = runner.run(TRAINING, partitions.day_key(day)).output_for_node("ml__production_model")
    return decision


class _Runner:
    """Executes jobs in this process on a persistent instance, and keeps a stage for each asset."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance, progress: Progress) -> None:
        self._definitions = definitions
        self._instance = instance
        self._progress = progress
        self._stages: dict[dg.AssetKey, Stage] = {}
        self.spent: dict[str, float] = {}

    @property
    def stages(self) -> list[Stage]:
        """One a asset, in the order they first ran."""
        return list(self._stages.values())

    def stage(self, key: dg.AssetKey) -> Stage:
        """The stage of an asset, made on first use."""
        return self._stages.setdefault(key, Stage(key.to_user_string()))

    def run(
        self, job: str, partition: str | None, *, only: Sequence[dg.AssetKey] | None = None, note: str = ""
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
            result = self._definitions.resolve_job_def(job).execute_in_process(
                instance=self._instance,
                run_id=run_id,
                partition_key=partition,
                asset_selection=list(only) if only is not None else None,
                tags=process_tags(),
                # Failures are told once, by the command; the run's own log is in the UI.
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
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
                    stage.rows = int(str(metadata[name].value)) + (stage.rows or 0)
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


def _seeded(settings: Settings, progress: Progress) -> str:
    progress(f"seeding a synthetic CRM of {SEED_CUSTOMERS:,} customers over {SEED_DAYS} days")
    url = settings.demo_crm_url
    seed(url, customers=SEED_CUSTOMERS, days=SEED_DAYS, seed=SEED, until=SEED_UNTIL)
    return url


def _as_of(settings: Settings, history: HistorySpan, as_of: date | None) -> date:
    """The day to work as of: never later than the last day that is complete."""
    if as_of is None:
        return min(history.last_day, clock.last_complete_day(clock.now(settings), settings.zone))
    if as_of < history.first_day:
        raise InputError(
            f"--as-of {as_of} lies before the CRM's first transaction on {history.first_day}",
            expected=f"a day from {history.first_day} to {history.last_day}",
            hint="choose a later --as-of, or leave it out for the last day with a transaction.",
        )
    return as_of


def _drift(result: dg.ExecuteInProcessResult) -> tuple[bool, str]:
    event = result.asset_materializations_for_node("monitoring__drift_report")[0]
    return event.metadata["status"].value == "drift", str(event.metadata["report"].value)


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
