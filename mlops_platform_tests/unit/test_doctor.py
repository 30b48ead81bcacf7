"""`mlops doctor` on one machine: a fault is found, with what mends it, and no look harms the others.

What needs PostgreSQL, a bucket or MLflow's server is in `server/test_doctor.py`.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.errors import InputError, StorageError
from mlops_platform.orchestration.doctor import Finding, airflow, examine, lake, machine
from mlops_platform.orchestration.doctor.examine import SUBJECTS
from mlops_platform.orchestration.doctor.finding import Look, looked
from mlops_platform.orchestration.instance import HOST_TAG, PID_TAG, STARTED_TAG, open_instance, process_tags
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.pseudonym import customer_hmac
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

LISTENER = """
import socket, time
with socket.socket() as taken:
    taken.bind(("127.0.0.1", 0)); taken.listen(); print(taken.getsockname()[1], flush=True); time.sleep(120)
"""


def finding(settings: Settings, subject: str) -> Finding:
    (found,) = examine(settings, [subject])
    return found


@pytest.fixture
def made(home: Settings) -> Settings:
    """A home that is a folder."""
    home.home.mkdir()
    return home


class TestALook:
    def test_that_hangs_is_left_behind(self, home: Settings) -> None:
        go_on = threading.Event()
        found = looked(Look("a host", lambda _: Finding("a host", go_on.wait(60), ""), "start it", 0.05), home)
        go_on.set()
        assert found == Finding("a host", False, "no answer within 0 s", "start it")

    @pytest.mark.parametrize(
        ("error", "message", "mend"),
        [
            (StorageError("no room", hint="make some"), "no room", "make some"),
            (StorageError("no room"), "no room", "the usual"),
            (RuntimeError("at x://me:hunter2@host/db"), "RuntimeError: at x://me:***@host/db", "the usual"),
        ],
    )
    def test_that_fails_says_so(self, home: Settings, error: Exception, message: str, mend: str) -> None:
        def fail(_: Settings) -> Finding:
            raise error

        assert looked(Look("it", fail, "the usual"), home) == Finding("it", False, message, mend)


class TestTheMachine:
    def test_a_full_disk(self, made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        assert finding(made, "disk").is_ok
        monkeypatch.setattr(machine, "MINIMUM_FREE_GB", 1e9)
        found = finding(made, "disk")
        assert not found.is_ok
        assert "mlops maintain" in found.mend

    def test_little_memory_is_a_hint(self, made: Settings) -> None:
        found = finding(made.model_copy(update={"memory_limit_mb": 10**9}), "memory")
        assert found.is_hint
        assert "MLOPS_MEMORY_LIMIT_MB" in found.mend

    def test_a_key_that_others_can_read(self, made: Settings) -> None:
        customer_hmac(made, "C1")
        assert finding(made, "secrets").is_ok
        key = made.home / "hmac.key"
        key.chmod(0o640)
        found = finding(made, "secrets")
        assert (found.is_ok, found.mend) == (False, f"chmod go-rwx {key}")
        key.chmod(0o600)
        made.home.chmod(0o777)
        assert f"chmod go-w {made.home}" in finding(made, "secrets").mend

    def test_a_port_of_another_program(self, made: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        with subprocess.Popen([sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                port = int(process.stdout.readline())
                monkeypatch.setattr(machine, "PORTS", {"MLflow": port})
                found = finding(made, "ports")
            finally:
                process.kill()
        assert not found.is_ok
        assert f"MLflow's port {port} is held by python" in found.message
        assert found.mend == f"end what holds it: kill {process.pid}"
        process.wait()
        assert finding(made, "ports").message == f"free: {port}"

    def test_the_time_zone_is_told(self, home: Settings) -> None:
        found = finding(load_settings(home=home.home, timezone="America/Sao_Paulo"), "clock")
        assert found.is_ok
        assert "in America/Sao_Paulo" in found.message


class TestAlerts:
    def test_the_log_alone_is_a_hint(self, made: Settings) -> None:
        assert finding(made, "alerts").is_hint

    def test_a_channel_without_its_address(self, made: Settings) -> None:
        found = finding(made.model_copy(update={"alert_channels": ("log", "slack")}), "alerts")
        assert (found.is_ok, found.mend) == (False, "export MLOPS_SLACK_WEBHOOK_URL=…")


class TestAirflow:
    def test_none(self, made: Settings) -> None:
        without = made.model_copy(update={"airflow_home": None})
        assert finding(without, "Airflow").is_ok
        assert finding(without.model_copy(update={"orchestrator": "airflow"}), "Airflow").is_hint

    def test_a_dag_that_is_no_python(self, made: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(airflow.shutil, "which", lambda _: None)
        (tmp_path / "dags").mkdir()
        with_airflow = made.model_copy(update={"airflow_home": tmp_path})
        (tmp_path / "dags" / "good.py").write_text("import airflow\n")
        assert finding(with_airflow, "Airflow").is_ok
        (tmp_path / "dags" / "bad.py").write_text("def (:\n")
        found = finding(with_airflow, "Airflow")
        assert not found.is_ok
        assert "bad.py: SyntaxError" in found.message
        assert f"mlops airflow generate --out {tmp_path / 'dags'}" in found.mend


class TestDagster:
    @pytest.fixture
    def instance(self, made: Settings) -> Iterator[dg.DagsterInstance]:
        with open_instance(made) as found:
            yield found

    def test_a_run_that_lost_its_process(self, made: Settings, instance: dg.DagsterInstance) -> None:
        @dg.job
        def nothing() -> None: ...

        assert finding(made, "Dagster").is_ok
        tags = process_tags()
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED, tags=tags)
        assert finding(made, "Dagster").is_ok
        instance.add_run_tags(run.run_id, {HOST_TAG: tags[HOST_TAG], PID_TAG: str(os.getpid()), STARTED_TAG: "1.00"})
        found = finding(made, "Dagster")
        assert not found.is_ok
        assert run.run_id in found.message
        assert found.mend.startswith("mlops up")

    def test_a_daemon_that_never_ran_is_a_hint(self, made: Settings) -> None:
        assert finding(made, "daemon").is_hint


class TestTheTables:
    def test_a_whole_home(self, shop: Shop) -> None:
        # A shop begins with silver: nothing has been ingested.
        assert finding(shop.settings, "tables").message.endswith(": bronze.crm_transactions")
        for subject in ("catalog", "warehouse", "query"):
            assert finding(shop.settings, subject).is_ok, subject
        assert "duckdb read" in finding(shop.settings, "query").message

    def test_a_table_that_is_gone(self, shop: Shop, tmp_path: Path) -> None:
        # What the catalog says, looked at from a copy of it: the tables' files are where they were.
        moved = tmp_path / "home"
        moved.mkdir()
        copy = moved / "catalog.db"
        copy.write_bytes((shop.settings.home / "catalog.db").read_bytes())
        with sqlite3.connect(copy) as catalog:
            catalog.execute(
                "DELETE FROM iceberg_tables WHERE table_name = 'transactions' AND table_namespace = 'silver'"
            )
        catalog.close()
        found = lake.tables(load_settings(home=moved))
        assert not found.is_ok
        assert found.message == "gone, while tables made from it are there: silver.transactions"
        assert "mlops demo" in found.mend

    def test_a_warehouse_that_is_not_there(self, made: Settings) -> None:
        sqlite3.connect(made.home / "catalog.db").close()
        assert not finding(made, "catalog").is_ok
        assert finding(made, "warehouse").mend == "mlops demo"

    def test_spark_is_not_started(self, shop: Shop) -> None:
        found = finding(shop.settings.model_copy(update={"engine": "spark"}), "query")
        assert "PySpark" in found.message


class TestTheCommand:
    def test_json_and_subjects(self, made: Settings) -> None:
        done = mlops("doctor", "disk", "alerts", "--json", "--home", made.home)
        assert done.code == 0
        rows = json.loads(done.out)
        assert [row["subject"] for row in rows] == ["disk", "alerts"]
        assert rows[0].keys() == {"subject", "is_ok", "message", "mend"}

    def test_an_unknown_subject(self, made: Settings) -> None:
        assert mlops("doctor", "diks", "--home", made.home).is_refusal("'diks'", "disk")
        with pytest.raises(InputError):
            examine(made, ["diks"])

    def test_everything_is_looked_at_where_nothing_works(self, made: Settings) -> None:
        for name in ("catalog.db", "mlflow.db", "dagster"):
            (made.home / name).write_bytes(b"no database " * 1000)
        broken = made.model_copy(
            update={"crm_url": "sqlite:////no/crm.db", "alert_channels": ("email",), "airflow_home": Path("/no")}
        )
        found = {each.subject: each for each in examine(broken)}
        assert tuple(found) == SUBJECTS
        for subject in ("home", "CRM", "catalog", "tables", "MLflow", "model", "Dagster", "daemon", "alerts"):
            assert not found[subject].is_ok, found[subject]
            assert found[subject].mend, found[subject]
