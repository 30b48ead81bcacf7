"""Rows of a user's own query or file: read, labelled, and inside the population.

A `target` column (or `churned`, as ml.training_set has it) is taken as it is. Else rows with customer_id and
feature_date get the label that `labels.py` defines from silver.transactions; rows whose label has not matured and
customers outside of the population are left out and counted. Does not belong here: splits (`query_split.py`), the
line's own training set (`dataset.py`), fitting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import parquet_source, quoted, session
from mlops_platform.storage.paths import table_at
from mlops_platform.storage.query import explain, query
from mlops_platform.storage.read import register, scalar
from mlops_platform.training_pipeline.dataset import last_silver_day, row_text_sql
from mlops_platform.training_pipeline.labels import label_sql, population_sql

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    import duckdb
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake

GIVEN_TARGET = "target"
RECENCY = "days_since_last_transaction"
# Recency as silver has it, beside the rows' own columns: what a model has to beat. Not a feature: it begins with `_`.
SILVER_RECENCY = f"_{RECENCY}"
CUSTOMER, DATE = "customer_id", "feature_date"
_NEVER_BOUGHT = 100_000


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Rows with a label.

    Args:
        rows: The features, `churned`, and customer_id and feature_date where the source has them.
        dropped: Rows left out, by reason.
        label_snapshot_id: Snapshot of silver.transactions the labels come from; None: the source had them.
    """

    rows: pa.Table
    dropped: dict[str, int] = field(default_factory=dict)
    label_snapshot_id: int | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """The columns a model is given."""
        return feature_columns(self.rows.column_names)


def feature_columns(names: Iterable[str]) -> tuple[str, ...]:
    """All but keys, targets, split, and the lake's own columns, which begin with `_`."""
    others = {CUSTOMER, DATE, TARGET, GIVEN_TARGET, "split"}
    return tuple(name for name in names if name not in others and not name.startswith("_"))


def read_query(lake: Lake, sql: str) -> tuple[pa.Table, dict[str, str]]:
    """The rows of a SELECT in Athena's SQL, and where they come from.

    Raises:
        QueryError: Not one SELECT over the home's tables.
    """
    read = ", ".join(f"{use.table}@{use.snapshot_id}" for use in explain(lake, sql))
    with query(lake, sql) as reader:
        return reader.read_all(), {"data_version": read, "mlops.query": sql}


def read_path(lake: Lake, path: str) -> tuple[pa.Table, dict[str, str]]:
    """The rows at a path, and where they come from.

    Args:
        lake: The home's tables.
        path: A Parquet file below the warehouse or of this machine, a bucket in front or not; or a table's path, such
            as `ml/features/customer_features/`.

    Raises:
        InputError: There is no such file, it is no Parquet, or the path names no table.
    """
    import duckdb

    if not path.endswith(".parquet"):
        snapshot = lake.snapshot(table_at(lake.settings, path))
        version = f"{snapshot.contract.name}@{snapshot.snapshot_id}"
        return snapshot.to_arrow(), {"data_version": version, "mlops.path": path}
    with session(lake.settings) as duck:
        try:
            rows = duck.sql(f"SELECT * FROM {parquet_source([_file(lake.settings, path)])}").to_arrow_table()
        except duckdb.Error as error:
            raise InputError(
                f"{path} can't be read: {str(error).splitlines()[0]}",
                expected="a Parquet file below the warehouse or of this machine",
            ) from error
    return rows, {"data_version": path, "mlops.path": path}


def _file(settings: Settings, path: str) -> str:
    """Where a file is: below the warehouse, or else where this machine has it."""
    named = re.fullmatch(r"s3[an]?://([^/]+)/+(.+)", path)
    if settings.warehouse_url is not None:
        if named is None:
            return path if Path(path).is_file() else f"{settings.warehouse_url.rstrip('/')}/{path}"
        own = settings.warehouse_url.removeprefix("s3://").split("/")[0]
        if named[1] != own:
            raise InputError(f"{path} lies in the bucket {named[1]}", expected=f"a file in {own}, the warehouse's")
        return f"s3://{own}/{named[2]}"
    below = settings.warehouse / (named[2] if named else path)
    return str(below if named or below.is_file() else Path(path))


def labelled(lake: Lake, rows: pa.Table, *, complete_until: date) -> LabelledRows:
    """Gives rows their labels, in an order that does not depend on the order they came in.

    Args:
        lake: The home's tables.
        rows: What the query gave.
        complete_until: Last complete local day. No label window may reach past it, nor past silver's last day.

    Raises:
        InputError: Neither target nor keys, a target that is not 0 or 1, a key twice, or a column that is no feature.
        NotEnoughDataError: There are no rows, or none whose label has matured.
    """
    present = set(rows.column_names)
    target = next((name for name in (GIVEN_TARGET, TARGET) if name in present), None)
    if target is None and not {CUSTOMER, DATE} <= present:
        raise InputError(
            f"the rows have neither {GIVEN_TARGET} nor both {CUSTOMER} and {DATE}",
            expected="labels, or the keys that labels are found by",
            hint=f"add {CUSTOMER} and {DATE} to the SELECT.",
        )
    if not rows.num_rows:
        raise NotEnoughDataError(
            "the query gives no rows", expected="customers at past feature_dates", hint="look with: mlops query SQL"
        )
    _require_usable(rows)
    with session(lake.settings) as duck:
        duck.register("given", rows)
        if target is not None:
            return _with_given_target(duck, rows.column_names, target)
        return _with_matured_label(duck, lake, rows.column_names, last_silver_day(lake, complete_until))


def _with_given_target(duck: duckdb.DuckDBPyConnection, names: list[str], target: str) -> LabelledRows:
    wrong = f"TRY_CAST({quoted(target)} AS DOUBLE) IS NULL OR TRY_CAST({quoted(target)} AS DOUBLE) NOT IN (0, 1)"
    others = int(scalar(duck, f"SELECT count(*) FROM given WHERE {wrong}"))
    if others:
        raise InputError(f"{target} is neither 0 nor 1 in {others} rows", expected="1: churned, 0: stayed, in each row")
    kept = [name for name in names if name not in {GIVEN_TARGET, TARGET, "split"}]
    cells = [_cell(name) for name in kept]
    # A target may come with rows of any kind, also equal ones: only their text puts them in one order.
    keys = [name for name in (DATE, CUSTOMER) if name in kept]
    order = ", ".join([*map(quoted, keys), f"md5({row_text_sql([*kept, TARGET])})"])
    if RECENCY in kept:
        cells.append(f"TRY_CAST({quoted(RECENCY)} AS DOUBLE) AS {SILVER_RECENCY}")
    label = f"CAST(TRY_CAST({quoted(target)} AS DOUBLE) AS INTEGER) AS {TARGET}"
    rows = f"SELECT {', '.join([*cells, label])} FROM given"
    return LabelledRows(duck.sql(f"SELECT * FROM ({rows}) ORDER BY {order}").to_arrow_table())


def _with_matured_label(duck: duckdb.DuckDBPyConnection, lake: Lake, names: list[str], as_of: date) -> LabelledRows:
    horizon, population = lake.settings.horizon_days, lake.settings.population_days
    kept = [name for name in names if name != "split"]
    duck.execute(f"CREATE TEMP TABLE cast_rows AS SELECT {', '.join(map(_cell, kept))} FROM given")
    _require_keys(duck)
    last = as_of - timedelta(days=horizon)
    first, newest, immature = duck.execute(
        f"SELECT min({DATE}), max({DATE}), count(*) FILTER ({DATE} > $last) FROM cast_rows", {"last": last}
    ).fetchall()[0]
    if first > last:
        raise NotEnoughDataError(
            f"no label of the rows has matured: their feature_dates go from {first} to {newest}, and {horizon} days "
            f"later is after {as_of}, the last complete day with transactions",
            expected=f"feature_dates up to {last}",
            hint="select earlier feature_dates, or shorten MLOPS_HORIZON_DAYS.",
        )
    transactions = lake.snapshot(SILVER_TRANSACTIONS)
    where = [Condition("transaction_date", "<=", as_of)]
    if population is not None:
        where.append(Condition("transaction_date", ">", first - timedelta(days=population)))
    view = register(duck, transactions, columns=(CUSTOMER, "transaction_date", "amount"), where=where)
    duck.execute(f"CREATE TEMP TABLE purchases AS SELECT * FROM {view} WHERE amount > 0")
    found = duck.sql(_matured_sql(kept, last, horizon, population)).to_arrow_table()
    dropped = {"immature": int(immature)}
    total = int(scalar(duck, "SELECT count(*) FROM cast_rows"))
    dropped["outside_population"] = total - int(immature) - found.num_rows
    return LabelledRows(found, dropped, transactions.snapshot_id)


def _matured_sql(names: list[str], last: date, horizon: int, population: int | None) -> str:
    cells = ", ".join(f"r.{quoted(name)}" for name in names)
    # Recency comes from silver: a query may leave the column out, or fill it with something else.
    return f"""
        WITH matured AS (SELECT * FROM cast_rows WHERE {DATE} <= DATE '{last}'),
             labels AS ({label_sql("purchases", "matured", horizon)}),
             recency AS (
                SELECT r.{CUSTOMER}, r.{DATE},
                    coalesce(r.{DATE} - max(p.transaction_date), {_NEVER_BOUGHT}) AS {RECENCY}
                FROM matured r LEFT JOIN purchases p
                    ON p.customer_id = r.{CUSTOMER} AND p.transaction_date <= r.{DATE}
                GROUP BY r.{CUSTOMER}, r.{DATE})
        SELECT {cells}, i.{RECENCY}::DOUBLE AS {SILVER_RECENCY}, l.churned AS {TARGET}
        FROM matured r JOIN labels l USING ({CUSTOMER}, {DATE})
            JOIN (SELECT * FROM recency WHERE {population_sql(population)}) i USING ({CUSTOMER}, {DATE})
        ORDER BY r.{DATE}, r.{CUSTOMER}"""


def _cell(name: str) -> str:
    kind = {CUSTOMER: "VARCHAR", DATE: "DATE"}.get(name)
    return f"TRY_CAST({quoted(name)} AS {kind}) AS {name}" if kind else quoted(name)


def _require_keys(duck: duckdb.DuckDBPyConnection) -> None:
    keys = f"{CUSTOMER}, {DATE}"
    without, repeated = duck.execute(
        f"SELECT count(*) FILTER ({CUSTOMER} IS NULL OR {DATE} IS NULL), count(*) - count(DISTINCT ({keys})) "
        "FROM cast_rows"
    ).fetchall()[0]
    if without:
        raise InputError(f"{without} rows lack a {CUSTOMER} or have no day as {DATE}", expected="both in each row")
    if repeated:
        raise InputError(
            f"{repeated} rows have the {CUSTOMER} and {DATE} of another row",
            expected="one row a customer and feature_date",
            hint="a join with transactions repeats customers: aggregate them first.",
        )


def _require_usable(rows: pa.Table) -> None:
    import pyarrow as pa

    features = feature_columns(rows.column_names)
    if not features:
        raise InputError("the rows have no column a model could learn from", expected="features beside keys and target")
    for name in features:
        kind = rows.schema.field(name).type
        held = kind.value_type if pa.types.is_dictionary(kind) else kind
        checks = (
            pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean, pa.types.is_null,
            pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view,
        )  # fmt: skip
        if not any(check(held) for check in checks):
            raise InputError(
                f"the column {name} holds {kind}, which is no feature",
                expected="numbers or texts beside the keys",
                hint="leave it out of the SELECT, or turn it into a number.",
            )
