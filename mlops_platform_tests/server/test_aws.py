"""The AWS profile on an account that checks who may do what: the platform works with its policies, and can no more.

Does not belong here: one table in Glue, and what AWS's refusals become (`integration/test_glue.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ClientError

from mlops_platform.contracts import BRONZE_TRANSACTIONS, PREDICTIONS, SILVER_TRANSACTIONS, STANDARD
from mlops_platform.data_pipeline import DataIngestionPipeline, DataProcessingPipeline
from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.errors import ConflictError, StorageError
from mlops_platform.feature_pipeline import FeaturePipeline
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage import catalog
from mlops_platform.storage.athena import athena_rows
from mlops_platform.storage.athena_query import athena_query
from mlops_platform.storage.glue import DATABASES
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.aws import Account, enforced, policy, running_account
from mlops_platform_tests.integration.buckets import Bucket
from mlops_platform_tests.integration.writers import start
from mlops_platform_tests.scale import IS_FULL, rounds
from mlops_platform_tests.unit.storage.things import APPEND, RANGE, on, rows

UNTIL = date(2025, 3, 31)
# Of two hundred commits on a busy machine; one that is stuck takes for ever.
PATIENCE_SECONDS = 900
# Granted for what does not happen here: uploads that are broken off, files so large that they go up in parts, a bucket
# whose region Athena asks for itself, a query that a person breaks off.
NOT_SHOWN = {"athena:StopQueryExecution", "s3:AbortMultipartUpload", "s3:GetBucketLocation"}


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with running_account() as found:
        yield found


@pytest.fixture(scope="module")
def bucket(account: Account) -> Bucket:
    found = account.bucket()
    account.databases(*DATABASES, warehouse=found.url)
    return found


def credentials_of(account: Account, bucket: Bucket, role: str) -> dict[str, str]:
    return account.principal(policy(role, lake_bucket=bucket.name, scratch_bucket=bucket.name))


def become(patch: pytest.MonkeyPatch, bucket: Bucket, credentials: dict[str, str]) -> None:
    """From here on this process is somebody."""
    for name, value in {**bucket.environment(), **{key.upper(): value for key, value in credentials.items()}}.items():
        patch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        patch.delenv(name, raising=False)
    catalog._glue_catalog.cache_clear()


Become = Callable[[str], AbstractContextManager[None]]


@pytest.fixture
def acting(account: Account, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Iterator[Become]:
    """Lets the process be a role, which is checked."""

    @contextmanager
    def as_role(role: str) -> Iterator[None]:
        become(monkeypatch, bucket, credentials_of(account, bucket, role))
        with enforced(account):
            yield

    yield as_role
    catalog._glue_catalog.cache_clear()


@pytest.fixture(scope="module")
def settings(bucket: Bucket, database: postgres.Server, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("aws")
    url = f"sqlite:///{folder / 'crm.db'}"
    seed(url, customers=1_500 if IS_FULL else 60, days=560 if IS_FULL else 20, seed=11, until=UNTIL)
    found = load_settings(
        home=folder / "home",
        profile="aws",
        crm_url=url,
        as_of=UNTIL,
        warehouse_url=bucket.url,
        dagster_storage_url=database.url("dagster"),
        mlflow_tracking_uri="http://127.0.0.1:5000",
        athena_results_url=f"s3://{bucket.name}/athena",
    )
    database.run("CREATE DATABASE dagster")
    # MLflow is another server's matter: here it is a file.
    return found.model_copy(update={"mlflow_tracking_uri": None})


@pytest.fixture(scope="module")
def used(account: Account, bucket: Bucket, settings: Settings) -> set[str]:
    """IAM's actions of a whole run as the role of the pipelines."""
    with pytest.MonkeyPatch.context() as patch:
        become(patch, bucket, credentials_of(account, bucket, "pipelines"))
        bucket.write("lake/silver/transactions/data/orphan.parquet", b"")
        with enforced(account):
            _line(settings)
            upkeep = maintain(
                Lake(settings), now=datetime.now(UTC) + timedelta(days=1), keep=(), keep_days=0, orphan_days=0
            )
            assert sum(table.orphans for table in upkeep)
            account.results = [pa.table({"x": [1]}), None]
            assert athena_rows(settings, "SELECT 1 AS x").to_pydict() == {"x": [1]}
            with athena_query(settings, "SELECT customer_id FROM silver.transactions") as reader:
                reader.read_all()
    catalog._glue_catalog.cache_clear()
    return set(account.used)


def _line(settings: Settings) -> None:
    """CRM to features; with FULL_PROOFS=1 the whole demo, to predictions and drift."""
    if IS_FULL:
        from mlops_platform.definitions import build_definitions
        from mlops_platform.orchestration.demo import run_demo
        from mlops_platform.settings import apply_exports

        apply_exports(settings)
        done = run_demo(settings, build_definitions, crm_url=settings.crm_url, as_of=None, progress=lambda line: None)
        assert (done.status, bool(done.predictions)) == ("ok", True)
        return
    DataIngestionPipeline(settings=settings).run()
    for path in ("crm/customers/", "crm/transactions/"):
        DataProcessingPipeline(f"bronze/{path}", f"silver/{path.removeprefix('crm/')}", settings=settings).run()
    assert len(FeaturePipeline(feature_date=UNTIL, settings=settings).run())


class TestRoles:
    def test_the_pipelines_work_and_use_what_they_are_granted(self, used: set[str]) -> None:
        granted = {action for statement in policy("pipelines")["Statement"] for action in statement["Action"]}
        of_the_lake = {action for action in granted if action.startswith(("athena:", "glue:", "s3:"))}
        assert used <= granted
        assert of_the_lake - used <= NOT_SHOWN

    def test_the_tables_hold_what_was_made(self, used: set[str], settings: Settings, acting: Become) -> None:
        with acting("exporter"):
            lake = Lake(settings)
            held = {contract.name: lake.snapshot(contract).count() for contract in _tables()}
        assert used
        assert all(held.values()), held
        assert held[SILVER_TRANSACTIONS.name] <= held[BRONZE_TRANSACTIONS.name]

    @pytest.mark.parametrize("role", ["analyst", "exporter"])
    def test_a_reader_may_not_write(self, role: str, used: set[str], settings: Settings, acting: Become) -> None:
        with acting(role):
            lake = Lake(settings)
            silver = lake.snapshot(SILVER_TRANSACTIONS)
            assert silver.count()
            with pytest.raises((StorageError, ClientError, OSError), match=r"AccessDenied|ACCESS_DENIED|refuses"):
                lake.publish(Draft(SILVER_TRANSACTIONS, silver.to_arrow().slice(0, 1), scope=_everything()))
        assert used

    @pytest.mark.parametrize(
        ("service", "operation", "arguments"),
        [
            ("s3", "list_objects_v2", {"Bucket": "others"}),
            ("s3", "get_object", {"Bucket": "others", "Key": "lake/x"}),
            ("s3", "put_object", {"Bucket": "others", "Key": "lake/x", "Body": b""}),
            ("s3", "put_object", {"Bucket": "ours", "Key": "elsewhere/x", "Body": b""}),
            ("s3", "delete_bucket", {"Bucket": "ours"}),
            ("s3", "put_bucket_policy", {"Bucket": "ours", "Policy": "{}"}),
            ("s3", "list_buckets", {}),
            ("glue", "get_database", {"Name": "others"}),
            ("glue", "get_table", {"DatabaseName": "others", "Name": "x"}),
            ("glue", "create_table", {"DatabaseName": "others", "TableInput": {"Name": "x"}}),
            ("glue", "delete_table", {"DatabaseName": "silver", "Name": "transactions"}),
            ("glue", "delete_database", {"Name": "silver"}),
            ("glue", "create_database", {"DatabaseInput": {"Name": "mine"}}),
            ("athena", "start_query_execution", {"QueryString": "SELECT 1", "WorkGroup": "others"}),
            ("iam", "list_users", {}),
            ("iam", "create_access_key", {"UserName": "root"}),
            ("sts", "assume_role", {"RoleArn": "arn:aws:iam::123456789012:role/admin", "RoleSessionName": "somebody"}),
            ("secretsmanager", "get_secret_value", {"SecretId": "mlops/MLOPS_CRM_URL"}),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_what_is_not_the_pipelines_is_refused(
        self, account: Account, bucket: Bucket, service: str, operation: str, arguments: dict[str, Any]
    ) -> None:
        given = {**arguments, "Bucket": bucket.name} if arguments.get("Bucket") == "ours" else arguments
        client = account.client(service, **credentials_of(account, bucket, "pipelines"))
        with enforced(account), pytest.raises(ClientError) as refused:
            getattr(client, operation)(**given)
        assert refused.value.response["Error"]["Code"] in {"403", "AccessDenied", "AccessDeniedException"}


def _tables() -> list[Any]:
    made = [BRONZE_TRANSACTIONS, SILVER_TRANSACTIONS, STANDARD.customer_features]
    return [*made, PREDICTIONS] if IS_FULL else made


def _everything() -> Any:
    from mlops_platform.storage.conditions import all_time

    return all_time("transaction_ts")


def write(environment: dict[str, str], arguments: dict[str, Any], writer: int, commits: int) -> None:
    """Appends to one table and replaces a day of another, `commits` times each; a conflict is tried again."""
    os.environ.update(environment)
    lake = Lake(load_settings(**arguments))
    day = date(2024, 1, 1 + writer)
    for number in range(commits):
        for draft in (
            Draft(APPEND, rows(f"{writer}/{number}")),
            Draft(RANGE, rows(f"{writer}/{number}", day=day), scope=on(day)),
        ):
            while True:
                try:
                    lake.publish(draft)
                    break
                except ConflictError:
                    continue


def test_four_writers_lose_and_double_nothing(
    account: Account, database: postgres.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket, commits = account.bucket(), rounds(25, 3)
    become(monkeypatch, bucket, {})
    arguments = {
        "home": tmp_path / "home",
        "profile": "aws",
        "warehouse_url": bucket.url,
        "dagster_storage_url": database.url(),
        "mlflow_tracking_uri": "http://127.0.0.1:5000",
    }
    writers = [start(write, bucket.environment(), arguments, number, commits) for number in range(4)]
    for writer in writers:
        writer.join(PATIENCE_SECONDS)
    assert [writer.exitcode for writer in writers] == [0] * 4
    lake = Lake(load_settings(**arguments))
    appended = lake.snapshot(APPEND).to_arrow(["thing"])["thing"].to_pylist()
    assert sorted(appended) == sorted(f"{writer}/{number}" for writer in range(4) for number in range(commits))
    held = lake.snapshot(RANGE).to_arrow(["thing"])["thing"].to_pylist()
    assert sorted(held) == [f"{writer}/{commits - 1}" for writer in range(4)]
    for contract in (APPEND, RANGE):
        assert len(lake.catalog.load_table(contract.name).snapshots()) == 4 * commits
