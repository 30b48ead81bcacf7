"""Erased customers stay out: their rows never pass, everybody else's do, and without any nothing is looked at."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa

from mlops_platform.contracts import ERASURES
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.data_pipeline.erased import erased_filter
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform.storage.publish import Draft


def list_as_erased(lake: Lake, *ids: str) -> None:
    rows = [{"customer_hmac": customer_hmac(lake.settings, name), "erased_at": datetime.now(UTC)} for name in ids]
    lake.publish(Draft(ERASURES, pa.Table.from_pylist(rows, schema=arrow_schema(ERASURES))))


def batch(*ids: str | None, column: str = "customer_id") -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({column: list(ids), "n": list(range(len(ids)))})


def test_nobody_erased_means_no_filter(lake: Lake) -> None:
    assert erased_filter(lake) is None


def test_rows_of_the_erased_are_taken_out(lake: Lake) -> None:
    list_as_erased(lake, "C1", "C3")
    without = erased_filter(lake)
    assert without is not None
    passed = without(batch("C1", "C10", None, " C3 ", "C2", "C1"))
    assert passed.to_pydict() == {"customer_id": ["C10", None, "C2"], "n": [1, 2, 4]}


def test_a_batch_without_any_passes_as_it_is(lake: Lake) -> None:
    list_as_erased(lake, "C1")
    without = erased_filter(lake)
    assert without is not None
    for found in (batch("C2", None), batch(), batch("C1", column="transaction_id")):
        assert without(found) is found


def test_ids_that_are_numbers(lake: Lake) -> None:
    list_as_erased(lake, "17")
    without = erased_filter(lake)
    assert without is not None
    found = pa.RecordBatch.from_pydict({"customer_id": pa.array([17, 170, None], pa.int64())})
    assert without(found).to_pydict() == {"customer_id": [170, None]}
