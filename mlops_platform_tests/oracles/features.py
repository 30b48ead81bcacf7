"""The features of a customer, slowly and obviously: what every fast path has to agree with.

Belongs here: each feature written straight from its definition in the design, one loop per sentence, exact arithmetic
(`Fraction`), one conversion to float at the very end. Does not belong here: speed, pandas, numpy, SQL, silver's rules
(`oracles.silver`), labels (`oracles.labels`), and the bookkeeping columns (`_feature_version`, `_created_at`,
`_feature_hash`), which are no features.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction

WINDOWS = (7, 30, 90)
SQRT_DIGITS = 60
"""Decimal digits of a square root: far more than a float holds, so only the cast to float rounds."""


@dataclass(frozen=True)
class Purchase:
    """One transaction of silver; it is a purchase in the design's sense only when `amount` > 0.

    Args:
        customer_id: Whose transaction it is.
        local_ts: Naive time in the business time zone.
        amount: Money, two decimals; zero or negative for gifts and cancellations.
        category: What was bought; an empty string is a value, None is none.
        payment_method: How it was paid; an empty string is a value, None is none.
    """

    customer_id: str
    local_ts: datetime
    amount: Decimal
    category: str | None
    payment_method: str | None

    @property
    def day(self) -> date:
        """The local day of the transaction."""
        return self.local_ts.date()


def features_at(transactions: Iterable[Purchase], feature_date: date) -> dict[str, dict[str, object]]:
    """Every feature of every customer at the end of local day `feature_date`.

    Args:
        transactions: Any transactions in any order, also later than `feature_date` and with amounts ≤ 0.
        feature_date: D of the design.

    Returns:
        customer_id → {feature: value} for the customers with a purchase on or before D; values are int, float or str.
    """
    histories = purchases_until(transactions, feature_date)
    rows = {customer_id: _own_features(history, feature_date) for customer_id, history in histories.items()}

    silence = {c: days_since_last(history, feature_date) for c, history in histories.items()}
    frequency = {c: len(in_window(history, feature_date, 365)) for c, history in histories.items()}
    money = {c: _total(in_window(history, feature_date, 365)) for c, history in histories.items()}
    # Sorted once: counting by a scan for each customer takes minutes on 23,500 of them.
    silences, frequencies, moneys = sorted(silence.values()), sorted(frequency.values()), sorted(money.values())
    for customer_id, history in histories.items():
        longer_silence = len(silences) - bisect_right(silences, silence[customer_id])
        recency_score = _score(longer_silence, len(histories))
        frequency_score = _score(bisect_left(frequencies, frequency[customer_id]), len(histories))
        monetary_score = _score(bisect_left(moneys, money[customer_id]), len(histories))
        rows[customer_id] |= {
            "recency_score": recency_score,
            "frequency_score": frequency_score,
            "monetary_score": monetary_score,
            "customer_segment": _segment(monetary_score),
            "engagement_score": _engagement(history, feature_date, frequency_score, recency_score),
        }
    return rows


def purchases_until(transactions: Iterable[Purchase], feature_date: date) -> dict[str, list[Purchase]]:
    """The purchases (amount > 0) with local date ≤ `feature_date`, by customer; nobody without one appears."""
    histories: dict[str, list[Purchase]] = defaultdict(list)
    for transaction in transactions:
        if transaction.amount > 0 and transaction.day <= feature_date:
            histories[transaction.customer_id].append(transaction)
    return dict(histories)


def in_window(history: Iterable[Purchase], feature_date: date, days: int) -> list[Purchase]:
    """What falls on the local days D−days+1 … D."""
    first_day = feature_date - timedelta(days=days - 1)
    return [purchase for purchase in history if first_day <= purchase.day <= feature_date]


def days_since_last(history: Sequence[Purchase], feature_date: date) -> int:
    """D − date of the last purchase, in days; `history` holds at least one purchase and none after D."""
    return (feature_date - max(purchase.day for purchase in history)).days


def _own_features(history: Sequence[Purchase], feature_date: date) -> dict[str, object]:
    """The features that need no other customer."""
    features: dict[str, object] = {}
    for days in WINDOWS:
        features |= _amount_features(in_window(history, feature_date, days), days)
    quarter = in_window(history, feature_date, 90)
    year = in_window(history, feature_date, 365)
    features["preferred_category"] = _most_frequent(purchase.category for purchase in quarter)
    features["preferred_payment_method"] = _most_frequent(purchase.payment_method for purchase in quarter)
    features["days_since_last_transaction"] = days_since_last(history, feature_date)
    features["transactions_weekend_ratio"] = _weekend_ratio(quarter)
    features["peak_hour_transactions"] = _peak_hour(quarter)
    features["monthly_seasonality"] = _monthly_seasonality(year, feature_date)
    features["churn_score"] = _churn_score(history, feature_date)
    features["tenure_days"] = _tenure_days(history, feature_date)
    features["total_transactions_365d"] = len(year)
    features["total_value_365d"] = float(_total(year))
    features["mean_gap_days"] = float(_mean_gap_days(history))
    return features


def _amount_features(window: Sequence[Purchase], days: int) -> dict[str, object]:
    amounts = [Fraction(purchase.amount) for purchase in window]
    return {
        f"total_transactions_{days}d": len(amounts),
        f"avg_transaction_value_{days}d": float(sum(amounts, Fraction(0)) / len(amounts)) if amounts else 0.0,
        f"max_transaction_value_{days}d": float(max(amounts)) if amounts else 0.0,
        f"min_transaction_value_{days}d": float(min(amounts)) if amounts else 0.0,
        f"std_transaction_value_{days}d": _sample_std(amounts),
    }


def _sample_std(amounts: Sequence[Fraction]) -> float:
    """Square root of Σ(x − mean)² ÷ (n − 1); 0.0 below two amounts."""
    if len(amounts) < 2:
        return 0.0
    mean = sum(amounts, Fraction(0)) / len(amounts)
    variance = sum(((amount - mean) ** 2 for amount in amounts), Fraction(0)) / (len(amounts) - 1)
    with localcontext() as context:
        context.prec = SQRT_DIGITS
        return float((Decimal(variance.numerator) / Decimal(variance.denominator)).sqrt())


def _total(window: Iterable[Purchase]) -> Fraction:
    return sum((Fraction(purchase.amount) for purchase in window), Fraction(0))


def _most_frequent(values: Iterable[str | None]) -> str:
    """The most frequent value that is not None; of equals the first by code point; `unknown` if there is none."""
    counts = Counter(value for value in values if value is not None)
    if not counts:
        return "unknown"
    most = max(counts.values())
    # Python compares strings by code point, as the design asks.
    return min(value for value, count in counts.items() if count == most)


def _weekend_ratio(window: Sequence[Purchase]) -> float:
    if not window:
        return 0.0
    on_weekend = [purchase for purchase in window if purchase.day.isoweekday() in (6, 7)]
    return float(Fraction(len(on_weekend), len(window)))


def _peak_hour(window: Sequence[Purchase]) -> int:
    if not window:
        return -1
    counts = Counter(purchase.local_ts.hour for purchase in window)
    most = max(counts.values())
    return min(hour for hour, count in counts.items() if count == most)


def _monthly_seasonality(year: Sequence[Purchase], feature_date: date) -> float:
    """12 × purchases in D's month number ÷ purchases; the 365 days can hold that month's days at both their ends."""
    if not year:
        return 0.0
    in_month = [purchase for purchase in year if purchase.day.month == feature_date.month]
    return float(Fraction(12 * len(in_month), len(year)))


def _tenure_days(history: Sequence[Purchase], feature_date: date) -> int:
    return (feature_date - min(purchase.day for purchase in history)).days


def _mean_gap_days(history: Sequence[Purchase]) -> Fraction:
    """(last − first purchase date + 90) ÷ n with n distinct purchase dates, over all history."""
    days = {purchase.day for purchase in history}
    return Fraction((max(days) - min(days)).days + 90, len(days))


def _churn_score(history: Sequence[Purchase], feature_date: date) -> float:
    """exp(−90 · λ · a) with λ = n ÷ (tenure_days + 90) and a = g ÷ (g + d); g is never 0, thanks to its prior gap."""
    purchase_dates = len({purchase.day for purchase in history})
    rate = Fraction(purchase_dates, _tenure_days(history, feature_date) + 90)
    gap = _mean_gap_days(history)
    alive = gap / (gap + days_since_last(history, feature_date))
    return math.exp(float(-90 * rate * alive))


def _score(worse: int, customers: int) -> int:
    """1 + floor(5 × worse ÷ customers): 1…5, since nobody is strictly worse than oneself."""
    return 1 + (5 * worse) // customers


def _segment(monetary_score: int) -> str:
    if monetary_score == 5:
        return "premium"
    return "regular" if monetary_score >= 3 else "bronze"


def _engagement(history: Sequence[Purchase], feature_date: date, frequency_score: int, recency_score: int) -> float:
    active_days = len({purchase.day for purchase in in_window(history, feature_date, 90)})
    return float(
        Fraction(5, 10) * Fraction(frequency_score - 1, 4)
        + Fraction(3, 10) * Fraction(recency_score - 1, 4)
        + Fraction(2, 10) * Fraction(active_days, 90)
    )
