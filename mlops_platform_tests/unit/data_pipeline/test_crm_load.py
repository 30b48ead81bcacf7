"""Loading a CRM: import of files with their fallbacks, and the synthetic one."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from mlops_platform.data_pipeline.crm import CUSTOMERS, TRANSACTIONS
from mlops_platform.data_pipeline.crm_load import Load, import_files, seed, synthetic_model
from mlops_platform.data_pipeline.synthetic_model import SyntheticModel
from mlops_platform.errors import InputError, SourceError
from mlops_platform_tests.unit.data_pipeline.crms import make_crm, query, transaction

BOUGHT = [datetime(2024, 1, 2, 3, 4, 5), datetime(2024, 1, 1), datetime(2024, 5, 1)]  # noqa: DTZ001 - naive as in files
SALES = pa.table(
    {
        "transaction_id": ["1", "2", "2"],
        "customer_id": ["a", "a", "b"],
        "transaction_ts": BOUGHT,
        "amount": [1.5, -2, 0],
    }
)
PEOPLE = pa.table({"customer_id": ["a", "b", "never bought"]})


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'crm.db'}"


def folder(parent: Path, customers: Any = PEOPLE, transactions: Any = SALES, suffix: str = "parquet") -> Path:
    """A folder with two files; text is written as it is, None not at all."""
    made = parent / "files"
    made.mkdir()
    for name, content in (("customers", customers), ("transactions", transactions)):
        file = made / f"{name}.{suffix}"
        if isinstance(content, str):
            file.write_text(content, encoding="utf-8")
        elif content is not None and suffix == "csv":
            pyarrow.csv.write_csv(content, file)
        elif content is not None:
            pyarrow.parquet.write_table(content, file)
    return made


class TestImport:
    @pytest.mark.parametrize("suffix", ["parquet", "csv"])
    def test_every_row_is_kept_and_missing_times_filled(self, tmp_path: Path, url: str, suffix: str) -> None:
        assert import_files(folder(tmp_path, suffix=suffix), url) == Load(3, 3, is_new=True)
        assert query(
            url, "SELECT transaction_id, amount, substr(updated_at, 1, 19), category FROM transactions ORDER BY 3"
        ) == [
            ("2", "-2" if suffix == "csv" else "-2.0", "2024-01-01 00:00:00", None),
            ("1", "1.5", "2024-01-02 03:04:05", None),
            ("2", "0" if suffix == "csv" else "0.0", "2024-05-01 00:00:00", None),
        ]
        assert query(url, "SELECT customer_id, signup_date, substr(updated_at, 1, 19) FROM customers ORDER BY 1") == [
            ("a", "2024-01-01", "2024-01-01 00:00:00"),
            ("b", "2024-05-01", "2024-05-01 00:00:00"),
            ("never bought", None, None),
        ]

    def test_both_tables_have_all_of_the_crms_columns(self, tmp_path: Path, url: str) -> None:
        import_files(folder(tmp_path), url)
        for table in (CUSTOMERS, TRANSACTIONS):
            # An empty `deleted_at` would say that nothing was ever deleted.
            expected = [name for name in table.columns if name != "deleted_at"]
            assert [row[1] for row in query(url, f"PRAGMA table_info({table.name})")] == expected

    def test_a_files_own_deleted_at_is_kept(self, tmp_path: Path, url: str) -> None:
        customers = "customer_id,deleted_at\na,2024-02-01\nb,\n"
        import_files(folder(tmp_path, customers, "transaction_id,customer_id,transaction_ts,amount\n", "csv"), url)
        found = query(url, "SELECT customer_id, deleted_at FROM customers ORDER BY 1")
        assert found == [("a", "2024-02-01"), ("b", None)]

    def test_times_that_are_there_stay_and_empty_cells_are_filled(self, tmp_path: Path, url: str) -> None:
        customers = "customer_id,signup_date\na,2020-01-01\nb,\n"
        sales = (
            "transaction_id,customer_id,transaction_ts,amount,updated_at\n1,b,2024-01-01,5,\n2,b,soon,x,2024-02-02\n"
        )
        import_files(folder(tmp_path, customers, sales, "csv"), url)
        assert query(url, "SELECT transaction_ts, amount, updated_at FROM transactions ORDER BY transaction_id") == [
            ("2024-01-01", "5", "2024-01-01"),
            ("soon", "x", "2024-02-02"),
        ]
        assert query(url, "SELECT signup_date FROM customers ORDER BY customer_id") == [
            ("2020-01-01",),
            ("2024-01-01",),
        ]

    def test_the_same_files_twice_add_nothing(self, tmp_path: Path, url: str) -> None:
        files = folder(tmp_path)
        first, again = import_files(files, url), import_files(files, url)
        assert (first.is_new, again.is_new) == (True, False)
        assert query(url, "SELECT count(*) FROM transactions") == [(3,)]

    def test_other_files_are_added(self, tmp_path: Path, url: str) -> None:
        import_files(folder(tmp_path), url)
        (tmp_path / "more").mkdir()
        import_files(folder(tmp_path / "more", transactions=SALES.slice(0, 1)), url)
        assert query(url, "SELECT count(*) FROM transactions") == [(4,)]

    @pytest.mark.parametrize(
        "kind", [pa.timestamp("ns"), pa.timestamp("ms"), pa.timestamp("us", "UTC"), pa.date32()], ids=str
    )
    def test_kinds_of_time(self, tmp_path: Path, url: str, kind: pa.DataType) -> None:
        day = datetime(2024, 1, 2, tzinfo=UTC if getattr(kind, "tz", None) else None)
        times = pa.array([day] * 3).cast(kind)
        import_files(folder(tmp_path, transactions=SALES.set_column(2, "transaction_ts", times)), url)
        assert {row[0][:10] for row in query(url, "SELECT transaction_ts FROM transactions")} == {"2024-01-02"}
        assert query(url, "SELECT signup_date FROM customers WHERE customer_id = 'a'") == [("2024-01-02",)]

    def test_a_filled_updated_at_is_the_transactions_instant(self, tmp_path: Path, url: str) -> None:
        times = pa.array([datetime(2024, 1, 2, 3, tzinfo=UTC)] * 3)
        import_files(folder(tmp_path, transactions=SALES.set_column(2, "transaction_ts", times)), url)
        assert query(url, "SELECT count(*) FROM transactions WHERE updated_at = transaction_ts") == [(3,)]

    def test_decimals_keep_their_digits(self, tmp_path: Path, url: str) -> None:
        exact = pa.array([Decimal("1234567890123456.78")] * 3, pa.decimal128(18, 2))
        import_files(folder(tmp_path, transactions=SALES.set_column(3, "amount", exact)), url)
        assert query(url, "SELECT DISTINCT amount FROM transactions") == [("1234567890123456.78",)]

    @pytest.mark.parametrize("name", ["customers", "transactions"])
    def test_a_missing_file_is_named(self, tmp_path: Path, url: str, name: str) -> None:
        with pytest.raises(InputError, match=rf"no {name} file.*{name}\.parquet or {name}\.csv"):
            import_files(folder(tmp_path, **{name: None}), url)

    def test_a_missing_folder_is_named(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(InputError, match="nowhere is no folder"):
            import_files(tmp_path / "nowhere", url)

    @pytest.mark.parametrize("content", ["", "PAR1 but no more", "PAR1" + "\0" * 100 + "PAR1"])
    def test_an_unreadable_parquet_file_is_named(self, tmp_path: Path, url: str, content: str) -> None:
        with pytest.raises(InputError, match=r"transactions\.parquet can't be read"):
            import_files(folder(tmp_path, transactions=content), url)

    @pytest.mark.parametrize("column", ["transaction_id", "customer_id", "transaction_ts", "amount"])
    def test_a_missing_column_is_named(self, tmp_path: Path, url: str, column: str) -> None:
        with pytest.raises(InputError, match=rf"transactions\.parquet lacks the column\(s\) {column}\."):
            import_files(folder(tmp_path, transactions=SALES.drop_columns([column])), url)

    def test_customers_need_their_id(self, tmp_path: Path, url: str) -> None:
        with pytest.raises(InputError, match=r"customers\.parquet lacks the column\(s\) customer_id"):
            import_files(folder(tmp_path, customers=pa.table({"name": ["Ana"]})), url)

    def test_a_database_that_cannot_be_written(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="can't be"):
            import_files(folder(tmp_path), f"sqlite:///{tmp_path / 'nowhere' / 'crm.db'}")

    def test_a_failed_load_leaves_nothing_behind(self, tmp_path: Path) -> None:
        # The second table can't take the rows: the first one's must not stay.
        url = make_crm(tmp_path / "crm.db", lacks=["transactions.amount"])
        with pytest.raises(SourceError, match="amount"):
            import_files(folder(tmp_path), url)
        assert query(url, "SELECT count(*) FROM customers") == [(0,)]

    def test_ids_may_be_numbers_in_one_file_and_text_in_the_other(self, tmp_path: Path, url: str) -> None:
        assert import_files(folder(tmp_path, customers=pa.table({"customer_id": [1, 2]})), url).customers == 2


class TestSeed:
    UNTIL = date(2024, 6, 30)

    def test_the_same_seed_adds_nothing(self, url: str) -> None:
        first = seed(url, customers=5, days=60, seed=1, until=self.UNTIL)
        again = seed(url, customers=5, days=60, seed=1, until=self.UNTIL)
        assert (first.customers, first.is_new, again.is_new) == (5, True, False)
        assert again.transactions == first.transactions
        assert query(url, "SELECT count(*) FROM transactions") == [(first.transactions,)]

    def test_another_seed_is_refused(self, url: str) -> None:
        seed(url, customers=5, days=60, seed=1, until=self.UNTIL)
        with pytest.raises(SourceError, match="already holds other data"):
            seed(url, customers=5, days=60, seed=2, until=self.UNTIL)

    def test_a_database_with_rows_of_its_own_is_refused(self, tmp_path: Path) -> None:
        url = make_crm(tmp_path / "crm.db", [transaction(1)])
        with pytest.raises(SourceError, match="already holds other data"):
            seed(url, customers=5, days=60, seed=1, until=self.UNTIL)
        assert query(url, "SELECT count(*) FROM transactions") == [(1,)]

    @pytest.mark.parametrize("numbers", [{"customers": 0, "days": 10}, {"customers": 1, "days": 0}])
    def test_numbers_must_be_positive(self, url: str, numbers: dict[str, int]) -> None:
        with pytest.raises(InputError, match="can't be made"):
            seed(url, **numbers, seed=1, until=self.UNTIL)

    def test_the_model_is_kept_beside_the_rows(self, tmp_path: Path, url: str) -> None:
        seed(url, customers=5, days=60, seed=1, until=self.UNTIL)
        assert synthetic_model(url) == SyntheticModel()
        other = f"sqlite:///{tmp_path / 'imported.db'}"
        import_files(folder(tmp_path), other)
        assert synthetic_model(other) is None
