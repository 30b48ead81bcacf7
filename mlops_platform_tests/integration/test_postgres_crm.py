"""A CRM in a real PostgreSQL: filled, read as text, ingested bit by bit, and the same silver as from SQLite."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mlops_platform.cli import app
from mlops_platform.contracts import QUARANTINE, SILVER_CUSTOMERS, SILVER_TRANSACTIONS, TableContract
from mlops_platform.data_pipeline import DataIngestionPipeline
from mlops_platform.data_pipeline.connections import open_database
from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS, HistorySpan, SourceTable, span
from mlops_platform.data_pipeline.crm_check import check_crm
from mlops_platform.data_pipeline.crm_load import Load, import_files, seed, synthetic_model
from mlops_platform.data_pipeline.extraction import read
from mlops_platform.data_pipeline.extraction_query import parse_query
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.synthetic_model import Dirt, SyntheticModel
from mlops_platform.data_pipeline.transformations import SILVER_TABLES
from mlops_platform.errors import InputError, SourceError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.unit.data_pipeline.crms import transaction

AT = datetime(2024, 7, 2, tzinfo=UTC)
SEED: dict[str, Any] = {"customers": 80, "days": 300, "seed": 3, "until": date(2024, 6, 30)}
COLUMNS = ", ".join(TRANSACTIONS.columns)


class Database:
    """An empty database of one's own."""

    def __init__(self, server: Server, name: str) -> None:
        self.server, self.name = server, name
        self.url = server.url(name)
        server.run(f"CREATE DATABASE {name}")

    def run(self, *statements: str) -> list[Any]:
        return self.server.run(*statements, database=self.name)

    def insert(self, *rows: dict[str, Any]) -> None:
        """Adds transactions, each cell as a text that PostgreSQL reads as the column's type."""
        for row in rows:
            cells = ("NULL" if value is None else "'" + str(value).replace("'", "''") + "'" for value in row.values())
            self.run(f"INSERT INTO transactions ({', '.join(row)}) VALUES ({', '.join(cells)})")

    def cells(self, *columns: str, **options: Any) -> list[dict[str, Any]]:
        """What the platform reads."""
        with open_database(self.url) as database:
            found: list[dict[str, Any]] = read(database, TRANSACTIONS, columns, **options).read_all().to_pylist()
            return found


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> Database:
    number = server.run("SELECT count(*) FROM pg_database")[0][0]
    return Database(server, f"crm_{number}")


@pytest.fixture
def typed(database: Database) -> Database:
    """A CRM with the types a person would choose."""
    database.run(
        "CREATE TABLE customers (customer_id text, name text, updated_at timestamp)",
        "CREATE TABLE transactions (transaction_id bigint, customer_id varchar(20), transaction_ts timestamptz, "
        "amount numeric(18, 3), category text, payment_method char(4), quantity smallint, updated_at timestamp)",
    )
    return database


def sale(number: int, **cells: Any) -> dict[str, Any]:
    return transaction(number, **{"transaction_id": number, "category": None, "payment_method": "card", **cells})


def ingest(lake: Lake, url: str, table: SourceTable = TRANSACTIONS, at: datetime = AT) -> int:
    """Appends what is new to bronze; returns how many rows that were."""
    draft = new_rows(lake, url, table, source="crm", ingested_at=at)
    lake.publish(draft)
    return int(draft.rows.num_rows)


def silver(lake: Lake, url: str, contract: TableContract = SILVER_TRANSACTIONS) -> list[dict[str, Any]]:
    """Ingests both tables, publishes silver, and returns the rows of one table without the batch that brought them."""
    for source, table in zip((CUSTOMERS, TRANSACTIONS), SILVER_TABLES, strict=True):
        ingest(lake, url, source)
        lake.publish(silver_draft(lake, table))
    rows = lake.snapshot(contract).to_arrow(order_by=contract.key or ["reason", "row"])
    return [{name: cell for name, cell in row.items() if name != "_batch_id"} for row in rows.to_pylist()]


class TestSeeding:
    def test_from_the_command_line_and_again(self, database: Database) -> None:
        options = ["--customers", "40", "--days", "200", "--seed", "3", "--until", "2024-06-30"]
        command = ["crm", "seed", "--into", database.url, *options]
        first, again = CliRunner().invoke(app, command), CliRunner().invoke(app, command)
        assert (first.exit_code, again.exit_code) == (0, 0), first.output
        ((customers,),) = database.run("SELECT count(*) FROM customers")
        ((rows,),) = database.run("SELECT count(*) FROM transactions")
        assert customers == 40 < rows
        assert f"loaded 40 customers and {rows:,} transactions in {database.url}" in first.output
        assert f"already there, nothing loaded: 40 customers and {rows:,} transactions" in again.output

    def test_the_model_is_kept_beside_the_rows(self, database: Database) -> None:
        seed(database.url, **SEED)
        assert synthetic_model(database.url) == SyntheticModel()

    def test_other_data_is_not_added_to(self, database: Database) -> None:
        first = seed(database.url, **SEED)
        with pytest.raises(SourceError, match="already holds other data"):
            seed(database.url, **{**SEED, "seed": 4})
        assert database.run("SELECT count(*) FROM transactions") == [(first.transactions,)]

    def test_a_user_without_rights_is_told_so(self, database: Database) -> None:
        database.run("CREATE ROLE reader LOGIN")
        with pytest.raises(SourceError, match=r"(?s)can't be written: .*permission denied.*rights"):
            seed(database.server.url(database.name, user="reader"), **SEED)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Parquet files as another system would write them: decimals, times, nulls, no `updated_at`."""
    folder = tmp_path / "files"
    folder.mkdir()
    moments = [datetime(2024, 1, 31, 23, 30, 0, 123456), datetime(2024, 3, 1), None]  # noqa: DTZ001 - naive, as files are
    rows = {
        "transaction_id": ["t1", "t2", "t3"],
        "customer_id": pa.array([1, 2, 2]),
        "transaction_ts": pa.array(moments, pa.timestamp("us")),
        "amount": pa.array([Decimal("10.50"), Decimal("-3.00"), None], pa.decimal128(9, 2)),
        "category": ["livros", "é\n'\"\\,\t", None],
        "quantity": pa.array([1, 2, None], pa.int32()),
    }
    pq.write_table(pa.table(rows), folder / "transactions.parquet")
    pq.write_table(pa.table({"customer_id": pa.array([1, 2]), "name": ["Ana", None]}), folder / "customers.parquet")
    return folder


class TestImporting:
    def test_every_row_arrives_and_again_adds_none(self, database: Database, files: Path) -> None:
        assert import_files(files, database.url) == Load(2, 3, is_new=True)
        assert import_files(files, database.url) == Load(2, 3, is_new=False)
        columns = ("transaction_id", "customer_id", "transaction_ts", "amount", "category", "quantity", "updated_at")
        moment = "2024-01-31 23:30:00.123456"
        assert [tuple(row[c] for c in columns) for row in database.cells(*columns)] == [
            ("t1", "1", moment, "10.50", "livros", "1", moment),
            ("t2", "2", "2024-03-01 00:00:00", "-3.00", "é\n'\"\\,\t", "2", "2024-03-01 00:00:00"),
            ("t3", "2", None, None, None, None, None),
        ]
        assert database.run("SELECT customer_id, name, signup_date FROM customers ORDER BY 1") == [
            ("1", "Ana", "2024-01-31"),
            ("2", None, "2024-03-01"),
        ]

    def test_it_is_what_sqlite_holds(self, database: Database, files: Path, tmp_path: Path, home: Settings) -> None:
        other = f"sqlite:///{tmp_path / 'crm.db'}"
        assert import_files(files, other) == import_files(files, database.url)
        with open_database(other) as crm:
            expected = read(crm, TRANSACTIONS).read_all().to_pylist()
        assert database.cells() == expected
        assert span(home, other) == span(home, database.url)

    def test_a_second_set_of_files_is_added(self, database: Database, files: Path) -> None:
        import_files(files, database.url)
        more = pa.table({"customer_id": pa.array([3]), "name": ["Rui"]})
        pq.write_table(more, files / "customers.parquet")
        assert import_files(files, database.url).is_new
        assert database.run("SELECT count(*) FROM customers") == [(3,)]

    def test_when_one_table_fails_neither_is_written(self, database: Database, files: Path) -> None:
        database.run("CREATE TABLE transactions (transaction_id text, somebody_elses integer)")
        with pytest.raises(SourceError, match="can't be written"):
            import_files(files, database.url)
        assert database.run("SELECT to_regclass('customers')::text, to_regclass('mlops_loads')::text") == [(None, None)]
        assert database.run("SELECT count(*) FROM transactions") == [(0,)]

    def test_a_file_that_lacks_a_column_writes_nothing(self, database: Database, files: Path) -> None:
        pq.write_table(pa.table({"transaction_id": ["t1"]}), files / "transactions.parquet")
        with pytest.raises(InputError, match=r"lacks the column\(s\) customer_id, transaction_ts, amount"):
            import_files(files, database.url)
        assert database.run("SELECT to_regclass('customers')::text") == [(None,)]


class TestReading:
    def test_every_type_arrives_as_text(self, typed: Database) -> None:
        rows = [
            sale(1, transaction_ts="2024-03-01 10:00:00.5-03", amount="12.005", quantity=3, category="é\n'\""),
            sale(2, amount="NaN", transaction_ts="infinity", customer_id=None, category=""),
            sale(3, amount="-0.10", transaction_ts=None, updated_at=None, payment_method="pix"),
        ]
        typed.insert(*rows)
        first, second, third = typed.cells()
        assert first == {
            "transaction_id": "1",
            "customer_id": "c1",
            "transaction_ts": "2024-03-01 13:00:00.5+00",
            "amount": "12.005",
            "category": "é\n'\"",
            "payment_method": "card",
            "quantity": "3",
            "updated_at": "2024-03-01 10:00:00",
            "deleted_at": None,
        }
        assert (second["amount"], second["transaction_ts"], second["customer_id"]) == ("NaN", "infinity", None)
        assert second["category"] == ""
        assert (third["amount"], third["transaction_ts"], third["updated_at"]) == ("-0.100", None, None)

    def test_the_databases_own_zone_and_date_style_do_not_matter(self, typed: Database) -> None:
        typed.insert(sale(1, transaction_ts="2024-03-01 10:00:00-03"))
        before = typed.cells()
        typed.run(
            f"ALTER DATABASE {typed.name} SET timezone = 'Asia/Kolkata'",
            f"ALTER DATABASE {typed.name} SET datestyle = 'German'",
            f"ALTER DATABASE {typed.name} SET intervalstyle = 'iso_8601'",
            f"ALTER DATABASE {typed.name} SET extra_float_digits = -3",
        )
        assert typed.run("SELECT '2024-03-01 10:00'::timestamp::text")[0][0].startswith("01.03.2024")
        assert typed.cells() == before

    def test_more_rows_than_a_batch(self, database: Database) -> None:
        database.run(
            "CREATE TABLE transactions AS SELECT n AS transaction_id, 'c' || n % 7 AS customer_id, "
            "timestamp '2024-01-01' + n * interval '1 second' AS transaction_ts, n / 100.0 AS amount, "
            "CASE WHEN n > 150000 THEN 'late' END AS category, timestamp '2024-01-01' AS updated_at "
            "FROM generate_series(1, 200000) n"
        )
        found = database.cells("transaction_id", "category", "quantity")
        assert len({row["transaction_id"] for row in found}) == len(found) == 200_000
        assert sum(row["category"] == "late" for row in found) == 50_000
        assert {row["quantity"] for row in found} == {None}

    @pytest.mark.parametrize("kind", ["timestamp", "timestamptz", "date", "text"])
    def test_since_takes_rows_changed_on_or_after_the_day(self, typed: Database, kind: str) -> None:
        typed.run(f"ALTER TABLE transactions ALTER updated_at TYPE {kind} USING updated_at::{kind}")
        times = ["2024-02-29 23:59:59", "2024-03-01 00:00:00", "2025-01-01 12:00:00", None]
        typed.insert(*(sale(n, updated_at=moment) for n, moment in enumerate(times)))
        found = typed.cells("transaction_id", since=date(2024, 3, 1))
        assert [int(row["transaction_id"]) for row in found] == [1, 2, 3]

    def test_a_reader_needs_no_other_right(self, typed: Database) -> None:
        typed.insert(sale(1))
        typed.run("CREATE ROLE analyst LOGIN", "GRANT SELECT ON customers, transactions TO analyst")
        url = typed.server.url(typed.name, user="analyst")
        with open_database(url) as database:
            assert read(database, TRANSACTIONS, ("amount",)).read_all().to_pylist() == [{"amount": "10.000"}]

    def test_a_view_serves_as_a_table(self, database: Database, home: Settings) -> None:
        database.run(
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.sale (id int, who text, at timestamp, total numeric, changed timestamp)",
            "INSERT INTO shop.sale VALUES (1, 'c1', '2024-05-01', 3, '2024-05-01')",
            "CREATE VIEW transactions AS SELECT id AS transaction_id, who AS customer_id, at AS transaction_ts, "
            "total AS amount, changed AS updated_at FROM shop.sale",
            "CREATE VIEW customers AS SELECT DISTINCT who AS customer_id, changed AS updated_at FROM shop.sale",
        )
        assert span(home, database.url) == HistorySpan(date(2024, 5, 1), date(2024, 5, 1), 1)

    def test_nothing_can_be_written_while_reading(self, typed: Database) -> None:
        typed.run(
            "CREATE FUNCTION drop_it() RETURNS text LANGUAGE sql AS 'DELETE FROM transactions RETURNING category'"
        )
        typed.run("CREATE VIEW sly AS SELECT *, drop_it() AS note FROM transactions")
        typed.insert(sale(1))
        sly = replace(TRANSACTIONS, crm_name="sly", renamed={"category": "note"})
        with (
            open_database(typed.url) as database,
            pytest.raises(SourceError, match="cannot execute DELETE in a read-only transaction"),
        ):
            read(database, sly).read_all()
        assert typed.run("SELECT count(*) FROM transactions") == [(1,)]

    def test_all_is_read_from_one_state_of_the_database(self, typed: Database) -> None:
        typed.insert(sale(1))
        with open_database(typed.url) as database:
            assert read(database, TRANSACTIONS, ("amount",)).read_all().num_rows == 1
            typed.insert(sale(2))
            assert read(database, TRANSACTIONS, ("amount",)).read_all().num_rows == 1

    def test_a_query_is_read_with_its_parameters_bound(self, typed: Database) -> None:
        typed.insert(*(sale(n, updated_at=f"2024-0{n}-01 10:00:00") for n in range(3, 7)))
        day, moment = date(2024, 5, 1), datetime(2024, 6, 1, 12, tzinfo=UTC)
        for condition, wanted in {
            "updated_at >= CURRENT_DATE": ["5", "6"],
            "updated_at >= CURRENT_DATE - interval '1 month'": ["4", "5", "6"],
            "updated_at >= CURRENT_DATE AND updated_at < now()": ["5", "6"],
            "date_trunc('month', updated_at) = CURRENT_DATE AND category IS NULL": ["5"],
        }.items():
            text = f"SELECT * FROM transactions WHERE {condition} ORDER BY updated_at"
            query = parse_query(text, (TRANSACTIONS,), typed.url, day=day, moment=moment)
            found = typed.cells("transaction_id", query=query.statement)
            assert [row["transaction_id"] for row in found] == wanted, condition

    def test_a_query_the_database_refuses(self, typed: Database) -> None:
        query = parse_query("SELECT *, nothing FROM transactions", (TRANSACTIONS,), typed.url, day=AT.date(), moment=AT)
        with pytest.raises(InputError, match=r'refuses the extraction_query: .*"nothing" does not exist'):
            typed.cells("transaction_id", query=query.statement)

    def test_the_way_through_sqlalchemy_finds_the_same_cells(self, typed: Database) -> None:
        typed.insert(sale(1, transaction_ts="2024-03-01 10:00:00.5-03", amount="12.005"), sale(2, transaction_ts=None))
        other = typed.url.replace("postgresql:", "postgresql+psycopg2:")
        with open_database(other) as database:
            found = read(database, TRANSACTIONS, since=date(2024, 1, 1)).read_all().to_pylist()
        names = [name for name in TRANSACTIONS.columns if name != "transaction_ts"]
        assert [[row[n] for n in names] for row in found] == [[row[n] for n in names] for row in typed.cells()]


class TestChecking:
    def test_tables_in_a_schema_are_found_and_guessed(self, database: Database, home: Settings) -> None:
        database.run(
            "CREATE SCHEMA shop",
            "CREATE TABLE shop.customer (customer_no int, name text, updated timestamp)",
            "CREATE TABLE transactions (transaction_id int, customer_id int, transaction_ts timestamp, amount numeric, "
            "updated_at timestamptz)",
            "INSERT INTO transactions VALUES (1, 1, '2024-03-01', 5, '2024-03-01 10:00:00-03')",
        )
        url = database.url.replace("postgres@", "postgres:hunter2@")
        found = check_crm(home, url)
        assert [table.is_ok for table in found.tables] == [False, True]
        assert found.tables[1].newest == "2024-03-01 13:00:00+00"
        assert 'name = "shop.customer"\n' in found.mapping
        assert 'customer_id = "customer_no"\nupdated_at = "updated"' in found.mapping
        assert "hunter2" not in found.mapping + found.url


class TestSpan:
    def test_days_are_those_of_the_business_time_zone(self, typed: Database, tmp_path: Path) -> None:
        typed.insert(sale(1, transaction_ts="2024-03-01 01:30:00Z"), sale(2, transaction_ts="2024-03-05 12:00:00Z"))
        days = [
            span(load_settings(home=tmp_path, timezone=zone), typed.url).first_day.day
            for zone in ("UTC", "America/Sao_Paulo")
        ]
        assert days == [1, 29]

    @pytest.mark.parametrize("table", ["customers", "transactions"])
    def test_a_missing_table_is_named(self, typed: Database, home: Settings, table: str) -> None:
        typed.run(f"DROP TABLE {table}")
        with pytest.raises(
            SourceError, match=rf"(?s)table {table} is missing in the CRM postgresql://.*Next: create it"
        ):
            span(home, typed.url)

    @pytest.mark.parametrize("column", ["transactions.amount", "customers.updated_at"])
    def test_a_missing_column_is_named(self, typed: Database, home: Settings, column: str) -> None:
        table, name = column.split(".")
        typed.run(f"ALTER TABLE {table} DROP COLUMN {name}")
        with pytest.raises(SourceError, match=rf"table {table} in the CRM .* lacks the column\(s\) {name}\."):
            span(home, typed.url)

    def test_no_transaction(self, typed: Database, home: Settings) -> None:
        with pytest.raises(SourceError, match=r"transactions .* is empty.*mlops crm import"):
            span(home, typed.url)

    @pytest.mark.parametrize(("part", "value"), [("database", "nowhere"), ("user", "stranger")])
    def test_a_database_or_user_that_is_not_there(self, server: Server, home: Settings, part: str, value: str) -> None:
        with pytest.raises(SourceError, match=rf"can't be reached: .*\"{value}\" does not exist"):
            span(home, server.url(**{part: value}))

    def test_a_table_one_may_not_read_is_not_called_missing_without_the_reason(
        self, typed: Database, home: Settings
    ) -> None:
        typed.run("CREATE ROLE outsider LOGIN")
        with pytest.raises(SourceError, match="permission denied"):
            span(home, typed.server.url(typed.name, user="outsider"))


class TestIngesting:
    def test_only_new_and_changed_rows_are_added(self, typed: Database, lake: Lake) -> None:
        typed.insert(sale(1), sale(2), sale(2))
        assert ingest(lake, typed.url) == 3
        assert ingest(lake, typed.url, at=AT + timedelta(days=1)) == 0
        typed.insert(sale(3, updated_at="2024-04-01 08:00:00"))
        typed.run("UPDATE transactions SET amount = 11, updated_at = '2024-04-01 09:00:00' WHERE transaction_id = 1")
        assert ingest(lake, typed.url, at=AT + timedelta(days=2)) == 2
        assert ingest(lake, typed.url, at=AT + timedelta(days=3)) == 0
        bronze = lake.snapshot(TRANSACTIONS.bronze).to_arrow(order_by=["transaction_id", "updated_at"])
        found = [(row["transaction_id"], row["amount"]) for row in bronze.to_pylist()]
        assert found == [("1", "10.000"), ("1", "11.000"), ("2", "10.000"), ("2", "10.000"), ("3", "10.000")]

    def test_the_documented_call(self, typed: Database, tmp_path: Path) -> None:
        typed.run("INSERT INTO customers VALUES ('c1', 'Ana', '2024-07-02 00:00'), ('c2', 'Bia', '2024-07-01 23:59')")
        home = load_settings(home=tmp_path / "home", crm_url=typed.url)
        pipeline = DataIngestionPipeline(source="crm_database", destination="s3://bucket/bronze/crm/", settings=home)
        query = "SELECT * FROM customers WHERE updated_at >= CURRENT_DATE"
        found = pipeline.run(extraction_query=query, partition_by="date", as_of=AT)
        assert found["bronze.crm_customers"]["new"] == 1
        assert {name: done["new"] for name, done in pipeline.run(as_of=AT).items()} == {
            "bronze.crm_customers": 1,
            "bronze.crm_transactions": 0,
        }

    def test_deleted_rows_get_a_tombstone_and_come_back(self, typed: Database, lake: Lake) -> None:
        typed.insert(sale(1, updated_at="2020-01-01"), sale(2))
        assert ingest(lake, typed.url) == 2
        typed.run("DELETE FROM transactions WHERE transaction_id = 1")
        assert ingest(lake, typed.url, at=AT + timedelta(days=1)) == 1
        (dead,) = (row for row in lake.snapshot(TRANSACTIONS.bronze).to_arrow().to_pylist() if row["_is_tombstone"])
        assert (dead["transaction_id"], dead["updated_at"]) == ("1", None)
        typed.insert(sale(1, updated_at="2020-01-01"))
        assert [ingest(lake, typed.url, at=AT + timedelta(days=n)) for n in (2, 3)] == [1, 0]

    def test_typed_columns_become_silver(self, typed: Database, tmp_path: Path) -> None:
        lake = Lake(load_settings(home=tmp_path / "home", timezone="America/Sao_Paulo", max_rejected_share=0.9))
        typed.insert(
            sale(1, transaction_ts="2024-03-01 01:30:00Z", amount="12.005", quantity=3),
            sale(2, transaction_ts="infinity"),
            sale(3, amount="NaN"),
            sale(4, amount=None),
        )
        typed.run("INSERT INTO customers VALUES ('c1', 'Ana', '2024-01-01')")
        (row,) = silver(lake, typed.url)
        assert row["transaction_ts"] == datetime(2024, 3, 1, 1, 30, tzinfo=UTC)
        assert (row["transaction_date"], row["transaction_hour"]) == (date(2024, 2, 29), 22)
        assert (row["amount"], row["quantity"], row["payment_method"]) == (Decimal("12.00"), 3, "card")
        # A naive time is local business time.
        assert row["updated_at"] == datetime(2024, 3, 1, 13, tzinfo=UTC)
        assert lake.snapshot(QUARANTINE).count() == 3

    @pytest.mark.parametrize("timezone", ["UTC", "America/Sao_Paulo"])
    def test_silver_is_that_of_the_same_data_in_sqlite(self, database: Database, tmp_path: Path, timezone: str) -> None:
        urls = {"postgres": database.url, "sqlite": f"sqlite:///{tmp_path / 'crm.db'}"}
        lakes = {name: Lake(load_settings(home=tmp_path / name, timezone=timezone)) for name in urls}
        for name, url in urls.items():
            seed(url, **SEED, model=SyntheticModel(dirt=Dirt(orphaned=0.03)))
            assert len(silver(lakes[name], url)) > 200
        for contract in (SILVER_TRANSACTIONS, SILVER_CUSTOMERS, QUARANTINE):
            stored = [contents(lakes[name], contract) for name in urls]
            assert stored[0] == stored[1]
            assert stored[0]


def contents(lake: Lake, contract: TableContract) -> list[dict[str, Any]]:
    """A table's rows but for the batch that brought them; a quarantined row by its id: times are spelled apart."""
    rows = lake.snapshot(contract).to_arrow().drop_columns(["_batch_id"]).to_pylist()
    if contract is QUARANTINE:
        rows = [{**row, "row": json.loads(row["row"])["transaction_id"]} for row in rows]
    return sorted(rows, key=str)
