"""Transform: the declarations of `contracts/features.py` as Ibis expressions, in two steps.

From silver's transactions to each customer's measures, and from measures to features. Everything about money is
aggregated in whole cents, exactly; a float appears once, in the second step, so that no result depends on the order of
the rows. Does not belong here: running an expression (`extract.py`), writing rows.
"""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import (
    FEATURES,
    LABELS,
    MEASURES,
    Aggregate,
    Derived,
    Feature,
    MostFrequent,
    Score,
)
from mlops_platform.contracts.table import ColumnType
from mlops_platform.feature_pipeline.derived import derived_value
from mlops_platform.feature_pipeline.measures import Measure, measures_of, needed_measures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

_IBIS_TYPES = {ColumnType.INT: "int32", ColumnType.DOUBLE: "float64", ColumnType.STRING: "string"}
SOURCE_TYPES = {
    "customer_id": "string",
    "transaction_date": "date",
    "transaction_hour": "int32",
    "amount": "decimal(18, 2)",
    "category": "string",
    "payment_method": "string",
}


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

    state = state_expression(purchases_expression(transactions), feature_date, needed_measures(features))
    columns = feature_columns(state, features)
    return state.select(customer_id=state.customer_id, feature_date=ibis.literal(feature_date), **columns)


def feature_sql(feature_date: date, dialect: str = "duckdb", table: str = "silver.transactions") -> str:
    """The features of one feature_date as SQL over a table of silver's transactions, its namespace in front or not."""
    import ibis

    namespace, _, name = table.rpartition(".")
    transactions = ibis.table(SOURCE_TYPES, name=name, database=namespace or None)
    return str(ibis.to_sql(feature_expression(transactions, feature_date), dialect=dialect))


def purchases_expression(transactions: Any) -> Any:
    """The purchases, with what declarations refer to."""
    kept = transactions.filter(transactions.amount > 0)
    day = kept.transaction_date
    return kept.select(
        kept.customer_id,
        day,
        *(kept[label] for label in LABELS),
        cents=(kept.amount * 100).cast("int64"),
        # Saturday and Sunday: Ibis counts from Monday = 0 on every engine.
        is_weekend=day.day_of_week.index() >= 5,
        month=day.month(),
    )


def state_expression(purchases: Any, feature_date: date, measures: Sequence[Measure]) -> Any:
    """The measures of every customer with a purchase so far: customer_id, then one column a measure."""
    import ibis

    until = purchases.filter(purchases.transaction_date <= ibis.literal(feature_date))
    known = until.mutate(
        age=ibis.literal(feature_date).delta(until.transaction_date, unit="day"),
        is_in_calendar_month=until.month == feature_date.month,
    )
    plain = {measure.name: _measure(known, measure) for measure in measures if measure.function != "mode"}
    state = known.group_by("customer_id").aggregate(**plain)
    for measure in measures:
        if measure.function == "mode":
            state = _with_mode(state, known, measure, feature_date)
    return state


def feature_columns(state: Any, features: Sequence[Feature] = FEATURES) -> dict[str, Any]:
    """The features as expressions over a table of measures; a score that is a column already is taken as it is."""
    # Derived features are written into one select: a mutate each made compiling three times as slow.
    columns = SimpleNamespace(**{name: _value(state, how) for name, how in MEASURES.items()})
    for feature in features:
        setattr(columns, feature.name, _feature(state, columns, feature))
    return {f.name: getattr(columns, f.name).cast(_IBIS_TYPES[f.column.type]) for f in features}


def _feature(state: Any, columns: Any, feature: Feature) -> Any:
    import ibis

    how = feature.how
    if isinstance(how, Derived):
        return derived_value(feature, columns)
    if isinstance(how, MostFrequent):
        return ibis.coalesce(state[measures_of(how)[0].name], how.default)
    if isinstance(how, Score):
        return state[feature.name] if feature.name in state.columns else _score(getattr(columns, how.of), how)
    return _value(state, how)


def _score(value: Any, how: Score) -> Any:
    import ibis

    order = value if how.is_larger_better else -value
    worse = ibis.rank().over(ibis.window(order_by=order)).cast("int64")
    return 1 + (5 * worse) // value.count().over(ibis.window())


def _value(state: Any, how: Aggregate) -> Any:
    """One aggregate from its measures; the aggregate of nothing is 0."""
    import ibis

    first, *others = (state[measure.name] for measure in measures_of(how))
    match how.function:
        case "count" | "days" | "first" | "last":
            return first
        case "sum":
            return first if how.source == "cents" else first.cast("float64") / 100.0
        case "max" | "min":
            return ibis.coalesce(first.cast("float64") / 100.0, 0.0)
    count = others[0]
    if how.function == "std":
        # √((n·Σx² − (Σx)²) ÷ (n·(n−1))), the sample standard deviation.
        pairs = (count * (count - 1)).nullif(0).cast("float64")
        return ibis.coalesce((first / pairs).sqrt() / 100.0, 0.0)
    total = first.cast("float64") / 100.0 if how.function == "avg" else first.cast("float64")
    return ibis.coalesce(total / count.nullif(0).cast("float64"), 0.0)


def _measure(purchases: Any, measure: Measure) -> Any:
    import ibis

    inside = ibis.literal(True) if measure.window_days is None else purchases.age < measure.window_days
    if measure.function == "spread":
        return _spread(purchases, inside)
    if measure.function == "count" and measure.source is not None:
        inside &= purchases[measure.source]
    cents, age = purchases.cents, purchases.age
    aggregates = {
        "count": purchases.count,
        "days": purchases.transaction_date.nunique,
        "sum": cents.sum,
        "max": cents.max,
        "min": cents.min,
        "first": age.max,
        "last": age.min,
    }
    found = aggregates[measure.function](where=inside)
    return ibis.coalesce(found, 0) if measure.function == "sum" else found


def _spread(purchases: Any, inside: Any) -> Any:
    """n·Σx² − (Σx)² in 38-digit decimals, as a float.

    In 64-bit integers n·Σx² overflows, in floats the difference of two large numbers loses the answer.
    """
    exact = purchases.cents.cast("decimal(38, 0)")
    n = purchases.count(where=inside).cast("decimal(38, 0)")
    total = exact.sum(where=inside)
    return (n * (exact * exact).sum(where=inside) - total * total).cast("float64")


def _with_mode(state: Any, purchases: Any, measure: Measure, feature_date: date) -> Any:
    """Adds the most frequent value of a column; ties go to the smallest, so the answer never depends on row order."""
    import ibis

    inside = purchases.filter(purchases[measure.source].notnull())
    if measure.window_days is not None:
        # By date and not by age: an engine that reads the table once more for this leaves out the files of other days.
        before = feature_date - timedelta(days=measure.window_days)
        inside = inside.filter(inside.transaction_date > ibis.literal(before))
    counts = inside.group_by("customer_id", _value=inside[measure.source]).aggregate(_n=inside.count())
    order = ibis.window(group_by=counts.customer_id, order_by=[counts._n.desc(), counts._value.asc()])
    ranked = counts.mutate(_rank=ibis.row_number().over(order))
    best = ranked.filter(ranked._rank == 0).select("customer_id", "_value")
    joined = state.left_join(best, "customer_id")
    return joined.select(*[state[c] for c in state.columns], **{measure.name: best._value})
