"""Contracts of the lake: bronze, silver and quarantine.

Bronze holds the CRM's rows as delivered, every source column as text: one cell of a wrong type is then a row to
quarantine in silver, not a failed extraction. Silver holds typed, deduplicated rows. Names and e-mail addresses stop at
bronze.
"""

from __future__ import annotations

from mlops_platform.contracts.table import Column, ColumnType, Partition, Replace, TableContract

STRING, LONG, TIMESTAMP = ColumnType.STRING, ColumnType.LONG, ColumnType.TIMESTAMP

_INGESTED = (
    Column("_ingested_at", TIMESTAMP, "When the row was ingested"),
    Column("_batch_id", STRING, "The ingestion batch that brought the row"),
    Column("_source", STRING, "Name of the source the row came from"),
    Column(
        "_is_tombstone",
        ColumnType.BOOLEAN,
        "True for a row the platform appended because the source no longer holds the key",
        nullable=True,
    ),
)


def _raw(name: str, meaning: str) -> Column:
    return Column(name, STRING, f"{meaning}, as delivered", nullable=True)


BRONZE_CUSTOMERS = TableContract(
    name="bronze.crm_customers",
    description="Customers as the CRM delivered them: append-only, every column text, every version kept.",
    columns=(
        _raw("customer_id", "Customer"),
        _raw("name", "Full name"),
        _raw("email", "E-mail address"),
        _raw("signup_date", "Day of signing up"),
        _raw("country", "Country"),
        _raw("state", "State or region"),
        _raw("city", "City"),
        _raw("updated_at", "Last change in the CRM"),
        _raw("deleted_at", "When the CRM deleted the row"),
        *_INGESTED,
    ),
    partitions=(Partition("_ingested_at", "day"),),
    replace=Replace.NOTHING,
    append_once=("_batch_id",),
)

BRONZE_TRANSACTIONS = TableContract(
    name="bronze.crm_transactions",
    description="Transactions as the CRM delivered them: append-only, every column text, every version kept.",
    columns=(
        _raw("transaction_id", "Transaction"),
        _raw("customer_id", "Customer"),
        _raw("transaction_ts", "When it happened"),
        _raw("amount", "Amount of money"),
        _raw("category", "Product category"),
        _raw("payment_method", "Means of payment"),
        _raw("quantity", "Number of units"),
        _raw("updated_at", "Last change in the CRM"),
        _raw("deleted_at", "When the CRM deleted the row"),
        *_INGESTED,
    ),
    partitions=(Partition("_ingested_at", "day"),),
    replace=Replace.NOTHING,
    append_once=("_batch_id",),
)

ERASURES = TableContract(
    name="bronze.erasures",
    description="Customers erased on request, by keyed hash: ingestion leaves their rows out for good.",
    columns=(
        Column("customer_hmac", STRING, "HMAC-SHA256 of the customer_id under the home's key"),
        Column("erased_at", TIMESTAMP, "When the erasure was ordered"),
    ),
    key=("customer_hmac",),
    replace=Replace.NOTHING,
    append_once=("customer_hmac",),
    volatile=frozenset({"erased_at"}),
)

_LINEAGE = (
    Column("updated_at", TIMESTAMP, "Last change in the CRM", nullable=True),
    Column("_batch_id", STRING, "The ingestion batch of the winning version"),
    Column("_source", STRING, "Name of the source the row came from"),
)

SILVER_CUSTOMERS = TableContract(
    name="silver.customers",
    description="Current state of every customer: one row each, the latest version. Names and e-mail addresses stay in "
    "bronze unless MLOPS_KEEP_PERSONAL asks for them.",
    columns=(
        Column("customer_id", STRING, "Customer"),
        Column("name", STRING, "Full name; null unless the settings keep it", nullable=True),
        Column("email", STRING, "E-mail address; null unless the settings keep it", nullable=True),
        Column("signup_date", ColumnType.DATE, "Local day of signing up", nullable=True),
        Column("country", STRING, "Country", nullable=True),
        Column("state", STRING, "State or region", nullable=True),
        Column("city", STRING, "City", nullable=True),
        *_LINEAGE,
    ),
    key=("customer_id",),
)

SILVER_TRANSACTIONS = TableContract(
    name="silver.transactions",
    description="Every transaction once, in its latest version, typed. Amounts of zero or less (gifts, cancellations) "
    "are kept; a purchase is a transaction with an amount above zero.",
    columns=(
        Column("transaction_id", STRING, "Transaction"),
        Column("customer_id", STRING, "Customer"),
        Column("transaction_ts", TIMESTAMP, "When it happened"),
        Column("transaction_date", ColumnType.DATE, "Local day it happened, in the business time zone"),
        Column("transaction_hour", ColumnType.INT, "Local hour it happened", unit="hour", ge=0, le=23),
        Column("amount", ColumnType.MONEY, "Amount of money, rounded half-even to cents", unit="currency"),
        Column("category", STRING, "Product category", nullable=True),
        Column("payment_method", STRING, "Means of payment", nullable=True),
        Column("quantity", LONG, "Number of units", nullable=True),
        *_LINEAGE,
    ),
    key=("transaction_id",),
    partitions=(Partition("transaction_ts", "day"),),
    replace=Replace.RANGE,
    range_column="transaction_ts",
)

QUARANTINE = TableContract(
    name="silver.quarantine",
    description="Bronze rows that could not enter silver, with the reason and the row itself.",
    columns=(
        Column("table_name", STRING, "The silver table the row was meant for"),
        Column("reason", STRING, "Why the row was rejected"),
        Column("_batch_id", STRING, "The ingestion batch that brought the row"),
        Column("row", STRING, "The bronze row as JSON"),
    ),
    partitions=(Partition("table_name", "identity"),),
    replace=Replace.RANGE,
    range_column="table_name",
)
