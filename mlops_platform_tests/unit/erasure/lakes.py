"""A small lake of every table that can name a customer, with a history, for the tests of erasing.

Customers are `c0000`, `c0001`, …; every tenth id of those erased is the beginning of another one's (`c0010x`). Does not
belong here: assertions.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa

from mlops_platform.contracts import (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    ONLINE_PREDICTIONS,
    PREDICTIONS,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    TableContract,
)
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.contracts.table import Replace
from mlops_platform.storage.conditions import Condition, all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform.storage.publish import Draft

DAY, TICK = date(2024, 7, 1), datetime(2024, 7, 2, tzinfo=UTC)
NAMING = (
    BRONZE_CUSTOMERS,
    BRONZE_TRANSACTIONS,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    QUARANTINE,
    STANDARD.customer_features,
    STANDARD.training_set,
    PREDICTIONS,
    ONLINE_PREDICTIONS,
)


def rows(contract: TableContract, cells: list[dict[str, Any]]) -> pa.Table:
    """Rows with a plain value in every column that the cells do not name."""
    plain: dict[str, Any] = {}
    for field in arrow_schema(contract):
        if pa.types.is_string(field.type):
            plain[field.name] = "bronze"
        elif pa.types.is_temporal(field.type):
            plain[field.name] = DAY if pa.types.is_date(field.type) else TICK
        else:
            plain[field.name] = None if pa.types.is_boolean(field.type) else 1
    schema = arrow_schema(contract)
    known = [{name: row.get(name, plain[name]) for name in schema.names} for row in cells]
    return pa.Table.from_pylist(known, schema=schema)


def publish(lake: Lake, contract: TableContract, cells: list[dict[str, Any]], **properties: str) -> int:
    """Publishes rows over all there is; returns the snapshot."""
    scope: tuple[Condition, ...] = ()
    if contract.replace is Replace.RANGE:
        column = str(contract.range_column)
        kind = contract.column(column).type.value
        scope = all_time(column) if "TIME" in kind else (Condition(column, "=", cells[0][column]),)
    draft = Draft(contract, rows(contract, cells), scope=scope, properties=properties)
    return int(lake.publish(draft).snapshot_id or 0)


def build(lake: Lake, customers: list[str], tables: Collection[TableContract] = NAMING) -> dict[str, int]:
    """Two generations of the tables, the second over all customers; returns the current snapshots by table."""
    made: dict[str, int] = {}
    for generation, named in enumerate((customers[: len(customers) // 2], customers)):
        for contract, cells in _cells(lake, named, generation).items():
            if contract.name in {wanted.name for wanted in tables}:
                properties = {"watermark.crm": f"2024-07-0{generation + 1}"}
                if contract is SILVER_TRANSACTIONS:
                    properties["bronze-snapshot-id"] = str(made.get(BRONZE_TRANSACTIONS.name))
                made[contract.name] = publish(lake, contract, cells, **properties)
    return made


def _cells(lake: Lake, customers: list[str], generation: int) -> dict[TableContract, list[dict[str, Any]]]:
    batch = {"_batch_id": f"b{generation}", "_ingested_at": TICK + timedelta(hours=generation)}
    own = [{"customer_id": name, **batch} for name in customers]
    deals = [{**row, "transaction_id": f"t{n}"} for n, row in enumerate(own)]
    rejected = [json.dumps({"transaction_id": "t", "customer_id": name}) for name in customers]
    dated = [{"customer_id": name, "feature_date": DAY, "total_transactions_7d": generation} for name in customers]
    hmacs = [customer_hmac(lake.settings, name) for name in customers]
    return {
        BRONZE_CUSTOMERS: own,
        BRONZE_TRANSACTIONS: deals,
        SILVER_CUSTOMERS: own,
        SILVER_TRANSACTIONS: [{**row, "transaction_date": DAY, "transaction_hour": generation} for row in deals],
        QUARANTINE: [{"table_name": SILVER_TRANSACTIONS.name, "reason": "no amount", "row": row} for row in rejected],
        STANDARD.customer_features: dated,
        STANDARD.training_set: [{**row, "split": "train"} for row in dated],
        PREDICTIONS: [{**row, "prediction_id": f"{generation}{n}"} for n, row in enumerate(own)],
        ONLINE_PREDICTIONS: [
            {"prediction_id": f"PRED_{generation}_{n}", "features": json.dumps({"size": n, "customer_hmac": name})}
            for n, name in enumerate(hmacs)
        ],
    }
