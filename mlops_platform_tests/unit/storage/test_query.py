"""Users' SQL: what is a question, what is not, and that the answers are those of Athena's dialect.

Does not belong here: how rows are printed (`integration/test_cli.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import SILVER_CUSTOMERS, SILVER_TRANSACTIONS, all_contracts
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError, QueryError
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import all_time
from mlops_platform.storage.duck import session
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.query import confine, query, write
from mlops_platform.storage.query_sql import parse
from mlops_platform.storage.read import register

LINEAGE = {"_batch_id": "b", "_source": "crm"}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Two customers and four transactions in a time zone three hours behind UTC."""
    lake = Lake(load_settings(home=tmp_path_factory.mktemp("query") / "home", timezone="America/Sao_Paulo"))
    customers = [{"customer_id": name, "country": land, **LINEAGE} for name, land in (("ana", "BR"), ("bo", "PT"))]
    transactions = [
        {
            "transaction_id": f"t{n}",
            "customer_id": name,
            "transaction_ts": datetime(2024, 1, n, 1, tzinfo=UTC),
            "transaction_date": date(2024, 1, n),
            "transaction_hour": 22,
            "amount": Decimal(amount),
            "quantity": n,
            **LINEAGE,
        }
        for n, name, amount in ((1, "ana", "1.10"), (2, "ana", "2.20"), (3, "bo", "3.30"), (4, "bo", "-4.40"))
    ]
    for contract, rows in ((SILVER_CUSTOMERS, customers), (SILVER_TRANSACTIONS, transactions)):
        scope = all_time(contract.range_column) if contract.range_column else ()
        lake.publish(Draft(contract, pa.Table.from_pylist(rows, schema=arrow_schema(contract)), scope=scope))
    return lake


def ask(lake: Lake, sql: str) -> list[tuple[Any, ...]]:
    with query(lake, sql) as reader:
        return [tuple(row.values()) for row in reader.read_all().to_pylist()]


class TestAnswers:
    @pytest.mark.parametrize(
        ("sql", "rows"),
        [
            ("SELECT 1", [(1,)]),
            ("SELECT count(*) FROM silver.transactions;", [(4,)]),
            ('SELECT count(*) FROM "silver"."transactions"', [(4,)]),
            ("SELECT silver.transactions.amount FROM silver.transactions ORDER BY 1 LIMIT 1", [(Decimal("-4.40"),)]),
            ("SELECT transactions.amount FROM silver.transactions ORDER BY 1 LIMIT 1", [(Decimal("-4.40"),)]),
            ("SELECT t.amount FROM silver.transactions t WHERE t.transaction_id = 't1'", [(Decimal("1.10"),)]),
            ("SELECT sum(amount) FROM silver.transactions AS x", [(Decimal("2.20"),)]),
            (
                "SELECT c.country, sum(t.quantity) FROM silver.transactions t "
                "JOIN silver.customers c ON t.customer_id = c.customer_id GROUP BY c.country ORDER BY 1",
                [("BR", 3), ("PT", 7)],
            ),
            (
                "WITH spent AS (SELECT customer_id, sum(amount) AS money FROM silver.transactions GROUP BY 1), "
                "rich AS (SELECT * FROM spent WHERE money > 0) SELECT customer_id FROM rich",
                [("ana",)],
            ),
            (
                "SELECT a.transaction_id FROM silver.transactions a JOIN silver.transactions b "
                "ON a.quantity = b.quantity + 3",
                [("t4",)],
            ),
            (
                "SELECT transaction_id FROM silver.transactions "
                "WHERE amount > (SELECT avg(amount) FROM silver.transactions) ORDER BY 1",
                [("t1",), ("t2",), ("t3",)],
            ),
            ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1", [(1,), (2,)]),
            ("SELECT x FROM UNNEST(ARRAY[1, 2]) AS t(x)", [(1,), (2,)]),
            ("SELECT count(*) FROM ml.predictions", [(0,)]),
            ("SELECT count(*) FROM AwsDataCatalog.silver.transactions", [(4,)]),
            ("WITH Spent AS (SELECT 1 AS x) SELECT X FROM SPENT", [(1,)]),
            ("WITH silver AS (SELECT 1 AS x) SELECT count(*) FROM silver, silver.transactions", [(4,)]),
            (
                "WITH a AS (SELECT 1 AS x) SELECT q.x + a.x FROM (WITH a AS (SELECT 2 AS x) SELECT * FROM a) q, a",
                [(3,)],
            ),
            (
                "WITH RECURSIVE r (k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM r WHERE k < 4) SELECT sum(k) FROM r",
                [(10,)],
            ),
            (
                "SELECT c.customer_id, l.n FROM silver.customers c, LATERAL "
                "(SELECT count(*) AS n FROM silver.transactions t WHERE t.customer_id = c.customer_id) l ORDER BY 1",
                [("ana", 2), ("bo", 2)],
            ),
            (
                "SELECT customer_id, x FROM silver.customers "
                "CROSS JOIN UNNEST(split(customer_id, 'n')) AS u(x) ORDER BY 2",
                [("ana", "a"), ("ana", "a"), ("bo", "bo")],
            ),
            (
                "SELECT country FROM silver.customers WHERE EXISTS (SELECT 1 FROM silver.transactions "
                "WHERE silver.transactions.customer_id = silver.customers.customer_id AND amount < 0)",
                [("PT",)],
            ),
            (
                "SELECT customer_id FROM silver.transactions "
                "GROUP BY 1 HAVING sum(quantity) / 2 > 1 AND max(amount) > 3",
                [("bo",)],
            ),
            ("SELECT customer_id FROM silver.customers EXCEPT SELECT customer_id FROM silver.transactions", []),
        ],
    )
    def test_rows(self, tables: Lake, sql: str, rows: list[tuple[Any, ...]]) -> None:
        assert ask(tables, sql) == rows

    @pytest.mark.parametrize(
        ("condition", "rows"),
        [
            ("transaction_date >= '2024-01-03'", 2),
            ("'2024-01-03' <= transaction_date", 2),
            ("transaction_date BETWEEN '2024-01-02' AND '2024-01-03'", 2),
            ("transaction_date NOT BETWEEN '2024-01-02' AND '2024-01-03'", 2),
            ("transaction_date IN ('2024-01-03', DATE '2024-01-04')", 2),
            ("transaction_date <> '2024-01-03'", 3),
            ("transaction_date > '2024-01-03 12:00'", 1),
            ("transaction_date > DATE '2024-01-04' - INTERVAL '2' DAY", 2),
            # The instants are at 22:00 of the day before, local time.
            ("transaction_ts >= '2024-01-02'", 2),
            ("transaction_ts >= DATE '2024-01-02'", 2),
            ("DATE '2024-01-02' > transaction_ts", 2),
            ("transaction_ts = TIMESTAMP '2024-01-02 22:00:00'", 1),
            ("transaction_ts = '2024-01-03 01:00:00 UTC'", 1),
            ("transaction_ts BETWEEN '2024-01-01' AND TIMESTAMP '2024-01-02 22:00:00'", 2),
            ("transaction_ts IN ('2024-01-02 22:00:00', DATE '2024-01-04')", 1),
            ("(SELECT max(transaction_date) FROM silver.transactions) > '2024-01-03' AND quantity = 1", 1),
        ],
    )
    def test_text_takes_the_type_of_what_it_is_compared_with(self, tables: Lake, condition: str, rows: int) -> None:
        assert ask(tables, f"SELECT count(*) FROM silver.transactions WHERE {condition}") == [(rows,)]

    def test_the_order_is_by_output_columns_as_in_athena(self, tables: Lake) -> None:
        sql = "SELECT -quantity AS quantity FROM silver.transactions ORDER BY quantity + 1"
        assert ask(tables, sql) == [(-4,), (-3,), (-2,), (-1,)]

    def test_integers_stay_integers(self, tables: Lake) -> None:
        sql = "SELECT sum(quantity), sum(sum(quantity)) OVER () / 2, count_if(quantity > 1) FROM silver.transactions"
        with query(tables, sql) as reader:
            assert [str(field.type) for field in reader.schema] == ["int64"] * 3

    @pytest.mark.parametrize(
        ("sql", "names"),
        [
            ('SELECT Amount, 1, quantity AS "Big One", count(*) OVER () FROM silver.transactions', None),
            ("SELECT a.amount, b.amount FROM silver.transactions a, silver.transactions b", ["amount", "amount_1"]),
            ("SELECT 1 AS a, 2 AS A, 3 AS a_1", ["a", "A_1", "a_1_1"]),
            ("SELECT * FROM (SELECT a.amount, b.amount FROM silver.transactions a, silver.transactions b)", None),
        ],
    )
    def test_every_output_column_has_a_name_of_its_own(self, tables: Lake, sql: str, names: list[str] | None) -> None:
        defaults = {4: ["amount", "_col1", "Big One", "_col3"], 2: ["amount", "amount_1"]}
        with query(tables, sql) as reader:
            assert reader.schema.names == (names or defaults[len(reader.schema)])

    def test_days_and_hours_are_the_business_time_zones(self, tables: Lake) -> None:
        sql = "SELECT hour(transaction_ts), date(transaction_ts) FROM silver.transactions WHERE transaction_id = 't2'"
        assert ask(tables, sql) == [(22, date(2024, 1, 1))]

    @pytest.mark.parametrize(
        ("sql", "value"),
        [
            ("SELECT day_of_week(DATE '2024-01-07')", 7),
            ("SELECT date_diff('day', DATE '2024-01-01', DATE '2024-01-05')", 4),
            ("SELECT CAST(date_add('day', 3, DATE '2024-01-01') AS DATE)", date(2024, 1, 4)),
            ("SELECT approx_distinct(customer_id) FROM silver.transactions", 2),
            ("SELECT date_format(DATE '2024-01-05', '%Y/%m')", "2024/01"),
            ("SELECT element_at(split('a-b', '-'), 2)", "b"),
            ("SELECT date_add('month', 1, DATE '2024-01-31')", date(2024, 2, 29)),
            ("SELECT DATE '2024-01-31' + INTERVAL '1' DAY", date(2024, 2, 1)),
            ("SELECT bitwise_and(5, 3) * 2", 2),
            ("SELECT mod(7, 4) * 2", 6),
            ("SELECT sum(quantity) FILTER (WHERE quantity > 1) FROM silver.transactions", 9),
        ],
    )
    def test_athenas_functions(self, tables: Lake, sql: str, value: object) -> None:
        assert ask(tables, sql) == [(value,)]

    @pytest.mark.parametrize(
        ("sql", "value"),
        [
            ("SELECT 7 / 2", 3),
            ("SELECT sum(quantity) / count(*) FROM silver.transactions", 2),
            ("SELECT quantity / 2 FROM silver.transactions WHERE quantity = 3", 1),
            ("SELECT -7 / 2", -3),
            ("SELECT 7 / 2 / 2", 1),
            ("SELECT floor(quantity) / 2 FROM silver.transactions WHERE quantity = 3", 1),
            ("SELECT x / 2 FROM (SELECT max(quantity) + 1 AS x FROM silver.transactions)", 2),
            ("SELECT 9007199254740993 / 1", 9007199254740993),
            ("SELECT CAST(7 AS DOUBLE) / 2", 3.5),
            ("SELECT TRY(quantity / 0) FROM silver.transactions WHERE quantity = 3", None),
        ],
    )
    def test_integers_divide_as_in_athena(self, tables: Lake, sql: str, value: object) -> None:
        assert ask(tables, sql) == [(value,)]

    def test_names_are_case_insensitive_as_in_athena(self, tables: Lake) -> None:
        assert ask(tables, "SELECT COUNT(*) FROM Silver.Transactions") == [(4,)]

    def test_the_names_of_all_tables_can_be_asked(self) -> None:
        for name in all_contracts():
            parse(f"SELECT * FROM {name}")


REFUSED: Sequence[tuple[str, str]] = (
    ("", "one SELECT"),
    ("-- nothing", "one SELECT"),
    ("SELECT FROM WHERE", "can't be read"),
    ("SELECT 'open", "can't be read"),
    ("SELECT 1; SELECT 2", "2 statement"),
    ("SELECT 1; DROP TABLE silver.transactions", "2 statement"),
    ("INSERT INTO silver.customers SELECT * FROM silver.customers", "one SELECT"),
    ("UPDATE silver.customers SET country = 'X'", "one SELECT"),
    ("DELETE FROM silver.customers", "one SELECT"),
    ("CREATE TABLE x AS SELECT 1", "one SELECT"),
    ("DROP TABLE silver.customers", "one SELECT"),
    ("WITH x AS (DELETE FROM silver.customers RETURNING *) SELECT * FROM x", "writes"),
    ("COPY (SELECT 1) TO 'x.csv'", "one SELECT"),
    ("ATTACH 'x.db' AS x", "one SELECT"),
    ("SET memory_limit = '1GB'", "one SELECT"),
    ("PRAGMA database_list", "one SELECT"),
    ("SELECT * FROM read_csv('/etc/passwd')", "no table"),
    ("SELECT * FROM read_parquet('/x/*.parquet')", "no table"),
    ("SELECT * FROM (SELECT * FROM read_text('/etc/passwd'))", "no table"),
    ("WITH x AS (SELECT * FROM read_blob('/etc/passwd')) SELECT * FROM x", "no table"),
    ("SELECT (SELECT content FROM read_text('/etc/passwd'))", "no table"),
    ("SELECT * FROM silver.customers WHERE customer_id IN (SELECT file FROM glob('/*'))", "can't be read"),
    ("SELECT * FROM duckdb_settings()", "no table"),
    ("SELECT * FROM '/etc/passwd'", "there is no table"),
    ('SELECT * FROM "x.parquet"', "there is no table"),
    ("SELECT * FROM information_schema.tables", "there is no table"),
    ("SELECT * FROM pg_catalog.pg_tables", "there is no table"),
    ("SELECT * FROM sqlite_master", "there is no table"),
    ("SELECT * FROM silver.transaction", "there is no table"),
    ("SELECT * FROM transactions", "there is no table"),
    ("WITH x AS (SELECT 1) SELECT * FROM silver.x", "there is no table"),
    ("WITH x AS (SELECT * FROM x) SELECT * FROM x", "there is no table x"),
    ("WITH a AS (WITH b AS (SELECT 1) SELECT * FROM b) SELECT * FROM b", "there is no table b"),
    ("SELECT (WITH x AS (SELECT 1) SELECT * FROM x), (SELECT * FROM x)", "there is no table x"),
    ("SELECT * FROM other.silver.customers", "there is no table"),
    ('SELECT * FROM "silver.customers"', "there is no table"),
    ("SELECT * FROM silver.customers, LATERAL read_csv('/etc/passwd') AS x", "no table"),
    ("SELECT * FROM silver.customers LATERAL VIEW explode(glob_all('/*')) x AS y", "no table"),
    ("SELECT * FROM TABLE(read_text('/etc/passwd'))", "no table"),
    ("SELECT * FROM query('SELECT 1')", "no table"),
    ("SELECT 1 UNION ALL SELECT content FROM read_text('/etc/passwd')", "no table"),
    ("SELECT read_text('/etc/passwd')", "reaches outside"),
    ("SELECT getenv('HOME')", "reaches outside"),
    ("SELECT 'HOME'.getenv()", "reaches outside"),
    ("SELECT system.main.getenv('HOME')", "reaches outside"),
    ("SELECT * FROM silver.customers WHERE country = getenv('HOME')", "reaches outside"),
    ("WITH x AS (SELECT current_setting('temp_directory') AS y) SELECT y FROM x", "reaches outside"),
    ("SELECT current_user", "reaches outside"),
    ('SELECT "current_database"()', "reaches outside"),
    ("SELECT version()", "reaches outside"),
    ("SELECT * FROM silver.customers CROSS JOIN UNNEST(ARRAY[getenv('HOME')]) AS t(x)", "reaches outside"),
    ("INSTALL httpfs", "one SELECT"),
    ("LOAD httpfs", "one SELECT"),
    ("EXPORT DATABASE 'x'", "one SELECT|can't be read"),
    ("CALL pragma_version()", "one SELECT|can't be read"),
    ("EXPLAIN SELECT 1", "one SELECT"),
    ("VALUES 1", "one SELECT"),
    ("SELECT 1 INTO x", "writes"),
    ("SELECT COLUMNS('x') FROM silver.customers", "COLUMNS"),
    ("SELECT ?", "complete SELECT"),
    ("SELECT DISTINCT ON (country) customer_id FROM silver.customers", "DISTINCT ON"),
    ("SELECT count(c.*) FROM silver.customers c", "inside an expression"),
    ("SELECT c FROM silver.customers c", "could not be resolved"),
    ("SELECT * FROM silver.customers NATURAL JOIN silver.transactions", "NATURAL"),
    ("SELECT 1 FROM silver.customers a ASOF JOIN silver.transactions b ON a.customer_id >= b.customer_id", "ASOF"),
    ("SELECT 1 FROM silver.customers a ANTI JOIN silver.transactions b ON a.customer_id = b.customer_id", "ANTI"),
    ("SELECT customer_id FROM silver.customers a, silver.transactions b", "exactly one table"),
    (
        "SELECT q.customer_id FROM (SELECT a.*, b.* FROM silver.customers a, silver.transactions b) q",
        "customer_id is ambiguous: q has 2",
    ),
)


class TestRefusals:
    @pytest.mark.parametrize(("sql", "words"), REFUSED)
    def test_what_is_no_question(self, tables: Lake, sql: str, words: str) -> None:
        with pytest.raises(QueryError, match=words):
            ask(tables, sql)

    def test_an_unknown_table_is_told_the_known_ones(self) -> None:
        with pytest.raises(QueryError) as caught:
            parse("SELECT * FROM silver.nope")
        assert all(name in str(caught.value) for name in all_contracts())

    @pytest.mark.parametrize(
        ("sql", "words"),
        [
            ("SELECT nope FROM silver.transactions", "nope"),
            ("SELECT t.nope FROM silver.transactions t", "nope"),
            ("SELECT nope(amount) FROM silver.transactions", "nope"),
            ("SELECT CAST(customer_id AS INTEGER) FROM silver.transactions", "Could not convert"),
            ("SELECT 1 / 0", "Division by zero"),
            ("SELECT count(*) FROM silver.transactions WHERE transaction_date > 'soon'", "invalid date"),
        ],
    )
    def test_what_duckdb_refuses(self, tables: Lake, sql: str, words: str) -> None:
        with pytest.raises(QueryError, match=words) as caught:
            ask(tables, sql)
        assert caught.value.hint
        assert "LINE 1" not in str(caught.value)

    def test_a_name_from_a_cte_reaches_no_table_of_duckdbs(self, tables: Lake) -> None:
        # `duckdb_tables` is allowed as the name of a CTE; outside of it, it must not become the view of that name.
        with pytest.raises(QueryError, match="there is no table duckdb_tables"):
            ask(tables, "SELECT o.* FROM (WITH duckdb_tables AS (SELECT 1) SELECT 1) x, duckdb_tables o")

    def test_every_function_that_duckdb_counts_as_volatile_is_refused(self) -> None:
        with duckdb.connect() as connection:
            listed = connection.execute(
                "SELECT DISTINCT function_name FROM duckdb_functions() WHERE "
                "(function_type = 'scalar' AND stability <> 'CONSISTENT') OR function_name SIMILAR TO '(pg|has)_.*'"
            ).fetchall()
        allowed = {"gen_random_uuid", "get_current_time", "get_current_timestamp", "now", "random", "today", "uuid"}
        allowed |= {"transaction_timestamp", "uuidv4", "uuidv7", "current_date"}
        names = {name for (name,) in listed}
        assert allowed < names
        for name in names - allowed:
            with pytest.raises(QueryError, match="reaches outside"):
                parse(f'SELECT "{name}"()')

    def test_the_connection_itself_is_confined(self, tables: Lake, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [1]}), tmp_path / "secret.parquet")
        outside = pa.table({"x": [1]})
        with session(tables.settings) as connection:
            view = register(connection, tables.snapshot(SILVER_CUSTOMERS))
            confine(connection, tables)
            assert connection.execute(f"SELECT count(*) FROM {view}").fetchall() == [(2,)]
            for sql in (
                f"SELECT * FROM '{tmp_path}/secret.parquet'",
                "SELECT * FROM read_text('/etc/passwd')",
                "SELECT * FROM outside",
                "SET enable_external_access = true",
                "SET python_enable_replacements = true",
                f"COPY (SELECT 1) TO '{tmp_path}/x.csv'",
                f"ATTACH '{tmp_path}/x.db'",
            ):
                with pytest.raises(duckdb.Error):
                    connection.execute(sql)
        assert outside.num_rows == 1

    def test_other_files_are_out_of_reach_even_of_the_connection(self, tables: Lake, tmp_path: Path) -> None:
        secret = tmp_path / "secret.parquet"
        pq.write_table(pa.table({"x": [1]}), secret)
        with pytest.raises(QueryError):
            ask(tables, f'SELECT * FROM "{secret}"')

    def test_a_fault_in_a_late_row_is_a_query_error(self, tables: Lake) -> None:
        late = "CAST(CASE WHEN a.x > 4900 THEN 'x' ELSE '1' END AS INTEGER)"
        sql = f"SELECT {late} FROM UNNEST(SEQUENCE(1, 5000)) AS a(x) CROSS JOIN UNNEST(SEQUENCE(1, 500)) AS b(y)"
        with pytest.raises(QueryError, match="Could not convert"):
            ask(tables, sql)

    def test_tables_are_as_they_were(self, tables: Lake) -> None:
        before = tables.snapshot(SILVER_TRANSACTIONS).snapshot_id
        for sql, _ in REFUSED:
            with pytest.raises(QueryError):
                ask(tables, sql)
        assert tables.snapshot(SILVER_TRANSACTIONS).snapshot_id == before


class TestWriting:
    SQL = "SELECT transaction_id, amount, transaction_ts, transaction_date FROM silver.transactions ORDER BY 1"

    def test_types_survive_in_parquet(self, tables: Lake, tmp_path: Path) -> None:
        with query(tables, self.SQL) as reader:
            assert write(reader, tmp_path / "x.parquet") == 4
        found = pq.read_table(tmp_path / "x.parquet")
        assert [str(field.type) for field in found.schema][:2] == ["string", "decimal128(18, 2)"]
        assert found.column("transaction_ts")[0].as_py() == datetime(2024, 1, 1, 1, tzinfo=UTC)
        assert found.column("transaction_date")[0].as_py() == date(2024, 1, 1)

    def test_csv_reads_back(self, tables: Lake, tmp_path: Path) -> None:
        with query(tables, self.SQL) as reader:
            assert write(reader, tmp_path / "x.csv") == 4
        found = pa_csv.read_csv(tmp_path / "x.csv")
        assert found.column("amount").to_pylist() == [1.1, 2.2, 3.3, -4.4]

    def test_no_rows_are_a_file_with_a_header(self, tables: Lake, tmp_path: Path) -> None:
        with query(tables, "SELECT customer_id FROM ml.predictions") as reader:
            assert write(reader, tmp_path / "x.csv") == 0
        assert (tmp_path / "x.csv").read_text().strip() == '"customer_id"'

    def test_a_file_is_replaced_when_it_is_complete(self, tables: Lake, tmp_path: Path) -> None:
        path = tmp_path / "x.csv"
        path.write_text("old")

        def batches() -> Any:
            yield pa.record_batch({"x": [1]})
            assert path.read_text() == "old"
            raise OSError("the disk is full")

        reader = pa.RecordBatchReader.from_batches(pa.schema([("x", pa.int64())]), batches())
        with pytest.raises(InputError, match="the disk is full"):
            write(reader, path)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("name", ["x.json", "x", "x.csv.gz"])
    def test_only_the_two_formats(self, tables: Lake, tmp_path: Path, name: str) -> None:
        with query(tables, "SELECT 1") as reader, pytest.raises(InputError, match=r"\.parquet or \.csv"):
            write(reader, tmp_path / name)

    @pytest.mark.parametrize(
        ("sql", "name"),
        [
            ("SELECT array_agg(amount) AS a FROM silver.transactions", "x.csv"),
            ("SELECT INTERVAL '1' DAY AS a", "x.parquet"),
        ],
    )
    def test_a_type_the_format_does_not_hold(self, tables: Lake, tmp_path: Path, sql: str, name: str) -> None:
        with query(tables, sql) as reader, pytest.raises((InputError, QueryError)):
            write(reader, tmp_path / name)
        assert list(tmp_path.iterdir()) == []
