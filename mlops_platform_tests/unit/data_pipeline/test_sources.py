"""Named sources: which database a name means, what it calls our tables, and databases that SQLAlchemy reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator, Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.data_pipeline import extraction
from mlops_platform.data_pipeline.connections import open_database
from mlops_platform.data_pipeline.connections_alchemy import as_text
from mlops_platform.data_pipeline.crm import CUSTOMERS, SOURCE_TABLES, TRANSACTIONS, find_source, span
from mlops_platform.data_pipeline.extraction import read
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.errors import InputError, SettingsError, SourceError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.data_pipeline.crms import add, make_crm, transaction

KUNDEN = {"name": "kunden", "columns": {"customer_id": "kunden_nr", "updated_at": "geaendert"}}


def settings_with(tmp_path: Path, sources: dict[str, Any], **more: Any) -> Settings:
    return load_settings(home=tmp_path / "home", sources=sources, **more)


class TestFinding:
    @pytest.mark.parametrize("name", ["crm", "crm_database"])
    def test_both_names_of_the_homes_crm(self, tmp_path: Path, name: str) -> None:
        source = find_source(settings_with(tmp_path, {}, crm_url="sqlite:///crm.db"), name)
        assert (source.name, source.url, source.tables) == ("crm", "sqlite:///crm.db", SOURCE_TABLES)

    @pytest.mark.parametrize("name", ["crm", "crm_database"])
    def test_a_mapping_may_leave_the_address_to_crm_url(self, tmp_path: Path, name: str) -> None:
        home = settings_with(tmp_path, {"crm_database": {"tables": {"customers": KUNDEN}}}, crm_url="sqlite:///crm.db")
        source = find_source(home, name)
        assert (source.name, source.url) == ("crm", "sqlite:///crm.db")
        assert source.tables[0].own_name == "kunden"

    def test_a_named_source(self, tmp_path: Path) -> None:
        home = settings_with(tmp_path, {"shop": "sqlite:///shop.db"}, crm_url="sqlite:///crm.db")
        assert find_source(home, "shop").url == "sqlite:///shop.db"
        assert find_source(home, "shop").name == "shop"

    def test_an_unknown_one_lists_the_known(self, tmp_path: Path) -> None:
        home = settings_with(tmp_path, {"shop": "sqlite:///shop.db"})
        with pytest.raises(
            SettingsError, match=r"no source 'web'.*crm, crm_database, shop.*\[sources\.web\].*MLOPS_SOURCES"
        ):
            find_source(home, "web")

    def test_no_crm_at_all(self, home: Settings) -> None:
        with pytest.raises(SettingsError, match="no CRM is set for this home"):
            find_source(home)

    def test_a_source_without_an_address(self, tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="source 'shop' has no url"):
            find_source(settings_with(tmp_path, {"shop": {"tables": {"customers": "kunden"}}}), "shop")

    def test_a_mapping_of_no_column_of_ours(self, tmp_path: Path) -> None:
        wrong = {"url": "sqlite:///a.db", "tables": {"customers": {"columns": {"custmer_id": "nr"}}}}
        with pytest.raises(SettingsError, match=r"maps customers\.custmer_id.*did you mean customer_id\?"):
            find_source(settings_with(tmp_path, {"shop": wrong}), "shop")


class TestMapping:
    @pytest.fixture
    def home(self, tmp_path: Path) -> Settings:
        url = make_crm(tmp_path / "crm.db", [transaction(1)], lacks=["customers"])
        with closing(sqlite3.connect(tmp_path / "crm.db")) as database, database:
            database.execute("CREATE TABLE kunden (KUNDEN_NR, name, geaendert)")
            database.execute("INSERT INTO kunden VALUES ('k1', 'Ana', '2024-03-01')")
        return settings_with(tmp_path, {"crm": {"url": url, "tables": {"customers": KUNDEN}}})

    def test_rows_come_under_our_names(self, home: Settings) -> None:
        source, lake = find_source(home), Lake(home)
        assert span(home, source.url, source.tables).rows == 1
        at = datetime(2024, 5, 1, tzinfo=UTC)
        lake.publish(new_rows(lake, source.url, source.tables[0], source=source.name, ingested_at=at))
        (row,) = lake.snapshot(CUSTOMERS.bronze).to_arrow(["customer_id", "name", "updated_at", "city"]).to_pylist()
        assert row == {"customer_id": "k1", "name": "Ana", "updated_at": "2024-03-01", "city": None}

    def test_a_missing_column_is_named_as_the_crm_would(self, home: Settings) -> None:
        source = find_source(home)
        table = source.tables[0]
        table.renamed["updated_at"] = "changed"  # type: ignore[index]
        with pytest.raises(SourceError, match=r"kunden .* lacks the column\(s\) changed \(our updated_at\)"):
            span(home, source.url, source.tables)


class TestAlchemy:
    """The way to every other database, tried with SQLite."""

    @pytest.fixture
    def url(self, tmp_path: Path) -> str:
        return make_crm(tmp_path / "crm.db", [transaction(1), transaction(2, amount=12.5, category=None, quantity=3)])

    def rows(self, url: str, **options: Any) -> list[dict[str, Any]]:
        with open_database(url) as database:
            found: list[dict[str, Any]] = read(database, TRANSACTIONS, **options).read_all().to_pylist()
            return found

    def test_the_same_text_as_through_adbc(self, url: str) -> None:
        add(url, "transactions", transaction(3, category=b"\x00\xff"))
        assert self.rows(url.replace("sqlite:", "sqlite+pysqlite:")) == self.rows(url)

    @pytest.mark.parametrize("kind", ["DATETIME", "DATE", "TEXT", "BLOB"])
    def test_since_leaves_out_no_row_that_is_wanted(self, tmp_path: Path, kind: str) -> None:
        columns = ", ".join(f"{name} {kind if name == 'updated_at' else ''}" for name in TRANSACTIONS.columns)
        with closing(sqlite3.connect(tmp_path / "typed.db")) as database:
            database.execute(f"CREATE TABLE transactions ({columns})")
        url = f"sqlite:///{tmp_path / 'typed.db'}"
        times = ["2024-02-01 00:00:00", "2024-03-01 00:00:00", "2025-01-01 12:00:00", None, "soon"]
        add(url, "transactions", *(transaction(n, updated_at=moment) for n, moment in enumerate(times)))
        found = self.rows(url.replace("sqlite:", "sqlite+pysqlite:"), since=date(2024, 3, 1))
        got = {row["transaction_id"] for row in found}
        assert {"t1", "t2", "t3"} <= got
        assert ("t0" in got) == (kind == "BLOB")

    def test_ingesting_again_adds_nothing(self, url: str, lake: Lake) -> None:
        other = url.replace("sqlite:", "sqlite+pysqlite:")
        first = datetime(2024, 5, 1, tzinfo=UTC)
        added = []
        for day in range(3):
            at = first + timedelta(days=day)
            draft = new_rows(lake, other, TRANSACTIONS, source="crm", ingested_at=at)
            added.append(lake.publish(draft).is_new)
            if day == 1:
                add(url, "transactions", transaction(3))
        assert added == [True, False, True]

    def test_a_missing_file_is_not_created(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="does not exist"):
            self.rows(f"sqlite+pysqlite:///{tmp_path / 'none.db'}")
        assert not (tmp_path / "none.db").exists()

    def test_a_missing_table_is_named(self, tmp_path: Path) -> None:
        url = make_crm(tmp_path / "empty.db", lacks=["transactions"])
        with pytest.raises(SourceError, match="table transactions is missing"):
            self.rows(url.replace("sqlite:", "sqlite+pysqlite:"))

    def test_a_driver_that_is_not_installed_is_named(self) -> None:
        with pytest.raises(InputError, match=r"its driver is not installed .*MySQLdb"):
            self.rows("mysql://ana:hunter2@host/crm")

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, None),
            (True, "true"),
            (Decimal("1E+2"), "100"),
            (12.5, "12.5"),
            (datetime(2024, 3, 1, 10, tzinfo=UTC), "2024-03-01 10:00:00+00:00"),
            (date(2024, 3, 1), "2024-03-01"),
            (memoryview(b"caf\xe9"), "caf\ufffd"),
        ],
    )
    def test_cells_are_spelled_as_elsewhere(self, value: Any, text: str | None) -> None:
        assert as_text(value) == text


class TestStreaming:
    def test_no_more_batches_are_fetched_than_may_wait(self) -> None:
        fetched: list[int] = []

        def numbers() -> Generator[int]:
            for n in range(100):
                fetched.append(n)
                yield n

        stream = extraction.prefetched(numbers())
        assert next(stream) == 0
        stream.close()
        assert len(fetched) <= extraction.PREFETCHED + 3

    def test_a_failure_on_the_way_is_the_crms(self, tmp_path: Path) -> None:
        url = make_crm(tmp_path / "crm.db", [transaction(1)])
        with open_database(url) as database:

            def failing(selection: object) -> Iterator[pa.RecordBatch]:
                yield from ()
                raise OSError("gone away")

            database.batches = failing  # type: ignore[method-assign]
            with pytest.raises(SourceError, match=r"failed while transactions was read: .*gone away"):
                read(database, TRANSACTIONS).read_all()
