"""`mlops crm check`: what it finds, what it guesses, and its exit code."""

from __future__ import annotations

import sqlite3
import tomllib
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mlops_platform.cli import app
from mlops_platform.data_pipeline.crm_check import check_crm
from mlops_platform.errors import SettingsError
from mlops_platform.settings import HOME_FILE, Settings, load_settings
from mlops_platform_tests.unit.data_pipeline.crms import customer, make_crm, transaction


def shop(path: Path) -> str:
    """A CRM with names of its own."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE kunden (customer_nr, name, town, updated)")
        database.execute("CREATE TABLE sales (transaction_code, customer, transaction_stamp, amount, updated_on)")
        database.execute("CREATE TABLE logs (line)")
        database.execute("INSERT INTO sales VALUES ('t1', 'c1', '2024-03-01', 5, '2024-03-01')")
    return f"sqlite:///{path}"


def test_a_crm_with_everything(home: Settings, tmp_path: Path) -> None:
    rows = [transaction(n, updated_at=("soon", "2024-03-01 10:00:00", None)[n]) for n in range(3)]
    url = make_crm(tmp_path / "crm.db", rows, [customer(1)], has=["customers.deleted_at", "transactions.deleted_at"])
    found = check_crm(home, url)
    assert (found.is_ok, found.mapping) == (True, "")
    customers, transactions = found.tables
    assert (transactions.rows, transactions.newest) == (3, "2024-03-01 10:00:00+00")
    assert (customers.rows, customers.deletions) == (1, "from deleted_at")


def test_how_deletions_are_noticed(home: Settings, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "crm.db", [transaction(1)])
    assert {table.deletions for table in check_crm(home, url).tables} == {"by comparing keys"}
    ignoring = home.model_copy(update={"deletions": "ignore"})
    assert {table.deletions for table in check_crm(ignoring, url).tables} == {"ignored (MLOPS_DELETIONS)"}


def test_what_is_missing(home: Settings, tmp_path: Path) -> None:
    url = make_crm(tmp_path / "crm.db", lacks=["customers", "transactions.amount", "transactions.category"])
    found = check_crm(home, url)
    assert not found.is_ok
    customers, transactions = found.tables
    assert not customers.is_found
    missing = {column.name: column.is_required for column in transactions.columns if not column.is_found}
    assert missing == {"amount": True, "category": False, "deleted_at": False}


def test_the_guessed_mapping_can_be_used(tmp_path: Path) -> None:
    url = shop(tmp_path / "crm.db")
    home = load_settings(home=tmp_path / "home", crm_url=url)
    mapping = check_crm(home, "crm").mapping
    tables = tomllib.loads(mapping)["sources"]["crm"]["tables"]
    assert tables["customers"] == {"name": "kunden", "columns": {"customer_id": "customer_nr", "updated_at": "updated"}}
    assert tables["transactions"] == {
        "name": "sales",
        "columns": {
            "transaction_id": "transaction_code",
            "customer_id": "customer",
            "transaction_ts": "transaction_stamp",
            "updated_at": "updated_on",
        },
    }
    home.home.mkdir()
    (home.home / HOME_FILE).write_text(mapping)
    assert check_crm(load_settings(home=home.home), "crm_database").is_ok


def test_neither_a_url_nor_a_source(home: Settings) -> None:
    with pytest.raises(SettingsError, match=r"there is no source 'crm\.db'"):
        check_crm(home, "crm.db")


class TestCommand:
    def test_a_good_one(self, tmp_path: Path) -> None:
        row = customer(1)
        del row["name"]
        url = make_crm(tmp_path / "crm.db", [transaction(1)], [row], lacks=["customers.name"])
        done = CliRunner().invoke(app, ["crm", "check", url, "--home", str(tmp_path / "home")])
        assert done.exit_code == 0, done.output
        assert "ok   transactions: 1 rows, updated_at up to 2024-03-01 10:00:00+00" in done.output
        assert "customer_id: required, found" in done.output
        assert "name: optional, missing" in done.output
        assert "deletions: by comparing keys" in done.output

    def test_one_that_lacks_something(self, tmp_path: Path) -> None:
        done = CliRunner().invoke(app, ["crm", "check", shop(tmp_path / "crm.db"), "--home", str(tmp_path / "home")])
        assert done.exit_code == 2
        assert "FAIL customers: no such table" in done.output
        assert '[sources.crm.tables.customers]\nname = "kunden"' in done.output
