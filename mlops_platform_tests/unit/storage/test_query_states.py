"""Asking for earlier states: by snapshot, by tag, by instant, in the statement and beside it.

Does not belong here: how a snapshot is read (`test_read.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import SILVER_CUSTOMERS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError, PlatformError, QueryError, StorageError
from mlops_platform.settings import load_settings
from mlops_platform.storage.catalog import load_table
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.query import explain, query
from mlops_platform.storage.query_states import states

C = "silver.customers"


@dataclass(frozen=True)
class History:
    """Customers as one, two and three rows; the state of two is tagged `two`."""

    lake: Lake
    ids: tuple[int, ...]
    instants: tuple[str, ...]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("states") / "home", timezone="America/Sao_Paulo"))
    ids: list[int] = []
    for count in (1, 2, 3):
        rows = [{"customer_id": f"c{n}", "_batch_id": "b", "_source": "crm"} for n in range(count)]
        lake.publish(Draft(SILVER_CUSTOMERS, pa.Table.from_pylist(rows, schema=arrow_schema(SILVER_CUSTOMERS))))
        ids.append(lake.snapshot(SILVER_CUSTOMERS).snapshot_id or 0)
    table = load_table(lake.catalog, SILVER_CUSTOMERS, lake.settings.timezone)
    assert table is not None
    table.manage_snapshots().create_tag(ids[1], "two").commit()
    moments = [datetime.fromtimestamp(entry.timestamp_ms / 1000, UTC) for entry in table.history()]
    at = {entry.snapshot_id: f"{moment:%F %T.%f} UTC" for entry, moment in zip(table.history(), moments, strict=True)}
    return History(lake, tuple(ids), tuple(at[i] for i in ids))


def count(history: History, source: str, at: dict[str, Any] | None = None) -> int:
    with query(history.lake, f"SELECT count(*) FROM {source}", at=at) as reader:
        return int(reader.read_all()[0][0].as_py())


class TestInTheStatement:
    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_a_snapshot(self, history: History, position: int) -> None:
        assert count(history, f"{C} FOR VERSION AS OF {history.ids[position]} AS x") == position + 1

    @pytest.mark.parametrize(("name", "rows"), [("two", 2), ("main", 3)])
    def test_a_tag_or_branch(self, history: History, name: str, rows: int) -> None:
        assert count(history, f"{C} FOR VERSION AS OF '{name}'") == rows

    @pytest.mark.parametrize("position", [0, 1, 2])
    def test_an_instant(self, history: History, position: int) -> None:
        assert count(history, f"{C} FOR TIMESTAMP AS OF TIMESTAMP '{history.instants[position]}'") == position + 1

    def test_an_instant_that_is_computed(self, history: History) -> None:
        assert count(history, f"{C} FOR TIMESTAMP AS OF (current_timestamp + INTERVAL '1' DAY)") == 3

    def test_two_states_in_one_statement(self, history: History) -> None:
        new = f"SELECT customer_id FROM {C} EXCEPT SELECT customer_id FROM {C} FOR VERSION AS OF 'two'"
        assert count(history, f"({new})") == 1
        reads = explain(history.lake, f"SELECT * FROM ({new})")
        assert [read.snapshot_id for read in reads] == [history.ids[2], history.ids[1]]

    @pytest.mark.parametrize(
        ("version", "kind", "words"),
        [
            ("VERSION AS OF 5", StorageError, "no snapshot 5"),
            ("VERSION AS OF 'three'", StorageError, r"no tag or branch 'three'.*main, two"),
            ("TIMESTAMP AS OF TIMESTAMP '2001-01-01 00:00:00'", StorageError, "no snapshot as old as 2001-01-01"),
            ("VERSION AS OF 1 + 1", QueryError, "no version"),
            ("VERSION AS OF 1.5", QueryError, "no version"),
            ("TIMESTAMP AS OF TIMESTAMP '12000-01-01 00:00:00'", QueryError, "no instant"),
            ("TIMESTAMP AS OF (SELECT now())", QueryError, "no instant"),
            ("TIMESTAMP AS OF 'yesterday'", QueryError, "yesterday"),
            ("TIMESTAMP AS OF NULL", QueryError, "no instant"),
            ("VERSION BETWEEN 1 AND 2", QueryError, "no state"),
        ],
    )
    def test_what_is_no_state(self, history: History, version: str, kind: type[PlatformError], words: str) -> None:
        with pytest.raises(kind, match=words):
            count(history, f"{C} FOR {version}")

    def test_a_cte_has_no_states(self, history: History) -> None:
        with pytest.raises(QueryError, match="is no table"):
            count(history, "(WITH x AS (SELECT 1) SELECT * FROM x FOR VERSION AS OF 1)")


class TestBesideTheStatement:
    @pytest.mark.parametrize("name", [C, C.upper()])
    def test_every_use_of_the_table_is_in_that_state(self, history: History, name: str) -> None:
        assert count(history, f"{C} a, {C} b", {name: "two"}) == 4
        assert count(history, C, {name: history.ids[0]}) == 1

    def test_the_statement_goes_first(self, history: History) -> None:
        assert count(history, f"{C} a, {C} FOR VERSION AS OF {history.ids[0]} b", {C: "two"}) == 2

    @pytest.mark.parametrize("name", ["silver.nope", "ml.predictions"])
    def test_a_table_that_is_not_read(self, history: History, name: str) -> None:
        with pytest.raises(InputError, match=f"{name}.*does not read.*{C}"):
            count(history, C, {name: 1})

    def test_a_table_that_was_never_written(self, history: History) -> None:
        with pytest.raises(StorageError, match=r"no tag or branch 'x'.*has none"):
            count(history, "ml.predictions", {"ml.predictions": "x"})

    def test_states_as_typed(self) -> None:
        assert states(["silver.a=12", "silver.b=v1.0"]) == {"silver.a": 12, "silver.b": "v1.0"}
        assert states(["features-v1.0"]) == {"": "features-v1.0"}

    def test_a_state_alone_is_that_of_the_only_table(self, history: History) -> None:
        assert count(history, f"{C} a, {C} b", {"": "two"}) == 4
        assert count(history, C, {"": history.ids[0]}) == 1

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            (f"{C}, silver.transactions", f"reads 2.*--at {C}=two or --at silver.transactions=two"),
            ("(SELECT 1)", "reads 0.*a statement that reads a table"),
        ],
    )
    def test_a_state_alone_for_several_tables_or_none(self, history: History, source: str, words: str) -> None:
        with pytest.raises(InputError, match=words):
            count(history, source, {"": "two"})

    @pytest.mark.parametrize("option", ["silver.a=", "=5", ""])
    def test_what_is_no_state_as_typed(self, option: str) -> None:
        with pytest.raises(InputError, match="TABLE=SNAPSHOT_ID"):
            states([option])
