"""Labels and population against the oracle, window edges by hand, and which days a training may use."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.errors import NotEnoughDataError
from mlops_platform.training_pipeline.labels import label_sql, labelled_dates, population_sql
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.oracles.histories import dated_transactions
from mlops_platform_tests.oracles.labels import churned, population
from mlops_platform_tests.unit.training_pipeline.worlds import buy

REPEATABLE = settings(max_examples=50, derandomize=True, database=None, deadline=None)
D = date(2024, 3, 31)
KEYS = pa.schema([("customer_id", pa.string()), ("feature_date", pa.date32())])
SALES = pa.schema([("customer_id", pa.string()), ("transaction_date", pa.date32()), ("amount", pa.decimal128(18, 2))])


def labels(
    transactions: Iterable[Purchase], keys: Iterable[tuple[str, date]], horizon_days: int
) -> dict[tuple[str, date], int]:
    """The platform's labels of (customer, feature_date) pairs."""
    sales = [{"customer_id": t.customer_id, "transaction_date": t.day, "amount": t.amount} for t in transactions]
    rows = [{"customer_id": customer, "feature_date": day} for customer, day in keys]
    with duckdb.connect() as duck:
        duck.register("sales", pa.Table.from_pylist(sales, schema=SALES))
        duck.register("rows", pa.Table.from_pylist(rows, schema=KEYS))
        duck.execute("CREATE VIEW purchases AS SELECT * FROM sales WHERE amount > 0")
        found = duck.execute(label_sql("purchases", "rows", horizon_days)).fetchall()
    assert len(found) == len(rows)
    return {(customer, day): label for customer, day, label in found}


def inside(transactions: Iterable[Purchase], day: date, population_days: int | None) -> set[str]:
    """The customers the platform's condition keeps at a feature_date."""
    last: dict[str, date] = {}
    for t in transactions:
        if t.amount > 0 and t.day <= day:
            last[t.customer_id] = max(t.day, last.get(t.customer_id, t.day))
    rows = [{"customer_id": c, "days_since_last_transaction": (day - then).days} for c, then in last.items()]
    schema = pa.schema([("customer_id", pa.string()), ("days_since_last_transaction", pa.int32())])
    with duckdb.connect() as duck:
        duck.register("features", pa.Table.from_pylist(rows, schema=schema))
        sql = f"SELECT customer_id FROM features WHERE {population_sql(population_days)}"
        return {row[0] for row in duck.execute(sql).fetchall()}


class TestLabels:
    @REPEATABLE
    @given(dated_transactions(), st.sampled_from([1, 30, 90, 91]))
    def test_every_label_is_the_oracles(self, dated: tuple[date, list[Purchase]], horizon_days: int) -> None:
        day, transactions = dated
        days = [day - timedelta(days=horizon_days), day, day + timedelta(days=1)]
        expected = {
            (customer, d): label for d in days for customer, label in churned(transactions, d, horizon_days).items()
        }
        assert labels(transactions, expected, horizon_days) == expected

    @pytest.mark.parametrize(
        ("age", "label"), [(0, 1), (1, 0), (2, 0), (89, 0), (90, 0), (91, 1), (-1, 1)], ids=lambda n: f"{n}"
    )
    def test_the_window_is_the_horizon_after_the_day(self, age: int, label: int) -> None:
        history = [buy("c", D - timedelta(days=10)), buy("c", D + timedelta(days=age))]
        assert labels(history, [("c", D)], 90) == {("c", D): label}

    @pytest.mark.parametrize(("horizon_days", "label"), [(29, 1), (30, 0)])
    def test_another_horizon(self, horizon_days: int, label: int) -> None:
        assert labels([buy("c", D + timedelta(days=30))], [("c", D)], horizon_days) == {("c", D): label}

    @pytest.mark.parametrize("amount", ["0.00", "-10.00"])
    def test_a_gift_or_a_refund_is_no_purchase(self, amount: str) -> None:
        assert labels([buy("c", D + timedelta(days=5), amount)], [("c", D)], 90) == {("c", D): 1}

    def test_many_purchases_are_one_label(self) -> None:
        history = [buy("c", D + timedelta(days=n)) for n in (1, 1, 2, 90)] + [buy("d", D)]
        assert labels(history, [("c", D), ("d", D)], 90) == {("c", D): 0, ("d", D): 1}


class TestPopulation:
    @REPEATABLE
    @given(dated_transactions(), st.sampled_from([1, 7, 90, 365, None]))
    def test_the_condition_is_the_oracles(
        self, dated: tuple[date, list[Purchase]], population_days: int | None
    ) -> None:
        day, transactions = dated
        assert inside(transactions, day, population_days) == population(transactions, day, population_days)

    @pytest.mark.parametrize(("age", "is_inside"), [(0, True), (364, True), (365, False)])
    def test_its_first_day(self, age: int, is_inside: bool) -> None:
        assert inside([buy("c", D - timedelta(days=age))], D, 365) == ({"c"} if is_inside else set())


class TestLabelledDates:
    def test_a_long_history_has_twelve_training_dates(self) -> None:
        found = labelled_dates(date(2024, 12, 31), date(2020, 1, 1), 90)
        assert found.evaluation == date(2024, 10, 2)
        assert found.training == tuple(date(2024, 7, 4) - timedelta(days=30 * n) for n in range(12))
        assert found.all == (*reversed(found.training), found.evaluation)

    @REPEATABLE
    @given(
        st.dates(date(2001, 1, 1), date(2040, 12, 31)),
        st.integers(min_value=0, max_value=900),
        st.sampled_from([1, 7, 30, 90, 365]),
    )
    def test_no_training_label_reaches_past_the_evaluation_date(self, as_of: date, length: int, horizon: int) -> None:
        start = as_of - timedelta(days=length)
        if length < 2 * horizon:
            with pytest.raises(NotEnoughDataError):
                labelled_dates(as_of, start, horizon)
            return
        found = labelled_dates(as_of, start, horizon)
        newest = found.evaluation - timedelta(days=horizon)
        assert found.evaluation + timedelta(days=horizon) == as_of
        assert found.training == tuple(newest - timedelta(days=30 * n) for n in range(len(found.training)))
        assert start <= min(found.training)
        assert len(found.training) == min(12, 1 + (length - 2 * horizon) // 30)

    def test_a_history_shorter_than_two_windows_says_how_long_it_must_be(self) -> None:
        start = date(2024, 1, 1)
        assert labelled_dates(start + timedelta(days=180), start, 90).training == (start,)
        with pytest.raises(NotEnoughDataError, match=r"from 2024-01-01 to 2024-06-28 .*at least 180 days.*--as-of"):
            labelled_dates(start + timedelta(days=179), start, 90)
