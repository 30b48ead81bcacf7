"""Batch inference: scores the population of one feature_date for one 6-hour tick.

`python -m mlops_platform.inference_pipeline.batch` does it for the last complete tick. Does not belong here: the
scoring itself (`predictor.py`), rows that a user gives (`batch_input.py`), the call (`batch_pipeline.py`), monitoring.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import NOT_SCORED, PREDICTIONS, load_feature_set
from mlops_platform.contracts.ml import OUTSIDE_POPULATION
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import NotEnoughDataError
from mlops_platform.inference_pipeline.batch_scoring import (
    SCORING_ROWS,
    Tally,
    filled,
    prediction_id_sql,
    scored_batches,
)
from mlops_platform.inference_pipeline.validation import require_declared
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import scalar
from mlops_platform.storage.rows import BATCH_ROWS, gather
from mlops_platform.training_pipeline.labels import population_sql

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import duckdb
    import pyarrow as pa

    from mlops_platform.inference_pipeline.predictor import Predictor
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.storage.rows import Rows

# Enough for the effect size the drift decision looks for, small enough for any number of customers.
MAX_REFERENCE_ROWS = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


def predictions(
    settings: Settings,
    predictor: Predictor,
    features: TableSnapshot,
    *,
    feature_date: date,
    tick: datetime,
    created_at: datetime,
    note: Callable[[str], object] | None = None,
    batch_rows: int = SCORING_ROWS,
) -> Draft:
    """Predictions of a tick, one row a customer of the population, in the feature store's order.

    Who was not scored goes with them as rows of ml.not_scored.

    Args:
        settings: Population, memory.
        predictor: The model version to score with.
        features: Snapshot of feature_store.customer_features.
        feature_date: The rows to score.
        tick: Start of the 6-hour window.
        created_at: Instant written to `_created_at`.
        note: Is told of the progress, every million rows.
        batch_rows: Rows scored at once.

    Raises:
        ModelError: A feature of the model is not declared.
        NotEnoughDataError: The rows were computed before one was declared.
    """
    require_declared(predictor.feature_names, load_feature_set(settings.features_module).names)
    constants = {
        "tick": tick,
        "model_name": predictor.model.name,
        "model_version": predictor.model.version,
        "feature_snapshot_id": features.snapshot_id,
        "_created_at": created_at,
    }
    population = population_sql(settings.population_days)
    microseconds = (tick - _EPOCH) // timedelta(microseconds=1)
    identity = prediction_id_sql(feature_date, predictor.model.version, str(microseconds))
    with features.relation(where=[Condition("feature_date", "=", feature_date)]) as (duck, view):
        not_scored = _not_scored(settings, duck, f"SELECT * FROM {view} WHERE NOT ({population})", constants)
        inside = f"FROM {view} WHERE {population}"
        tally = Tally(note, scalar(duck, f"SELECT count(*) {inside}"))
        reader = duck.sql(f"SELECT *, {identity} AS prediction_id {inside}")
        rows = gather(settings, PREDICTIONS, _scored(predictor, reader, constants, tally, batch_rows))
    return Draft(
        PREDICTIONS,
        rows,
        scope=(Condition("tick", "=", tick),),
        properties={
            "model-version": predictor.model.version,
            "feature-snapshot-id": str(features.snapshot_id),
            "feature-date": feature_date.isoformat(),
        },
        figures={**tally.figures, "not_scored": not_scored.num_rows},
        quarantine=Draft(NOT_SCORED, not_scored, scope=(Condition("tick", "=", tick),)),
    )


def _scored(
    predictor: Predictor,
    customers: duckdb.DuckDBPyRelation,
    constants: Mapping[str, Any],
    tally: Tally,
    batch_rows: int,
) -> pa.RecordBatchReader:
    """The rows of ml.predictions for customers with their features and prediction_id."""
    import pyarrow as pa

    names = ("prediction_id", "customer_id", "feature_date", *predictor.feature_names)
    batches = scored_batches(
        predictor,
        customers.select(*map(quoted, names)).to_arrow_reader(batch_rows),
        schema=arrow_schema(PREDICTIONS),
        constants=constants,
        tally=tally,
        batch_rows=batch_rows,
    )
    return pa.RecordBatchReader.from_batches(arrow_schema(PREDICTIONS), batches)


def _not_scored(
    settings: Settings, duck: duckdb.DuckDBPyConnection, customers: str, constants: Mapping[str, Any]
) -> Rows:
    """The rows of ml.not_scored for a query of customers outside the population."""
    import pyarrow as pa

    schema = arrow_schema(NOT_SCORED)
    constants = {**constants, "reason": OUTSIDE_POPULATION}

    def rows() -> Iterator[pa.RecordBatch]:
        for batch in duck.sql(f"SELECT customer_id, feature_date FROM ({customers})").to_arrow_reader(BATCH_ROWS):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            yield from filled(schema, columns, constants, batch.num_rows).to_batches()

    return gather(settings, NOT_SCORED, pa.RecordBatchReader.from_batches(schema, rows()))


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


if __name__ == "__main__":
    from mlops_platform.inference_pipeline.batch_pipeline import main

    sys.exit(main())
