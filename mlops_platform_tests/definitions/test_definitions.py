"""What Dagster is told: assets with their docs and checks, jobs, schedules, sensors.

The figures asked of the definitions are written down here once more on purpose: a change of a key, a cron or a check is
a change for whoever uses them. Does not belong here: the schedules' keys, assets as they run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.contracts import TableContract, all_contracts
from mlops_platform.definitions import build_definitions
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake

ROOT = Path(__file__).resolve().parents[2]

# Asset key: its table, or None where the asset stands for something that is no table.
ASSETS: dict[str, str | None] = {
    "bronze/crm_customers": "bronze.crm_customers",
    "bronze/crm_transactions": "bronze.crm_transactions",
    "silver/customers": "silver.customers",
    "silver/transactions": "silver.transactions",
    "feature_store/customer_features": "feature_store.customer_features",
    "ml/training_set": "ml.training_set",
    "ml/churn_model": None,
    "ml/model_evaluation": None,
    "ml/production_model": None,
    "ml/online_store": None,
    "ml/inference_input": None,
    "ml/serving_model": None,
    "ml/predictions": "ml.predictions",
    "ml/online_predictions": "ml.online_predictions",
    "monitoring/drift_report": "monitoring.drift",
    "monitoring/performance_report": "monitoring.performance",
}
TABLE_ASSETS = {key: table for key, table in ASSETS.items() if table is not None}
DAYS = {"feature_store/customer_features", "monitoring/performance_report"}
TICKS = {"ml/inference_input", "ml/serving_model", "ml/predictions", "monitoring/drift_report"}

JOBS = {
    "ingest_and_features": {
        "bronze/crm_customers",
        "bronze/crm_transactions",
        "silver/customers",
        "silver/transactions",
        "feature_store/customer_features",
        "ml/online_store",
        "monitoring/performance_report",
    },
    "ml_training_pipeline": {
        "feature_store/customer_features",
        "ml/training_set",
        "ml/churn_model",
        "ml/model_evaluation",
        "ml/production_model",
    },
    "ml_batch_inference_pipeline": TICKS,
    "ingest_prediction_log": {"ml/online_predictions"},
    "table_maintenance": set(),
    "platform_command": set(),
}
EVERY_TABLE = {"schema", "key_is_unique", "no_nulls", "values_in_contract"}
SILVER = {"rows_accounted_for", "rejected_share", "data_ready"}
MORE_CHECKS = {
    "silver/customers": SILVER,
    "silver/transactions": SILVER | {"rows_in_range"},
    "feature_store/customer_features": {"rows_in_range"},
    "ml/predictions": {"rows_in_range"},
    "ml/online_predictions": {"lines_are_predictions"},
    "monitoring/drift_report": {"rows_in_range", "no_drift"},
    "monitoring/performance_report": {"rows_in_range"},
}
NON_BLOCKING = {"data_ready", "lines_are_predictions", "no_drift"}


@pytest.fixture(scope="module")
def unopened(tmp_path_factory: pytest.TempPathFactory) -> tuple[dg.Definitions, Path]:
    """The definitions of a home that is not there, and where it would be."""
    folder = tmp_path_factory.mktemp("nowhere") / "home"
    return build_definitions(load_settings(home=folder)), folder


@pytest.fixture(scope="module")
def defs(unopened: tuple[dg.Definitions, Path]) -> dg.Definitions:
    return unopened[0]


@pytest.fixture(scope="module")
def specs(defs: dg.Definitions) -> dict[str, dg.AssetSpec]:
    return {spec.key.to_user_string(): spec for spec in defs.resolve_all_asset_specs()}


@pytest.fixture(scope="module")
def checks(defs: dg.Definitions) -> dict[str, dict[str, dg.AssetCheckSpec]]:
    """Check specs by asset and name."""
    found: dict[str, dict[str, dg.AssetCheckSpec]] = {key: {} for key in ASSETS}
    for definition in defs.resolve_asset_graph().assets_defs:
        for spec in definition.check_specs:
            found[spec.asset_key.to_user_string()][spec.name] = spec
    return found


def contract_of(table: str) -> TableContract:
    return all_contracts()[table]


class TestLoading:
    def test_nothing_is_opened_or_made(self, unopened: tuple[dg.Definitions, Path]) -> None:
        definitions, folder = unopened
        dg.Definitions.validate_loadable(definitions)
        for name in JOBS:
            definitions.resolve_job_def(name)
        assert not folder.exists()

    def test_resources_can_be_replaced(self, home: Settings) -> None:
        other = Lake(home)
        assert build_definitions(home, {"lake": other}).resources["lake"] is other  # type: ignore[index]

    def test_dagster_validates_the_workspace(self, tmp_path: Path) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLOPS_", "DAGSTER_", "MLFLOW_"))}
        command = Path(sys.executable).parent / "dagster"
        if not command.exists():
            found = shutil.which("dagster")
            assert found, "dagster is not installed beside this Python"
            command = Path(found)
        done = subprocess.run(
            [str(command), "definitions", "validate", "-w", "workspace.yaml"],
            cwd=ROOT,
            env=environment | {"MLOPS_HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "mlops_platform" in done.stdout + done.stderr
        # The command itself is superseded by `dg check defs`; our modules give no warning.
        warned = [line for line in done.stderr.splitlines() if "Warning" in line and "SupersessionWarning" not in line]
        assert warned == []
        assert not (tmp_path / "home" / "catalog.db").exists()


class TestAssets:
    def test_keys(self, specs: dict[str, dg.AssetSpec]) -> None:
        assert set(specs) == set(ASSETS)

    @pytest.mark.parametrize("key", ASSETS)
    def test_every_asset_explains_itself(self, specs: dict[str, dg.AssetSpec], key: str) -> None:
        spec = specs[key]
        assert spec.group_name == key.partition("/")[0]
        assert spec.kinds
        assert spec.owners
        assert len(spec.description or "") > 20

    @pytest.mark.parametrize(("key", "table"), TABLE_ASSETS.items())
    def test_every_column_is_documented(self, specs: dict[str, dg.AssetSpec], key: str, table: str) -> None:
        contract = contract_of(table)
        assert specs[key].metadata["dagster/table_name"] == table
        shown = specs[key].metadata["dagster/column_schema"].columns
        assert [column.name for column in shown] == list(contract.column_names)
        for found, column in zip(shown, contract.columns, strict=True):
            assert found.type == column.type.value.lower()
            assert found.description == column.description
            assert found.description
            assert found.constraints.nullable == column.nullable

    @pytest.mark.parametrize("key", ASSETS)
    def test_every_check_of_the_contract_is_a_check_of_the_asset(
        self, checks: dict[str, dict[str, dg.AssetCheckSpec]], key: str
    ) -> None:
        expected = EVERY_TABLE | MORE_CHECKS.get(key, set()) if key in TABLE_ASSETS else set()
        assert set(checks[key]) == expected
        assert {name for name, spec in checks[key].items() if not spec.blocking} == expected & NON_BLOCKING
        assert all(len(spec.description or "") > 10 for spec in checks[key].values())

    def test_partitions_start_where_history_does(self, tmp_path: Path) -> None:
        settings = load_settings(home=tmp_path / "home", history_start=date(1997, 1, 5), timezone="America/Sao_Paulo")
        for spec in build_definitions(settings).resolve_all_asset_specs():
            key, found = spec.key.to_user_string(), spec.partitions_def
            if key in DAYS:
                assert isinstance(found, dg.DailyPartitionsDefinition)
                assert found.get_first_partition_key() == "1997-01-05"
            elif key in TICKS:
                assert isinstance(found, dg.TimeWindowPartitionsDefinition)
                assert found.get_partition_keys(current_time=datetime(1997, 1, 6, 12, tzinfo=UTC)) == [
                    "1997-01-05-00:00",
                    "1997-01-05-06:00",
                    "1997-01-05-12:00",
                    "1997-01-05-18:00",
                    "1997-01-06-00:00",
                ]
            else:
                assert found is None
            if found is not None:
                assert found.timezone == "America/Sao_Paulo"

    def test_a_range_of_days_is_one_run(self, defs: dg.Definitions) -> None:
        policies = {key: defs.resolve_assets_def(dg.AssetKey(key.split("/"))).backfill_policy for key in DAYS}
        assert policies == dict.fromkeys(DAYS, dg.BackfillPolicy.single_run())


class TestJobs:
    def test_assets_of_each_job(self, defs: dg.Definitions) -> None:
        jobs = {job.name: job for job in defs.get_repository_def().get_all_jobs() if job.name != "__ASSET_JOB"}
        held = {name: {k.to_user_string() for k in job.asset_layer.executable_asset_keys} for name, job in jobs.items()}
        assert held == JOBS
        assert all(job.description for job in jobs.values())

    def test_partitions_of_each_job(self, defs: dg.Definitions) -> None:
        found = {name: defs.resolve_job_def(name).partitions_def for name in JOBS}
        for name in ("ingest_and_features", "ml_training_pipeline"):
            assert isinstance(found[name], dg.DailyPartitionsDefinition)
        ticks = found["ml_batch_inference_pipeline"]
        assert isinstance(ticks, dg.TimeWindowPartitionsDefinition)
        assert (ticks.cron_schedule, ticks.fmt) == ("0 */6 * * *", "%Y-%m-%d-%H:%M")
        assert found["ingest_prediction_log"] is None
        assert found["table_maintenance"] is None
        assert found["platform_command"] is None

    def test_everything_runs_in_this_process(self, defs: dg.Definitions) -> None:
        assert {defs.resolve_job_def(name).executor_def.name for name in JOBS} == {"in_process"}


class TestSensors:
    def test_the_prediction_log_starts_a_run_when_it_has_grown(self, home: Settings) -> None:
        definitions = build_definitions(home)
        names = {sensor.name for sensor in definitions.get_repository_def().sensor_defs}
        assert names == {"prediction_log_sensor", "reaper", "run_alerts", "late_alerts", "drift_retraining"}
        sensor = definitions.resolve_sensor_def("prediction_log_sensor")
        assert sensor.job_name == "ingest_prediction_log"
        assert sensor.default_status is dg.DefaultSensorStatus.RUNNING

        def tick(cursor: str | None) -> tuple[int, str | None]:
            evaluated = sensor.evaluate_tick(dg.build_sensor_context(cursor=cursor))
            return len(evaluated.run_requests or []), evaluated.cursor

        assert tick(None) == (0, None)
        home.prediction_spool.mkdir(parents=True)
        log = home.prediction_spool / "predictions-2024-03-01-1.jsonl"
        log.write_text("{}\n")
        requests, cursor = tick(None)
        assert requests == 1
        assert tick(cursor) == (0, cursor)
        os.utime(log, ns=(int(cursor or 0) + 1, int(cursor or 0) + 1))
        assert tick(cursor)[0] == 1
