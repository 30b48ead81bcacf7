"""A home whose tables hold what the exporter reads: predictions of a tick, their drift, judged versions, features.

Does not belong here: tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from mlops_platform.contracts import DRIFT, PERFORMANCE, PREDICTIONS, PROMOTIONS, STANDARD, TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.contracts.table import ColumnType
from mlops_platform.settings import Settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft

TICK = datetime(2024, 7, 1, tzinfo=UTC)
DAY = date(2024, 6, 30)
AT = datetime(2024, 7, 1, 6, tzinfo=UTC)
VERSION = {"model_name": "customer_churn_model", "model_version": "2"}


def publish(
    lake: Lake, contract: TableContract, rows: Sequence[Mapping[str, Any]], scope: tuple[Condition, ...] = ()
) -> int | None:
    """Publishes rows of a table, with null for what they leave out; returns the snapshot."""
    found = pa.Table.from_pylist(list(rows), schema=arrow_schema(contract))
    return lake.publish(Draft(contract, found, scope=scope)).snapshot_id


def judged(day: date = DAY, **cells: Any) -> dict[str, Any]:
    """A row of monitoring.performance."""
    figures = {"rows": 200, "churn_rate": 0.4, "accuracy": 0.8, "f1": 0.7, "roc_auc": 0.75, "brier": 0.2}
    known = {"source": "batch", "segment": "all", "is_estimate": False}
    dates = {"feature_date": day, "report_date": day + timedelta(days=90), "_created_at": AT}
    return {**VERSION, **figures, **known, **dates, **cells}


def judge(lake: Lake, *rows: Mapping[str, Any]) -> None:
    """Publishes rows of monitoring.performance, which replace those of their days."""
    days = tuple({row["feature_date"] for row in rows})
    publish(lake, PERFORMANCE, rows, (Condition("feature_date", "in", days),))


def drift(lake: Lake, tick: datetime = TICK, **effects: float) -> None:
    """Publishes a tick's drift: a column drifted where its effect is 0.1 or more."""
    status = "drift" if any(effect >= 0.1 for effect in effects.values()) else "ok"
    rows = [
        {
            **VERSION, "tick": tick, "column_name": name, "kind": "numeric", "method": "ks_2samp", "statistic": effect,
            "p_value": 0.5, "effect": effect, "is_drifted": effect >= 0.1, "status": status, "reference_rows": 5000,
            "current_rows": 300, "_created_at": AT,
        }
        for name, effect in effects.items()
    ]  # fmt: skip
    publish(lake, DRIFT, rows, (Condition("tick", "=", tick),))


def predict(lake: Lake, tick: datetime = TICK, rows: int = 40, seconds: float = 0.0005) -> None:
    """Publishes a tick's predictions: a quarter churns."""
    found = [
        {
            **VERSION, "prediction_id": f"{tick}/{n}", "customer_id": f"c{n}", "feature_date": DAY, "tick": tick,
            "churn_probability": (n + 0.5) / rows, "prediction": int(n >= rows * 3 // 4), "confidence": 0.5,
            "inference_latency_ms": seconds * 1000, "feature_snapshot_id": 1, "_created_at": AT,
        }
        for n in range(rows)
    ]  # fmt: skip
    publish(lake, PREDICTIONS, found, (Condition("tick", "=", tick),))


def decide(lake: Lake, decision: str = "promoted", at: datetime = AT, **cells: Any) -> None:
    """Publishes a decision about Production."""
    row = {
        **VERSION, "decision_id": f"{decision} {at}", "decided_at": at, "decision": decision, "reason": "a test",
        "run_id": "r", "roc_auc": 0.76, "roc_auc_recency_only": 0.7, "roc_auc_churn_score": 0.74, "rows": 200, **cells,
    }  # fmt: skip
    publish(lake, PROMOTIONS, [row])


def feature_rows(day: date = DAY, rows: int = 200, **columns: Sequence[Any]) -> pa.Table:
    """Random rows of feature_store.customer_features, inside the contract; some columns as given."""
    rng, contract = np.random.default_rng(3), STANDARD.customer_features
    values: dict[str, Any] = {}
    for feature in STANDARD.features:
        column = feature.column
        low, high = column.ge or 0, column.le or 90
        if column.name in columns:
            values[column.name] = columns[column.name]
        elif column.type is ColumnType.STRING:
            values[column.name] = rng.choice(column.isin or ["books", "toys", "unknown"], rows).tolist()
        elif column.type is ColumnType.INT:
            values[column.name] = rng.integers(int(low), int(high) + 1, rows).tolist()
        else:
            values[column.name] = rng.uniform(low, high, rows).tolist()
    keys = {"customer_id": [f"c{n}" for n in range(rows)], "feature_date": [day] * rows}
    written = {"_feature_version": ["v1"] * rows, "_created_at": [AT] * rows, "_feature_hash": ["h"] * rows}
    return pa.table({name: {**values, **keys, **written}[name] for name in contract.column_names}).cast(
        arrow_schema(contract)
    )


def feature(lake: Lake, rows: pa.Table) -> None:
    """Publishes features of the days they are of."""
    days = tuple(set(rows["feature_date"].to_pylist()))
    lake.publish(Draft(STANDARD.customer_features, rows, scope=(Condition("feature_date", "in", days),)))


def fill(settings: Settings) -> Lake:
    """A home with a row or more in every table that the exporter reads rows of."""
    lake = Lake(settings)
    judge(lake, judged(), judged(segment="premium", roc_auc=0.7), judged(source="online"))
    judge(lake, judged(DAY + timedelta(days=30), is_estimate=True))
    drift(lake, tenure_days=0.02, customer_segment=0.01, churn_probability=0.03)
    predict(lake)
    decide(lake)
    feature(lake, feature_rows())
    return lake
