"""Rows that a user gives to be scored: read, completed from the feature store, and judged one by one.

A row needs a customer_id. Features it has are used once they fit their contract; those it lacks come from the feature
store. Belongs here: which of the rows are scored, and why the others are not. Does not belong here: scoring
(`batch_scoring.py`), files (`batch_files.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from mlops_platform.contracts.ml import OUTSIDE_POPULATION
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.inference_pipeline.batch_files import input_file
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import parquet_source, quoted, session
from mlops_platform.storage.read import register, scalar
from mlops_platform.training_pipeline.labels import population_sql

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import date
    from pathlib import Path

    import duckdb
    import pandas as pd
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot

    GivenRows: TypeAlias = pd.DataFrame | pa.Table | str | Path

NO_CUSTOMER = "no_customer_id"
DUPLICATE = "duplicate_customer_id"
OUT_OF_CONTRACT = "out_of_contract"
UNKNOWN_CUSTOMER = "unknown_customer"

CUSTOMER, RECENCY = "customer_id", "days_since_last_transaction"
ROW, REASON, DETAIL = "_row", "_reason", "_detail"
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT"}
_FLOATS = {"FLOAT", "DOUBLE"}
_NOTHING = '"NULL"'


@dataclass(frozen=True, slots=True)
class JudgedRows:
    """A user's rows, in their order.

    Args:
        reader: `_row` (from 0), customer_id, feature_date, prediction_id, `_reason` (null: to be scored), `_detail`,
            and the features; these mean nothing in a row that is not to be scored.
        given: Features of the model that come from the rows themselves, with their types.
        feature_snapshot_id: Snapshot of the feature store that the others come from; None: there are none.
    """

    reader: pa.RecordBatchReader
    given: tuple[pa.Field, ...]
    feature_snapshot_id: int | None


@contextmanager
def judged_rows(
    settings: Settings,
    rows: GivenRows,
    features: TableSnapshot,
    *,
    names: Sequence[str],
    feature_date: date,
    prediction_id: str,
    batch_rows: int,
) -> Iterator[JudgedRows]:
    """The rows with every feature a model needs, and which of them are not to be scored, and why.

    Args:
        settings: Population, memory.
        rows: A DataFrame, an Arrow table, or the path of a Parquet file; other columns than customer_id and the model's
            features are not looked at.
        features: Snapshot of feature_store.customer_features.
        names: The model's features.
        feature_date: The day whose features complete the rows.
        prediction_id: SQL of a row's prediction_id.
        batch_rows: Rows a batch of the stream.

    Raises:
        InputError: There is no customer_id, or a column of a type that can't be what it is meant to be.
        ModelError: A feature of the model is not declared.
        NotEnoughDataError: The feature store has no rows for the feature_date.
    """
    # Who is in the population is known by recency, whether the model looks at it or not.
    needed = names if settings.population_days is None else tuple(dict.fromkeys((*names, RECENCY)))
    schema = RowSchema.of(settings, needed)
    with session(settings) as duck:
        types = _register(duck, settings, rows, needed)
        lacking = [name for name in needed if name not in types]
        if lacking:
            _register_store(duck, features, lacking, feature_date)
        judged = _judged_sql(settings, _own_sql(schema, types), lacking, has_repeated=_register_repeated(duck))
        sql = (
            f"SELECT *, {prediction_id} AS prediction_id FROM (SELECT DATE '{feature_date}' AS feature_date, {judged})"
        )
        # A join may change the order.
        order = f" ORDER BY {ROW}" if " JOIN " in judged else ""
        reader = duck.sql(sql + order).to_arrow_reader(batch_rows)
        given = tuple(reader.schema.field(name) for name in names if name in types)
        yield JudgedRows(reader, given, features.snapshot_id if lacking else None)


def _register(
    duck: duckdb.DuckDBPyConnection, settings: Settings, rows: GivenRows, needed: Sequence[str]
) -> dict[str, str]:
    """Makes the rows the view `given`, with their place as `_row`; returns the type of each feature they have."""
    import duckdb as library

    columns, source, place = _source(duck, settings, rows, needed)
    present = [name for name in needed if name in columns]
    cells = ", ".join(map(quoted, (CUSTOMER, *present)))
    try:
        duck.execute(f"CREATE TEMP VIEW given AS SELECT {place} AS {ROW}, {cells} FROM {source}")
        found = duck.sql("SELECT * FROM given LIMIT 0")
    except library.Error as error:
        raise InputError(f"input_data can't be read: {str(error).splitlines()[0]}") from error
    types = dict(zip(found.columns, map(str, found.types), strict=True))
    kind = types[CUSTOMER]
    if not _is_text(kind) and kind not in _INTEGERS:
        raise InputError(f"customer_id is of type {kind}", expected="texts, or whole numbers")
    return {name: types[name] for name in present}


def _source(
    duck: duckdb.DuckDBPyConnection, settings: Settings, rows: Any, needed: Sequence[str]
) -> tuple[Sequence[str], str, str]:
    """Names of the rows' columns, a relation of them, and the expression of a row's place in it."""
    import duckdb as library
    import numpy as np
    import pyarrow as pa

    if hasattr(rows, "iloc") and hasattr(rows, "columns"):
        names = list(rows.columns)
        _require_customers(names)
        try:
            table = pa.Table.from_pandas(rows[[n for n in names if n in {CUSTOMER, *needed}]], preserve_index=False)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            raise InputError(
                f"input_data has a column of several types: {error.args[-1]}", expected="one type a column"
            ) from error
    elif isinstance(rows, pa.Table):
        _require_customers(rows.column_names)
        table = rows.select([name for name in rows.column_names if name in {CUSTOMER, *needed}])
    elif isinstance(rows, str) or hasattr(rows, "__fspath__"):
        source = parquet_source([input_file(settings, rows)], options=", file_row_number = true")
        try:
            names = duck.sql(f"SELECT * FROM {source} LIMIT 0").columns
        except library.Error as error:
            raise InputError(f"{str(rows)!r} can't be read: {str(error).splitlines()[0]}") from error
        _require_customers(names)
        return names, source, "file_row_number"
    else:
        raise InputError(
            f"input_data is {type(rows).__name__}",
            expected="a DataFrame, an Arrow table, or the path of a Parquet file",
        )
    duck.register("_given", table.append_column(ROW, pa.array(np.arange(table.num_rows))))
    return table.column_names, "_given", ROW


def _require_customers(names: Sequence[Any]) -> None:
    if CUSTOMER not in names:
        raise InputError(
            "input_data has no column customer_id",
            expected="one row a customer, with customer_id",
            hint="if it is the index: input_data.reset_index().",
        )
    repeated = sorted({str(name) for name in names if list(names).count(name) > 1})
    if repeated:
        raise InputError(f"input_data has more than one column {', '.join(repeated)}", expected="each column once")


def _register_store(
    duck: duckdb.DuckDBPyConnection, features: TableSnapshot, names: Sequence[str], feature_date: date
) -> None:
    """Makes the feature store's rows of the day the view `store`."""
    where = [Condition("feature_date", "=", feature_date)]
    register(duck, features, view="store", columns=[CUSTOMER, *names], where=where)
    if not scalar(duck, "SELECT count(*) FROM store"):
        raise NotEnoughDataError(
            f"feature_store.customer_features has no rows for feature_date {feature_date}, and the rows lack "
            f"{', '.join(names[:3])}{'…' if len(names) > 3 else ''}",
            expected="features of that day, or every feature in the rows themselves",
            hint=f"mlops features backfill --from {feature_date} --to {feature_date}",
        )


def _register_repeated(duck: duckdb.DuckDBPyConnection) -> bool:
    """Makes the table `repeated` of customers with several rows, and the first of these; returns whether it has any."""
    duck.execute(
        f"CREATE TEMP TABLE repeated AS SELECT {CUSTOMER}::VARCHAR AS _repeated, min({ROW}) AS _first FROM given "
        f"GROUP BY 1 HAVING count(*) > 1"
    )
    return bool(scalar(duck, "SELECT count(*) FROM repeated"))


def _own_sql(schema: RowSchema, types: dict[str, str]) -> str:
    """The rows' own columns, and as `_detail` what is wrong with them.

    Raises:
        InputError: A whole column is of the wrong type.
    """
    faults, cells = [], []
    for rule in schema.rules:
        if rule.name not in types:
            continue
        kind, name = types[rule.name], quoted(rule.name)
        is_number = kind in _INTEGERS or kind in _FLOATS or kind.startswith("DECIMAL")
        if kind != _NOTHING and not (_is_text(kind) if rule.is_text else is_number):
            raise InputError(f"the column {rule.name} is of type {kind}", expected=rule.expected)
        cells.append(f"{name}::VARCHAR AS {name}" if rule.is_text else name)
        broken = []
        if rule.allowed is not None:
            broken.append(f"NOT ({Condition(rule.name, 'in', tuple(sorted(rule.allowed))).sql()})")
        if is_number:
            # DuckDB holds NaN to be the largest number, so that it does not fit either.
            broken.append(f"NOT {name} BETWEEN {rule.low!r} AND {rule.high!r}")
        if is_number and rule.is_integer and kind not in _INTEGERS:
            broken.append(f"{name} <> trunc({name})")
        outside = f"WHEN {' OR '.join(broken)} THEN '{rule.name} is out of contract' " if broken else ""
        faults.append(f"CASE WHEN {name} IS NULL THEN '{rule.name} is missing' {outside}END")
    detail = f"nullif(concat_ws('; ', {', '.join(faults)}), '')" if faults else "NULL::VARCHAR"
    names = ", ".join([ROW, f"{CUSTOMER}::VARCHAR AS {CUSTOMER}", *cells, f"{detail} AS {DETAIL}"])
    return f"SELECT {names} FROM given"


def _judged_sql(settings: Settings, own: str, lacking: Sequence[str], *, has_repeated: bool) -> str:
    """The columns and relations of a SELECT over the rows: all of theirs, the store's, and `_reason`."""
    judged = {f"trim(coalesce({CUSTOMER}, '')) = ''": NO_CUSTOMER}
    joins, cells = "", ""
    if has_repeated:
        joins += f" LEFT JOIN repeated ON _repeated = {CUSTOMER}"
        judged[f"{ROW} > _first"] = DUPLICATE
    judged[f"{DETAIL} IS NOT NULL"] = OUT_OF_CONTRACT
    if lacking:
        cells = "".join(f", {quoted(name)}" for name in lacking)
        joins += f" LEFT JOIN (SELECT {CUSTOMER} AS _stored{cells} FROM store) ON _stored = {CUSTOMER}"
        judged["_stored IS NULL"] = UNKNOWN_CUSTOMER
    judged[f"NOT ({population_sql(settings.population_days)})"] = OUTSIDE_POPULATION
    reason = " ".join(f"WHEN {condition} THEN '{name}'" for condition, name in judged.items())
    return f"own.*{cells}, CASE {reason} END AS {REASON} FROM ({own}) AS own{joins}"


def _is_text(kind: str) -> bool:
    return kind == "VARCHAR" or kind.startswith("ENUM")
