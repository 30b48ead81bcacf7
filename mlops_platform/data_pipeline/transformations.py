"""The named steps between bronze and silver, and how a user adds one.

A transformation is a SELECT (of DuckDB's) from the rows as the step before left them, with columns added or replaced.
It drops no row, since every row has to be accounted for: it sets `reason` to have a row quarantined. The rows hold:

- `raw`, a struct of the CRM's columns as text, and bronze's own columns, which begin with `_`;
- `read`, a struct of what the text says: times, money, numbers, null where it says none;
- `is_superseded`: another version of the row wins; `reason`: why the row is rejected, or null;
- silver's columns, once `standardize_columns` and `enrich_metadata` have run.

A step sees every version of a key at once, but of a large table not every row. The standard steps look at `raw` and
`read` only, so their order does not matter. Does not belong here: which rows are processed, and publishing
(`processing.py`).

    from mlops_platform.data_pipeline import transformation

    @transformation("reject_test_customers")
    def reject_test_customers(rows, table):
        bad = "CASE WHEN raw.customer_id LIKE 'test%' THEN 'test customer' END"
        return f"SELECT * REPLACE (coalesce(reason, {bad}) AS reason) FROM {rows}"
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    TableContract,
)
from mlops_platform.data_pipeline.deletions import latest_first
from mlops_platform.errors import InputError
from mlops_platform.storage.duck import quoted

STANDARD = ("remove_duplicates", "standardize_columns", "validate_schema", "enrich_metadata")
# They stay in bronze unless a setting asks for them.
PERSONAL = ("name", "email")


@dataclass(frozen=True, slots=True)
class SilverTable:
    """One silver table and the bronze table it comes from.

    Args:
        contract: Of the silver table.
        bronze: Of the bronze table.
        key: The column that tells rows apart, in both.
        read: What the text says, as SQL over the CRM's columns; evaluated once, whatever steps look at it.
        columns: Silver's own columns as SQL over `raw` and `read`.
        metadata: Silver's derived columns as SQL over `raw` and `read`.
        rules: Reasons to reject a row, each with the SQL condition over `raw` and `read` that makes it hold; the first
            counts.
    """

    contract: TableContract
    bronze: TableContract
    key: str
    read: dict[str, str]
    columns: dict[str, str]
    metadata: dict[str, str]
    rules: tuple[tuple[str, str], ...]

    @property
    def raw(self) -> tuple[str, ...]:
        """The CRM's columns."""
        return tuple(name for name in self.bronze.column_names if not name.startswith("_"))

    @property
    def moment(self) -> str | None:
        """The column by whose day the table is partitioned."""
        return self.contract.range_column


TRANSACTIONS = SilverTable(
    SILVER_TRANSACTIONS,
    BRONZE_TRANSACTIONS,
    key="transaction_id",
    read={
        "transaction_ts": "readable_time(transaction_ts)",
        "amount": "readable_money(amount)",
        "quantity": "try_cast(try_cast(quantity AS DOUBLE) AS BIGINT)",
        "updated_at": "readable_time(updated_at)",
    },
    columns={
        "transaction_id": "raw.transaction_id",
        "customer_id": "raw.customer_id",
        "transaction_ts": "read.transaction_ts",
        "amount": "read.amount",
        "category": "raw.category",
        "payment_method": "raw.payment_method",
        "quantity": "read.quantity",
    },
    metadata={
        "transaction_date": "read.transaction_ts::DATE",
        "transaction_hour": "hour(read.transaction_ts)::INTEGER",
        "updated_at": "read.updated_at",
    },
    rules=(
        ("transaction_id is missing", "trim(coalesce(raw.transaction_id, '')) = ''"),
        ("customer_id is missing", "trim(coalesce(raw.customer_id, '')) = ''"),
        ("transaction_ts is missing or not a time", "read.transaction_ts IS NULL"),
        ("amount is missing or not a number", "read.amount IS NULL"),
    ),
)
CUSTOMERS = SilverTable(
    SILVER_CUSTOMERS,
    BRONZE_CUSTOMERS,
    key="customer_id",
    read={"signup_date": "readable_time(signup_date)::DATE", "updated_at": "readable_time(updated_at)"},
    columns={
        "customer_id": "raw.customer_id",
        **{name: f"CASE WHEN keep_personal() THEN raw.{name} END" for name in PERSONAL},
        "signup_date": "read.signup_date",
        "country": "raw.country",
        "state": "raw.state",
        "city": "raw.city",
    },
    metadata={"updated_at": "read.updated_at"},
    rules=(("customer_id is missing", "trim(coalesce(raw.customer_id, '')) = ''"),),
)
SILVER_TABLES = (CUSTOMERS, TRANSACTIONS)

Transformation = Callable[[str, SilverTable], str]
"""From the name of the rows' view and the table to the SELECT that makes the next view."""
_REGISTRY: dict[str, Transformation] = {}


def transformation(name: str) -> Callable[[Transformation], Transformation]:
    """Registers a transformation under a name for `DataProcessingPipeline.run(transformations=[…])`.

    Raises:
        InputError: The name is taken by another function.
    """

    def register(function: Transformation) -> Transformation:
        if _REGISTRY.setdefault(name, function) is not function:
            raise InputError(f"there is a transformation {name} already", expected="a name of its own")
        return function

    return register


def named(names: Sequence[str]) -> list[Transformation]:
    """The transformations of these names, in their order.

    Raises:
        InputError: A name is unknown, or stands twice.
    """
    unknown = [name for name in names if name not in _REGISTRY]
    if unknown or len(set(names)) < len(names):
        what = f"there is no transformation {', '.join(unknown)}" if unknown else "a transformation is named twice"
        raise InputError(
            what,
            expected=f"each at most once of: {', '.join(sorted(_REGISTRY))}",
            hint="register your own with @transformation(NAME) from mlops_platform.data_pipeline.",
        )
    return [_REGISTRY[name] for name in names]


@transformation("remove_duplicates")
def remove_duplicates(rows: str, table: SilverTable) -> str:
    """Marks all but the latest version of each row as superseded: latest `updated_at`, then latest ingested.

    A tombstone buries every version that its source ingested before it, and is itself no row. A latest version with a
    `deleted_at` is a deleted row. Rows without a key are all their own.
    """
    key = f"raw.{quoted(table.key)}"
    order = latest_first("read.updated_at", (f"raw.{quoted(name)}" for name in table.raw))
    is_alive = "(buried_at IS NULL OR _ingested_at > buried_at)"
    is_deleted = "trim(coalesce(raw.deleted_at, '')) <> ''"
    # Most rows have one version: only the others are sorted.
    several = (
        f"SELECT {key} AS several FROM {rows} WHERE trim(coalesce({key}, '')) <> '' "
        f"GROUP BY {key} HAVING count(*) > 1 OR bool_or(_is_tombstone OR {is_deleted})"
    )
    return f"""
        SELECT * FROM {rows} ANTI JOIN ({several}) ON {key} = several
        UNION ALL
        SELECT * EXCLUDE (buried_at) REPLACE (
            row_number() OVER (PARTITION BY {key} ORDER BY {is_alive} DESC, {order}) > 1
            OR NOT {is_alive} OR _is_tombstone OR {is_deleted} AS is_superseded)
        FROM (
            SELECT *, max(_ingested_at) FILTER (WHERE _is_tombstone) OVER (PARTITION BY {key}, _source) AS buried_at
            FROM {rows} SEMI JOIN ({several}) ON {key} = several
        )"""


@transformation("standardize_columns")
def standardize_columns(rows: str, table: SilverTable) -> str:
    """Reads the text as silver's types; what can't be read is null."""
    return f"SELECT *, {', '.join(f'{sql} AS {quoted(name)}' for name, sql in table.columns.items())} FROM {rows}"


@transformation("validate_schema")
def validate_schema(rows: str, table: SilverTable) -> str:
    """Gives each row that can't be used the first reason that holds."""
    cases = " ".join(f"WHEN {condition} THEN '{reason}'" for reason, condition in table.rules)
    return f"SELECT * REPLACE (coalesce(reason, CASE {cases} END) AS reason) FROM {rows}"


@transformation("enrich_metadata")
def enrich_metadata(rows: str, table: SilverTable) -> str:
    """Adds what follows from a row: local day and hour, time of change."""
    return f"SELECT *, {', '.join(f'{sql} AS {quoted(name)}' for name, sql in table.metadata.items())} FROM {rows}"
