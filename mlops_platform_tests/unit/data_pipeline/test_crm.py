"""The CRM as a source: what can be wrong with it, and that every cell arrives as text."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_platform.data_pipeline.connections import open_database, sqlite_path
from mlops_platform.data_pipeline.crm import SOURCE_TABLES, TRANSACTIONS, HistorySpan, span
from mlops_platform.data_pipeline.extraction import read
from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import Settings, load_settings
from mlops_platform_tests.unit.data_pipeline.crms import add, customer, make_crm, transaction


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "crm.db"


def cells(url: str, *columns: str, **options: Any) -> list[dict[str, Any]]:
    with open_database(url) as database:
        found: list[dict[str, Any]] = read(database, TRANSACTIONS, columns, **options).read_all().to_pylist()
        return found


class TestSpan:
    def test_first_and_last_local_day(self, path: Path, home: Settings) -> None:
        times = ("2024-02-29 23:59:59", "2024-01-15T08:00:00Z", "2024-03-01", None, "soon")
        url = make_crm(path, [transaction(n, transaction_ts=ts) for n, ts in enumerate(times)])
        assert span(home, url) == HistorySpan(date(2024, 1, 15), date(2024, 3, 1), 5)

    def test_days_are_those_of_the_business_time_zone(self, path: Path, tmp_path: Path) -> None:
        url = make_crm(path, [transaction(1, transaction_ts="2024-03-01T01:30:00Z")])
        there = load_settings(home=tmp_path / "home", timezone="America/Sao_Paulo")
        assert span(there, url).first_day == date(2024, 2, 29)

    @pytest.mark.parametrize("odd", ["infinity", "-infinity", "0000-01-01", "12000-01-01"])
    def test_a_time_that_is_no_day_of_any_calendar_does_not_count(self, path: Path, home: Settings, odd: str) -> None:
        url = make_crm(path, [transaction(1), transaction(2, transaction_ts=odd)])
        assert span(home, url) == HistorySpan(date(2024, 3, 1), date(2024, 3, 1), 2)

    @pytest.mark.parametrize("table", ["customers", "transactions"])
    def test_a_missing_table_is_named(self, path: Path, home: Settings, table: str) -> None:
        url = make_crm(path, lacks=[table])
        with pytest.raises(SourceError, match=f"table {table} is missing"):
            span(home, url)

    @pytest.mark.parametrize("column", [f"{t.name}.{name}" for t in SOURCE_TABLES for name in t.required])
    def test_a_missing_column_is_named(self, path: Path, home: Settings, column: str) -> None:
        url = make_crm(path, lacks=[column])
        table, name = column.split(".")
        with pytest.raises(SourceError, match=rf"table {table} in the CRM .* lacks the column\(s\) {name}\."):
            span(home, url)

    def test_an_optional_column_may_be_missing(self, path: Path, home: Settings) -> None:
        optional = ["transactions.category", "customers.name"]
        row = transaction(1)
        del row["category"]
        url = make_crm(path, [row], lacks=optional)
        assert span(home, url).rows == 1
        assert cells(url, "transaction_id", "category") == [{"transaction_id": "t1", "category": None}]

    def test_no_transaction(self, path: Path, home: Settings) -> None:
        with pytest.raises(SourceError, match=r"transactions .* is empty.*mlops crm import"):
            span(home, make_crm(path))

    def test_no_readable_time(self, path: Path, home: Settings) -> None:
        url = make_crm(path, [transaction(1, transaction_ts="yesterday"), transaction(2, transaction_ts=None)])
        with pytest.raises(SourceError, match=r"transaction_ts .* holds no readable time in 2 rows"):
            span(home, url)


class TestConnecting:
    def test_a_missing_file_is_not_created(self, path: Path, home: Settings) -> None:
        with pytest.raises(SourceError, match="does not exist"):
            span(home, f"sqlite:///{path}")
        assert not path.exists()

    def test_a_file_that_is_no_database(self, path: Path, home: Settings) -> None:
        path.write_text("customers,transactions\n" * 100)
        with pytest.raises(SourceError, match="not a database"):
            span(home, f"sqlite:///{path}")

    def test_a_server_that_does_not_answer(self, home: Settings) -> None:
        with pytest.raises(SourceError, match="can't be reached") as refused:
            span(home, "postgresql://ana:hunter2@127.0.0.1:1/crm")
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize("url", ["", "crm.db", "mysql://ana:hunter2@host/crm", "http://host/crm"])
    def test_an_address_of_no_supported_database(self, home: Settings, url: str) -> None:
        with pytest.raises(InputError, match="no CRM address") as refused:
            span(home, url)
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize(
        ("url", "expected"),
        [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////a/b.db", "/a/b.db"), ("sqlite:///it's b.db", "it's b.db")],
    )
    def test_three_slashes_are_relative_and_four_absolute(self, url: str, expected: str) -> None:
        assert sqlite_path(url) == expected


class TestText:
    def test_every_type_arrives_as_text(self, path: Path) -> None:
        row = transaction(1, amount=12.5, quantity=3, category="", payment_method="=é\n'\"", customer_id=None)
        (found,) = cells(make_crm(path, [row]), *TRANSACTIONS.columns)
        assert found == {**row, "amount": "12.5", "quantity": "3", "deleted_at": None}

    def test_a_column_that_begins_with_a_batch_of_nulls(self, path: Path) -> None:
        # The SQLite driver settles a column's type by its first batch of 1024 rows.
        texts = [None] * 1100 + ["books", None, "7"]
        url = make_crm(path, [transaction(n, category=text) for n, text in enumerate(texts)])
        assert [row["category"] for row in cells(url, "category")] == texts

    def test_a_column_of_numbers_that_ends_in_text(self, path: Path) -> None:
        amounts = [1.5] * 1100 + ["ten", 2]
        url = make_crm(path, [transaction(n, amount=amount) for n, amount in enumerate(amounts)])
        assert [row["amount"] for row in cells(url, "amount")] == ["1.5"] * 1100 + ["ten", "2"]

    def test_an_empty_table(self, path: Path) -> None:
        assert cells(make_crm(path), "transaction_id", "amount") == []

    def test_a_view_serves_as_a_table(self, path: Path, home: Settings) -> None:
        url = make_crm(path, lacks=["transactions"], customers=[customer(1)])
        with closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE sale (id, who, at, total, changed)")
            database.execute("INSERT INTO sale VALUES (1, 'c1', '2024-05-01', 3, '2024-05-01')")
            names = "id AS transaction_id, who AS customer_id, at AS transaction_ts, total AS amount"
            database.execute(f"CREATE VIEW transactions AS SELECT {names}, changed AS updated_at FROM sale")
        assert span(home, url).first_day == date(2024, 5, 1)

    @pytest.mark.parametrize(
        ("odd", "read"), [(b"caf\xe9", "caf\ufffd"), (b"\x00\xff", "\x00\ufffd")], ids=["Latin-1", "binary"]
    )
    def test_one_cell_of_odd_bytes_does_not_fail_the_rest(self, path: Path, odd: bytes, read: str) -> None:
        url = make_crm(path, [transaction(1, category=None), transaction(2, category=odd), transaction(3)])
        found = cells(url, "transaction_id", "category")
        assert [(row["transaction_id"], row["category"]) for row in found] == [
            ("t1", None),
            ("t2", read),
            ("t3", "books"),
        ]

    @given(texts=st.lists(st.none() | st.text() | st.binary() | st.integers(-(2**63), 2**63 - 1), max_size=20))
    @settings(
        derandomize=True, max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_any_cell_arrives(self, path: Path, texts: list[str | bytes | int | None]) -> None:
        path.unlink(missing_ok=True)
        texts = [text.encode(errors="replace").decode() if isinstance(text, str) else text for text in texts]
        url = make_crm(path, [transaction(n, category=text) for n, text in enumerate(texts)])
        wanted = [text.decode(errors="replace") if isinstance(text, bytes) else text for text in texts]
        assert [row["category"] for row in cells(url, "category")] == [None if w is None else str(w) for w in wanted]

    def test_since_takes_rows_changed_on_or_after_the_day_and_those_without_a_time(self, path: Path) -> None:
        times = ("2024-02-29 23:59:59", "2024-03-01", "2024-03-01 00:00:00", "2025-01-01", None)
        url = make_crm(path, [transaction(n, updated_at=moment) for n, moment in enumerate(times)])
        found = cells(url, "transaction_id", since=date(2024, 3, 1))
        assert [row["transaction_id"] for row in found] == ["t1", "t2", "t3", "t4"]

    def test_columns_come_in_the_order_asked_for(self, path: Path) -> None:
        url = make_crm(path, [transaction(1)])
        add(url, "transactions", transaction(2))
        assert [list(row) for row in cells(url, "amount", "transaction_id")] == [["amount", "transaction_id"]] * 2
