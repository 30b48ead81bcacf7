"""The performance report in real tables: what a rerun changes, estimates that give way, and rows of older versions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pyarrow as pa

from mlops_platform.contracts import ONLINE_PREDICTIONS, PERFORMANCE, PREDICTIONS, SILVER_TRANSACTIONS, STANDARD
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.erasure.subjects import Subjects
from mlops_platform.erasure.tables import erase_from
from mlops_platform.monitoring.performance import Tables, performance_report
from mlops_platform.storage.conditions import Condition, all_time, day_range
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform.storage.publish import Draft, PublishResult
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.monitoring.test_performance import (
    DAY,
    ESTIMATED,
    HISTORY,
    MEASURED,
    SCORES,
    TICK,
    D,
    R,
    answer,
    everyone,
    prediction,
    some,
)
from mlops_platform_tests.unit.training_pipeline.worlds import AT, buy, silver_rows


def sell(lake: Lake, purchases: Iterable[Purchase]) -> None:
    """Silver holds these purchases and no others."""
    lake.publish(Draft(SILVER_TRANSACTIONS, silver_rows(lake.settings, purchases), scope=all_time("transaction_ts")))


def predict(lake: Lake, rows: list[dict[str, Any]]) -> None:
    """Publishes batch predictions tick by tick."""
    for tick in sorted({row["tick"] for row in rows}):
        table = pa.Table.from_pylist([row for row in rows if row["tick"] == tick], schema=arrow_schema(PREDICTIONS))
        lake.publish(Draft(PREDICTIONS, table, scope=(Condition("tick", "=", tick),)))


def publish(lake: Lake, day: date = R, *, as_of: date = R, hours: int = 0) -> PublishResult:
    """The report of a day, as the asset makes it."""
    tables = Tables.of(lake, lake.snapshot(SILVER_TRANSACTIONS))
    created_at = AT + timedelta(hours=hours)
    return lake.publish(
        performance_report(lake.settings, tables, first=day, last=day, as_of=as_of, created_at=created_at)
    )


def reported(lake: Lake, **cells: Any) -> list[dict[str, Any]]:
    """Rows of monitoring.performance over all segments that have these cells."""
    wanted = {"segment": "all", **cells}
    found = lake.snapshot(PERFORMANCE).to_arrow(order_by=PERFORMANCE.key).to_pylist()
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def test_batch_and_online_by_hand_and_again(lake: Lake) -> None:
    sell(lake, HISTORY)
    predict(lake, [prediction("a", 0.01, tick=TICK - timedelta(hours=6)), *everyone()])
    online = [answer(customer_hmac(lake.settings, customer), score) for customer, score in SCORES.items()]
    online_rows = pa.Table.from_pylist([*online, answer(None, 0.5)], schema=arrow_schema(ONLINE_PREDICTIONS))
    lake.publish(Draft(ONLINE_PREDICTIONS, online_rows))
    contract = STANDARD.customer_features
    plain = {field.name: AT if "timestamp" in str(field.type) else 1 for field in arrow_schema(contract)}
    texts = {f.name: "bronze" for f in arrow_schema(contract) if pa.types.is_string(f.type)}
    features = [plain | texts | {"customer_id": c, "feature_date": D, "customer_segment": "premium"} for c in "abc"]
    lake.publish(
        Draft(
            contract,
            pa.Table.from_pylist(features, schema=arrow_schema(contract)),
            scope=day_range("feature_date", D, D),
        )
    )
    first, again = (publish(lake, hours=hours) for hours in range(2))
    assert (again.snapshot_id, again.is_new) == (first.snapshot_id, False)
    batch, served = reported(lake)
    assert (some(batch, MEASURED), some(served, MEASURED)) == (MEASURED, MEASURED)
    assert (batch["rows_without_customer"], served["rows_without_customer"]) == (0, 1)
    assert [(r["source"], r["rows"]) for r in reported(lake, segment="premium")] == [("batch", 3), ("online", 5)]


def test_an_estimate_gives_way_to_what_was_measured(lake: Lake) -> None:
    sell(lake, [p for p in HISTORY if p.day < R])
    predict(lake, everyone())
    publish(lake, D + DAY, as_of=D + DAY)
    (row,) = reported(lake)
    assert (some(row, ESTIMATED), row["is_estimate"]) == (ESTIMATED, True)
    # Ingestion is late: on the day of maturity silver does not reach it.
    assert not publish(lake, R, as_of=R).is_new
    # The day after it does. The report of that day is about other predictions, and sees to these as well.
    sell(lake, HISTORY)
    publish(lake, R + DAY, as_of=R + DAY)
    (row,) = reported(lake)
    assert (some(row, MEASURED), row["is_estimate"], row["report_date"]) == (MEASURED, False, R)
    # A rerun of the day of the predictions leaves it alone, and so does another of its own day.
    assert not publish(lake, D + DAY, as_of=R + DAY).is_new
    assert not publish(lake, R, as_of=R + DAY).is_new


def test_a_late_transaction_changes_the_row_when_its_day_is_run_again(lake: Lake) -> None:
    sell(lake, HISTORY)
    predict(lake, everyone())
    before = publish(lake)
    sell(lake, [*HISTORY, buy("a", D + 30 * DAY)])
    after = publish(lake)
    (row,) = reported(lake)
    assert after.snapshot_id != before.snapshot_id
    assert (row["churn_rate"], row["rows"]) == (2 / 5, 5)


def test_a_customer_who_was_erased_in_between_is_left_out(lake: Lake) -> None:
    sell(lake, HISTORY)
    predict(lake, [*everyone(), prediction("nobody scored", 0.99)])
    publish(lake)
    subjects = Subjects.of(lake.settings, ["nobody scored"])
    for without, table in ((1, SILVER_TRANSACTIONS), (0, PREDICTIONS)):
        erase_from(lake, table.name, subjects)
        publish(lake)
        (row,) = reported(lake)
        assert (some(row, MEASURED), row["rows_without_customer"]) == (MEASURED, without)


def test_rows_from_before_sources_and_segments_stay_and_are_replaced_by_their_own_day(lake: Lake) -> None:
    names = PERFORMANCE.column_names[: PERFORMANCE.column_names.index("source")]
    older = replace(
        PERFORMANCE,
        columns=tuple(map(PERFORMANCE.column, names)),
        key=("report_date", "model_name", "model_version"),
        range_column="report_date",
    )
    plain = {"model_name": "churn", "model_version": "1", "rows": 9, "_created_at": AT}
    figures = dict.fromkeys(("churn_rate", "accuracy", "f1", "roc_auc", "brier"), 0.5)
    days = [{"report_date": R - n * DAY, "feature_date": D - n * DAY, **plain, **figures} for n in (0, 7)]
    table = pa.Table.from_pylist(days, schema=arrow_schema(older))
    lake.publish(Draft(older, table, scope=day_range("report_date", R - 7 * DAY, R)))
    sell(lake, HISTORY)
    predict(lake, everyone())
    publish(lake)
    earlier, now = lake.snapshot(PERFORMANCE).to_arrow(order_by=("report_date",)).to_pylist()[:2]
    assert (earlier["rows"], earlier["source"], earlier["segment"], earlier["is_estimate"]) == (9, None, None, None)
    assert (now["report_date"], now["rows"], now["source"]) == (R, 5, "batch")
    assert lake.snapshot(PERFORMANCE).count([Condition("feature_date", "=", D)]) == 2


def test_before_any_prediction_or_transaction(lake: Lake) -> None:
    publish(lake)
    assert lake.snapshot(PERFORMANCE).count() == 0
    predict(lake, everyone())
    publish(lake)
    # Nobody is known, so that nobody is told to have churned.
    assert lake.snapshot(PERFORMANCE).count() == 0
