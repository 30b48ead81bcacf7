"""Spark on the server profile's Iceberg tables: what it reads there, and what it writes onto a branch.

The tables lie in a bucket and are listed in PostgreSQL, both real. Each test's transactions are one snapshot of the one
table. Branches without Spark: `unit/storage/test_branch.py`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import pyarrow as pa
import pytest

from mlops_platform.contracts import SILVER_TRANSACTIONS, STANDARD
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import ConflictError, ContractError, StorageError
from mlops_platform.feature_pipeline.compute import compute_features
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.feature_pipeline.spark import spark_features
from mlops_platform.feature_pipeline.spark_session import spark_options
from mlops_platform.feature_pipeline.spark_write import stamping
from mlops_platform.settings import load_settings
from mlops_platform.storage.branch import open_branch
from mlops_platform.storage.conditions import Condition, all_time, day_range
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.storage.rows import StagedRows, gather
from mlops_platform_tests.benchmarks.features import synthetic_rows
from mlops_platform_tests.engines.columns import TOLERANCE, differing
from mlops_platform_tests.engines.conftest import DAYS, Silver
from mlops_platform_tests.engines.silver_tables import published
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.integration.buckets import Bucket
from mlops_platform_tests.integration.object_store import running_store
from mlops_platform_tests.integration.test_real_data import CDNOW, DATA, Imported
from mlops_platform_tests.oracles.features import features_at
from mlops_platform_tests.properties.comparing import by_customer, differences
from mlops_platform_tests.scale import IS_FULL

AT = datetime(2025, 6, 30, tzinfo=UTC)
FEATURES = STANDARD.customer_features
CANARY = "Canary7of'Spark"
# Java's exp and C's are within one unit in the last place of the true value, and not always the same side of it.
LAST_BIT = {"churn_score"}
WAIT_SECONDS = 600.0

pytestmark = pytest.mark.usefixtures("spark")


@dataclass(frozen=True)
class Served:
    """A lake whose catalog is in a PostgreSQL that asks for a password and whose files are in an S3."""

    lake: Lake
    by_spark: Lake
    bucket: Bucket

    @property
    def refs(self) -> list[str]:
        return sorted(self.lake.catalog.load_table(FEATURES.name).refs())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, credentials: Path) -> Iterator[Served]:
    if not os.environ.get("MLOPS_SPARK_JARS"):
        pytest.skip("Iceberg's jars for Spark can't be had; see tools/maven.py")
    programs = postgres.find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server here; Debian's package is `postgresql`")
    folder = tmp_path_factory.mktemp("spark")
    with (
        postgres.running(programs) as database,
        running_store(folder / "s3") as store,
        pytest.MonkeyPatch.context() as patch,
    ):
        bucket = store.bucket()
        # Java may run already: it reads the file when it first needs a key.
        credentials.write_text(f"[default]\naws_access_key_id={bucket.key}\naws_secret_access_key={bucket.secret}\n")
        for name, value in bucket.environment().items():
            patch.setenv(name, value)
        quoted = CANARY.replace("'", "''")
        database.run(
            "CREATE DATABASE lake", f"CREATE ROLE mlops LOGIN PASSWORD '{quoted}'", "ALTER DATABASE lake OWNER TO mlops"
        )
        hba = database.folder / "data" / "pg_hba.conf"
        hba.write_text("host all mlops 127.0.0.1/32 scram-sha-256\n" + hba.read_text())
        database.run("SELECT pg_reload_conf()")
        address = database.url("lake", "mlops").replace("mlops@", f"mlops:{CANARY.replace(chr(39), '%27')}@")
        settings = load_settings(home=folder / "home", catalog_url=address, warehouse_url=bucket.url)
        yield Served(Lake(settings), Lake(settings.model_copy(update={"engine": "spark"})), bucket)


@pytest.fixture(scope="module")
def drawn(served: Served, histories: Silver) -> TableSnapshot:
    """The drawn histories in the bucket."""
    return published(served.lake, histories.purchases)


@pytest.mark.parametrize("day", DAYS if IS_FULL else DAYS[2:3], ids=str)
def test_every_cell_is_the_oracles(day: date, served: Served, drawn: TableSnapshot, histories: Silver) -> None:
    found = spark_features(served.by_spark.settings, drawn, day)
    assert found.column_names == ["customer_id", "feature_date", *STANDARD.names]
    assert set(found["feature_date"].to_pylist()) == {day}
    assert differences(by_customer(found), features_at(histories.purchases, day)) == []


def test_a_restricted_snapshot_of_the_past_gives_only_its_rows(served: Served, drawn: TableSnapshot) -> None:
    day = DAYS[-1]
    kept = replace(drawn, where=(Condition("transaction_date", ">=", day - timedelta(days=30)),))
    # The table's present state holds other rows.
    served.lake.publish(Draft(SILVER_TRANSACTIONS, drawn.to_arrow().slice(0, 1), scope=all_time("transaction_ts")))
    found = by_customer(spark_features(served.by_spark.settings, kept, day))
    assert found
    assert differences(found, by_customer(compute_features(served.lake.settings, kept, [day], created_at=AT))) == []


def test_cdnow_written_by_spark_is_what_duckdb_publishes(served: Served, tmp_path: Path) -> None:
    if not (DATA / CDNOW.name / "transactions.parquet").is_file():
        pytest.skip(f"no {CDNOW.name} in ../shared/data beside the project")
    transactions = _in_the_bucket(served, Imported(CDNOW, tmp_path).lake.snapshot(SILVER_TRANSACTIONS).to_arrow())
    days = CDNOW.feature_dates
    usual = features_draft(served.lake, transactions, days, created_at=AT)
    draft = features_draft(served.by_spark, transactions, days, created_at=AT)
    assert isinstance(draft.rows, StagedRows)
    assert draft.rows.branch is not None
    assert served.refs == sorted(["main", draft.rows.branch.name])
    result = served.by_spark.publish(draft)
    assert (result.is_new, served.refs) == (True, ["main"])
    assert (draft.properties, draft.marks, draft.figures) == (usual.properties, usual.marks, usual.figures)
    assert (
        served.lake.properties(FEATURES).items()
        >= {**usual.properties, "mark.made-from": usual.marks["made-from"]}.items()
    )
    assert isinstance(usual.rows, pa.Table)
    _assert_duckdbs(served.lake.snapshot(FEATURES), usual.rows, at_least=CDNOW.customers * 3 // 2)


def test_equal_rows_commit_nothing_and_other_dates_stay(served: Served, drawn: TableSnapshot) -> None:
    first, second = DAYS[2], DAYS[2] - timedelta(days=1)
    for day in (first, second):
        served.lake.publish(features_draft(served.lake, drawn, [day], created_at=AT))
    one = served.by_spark.publish(features_draft(served.by_spark, drawn, [first], created_at=AT))
    count = served.lake.snapshot(FEATURES).count()
    files = _data_files(served)
    again = served.by_spark.publish(features_draft(served.by_spark, drawn, [first], created_at=AT + timedelta(days=1)))
    assert (again.is_new, again.snapshot_id, again.rows) == (False, one.snapshot_id, one.rows)
    assert (served.lake.snapshot(FEATURES).count(), _data_files(served), served.refs) == (count, files, ["main"])
    assert served.lake.snapshot(FEATURES).count(day_range("feature_date", second, second)) > 0


def test_a_failed_audit_leaves_the_table_and_no_branch(served: Served, drawn: TableSnapshot) -> None:
    day = DAYS[0]
    served.lake.publish(features_draft(served.lake, drawn, [DAYS[1]], created_at=AT))
    before, files = served.lake.snapshot(FEATURES), _data_files(served)
    draft = features_draft(served.by_spark, drawn, [day], created_at=AT)
    columns = tuple(replace(c, le=-1) if c.name == "tenure_days" else c for c in FEATURES.columns)
    with pytest.raises(ContractError, match=r"values_in_contract: tenure_days out of contract: \d+"):
        served.by_spark.publish(replace(draft, contract=replace(FEATURES, columns=columns)))
    after = served.lake.snapshot(FEATURES)
    assert (after.snapshot_id, _data_files(served), served.refs) == (before.snapshot_id, files, ["main"])


def test_a_publish_between_branch_and_swap_is_a_conflict(served: Served, drawn: TableSnapshot) -> None:
    day = DAYS[3]
    draft = features_draft(served.by_spark, drawn, [day], created_at=AT)
    bought = Condition("transaction_date", ">=", day - timedelta(days=30))
    theirs = served.lake.publish(features_draft(served.lake, replace(drawn, where=(bought,)), [day], created_at=AT))
    with pytest.raises(ConflictError, match="another run has published these rows"):
        served.by_spark.publish(draft)
    assert (served.lake.snapshot(FEATURES).snapshot_id, served.refs) == (theirs.snapshot_id, ["main"])


WRITER = """
import sys
from datetime import UTC, date, datetime, timedelta
from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
lake = Lake(load_settings(home=sys.argv[1], engine="spark"))
silver = lake.snapshot(SILVER_TRANSACTIONS).at(int(sys.argv[2]))
day = date.fromisoformat(sys.argv[3])
features_draft(lake, silver, [day + timedelta(days=n) for n in range(30)], created_at=datetime(2025, 6, 30, tzinfo=UTC))
"""


@pytest.mark.skipif(not IS_FULL, reason="FULL_PROOFS=1 runs it; unit/storage/test_branch.py kills a smaller writer")
def test_killed_while_spark_writes_it_leaves_the_old_table(
    served: Served, drawn: TableSnapshot, tmp_path: Path
) -> None:
    day, settings = DAYS[1], served.lake.settings
    before = served.lake.publish(features_draft(served.lake, drawn, [day], created_at=AT))
    environment = {
        **os.environ,
        "MLOPS_CATALOG_URL": str(settings.catalog_url),
        "MLOPS_WAREHOUSE_URL": served.bucket.url,
    }
    command = [sys.executable, "-c", WRITER, str(settings.home), str(drawn.snapshot_id), day.isoformat()]
    with (tmp_path / "log").open("wb") as log:
        writer = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    _wait(lambda: _has_written(served), writer, tmp_path / "log")
    java = psutil.Process(writer.pid).children(recursive=True)
    told = _command_lines(writer.pid)
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    # Its Java ends with it.
    psutil.wait_procs(java, timeout=60)
    assert served.bucket.secret not in told
    assert CANARY not in told
    assert CANARY not in (tmp_path / "log").read_text()
    assert served.lake.snapshot(FEATURES).snapshot_id == before.snapshot_id
    assert len(served.refs) == 2
    open_branch(settings, FEATURES).close()
    assert (served.lake.snapshot(FEATURES).snapshot_id, served.refs) == (before.snapshot_id, ["main"])


WORKER = """
import pickle, sys
sys.modules["mlops_platform"] = None
stamped, batches = pickle.loads(sys.stdin.buffer.read())
print(sum(batch.num_rows for batch in stamped(batches)))
"""


def test_the_workers_of_spark_do_without_the_platform(tmp_path: Path) -> None:
    from pyspark import cloudpickle

    schema = arrow_schema(FEATURES)
    kept = pa.schema([schema.field(name) for name in ("customer_id", *STANDARD.names)])
    row = {field.name: "a" if pa.types.is_string(field.type) else 1 for field in kept}
    sent = cloudpickle.dumps((stamping(STANDARD, DAYS[0], AT), [pa.RecordBatch.from_pylist([row], schema=kept)]))
    run = subprocess.run([sys.executable, "-c", WORKER], input=sent, capture_output=True, cwd=tmp_path, check=False)
    assert run.stdout.split() == [b"1"], run.stderr.decode()


class TestOptions:
    def test_they_and_the_command_line_hold_no_secret(self, served: Served, drawn: TableSnapshot) -> None:
        assert spark_features(served.by_spark.settings, replace(drawn, snapshot_id=None), DAYS[0]).num_rows == 0
        options = spark_options(served.lake.settings)
        assert options["spark.sql.catalog.mlops.jdbc.user"] == "mlops"
        told = " ".join(options.values()) + _command_lines(os.getpid())
        assert not [secret for secret in (CANARY, "Canary", served.bucket.secret) if secret in told]

    def test_a_catalog_that_does_not_answer_is_one_message(self, served: Served) -> None:
        address = "postgresql://mlops:geheim@127.0.0.1:9/lake"
        settings = served.by_spark.settings.model_copy(update={"catalog_url": address})
        with pytest.raises(
            StorageError, match=r"Spark can't open the catalog .*127\.0\.0\.1:9.*Connection to"
        ) as caught:
            spark_features(settings, served.lake.snapshot(SILVER_TRANSACTIONS), DAYS[0])
        assert "geheim" not in str(caught.value)


@pytest.mark.skipif(not IS_FULL, reason="FULL_PROOFS=1 runs it: ten minutes")
def test_ten_million_rows_written_by_spark_are_duckdbs(served: Served) -> None:
    day, customers = date(2024, 10, 27), 200_000
    with synthetic_rows(10_000_000, customers) as reader:
        staged = gather(served.lake.settings, SILVER_TRANSACTIONS, reader)
    served.lake.publish(Draft(SILVER_TRANSACTIONS, staged, scope=all_time("transaction_ts")))
    transactions = served.lake.snapshot(SILVER_TRANSACTIONS)
    served.by_spark.publish(features_draft(served.by_spark, transactions, [day], created_at=AT))
    written = replace(served.lake.snapshot(FEATURES), where=day_range("feature_date", day, day))
    expected = compute_features(served.lake.settings, transactions, [day], created_at=AT)
    _assert_duckdbs(written, expected, at_least=customers * 9 // 10)


def _in_the_bucket(served: Served, rows: pa.Table) -> TableSnapshot:
    """The rows as one file and not one for each of hundreds of days; no feature looks at `transaction_ts`."""
    place = rows.schema.get_field_index("transaction_ts")
    moment = pa.repeat(pa.scalar(AT, rows.schema.field(place).type), rows.num_rows)
    rows = rows.set_column(place, rows.schema.field(place), moment)
    served.lake.publish(Draft(SILVER_TRANSACTIONS, rows, scope=all_time("transaction_ts")))
    return served.lake.snapshot(SILVER_TRANSACTIONS)


def _assert_duckdbs(written: TableSnapshot, expected: pa.Table, *, at_least: int) -> None:
    """Every cell is what DuckDB gives; and the hash, where no float differs in its last bit."""
    found = written.to_arrow(order_by=["feature_date", "customer_id"])
    assert found.num_rows >= at_least
    unequal = differing(found, expected)
    hashes = unequal.pop("_feature_hash", None)
    assert unequal.keys() <= LAST_BIT
    assert all(difference.largest < TOLERANCE for difference in unequal.values())
    assert (hashes.rows if hashes else 0) == sum(difference.rows for difference in unequal.values())


def _command_lines(parent: int) -> str:
    """What any user of the machine can read of a process's children."""
    found = ""
    for process in psutil.Process(parent).children(recursive=True):
        with suppress(psutil.Error):
            found += " ".join(process.cmdline())
    assert "SparkSubmit" in found
    return found


def _data_files(served: Served) -> list[str]:
    return [key for key in served.bucket.listed("lake/feature_store/") if key.endswith(".parquet")]


def _has_written(served: Served) -> bool:
    """Whether a branch holds more than the table."""
    table = served.lake.catalog.load_table(FEATURES.name)
    return any(ref.snapshot_id != table.metadata.current_snapshot_id for ref in table.refs().values())


def _wait(condition: object, writer: subprocess.Popen[bytes], log: Path) -> None:
    assert callable(condition)
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert writer.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)
