"""Tables in Glue and S3, and Athena: used as anywhere, with AWS's refusals as messages that say what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import requests
from pyiceberg.catalog.glue import GlueCatalog
from typer.testing import CliRunner

from mlops_platform.cli import app
from mlops_platform.contracts import all_contracts
from mlops_platform.errors import ConflictError, InputError, PlatformError, QueryError, SettingsError, StorageError
from mlops_platform.settings import Settings, load_settings
from mlops_platform.settings.declaration import environment_name
from mlops_platform.storage import catalog, locks
from mlops_platform.storage.athena import BYTES_SCANNED, athena_rows
from mlops_platform.storage.athena_query import athena_query
from mlops_platform.storage.commit import PUBLISH_ID, commit, replacement
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.locks import table_lock
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.aws import Account, running_account
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.unit.storage.things import APPEND, FEB, JAN, RANGE, draft, on, rows

COMMENT_BYTES = 255  # what Glue takes of a column's comment
SECRET = "a-secret-that-nobody-may-read"  # noqa: S105 - looked for in messages


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with running_account() as found:
        yield found


@pytest.fixture
def settings(account: Account, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """A home of the AWS profile with nothing in its bucket yet."""
    bucket = account.bucket()
    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    catalog._glue_catalog.cache_clear()
    yield load_settings(
        home=tmp_path / "home",
        profile="aws",
        warehouse_url=bucket.url,
        dagster_storage_url=server.url(),
        mlflow_tracking_uri="http://127.0.0.1:5000",
        athena_results_url=f"s3://{bucket.name}/athena",
    )
    catalog._glue_catalog.cache_clear()
    account.clear()


@pytest.fixture
def lake(settings: Settings) -> Lake:
    return Lake(settings)


def things(lake: Lake) -> list[str]:
    found: list[str] = lake.snapshot(RANGE).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()
    return found


class TestTables:
    def test_a_range_is_replaced_and_the_rest_stays(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        lake.publish(draft("b", day=FEB))
        result = lake.publish(draft("c", "d"))
        assert (result.is_new, result.rows, result.total) == (True, 2, 3)
        assert things(lake) == ["b", "c", "d"]
        assert not lake.publish(draft("d", "c")).is_new
        assert lake.catalog.load_table(RANGE.name).location() == f"{lake.settings.warehouse_url}/test/by_range"

    def test_the_platforms_databases_are_seen_and_no_others(self, lake: Lake, account: Account) -> None:
        account.databases("somebodys", "ml", warehouse=str(lake.settings.warehouse_url))
        assert lake.catalog.list_namespaces() == [("ml",)]

    def test_glue_takes_every_columns_meaning(self) -> None:
        texts = [column.description for contract in all_contracts().values() for column in contract.columns]
        assert not [text for text in texts if len(text.encode()) > COMMENT_BYTES or "\n" in text]

    def test_pyicebergs_own_variables_are_honoured(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PYICEBERG_CATALOG__MLOPS__GLUE__ENDPOINT", "http://127.0.0.1:9")
        assert isinstance(lake.catalog, GlueCatalog)
        assert lake.catalog.glue.meta.endpoint_url == "http://127.0.0.1:9"


class TestTwoWriters:
    def test_one_waits_for_the_lock_in_dagsters_database(self, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(locks, "TIMEOUT_SECONDS", 1)
        with (
            table_lock(lake.settings, RANGE.name),
            pytest.raises(StorageError, match=r"test\.by_range has been locked"),
        ):
            lake.publish(draft("a"))

    def test_one_that_lost_its_lock_is_told_of_the_other(self, lake: Lake) -> None:
        lake.publish(draft("a"))
        held = lake.snapshot(RANGE)
        assert held.table is not None
        change = replacement(held, on(JAN))
        lake.publish(draft("b"))
        with pytest.raises(ConflictError, match=r"test\.by_range was changed meanwhile"):
            commit(held.table, change, {PUBLISH_ID: "late"})
        assert things(lake) == ["b"]

    @pytest.mark.parametrize("moment", ["before Glue is asked", "before Glue is told"])
    def test_one_that_loses_it_during_the_commit_is_too(
        self, lake: Lake, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        lake.publish(Draft(APPEND, rows("a")))
        name = "commit_table" if moment == "before Glue is asked" else "_update_glue_table"
        real, rivals = getattr(GlueCatalog, name), [Draft(APPEND, rows("rival"))]

        def overtaken(self: Any, *arguments: Any, **named: Any) -> Any:
            while rivals:
                lake.publish(rivals.pop())
            return real(self, *arguments, **named)

        monkeypatch.setattr(GlueCatalog, name, overtaken)
        # As when the database was restarted: nobody's lock is held any more.
        monkeypatch.setattr(locks, "_advisory_lock", lambda *_: nullcontext())
        with pytest.raises(ConflictError, match="was changed meanwhile"):
            lake.publish(Draft(APPEND, rows("b")))
        found = lake.snapshot(APPEND).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()
        assert found == ["a", "rival"]

    def test_a_commit_whose_answer_was_lost_is_found(self, lake: Lake, account: Account) -> None:
        lake.publish(Draft(APPEND, rows("a")))
        account.lost_answers = 1
        # The client asks once more, and Glue says that the version is no longer the table's.
        assert lake.publish(Draft(APPEND, rows("b"))).is_new
        found = lake.snapshot(APPEND).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()
        assert found == ["a", "b"]


class TestRefusals:
    @pytest.fixture(autouse=True)
    def _secret(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)

    def refused(self, settings: Settings, kind: type[PlatformError], *words: str) -> None:
        catalog._glue_catalog.cache_clear()
        with pytest.raises(kind) as found:
            Lake(settings).publish(draft("a"))
        message = str(found.value)
        assert [word for word in words if word not in message] == []
        assert SECRET not in message

    def test_no_extra(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "boto3", None)
        self.refused(settings, SettingsError, "boto3", "mlops-platform[aws]")

    def test_no_credentials(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        self.refused(settings, SettingsError, "no AWS credentials", "AWS_PROFILE")

    def test_no_region(self, settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.delenv("AWS_DEFAULT_REGION")
        self.refused(settings, SettingsError, "AWS_REGION")

    def test_another_region(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        self.refused(settings, SettingsError, "us-east-1", "eu-west-1")

    def test_no_bucket(self, settings: Settings) -> None:
        gone = settings.model_copy(update={"warehouse_url": "s3://nobodys-bucket/lake"})
        self.refused(gone, StorageError, "nobodys-bucket", "MLOPS_WAREHOUSE_URL")


class TestAthena:
    ROWS = pa.table({"customer_id": ["a", None], "value": [0.1 + 0.2, 1e-300], "paid": [Decimal("1.10"), None]})

    def test_rows_come_back_exactly(self, settings: Settings, account: Account) -> None:
        account.results = [self.ROWS]
        found = athena_rows(settings, "SELECT * FROM silver.things")
        assert found.equals(self.ROWS)
        assert found.schema.metadata == {BYTES_SCANNED: b"10000000"}
        assert "SELECT * FROM silver.things" in account.asked[-1]

    def test_no_row_is_a_table_without_columns(self, settings: Settings, account: Account) -> None:
        account.results = [self.ROWS.slice(0, 0)]
        assert athena_rows(settings, "SELECT 1 AS x WHERE false").num_rows == 0

    @pytest.mark.parametrize(
        ("reason", "kind", "hint"),
        [
            ("TABLE_NOT_FOUND: line 1:15: Table 'silver.x' does not exist", InputError, "once its pipeline has run"),
            ("Bytes scanned limit was exceeded", StorageError, "bytes_scanned_limit"),
            ("PERMISSION_DENIED: Access Denied (Service: Amazon S3)", StorageError, "iam/pipelines.json"),
            ("DIVISION_BY_ZERO: / by zero", StorageError, "DIVISION_BY_ZERO"),
        ],
    )
    def test_why_it_failed(
        self, settings: Settings, account: Account, reason: str, kind: type[PlatformError], hint: str
    ) -> None:
        account.results = [reason]
        with pytest.raises(kind) as found:
            athena_rows(settings, "SELECT 1 AS x")
        assert reason in str(found.value)
        assert hint in str(found.value)

    def test_no_place_for_results(self, settings: Settings) -> None:
        with pytest.raises(SettingsError, match="MLOPS_ATHENA_RESULTS_URL"):
            athena_rows(settings.model_copy(update={"athena_results_url": None}), "SELECT 1 AS x")

    def test_no_such_workgroup(self, settings: Settings) -> None:
        with pytest.raises(PlatformError, match="WorkGroup"):
            athena_rows(settings.model_copy(update={"athena_workgroup": "nobodys"}), "SELECT 1 AS x")

    def test_a_users_select_is_checked_and_streamed(self, settings: Settings, account: Account) -> None:
        columns = [
            ("customer_id", "varchar", 0, 0),
            ("paid", "decimal", 18, 2),
            ("at", "timestamp with time zone", 0, 0),
        ]
        _queue(
            account,
            columns,
            ["a", "1.10", "2024-01-31 12:00:00.000 UTC"],
            [None, None, None],
        )
        with athena_query(settings, "SELECT customer_id, paid, at FROM silver.transactions") as reader:
            found = reader.read_all()
        assert found.to_pydict() == {
            "customer_id": ["a", None],
            "paid": [Decimal("1.10"), None],
            "at": [datetime(2024, 1, 31, 12, tzinfo=UTC), None],
        }

    def test_mlops_query_asks_it(self, settings: Settings, account: Account) -> None:
        _queue(account, [("n", "bigint", 0, 0)], ["42"])
        names = ("home", "profile", "warehouse_url", "dagster_storage_url", "athena_results_url")
        environment = {environment_name(name): str(getattr(settings, name)) for name in names}
        environment |= {"MLFLOW_TRACKING_URI": str(settings.mlflow_tracking_uri), "MLOPS_ENGINE": "athena"}
        done = CliRunner().invoke(app, ["query", "SELECT count(*) AS n FROM silver.transactions"], env=environment)
        assert (done.exit_code, "42" in done.output) == (0, True), done.output
        assert account.asked[-1] == "SELECT COUNT(*) AS n FROM silver.transactions"

    def test_a_users_select_reaches_nothing_else(self, settings: Settings, account: Account) -> None:
        asked = len(account.asked)
        with pytest.raises(QueryError), athena_query(settings, "SELECT * FROM somebodys.table"):
            pass
        assert len(account.asked) == asked


def _queue(account: Account, columns: list[tuple[str, str, int, int]], *found: list[str | None]) -> None:
    """What moto gives for the next query's results, the names of the columns first as in Athena."""
    info = [
        {"Name": name, "Type": kind, "Precision": precision, "Scale": scale, "Nullable": "NULLABLE"}
        for name, kind, precision, scale in columns
    ]
    cells = [[name for name, *_ in columns], *found]
    data = [{"Data": [{} if cell is None else {"VarCharValue": cell} for cell in row]} for row in cells]
    results = {"results": [{"rows": data, "column_info": info}]}
    requests.post(f"{account.endpoint}/moto-api/static/athena/query-results", json=results, timeout=10)
