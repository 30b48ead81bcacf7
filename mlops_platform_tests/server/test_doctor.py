"""`mlops doctor` on the server and AWS profiles: each fault of a server is found, with what mends it.

Does not belong here: what one machine alone can show (`unit/test_doctor.py`).
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import TableContract
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.contracts.table import ColumnType
from mlops_platform.orchestration.doctor import Finding, clock, examine
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.aws import Account, enforced, running_account
from mlops_platform_tests.integration.object_store import ObjectStore
from mlops_platform_tests.server.stack import Stack, running_stack

CHAIN = ("bronze.crm_customers", "silver.customers")
VALUES: dict[ColumnType, Any] = {
    ColumnType.STRING: "x", ColumnType.INT: 1, ColumnType.LONG: 1, ColumnType.DOUBLE: 0.5, ColumnType.BOOLEAN: True,
    ColumnType.MONEY: Decimal("1.00"), ColumnType.DATE: date(2024, 1, 1),
    ColumnType.TIMESTAMP: datetime(2024, 1, 1, tzinfo=UTC),
}  # fmt: skip


def look(settings: Settings, *subjects: str) -> dict[str, Finding]:
    return {found.subject: found for found in examine(settings, subjects)}


def publish_one_row(settings: Settings) -> None:
    lake = Lake(settings)
    for name in CHAIN:
        contract: TableContract = lake.contracts[name]
        row = {column.name: (column.isin or [VALUES[column.type]])[0] for column in contract.columns}
        lake.publish(Draft(contract, pa.Table.from_pylist([row], schema=arrow_schema(contract))))


@pytest.fixture(scope="module")
def stack(database: postgres.Server, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Databases and a bucket; MLflow is a file, since its server takes longer to start than all of this to run."""
    with running_stack(database, store, tmp_path_factory.mktemp("stack"), has_mlflow=False) as found:
        yield found


@pytest.fixture(scope="module")
def settings(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home of the server profile with one row in some tables, and an experiment with a run."""
    from mlops_platform.orchestration.instance import open_instance
    from mlops_platform.training_pipeline.registry import MLflowManager

    found = changed(stack.settings(tmp_path_factory.mktemp("doctor") / "home"), mlflow_tracking_uri=None)
    found.home.mkdir()
    publish_one_row(found)
    with MLflowManager(found).run(found.experiment_name, "one", {}):
        pass
    with open_instance(found):
        pass
    return found


@pytest.fixture
def nobody() -> Iterator[str]:
    """Host and port that take a connection and never answer."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"127.0.0.1:{listener.getsockname()[1]}"


def changed(settings: Settings, **changes: Any) -> Settings:
    return settings.model_copy(update=changes)


def test_all_is_well(settings: Settings) -> None:
    found = look(settings, "home", "clock", "catalog", "warehouse", "tables", "query", "MLflow", "Dagster")
    assert {name: each.message for name, each in found.items() if not each.is_ok} == {}
    assert "agrees with the database and the bucket" in found["clock"].message
    assert found["query"].message == f"duckdb read {len(CHAIN)} rows of {len(CHAIN)} tables"
    # No version was ever put into Production.
    assert "mlops" in look(settings, "model")["model"].mend


class TestTheCatalog:
    def test_wrong_password_user_and_database(self, stack: Stack, settings: Settings) -> None:
        rules = stack.database.folder / "data" / "pg_hba.conf"
        rules.write_text(f"host all doctor 127.0.0.1/32 scram-sha-256\n{rules.read_text()}")
        stack.database.run("CREATE ROLE doctor LOGIN PASSWORD 'right'", "SELECT pg_reload_conf()")
        for who in ("doctor:secret@", "stranger:secret@"):
            wrong = changed(settings, catalog_url=stack.catalog_url.replace("postgres@", who))
            found = look(wrong, "catalog", "tables")
            assert not found["catalog"].is_ok
            assert "secret" not in found["catalog"].message
            assert found["catalog"].mend == "correct user and password in MLOPS_CATALOG_URL"
            assert found["tables"].message == "not looked at: catalog comes first"
        nowhere = changed(settings, catalog_url=stack.database.url("nowhere"))
        assert look(nowhere, "catalog")["catalog"].mend.startswith("createdb ")

    def test_a_user_that_may_not_write(self, stack: Stack, settings: Settings) -> None:
        name = stack.catalog_url.rpartition("/")[2]
        stack.database.run("CREATE ROLE looker LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC", database=name)
        looker = changed(settings, catalog_url=stack.database.url(name, user="looker"))
        found = look(looker, "catalog")["catalog"]
        assert "may not create tables" in found.message
        assert 'GRANT CREATE, USAGE ON SCHEMA public TO "looker"' in found.mend
        stack.database.run("GRANT CREATE, USAGE ON SCHEMA public TO looker", database=name)
        found = look(looker, "catalog")["catalog"]
        assert "may not write iceberg_tables" in found.message
        assert "GRANT ALL ON ALL TABLES" in found.mend

    def test_a_host_that_never_answers(self, settings: Settings, nobody: str) -> None:
        started = time.monotonic()
        silent = changed(
            settings,
            catalog_url=f"postgresql://me@{nobody}/db",
            dagster_storage_url=f"postgresql://me@{nobody}/runs",
            mlflow_tracking_uri=f"http://{nobody}",
            crm_url=f"postgresql://me@{nobody}/crm",
        )
        found = look(silent, "catalog", "tables", "MLflow", "model", "Dagster", "CRM")
        # Together, not one after another; each attempt ends after 3 s.
        assert time.monotonic() - started < 30
        for name, each in found.items():
            assert not each.is_ok
            assert each.mend, name
        assert "docker compose up -d postgres" in found["catalog"].mend
        assert "docker compose up -d mlflow" in found["MLflow"].mend


class TestTheBucket:
    def test_missing(self, settings: Settings) -> None:
        found = look(changed(settings, warehouse_url="s3://no-such-bucket/lake"), "warehouse")["warehouse"]
        assert "arn:aws:s3:::no-such-bucket does not exist" in found.message
        assert found.mend.startswith("aws s3 mb s3://no-such-bucket")

    def test_a_wrong_key(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        found = look(settings, "warehouse")["warehouse"]
        assert not found.is_ok
        assert "AWS_SECRET_ACCESS_KEY" in found.mend
        assert "wrong" not in found.message

    def test_nothing_is_left_behind(self, stack: Stack, settings: Settings) -> None:
        assert look(settings, "warehouse")["warehouse"].is_ok
        assert [key for key in stack.bucket.listed() if "doctor" in key] == []

    def test_a_clock_that_is_off(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(clock, "TOLERATED_SECONDS", -1.0)
        found = look(settings, "clock")["clock"]
        assert "the database" in found.message
        assert found.mend == "sudo timedatectl set-ntp true"


class TestMLflow:
    def test_no_experiment_then_a_deleted_one(self, settings: Settings) -> None:
        other = changed(settings, experiment_name="another")
        found = look(other, "MLflow")["MLflow"]
        assert "has no experiment 'another'" in found.message
        assert found.mend.startswith("mlops train")
        from mlops_platform.training_pipeline.registry import MLflowManager

        client = MLflowManager(other).client
        number = client.create_experiment("another")
        assert look(other, "MLflow")["MLflow"].message.endswith("another has no run")
        client.delete_experiment(number)
        assert look(other, "MLflow")["MLflow"].mend == f"mlflow experiments restore --experiment-id {number}"

    def test_down(self, settings: Settings) -> None:
        down = changed(settings, mlflow_tracking_uri="http://127.0.0.1:9")
        found = look(down, "MLflow", "model")
        assert "does not answer" in found["MLflow"].message
        assert "docker compose up -d mlflow" in found["model"].mend


def test_a_table_that_is_gone(stack: Stack, settings: Settings) -> None:
    database = stack.catalog_url.rpartition("/")[2]
    row = "table_namespace = 'bronze' AND table_name = 'crm_customers'"
    stack.database.run(
        f"CREATE TABLE kept AS SELECT * FROM iceberg_tables WHERE {row}", f"DELETE FROM iceberg_tables WHERE {row}",
        database=database,
    )  # fmt: skip
    try:
        found = look(settings, "tables")["tables"]
    finally:
        stack.database.run("INSERT INTO iceberg_tables SELECT * FROM kept", "DROP TABLE kept", database=database)
    assert "bronze.crm_customers" in found.message
    assert not found.is_ok
    assert found.mend.startswith("mlops demo")


def test_stopped_servers_are_found_and_found_again(stack: Stack, settings: Settings) -> None:
    stack.database.kill()
    stack.store.kill()
    try:
        found = look(settings, "clock", "catalog", "warehouse", "tables", "query", "Dagster", "daemon")
    finally:
        stack.database.start()
        stack.store.start()
    assert [name for name, each in found.items() if each.is_ok] == []
    assert all(each.mend for each in found.values())
    assert "docker compose up -d postgres" in found["Dagster"].mend
    assert look(settings, "catalog", "warehouse")["warehouse"].is_ok


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with running_account() as found:
        yield found


class TestAws:
    def test_the_action_that_is_refused_is_named(
        self, account: Account, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bucket = account.bucket()
        for name, value in bucket.environment().items():
            monkeypatch.setenv(name, value)
        found = load_settings(
            home=tmp_path / "home",
            profile="aws",
            warehouse_url=bucket.url,
            dagster_storage_url="postgresql://me@127.0.0.1:9/dagster",
            mlflow_tracking_uri="http://127.0.0.1:9",
        )
        found.home.mkdir()
        namespaces = {name.partition(".")[0] for name in Lake(found).contracts}
        account.databases(*sorted(namespaces), warehouse=bucket.url)
        assert [each.is_ok for each in examine(found, ["catalog", "warehouse"])] == [True, True]
        actions = [
            "s3:ListBucket",
            "s3:PutObject",
            "s3:GetObject",
            "s3:DeleteObject",
            "glue:GetDatabase",
            "glue:GetTables",
        ]
        for refused in ("s3:ListBucket", "s3:PutObject", "s3:DeleteObject", "glue:GetTables"):
            allowed = [action for action in actions if action != refused]
            policy = {
                "Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": allowed, "Resource": "*"}],
            }  # fmt: skip
            for name, value in account.principal(policy).items():
                monkeypatch.setenv(name.upper(), value)
            with enforced(account):
                wrong = [each for each in examine(found, ["catalog", "warehouse"]) if not each.is_ok]
            assert wrong, refused
            assert refused in wrong[0].message
            assert f"allow {refused} on " in wrong[0].mend
