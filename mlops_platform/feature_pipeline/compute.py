"""Compute: rows of the feature store for any feature_dates, one after the other, in bounded memory.

On DuckDB the rolling engine makes the measures and DuckDB evaluates the features; on Spark, Trino and Athena one
expression does both. To these come key, version and hash. Does not belong here: what the features are (`transform.py`),
publishing (`load.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.contracts.feature_set import load_feature_set
from mlops_platform.contracts.features import MEASURES, Aggregate, MostFrequent, Score
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.measures import measures_of, needed_measures
from mlops_platform.feature_pipeline.purchases import read_purchases
from mlops_platform.feature_pipeline.rolling import Rolling, fifths, in_days
from mlops_platform.feature_pipeline.row_hash import cell_bits
from mlops_platform.feature_pipeline.stamp import Stamp
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES, feature_columns, purchases_expression
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import session
from mlops_platform.storage.read import register

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import date, datetime

    import duckdb
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.contracts.features import Feature
    from mlops_platform.feature_pipeline.purchases import Purchases
    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot

# The measures that are whole numbers where nothing is null, by which customers can be ranked before DuckDB sees them.
_RANKED = {"count", "sum", "days", "first", "last"}


def feature_batches(
    settings: Settings,
    transactions: TableSnapshot,
    feature_dates: Iterable[date],
    *,
    created_at: datetime,
    only: Sequence[str] = (),
    held: TableSnapshot | None = None,
    note: Callable[[str], None] | None = None,
) -> pa.RecordBatchReader:
    """Rows of feature_store.customer_features for the given feature_dates.

    Args:
        settings: The features, engine, memory and time zone.
        transactions: Snapshot of silver.transactions.
        feature_dates: The days.
        created_at: Instant written to `_created_at`.
        only: Features to compute; the others are taken from `held`.
        held: The feature store, for `only`.
        note: Is told of each feature_date when its rows are computed.

    Returns:
        A stream in the contract's columns, ordered by feature_date and customer_id; nothing is computed before it is
        read.

    Raises:
        InputError: With `only`: silver has other customers at a feature_date than `held`.
    """
    import pyarrow as pa

    days = sorted(set(feature_dates))
    features = load_feature_set(settings.features_module)
    schema = pa.schema([field.with_nullable(True) for field in arrow_schema(features.customer_features)])
    computed = tuple(f for f in features.features if f.name in only) if only else features.features
    if not all(isinstance(f.how, Aggregate | MostFrequent) for f in computed):
        computed = features.features
    stamp = Stamp(features.version, created_at, schema)
    made = _by_rolling if settings.engine == "duckdb" else _by_expression

    def batches() -> Iterator[pa.RecordBatch]:
        for day, table, known in made(settings, transactions, days, computed):
            whole = table if held is None else _merged(held, day, table, only)
            yield from stamp.put_on(whole, day, known).to_batches()
            if note is not None:
                note(f"feature_date {day}")

    return pa.RecordBatchReader.from_batches(schema, batches() if days else iter(()))


def compute_features(
    settings: Settings, transactions: TableSnapshot, feature_dates: Iterable[date], *, created_at: datetime
) -> pa.Table:
    """As `feature_batches`, as one table."""
    return feature_batches(settings, transactions, feature_dates, created_at=created_at).read_all()


def _merged(held: TableSnapshot, day: date, table: pa.Table, only: Sequence[str]) -> pa.Table:
    """The rows that the feature store holds of the day, with some features taken from newly computed ones."""
    rows = held.to_arrow(where=[Condition("feature_date", "=", day)], order_by=["customer_id"])
    if not rows["customer_id"].combine_chunks().equals(table["customer_id"].combine_chunks()):
        raise InputError(
            f"at feature_date {day} the feature store holds other customers ({rows.num_rows:,}) than silver has "
            f"({table.num_rows:,})",
            expected="feature_dates that are up to date but for the new features",
            hint="leave out --only to compute every feature of these days.",
        )
    for name in only:
        rows = rows.set_column(rows.schema.get_field_index(name), name, table[name])
    return rows.drop_columns(["feature_date", *(name for name in rows.column_names if name.startswith("_"))])


_Made = tuple["date", "pa.Table", "Mapping[str, NDArray[np.uint64]] | None"]


def _by_expression(
    settings: Settings, transactions: TableSnapshot, days: Sequence[date], features: Sequence[Feature]
) -> Iterator[_Made]:
    if settings.engine == "spark":
        from mlops_platform.feature_pipeline.spark import spark_features as features_of_day
    else:
        from mlops_platform.feature_pipeline.sql_engines import sql_features as features_of_day

    for day in days:
        found = features_of_day(settings, transactions, day, features)
        yield day, found.drop_columns(["feature_date"]).sort_by("customer_id"), None


def _by_rolling(
    settings: Settings, transactions: TableSnapshot, days: Sequence[date], features: Sequence[Feature]
) -> Iterator[_Made]:
    with session(settings) as duck:
        where = [Condition("transaction_date", "<=", days[-1])]
        yield from rolled(duck, register(duck, transactions, columns=tuple(SOURCE_TYPES), where=where), days, features)


def rolled(
    duck: duckdb.DuckDBPyConnection, view: str, days: Sequence[date], features: Sequence[Feature]
) -> Iterator[_Made]:
    """The features of each day, and the hashed customer ids.

    Args:
        duck: The connection.
        view: Name of a relation in it with the columns of silver.transactions.
        days: Feature_dates, in order.
        features: The declarations.
    """
    import pyarrow as pa

    duck.execute(f"CREATE TEMP VIEW purchases AS {purchases_sql(view)}")
    purchases = read_purchases(duck, "purchases")
    if not purchases.rows:
        return
    hashed = cell_bits(purchases.customers)
    numbers = in_days(days)
    rolling = Rolling(purchases, needed_measures(features), numbers[0], days[0].month)
    sql: str | None = None
    for day, number in zip(days, numbers, strict=True):
        rolling.advance(number, day.month)
        is_known, measures = rolling.state()
        if not is_known.any():
            continue
        state = pa.table(_columns(purchases, features, is_known, measures))
        sql = sql or _finish_sql(state.schema, features)
        duck.register("state", state)
        found = duck.sql(sql).to_arrow_table()
        places = found["_place"].to_numpy()
        customers = purchases.customers.take(pa.array(places))
        yield (
            day,
            found.drop_columns(["_place"]).add_column(0, "customer_id", customers),
            {"customer_id": hashed[places]},
        )


def purchases_sql(view: str) -> str:
    """The purchases of a view of silver's transactions, as DuckDB's SQL."""
    import ibis

    name = view.strip('"')
    return str(ibis.to_sql(purchases_expression(ibis.table(SOURCE_TYPES, name=name)), dialect="duckdb"))


def _columns(
    purchases: Purchases, features: Sequence[Feature], is_known: NDArray[np.bool_], measures: Mapping[str, NDArray[Any]]
) -> dict[str, Any]:
    """The measures and scores of the customers with a purchase so far, as `_finish_sql` wants them."""
    import pyarrow as pa

    places = np.flatnonzero(is_known)
    everybody = len(places) == len(is_known)
    found = {name: values if everybody else values[places] for name, values in measures.items()}
    columns: dict[str, Any] = {"_place": places.astype(np.int32), **found}
    for feature in features:
        if isinstance(feature.how, Score) and (measure := _ranked_by(feature.how, features)) in found:
            values = found[str(measure)]
            columns[feature.name] = fifths(values if feature.how.is_larger_better else -values)
        elif isinstance(feature.how, MostFrequent):
            name = measures_of(feature.how)[0].name
            label = purchases.labels[feature.how.source]
            codes = pa.array(found[name].astype(np.int32), mask=found[name] < 0)
            is_text = pa.types.is_string(label.values.type)
            columns[name] = pa.DictionaryArray.from_arrays(codes, label.values) if is_text else label.values.take(codes)
    return columns


def _ranked_by(how: Score, features: Sequence[Feature]) -> str | None:
    """The measure whose whole numbers a score ranks customers by; None where it is an expression."""
    declared = MEASURES | {f.name: f.how for f in features if isinstance(f.how, Aggregate)}
    aggregate = declared.get(how.of)
    if aggregate is None:
        return None
    first = measures_of(aggregate)[0]
    return first.name if first.function in _RANKED and aggregate.function in _RANKED else None


def _finish_sql(schema: pa.Schema, features: Sequence[Feature]) -> str:
    """The features as SQL over the registered table `state`."""
    import ibis
    import pyarrow as pa

    plain = {f.name: f.type.value_type if pa.types.is_dictionary(f.type) else f.type for f in schema}
    state = ibis.table(ibis.Schema.from_pyarrow(pa.schema(plain)), name="state")
    columns = feature_columns(state, features)
    sql = str(ibis.to_sql(state.select(_place=state._place, **columns), dialect="duckdb"))
    # A window function may leave the rows in another order.
    is_ordered = all(f.name in schema.names for f in features if isinstance(f.how, Score))
    return sql if is_ordered else f"SELECT * FROM ({sql}) ORDER BY _place"
