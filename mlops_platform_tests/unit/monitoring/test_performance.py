"""Performance of matured predictions, against figures computed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import PERFORMANCE, PREDICTIONS, SILVER_TRANSACTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.monitoring import performance
from mlops_platform.monitoring.performance import performance_report
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition, all_of_sql, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.worlds import AT, buy, silver_rows

D = date(2024, 3, 31)
R = D + timedelta(days=90)
TICK = datetime(2024, 4, 1, tzinfo=UTC)
# Customers and what was predicted: a and e churn; b comes back at once, c on the last day, d one day too late.
SCORES = {"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.3, "e": 0.6}
HISTORY = [
    *(buy(customer, D) for customer in SCORES),
    buy("b", D + timedelta(days=1)),
    buy("c", D + timedelta(days=90)),
    buy("d", D + timedelta(days=91)),
    buy("e", D + timedelta(days=10), "-10.00"),
    buy("e", D + timedelta(days=10), "0.00"),
    buy("nobody scored", D + timedelta(days=10)),
]


def prediction(customer: str, probability: float, **cells: Any) -> dict[str, Any]:
    """One row of ml.predictions; predicted to churn from 0.5 on."""
    row = {
        "customer_id": customer,
        "feature_date": D,
        "tick": TICK,
        "model_name": "churn",
        "model_version": "1",
        "churn_probability": probability,
        "prediction": int(probability >= 0.5),
        "confidence": max(probability, 1 - probability),
        "inference_latency_ms": 0.1,
        "feature_snapshot_id": 1,
        "_created_at": AT,
        **cells,
    }
    return {**row, "prediction_id": f"{customer}/{row['feature_date']}/{row['tick']}/{row['model_version']}"}


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the report of predictions and purchases that stand in memory in place of the tables' files."""
    settings = load_settings(home=tmp_path / "home")

    def make(
        predictions: Iterable[dict[str, Any]],
        purchases: Iterable[Purchase] = HISTORY,
        first: date = R,
        last: date = R,
        **changed: Any,
    ) -> Draft:
        changed_settings = settings.model_copy(update=changed)
        held = {
            PREDICTIONS.name: pa.Table.from_pylist(list(predictions), schema=arrow_schema(PREDICTIONS)),
            SILVER_TRANSACTIONS.name: silver_rows(settings, purchases),
        }

        def register(duck: Any, snapshot: TableSnapshot, **options: Any) -> str:
            contract = snapshot.contract
            duck.register(f"_{contract.name}", held[contract.name])
            view = options.get("view") or "sales"
            columns = ", ".join(options.get("columns") or contract.column_names)
            where = all_of_sql(options["where"])
            duck.execute(f'CREATE TEMP VIEW {view} AS SELECT {columns} FROM "_{contract.name}" WHERE {where}')
            return str(view)

        monkeypatch.setattr(performance, "register", register)
        tables = [TableSnapshot(c, None, changed_settings, None) for c in (PREDICTIONS, SILVER_TRANSACTIONS)]
        return performance_report(changed_settings, *tables, first=first, last=last, created_at=AT)

    return make


def everyone(**cells: Any) -> list[dict[str, Any]]:
    return [prediction(customer, score, **cells) for customer, score in SCORES.items()]


def test_by_hand(report: Any) -> None:
    draft = report(everyone())
    assert all(outcome.passed for outcome in draft.audit())
    (row,) = draft.rows.to_pylist()
    # Churned: a (.9), d (.3), e (.6). Hits a and e, false alarm b, missed d. Pairs in order: a>b a>c d>c e>c of six.
    assert row == {
        "report_date": R,
        "feature_date": D,
        "model_name": "churn",
        "model_version": "1",
        "rows": 5,
        "churn_rate": pytest.approx(3 / 5),
        "accuracy": pytest.approx(3 / 5),
        "f1": pytest.approx(2 / 3),
        "roc_auc": pytest.approx(4 / 6),
        "brier": pytest.approx((0.01 + 0.64 + 0.04 + 0.49 + 0.16) / 5),
        "_created_at": AT,
    }
    assert draft.figures == {"report_dates": 1, "predictions": 5}


def test_several_ticks_of_a_day_count_once_with_the_last(report: Any) -> None:
    early = [{**prediction(c, 1 - s), "prediction_id": f"early/{c}"} for c, s in SCORES.items()]
    late = everyone(tick=TICK + timedelta(hours=18))
    middle = [prediction("a", 0.01, tick=TICK + timedelta(hours=6))]
    expected = report(everyone()).rows
    for order in ([*early, *middle, *late], [*late, *early, *middle]):
        assert report(order).rows.equals(expected)


def test_a_customer_scored_only_at_an_earlier_tick_counts_too(report: Any) -> None:
    rows = everyone()
    moved = [*everyone(tick=TICK + timedelta(hours=6))[1:], rows[0]]
    assert report(moved).rows.equals(report(rows).rows)


def test_each_model_version_has_its_row(report: Any) -> None:
    second = [prediction("a", 0.7, model_version="2"), prediction("b", 0.6, model_version="2")]
    other = [prediction("b", 0.1, model_name="other")]
    rows = report([*second, *other, *everyone()]).rows.to_pylist()
    assert [(r["model_name"], r["model_version"], r["rows"]) for r in rows] == [
        ("churn", "1", 5),
        ("churn", "2", 2),
        ("other", "1", 1),
    ]
    assert rows[0] == report(everyone()).rows.to_pylist()[0]
    assert rows[1]["roc_auc"] == 1.0


def test_predictions_of_other_days_are_not_asked_about(report: Any) -> None:
    others = [prediction("a", 0.1, feature_date=D + timedelta(days=n)) for n in (-1, 1)]
    assert report([*everyone(), *others]).rows.equals(report(everyone()).rows)


def test_a_range_of_days_is_its_days(report: Any) -> None:
    rows = [*everyone(), prediction("c", 0.4, feature_date=D - timedelta(days=2))]
    draft = report(rows, first=R - timedelta(days=3), last=R)
    # c bought on D, within the window of two days before.
    (early, late) = draft.rows.sort_by("report_date").to_pylist()
    assert (early["report_date"], early["feature_date"]) == (R - timedelta(days=2), D - timedelta(days=2))
    assert (early["rows"], early["churn_rate"]) == (1, 0.0)
    assert late == report(rows).rows.to_pylist()[0]
    assert draft.figures == {"report_dates": 4, "predictions": 6}
    assert all(outcome.passed for outcome in draft.audit())


@pytest.mark.parametrize(("purchases", "rate"), [(HISTORY[:5], 1.0), ([buy(c, R) for c in SCORES], 0.0)])
def test_one_class_has_no_roc_auc(report: Any, purchases: list[Purchase], rate: float) -> None:
    draft = report(everyone(), purchases)
    (row,) = draft.rows.to_pylist()
    assert (row["churn_rate"], row["roc_auc"]) == (rate, None)
    assert row["brier"] == pytest.approx(sum((rate - s) ** 2 for s in SCORES.values()) / 5)
    assert all(outcome.passed for outcome in draft.audit())


def test_another_horizon(report: Any) -> None:
    (row,) = report(
        everyone(), first=D + timedelta(days=5), last=D + timedelta(days=5), horizon_days=5
    ).rows.to_pylist()
    # Only b has come back by then.
    assert (row["feature_date"], row["churn_rate"]) == (D, pytest.approx(4 / 5))


def test_nothing_predicted_is_no_row(report: Any) -> None:
    draft = report([])
    assert draft.rows.num_rows == 0
    assert draft.figures["predictions"] == 0
    assert all(outcome.passed for outcome in draft.audit())


class TestThroughTheTables:
    def test_by_hand_and_again(self, lake: Lake) -> None:
        late = [prediction("a", 0.01, tick=TICK - timedelta(hours=6)), *everyone()]
        for tick in {row["tick"] for row in late}:
            rows = [row for row in late if row["tick"] == tick]
            table = pa.Table.from_pylist(rows, schema=arrow_schema(PREDICTIONS))
            lake.publish(Draft(PREDICTIONS, table, scope=(Condition("tick", "=", tick),)))
        lake.publish(Draft(SILVER_TRANSACTIONS, silver_rows(lake.settings, HISTORY), scope=all_time("transaction_ts")))
        tables = lake.snapshot(PREDICTIONS), lake.snapshot(SILVER_TRANSACTIONS)
        first, again = (
            lake.publish(
                performance_report(lake.settings, *tables, first=R, last=R, created_at=AT + timedelta(hours=n))
            )
            for n in range(2)
        )
        assert (again.snapshot_id, again.is_new) == (first.snapshot_id, False)
        (row,) = lake.snapshot(PERFORMANCE).to_arrow().to_pylist()
        assert (row["rows"], row["roc_auc"]) == (5, pytest.approx(4 / 6))

    def test_before_any_prediction_or_transaction(self, lake: Lake) -> None:
        tables = lake.snapshot(PREDICTIONS), lake.snapshot(SILVER_TRANSACTIONS)
        draft = performance_report(lake.settings, *tables, first=R, last=R, created_at=AT)
        assert draft.rows.num_rows == 0
        lake.publish(draft)
        assert lake.snapshot(PERFORMANCE).count() == 0
