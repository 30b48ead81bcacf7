"""Batch inference: scores the population of one feature_date for one 6-hour tick.

Does not belong here: the scoring itself (`predictor.py`), monitoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PREDICTIONS, load_feature_set
from mlops_platform.errors import NotEnoughDataError
from mlops_platform.feature_pipeline.versions import require_computed
from mlops_platform.inference_pipeline.validation import require_declared
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.labels import population_sql

# Enough for the effect size the drift decision looks for, small enough for any number of customers.
MAX_REFERENCE_ROWS = 20_000

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from mlops_platform.inference_pipeline.predictor import Predictor, Scores
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


@dataclass(frozen=True, slots=True)
class InferenceInput:
    """Which rows a tick scores, by reference.

    Args:
        feature_date: Their feature_date.
        snapshot_id: Snapshot of feature_store.customer_features.
        rows: Customers in the population.
        outside_population: Customers with features that are not scored.
    """

    feature_date: date
    snapshot_id: int
    rows: int
    outside_population: int


def inference_input(settings: Settings, features: TableSnapshot, feature_date: date) -> InferenceInput:
    """Resolves the rows to score.

    Raises:
        NotEnoughDataError: The feature store has no rows for the feature_date.
    """
    population = population_sql(settings.population_days)
    where = [Condition("feature_date", "=", feature_date)]
    with features.relation(["feature_date", "days_since_last_transaction"], where) as (duck, view):
        total, inside = duck.execute(f"SELECT count(*), count(*) FILTER (WHERE {population}) FROM {view}").fetchall()[0]
    if not total or features.snapshot_id is None:
        raise NotEnoughDataError(
            f"feature_store.customer_features has no rows for feature_date {feature_date}",
            expected="features of the day before the tick",
            hint="materialize that partition of customer_features in the Dagster UI, then run this again.",
        )
    return InferenceInput(feature_date, features.snapshot_id, inside, total - inside)


def population_rows(settings: Settings, features: TableSnapshot, feature_date: date, names: Sequence[str]) -> pa.Table:
    """The population at a feature_date, ordered by customer_id.

    Args:
        settings: Population, memory.
        features: Snapshot of feature_store.customer_features.
        feature_date: The day.
        names: The features to read.

    Returns:
        customer_id, feature_date and the features.

    Raises:
        ModelError: A feature is not declared.
        NotEnoughDataError: The rows were computed before one was declared.
    """
    require_declared(names, load_feature_set(settings.features_module).names)
    cells = ", ".join(map(quoted, ("customer_id", "feature_date", *names)))
    with features.relation(where=[Condition("feature_date", "=", feature_date)]) as (duck, view):
        population = population_sql(settings.population_days)
        rows = duck.sql(f"SELECT {cells} FROM {view} WHERE {population} ORDER BY customer_id").to_arrow_table()
    require_computed(rows, names)
    return rows


def predictions(
    settings: Settings,
    predictor: Predictor,
    features: TableSnapshot,
    *,
    feature_date: date,
    tick: datetime,
    created_at: datetime,
) -> Draft:
    """Predictions of a tick, one row a customer of the population.

    Args:
        settings: Population, memory.
        predictor: The model version to score with.
        features: Snapshot of feature_store.customer_features.
        feature_date: The rows to score.
        tick: Start of the 6-hour window.
        created_at: Instant written to `_created_at`.
    """
    rows = population_rows(settings, features, feature_date, predictor.feature_names)
    start = perf_counter()
    scores = predictor.score(rows)
    latency_ms = (perf_counter() - start) * 1000 / max(rows.num_rows, 1)
    constants = {
        "version": predictor.model.version,
        "name": predictor.model.name,
        "tick": tick,
        "latency": latency_ms,
        "snapshot": features.snapshot_id,
        "at": created_at,
    }
    return Draft(
        PREDICTIONS,
        _with_scores(settings, rows, scores, constants),
        scope=(Condition("tick", "=", tick),),
        properties={
            "model-version": predictor.model.version,
            "feature-snapshot-id": str(features.snapshot_id),
            "feature-date": feature_date.isoformat(),
        },
        figures={
            "scored": rows.num_rows,
            "predicted_churn": int(scores.prediction.sum()),
            "mean_probability": float(scores.probability.mean()) if rows.num_rows else 0.0,
        },
    )


def _with_scores(settings: Settings, rows: pa.Table, scores: Scores, constants: dict[str, Any]) -> pa.Table:
    import pyarrow as pa

    scored = pa.table(
        {
            "customer_id": rows.column("customer_id"),
            "feature_date": rows.column("feature_date"),
            "churn_probability": scores.probability,
            "prediction": scores.prediction,
            "confidence": scores.confidence,
        }
    )
    with session(settings) as duck:
        duck.register("scored", scored)
        return duck.sql(
            """SELECT md5(concat_ws('/', customer_id, feature_date, $version, epoch_us($tick))) AS prediction_id,
                customer_id, feature_date, $tick::TIMESTAMPTZ AS tick, $name AS model_name, $version AS model_version,
                churn_probability, prediction, confidence, $latency::DOUBLE AS inference_latency_ms,
                $snapshot::BIGINT AS feature_snapshot_id, $at::TIMESTAMPTZ AS _created_at
            FROM scored""",
            params=constants,
        ).to_arrow_table()


def reference_rows(settings: Settings, predictor: Predictor, training: TableSnapshot) -> pa.Table:
    """What the model was trained on, with its scores there: the drift reference.

    Args:
        settings: Memory.
        predictor: The model.
        training: Snapshot of ml.training_set the model was fitted on.

    Returns:
        Features and churn_probability of at most 20,000 train rows, a sample that is the same every time.
    """
    require_declared(predictor.feature_names, load_feature_set(settings.features_module).names)
    columns = ("split", "customer_id", "feature_date", *predictor.feature_names)
    with training.relation(columns, [Condition("split", "=", "train")]) as (duck, view):
        rows = duck.sql(
            f"SELECT * EXCLUDE (split) FROM {view} ORDER BY md5(concat_ws('/', customer_id, feature_date)) "
            f"LIMIT {MAX_REFERENCE_ROWS}"
        ).to_arrow_table()
    return rows.append_column("churn_probability", [predictor.score(rows).probability])
