"""Point-in-time reads of the feature store: what was known of a customer at a day, and whole feature_dates.

Belongs here: reading feature_store.customer_features for a training. Does not belong here: labels and splits
(`training_pipeline`), reading what the caller brings as customers and days (`pairs.py`).
"""

from __future__ import annotations

import difflib
from datetime import date, timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline.pairs import read_pairs
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.read import register

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import duckdb

    from mlops_platform.feature_pipeline.pairs import Pairs
    from mlops_platform.storage.read import TableSnapshot

_KEY = ("customer_id", "feature_date")


def features_as_of(
    features: TableSnapshot, pairs: Pairs, *, columns: Sequence[str] | None = None, max_age_days: int | None = None
) -> pa.Table:
    """For every pair the customer's latest row with feature_date ≤ date, so that nothing in it was known later.

    A join on feature_date = date would silently lose every customer without a row on just that day. A pair for which
    there is no row stays, with nulls.

    Args:
        features: Snapshot of feature_store.customer_features.
        pairs: (customer_id, date) tuples, or a table or DataFrame with these two columns; others are left behind. A
            date is a local day, and a day's row holds what was known at its end: for an instant within a day, name the
            day before.
        columns: Features to read, in order; None: all.
        max_age_days: Rows with feature_date < date − max_age_days are too old to be used; None: none is.

    Returns:
        One row a pair, in the pairs' order, repeated ones too: the pair's customer_id and date, then feature_date and
        features of the row found; null where a feature was declared after its row was computed.

    Raises:
        InputError: The pairs can't be read as customers and days, or a column is none of the feature store's.
    """
    names = _columns(features, columns)
    if max_age_days is not None and max_age_days < 0:
        raise InputError(f"max_age_days is {max_age_days}", expected="0 (a row of the day itself) or more")
    wanted = read_pairs(pairs)
    with features.relation((*_KEY, *names), _days_read(wanted, max_age_days)) as (duck, view):
        _match(duck, view, wanted, max_age_days)
        cells = ", ".join(["m.place", "m.feature_date", *(f"f.{quoted(name)}" for name in names)])
        # An ASOF join sorts its rows: it gets the keys alone, then the features are streamed past a hash table of the
        # keys it found. As fast as one join of everything, which keeps no order, and 590 MB beside its 960 (1M pairs,
        # 2.2M rows of 31 features).
        found = duck.sql(
            f"SELECT {cells} FROM matched m LEFT JOIN {view} f USING (customer_id, feature_date)"
        ).to_arrow_table()
    return _beside(wanted, found, features)


def features_on(
    features: TableSnapshot, feature_dates: Iterable[date], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Every customer's row of whole feature_dates.

    Args:
        features: Snapshot of feature_store.customer_features.
        feature_dates: The days.
        columns: Features to read, in order; None: all.

    Returns:
        customer_id, feature_date and features, ordered by feature_date and customer_id.

    Raises:
        InputError: A column is none of the feature store's.
        NotEnoughDataError: The feature store has no rows for one of the days.
    """
    names = (*_KEY, *_columns(features, columns))
    with session(features.settings) as duck:
        view = register_feature_dates(duck, features, feature_dates, columns=names)
        found = duck.sql(f"SELECT * FROM {view} ORDER BY feature_date, customer_id").to_arrow_table()
    return found.cast(_schema(features, names))


def register_feature_dates(
    duck: duckdb.DuckDBPyConnection,
    features: TableSnapshot,
    feature_dates: Iterable[date],
    *,
    required: Iterable[date] | None = None,
    view: str = "features",
    columns: Sequence[str] | None = None,
) -> str:
    """Makes a view of whole feature_dates, each with all its customers, in a connection; returns its quoted name.

    Args:
        duck: The connection.
        features: Snapshot of feature_store.customer_features.
        feature_dates: The days.
        required: Those of them that must have rows; None: every one.
        view: The view's name.
        columns: Columns of the table; None: all.

    Raises:
        NotEnoughDataError: The feature store has no rows for a required day.
    """
    days = tuple(sorted(set(feature_dates)))
    name = register(duck, features, view=view, columns=columns, where=[Condition("feature_date", "in", days)])
    found = {row[0] for row in duck.execute(f"SELECT DISTINCT feature_date FROM {name}").fetchall()}
    missing = [day for day in (days if required is None else sorted(set(required))) if day not in found]
    if missing:
        raise NotEnoughDataError(
            f"{features.contract.name} has no rows for feature_date {', '.join(map(str, missing))}",
            expected=f"features of all the {len(days)} days that are read",
            hint="materialize these partitions of customer_features in the Dagster UI, or run `mlops demo`.",
        )
    return name


def _columns(features: TableSnapshot, columns: Sequence[str] | None) -> tuple[str, ...]:
    """The columns to read beside the key, each once; what a row records of its own writing only where it is named."""
    known = [name for name in features.contract.column_names if name not in _KEY]
    if columns is None:
        return tuple(name for name in known if not name.startswith("_"))
    if isinstance(columns, str):
        raise InputError(f"columns is the text {columns!r}", expected=f"a list of names, such as [{columns!r}]")
    wanted = [name for name in dict.fromkeys(columns) if name not in _KEY]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        near = dict.fromkeys(match for name in unknown for match in difflib.get_close_matches(str(name), known))
        raise InputError(
            f"{features.contract.name} has no column {', '.join(map(str, unknown))}",
            expected=f"names such as {', '.join(near or known[:3])}",
            hint="docs/features.md lists them all.",
        )
    return tuple(wanted)


def _days_read(pairs: pa.Table, max_age_days: int | None) -> list[Condition]:
    """The feature_dates that can be the answer to any pair."""
    if not pairs.num_rows:
        return [Condition("feature_date", "in", ())]
    first, last = pc.min_max(pairs["date"]).as_py().values()
    conditions = [Condition("feature_date", "<=", last)]
    if max_age_days is not None and max_age_days <= (first - date.min).days:
        conditions.append(Condition("feature_date", ">=", first - timedelta(days=max_age_days)))
    return conditions


def _match(duck: duckdb.DuckDBPyConnection, view: str, pairs: pa.Table, max_age_days: int | None) -> None:
    """Makes the table `matched`: each pair's place, and the key of its row where there is one."""
    duck.register("pairs", pairs.append_column("place", pa.array(np.arange(pairs.num_rows))))
    oldest = "" if max_age_days is None else f" AND f.feature_date >= p.date - {int(max_age_days)}"
    duck.execute(
        f"""CREATE TEMP TABLE matched AS
        SELECT p.place, p.customer_id, CASE WHEN true{oldest} THEN f.feature_date END AS feature_date
        FROM pairs p ASOF LEFT JOIN (
            SELECT customer_id, feature_date FROM {view} WHERE customer_id IN (SELECT customer_id FROM pairs)
        ) f ON p.customer_id = f.customer_id AND p.date >= f.feature_date"""
    )


def _beside(pairs: pa.Table, found: pa.Table, features: TableSnapshot) -> pa.Table:
    """The rows found, brought into the pairs' order and put beside them.

    Column by column: Arrow takes cells at a third of what DuckDB needs to sort rows, and holds one column twice.
    """
    order = pc.sort_indices(found["place"])
    schema = _schema(features, found.column_names[1:])
    for field in schema:
        cells = found[field.name].cast(field.type).combine_chunks().take(order)
        pairs = pairs.append_column(field, cells)
    return pairs


def _schema(features: TableSnapshot, names: Sequence[str]) -> pa.Schema:
    known = arrow_schema(features.contract)
    return pa.schema([known.field(name).with_nullable(True) for name in names])
