"""Hypothesis strategies for customers' histories: dull shapes, nasty details.

Belongs here: the inputs that break fast paths, namely days on both sides of every window's edge, ties of every kind,
amounts that cancel out in floats, text that sorts differently by code point, by bytes and by locale. Does not belong
here: what is right about them (`oracles.features`, `oracles.labels`, `oracles.silver`).
"""

from __future__ import annotations

import random
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from hypothesis import strategies as st

from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.oracles.silver import CrmRow

BOUNDARY_AGES = (0, 6, 7, 29, 30, 89, 90, 364, 365, -1, -90, -91)
"""D − day at which a window opens or closes; a negative age lies after D: the label's windows, not the features'."""

TEXTS = (
    *("books", "Books", "a", "b", "Z", "", " ", "unknown", "null", "NaN"),
    # Composed and decomposed e-acute are two values; the last two sort the other way round in UTF-16.
    *("\u00e9", "e\u0301", "ß", "客户", "\uff61", "\U0001f600"),
)
"""Categories and payment methods: words of every missing-value convention, and order traps."""

TIMES = (time(0, 0), time(0, 59, 59, 999999), time(1, 0), time(9, 30), time(12, 0), time(23, 59, 59, 999999))
"""Times of day: both ends of a day and of an hour, few enough that whole timestamps repeat."""

LARGEST_CENTS = 10**11
"""One billion, in cents."""

_ID_STEMS = ("c", "C", "ç", "客", "c 0")


def feature_dates() -> st.SearchStrategy[date]:
    """Feature dates: leap days, ends of months and years, and any other from 2000 to 2030."""
    awkward = [(2024, 2, 29), (2000, 2, 29), (2023, 2, 28), (2024, 3, 1), (2023, 12, 31), (2024, 12, 31), (2025, 1, 1)]
    dates = st.dates(min_value=date(2000, 1, 1), max_value=date(2030, 12, 31))
    return st.sampled_from([date(*parts) for parts in awkward]) | dates


def amounts() -> st.SearchStrategy[Decimal]:
    """Amounts with two decimals from −10⁹ to 10⁹: mostly purchases, some zero and negative ones."""
    large_and_near = st.integers(min_value=LARGEST_CENTS - 3, max_value=LARGEST_CENTS)
    tied = st.sampled_from([1, 10, 1000, 1000, 1999])
    no_purchase = st.sampled_from([0, -1, -1000, -LARGEST_CENTS])
    cents = st.one_of(tied, st.integers(min_value=1, max_value=LARGEST_CENTS), large_and_near, no_purchase)
    return cents.map(lambda n: Decimal(n).scaleb(-2))


def ages() -> st.SearchStrategy[int]:
    """Days before D (negative: after D): half of them on a window's edge."""
    return st.sampled_from(BOUNDARY_AGES) | st.integers(min_value=-120, max_value=1100)


Event = tuple[datetime, Decimal, str | None, str | None]
"""A transaction without its customer: local time, amount, category, payment method."""


@st.composite
def histories(draw: st.DrawFn, feature_date: date, *, max_events: int = 10) -> list[Event]:
    """One customer's transactions.

    An event may repeat up to three times to the microsecond: equal rows are distinct purchases. The history may be
    empty of purchases, or lie after D altogether.
    """
    texts = st.none() | st.sampled_from(draw(st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3)))
    times = st.sampled_from(TIMES) | st.times().map(lambda t: t.replace(fold=0))
    history: list[Event] = []
    for _ in range(draw(st.integers(min_value=1, max_value=max_events))):
        day = feature_date - timedelta(days=draw(ages()))
        event = (datetime.combine(day, draw(times)), draw(amounts()), draw(texts), draw(texts))
        history += [event] * draw(st.sampled_from([1, 1, 1, 2, 3]))
    return history


@st.composite
def transactions(
    draw: st.DrawFn, feature_date: date, *, max_histories: int = 5, max_clones: int = 6, max_events: int = 10
) -> list[Purchase]:
    """Raw transactions of several customers around `feature_date`, in no order; possibly none.

    Args:
        draw: Given by Hypothesis.
        feature_date: D, whose windows' edges the transactions crowd.
        max_histories: Different histories at most.
        max_clones: Customers that share one history at most: scores must tie among them.
        max_events: Different transactions of one history at most.
    """
    rows: list[Purchase] = []
    customers = 0
    for _ in range(draw(st.integers(min_value=0, max_value=max_histories))):
        history = draw(histories(feature_date, max_events=max_events))
        for _ in range(draw(st.integers(min_value=1, max_value=max_clones))):
            customers += 1
            customer_id = f"{draw(st.sampled_from(_ID_STEMS))}{customers}"
            rows += [Purchase(customer_id, *event) for event in history]
    # One drawn seed instead of a drawn permutation: hundreds of choices less for Hypothesis to shrink.
    random.Random(draw(st.integers(min_value=0, max_value=2**16))).shuffle(rows)
    return rows


@st.composite
def dated_transactions(
    draw: st.DrawFn, *, max_histories: int = 5, max_clones: int = 6, max_events: int = 10
) -> tuple[date, list[Purchase]]:
    """A feature date and transactions around it."""
    day = draw(feature_dates())
    rows = draw(transactions(day, max_histories=max_histories, max_clones=max_clones, max_events=max_events))
    return day, rows


@st.composite
def crm_rows(draw: st.DrawFn, *, max_rows: int = 20) -> list[tuple[int, CrmRow]]:
    """Raw rows of the CRM's transactions with distinct ingestion numbers, in no order: for `oracles.silver`.

    Ids repeat, versions tie, ids and values are missing or broken. Only text on whose meaning all readers should agree.
    """
    clock = ["2024-02-29 23:59:59.999999", "2024-03-01", "2024-03-01T00:00:00Z", "2024-02-29 22:30:00-03:00"]
    broken_times = [None, "", "soon", "2023-02-29", "2024-13-01 10:00:00", "infinity"]
    numbers = ["10", "10.00", "-5.5", "0", "0.004", "-0.004", "0.005", "0.015", "2.665", "2.675", "1e3", "999999999.99"]
    broken_numbers = [None, "", "ten", "NaN", "inf", "-Infinity", "1,000"]
    columns = {
        "transaction_id": st.sampled_from(["t1", "t2", "T1", "t10", "é", None, ""]),
        "customer_id": st.sampled_from(["c1", "c2", "客1", "c1", "c2", None, "", " "]),
        "transaction_ts": st.sampled_from(clock * 3 + broken_times),
        "amount": st.sampled_from(numbers * 2 + broken_numbers),
        "category": st.none() | st.sampled_from(TEXTS),
        "payment_method": st.none() | st.sampled_from(TEXTS),
        "quantity": st.none() | st.sampled_from(["1", "2"]),
        "updated_at": st.sampled_from(clock * 2 + [None, "soon"]),
    }
    rows = draw(st.lists(st.fixed_dictionaries(columns), max_size=max_rows))
    numbered: list[tuple[int, CrmRow]] = list(enumerate(rows))
    random.Random(draw(st.integers(min_value=0, max_value=2**16))).shuffle(numbered)
    return numbered
