"""Whatever the order of arrival, silver ends as it would from the clean history: resent, late, corrected, deleted rows.

A history is a list of facts about rows (a version, or a deletion); it reaches bronze in batches, shuffled, repeated,
late. Silver is brought up to date after every batch, and in the end must equal what one pass over everything gives, and
what the oracle gives. Does not belong here: how text is read (`test_silver.py`).
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_platform.contracts import BRONZE_TRANSACTIONS, QUARANTINE, SILVER_TRANSACTIONS
from mlops_platform.data_pipeline import processing
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import TRANSACTIONS
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.oracles.silver import CrmRow, silver
from mlops_platform_tests.scale import rounds

# In each zone.
HISTORIES = rounds(full=170, share=3)
START = datetime(2024, 5, 1, tzinfo=UTC)
ZONES = ("UTC", "America/Sao_Paulo", "Europe/Lisbon")
RAW = [name for name in BRONZE_TRANSACTIONS.column_names if not name.startswith("_")]
# Both sides of midnight in UTC and in the zones, and both changes of the clock in São Paulo and Lisbon.
MOMENTS = (
    *("2024-02-29 23:59:59.999999", "2024-03-01 00:00:00", "2024-03-01 02:30:00", "2024-03-01T01:30:00Z"),
    *("2018-02-17 23:30:00", "2018-11-04 00:30:00", "2024-03-31 01:30:00", "2024-10-27 01:30:00"),
    *("2024-03-02 22:00:00-03:00", None, "soon"),
)
CHANGES = ("2024-03-01", "2024-03-02 10:00:00", "2024-03-03", None)


@dataclass(frozen=True)
class Batch:
    """Rows that reach bronze together, and keys that are found gone from the source."""

    rows: tuple[CrmRow, ...]
    gone: tuple[str, ...]


@st.composite
def histories(draw: st.DrawFn) -> list[Batch]:
    versions = st.fixed_dictionaries(
        {
            "transaction_id": st.sampled_from(["t1", "t2", "t3", "t4", "é", " ", None]),
            "customer_id": st.sampled_from(["c1", "c2", "c1", "c2", None]),
            "transaction_ts": st.sampled_from(MOMENTS),
            "amount": st.sampled_from(["10", "20.005", "-5", "ten"]),
            "updated_at": st.sampled_from(CHANGES),
            "deleted_at": st.sampled_from([None, None, None, "2024-03-04"]),
        }
    )
    rows = draw(st.lists(versions, min_size=1, max_size=10))
    resent = draw(st.lists(st.sampled_from(rows), max_size=4))
    arrived = draw(st.permutations([*rows, *resent]))
    batches = []
    while arrived:
        size = draw(st.integers(1, 5))
        gone = draw(st.lists(st.sampled_from(["t1", "t2", "é"]), max_size=1)) if draw(st.booleans()) else []
        batches.append(Batch(tuple(arrived[:size]), tuple(gone)))
        arrived = arrived[size:]
    return batches


def deliver(lake: Lake, number: int, batch: Batch) -> None:
    """One ingestion: a batch's rows, then tombstones for the keys found gone that are not in the batch itself."""
    here = {row["transaction_id"] for row in batch.rows}
    tombstones = [dict.fromkeys(RAW) | {"transaction_id": key} for key in batch.gone if key not in here]
    rows = [{**dict.fromkeys(RAW), **row} for row in batch.rows] + tombstones
    at = START + timedelta(hours=number)
    columns: dict[str, Any] = {name: pa.array([row[name] for row in rows], pa.string()) for name in RAW}
    columns["_ingested_at"] = pa.array([at] * len(rows), pa.timestamp("us", "UTC"))
    columns["_batch_id"] = [f"b{number}"] * len(rows)
    columns["_source"] = ["crm"] * len(rows)
    columns["_is_tombstone"] = [False] * len(batch.rows) + [True] * len(tombstones)
    lake.publish(Draft(BRONZE_TRANSACTIONS, pa.table(columns)))


def contents(lake: Lake) -> tuple[list[Any], list[Any]]:
    """Silver's rows and the quarantine's, in an order of their own."""
    rows = lake.snapshot(SILVER_TRANSACTIONS).to_arrow(order_by=["transaction_id"]).to_pylist()
    rejected = lake.snapshot(QUARANTINE).to_arrow(order_by=["reason", "row", "_batch_id"]).to_pylist()
    return rows, rejected


def _text(row: CrmRow) -> list[tuple[bool, str]]:
    """What settles equal times of change in one batch: the row's own text, the greater wins, null is least."""
    return [(row.get(name) is not None, row.get(name) or "") for name in RAW]


def expected_keys(batches: list[Batch], zone: str) -> dict[str, int]:
    """By the oracle: the published keys and the batch whose version wins."""
    alive: dict[Any, list[tuple[int, CrmRow]]] = defaultdict(list)
    for number, batch in enumerate(batches):
        here = {row["transaction_id"] for row in batch.rows}
        for key in batch.gone:
            if key not in here:
                alive[key].clear()
        for place, row in enumerate(sorted(batch.rows, key=_text)):
            alive[row["transaction_id"]].append((number * 100 + place, row))
    kept = silver([numbered for rows in alive.values() for numbered in rows], zone).kept
    versions = {sequence: row for rows in alive.values() for sequence, row in rows}
    return {key: row.sequence // 100 for key, row in kept.items() if not versions[row.sequence].get("deleted_at")}


def lenient(folder: Path, zone: str) -> Lake:
    return Lake(load_settings(home=folder, timezone=zone, max_rejected_share=1.0))


@pytest.mark.parametrize("zone", ZONES)
@settings(max_examples=HISTORIES, derandomize=True, database=None, deadline=None)
@given(batches=histories())
def test_silver_converges(zone: str, batches: list[Batch]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        step_by_step, at_once = (lenient(Path(folder) / name, zone) for name in ("steps", "once"))
        for number, batch in enumerate(batches):
            deliver(step_by_step, number, batch)
            draft = silver_draft(step_by_step, TRANSACTIONS)
            assert all(check.passed for check in draft.checks if check.name == "rows_accounted_for")
            step_by_step.publish(draft)
        for number, batch in enumerate(batches):
            deliver(at_once, number, batch)
        with pytest.MonkeyPatch.context() as patch:
            # In shares, as a table too large for memory is taken.
            patch.setattr(processing, "ROWS_AT_ONCE", 3)
            at_once.publish(silver_draft(at_once, TRANSACTIONS))

        rows, rejected = contents(step_by_step)
        assert (rows, rejected) == contents(at_once)
        assert {row["transaction_id"]: int(row["_batch_id"][1:]) for row in rows} == expected_keys(batches, zone)
