"""What was predicted on a day, and for whom: batch and online predictions in one form, joined to what happened.

Customers are known by customer_id in batch predictions and by its keyed hash in online ones; the purchases take the
same form. Belongs here: relations in one DuckDB session. Does not belong here: figures (`performance_figures.py`),
which days are reported (`performance.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from mlops_platform import clock
from mlops_platform.contracts import ONLINE_PREDICTIONS, PERFORMANCE, PREDICTIONS
from mlops_platform.contracts.features import UNKNOWN
from mlops_platform.contracts.ml import BATCH
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.pseudonym import column_hmacs
from mlops_platform.storage.read import register, scalar
from mlops_platform.storage.rows import BATCH_ROWS
from mlops_platform.training_pipeline.labels import label_sql

if TYPE_CHECKING:
    from collections.abc import Sequence

    import duckdb

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot

# The last one of a day counts: a customer is scored at four ticks, and asked for as often as one likes.
_LATEST = """CREATE OR REPLACE TEMP TABLE latest AS
    SELECT m.* EXCLUDE (prediction_id, made_at), k.customer_id IS NOT NULL AS is_known FROM (
        SELECT * FROM made QUALIFY row_number() OVER (
            PARTITION BY coalesce(customer_id, prediction_id), model_name, model_version
            ORDER BY made_at DESC, prediction_id DESC
        ) = 1
    ) m LEFT JOIN known k USING (customer_id)"""
_SCORES = "model_name, model_version, churn_probability, prediction"
_COMMON = f"prediction_id, {_SCORES}"


@dataclass(frozen=True, slots=True)
class Tables:
    """The states of the tables that a report reads.

    Args:
        predictions: ml.predictions.
        online: ml.online_predictions.
        transactions: silver.transactions.
        features: feature_store.customer_features, for the customers' segments.
        reported: monitoring.performance, as it stands before the report.
    """

    predictions: TableSnapshot
    online: TableSnapshot
    transactions: TableSnapshot
    features: TableSnapshot
    reported: TableSnapshot

    @classmethod
    def of(cls, lake: Lake, transactions: TableSnapshot) -> Tables:
        """The home's tables as they stand, and silver.transactions as given."""
        features = lake.snapshot(lake.features.customer_features)
        return cls(
            lake.snapshot(PREDICTIONS),
            lake.snapshot(ONLINE_PREDICTIONS),
            transactions,
            features,
            lake.snapshot(PERFORMANCE),
        )


def open_customers(duck: duckdb.DuckDBPyConnection, tables: Tables) -> date | None:
    """Makes `customers`, everybody with a transaction in silver; returns the last day that has one."""
    sales = register(duck, tables.transactions, view="sales", columns=("customer_id", "transaction_date"))
    # No temporary table: those are hidden from cursors.
    duck.execute(f"CREATE TABLE customers AS SELECT DISTINCT customer_id FROM {sales}")
    last: date | None = scalar(duck, f"SELECT max(transaction_date) FROM {sales}")
    return last


def name_customers(
    duck: duckdb.DuckDBPyConnection, settings: Settings, tables: Tables, feature_dates: Sequence[date]
) -> None:
    """Makes `named`: customer_id and customer_hmac of the customers whom online predictions of these days name.

    A hash can't be undone, so every customer's is computed, in batches, once for all days; none where nobody was asked
    for.
    """
    import pyarrow as pa

    duck.execute("CREATE TEMP TABLE named (customer_id VARCHAR, customer_hmac VARCHAR)")
    span = _answered(settings, min(feature_dates), max(feature_dates))
    view = register(duck, tables.online, view="asked", columns=("predicted_at", "customer_hmac"), where=span)
    duck.execute(
        f"CREATE TEMP TABLE asked_for AS SELECT DISTINCT customer_hmac FROM {view} WHERE customer_hmac IS NOT NULL"
    )
    if not scalar(duck, "SELECT count(*) FROM asked_for"):
        return
    # The connection's own result would be closed by the statements in between.
    with duck.cursor() as reading:
        for batch in reading.sql("SELECT customer_id FROM customers").to_arrow_reader(BATCH_ROWS):
            hashed = column_hmacs(settings, batch.column(0))
            duck.register("hashed", pa.table({"customer_id": batch.column(0), "customer_hmac": hashed}))
            duck.execute("INSERT INTO named SELECT * FROM hashed SEMI JOIN asked_for USING (customer_hmac)")
            duck.unregister("hashed")


def scored(
    duck: duckdb.DuckDBPyConnection, settings: Settings, tables: Tables, source: str, feature_date: date
) -> dict[tuple[str, str], int]:
    """Makes `latest`: the day's last prediction of each customer and model version, and whether silver knows them.

    Args:
        duck: After `open_customers` and `name_customers`.
        settings: Time zone.
        tables: What is read.
        source: batch or online.
        feature_date: An online prediction's is the local day before it was answered, as a tick's.

    Returns:
        Model name and version of the day's predictions to the number of those for nobody whom silver knows.
    """
    if source == BATCH:
        _batch(duck, tables, feature_date)
    else:
        _online(duck, settings, tables, feature_date)
    duck.execute(_LATEST)
    models = duck.execute(
        "SELECT model_name, model_version, count(*) FILTER (WHERE NOT is_known) FROM latest GROUP BY ALL"
    ).fetchall()
    return {(name, version): without for name, version, without in models}


def label(duck: duckdb.DuckDBPyConnection, settings: Settings, tables: Tables, source: str, feature_date: date) -> str:
    """Makes `outcomes`, the rows of `latest` with a label each; returns its name.

    Args:
        duck: After `scored` of the same source and feature_date.
        settings: Horizon.
        tables: What is read.
        source: batch or online.
        feature_date: Purchases of the horizon after it count.
    """
    until = feature_date + timedelta(days=settings.horizon_days)
    window = [Condition("transaction_date", ">", feature_date), Condition("transaction_date", "<=", until)]
    columns = ("customer_id", "transaction_date", "amount")
    view = register(duck, tables.transactions, view="window_sales", columns=columns, where=window)
    whose = "customer_id" if source == BATCH else "customer_hmac"
    joined = view if source == BATCH else f"{view} JOIN named USING (customer_id)"
    duck.execute(
        f"CREATE OR REPLACE TEMP VIEW purchases AS SELECT {whose} AS customer_id, transaction_date FROM {joined} "
        "WHERE amount > 0"
    )
    duck.execute(
        "CREATE OR REPLACE TEMP VIEW keys AS "
        f"SELECT DISTINCT customer_id, DATE '{feature_date}' AS feature_date FROM latest WHERE is_known"
    )
    labels = label_sql("purchases", "keys", settings.horizon_days)
    duck.execute(
        f"CREATE OR REPLACE TEMP TABLE outcomes AS SELECT {_SCORES}, segment, churned "
        f"FROM latest JOIN ({labels}) USING (customer_id)"
    )
    return "outcomes"


def _batch(duck: duckdb.DuckDBPyConnection, tables: Tables, feature_date: date) -> None:
    day = [Condition("feature_date", "=", feature_date)]
    made = register(duck, tables.predictions, view="batch", where=day)
    columns = ("customer_id", "customer_segment")
    segments = register(duck, tables.features, view="segments", columns=columns, where=day)
    duck.execute(
        f"CREATE OR REPLACE TEMP VIEW made AS SELECT customer_id, tick AS made_at, {_COMMON}, "
        f"coalesce(customer_segment, '{UNKNOWN}') AS segment FROM {made} LEFT JOIN {segments} USING (customer_id)"
    )
    duck.execute("CREATE OR REPLACE TEMP VIEW known AS SELECT customer_id FROM customers")


def _online(duck: duckdb.DuckDBPyConnection, settings: Settings, tables: Tables, feature_date: date) -> None:
    answers = register(duck, tables.online, view="online", where=_answered(settings, feature_date, feature_date))
    duck.execute(
        f"CREATE OR REPLACE TEMP VIEW made AS SELECT customer_hmac AS customer_id, predicted_at AS made_at, {_COMMON}, "
        f"coalesce(json_extract_string(features, '$.customer_segment'), '{UNKNOWN}') AS segment FROM {answers}"
    )
    duck.execute("CREATE OR REPLACE TEMP VIEW known AS SELECT DISTINCT customer_hmac AS customer_id FROM named")


def _answered(settings: Settings, first: date, last: date) -> list[Condition]:
    """Online predictions of these feature_dates: answered on the local day after."""
    start, end = (clock.end_of_day(day, settings.zone) for day in (first, last + timedelta(days=1)))
    return [Condition("predicted_at", ">=", start), Condition("predicted_at", "<", end)]
