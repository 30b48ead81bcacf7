"""Silver tables for the engines to read: drawn histories in a home of their own, and any purchases.

Does not belong here: what is right about their features (`oracles.features`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import HealthCheck, Phase, given, seed, settings

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform_tests.oracles.features import Purchase
from mlops_platform_tests.oracles.histories import Event, histories

# No feature looks at `transaction_ts`. One instant for all makes one file, true ones a file for each of 3,000 days.
_AT = datetime(2025, 6, 30, tzinfo=UTC)
_STEMS = "cCç客"


def published(lake: Lake, purchases: Sequence[Purchase]) -> TableSnapshot:
    """The purchases as the one content of silver.transactions."""
    rows = [
        {
            "transaction_id": str(number),
            "customer_id": p.customer_id,
            "transaction_ts": _AT,
            "transaction_date": p.day,
            "transaction_hour": p.local_ts.hour,
            "amount": p.amount,
            "category": p.category,
            "payment_method": p.payment_method,
            "quantity": None,
            "updated_at": _AT,
            "_batch_id": "drawn",
            "_source": "drawn",
        }
        for number, p in enumerate(purchases)
    ]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(SILVER_TRANSACTIONS))
    lake.publish(Draft(SILVER_TRANSACTIONS, table, scope=all_time("transaction_ts")))
    return lake.snapshot(SILVER_TRANSACTIONS)


def in_few_files(rows: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """The rows with each time at its month's start: a file a month of them, and not one a day.

    No feature looks at `transaction_ts`; files stay as apart in their local days as those of real days.
    """
    place = rows.schema.get_field_index("transaction_ts")
    field = rows.schema.field(place)

    def moved() -> Iterator[pa.RecordBatch]:
        for batch in rows:
            yield batch.set_column(place, field, pc.floor_temporal(batch.column(place), unit="month"))

    return pa.RecordBatchReader.from_batches(rows.schema, moved())


def drawn_purchases(day: date, number: int) -> list[Purchase]:
    """The transactions of `number` drawn histories around `day`, every fifth history shared by three customers."""
    found: list[Purchase] = []
    for place, history in enumerate(_drawn(day, number)):
        for clone in range(3 if place % 5 == 0 else 1):
            # Scores must tie among the clones; ids sort in another order by code point than by locale.
            customer_id = f"{_STEMS[(place + clone) % len(_STEMS)]} {day} {place} {clone}"
            found += [Purchase(customer_id, *event) for event in history]
    return found


def _drawn(day: date, number: int) -> list[list[Event]]:
    found: list[list[Event]] = []

    @seed(day.toordinal())
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(histories(day))
    def collect(history: list[Event]) -> None:
        found.append(history)

    collect()
    assert len(found) >= number
    return found[:number]
