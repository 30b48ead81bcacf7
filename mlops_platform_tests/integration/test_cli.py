"""The command line as a person meets it: what each mistake says, and that it leaves nothing half-written.

Does not belong here: what a whole demo does (`test_demo.py`), SQL in detail (`unit/storage/test_query.py`).
"""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_platform.contracts import BRONZE_TRANSACTIONS, QUARANTINE, SILVER_CUSTOMERS, all_contracts
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.commands import Done, mlops, working_in

FIRST, UNTIL = date(2023, 12, 13), date(2024, 6, 30)
SHORT_HORIZON = {"MLOPS_HORIZON_DAYS": "30"}


@pytest.fixture(scope="module")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good CRM of 60 customers; tests work on copies."""
    path = tmp_path_factory.mktemp("crm") / "crm.db"
    seed(f"sqlite:///{path}", customers=60, days=200, seed=1, until=UNTIL)
    return path


@pytest.fixture
def crm(seeded: Path, tmp_path: Path) -> Callable[..., str]:
    """A copy of the CRM, changed by some SQL; returns its URL."""

    def make(*statements: str) -> str:
        path = tmp_path / "crm.db"
        path.write_bytes(seeded.read_bytes())
        with closing(sqlite3.connect(path)) as database, database:
            for statement in statements:
                database.execute(statement)
        return f"sqlite:///{path}"

    return make


def demo(home: Path, url: str, *more: str, **environment: str) -> Done:
    return mlops("demo", "--crm", url, "--home", home, *more, **environment)


def written(home: Path) -> set[str]:
    """Tables of the home that hold a snapshot."""
    lake = Lake(load_settings(home=home))
    return {name for name, contract in all_contracts().items() if lake.snapshot(contract).snapshot_id is not None}


class TestTheCrmIsNoUse:
    """Each is found before anything is written."""

    def refused(self, home: Path, done: Done, *words: str) -> None:
        assert done.is_refusal("Next: ", *words)
        assert written(home) == set()
        assert not (home / "demo.json").exists()

    def test_the_file_is_missing(self, tmp_path: Path) -> None:
        home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'no.db'}"
        self.refused(home, demo(home, url), url, "does not exist", f"mlops crm seed --into {url}")
        assert not (tmp_path / "no.db").exists()

    def test_nothing_answers(self, tmp_path: Path) -> None:
        home = tmp_path / "home"
        done = demo(home, "postgresql://me:hunter2@127.0.0.1:1/x")
        self.refused(home, done, "postgresql://me:***@127.0.0.1:1/x", "can't be reached", "Connection refused")
        assert "hunter2" not in done.out + done.err

    def test_no_such_kind_of_database(self, tmp_path: Path) -> None:
        done = demo(tmp_path / "home", "mysql://me:hunter2@host/x")
        self.refused(tmp_path / "home", done, "mysql://me:***@host/x", "postgresql://user@host/database", "--crm")
        assert "hunter2" not in done.err

    @pytest.mark.parametrize("table", ["customers", "transactions"])
    def test_a_table_is_missing(self, tmp_path: Path, crm: Callable[..., str], table: str) -> None:
        done = demo(tmp_path / "home", crm(f"DROP TABLE {table}"))
        self.refused(tmp_path / "home", done, f"table {table} is missing")

    def test_a_column_is_missing(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm("ALTER TABLE transactions DROP COLUMN amount"))
        self.refused(tmp_path / "home", done, "table transactions", "lacks the column(s) amount")

    def test_the_transactions_are_empty(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm("DELETE FROM transactions"))
        self.refused(tmp_path / "home", done, "table transactions", "is empty", "mlops crm")

    def test_no_time_is_a_time(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm("UPDATE transactions SET transaction_ts = 'noise'"))
        self.refused(tmp_path / "home", done, "transactions.transaction_ts", "no readable time")


class TestTheCrmHoldsWrongTypes:
    """Single cells are no reason to refuse a CRM; many are found by the audit, table by table."""

    @pytest.mark.parametrize(
        ("statement", "reason"),
        [
            ("UPDATE transactions SET amount = 'much'", "amount is missing or not a number"),
            (
                "UPDATE transactions SET transaction_ts = 'noise' WHERE rowid % 3 = 0",
                "transaction_ts is missing or not a time",
            ),
        ],
    )
    def test_silver_is_not_written(self, tmp_path: Path, crm: Callable[..., str], statement: str, reason: str) -> None:
        home = tmp_path / "home"
        done = demo(home, crm(statement), **SHORT_HORIZON)
        assert done.is_refusal("silver.transactions was not published", "rejected_share", reason, "Next: ")
        # Bronze is whole, silver and all that rests on it was never begun; what was wrong can be looked up.
        assert written(home) == {
            "bronze.crm_customers",
            "bronze.crm_transactions",
            "silver.customers",
            "silver.quarantine",
        }
        lake = Lake(load_settings(home=home))
        held = lake.snapshot(QUARANTINE).to_arrow(["table_name", "reason"]).to_pylist()
        assert {row["reason"] for row in held if row["table_name"] == "silver.transactions"} == {reason}
        with closing(sqlite3.connect(tmp_path / "crm.db")) as database:
            (delivered,) = database.execute("SELECT count(*) FROM transactions").fetchone()
        assert lake.snapshot(BRONZE_TRANSACTIONS).count() == delivered


class TestTheDayIsNoUse:
    def test_before_the_data(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm(), "--as-of", "2020-01-01")
        assert done.is_refusal("--as-of 2020-01-01", "before the CRM's first transaction", "Next: ")
        assert written(tmp_path / "home") == set()

    def test_before_the_data_by_the_setting(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        assert demo(tmp_path / "home", crm(), MLOPS_AS_OF="2020-01-01").is_refusal("2020-01-01", "Next: ")
        assert written(tmp_path / "home") == set()

    def test_no_day_at_all(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        assert demo(tmp_path / "home", crm(), "--as-of", "soon").is_refusal("--as-of", "'soon'", "2024-01-31")
        assert not (tmp_path / "home").exists()

    def test_a_day_that_is_not_over(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm(), "--as-of", "2199-01-01", **SHORT_HORIZON)
        assert done.is_refusal("--as-of 2199-01-01", "Next: ")
        assert written(tmp_path / "home") == set()

    def test_too_little_history(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        done = demo(tmp_path / "home", crm(), "--as-of", "2024-02-01")
        assert done.is_refusal("history", "180 days", "MLOPS_HORIZON_DAYS", "Next: ")
        assert written(tmp_path / "home") == set()

    def test_a_refused_crm_is_not_the_homes(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        assert demo(tmp_path / "home", crm(), "--as-of", "2024-02-01").code == 2
        assert load_settings(home=tmp_path / "home").crm_url is None


class TestTheHomeIsNoUse:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        path = tmp_path / "file"
        path.write_text("mine")
        return path

    def test_demo(self, file: Path, crm: Callable[..., str]) -> None:
        assert demo(file, crm()).is_refusal(str(file), "can't be written", "--home DIR", "Next: ")
        assert demo(file / "deeper", crm()).is_refusal(str(file), "can't be written", "Next: ")
        assert file.read_text() == "mine"

    def test_query(self, file: Path) -> None:
        assert mlops("query", "SELECT * FROM silver.customers", "--home", file).is_refusal(str(file), "Next: ")

    def test_doctor_says_what_is_wrong(self, file: Path) -> None:
        done = mlops("doctor", "--home", file)
        assert done.code == 2
        assert "does not exist" not in done.out

    def test_a_bad_setting(self, tmp_path: Path) -> None:
        for command in (["demo"], ["env"], ["query", "SELECT 1"], ["doctor"]):
            done = mlops(*command, "--home", tmp_path / "home", MLOPS_TIMEZONE="Mars")
            assert done.is_refusal("MLOPS_TIMEZONE", "'Mars'", "no time zone", "Next: ")
        assert not (tmp_path / "home").exists()


class TestFillingACrm:
    def test_seed_twice_loads_once(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'crm.db'}"
        options = ["--customers", 20, "--days", 100, "--until", "2024-06-30", "--into", url]
        first = mlops("crm", "seed", *options)
        assert first.code == 0
        assert "loaded 20 customers" in first.err
        assert f"mlops demo --crm {url}" in first.err
        before = (tmp_path / "crm.db").read_bytes()
        again = mlops("crm", "seed", *options)
        assert again.code == 0
        assert "nothing loaded" in again.err
        other = mlops("crm", "seed", *options, "--seed", 8)
        assert other.is_refusal(url, "already holds other data", "Next: ")
        assert (tmp_path / "crm.db").read_bytes() == before

    def test_seed_refuses_what_it_cannot_make(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'crm.db'}"
        assert mlops("crm", "seed", "--customers", 0, "--into", url).is_refusal("0 customers", "Next: ")
        assert mlops("crm", "seed", "--until", "someday", "--into", url).is_refusal("--until", "'someday'")
        assert mlops("crm", "seed", "--into", "mysql://x/y").is_refusal("mysql://x/y", "Next: ")
        assert not (tmp_path / "crm.db").exists()

    def test_seed_where_nothing_can_be_written(self, tmp_path: Path) -> None:
        url = f"sqlite:///{tmp_path / 'no' / 'crm.db'}"
        assert mlops("crm", "seed", "--customers", 3, "--days", 9, "--into", url).is_refusal(url, "Next: ")

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Files that can be imported."""
        found = tmp_path / "files"
        found.mkdir()
        rows = {
            "transaction_id": ["1", "2"],
            "customer_id": ["a", "b"],
            "transaction_ts": ["2024-01-01 10:00:00"] * 2,
            "amount": ["5", "6"],
        }
        pq.write_table(pa.table(rows), found / "transactions.parquet")
        (found / "customers.csv").write_text("customer_id\na\nb\n")
        return found

    def test_import(self, tmp_path: Path, folder: Path) -> None:
        url = f"sqlite:///{tmp_path / 'crm.db'}"
        done = mlops("crm", "import", folder, "--into", url)
        assert done.code == 0
        assert "loaded 2 customers and 2 transactions" in done.err
        assert "nothing loaded" in mlops("crm", "import", folder, "--into", url).err

    @pytest.mark.parametrize("content", [b"", b"noise", b"PAR1" + b"\0" * 400 + b"PAR1"])
    def test_an_unreadable_parquet_file(self, tmp_path: Path, folder: Path, content: bytes) -> None:
        (folder / "transactions.parquet").write_bytes(content)
        done = mlops("crm", "import", folder, "--into", f"sqlite:///{tmp_path / 'crm.db'}")
        assert done.is_refusal(str(folder / "transactions.parquet"), "can't be read", "Next: ")
        assert not (tmp_path / "crm.db").exists()

    def test_a_truncated_parquet_file(self, tmp_path: Path, folder: Path) -> None:
        path = folder / "transactions.parquet"
        path.write_bytes(path.read_bytes()[:-20])
        done = mlops("crm", "import", folder, "--into", f"sqlite:///{tmp_path / 'crm.db'}")
        assert done.is_refusal(str(path), "can't be read", "Next: ")
        assert not (tmp_path / "crm.db").exists()

    def test_a_missing_folder_file_or_column(self, tmp_path: Path, folder: Path) -> None:
        url = f"sqlite:///{tmp_path / 'crm.db'}"
        assert mlops("crm", "import", tmp_path / "nowhere", "--into", url).is_refusal(str(tmp_path / "nowhere"))
        (folder / "customers.csv").write_text("name\nAna\n")
        assert mlops("crm", "import", folder, "--into", url).is_refusal("customers.csv", "customer_id", "Next: ")
        (folder / "customers.csv").unlink()
        assert mlops("crm", "import", folder, "--into", url).is_refusal("customers.parquet or customers.csv")
        assert not (tmp_path / "crm.db").exists()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asked") / "home"
    schema = arrow_schema(SILVER_CUSTOMERS)
    rows = [
        {
            "customer_id": f"c{n}",
            "signup_date": date(2024, 1, n),
            "country": "BR",
            "_batch_id": "b",
            "_source": "crm",
        }
        for n in range(1, 4)
    ]
    Lake(load_settings(home=folder)).publish(Draft(SILVER_CUSTOMERS, pa.Table.from_pylist(rows, schema=schema)))
    return folder


class TestQuery:
    SQL = "SELECT customer_id, signup_date FROM silver.customers ORDER BY 1"

    def test_rows_on_a_pipe_are_csv(self, asked: Path) -> None:
        done = mlops("query", self.SQL, "--home", asked)
        assert (done.code, done.err) == (0, "")
        rows = list(csv.reader(io.StringIO(done.out)))
        assert rows == [["customer_id", "signup_date"], *([f"c{n}", f"2024-01-0{n}"] for n in range(1, 4))]

    def test_rows_into_files(self, asked: Path, tmp_path: Path) -> None:
        for name in ("rows.parquet", "rows.csv"):
            done = mlops("query", self.SQL, "--home", asked, "--output", tmp_path / name)
            assert (done.code, done.out) == (0, "")
            assert "3 rows" in done.err
        found = pq.read_table(tmp_path / "rows.parquet")
        assert found.to_pylist()[0] == {"customer_id": "c1", "signup_date": date(2024, 1, 1)}
        with (tmp_path / "rows.csv").open() as file:
            assert list(csv.reader(file))[1] == ["c1", "2024-01-01"]
        assert {path.name for path in tmp_path.iterdir()} == {"rows.parquet", "rows.csv"}

    def test_a_file_of_another_kind(self, asked: Path, tmp_path: Path) -> None:
        done = mlops("query", self.SQL, "--home", asked, "--output", tmp_path / "rows.json")
        assert done.is_refusal("rows.json", ".parquet or .csv")
        done = mlops("query", self.SQL, "--home", asked, "--output", tmp_path / "no" / "rows.csv")
        assert done.is_refusal("rows.csv", "can't be written")
        assert list(tmp_path.iterdir()) == []

    def test_a_question_that_can_not_be_asked(self, asked: Path) -> None:
        assert mlops("query", "SELECT nope FROM silver.customers", "--home", asked).is_refusal("nope", "Next: ")
        assert mlops("query", "SELECT 1 FROM silver.nope", "--home", asked).is_refusal(
            "silver.nope", "silver.customers"
        )

    @pytest.mark.parametrize("sql", ["SHOW TABLES", "EXPLAIN SELECT 1"])
    def test_a_command_gets_one_message_too(self, asked: Path, sql: str) -> None:
        assert mlops("query", sql, "--home", asked).is_refusal("one SELECT")

    def test_a_table_that_was_never_written_is_empty(self, asked: Path) -> None:
        done = mlops("query", "SELECT customer_id FROM ml.predictions", "--home", asked)
        assert (done.code, done.out.splitlines()) == (0, ['"customer_id"'])


class TestLookingAround:
    def test_a_shell_can_evaluate_env(self, tmp_path: Path) -> None:
        home = tmp_path / "it's home; $HOME"
        done = mlops("env", "--home", home, MLOPS_CRM_URL="postgresql://m'e@host/db")
        assert done.code == 0
        script = done.out + '\nprintf "%s\\n" "$MLOPS_HOME" "$DAGSTER_HOME" "$MLFLOW_TRACKING_URI" "$MLOPS_CRM_URL"'
        shell = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True, check=True, timeout=30)
        assert shell.stdout.splitlines() == [
            str(home),
            str(home / "dagster"),
            f"sqlite:///{home / 'mlflow.db'}",
            "postgresql://m'e@host/db",
        ]
        assert not home.exists()

    def test_env_prints_no_password(self, tmp_path: Path) -> None:
        done = mlops("env", "--home", tmp_path, MLOPS_CRM_URL="postgresql://me:hunter2@host/db")
        assert "# MLOPS_CRM_URL holds a password" in done.out
        assert "hunter2" not in done.out + done.err

    def test_exec_hands_on_what_files_say(self, tmp_path: Path) -> None:
        (tmp_path / "mlops_crm_url").write_text("postgresql://me:hunter2@host/db\n")
        home, code = tmp_path / "home", "import os, sys; print(os.environ['MLOPS_CRM_URL'], *sys.argv[1:])"
        command = [sys.executable, "-m", "mlops_platform.cli", "exec", "--home", str(home), "--"]
        environment = {**os.environ, "MLOPS_SECRETS_DIR": str(tmp_path)}
        done = subprocess.run(
            [*command, "python", "-c", code, "--home", "x"],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == ("postgresql://me:hunter2@host/db --home x\n", "")
        assert (home / "dagster" / "dagster.yaml").is_file()

    def test_exec_of_nothing(self, tmp_path: Path) -> None:
        assert mlops("exec", "--home", tmp_path, "--", "no-such-program").is_refusal("'no-such-program'", "PATH")

    def test_a_profile_that_lacks_something(self, tmp_path: Path) -> None:
        for command in (["demo"], ["up"], ["settings"], ["query", "SELECT 1"], ["exec", "ls"]):
            done = mlops(*command, "--home", tmp_path, "--profile", "server", MLOPS_WAREHOUSE_URL="s3://bucket/lake")
            assert done.is_refusal("MLOPS_CATALOG_URL=postgresql://", "MLOPS_DAGSTER_STORAGE_URL=", "MLFLOW_TRACKING")
            assert "MLOPS_WAREHOUSE_URL" not in done.err

    def test_settings_show_where_each_comes_from_and_no_secret(self, tmp_path: Path) -> None:
        home = tmp_path / "h"
        home.mkdir()
        (home / "mlops.toml").write_text("history_start = 2024-01-05\n")
        url = "postgresql://me:hunter2@host/db"
        done = mlops("settings", "--home", home, MLOPS_CRM_URL=url, MLOPS_HORIZON_DAYS="30", COLUMNS="250")
        assert done.code == 0
        assert "hunter2" not in done.out
        rows = {cells[0]: cells[1:] for line in done.out.splitlines() if (cells := line.replace("│", " ").split())}
        assert rows["crm_url"] == ["postgresql://me:***@host/db", "environment"]
        assert rows["horizon_days"] == ["30", "environment"]
        assert rows["history_start"] == ["2024-01-05", "mlops.toml"]
        assert rows["home"] == [str(home), "argument"]
        assert rows["timezone"] == ["UTC", "default"]

    def test_doctor_on_an_empty_home(self, tmp_path: Path) -> None:
        done = mlops("doctor", "--home", tmp_path / "home")
        assert (done.code, done.err) == (2, "")
        assert f"{tmp_path / 'home'} does not exist yet" in done.out
        assert done.out.count("→ ") == done.out.count("FAIL ") + done.out.count("hint ")
        assert "mlops demo" in done.out
        assert not (tmp_path / "home").exists()

    def test_help_names_every_command(self) -> None:
        done = mlops("--help")
        assert done.code == 0
        assert all(name in done.out for name in ("crm", "demo", "query", "env", "settings", "doctor", "train", "up"))

    def test_an_unknown_option_is_a_users_error(self) -> None:
        assert mlops("demo", "--nope").code == 2

    def test_a_crm_named_from_here_is_found_from_elsewhere(self, tmp_path: Path, crm: Callable[..., str]) -> None:
        # `mlops up` and the daemon read the home's file from whatever folder they are started in.
        crm("UPDATE transactions SET amount = 'much'")
        with working_in(tmp_path):
            assert demo(Path("home"), "sqlite:///crm.db", **SHORT_HORIZON).code == 2
        (tmp_path / "else").mkdir()
        with working_in(tmp_path / "else"):
            done = mlops("doctor", "--home", tmp_path / "home")
        assert "transactions from" in done.out
