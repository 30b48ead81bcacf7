"""Performance once labels have matured: what was predicted against what happened.

Report date R covers the batch predictions whose feature_date is R − horizon: that is the day their label windows end.
Does not belong here: estimates before labels mature, drift.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import PERFORMANCE
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.storage.conditions import Condition, day_range
from mlops_platform.storage.duck import session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register
from mlops_platform.training_pipeline.labels import label_sql

if TYPE_CHECKING:
    from datetime import date, datetime

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot


def performance_report(
    settings: Settings,
    predictions: TableSnapshot,
    transactions: TableSnapshot,
    *,
    first: date,
    last: date,
    created_at: datetime,
) -> Draft:
    """Metrics of every model version whose predictions matured on the report dates from `first` to `last`.

    A customer scored at several ticks of one day counts once, with the day's last prediction.

    Returns:
        A draft with one row a report date and model version; none for a day without matured predictions.
    """
    import pyarrow as pa

    rows: list[dict[str, Any]] = []
    for number in range((last - first).days + 1):
        report_date = first + timedelta(days=number)
        feature_date = report_date - timedelta(days=settings.horizon_days)
        rows += [
            {
                "report_date": report_date,
                "feature_date": feature_date,
                "model_name": name,
                "model_version": version,
                **_metrics(labels, predicted, probabilities),
                "_created_at": created_at,
            }
            for name, version, labels, predicted, probabilities in _outcomes(
                settings, predictions, transactions, feature_date, report_date
            )
        ]
    return Draft(
        PERFORMANCE,
        pa.Table.from_pylist(rows, schema=arrow_schema(PERFORMANCE)),
        scope=day_range("report_date", first, last),
        figures={"report_dates": (last - first).days + 1, "predictions": sum(row["rows"] for row in rows)},
    )


def _outcomes(
    settings: Settings,
    predictions: TableSnapshot,
    transactions: TableSnapshot,
    feature_date: date,
    report_date: date,
) -> list[tuple[str, str, list[int], list[int], list[float]]]:
    """For each model version: its name, version, labels, predictions, probabilities."""
    with session(settings) as duck:
        register(duck, predictions, view="predicted", where=[Condition("feature_date", "=", feature_date)])
        window = [Condition("transaction_date", ">", feature_date), Condition("transaction_date", "<=", report_date)]
        columns = ("customer_id", "transaction_date", "amount")
        view = register(duck, transactions, columns=columns, where=window)
        duck.execute(f"CREATE TEMP TABLE purchases AS SELECT * FROM {view} WHERE amount > 0")
        duck.execute(
            "CREATE TEMP TABLE latest AS SELECT * FROM predicted QUALIFY row_number() OVER ("
            "PARTITION BY customer_id, feature_date, model_name, model_version ORDER BY tick DESC) = 1"
        )
        duck.execute("CREATE TEMP TABLE keys AS SELECT DISTINCT customer_id, feature_date FROM latest")
        found: list[tuple[str, str, list[int], list[int], list[float]]] = duck.execute(
            f"""SELECT model_name, model_version, list(churned ORDER BY customer_id),
                list(prediction ORDER BY customer_id), list(churn_probability ORDER BY customer_id)
            FROM latest JOIN ({label_sql("purchases", "keys", settings.horizon_days)})
                USING (customer_id, feature_date)
            GROUP BY model_name, model_version ORDER BY model_name, model_version"""
        ).fetchall()
        return found


def _metrics(labels: list[int], predicted: list[int], probabilities: list[float]) -> dict[str, Any]:
    from sklearn import metrics

    both_classes = len(set(labels)) == 2
    return {
        "rows": len(labels),
        "churn_rate": sum(labels) / len(labels),
        "accuracy": float(metrics.accuracy_score(labels, predicted)),
        "f1": float(metrics.f1_score(labels, predicted, zero_division=0)),
        "roc_auc": float(metrics.roc_auc_score(labels, probabilities)) if both_classes else None,
        "brier": float(metrics.brier_score_loss(labels, probabilities, pos_label=1)),
    }
