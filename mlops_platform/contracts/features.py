"""The features, declared once: name, type, meaning, unit, and how each is computed.

Belongs here: the vocabulary of declarations, and the standard features in it. Does not belong here: the tables that
follow from them (`feature_set.py`), or their translation to a query (`feature_pipeline/transform.py`). The definitions'
wording stands in docs/features.md.

A declaration is one of
    Aggregate     an aggregate of the purchases in a window of N local days ending with feature_date
    MostFrequent  the most frequent value in a window, ties broken downwards
    Score         the fifth of the customers that a whole number puts a customer into
    Derived       an expression over the columns before it: other features and the measures of `MEASURES`
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from mlops_platform.contracts.table import Column, ColumnType

INT, DOUBLE, STRING = ColumnType.INT, ColumnType.DOUBLE, ColumnType.STRING

ALL_HISTORY = None
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Aggregate of the purchases in a window.

    Args:
        function: count, sum, avg, max, min, std (sample), days (distinct purchase dates), share (of purchases
            for which `source` holds), first or last (age in days of the first or last purchase).
        window_days: N: the local days D−N+1 … D; None: all history.
        source: What it aggregates: `amount`, in the currency; `cents`, in whole cents; a flag of `FLAGS`, for count and
            share.
    """

    function: Literal["count", "sum", "avg", "max", "min", "std", "days", "share", "first", "last"]
    window_days: int | None = ALL_HISTORY
    source: str = "amount"


@dataclass(frozen=True, slots=True)
class MostFrequent:
    """Most frequent non-null value of `source` in a window; ties: the smallest; `default` if there is none."""

    source: str
    window_days: int
    default: str | int


@dataclass(frozen=True, slots=True)
class Score:
    """1 + floor(5 × customers strictly worse ÷ customers), in integers; ties share a score.

    Args:
        of: A whole-numbered measure or feature.
        is_larger_better: Whether a customer with less of it is worse.
    """

    of: str
    is_larger_better: bool = True


@dataclass(frozen=True, slots=True)
class Derived:
    """Expression over the columns computed before: from an object with an Ibis value a column to an Ibis value."""

    expression: Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: its column and how it is computed."""

    column: Column
    how: Aggregate | MostFrequent | Score | Derived

    @property
    def name(self) -> str:
        """The feature's name."""
        return self.column.name

    @property
    def kind(self) -> Literal["numeric", "categorical"]:
        """Whether a model and a drift test treat it as a number or a category."""
        return "categorical" if self.column.type is STRING else "numeric"


def _windowed(days: int) -> tuple[Feature, ...]:
    def money(function: Literal["avg", "max", "min", "std"], words: str) -> Feature:
        column = Column(
            f"{function}_transaction_value_{days}d", DOUBLE, f"{words} in {days} days", unit="currency", ge=0
        )
        return Feature(column, Aggregate(function, days))

    count = Column(f"total_transactions_{days}d", INT, f"Purchases in {days} days", unit="purchases", ge=0)
    return (
        Feature(count, Aggregate("count", days)),
        money("avg", "Mean purchase amount"),
        money("max", "Largest purchase amount"),
        money("min", "Smallest purchase amount"),
        money("std", "Sample standard deviation of purchase amounts"),
    )


def _segment(t: Any) -> Any:
    import ibis

    return ibis.cases((t.monetary_score == 5, "premium"), (t.monetary_score >= 3, "regular"), else_="bronze")


def _seasonality(t: Any) -> Any:
    import ibis

    share = 12 * t._purchases_in_month_365d.cast("float64") / t.total_transactions_365d.nullif(0).cast("float64")
    return ibis.coalesce(share, 0.0)


def _churn_score(t: Any) -> Any:
    """exp(−90 · λ · a): λ = n ÷ (tenure_days + 90), a = g ÷ (g + d), g = mean_gap_days, d = days since the last one."""
    rate = t._purchase_dates.cast("float64") / (t.tenure_days + 90).cast("float64")
    alive = t.mean_gap_days / (t.mean_gap_days + t.days_since_last_transaction.cast("float64"))
    return (-90.0 * rate * alive).exp()


def _engagement(t: Any) -> Any:
    frequency = 0.5 * (t.frequency_score - 1).cast("float64") / 4.0
    recency = 0.3 * (t.recency_score - 1).cast("float64") / 4.0
    return frequency + recency + 0.2 * (t._purchase_dates_90d.cast("float64") / 90.0)


# What holds or doesn't of a purchase: `is_in_calendar_month` compares its month number with D's.
FLAGS = ("is_weekend", "is_in_calendar_month")
# Columns of the purchases whose most frequent value can be asked for.
LABELS = {"category": STRING, "payment_method": STRING, "transaction_hour": INT}
# What derived features and scores need beside other features.
MEASURES: dict[str, Aggregate] = {
    "_days_since_first": Aggregate("first"),
    "_days_since_last": Aggregate("last"),
    "_purchase_dates": Aggregate("days"),
    "_purchase_dates_90d": Aggregate("days", 90),
    "_purchases_in_month_365d": Aggregate("count", 365, source="is_in_calendar_month"),
    "_cents_365d": Aggregate("sum", 365, source="cents"),
}


def _score_column(name: str, words: str) -> Column:
    return Column(name, INT, f"{words}, 5 is best; ties share a score", unit="score", ge=1, le=5)


FEATURES: tuple[Feature, ...] = (
    *_windowed(7),
    *_windowed(30),
    *_windowed(90),
    Feature(
        Column("preferred_category", STRING, "Most frequent category in 90 days"),
        MostFrequent("category", 90, UNKNOWN),
    ),
    Feature(
        Column("preferred_payment_method", STRING, "Most frequent means of payment in 90 days"),
        MostFrequent("payment_method", 90, UNKNOWN),
    ),
    Feature(
        Column("days_since_last_transaction", INT, "Days since the last purchase", unit="days", ge=0),
        Aggregate("last"),
    ),
    Feature(
        Column("transactions_weekend_ratio", DOUBLE, "Share of the 90-day purchases on a weekend", ge=0, le=1),
        Aggregate("share", 90, source="is_weekend"),
    ),
    Feature(
        Column("peak_hour_transactions", INT, "Local hour with most purchases in 90 days; -1: none", ge=-1, le=23),
        MostFrequent("transaction_hour", 90, -1),
    ),
    Feature(
        Column("tenure_days", INT, "Days since the first purchase", unit="days", ge=0),
        Aggregate("first"),
    ),
    Feature(
        Column("total_transactions_365d", INT, "Purchases in 365 days", unit="purchases", ge=0),
        Aggregate("count", 365),
    ),
    Feature(
        Column("total_value_365d", DOUBLE, "Money spent in 365 days", unit="currency", ge=0),
        Aggregate("sum", 365),
    ),
    Feature(
        Column("mean_gap_days", DOUBLE, "Mean days between purchase dates, with one prior gap of 90", "days", ge=0),
        Derived(
            lambda t: (t._days_since_first - t._days_since_last + 90).cast("float64")
            / t._purchase_dates.cast("float64")
        ),
    ),
    Feature(
        Column("monthly_seasonality", DOUBLE, "12 × share of the 365-day purchases in D's calendar month", ge=0, le=12),
        Derived(_seasonality),
    ),
    Feature(
        _score_column("recency_score", "Fifth of the customers by days since the last purchase"),
        Score("_days_since_last", is_larger_better=False),
    ),
    Feature(
        _score_column("frequency_score", "Fifth of the customers by purchases in 365 days"),
        Score("total_transactions_365d"),
    ),
    Feature(
        _score_column("monetary_score", "Fifth of the customers by money spent in 365 days"),
        Score("_cents_365d"),
    ),
    Feature(
        Column("customer_segment", STRING, "premium, regular or bronze, by money spent in 365 days",
               isin=("premium", "regular", "bronze")),
        Derived(_segment),
    ),
    Feature(
        Column("churn_score", DOUBLE, "Estimated chance of no purchase in the next 90 days", ge=0, le=1),
        Derived(_churn_score),
    ),
    Feature(
        Column("engagement_score", DOUBLE, "Weighted frequency, recency and active days", ge=0, le=1),
        Derived(_engagement),
    ),
)  # fmt: skip

FEATURE_KINDS: dict[str, Literal["numeric", "categorical"]] = {feature.name: feature.kind for feature in FEATURES}
