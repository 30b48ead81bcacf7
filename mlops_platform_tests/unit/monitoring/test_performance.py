"""Performance of predictions: which are counted, with which label, measured or estimated; figures computed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from mlops_platform.contracts import ONLINE_PREDICTIONS, PERFORMANCE, PREDICTIONS, SILVER_TRANSACTIONS, STANDARD
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.monitoring import performance_outcomes
from mlops_platform.monitoring.performance import Tables, performance_report
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import all_of_sql
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.unit.training_pipeline.worlds import AT, buy, silver_rows

D = date(2024, 3, 31)
R = D + timedelta(days=90)
DAY = timedelta(days=1)
TICK = datetime(2024, 4, 1, tzinfo=UTC)
# Customers and what was predicted: a and e churn; b comes back at once, c on the last day, d one day too late.
SCORES = {"a": 0.9, "b": 0.8, "c": 0.2, "d": 0.3, "e": 0.6}
HISTORY = [
    *(buy(customer, D) for customer in SCORES),
    buy("b", D + DAY),
    buy("c", R),
    buy("d", R + DAY),
    buy("e", D + timedelta(days=10), "-10.00"),
    buy("e", D + timedelta(days=10), "0.00"),
    buy("nobody scored", D + timedelta(days=10)),
]
# Churned: a (.9), d (.3), e (.6). Hits a and e, false alarm b, missed d. Pairs in order: a>b a>c d>c e>c of six.
MEASURED = {
    "rows": 5,
    "churn_rate": pytest.approx(3 / 5),
    "accuracy": pytest.approx(3 / 5),
    "f1": pytest.approx(2 / 3),
    "roc_auc": pytest.approx(4 / 6),
    "brier": pytest.approx((0.01 + 0.64 + 0.04 + 0.49 + 0.16) / 5),
}
# Expected: hits .9 + .8 + .6, rejections .8 + .7, of 5; missed .2 + .3, false alarms .1 + .2 + .4.
ESTIMATED = {
    "rows": 5,
    "churn_rate": pytest.approx(2.8 / 5),
    "accuracy": pytest.approx(3.8 / 5),
    "f1": pytest.approx(4.6 / (4.6 + 0.5 + 0.7)),
    "brier": pytest.approx((0.09 + 0.16 + 0.16 + 0.21 + 0.24) / 5),
}


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
    return {"prediction_id": f"{customer}/{row['feature_date']}/{row['tick']}/{row['model_version']}", **row}


def answer(name: str | None, probability: float, at: datetime = TICK, **cells: Any) -> dict[str, Any]:
    """One row of ml.online_predictions, for a customer's hash."""
    row = {
        "predicted_at": at,
        "model_name": "churn",
        "model_version": "1",
        "features": '{"customer_segment": "premium", "tenure_days": 3}',
        "prediction": int(probability >= 0.5),
        "churn_probability": probability,
        "confidence": max(probability, 1 - probability),
        "inference_latency_ms": 5.0,
        "customer_hmac": name,
        **cells,
    }
    return {"prediction_id": f"PRED_{name}_{at}_{probability}_{row['model_version']}", **row}


@dataclass
class Bench:
    """Makes reports of rows that stand in memory in place of the tables' files."""

    settings: Any
    patch: pytest.MonkeyPatch

    def hmac(self, customer: str) -> str:
        return customer_hmac(self.settings, customer)

    def __call__(
        self,
        predictions: Iterable[dict[str, Any]] = (),
        purchases: Iterable[Purchase] = HISTORY,
        *,
        online: Iterable[dict[str, Any]] = (),
        segments: dict[str, str] | None = None,
        first: date = R,
        last: date = R,
        as_of: date = R,
        **changed: Any,
    ) -> Draft:
        settings = self.settings.model_copy(update=changed)
        features = [
            {"customer_id": customer, "feature_date": D, "customer_segment": segment}
            for customer, segment in (segments or {}).items()
        ]
        held = {
            PREDICTIONS.name: pa.Table.from_pylist(list(predictions), schema=arrow_schema(PREDICTIONS)),
            ONLINE_PREDICTIONS.name: pa.Table.from_pylist(list(online), schema=arrow_schema(ONLINE_PREDICTIONS)),
            SILVER_TRANSACTIONS.name: silver_rows(settings, purchases),
            STANDARD.customer_features.name: pa.Table.from_pylist(
                features,
                schema=pa.schema(
                    [arrow_schema(STANDARD.customer_features).field(n).with_nullable(True) for n in _SEGMENT_COLUMNS]
                ),
            ),
        }

        def register(duck: Any, snapshot: TableSnapshot, **options: Any) -> str:
            contract = snapshot.contract
            duck.register(f"_{contract.name}", held[contract.name])
            columns = ", ".join(options.get("columns") or contract.column_names)
            where = all_of_sql(options.get("where", ()))
            duck.execute(
                f'CREATE OR REPLACE TEMP VIEW {options["view"]} AS SELECT {columns} FROM "_{contract.name}" '
                f"WHERE {where}"
            )
            return str(options["view"])

        self.patch.setattr(performance_outcomes, "register", register)
        contracts = (PREDICTIONS, ONLINE_PREDICTIONS, SILVER_TRANSACTIONS, STANDARD.customer_features, PERFORMANCE)
        tables = Tables(*(TableSnapshot(contract, None, settings, None) for contract in contracts))
        draft = performance_report(settings, tables, first=first, last=last, as_of=as_of, created_at=AT)
        assert [outcome for outcome in draft.audit() if not outcome.passed] == []
        return draft


_SEGMENT_COLUMNS = ("customer_id", "feature_date", "customer_segment")


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(load_settings(home=tmp_path / "home"), monkeypatch)


def everyone(**cells: Any) -> list[dict[str, Any]]:
    return [prediction(customer, score, **cells) for customer, score in SCORES.items()]


def rows(draft: Draft, **cells: Any) -> list[dict[str, Any]]:
    """The draft's rows that have these cells; by default of all segments."""
    wanted = {"segment": "all", **cells}
    keys = [(name, "ascending") for name in PERFORMANCE.key]
    found = draft.rows.sort_by(keys).to_pylist() if isinstance(draft.rows, pa.Table) else []
    return [row for row in found if all(row[name] == value for name, value in wanted.items())]


def some(row: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


class TestMeasured:
    def test_by_hand(self, report: Bench) -> None:
        draft = report(everyone())
        (row,) = rows(draft)
        assert some(row, MEASURED) == MEASURED
        assert some(row, ("report_date", "feature_date", "source", "is_estimate", "rows_without_customer")) == {
            "report_date": R,
            "feature_date": D,
            "source": "batch",
            "is_estimate": False,
            "rows_without_customer": 0,
        }
        assert draft.figures == {
            "report_dates": 1,
            "predictions": 5,
            "estimated_predictions": 0,
            "predictions_without_customer": 0,
            "labels_known_until": R.isoformat(),
        }

    def test_several_ticks_of_a_day_count_once_with_the_last(self, report: Bench) -> None:
        early = [{**prediction(c, 1 - s), "prediction_id": f"early/{c}"} for c, s in SCORES.items()]
        late = everyone(tick=TICK + timedelta(hours=18))
        middle = [prediction("a", 0.01, tick=TICK + timedelta(hours=6))]
        expected = report(everyone()).rows
        for order in ([*early, *middle, *late], [*late, *early, *middle]):
            assert report(order).rows.equals(expected)

    def test_a_customer_scored_only_at_an_earlier_tick_counts_too(self, report: Bench) -> None:
        scored = everyone()
        moved = [*everyone(tick=TICK + timedelta(hours=6))[1:], scored[0]]
        assert report(moved).rows.equals(report(scored).rows)

    def test_each_model_version_of_a_day_has_its_row(self, report: Bench) -> None:
        second = [prediction("a", 0.7, model_version="2"), prediction("b", 0.6, model_version="2")]
        other = [prediction("b", 0.1, model_name="other")]
        found = rows(report([*second, *other, *everyone()]))
        assert [(r["model_name"], r["model_version"], r["rows"]) for r in found] == [
            ("churn", "1", 5),
            ("churn", "2", 2),
            ("other", "1", 1),
        ]
        assert found[0] == rows(report(everyone()))[0]
        assert found[1]["roc_auc"] == 1.0

    def test_predictions_of_other_days_are_not_asked_about(self, report: Bench) -> None:
        others = [prediction("a", 0.1, feature_date=D + timedelta(days=n)) for n in (-1, 1)]
        assert report([*everyone(), *others]).rows.equals(report(everyone()).rows)

    def test_a_range_of_days_is_its_days(self, report: Bench) -> None:
        scored = [*everyone(), prediction("c", 0.4, feature_date=D - 2 * DAY)]
        draft = report(scored, first=R - 3 * DAY, last=R)
        # c bought on D, within the window of two days before.
        early, late = rows(draft)
        assert (early["report_date"], early["feature_date"]) == (R - 2 * DAY, D - 2 * DAY)
        assert (early["rows"], early["churn_rate"]) == (1, 0.0)
        assert late == rows(report(everyone()))[0]
        assert (draft.figures["report_dates"], draft.figures["predictions"]) == (4, 6)

    @pytest.mark.parametrize(("purchases", "rate"), [(HISTORY[:5], 1.0), ([buy(c, R) for c in SCORES], 0.0)])
    def test_one_class_has_no_roc_auc(self, report: Bench, purchases: list[Purchase], rate: float) -> None:
        # Somebody else's purchase is how far silver reaches.
        (row,) = rows(report(everyone(), [*purchases, buy("nobody scored", R)]))
        assert (row["churn_rate"], row["roc_auc"], row["roc_auc_lower"]) == (rate, None, None)
        assert row["brier"] == pytest.approx(sum((rate - s) ** 2 for s in SCORES.values()) / 5)
        assert row["accuracy_lower"] < row["accuracy"] < row["accuracy_upper"]

    def test_another_horizon(self, report: Bench) -> None:
        day = D + timedelta(days=5)
        (row,) = rows(report(everyone(), first=day, last=day, as_of=day, horizon_days=5))
        # Only b has come back by then.
        assert (row["feature_date"], row["churn_rate"]) == (D, pytest.approx(4 / 5))

    def test_a_late_purchase_changes_the_outcome(self, report: Bench) -> None:
        (row,) = rows(report(everyone(), [*HISTORY, buy("a", R)]))
        assert (row["churn_rate"], row["accuracy"]) == (pytest.approx(2 / 5), pytest.approx(2 / 5))

    def test_the_day_of_a_purchase_is_the_local_one(self, report: Bench) -> None:
        # 23:30 of day R in São Paulo is R + 1 in UTC: a purchase within the horizon.
        late = [*HISTORY, buy("a", R, hour=23)]
        (row,) = rows(report(everyone(), late, timezone="America/Sao_Paulo"))
        assert row["churn_rate"] == pytest.approx(2 / 5)

    def test_a_customer_whom_silver_has_no_longer_is_left_out(self, report: Bench) -> None:
        (row,) = rows(report([*everyone(), prediction("erased", 0.9)]))
        assert some(row, MEASURED) == MEASURED
        assert row["rows_without_customer"] == 1

    def test_nothing_predicted_is_no_row(self, report: Bench) -> None:
        draft = report()
        assert (draft.rows.num_rows, draft.figures["predictions"]) == (0, 0)


class TestSegments:
    def test_each_has_a_row_and_all_have_one(self, report: Bench) -> None:
        draft = report(everyone(), segments={"a": "premium", "b": "premium", "c": "bronze", "d": "bronze"})
        found = {row["segment"]: row for row in rows(draft, source="batch", segment="all")} | {
            name: row for name in ("premium", "bronze", "unknown") for row in rows(draft, segment=name)
        }
        assert {name: row["rows"] for name, row in found.items()} == {"all": 5, "premium": 2, "bronze": 2, "unknown": 1}
        assert draft.rows.num_rows == 4
        assert some(found["all"], MEASURED) == MEASURED
        # a churned, b did not: one right, one false alarm. d was missed, c is right. e is a hit.
        assert {name: (row["accuracy"], row["f1"], row["roc_auc"]) for name, row in found.items() if name != "all"} == {
            "premium": (0.5, pytest.approx(2 / 3), 1.0),
            "bronze": (0.5, 0.0, 1.0),
            "unknown": (1.0, 1.0, None),
        }
        assert found["premium"]["rows_without_customer"] is None

    def test_a_segment_of_another_day_is_not_the_customers(self, report: Bench) -> None:
        draft = report([prediction("b", 0.4, feature_date=D - DAY)], segments={"b": "premium"}, first=R - DAY, last=R)
        assert {row["segment"] for row in draft.rows.to_pylist()} == {"all", "unknown"}


class TestOnline:
    def test_they_are_joined_by_hash_and_stand_beside_the_batch(self, report: Bench) -> None:
        online = [answer(report.hmac(customer), score) for customer, score in SCORES.items()]
        draft = report(everyone(), online=online)
        batch, served = rows(draft)
        assert (batch["source"], served["source"]) == ("batch", "online")
        assert some(served, MEASURED) == MEASURED
        assert [row["rows"] for row in rows(draft, source="online", segment="premium")] == [5]
        assert served == batch | {"source": "online"}

    def test_those_without_a_customer_are_counted_and_left_out(self, report: Bench) -> None:
        known = [answer(report.hmac(customer), score) for customer, score in SCORES.items()]
        # Features came with the request, twice; a hash under another key; a customer who was erased.
        unknown = [answer(None, 0.9), answer(None, 0.8), answer("f" * 64, 0.9), answer(report.hmac("erased"), 0.9)]
        draft = report(online=[*known, *unknown])
        (row,) = rows(draft)
        assert some(row, MEASURED) == MEASURED
        assert row["rows_without_customer"] == draft.figures["predictions_without_customer"] == 4

    def test_a_version_that_was_only_asked_without_customers_is_said_to_be(self, report: Bench) -> None:
        draft = report(everyone(), online=[answer(None, 0.9, model_version="7")])
        assert [row["source"] for row in rows(draft)] == ["batch"]
        assert draft.figures["predictions_without_customer"] == 1

    def test_of_several_answers_of_a_day_the_last_counts(self, report: Bench) -> None:
        names = {customer: report.hmac(customer) for customer in SCORES}
        early = [answer(names[c], 1 - s, TICK) for c, s in SCORES.items()]
        late = [answer(names[c], s, TICK + timedelta(hours=23, minutes=59)) for c, s in SCORES.items()]
        middle = [answer(names["a"], 0.01, TICK + timedelta(hours=6))]
        expected = report(online=late).rows
        assert expected.num_rows == 2
        for order in ([*early, *middle, *late], [*late, *middle, *early]):
            assert report(online=order).rows.equals(expected)

    @pytest.mark.parametrize("zone", ["UTC", "America/Sao_Paulo", "Asia/Tokyo"])
    def test_an_answer_belongs_to_the_local_day_before(self, report: Bench, zone: str) -> None:
        # In UTC: once pandera.ibis is imported, PyArrow 25 takes no account of a datetime's offset.
        start, end = (datetime(2024, 4, day, tzinfo=ZoneInfo(zone)).astimezone(UTC) for day in (1, 2))
        instant = timedelta(microseconds=1)
        inside = [answer(report.hmac("a"), 0.9, start), answer(report.hmac("b"), 0.8, end - instant)]
        outside = [answer(report.hmac("c"), 0.2, start - instant), answer(report.hmac("d"), 0.2, end)]
        (row,) = rows(report(online=[*inside, *outside], timezone=zone))
        # a churned, b did not.
        assert (row["feature_date"], row["rows"], row["brier"]) == (D, 2, pytest.approx((0.01 + 0.64) / 2))

    def test_blanks_around_an_id_make_no_other_customer(self, report: Bench) -> None:
        (row,) = rows(report(online=[answer(report.hmac("a"), 0.9)], purchases=[*HISTORY, buy(" a ", R)]))
        assert (row["rows"], row["churn_rate"]) == (1, 0.0)


class TestEstimates:
    def test_before_the_labels_have_matured(self, report: Bench) -> None:
        # On the day of the last label, and with silver not there yet.
        for days in ({"as_of": R - DAY}, {"as_of": R, "purchases": [p for p in HISTORY if p.day < R]}):
            draft = report(everyone(), **days)
            (row,) = rows(draft)
            assert some(row, ESTIMATED) == ESTIMATED
            assert (row["is_estimate"], row["report_date"], row["feature_date"]) == (True, R, D)
            assert {row[f"{name}_{side}"] for name in ("accuracy", "f1", "roc_auc") for side in ("lower", "upper")} == {
                None
            }
            assert (draft.figures["predictions"], draft.figures["estimated_predictions"]) == (0, 5)

    @pytest.mark.parametrize("days", [0, 1])
    def test_the_day_of_the_predictions_and_the_day_after_estimate_them(self, report: Bench, days: int) -> None:
        day = D + days * DAY
        online = [answer(report.hmac(customer), score) for customer, score in SCORES.items()]
        found = rows(report(everyone(), online=online, first=day, last=day, as_of=day))
        assert [(row["source"], row["is_estimate"], row["report_date"]) for row in found] == [
            ("batch", True, R),
            ("online", True, R),
        ]
        assert some(found[1], ESTIMATED) == ESTIMATED

    def test_none_where_the_labels_are_known(self, report: Bench) -> None:
        # The day of the predictions is run again later: their measured rows belong to R and stay as they are.
        draft = report(everyone(), first=D, last=D)
        assert draft.rows.num_rows == 0
        assert [condition.value for condition in draft.scope] == [(D - timedelta(days=90),)]

    def test_no_purchase_after_the_day_has_any_say(self, report: Bench) -> None:
        alone = [p for p in HISTORY if p.day <= D]
        draft = report(everyone(), alone, first=D, last=D, as_of=D)
        assert draft.rows.equals(report(everyone(), HISTORY, first=D, last=D, as_of=D).rows)
