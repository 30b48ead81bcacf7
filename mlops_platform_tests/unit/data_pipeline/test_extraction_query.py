"""Extraction queries: what may be asked, what is refused, and what the CRM is asked in its place."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlops_platform.data_pipeline.connections import open_database
from mlops_platform.data_pipeline.crm import SOURCE_TABLES, TRANSACTIONS, SourceTable
from mlops_platform.data_pipeline.extraction import read
from mlops_platform.data_pipeline.extraction_query import ExtractionQuery, parse_query
from mlops_platform.errors import InputError, SourceError
from mlops_platform_tests.unit.data_pipeline.crms import make_crm, transaction

SQLITE, POSTGRES = "sqlite:///crm.db", "postgresql://host/crm"
DAY = date(2024, 5, 1)
MOMENT = datetime(2024, 5, 1, 6, tzinfo=ZoneInfo("America/Sao_Paulo"))
MAPPED = SourceTable("customers", SOURCE_TABLES[0].bronze, ("customer_id",), "erp.kunden", {"customer_id": "kunden_nr"})


def parse(text: str, url: str = SQLITE, tables: tuple[SourceTable, ...] = SOURCE_TABLES) -> ExtractionQuery:
    return parse_query(text, tables, url, day=DAY, moment=MOMENT)


class TestParsing:
    def test_the_documented_query(self) -> None:
        query = parse("SELECT * FROM customers WHERE updated_at >= CURRENT_DATE")
        assert query.table is SOURCE_TABLES[0]
        assert query.statement.sql == 'SELECT * FROM "customers" AS customers WHERE updated_at >= ?1'
        assert query.statement.parameters == (DAY,)

    def test_on_postgresql_the_day_is_a_date_bound_to_the_session(self) -> None:
        query = parse("SELECT * FROM customers WHERE updated_at >= CURRENT_DATE", POSTGRES)
        assert query.statement.sql.endswith("updated_at >= CAST(current_setting('mlops.p1') AS DATE)")

    @pytest.mark.parametrize("word", ["CURRENT_TIMESTAMP", "now()", "datetime('now', '-1 day')", "date('NOW')"])
    def test_no_clock_of_the_database_is_left(self, word: str) -> None:
        statement = parse(f"SELECT * FROM transactions WHERE updated_at > {word}").statement
        assert statement.parameters == (MOMENT,)
        assert "now" not in statement.sql.lower()

    @pytest.mark.parametrize("name", ["kunden", "erp.kunden", "customers", "ERP.Kunden"])
    def test_a_table_by_our_name_or_the_crms(self, name: str) -> None:
        tables = (MAPPED if "." in name or name == "customers" else SourceTable(**_fields(MAPPED, crm_name="kunden")),)
        assert parse(f"SELECT * FROM {name} WHERE customer_id > 'a'", tables=tables).table.name == "customers"

    def test_columns_by_our_name_become_the_crms(self) -> None:
        sql = parse("SELECT customer_id FROM customers c WHERE c.customer_id > 'a'", tables=(MAPPED,)).statement.sql
        assert sql == """SELECT "kunden_nr" FROM "erp"."kunden" AS c WHERE c."kunden_nr" > 'a'"""

    @pytest.mark.parametrize(
        "text",
        [
            "SELECT lower(city) AS city, count(*) FROM customers GROUP BY 1 HAVING count(*) > 1 ORDER BY 2 LIMIT 5",
            "SELECT * FROM customers WHERE city LIKE 'A%' AND NOT (state IN ('SP', 'RJ') OR coalesce(email, '') = '')",
            "SELECT CASE WHEN country = 'BR' THEN 1 ELSE 0 END AS x, CAST(customer_id AS TEXT) FROM customers",
            "SELECT substr(name, 1, 3), trim(name) || 'x', round(1.5) FROM customers -- why not",
        ],
    )
    def test_plain_queries_pass(self, text: str) -> None:
        for url in (SQLITE, POSTGRES, "sqlite+pysqlite:///crm.db"):
            assert parse(text, url).table is SOURCE_TABLES[0]


def _fields(table: SourceTable, **changes: Any) -> dict[str, Any]:
    return {name: getattr(table, name) for name in ("name", "bronze", "required", "crm_name", "renamed")} | changes


class TestRefusing:
    @pytest.mark.parametrize("url", [SQLITE, POSTGRES, "sqlite+pysqlite:///crm.db"])
    @pytest.mark.parametrize(
        "text",
        [
            "",
            "SELEC",
            "SELECT 'a",
            "SELECT 1",
            "DELETE FROM customers",
            "UPDATE customers SET name = 'x'",
            "DROP TABLE customers",
            "SELECT * FROM customers; DROP TABLE customers",
            "SELECT * INTO copy FROM customers",
            "SELECT * FROM customers, transactions",
            "SELECT * FROM customers JOIN transactions USING (customer_id)",
            "SELECT * FROM customers UNION ALL SELECT * FROM customers",
            "WITH c AS (SELECT * FROM customers) SELECT * FROM c",
            "SELECT * FROM (SELECT * FROM customers) c",
            "SELECT (SELECT 1) FROM customers",
            "SELECT * FROM customers WHERE EXISTS (SELECT 1 FROM secrets)",
            "SELECT * FROM secrets",
            "SELECT * FROM public.customers",
            "SELECT * FROM customers FOR UPDATE",
            "SELECT * FROM customers TABLESAMPLE SYSTEM (1)",
            "SELECT * FROM customers WHERE customer_id = ?",
            "SELECT * FROM customers WHERE customer_id = $1",
            "SELECT * FROM customers WHERE customer_id = :name",
            "SELECT pg_read_file('/etc/passwd') FROM customers",
            "SELECT pg_catalog.pg_read_file('/etc/passwd') FROM customers",
            "SELECT lo_import('/etc/passwd') FROM customers",
            "SELECT * FROM customers WHERE dblink('host=x', 'DROP TABLE y') IS NOT NULL",
            "SELECT load_extension('x.so') FROM customers",
            "SELECT readfile('/etc/passwd') FROM customers",
            "SELECT writefile('x', name) FROM customers",
            "SELECT pg_sleep(1000) FROM customers",
            "SELECT sleep(1000) FROM customers",
            "SELECT query_to_xml('SELECT 1', true, true, '') FROM customers",
            "SELECT set_config('x', 'y', false) FROM customers",
            "SELECT version() FROM customers",
            "SELECT repeat('a', 1000000000) FROM customers",
            "SELECT randomblob(1000000000) FROM customers",
            "SELECT * FROM generate_series(1, 1000000000)",
            "SELECT * FROM pg_ls_dir('/')",
            "SELECT current_user FROM customers",
            "SELECT current_time FROM customers",
        ],
    )
    def test_anything_else(self, url: str, text: str) -> None:
        with pytest.raises(InputError, match="the extraction_query"):
            parse(text, url)

    def test_the_tables_are_listed(self) -> None:
        with pytest.raises(InputError, match=r"one of customers, transactions"):
            parse("SELECT * FROM kunden")


class TestReading:
    @pytest.fixture(params=["sqlite", "sqlite+pysqlite"])
    def url(self, request: pytest.FixtureRequest, tmp_path: Path) -> str:
        rows = [transaction(n, updated_at=f"2024-0{n}-01 10:00:00") for n in range(3, 7)]
        return make_crm(tmp_path / "crm.db", rows).replace("sqlite:", f"{request.param}:")

    def rows(self, url: str, text: str) -> list[dict[str, Any]]:
        query = parse(text, url)
        with open_database(url) as database:
            found: list[dict[str, Any]] = read(database, TRANSACTIONS, query=query.statement).read_all().to_pylist()
            return found

    def test_rows_changed_today_or_later(self, url: str) -> None:
        found = self.rows(url, "SELECT * FROM transactions WHERE updated_at >= CURRENT_DATE ORDER BY updated_at")
        assert [row["transaction_id"] for row in found] == ["t5", "t6"]
        assert found[0] == {**transaction(5, updated_at="2024-05-01 10:00:00"), "deleted_at": None}

    def test_the_local_moment(self, url: str) -> None:
        found = self.rows(url, "SELECT * FROM transactions WHERE updated_at >= now() AND category <> ':mlops now'")
        assert [row["transaction_id"] for row in found] == ["t5", "t6"]

    def test_columns_left_out_are_null(self, url: str) -> None:
        names = "transaction_id, customer_id, transaction_ts, 2 * amount AS amount, updated_at"
        (row,) = self.rows(url, f"SELECT {names} FROM transactions WHERE transaction_id = 't3'")
        assert (row["amount"], row["category"], row["quantity"]) == ("20.0", None, None)

    def test_a_required_column_left_out(self, url: str) -> None:
        with pytest.raises(SourceError, match=r"extraction_query lacks the column\(s\) transaction_ts, amount"):
            self.rows(url, "SELECT transaction_id, customer_id, updated_at FROM transactions")

    def test_the_databases_own_refusal(self, url: str) -> None:
        with pytest.raises(InputError, match=r"refuses the extraction_query: .*nothing"):
            self.rows(url, "SELECT *, nothing FROM transactions")
