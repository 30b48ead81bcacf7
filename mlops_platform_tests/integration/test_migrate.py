"""A home moved to a real PostgreSQL and a bucket: the same tables, runs and models there, whatever interrupts it.

Does not belong here: how paths are changed (`unit/home_backup`).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import uuid
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Metric

from mlops_platform.errors import PlatformError, StorageError
from mlops_platform.home_backup import bucket as bucket_module
from mlops_platform.home_backup import migrate_rows, migrate_tables
from mlops_platform.home_backup.migrate import embedded, migrate
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.catalog import open_catalog
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager
from mlops_platform_tests.integration.buckets import Bucket
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.scale import only_whole, rounds
from mlops_platform_tests.unit.home_backup.homes import TABLES, WIDER, publish_tables, quiet, write
from mlops_platform_tests.unit.storage.things import APPEND, FEB, JAN, TABLE, draft, on, rows

EXPERIMENT, MODEL, TAG = "first tries", "churn", "trained-on"
ORDER = ("thing", "day", "price", "size")
# More than one part of an upload in parts.
BIG = bytes(range(256)) * 48_000

States = dict[str, dict[int | str, pa.Table]]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home with tables, runs and a model. No test changes it."""
    folder = tmp_path_factory.mktemp("migrate")
    settings = load_settings(home=folder / "the home")
    publish_tables(settings)
    table = open_catalog(settings).load_table(WIDER.name)
    table.manage_snapshots().create_tag(table.snapshots()[0].snapshot_id, TAG).commit()
    use_mlflow(settings, folder / "elsewhere")
    return settings


def use_mlflow(settings: Settings, elsewhere: Path) -> None:
    """A run in the home with all there is in one, a version in Production, and a run of another tool's."""
    manager = MLflowManager(settings)
    client, tmp = manager.client, settings.home / "tmp"
    write(tmp / "a plot 100%.txt", "a plot")
    write(tmp / "MLmodel", f"artifact_path: {settings.home}/mlflow-artifacts")
    (tmp / "big").write_bytes(BIG)
    with manager.run(EXPERIMENT, "one", {"made": f"in {settings.warehouse}"}) as run_id:
        client.log_param(run_id, "depth", 3)
        client.log_batch(run_id, metrics=[Metric("auc", value, 1_700_000_000_000, step) for step, value in SCORES])
        client.log_inputs(run_id, [DatasetInput(Dataset("rows", "digest", "local", f"{settings.warehouse}/test"))])
        client.log_artifact(run_id, str(tmp / "a plot 100%.txt"), "some plots")
        client.log_artifact(run_id, str(tmp / "MLmodel"), "model")
        client.log_artifact(run_id, str(tmp / "big"))
    version = manager.register_model(f"runs:/{run_id}/model", MODEL, {"note": "first"}, "A model")
    # By MLflow itself: through the manager it is a row of ml.promotions, one table more.
    with pytest.warns(FutureWarning):
        client.transition_model_version_stage(MODEL, version.version, PRODUCTION)
    client.set_registered_model_alias(MODEL, PRODUCTION.lower(), version.version)
    client.create_model_version(MODEL, source=f"{client.get_run(run_id).info.artifact_uri}/model", run_id=run_id)
    other = client.create_experiment("other", artifact_location=elsewhere.as_uri())
    client.log_artifact(client.create_run(other).info.run_id, str(tmp / "MLmodel"))


SCORES = list(enumerate([0.5, 0.75, 0.1 + 0.2, float("nan")]))


@pytest.fixture
def target(source: Settings, server: Server, bucket: Bucket) -> Settings:
    """The home with an empty database for each of catalog and MLflow, and an empty bucket."""
    names = [f"migrate_{uuid.uuid4().hex[:8]}" for _ in range(2)]
    server.run(*(f"CREATE DATABASE {name}" for name in names))
    return load_settings(
        home=source.home,
        catalog_url=server.url(names[0]),
        warehouse_url=bucket.url,
        mlflow_tracking_uri=server.url(names[1]),
    )


def move(target: Settings) -> list[tuple[str, int, int, bool]]:
    """Migrates; each table's name, rows, snapshots, and whether it was new."""
    return [(t.name, t.state.rows, t.snapshots, t.is_new) for t in migrate(target, say=quiet).tables]


def states(settings: Settings) -> States:
    """The rows of every snapshot of every table; the present ones under 0, tagged ones under the tag."""
    lake, found = Lake(settings), States()
    for contract in TABLES:
        now = lake.snapshot(contract)
        assert now.table is not None
        keys: list[int | str] = [*(s.snapshot_id for s in now.table.snapshots()), *now.table.refs()]
        found[contract.name] = {0: now.to_arrow(order_by=ORDER)} | {k: now.at(k).to_arrow(order_by=ORDER) for k in keys}
    return found


def metadata(settings: Settings) -> dict[str, dict[str, Any]]:
    """Each table's metadata without its paths."""
    catalog, found = open_catalog(settings), {}
    for contract in TABLES:
        entry = catalog.load_table(contract.name).metadata.model_dump(mode="json")
        for snapshot in entry["snapshots"]:
            snapshot["manifest-list"] = Path(snapshot["manifest-list"]).name
        for log in entry["metadata-log"]:
            log["metadata-file"] = Path(log["metadata-file"]).name
        entry.pop("location")
        found[contract.name] = entry
    return found


def registry(settings: Settings, uri: str) -> list[Any]:
    """What MLflow says of the runs and the model, artifacts by their content; locations left out."""
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    ids = {experiment.name: experiment.experiment_id for experiment in client.search_experiments()}
    found: list[Any] = [ids]
    for run in client.search_runs([ids[EXPERIMENT], ids["other"]], order_by=["start_time"]):
        history = [(m.step, m.timestamp, repr(m.value)) for m in client.get_metric_history(run.info.run_id, "auc")]
        data = Path(client.download_artifacts(run.info.run_id, ""))
        files = {path.relative_to(data).as_posix(): path.read_bytes() for path in data.rglob("*") if path.is_file()}
        inputs = [(i.dataset.name, i.dataset.digest) for i in run.inputs.dataset_inputs]
        found.append((run.info.run_id, run.info.status, run.info.start_time, run.data.params, history, inputs, files))
    (model,) = client.search_registered_models()
    found.append((model.name, model.description, model.aliases))
    for version in client.search_model_versions(f"name = '{MODEL}'"):
        found.append((version.version, version.run_id, version.current_stage, version.tags))
    return found


def contents(settings: Settings) -> dict[str, bytes]:
    """Every file of the home but for scratch."""
    scratch = {"locks", "tmp"}
    files = (path for path in settings.home.rglob("*") if path.is_file())
    found = {path.relative_to(settings.home): path.read_bytes() for path in files}
    return {str(path): data for path, data in found.items() if path.parts[0] not in scratch}


class TestTheServerHas:
    @pytest.fixture
    def moved(self, source: Settings, target: Settings) -> Settings:
        before = contents(source)
        assert move(target) == [
            ("test.appended", 3, 3, True),
            ("test.by_range", 4, 4, True),
            ("test.whole", 2, 2, True),
        ]
        assert contents(source) == before
        return target

    def test_every_table(self, source: Settings, moved: Settings, bucket: Bucket) -> None:
        assert states(moved) == states(source)
        assert TAG in states(moved)[WIDER.name]
        assert metadata(moved) == metadata(source)
        # No object names the home, and every manifest is as long as its list says: a full read found them.
        json_files = [key for key in bucket.listed("lake") if key.endswith(".json")]
        assert len(json_files) > len(TABLES)
        assert all(str(source.home).encode() not in bucket.read(key) for key in json_files)
        # The server's catalog is used from here on, through DuckDB and PyArrow.
        lake = Lake(moved)
        lake.publish(draft("new", day=FEB))
        weighed = rows("h", day=JAN).append_column("weight", pa.array([0.5]))
        lake.publish(Draft(WIDER, weighed, scope=on(JAN)))
        lake.publish(Draft(APPEND, rows("s")))
        assert lake.snapshot(WIDER).to_arrow(["thing", "weight"], order_by=["thing"]).to_pydict() == {
            "thing": ["h", "new"],
            "weight": [0.5, None],
        }
        assert lake.snapshot(APPEND).count() == 4
        assert lake.snapshot(TABLE).at(metadata(source)[TABLE.name]["snapshots"][0]["snapshot-id"]).count() == 1
        assert Lake(source).snapshot(APPEND).count() == 3

    def test_every_run_and_model(self, source: Settings, moved: Settings, bucket: Bucket) -> None:
        uri = str(moved.mlflow_tracking_uri).replace("postgresql:", "postgresql+psycopg2:")
        before, after = registry(source, source.tracking_uri), registry(moved, uri)
        assert len(before) == 6
        assert after == before
        assert (b"artifact_path: " + str(source.home).encode()) in after[1][-1]["model/MLmodel"]
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        run = client.get_run(after[1][0])
        root = f"s3://{bucket.name}/mlflow-artifacts"
        assert run.info.artifact_uri == f"{root}/{EXPERIMENT}/{run.info.run_id}/artifacts"
        assert run.data.tags["made"] == f"in {bucket.url}"
        assert run.inputs.dataset_inputs[0].dataset.source == f"{bucket.url}/test"
        assert client.get_experiment_by_name("other").artifact_location == f"{root}/experiment-2"
        assert client.get_experiment("0").artifact_location == f"{root}/experiment-0"
        assert client.get_model_version(MODEL, "1").source == f"runs:/{run.info.run_id}/model"
        assert client.get_model_version_download_uri(MODEL, "2") == f"{run.info.artifact_uri}/model"
        assert client.get_model_version_by_alias(MODEL, "production").run_id == run.info.run_id
        # New ids go on where the home's ended.
        assert client.create_experiment("next", artifact_location=f"{root}/next") == "3"
        manager = MLflowManager(moved.model_copy(update={"mlflow_tracking_uri": uri}))
        with manager.run(EXPERIMENT, "two", {}) as run_id:
            client.log_text(run_id, "a model", "model/MLmodel")
        assert manager.register_model(f"runs:/{run_id}/model", MODEL).version == "3"
        assert f"mlflow-artifacts/{EXPERIMENT}/{run_id}/artifacts/model/MLmodel" in bucket.listed()
        # It was used since: its rows are not the home's any more.
        with pytest.raises(StorageError, match=r"MLflow's .* rows on the server"):
            migrate(moved, say=quiet)

    def test_nothing_more_when_run_again(self, target: Settings, moved: Settings, bucket: Bucket) -> None:
        before, held = metadata(moved), bucket.listed()
        done = migrate(target, say=quiet)
        assert [table.is_new for table in done.tables] == [False] * 3
        assert done.registry is not None
        assert not done.registry.is_new
        assert (metadata(moved), bucket.listed()) == (before, held)

    @only_whole
    def test_a_table_that_was_used_since_is_named(self, moved: Settings) -> None:
        Lake(moved).publish(draft("new", day=FEB))
        before = metadata(moved)
        with pytest.raises(StorageError, match=r"test\.by_range is in the server's catalog already and was written to"):
            migrate(moved, say=quiet)
        assert metadata(moved) == before

    @only_whole
    def test_a_table_that_was_only_cleaned_up_since_is_the_same(self, moved: Settings) -> None:
        first = metadata(moved)[WIDER.name]["snapshots"][1]["snapshot-id"]
        open_catalog(moved).load_table(WIDER.name).maintenance.expire_snapshots().by_id(first).commit()
        before = metadata(moved)
        assert move(moved)[1][-1] is False
        assert metadata(moved) == before

    def test_a_file_with_other_rows_is_noticed_and_mended(
        self, source: Settings, moved: Settings, bucket: Bucket
    ) -> None:
        (key, *_) = [key for key in bucket.listed("lake/test/appended") if key.endswith(".parquet")]
        bucket.write(key, forged(bucket.read(key)))
        with pytest.raises(StorageError, match=r"test\.appended is not on the server as it is in the home: 3 rows"):
            migrate(moved, say=quiet)
        assert not open_catalog(moved).table_exists(APPEND.name)
        assert [table[-1] for table in move(moved)] == [True, False, False]
        assert states(moved) == states(source)

    @only_whole
    def test_a_file_that_is_gone_is_noticed(self, moved: Settings, bucket: Bucket) -> None:
        for kind in (".parquet", ".avro"):
            (key, *_) = [key for key in bucket.listed("lake/test/whole") if key.endswith(kind)]
            bucket.delete(key)
            with pytest.raises(StorageError, match=r"test\.whole is not on the server"):
                migrate(moved, say=quiet)
            assert not open_catalog(moved).table_exists(TABLE.name)
            assert [table[-1] for table in move(moved)] == [False, False, True]


def forged(data: bytes) -> bytes:
    """A Parquet file of the same size with another row."""
    found = pq.read_table(pa.BufferReader(data)).replace_schema_metadata(None)
    found = found.set_column(0, found.schema.field(0), pa.array(["forged"] * len(found), found.schema.field(0).type))
    made = b""
    for pad in range(len(data)):
        sink = pa.BufferOutputStream()
        with pq.ParquetWriter(sink, found.schema, compression="zstd", store_schema=False) as writer:
            writer.write_table(found)
            writer.add_key_value_metadata({"pad": "x" * pad})
        made = sink.getvalue().to_pybytes()
        if len(made) >= len(data):
            break
    assert len(made) == len(data)
    return made


class Died(BaseException):
    """Stands for the end of the process."""


def dies(patch: pytest.MonkeyPatch, owner: Any, name: str, at: int, *, is_half_done: bool = False) -> None:
    """The function ends the process at its n-th call, before or in the middle of what it does."""
    real, calls = getattr(owner, name), iter(range(1, 10_000))

    def dying(*arguments: Any, **more: Any) -> Any:
        if next(calls) != at:
            return real(*arguments, **more)
        if is_half_done:
            source, sink, *_ = arguments
            sink.write(source.read(100))
        raise Died

    patch.setattr(owner, name, dying)


POINTS: list[tuple[Any, str, int, bool]] = [
    (bucket_module.BucketFolder, "ensure", 2, False),
    (bucket_module.shutil, "copyfileobj", 3, True),
    (bucket_module.BucketFolder, "put", 1, False),
    (bucket_module.BucketFolder, "put", 12, False),
    (migrate_tables, "state_of", 2, False),
    (migrate_tables.TableMigration, "_register", 1, False),
    (migrate_tables.TableMigration, "_register", 2, False),
    (migrate_tables, "_rows", 5, False),
    (bucket_module.shutil, "copyfileobj", 4, True),
    (migrate_rows.TrackingDatabase, "copy", 1, False),
    (migrate_rows, "_copy_rows", 20, False),
    (migrate_rows, "_record", 1, False),
    (migrate_rows, "_digest", 9, False),
]


def test_it_goes_on_after_every_death(source: Settings, target: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(source)
    for owner, name, at, is_half_done in POINTS[:: rounds(full=1, share=2)]:
        with monkeypatch.context() as patch:
            dies(patch, owner, name, at, is_half_done=is_half_done)
            with pytest.raises(Died):
                migrate(target, say=quiet)
    assert contents(source) == before
    migrate(target, say=quiet)
    uri = str(target.mlflow_tracking_uri).replace("postgresql:", "postgresql+psycopg2:")
    assert states(target) == states(source)
    assert metadata(target) == metadata(source)
    assert registry(target, uri) == registry(source, source.tracking_uri)
    assert not list((source.home / "tmp").glob("migrate-*"))


KILLED = """
import os
from mlops_platform.home_backup import migrate_tables
real = migrate_tables.TableMigration._register
def register(self, name, location):
    if name == "test.by_range":
        os.kill(os.getpid(), 9)
    real(self, name, location)
migrate_tables.TableMigration._register = register
from mlops_platform.cli import main
main()
"""


def test_it_goes_on_after_a_kill(source: Settings, target: Settings) -> None:
    arguments = ["migrate", "--to", "server", "--home", str(source.home)]
    environment = {
        "MLOPS_CATALOG_URL": str(target.catalog_url),
        "MLOPS_WAREHOUSE_URL": str(target.warehouse_url),
        "MLFLOW_TRACKING_URI": str(target.mlflow_tracking_uri),
    }
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], env={**os.environ, **environment}, capture_output=True, check=False
    )
    assert done.returncode == -9, done
    assert [table.is_new for table in migrate(target, say=quiet).tables] == [False, True, True]
    assert states(target) == states(source)


class TestRefused:
    def refusal(self, target: Settings) -> str:
        with pytest.raises(PlatformError) as caught:
            migrate(target, say=quiet)
        return str(caught.value)

    def test_another_home_with_the_same_tables(self, target: Settings, tmp_path: Path) -> None:
        other = target.model_copy(update={"home": tmp_path / "other"})
        publish_tables(embedded(other))
        migrate(other, say=quiet)
        before = metadata(target)
        assert "test.appended is in the server's catalog already and is another" in self.refusal(target)
        assert metadata(target) == before

    def test_a_database_with_runs(self, target: Settings, source: Settings, server: Server) -> None:
        uri = str(target.mlflow_tracking_uri).replace("postgresql:", "postgresql+psycopg2:")
        client = MlflowClient(tracking_uri=uri)
        client.create_run("0")
        assert "holds rows in MLflow's" in self.refusal(target)
        database = str(target.mlflow_tracking_uri).rpartition("/")[2]
        server.run("CREATE TABLE mlops_migration AS SELECT '/another/home' AS home", database=database)
        assert "the runs of another home, /another/home" in self.refusal(target)
        # Nothing was copied before.
        assert not open_catalog(target).list_namespaces()

    def test_a_table_that_mlflow_made_itself_is_no_hindrance(self, target: Settings, source: Settings) -> None:
        uri = str(target.mlflow_tracking_uri).replace("postgresql:", "postgresql+psycopg2:")
        assert MlflowClient(tracking_uri=uri).get_experiment("0").name == "Default"
        migrate(target, say=quiet)
        assert registry(target, uri) == registry(source, source.tracking_uri)

    def test_no_home(self, target: Settings, tmp_path: Path) -> None:
        assert "is no home" in self.refusal(target.model_copy(update={"home": tmp_path}))

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (("tags", "value", "private\0"), "can't be stored in PostgreSQL"),
            (("runs", "artifact_uri", "s3://private/" + "x" * 200), "value too long"),
            (("experiments", "artifact_location", "file://{home}/mlflow-artifacts/50%25"), "can't be an address in a"),
        ],
    )
    def test_what_a_server_can_not_hold(
        self, source: Settings, target: Settings, tmp_path: Path, change: tuple[str, str, str], words: str
    ) -> None:
        table, column, value = change
        # Without tables, too.
        home = target.model_copy(update={"home": tmp_path / "home"})
        home.home.mkdir()
        shutil.copy(source.home / "mlflow.db", home.home)
        with closing(sqlite3.connect(home.home / "mlflow.db")) as opened, opened:
            opened.execute(f"UPDATE {table} SET {column} = ?", [value.replace("{home}", str(home.home))])
        found = self.refusal(home)
        assert words in found
        assert "private" not in found
        shutil.copy(source.home / "mlflow.db", home.home)
        assert migrate(home, say=quiet).tables == ()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"catalog_url": None}, "--catalog-url or MLOPS_CATALOG_URL is missing"),
            ({"warehouse_url": None}, "--warehouse-url or MLOPS_WAREHOUSE_URL is missing"),
            ({"warehouse_url": "s3://there-is-none/lake"}, "there is no bucket there-is-none"),
            ({"warehouse_url": "s3://bucket/a#b"}, "can't hold tables"),
            ({"mlflow_tracking_uri": "http://127.0.0.1:5000"}, "is an MLflow server"),
            ({"mlflow_tracking_uri": "sqlite:///other.db"}, "can't hold a server's runs"),
            ({"mlflow_tracking_uri": "postgresql://u:hidden@127.0.0.1:1/x"}, "u:***@127.0.0.1:1/x can't be reached"),
            ({"catalog_url": "postgresql://u:hidden@127.0.0.1:1/x"}, "u:***@127.0.0.1:1/x can't be opened"),
        ],
    )
    def test_what_leads_nowhere(self, target: Settings, change: dict[str, str | None], words: str) -> None:
        found = self.refusal(target.model_copy(update=change))
        assert words in found
        assert "hidden" not in found


class TestTheCommand:
    def run(self, target: Settings, *more: str, **environment: str) -> Any:
        return mlops("migrate", "--home", target.home, *more, **environment)

    def test_it_says_what_is_there_and_what_to_do_next(self, target: Settings, server: Server) -> None:
        secret = {
            "MLOPS_CATALOG_URL": str(target.catalog_url).replace("postgres@", "postgres:hidden@"),
            "MLOPS_WAREHOUSE_URL": str(target.warehouse_url),
        }
        tracking = str(target.mlflow_tracking_uri).replace("postgres@", "postgres:hidden@")
        done = self.run(target, "--to", "server", "--tracking-uri", tracking, **secret)
        assert done.code == 0, done
        for words in (
            "test.by_range     4          4",
            "MLflow: 3 experiments, 2 runs, 2 model versions, 4 artifact files.",
            "1 MLflow runs were not finished",
            "Dagster's run history",
            f"export MLOPS_CATALOG_URL='postgresql://postgres:***@127.0.0.1:{server.port}",
            f"export MLOPS_WAREHOUSE_URL={target.warehouse_url}",
            "export MLFLOW_TRACKING_URI='postgresql+psycopg2://postgres:***@127.0.0.1",
        ):
            assert words in done.out
        assert "hidden" not in done.out + done.err

    def test_without_a_tracking_address_runs_stay(self, target: Settings) -> None:
        where = ("--catalog-url", str(target.catalog_url), "--warehouse-url", str(target.warehouse_url))
        # What `mlops env` exports names no server.
        done = self.run(target, "--to", "server", *where, MLFLOW_TRACKING_URI=embedded(target).tracking_uri)
        assert done.code == 0, done
        assert "no tracking address was given: runs and models stay in" in done.out
        assert "MLFLOW_TRACKING_URI" not in done.out

    def test_mistakes_are_one_message(self, target: Settings) -> None:
        assert self.run(target, "--to", "embedded").is_refusal("mlops restore FILE")
        assert self.run(target, "--to", "moon").is_refusal("'moon'", "--to server")
        assert self.run(target, "--to", "server").is_refusal("--catalog-url", "--warehouse-url", "is missing")
        assert self.run(target, "--to", "server", "--catalog-url", "mysql://x").is_refusal("postgresql://")
