"""The features of one feature_date as one Ibis expression, compiled from the declarations in `contracts/features.py`.

Everything about money is aggregated in whole cents, exactly; a float appears once, at the end, so that no result
depends on the order of the rows. Does not belong here: running the expression (`extract.py`), writing rows.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import (
    BASE_MEASURES,
    FEATURES,
    Aggregate,
    Derived,
    Feature,
    MostFrequent,
)
from mlops_platform.contracts.table import ColumnType

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_IBIS_TYPES = {ColumnType.INT: "int32", ColumnType.DOUBLE: "float64", ColumnType.STRING: "string"}


def feature_expression(transactions: Any, feature_date: date, features: Sequence[Feature] = FEATURES) -> Any:
    """The state of every customer with a purchase so far, at the end of local day `feature_date`.

    Args:
        transactions: Ibis table with the columns of silver.transactions.
        feature_date: D. Only rows with a local date ≤ D count.
        features: Declarations; a `Derived` may use the ones before it.

    Returns:
        Ibis table: customer_id, feature_date, then one column a feature, in their order.
    """
    import ibis

    purchases = _purchases(transactions, feature_date)
    state = _aggregates(purchases, features)
    for feature in features:
        if isinstance(feature.how, MostFrequent):
            state = _with_most_frequent(state, purchases, feature.name, feature.how)
    # Derived features are written into one select: a mutate each made compiling three times as slow.
    columns = SimpleNamespace(**{name: state[name] for name in state.columns})
    for feature in features:
        if isinstance(feature.how, Derived):
            setattr(columns, feature.name, feature.how.expression(columns))
    values = {f.name: getattr(columns, f.name).cast(_IBIS_TYPES[f.column.type]) for f in features}
    return state.select(customer_id=state.customer_id, feature_date=ibis.literal(feature_date), **values)


def _purchases(transactions: Any, feature_date: date) -> Any:
    """Purchases on or before D, with their age in days and the flags that declarations refer to."""
    import ibis

    day = transactions.transaction_date
    kept = transactions.filter((transactions.amount > 0) & (day <= ibis.literal(feature_date)))
    return kept.select(
        kept.customer_id,
        kept.transaction_date,
        kept.transaction_hour,
        kept.category,
        kept.payment_method,
        cents=(kept.amount * 100).cast("int64"),
        age=ibis.literal(feature_date).delta(kept.transaction_date, unit="day"),
        # Saturday and Sunday: Ibis counts from Monday = 0 on every engine.
        is_weekend=kept.transaction_date.day_of_week.index() >= 5,
        is_in_calendar_month=kept.transaction_date.month() == feature_date.month,
    )


def _aggregates(purchases: Any, features: Sequence[Feature]) -> Any:
    wanted = dict(BASE_MEASURES) | {f.name: f.how for f in features if isinstance(f.how, Aggregate)}
    measures = {name: _aggregate(purchases, how) for name, how in wanted.items()}
    measures["_days_since_last"] = purchases.age.min()
    measures["_days_since_first"] = purchases.age.max()
    state = purchases.group_by("customer_id").aggregate(**measures)
    return state.mutate(_recency_order=-state._days_since_last)


def _aggregate(purchases: Any, how: Aggregate) -> Any:
    import ibis

    inside = ibis.literal(True) if how.window_days is None else purchases.age < how.window_days
    count = purchases.count(where=inside)
    cents = purchases.cents
    found: Any
    match how.function:
        case "count":
            found = count if how.source == "amount" else purchases.count(where=inside & purchases[how.source])
        case "days":
            found = purchases.transaction_date.nunique(where=inside)
        case "share":
            hits = purchases.count(where=inside & purchases[how.source]).cast("float64")
            found = hits / count.nullif(0).cast("float64")
        case "sum":
            total = ibis.coalesce(cents.sum(where=inside), 0)
            found = total if how.source == "cents" else total.cast("float64") / 100.0
        case "avg":
            found = cents.sum(where=inside).cast("float64") / 100.0 / count.nullif(0).cast("float64")
        case "max":
            found = cents.max(where=inside).cast("float64") / 100.0
        case "min":
            found = cents.min(where=inside).cast("float64") / 100.0
        case "std":
            found = _sample_std(cents, count, inside)
    # No purchase in the window: the aggregate of nothing is 0.
    return ibis.coalesce(found, 0.0) if how.function in {"share", "avg", "max", "min", "std"} else found


def _sample_std(cents: Any, count: Any, inside: Any) -> Any:
    """Sample standard deviation √((n·Σx² − (Σx)²) ÷ (n·(n−1))), the numerator exact in 38-digit decimals.

    In 64-bit integers n·Σx² overflows, in floats the difference of two large numbers loses the answer.
    """
    exact = cents.cast("decimal(38, 0)")
    n = count.cast("decimal(38, 0)")
    total = exact.sum(where=inside)
    spread = (n * (exact * exact).sum(where=inside) - total * total).cast("float64")
    pairs = (count * (count - 1)).nullif(0).cast("float64")
    return (spread / pairs).sqrt() / 100.0


def _with_most_frequent(state: Any, purchases: Any, name: str, how: MostFrequent) -> Any:
    """Adds the most frequent value of a column; ties go to the smallest, so the answer never depends on row order."""
    import ibis

    inside = purchases.filter((purchases.age < how.window_days) & purchases[how.source].notnull())
    counts = inside.group_by("customer_id", _value=inside[how.source]).aggregate(_n=inside.count())
    order = ibis.window(group_by=counts.customer_id, order_by=[counts._n.desc(), counts._value.asc()])
    ranked = counts.mutate(_rank=ibis.row_number().over(order))
    best = ranked.filter(ranked._rank == 0).select("customer_id", "_value")
    joined = state.left_join(best, "customer_id")
    return joined.select(*[state[c] for c in state.columns], **{name: ibis.coalesce(best._value, how.default)})
