"""The whole line once: CRM to drift report, through Dagster, on the home's persistent instance.

Belongs here: which runs make up a demo and what is reported of them. Does not belong here: printing (`console.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from time import perf_counter
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_platform import clock
from mlops_platform.contracts import load_feature_set
from mlops_platform.data_pipeline.crm import HistorySpan, absolute, find_source, span
from mlops_platform.data_pipeline.crm_load import seed, synthetic_model
from mlops_platform.errors import InputError
from mlops_platform.orchestration.best_possible import best_possible_auc
from mlops_platform.orchestration.instance import open_instance, reap
from mlops_platform.orchestration.jobs import INFERENCE, INGEST, PREDICTION_LOG, TRAINING, asset_keys
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.orchestration.runner import Progress, Runner, Stage
from mlops_platform.settings import pin
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.dataset import last_silver_day
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.models import DEFAULT_MODEL_TYPE, make_model
from mlops_platform.training_pipeline.promotion import Decision
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.tuning import Tuned, require_tunable, tune

if TYPE_CHECKING:
    from mlops_platform.settings import Settings
    from mlops_platform.training_pipeline.tuning import Say

SEED_CUSTOMERS, SEED_DAYS, SEED, SEED_UNTIL = 5_000, 730, 7, date(2026, 6, 30)

CUSTOMER_FEATURES = dg.AssetKey(["feature_store", "customer_features"])
PERFORMANCE_REPORT = dg.AssetKey(["monitoring", "performance_report"])
TRAINING_SET = dg.AssetKey(["ml", "training_set"])

Builder = Callable[["Settings"], dg.Definitions]


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
    url = absolute(crm_url or _seeded(settings, progress))
    progress("reading the CRM's span")
    history = span(settings, url, find_source(settings.model_copy(update={"crm_url": url})).tables)
    day = _as_of(settings, history, as_of)
    dates = labelled_dates(day, history.first_day, settings.horizon_days)
    settings = pin(settings, history_start=history.first_day, crm_url=url).model_copy(update={"as_of": day})
    partitions = Partitions(settings)
    tick = min(clock.tick_of(day, settings.zone), clock.last_ended_tick(clock.now(settings), settings.zone))
    runner = Runner(build(settings), instance, progress)
    runner.spent["crm"] = perf_counter() - start

    runner.run(INGEST, partitions.day_key(day), only=[key for key in asset_keys(INGEST) if key != PERFORMANCE_REPORT])
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
    # Last, since it estimates how right the predictions above will turn out.
    runner.run(INGEST, partitions.day_key(day), only=[PERFORMANCE_REPORT])
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


def run_training(
    settings: Settings,
    build: Builder,
    *,
    as_of: date | None,
    progress: Progress,
    model_type: str = DEFAULT_MODEL_TYPE,
    hyperparameters: Mapping[str, Any] | None = None,
) -> Decision:
    """Runs the training job, with the feature_dates it needs.

    Args:
        settings: The home.
        build: Makes the Definitions of settings.
        as_of: Last complete local day; None: silver's last day with a transaction.
        progress: Called with a line whenever something starts.
        model_type: What kind of model to train.
        hyperparameters: Override the type's defaults.

    Raises:
        PlatformError: Bad input, with what to do about it.
    """
    load_feature_set(settings.features_module)  # A user's own model types stand there.
    make_model(model_type, hyperparameters)
    runner, day = _with_features(settings, build, as_of, progress)
    return _trained(runner, day, model_type, hyperparameters)


def run_tuning(
    settings: Settings,
    build: Builder,
    *,
    as_of: date | None,
    progress: Progress,
    say: Say,
    model_type: str = DEFAULT_MODEL_TYPE,
    trials: int | None,
    seconds: float | None,
    seed: int,
    is_trained: bool = True,
) -> tuple[Tuned, Decision | None]:
    """Tunes on the training set of a day, then runs the training job with the best hyperparameters.

    Args:
        settings: The home.
        build: Makes the Definitions of settings.
        as_of: Last complete local day; None: silver's last day with a transaction.
        progress: Called with a line whenever something starts.
        say: As `tune` calls it.
        model_type: What kind of model to tune.
        trials: As `tune` takes it.
        seconds: As `tune` takes it.
        seed: As `tune` takes it.
        is_trained: Whether to train; without, the decision is None.

    Raises:
        PlatformError: Bad input, with what to do about it.
    """
    load_feature_set(settings.features_module)  # A user's own model types stand there.
    require_tunable(model_type, trials=trials, seconds=seconds)
    runner, day = _with_features(settings, build, as_of, progress)
    runner.run(TRAINING, day, only=[TRAINING_SET])
    lake = Lake(settings)
    training, manager = lake.snapshot(lake.features.training_set), MLflowManager(settings)
    progress(f"tuning {model_type}")
    tuned = tune(settings, manager, training, model_type=model_type, trials=trials, seconds=seconds, seed=seed, say=say)
    return tuned, _trained(runner, day, model_type, tuned.hyperparameters) if is_trained else None


def _with_features(settings: Settings, build: Builder, as_of: date | None, progress: Progress) -> tuple[Runner, str]:
    """A runner and the day's partition, with every feature_date computed that a training as of the day needs."""
    day = as_of or last_silver_day(Lake(settings), clock.last_complete_day(clock.now(settings), settings.zone))
    instance = open_instance(settings)
    reap(instance)
    settings = settings.model_copy(update={"as_of": day})
    runner = Runner(build(settings), instance, progress)
    partitions = Partitions(settings)
    dates = labelled_dates(day, settings.first_partition_day, settings.horizon_days)
    for feature_date in dates.all:
        runner.run(TRAINING, partitions.day_key(feature_date), only=[CUSTOMER_FEATURES])
    return runner, partitions.day_key(day)


def _trained(runner: Runner, day: str, model_type: str, hyperparameters: Mapping[str, Any] | None) -> Decision:
    given = dict(hyperparameters) if hyperparameters is not None else None
    config = {"ml__churn_model": {"config": {"model_type": model_type, "hyperparameters": given}}}
    result = runner.run(TRAINING, day, config=config)
    decision: Decision = result.output_for_node("ml__production_model")
    return decision


def _seeded(settings: Settings, progress: Progress) -> str:
    progress(f"seeding a synthetic CRM of {SEED_CUSTOMERS:,} customers over {SEED_DAYS} days")
    url = settings.demo_crm_url
    seed(url, customers=SEED_CUSTOMERS, days=SEED_DAYS, seed=SEED, until=SEED_UNTIL)
    return url


def _as_of(settings: Settings, history: HistorySpan, as_of: date | None) -> date:
    """The day to work as of: never later than the last day that is complete."""
    complete = clock.last_complete_day(clock.now(settings), settings.zone)
    if as_of is None:
        return min(history.last_day, complete)
    if as_of > complete:
        raise InputError(
            f"--as-of {as_of} is not over yet",
            expected=f"a day up to {complete}",
            hint="choose an earlier --as-of, or leave it out for the last day with a transaction.",
        )
    if as_of < history.first_day:
        raise InputError(
            f"--as-of {as_of} lies before the CRM's first transaction on {history.first_day}",
            expected=f"a day from {history.first_day} to {history.last_day}",
            hint="choose a later --as-of, or leave it out for the last day with a transaction.",
        )
    return as_of


def _drift(result: dg.ExecuteInProcessResult) -> tuple[bool, str]:
    event = result.asset_materializations_for_node("monitoring__drift_report")[0]
    return event.metadata["status"].value == "drift", str(event.metadata["report_file"].value)
