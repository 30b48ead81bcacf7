"""The whole demo on PostgreSQL, a bucket and an MLflow server holds what the embedded one holds, bit for bit.

Left out of the comparison is what differs between two embedded homes as well: the columns of `OWN` and what every
contract leaves out of its content (when a row was written, how long a score took). With the other tests, a small CRM
and a short horizon, whose model the gate lets pass unseen; with FULL_PROOFS=1 two years, and the gate's own decision.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from mlops_platform.contracts import all_contracts
from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.scale import IS_FULL, rounds
from mlops_platform_tests.server.stack import Stack

if TYPE_CHECKING:
    from mlops_platform.contracts import TableContract

UNTIL = date(2025, 3, 31)
HORIZON_DAYS = rounds(90, 10)
# An MLflow run's id and a snapshot's are drawn, and a decision's id is the hash of its run's.
OWN = {"run_id", "feature_snapshot_id", "decision_id"}
# Of demo.json: when, how long, where.
TIMES = {"seconds", "snapshot_id", "report_path"}
SQLITE_HEADER = b"SQLite format 3\0"
CACHE = "cache/online-store.db"


@dataclass(frozen=True)
class Home:
    """A home after the demo.

    Args:
        settings: Its settings.
        result: Its demo.json.
    """

    settings: Settings
    result: dict[str, Any]


@pytest.fixture(scope="module")
def crm(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('crm') / 'crm.db'}"
    seed(url, customers=rounds(5_000, 1_000), days=rounds(730, 75), seed=11, until=UNTIL)
    return url


@pytest.fixture(scope="module", autouse=True)
def gate() -> Iterator[None]:
    """Lets the small CRM's model pass."""
    from mlops_platform.training_pipeline import promotion

    with pytest.MonkeyPatch.context() as patch:
        if not IS_FULL:
            patch.setattr(promotion, "gate", lambda evaluation: None)
        yield


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory, crm: str) -> Home:
    folder = tmp_path_factory.mktemp("embedded") / "home"
    return Home(load_settings(home=folder, horizon_days=HORIZON_DAYS), demo(folder, crm))


@pytest.fixture(scope="module")
def server(stack: Stack, tmp_path_factory: pytest.TempPathFactory, crm: str) -> Home:
    folder = tmp_path_factory.mktemp("server") / "home"
    variables = stack.environment(folder)
    del variables["MLOPS_PROFILE"], variables["MLOPS_HOME"]
    settings = stack.settings(folder, horizon_days=HORIZON_DAYS)
    return Home(settings, demo(folder, crm, "--profile", "server", **variables))


def demo(home: Path, crm: str, *options: str, **variables: str) -> dict[str, Any]:
    done = mlops(
        "demo", "--json", "--home", home, "--crm", crm, *options, MLOPS_HORIZON_DAYS=str(HORIZON_DAYS), **variables
    )
    assert done.code == 0, done
    result: dict[str, Any] = json.loads(done.out)
    return result


def timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: timeless(cell) for key, cell in value.items() if key not in TIMES}
    return [timeless(cell) for cell in value] if isinstance(value, list) else value


def rows(settings: Settings, contract: TableContract) -> pa.Table:
    """A table's rows in an order of their own; of a float, its bits."""
    with Lake(settings).snapshot(contract).relation() as (duck, view):
        names = ", ".join(f'"{name}"' for name in contract.content_columns if name not in OWN)
        found = duck.sql(f"SELECT {names} FROM {view}").to_arrow_table()
    for index, name in enumerate(found.column_names):
        if pa.types.is_floating(found.schema.field(name).type):
            found = found.set_column(index, name, found[name].combine_chunks().view(pa.int64()))
    return found.sort_by([(name, "ascending") for name in found.column_names])


def run_of(settings: Settings) -> Any:
    """The MLflow run that made the Production model."""
    from mlops_platform.training_pipeline.registry import MLflowManager

    manager = MLflowManager(settings)
    return manager.client.get_run(manager.production(settings.model_name).run_id)


@pytest.mark.parametrize("name", sorted(all_contracts()))
def test_every_table_is_equal_bit_for_bit(embedded: Home, server: Home, name: str) -> None:
    contract = all_contracts()[name]
    expected = rows(embedded.settings, contract)
    if name in {"feature_store.customer_features", "ml.predictions", "monitoring.performance"}:
        assert len(expected) > 0
    assert rows(server.settings, contract).equals(expected)


def test_features_carry_equal_hashes_and_predictions_equal_ids(embedded: Home, server: Home) -> None:
    for name, column in (("feature_store.customer_features", "_feature_hash"), ("ml.predictions", "prediction_id")):
        contract = all_contracts()[name]
        assert column in set(contract.content_columns) - OWN
        assert rows(server.settings, contract)[column].equals(rows(embedded.settings, contract)[column])


def test_the_result_is_equal(embedded: Home, server: Home) -> None:
    assert server.result["status"] == "ok"
    assert timeless(server.result) == timeless(embedded.result)


def test_the_model_is_equal(embedded: Home, server: Home, stack: Stack) -> None:
    theirs, ours = run_of(embedded.settings), run_of(server.settings)
    assert ours.data.params == theirs.data.params
    assert ours.data.metrics == theirs.data.metrics
    folder = next(embedded.settings.mlflow_artifacts.glob(f"*/{theirs.info.run_id}/artifacts/serving"))
    kept = {
        key.rpartition("/")[2]: key
        for key in stack.bucket.listed("mlflow/")
        if f"{ours.info.run_id}/artifacts/serving" in key
    }
    assert kept.keys() == {path.name for path in folder.iterdir()}
    for name in ("booster.ubj", "trees.onnx"):
        assert stack.bucket.read(kept[name]) == (folder / name).read_bytes()


def test_the_service_takes_the_model_from_the_server(server: Home) -> None:
    from mlops_platform.inference_pipeline.current import CurrentModel

    current = CurrentModel(server.settings)
    assert current.refresh() == f"{server.settings.model_name} version 1 is served"


def test_runs_are_in_postgresql(embedded: Home, server: Home, stack: Stack) -> None:
    from mlops_platform.orchestration.instance import open_instance

    with open_instance(embedded.settings) as instance:
        expected = [("SUCCESS", len(instance.get_runs()))]
    found = stack.database.run("SELECT status, count(*) FROM runs GROUP BY 1", database=f"{stack.name}_dagster")
    assert found == expected
    with open_instance(server.settings) as instance:
        assert len(instance.get_runs()) == expected[0][1]


def test_the_home_holds_no_database_and_no_table(server: Home, stack: Stack) -> None:
    home = server.settings.home
    files = [path for path in home.rglob("*") if path.is_file()]
    databases = {str(path.relative_to(home)) for path in files if path.read_bytes().startswith(SQLITE_HEADER)}
    # The service's copy of the features, which it makes anew.
    assert databases <= {CACHE}
    assert not [path for path in files if path.suffix in {".parquet", ".avro"}]
    assert not server.settings.warehouse.exists()
    assert not server.settings.mlflow_artifacts.exists()
    assert stack.bucket.listed("lake/feature_store/customer_features/data/")


def test_the_buckets_key_may_come_from_a_file(stack: Stack, tmp_path: Path) -> None:
    bucket, keys = stack.bucket, tmp_path / "aws_credentials"
    bucket.write("from-a-file", b"read")
    keys.write_text(f"[default]\naws_access_key_id = {bucket.key}\naws_secret_access_key = {bucket.secret}\n")
    environment = {**os.environ, **bucket.environment(), "AWS_SHARED_CREDENTIALS_FILE": str(keys)}
    del environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    code = (
        "import boto3, sys; from mlops_platform.settings import load_settings\n"
        "from pyiceberg.io.pyarrow import PyArrowFileIO; name = sys.argv[1]\n"
        "where = load_settings(warehouse_url=f's3://{name}/lake').file_properties\n"
        "print(PyArrowFileIO(where).new_input(f's3://{name}/from-a-file').open().read())\n"
        "print(boto3.client('s3').get_object(Bucket=name, Key='from-a-file')['Body'].read())"
    )
    command = [sys.executable, "-c", code, bucket.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["b'read'", "b'read'"]
