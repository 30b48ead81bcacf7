"""Erasing from the tables: nothing of the erased is left in any byte, and nothing of the others is touched."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from mlops_platform.contracts import (
    BRONZE_TRANSACTIONS,
    ERASURES,
    ONLINE_PREDICTIONS,
    QUARANTINE,
    SILVER_CUSTOMERS,
    SILVER_TRANSACTIONS,
    STANDARD,
    TableContract,
)
from mlops_platform.erasure import erase, preview, verify
from mlops_platform.erasure.tables import STANDS_FOR
from mlops_platform.errors import InputError, StorageError
from mlops_platform.storage.content import digest
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain, referenced_snapshots
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform.storage.rows import stage
from mlops_platform_tests.unit.erasure.lakes import NAMING, build, publish, rows

NOW = datetime.now(UTC)
ERASED = [f"c{n:04}" for n in range(0, 200, 2)]
# c0010 is erased, c0010x and c00100 are others.
CUSTOMERS = [*(f"c{n:04}" for n in range(300)), *(f"{name}x" for name in ERASED[::10]), "c00100"]


FEW = (BRONZE_TRANSACTIONS, SILVER_TRANSACTIONS)


def others(lake: Lake, contract: TableContract) -> tuple[Any, ...]:
    """Digest of the rows that are none of the erased ones'."""
    hmacs = [customer_hmac(lake.settings, name) for name in ERASED]
    named = {
        QUARANTINE.name: "json_extract_string(\"row\", '$.customer_id')",
        ONLINE_PREDICTIONS.name: "json_extract_string(features, '$.customer_hmac')",
    }.get(contract.name, "customer_id")
    with lake.snapshot(contract).relation() as (duck, view):
        names = ", ".join(f"'{name}'" for name in [*ERASED, *hmacs])
        kept = f"(SELECT * FROM {view} WHERE {named} NOT IN ({names}))"
        return digest(duck, kept, contract.column_names)


def content(lake: Lake, contract: TableContract) -> tuple[Any, ...]:
    with lake.snapshot(contract).relation() as (duck, view):
        return digest(duck, view, contract.column_names)


def test_a_hundred_customers_leave_no_trace_and_the_others_stay(lake: Lake) -> None:
    build(lake, CUSTOMERS)
    publish(lake, SILVER_CUSTOMERS, [{"customer_id": name} for name in CUSTOMERS if name not in ERASED])
    before = {contract.name: others(lake, contract) for contract in NAMING}
    assert len({hit.path for hit in verify(lake.settings, ERASED)}) > 2 * len(NAMING)
    said = preview(lake, ERASED)
    report = erase(lake, ERASED, now=NOW)
    assert (report.customers, report.newly_listed, list(report.tables)) == (100, 100, said)
    assert {contract.name: content(lake, contract) for contract in NAMING} == before
    # silver.customers names them in its history only.
    assert {entry.table: entry.rows > 0 for entry in said} == {c.name: c is not SILVER_CUSTOMERS for c in NAMING}
    assert verify(lake.settings, ERASED) == []
    maintain(lake, now=NOW, keep=referenced_snapshots(lake))
    assert verify(lake.settings, ERASED) == []
    assert {contract.name: content(lake, contract) for contract in NAMING} == before
    assert lake.snapshot(ERASURES).count() == 100


def test_again_there_is_nothing_to_do(lake: Lake) -> None:
    build(lake, CUSTOMERS[:40], FEW)
    erase(lake, ["c0002"], now=NOW)
    before = _snapshots(lake)
    again = erase(lake, ["c0002"], now=NOW)
    assert (again.rows, again.newly_listed, again.tables, again.files) == (0, 0, (), ())
    assert _snapshots(lake) == before


def test_tables_that_never_named_them_keep_their_snapshots(lake: Lake) -> None:
    build(lake, CUSTOMERS[:4], FEW)
    publish(lake, BRONZE_TRANSACTIONS, [{"customer_id": "late", "transaction_id": "t9", "_batch_id": "b9"}])
    before = _snapshots(lake)
    erase(lake, ["late"], now=NOW)
    after = _snapshots(lake)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {BRONZE_TRANSACTIONS.name}
    assert set(after) - set(before) == {ERASURES.name}
    assert len(after[BRONZE_TRANSACTIONS.name]) == 1


def _snapshots(lake: Lake) -> dict[str, list[int]]:
    tables = {contract.name: lake.snapshot(contract).table for contract in (*NAMING, ERASURES)}
    return {name: [s.snapshot_id for s in table.snapshots()] for name, table in tables.items() if table is not None}


def test_readers_find_what_they_look_up_in_the_snapshots(lake: Lake) -> None:
    made = build(lake, CUSTOMERS[:20], [*FEW, STANDARD.training_set])
    erase(lake, ["c0003"], now=NOW)
    bronze, silver = lake.properties(BRONZE_TRANSACTIONS), lake.properties(SILVER_TRANSACTIONS)
    assert (bronze["watermark.crm"], bronze["operation"]) == ("2024-07-02", "erase")
    # Silver held all of bronze and still does, though both are other snapshots now.
    assert silver["bronze-snapshot-id"] == str(lake.snapshot(BRONZE_TRANSACTIONS).snapshot_id)
    stands_for = lake.properties(STANDARD.training_set)[STANDS_FOR.removeprefix("mlops.")].split(",")
    assert str(made[STANDARD.training_set.name]) in stands_for


def test_a_tag_does_not_save_them(lake: Lake) -> None:
    made = build(lake, CUSTOMERS[:20], [STANDARD.training_set])
    table = lake.snapshot(STANDARD.training_set).table
    assert table is not None
    table.manage_snapshots().create_tag(made[STANDARD.training_set.name], "release").commit()
    erase(lake, ["c0003"], now=NOW)
    assert verify(lake.settings, ["c0003"]) == []
    with pytest.raises(StorageError, match="no tag"):
        lake.snapshot(STANDARD.training_set).at("release")


def test_rows_that_a_killed_writer_left_go_once_they_are_old(lake: Lake) -> None:
    build(lake, CUSTOMERS[:4], FEW)
    left = stage(lake.settings, BRONZE_TRANSACTIONS, rows(BRONZE_TRANSACTIONS, [{"customer_id": "c9"}]).to_batches())
    [path] = [file.file_path.removeprefix("file://") for file in left.files]
    # It may be the file of a run that is about to commit it.
    erase(lake, ["c9"], now=NOW)
    assert {hit.path for hit in verify(lake.settings, ["c9"])} == {path}
    erase(lake, ["c9"], now=NOW + timedelta(days=4))
    assert verify(lake.settings, ["c9"]) == []


def test_blanks_around_an_id_do_not_hide_it(lake: Lake) -> None:
    publish(lake, BRONZE_TRANSACTIONS, [{"customer_id": name} for name in (" c1", "c1\t", "c1", "c10", None)])
    erase(lake, ["c1 "], now=NOW)
    assert lake.snapshot(BRONZE_TRANSACTIONS).to_arrow(["customer_id"])["customer_id"].to_pylist() == ["c10", None]


def test_no_id_is_a_mistake(lake: Lake) -> None:
    for names in ([], [" "], ["c1", ""]):
        with pytest.raises(InputError, match="no customer was named"):
            erase(lake, names, now=NOW)


def test_an_unknown_customer_is_only_listed(lake: Lake) -> None:
    build(lake, CUSTOMERS[:4], FEW)
    report = erase(lake, ["nobody"], now=NOW)
    assert (report.newly_listed, report.tables) == (1, ())
