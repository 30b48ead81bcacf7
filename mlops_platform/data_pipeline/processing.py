"""Processing: bronze to silver. Types the text, keeps the latest version of each row, sets aside what can't be used.

Belongs here: the rules of DESIGN "Source: the CRM", as SQL over a bronze snapshot. Does not belong here: reading a CRM,
publishing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    TableContract,
)
from mlops_platform.data_pipeline.text import define_macros
from mlops_platform.storage.audit import CheckOutcome
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.duck import quoted, session
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import register, scalar

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.read import TableSnapshot

ROWS_ACCOUNTED = "rows_accounted_for"
REJECTED_SHARE = "rejected_share"
HAS_ROWS = "data_ready"
SILVER_CHECKS = (ROWS_ACCOUNTED, REJECTED_SHARE, HAS_ROWS)

# They stay in bronze; the quarantine shows a rejected row without them.
PERSONAL = frozenset({"name", "email"})

_TRANSACTION_CELLS = """
    transaction_id, customer_id, moment AS transaction_ts, moment::DATE AS transaction_date,
    hour(moment)::INTEGER AS transaction_hour, money AS amount, category, payment_method,
    try_cast(try_cast(quantity AS DOUBLE) AS BIGINT) AS quantity, changed AS updated_at, _batch_id, _source"""
_TRANSACTION_REASON = """CASE
    WHEN trim(coalesce(transaction_id, '')) = '' THEN 'transaction_id is missing'
    WHEN trim(coalesce(customer_id, '')) = '' THEN 'customer_id is missing'
    WHEN moment IS NULL THEN 'transaction_ts is missing or not a time'
    WHEN money IS NULL THEN 'amount is missing or not a number' END"""
_CUSTOMER_CELLS = """
    customer_id, readable_time(signup_date)::DATE AS signup_date, country, state, city,
    changed AS updated_at, _batch_id, _source"""
_CUSTOMER_REASON = "CASE WHEN trim(coalesce(customer_id, '')) = '' THEN 'customer_id is missing' END"


def silver_transactions(settings: Settings, bronze: TableSnapshot) -> Draft:
    """Every transaction of bronze once, in its latest version, typed; unusable rows in the draft's quarantine."""
    typed = "readable_time(transaction_ts) AS moment, readable_money(amount) AS money"
    return _process(
        settings,
        bronze,
        SILVER_TRANSACTIONS,
        key="transaction_id",
        typed=typed,
        cells=_TRANSACTION_CELLS,
        reason=_TRANSACTION_REASON,
    )


def silver_customers(settings: Settings, bronze: TableSnapshot) -> Draft:
    """Every customer of bronze once, in its latest version, without name and e-mail address."""
    return _process(
        settings,
        bronze,
        SILVER_CUSTOMERS,
        key="customer_id",
        typed="NULL AS moment",
        cells=_CUSTOMER_CELLS,
        reason=_CUSTOMER_REASON,
    )


def _process(
    settings: Settings,
    bronze: TableSnapshot,
    contract: TableContract,
    *,
    key: str,
    typed: str,
    cells: str,
    reason: str,
) -> Draft:
    with session(settings) as duck:
        define_macros(duck)
        view = register(duck, bronze)
        raw = [name for name in bronze.contract.column_names if not name.startswith("_")]
        # Equal times of change and of ingestion leave the choice open; the row's own text settles it the same way
        # every time.
        order = ", ".join(f"{quoted(name)} DESC NULLS LAST" for name in raw)
        duck.execute(f"""CREATE TEMP TABLE versions AS
            SELECT *, {reason} AS reason FROM (
                SELECT *, {typed}, readable_time(updated_at) AS changed,
                    row_number() OVER (PARTITION BY {key}
                        ORDER BY readable_time(updated_at) DESC NULLS LAST, _ingested_at DESC, {order})
                    AS version
                FROM {view})""")
        latest = f"version = 1 OR trim(coalesce({key}, '')) = ''"
        rows = duck.sql(f"SELECT {cells} FROM versions WHERE ({latest}) AND reason IS NULL").to_arrow_table()
        rejected = _rejected(duck, contract, latest, [name for name in raw if name not in PERSONAL])
        total = scalar(duck, "SELECT count(*) FROM versions")
        superseded = scalar(duck, f"SELECT count(*) FROM versions WHERE NOT ({latest})")
    figures = {"read": total, "published": rows.num_rows, "quarantined": rejected.num_rows, "superseded": superseded}
    return Draft(
        contract,
        rows,
        checks=_checks(settings, figures, rejected),
        figures=figures,
        quarantine=Draft(QUARANTINE, rejected, scope=(Condition("table_name", "=", contract.name),)),
    )


def _rejected(duck: duckdb.DuckDBPyConnection, contract: TableContract, latest: str, raw: list[str]) -> pa.Table:
    cells = ", ".join(f"{quoted(name)} := {quoted(name)}" for name in raw)
    return duck.sql(
        f"""SELECT $name AS table_name, reason, _batch_id, to_json(struct_pack({cells}))::VARCHAR AS "row"
        FROM versions WHERE ({latest}) AND reason IS NOT NULL""",
        params={"name": contract.name},
    ).to_arrow_table()


def _checks(settings: Settings, figures: dict[str, int], rejected: pa.Table) -> tuple[CheckOutcome, ...]:
    read, published, quarantined = figures["read"], figures["published"], figures["quarantined"]
    unaccounted = read - published - quarantined - figures["superseded"]
    share = quarantined / (published + quarantined) if published + quarantined else 0.0
    limit = settings.max_rejected_share
    reasons = {item["values"]: item["counts"] for item in rejected.column("reason").value_counts().to_pylist()}
    found = ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    return (
        CheckOutcome(
            ROWS_ACCOUNTED,
            passed=unaccounted == 0,
            message=f"{unaccounted} rows neither published, quarantined nor superseded" if unaccounted else "",
            figures=dict(figures),
        ),
        CheckOutcome(
            REJECTED_SHARE,
            passed=share <= limit,
            message=f"{share:.1%} of the rows were rejected, at most {limit:.0%} may be ({found})" if share else "",
            figures={"rejected_share": share, **reasons},
        ),
        CheckOutcome(
            HAS_ROWS,
            passed=published > 0 or read == 0,
            message="" if published else "no usable row",
            is_blocking=False,
        ),
    )


SILVER_PROCESSES = {
    BRONZE_CUSTOMERS.name: silver_customers,
    BRONZE_TRANSACTIONS.name: silver_transactions,
}
