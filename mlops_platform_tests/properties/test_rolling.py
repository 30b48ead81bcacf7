"""The rolling engine against the one expression, to the last bit, and against itself started anew on every day."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.contracts.features import FEATURES
from mlops_platform.feature_pipeline.compute import rolled
from mlops_platform.feature_pipeline.row_hash import row_hashes
from mlops_platform.feature_pipeline.transform import feature_sql
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.oracles.histories import transactions
from mlops_platform_tests.properties.delivering import DAYS, REPEATABLE, delivered
from mlops_platform_tests.scale import rounds

compiled = functools.cache(feature_sql)
NAMES = ["customer_id", *(feature.name for feature in FEATURES)]


def at(day: date, hour: int = 0, later: int = 0) -> datetime:
    return datetime.combine(day + timedelta(days=later), time(hour))


def by_rolling(purchases: Iterable[Purchase], days: Sequence[date]) -> dict[date, pa.Table]:
    with delivered(purchases) as connection:
        return {day: table.select(NAMES) for day, table, _ in rolled(connection, "bought", days, FEATURES)}


def by_expression(purchases: Iterable[Purchase], day: date) -> pa.Table:
    with delivered(purchases) as connection:
        found = connection.sql(compiled(day, table="bought")).to_arrow_table()
    return found.select(NAMES).sort_by("customer_id")


def assert_equal(found: pa.Table, expected: pa.Table) -> None:
    assert found.num_rows == expected.num_rows
    for name in NAMES:
        # Arrow compares doubles by value; no feature may be NaN or -0.0.
        left, right = found[name].to_pylist(), expected[name].to_pylist()
        assert [(a, str(a)) for a in left] == [(b, str(b)) for b in right], name


@settings(REPEATABLE, max_examples=rounds(1_000, 30))
@given(st.sampled_from(DAYS).flatmap(lambda day: st.tuples(st.just(day), transactions(day, max_histories=4))))
def test_every_cell_is_the_expressions(history: tuple[date, list[Purchase]]) -> None:
    day, purchases = history
    found = by_rolling(purchases, [day])
    expected = by_expression(purchases, day)
    assert_equal(found[day] if found else expected.slice(0, 0), expected)


@settings(REPEATABLE, max_examples=rounds(300, 10))
@given(
    st.sampled_from(DAYS).flatmap(lambda day: st.tuples(st.just(day), transactions(day, max_histories=4))),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_day_by_day_is_each_day_anew(history: tuple[date, list[Purchase]], steps: list[int]) -> None:
    last, purchases = history
    days = [last]
    for step in steps:
        days.insert(0, days[0] - timedelta(days=step))
    days += [last + timedelta(days=1), last + timedelta(days=400)]
    found = by_rolling(purchases, days)
    for day in days:
        anew = by_rolling(purchases, [day])
        assert (day in found) == (day in anew)
        if day in found:
            assert_equal(found[day], anew[day])


@settings(REPEATABLE, max_examples=rounds(300, 20))
@given(st.sampled_from(DAYS).flatmap(lambda day: st.tuples(st.just(day), transactions(day, max_histories=4))))
def test_nothing_after_a_day_changes_a_cell_of_it(history: tuple[date, list[Purchase]]) -> None:
    day, purchases = history
    known = [p for p in purchases if p.day <= day]
    later = [
        Purchase(p.customer_id, at(p.day, 9, 500), p.amount * 3, "changed", None) for p in purchases if p.day > day
    ]
    added = [Purchase(c, at(day, 0, 1), Decimal("999999.99"), "added", "x") for c in {p.customer_id for p in known}]
    born = [Purchase("0 born tomorrow", at(day, 0, 1), Decimal("0.01"), "a", "a")]
    # The engine moves on beyond the day, with all that comes after it in its arrays.
    after = by_rolling(known + later + added + born, [day, day + timedelta(days=1)])
    before = by_rolling(known, [day])
    assert (day in after) == (day in before)
    if day in before:
        assert_equal(after[day], before[day])


def test_a_year_of_days_in_a_row_is_each_day_anew() -> None:
    until = date(2024, 3, 31)
    purchases = [
        Purchase(f"c{n % 7}", at(date(2022, 12, 1), n % 24, n * n % 480), Decimal(n) / 4, "abc"[n % 3], None)
        for n in range(1, 200)
    ]
    days = [until - timedelta(days=n) for n in range(365)][::-1]
    found = by_rolling(purchases, days)
    for day in days[::9]:
        assert_equal(found[day], by_rolling(purchases, [day])[day])


@pytest.mark.parametrize("amounts", [("99999999999999.99", "0.01"), ("9999999999.99", "9999999999.98", "0.01")])
def test_spreads_beyond_64_bits_are_the_expressions(amounts: tuple[str, ...]) -> None:
    day = DAYS[0]
    purchases = [Purchase("c", at(day), Decimal(a), "x", "y") for a in amounts * 3]
    assert_equal(by_rolling(purchases, [day])[day], by_expression(purchases, day))


def test_threads_change_no_bit() -> None:
    day = DAYS[0]
    purchases = [
        Purchase(f"c{n % 7919}", at(day, n % 24, -(n * 31 % 800)), Decimal(n % 9973 + 1) / 100, "abcd"[n % 4], None)
        for n in range(60_000)
    ]
    with delivered(purchases) as connection:
        connection.execute("SET threads = 1")
        alone = next(iter(rolled(connection, "bought", [day], FEATURES)))[1]
    with delivered(purchases) as connection:
        connection.execute("SET threads = 8")
        connection.execute("SET preserve_insertion_order = false")
        together = next(iter(rolled(connection, "bought", [day], FEATURES)))[1]
    assert row_hashes(alone).equals(row_hashes(together))
