"""Figures that stand in the rows of some tables: quality, predictions, drift, gate decisions, features.

Each function reads one table's present state, and of it only the newest part. Does not belong here: when a table is
read (`exporter_tables.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.table import ColumnType
from mlops_platform.monitoring.metrics import Family, Figure
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from mlops_platform.storage.read import TableSnapshot

# A version that has not been judged for so long is history, and so is its figure.
RECENT = timedelta(days=30)
# A feature's percentiles are those of a sample of so many customers; a categorical one shows so many categories.
SAMPLE_ROWS, MOST_CATEGORIES, OTHER = 100_000, 10, "other"
PERCENTILES = (5, 25, 50, 75, 95)
# Versions with a gate decision to show.
MOST_VERSIONS = 10
STATUSES = ("ok", "drift", "insufficient_data")

_VERSION = ("model", "version")
_JUDGED = (*_VERSION, "source", "segment", "estimated")
QUALITY = {
    "accuracy": Family("mlops_model_accuracy_ratio", "Share of right predictions, once labels matured.", _JUDGED),
    "f1": Family("mlops_model_f1_ratio", "F1 of the churned class, once labels matured.", _JUDGED),
    "roc_auc": Family("mlops_model_roc_auc_ratio", "ROC-AUC, once labels matured.", _JUDGED),
    "brier": Family("mlops_model_brier_score", "Mean squared error of the probability; 0 is best.", _JUDGED),
    "churn_rate": Family("mlops_model_churned_ratio", "Share of the judged customers that churned.", _JUDGED),
    "rows": Family("mlops_model_judged_rows", "Predictions that the figures rest on.", _JUDGED),
}
GATE = Family(
    "mlops_gate_roc_auc_ratio", "Held-out ROC-AUC at the gate's last decision about a version.", (*_VERSION, "scorer")
)
GATE_SCORERS = {
    "model": "roc_auc",
    "recency_only": "roc_auc_recency_only",
    "churn_score": "roc_auc_churn_score",
    "champion": "roc_auc_champion",
}
DECIDED = Family(
    "mlops_gate_last_decision_timestamp_seconds", "When Production was last decided about.", ("model", "decision")
)
SCORED = Family(
    "mlops_batch_predictions_rows", "Rows scored at the newest tick, by predicted class.", (*_VERSION, "prediction")
)
SCORING_SECONDS = Family("mlops_batch_scoring_seconds", "Mean time to score a row at the newest tick.", _VERSION)
CHANCES = Family(
    "mlops_batch_churn_probability_ratio", "Percentiles of the chance of churn at the newest tick.", ("percentile",)
)
DRIFT_EFFECT = Family(
    "mlops_drift_effect_ratio", "Effect size of the feature's drift at the newest tick: 0 alike, 1 apart.", ("feature",)
)
DRIFTED = Family("mlops_drift_detected", "1: the feature drifted at the newest tick.", ("feature",))
DRIFT_STATUS = Family("mlops_drift_status", "1: the outcome of the newest tick.", ("status",))
DRIFT_ROWS = Family("mlops_drift_compared_rows", "Rows compared at the newest tick.", ("side",))
FEATURE = Family(
    "mlops_feature_value",
    f"Percentiles of a numeric feature on the newest feature_date, of {SAMPLE_ROWS} customers at most.",
    ("feature", "percentile"),
)
CATEGORY = Family(
    "mlops_feature_category_ratio",
    f"Share of a category on the newest feature_date: the {MOST_CATEGORIES} most frequent, and the others together.",
    ("feature", "category"),
)
FAMILIES = (
    *QUALITY.values(), GATE, DECIDED, SCORED, SCORING_SECONDS, CHANCES,
    DRIFT_EFFECT, DRIFTED, DRIFT_STATUS, DRIFT_ROWS, FEATURE, CATEGORY,
)  # fmt: skip


def performance(snapshot: TableSnapshot, newest: date) -> Iterator[Figure]:
    """The last judgement of every model version that was judged lately, estimates apart from what happened."""
    lately = [Condition("feature_date", ">", newest - timedelta(days=snapshot.settings.horizon_days) - RECENT)]
    columns = [*QUALITY, "feature_date", "model_name", "model_version", "source", "segment", "is_estimate"]
    found = _rows(
        snapshot,
        columns,
        lately,
        """SELECT *, coalesce(is_estimate, false) AS estimated FROM {view}
        QUALIFY feature_date = max(feature_date) OVER (
            PARTITION BY model_name, model_version, source, segment, coalesce(is_estimate, false))
        ORDER BY feature_date DESC, model_name, model_version, source, segment, estimated""",
    )
    for row in found:
        source, segment = row["source"] or "batch", row["segment"] or "all"
        labels = (row["model_name"], row["model_version"], source, segment, str(row["estimated"]).lower())
        yield from (family.figure(row[name], *labels) for name, family in QUALITY.items() if row[name] is not None)


def predictions(snapshot: TableSnapshot, newest: datetime) -> Iterator[Figure]:
    """How many rows the newest tick scored, as what, and how fast."""
    columns = ("model_name", "model_version", "prediction", "churn_probability", "inference_latency_ms")
    tick = [Condition("tick", "=", newest)]
    for row in _rows(
        snapshot,
        columns,
        tick,
        """SELECT model_name, model_version, count(*) FILTER (prediction = 0) AS stays,
        count(*) FILTER (prediction = 1) AS churns, avg(inference_latency_ms) / 1000 AS seconds
        FROM {view} GROUP BY ALL ORDER BY ALL""",
    ):
        version = (row["model_name"], row["model_version"])
        yield SCORED.figure(row["stays"], *version, "0")
        yield SCORED.figure(row["churns"], *version, "1")
        yield SCORING_SECONDS.figure(row["seconds"], *version)
    (row,) = _rows(snapshot, ["churn_probability"], tick, f"SELECT {_percentiles('churn_probability')} FROM {{view}}")
    yield from _percentile_figures(CHANCES, row["churn_probability"])


def drift(snapshot: TableSnapshot, newest: datetime) -> Iterator[Figure]:
    """The newest tick's decision, by feature and as a whole."""
    columns = ("column_name", "effect", "is_drifted", "status", "reference_rows", "current_rows")
    found = _rows(snapshot, columns, [Condition("tick", "=", newest)], "SELECT * FROM {view} ORDER BY column_name")
    for row in found:
        yield DRIFTED.figure(row["is_drifted"], row["column_name"])
        if row["effect"] is not None:
            yield DRIFT_EFFECT.figure(row["effect"], row["column_name"])
    for row in found[:1]:
        yield from (DRIFT_STATUS.figure(row["status"] == status, status) for status in STATUSES)
        yield DRIFT_ROWS.figure(row["reference_rows"], "reference")
        yield DRIFT_ROWS.figure(row["current_rows"], "current")


def promotions(snapshot: TableSnapshot, _: None) -> Iterator[Figure]:
    """The last decision about Production, and the gate's figures for the versions it judged last."""
    columns = ["decided_at", "model_name", "model_version", "decision", *GATE_SCORERS.values()]
    found = _rows(snapshot, columns, [], "SELECT * FROM {view} ORDER BY decided_at DESC")
    decided: set[str] = set()
    for row in found:
        if row["model_name"] not in decided:
            yield DECIDED.figure(row["decided_at"].timestamp(), row["model_name"], row["decision"])
            decided.add(row["model_name"])
    judged: set[tuple[str, str]] = set()
    for row in found:
        version = (row["model_name"], row["model_version"])
        if row["roc_auc"] is None or version in judged or len(judged) == MOST_VERSIONS:
            continue
        judged.add(version)
        for scorer, column in GATE_SCORERS.items():
            if row[column] is not None:
                yield GATE.figure(row[column], *version, scorer)


def features(snapshot: TableSnapshot, newest: date) -> Iterator[Figure]:
    """How each feature is distributed over the customers of the newest feature_date."""
    known = [c for c in snapshot.contract.columns if c.name not in {"customer_id", "feature_date"}]
    features = [column for column in known if not column.name.startswith("_")]
    numbers = [
        column.name for column in features if column.type in {ColumnType.INT, ColumnType.LONG, ColumnType.DOUBLE}
    ]
    categories = [column.name for column in features if column.type is ColumnType.STRING]
    day = [Condition("feature_date", "=", newest)]
    sample = f"(FROM {{view}} USING SAMPLE reservoir({SAMPLE_ROWS} ROWS) REPEATABLE (7))"
    for row in _rows(snapshot, numbers, day, f"SELECT {', '.join(map(_percentiles, numbers))} FROM {sample}"):
        for name in numbers:
            yield from _percentile_figures(FEATURE, row[name], name)
    for name in categories:
        found = _rows(
            snapshot,
            [name],
            day,
            f"SELECT {quoted(name)} AS category, count(*) AS customers FROM {{view}} GROUP BY 1 ORDER BY 2 DESC, 1",
        )
        customers = sum(row["customers"] for row in found)
        for row in found[:MOST_CATEGORIES]:
            yield CATEGORY.figure(row["customers"] / customers, name, str(row["category"]))
        if rest := sum(row["customers"] for row in found[MOST_CATEGORIES:]):
            yield CATEGORY.figure(rest / customers, name, OTHER)


def _rows(snapshot: TableSnapshot, columns: Any, where: list[Condition], sql: str) -> list[dict[str, Any]]:
    with snapshot.relation(columns, where) as (connection, view):
        found: list[dict[str, Any]] = connection.sql(sql.format(view=view)).to_arrow_table().to_pylist()
        return found


def _percentiles(name: str) -> str:
    shares = [percentile / 100 for percentile in PERCENTILES]
    return f"quantile_cont({quoted(name)}, {shares}) AS {quoted(name)}"


def _percentile_figures(family: Family, values: list[float] | None, *labels: str) -> Iterator[Figure]:
    for percentile, value in zip(PERCENTILES, values or (), strict=False):
        yield family.figure(value, *labels, str(percentile))
