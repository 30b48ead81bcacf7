"""Sensors on a real instance: failed runs and checks open alerts, passing ones resolve them, lateness and drift do too.

Does not belong here: what an alert says (`unit/monitoring`), the reaper.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.freshness import CronFreshnessPolicy, FreshnessState, FreshnessStateChange

from mlops_platform.definitions import build_definitions
from mlops_platform.monitoring.alerts import recorded_alerts
from mlops_platform.monitoring.tick import NO_DRIFT_CHECK
from mlops_platform.orchestration.alert_sensors import REASON_TAG
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.settings import Settings

DRIFT_REPORT = dg.AssetKey(["monitoring", "drift_report"])
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
TRAINING = "ml_training_pipeline"


class CheckedConfig(dg.Config):
    """How the asset under test turns out."""

    passes: bool = True
    raises: bool = False


@dg.asset(
    key=DRIFT_REPORT,
    check_specs=[dg.AssetCheckSpec(NO_DRIFT_CHECK, asset=DRIFT_REPORT), dg.AssetCheckSpec("rows", asset=DRIFT_REPORT)],
)
def checked(config: CheckedConfig) -> Iterator[Any]:
    """An asset with a drift check and an ordinary one."""
    if config.raises:
        raise ValueError("the CRM at postgresql://ana:hunter2@host is gone")
    words = "2 of 9 columns drifted: amount, <!channel>"
    warn = dg.AssetCheckSeverity.WARN
    yield dg.AssetCheckResult(
        check_name=NO_DRIFT_CHECK,
        passed=config.passes,
        severity=warn,
        description=words,
        metadata={"drifted_columns": 2},
    )
    yield dg.AssetCheckResult(check_name="rows", passed=config.passes, severity=warn)
    yield dg.Output(None, metadata={"status": "ok" if config.passes else "drift"})


@pytest.fixture
def instance(home: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(home) as found:
        yield found


def run(instance: dg.DagsterInstance, *, tags: dict[str, str] | None = None, **config: bool) -> None:
    asset_config = {"ops": {"monitoring__drift_report": {"config": config}}}
    dg.materialize([checked], instance=instance, run_config={**QUIET, **asset_config}, raise_on_error=False, tags=tags)


class Sensor:
    """A sensor of a home, ticked as the daemon does: with the cursor it left."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance, name: str) -> None:
        self._definition = build_definitions(settings).resolve_sensor_def(name)
        self._instance = instance
        self._cursor: str | None = None

    def tick(self) -> Any:
        context = dg.build_sensor_context(self._instance, cursor=self._cursor)
        result = self._definition(context)
        self._cursor = context.cursor
        return result


def opened(settings: Settings) -> dict[str, str]:
    """Type of every open alert → its severity."""
    alerts = [recorded.notice.alert for recorded in recorded_alerts(settings)]
    return {alert.alert_type: alert.severity for alert in alerts}


class TestRuns:
    def test_failures_open_and_the_next_success_resolves(self, home: Settings, instance: dg.DagsterInstance) -> None:
        sensor = Sensor(home, instance, "run_alerts")
        run(instance, raises=True)
        sensor.tick()
        assert recorded_alerts(home, is_open=False) == [], "what failed before the first tick is no news"

        run(instance, raises=True)
        sensor.tick()
        (recorded,) = recorded_alerts(home)
        alert = recorded.notice.alert
        assert (alert.alert_type, alert.severity) == ("run_failure", "error")
        assert "monitoring__drift_report: " in alert.message
        assert "ValueError: the CRM at postgresql://ana:***@host is gone" in alert.message
        assert alert.run_url == f"http://127.0.0.1:3001/runs/{instance.get_runs(limit=1)[0].run_id}"

        sensor.tick()
        assert recorded_alerts(home)[0].notice.occurrences == 1, "a run is told of once"

        # Both fail without the run failing; they and the run's own alert go when the next run passes.
        run(instance, passes=False)
        sensor.tick()
        assert opened(home) == {"drift": "warning", "check_failed": "warning"}
        drift = next(each.notice.alert for each in recorded_alerts(home) if each.notice.alert.alert_type == "drift")
        assert drift.model == home.model_name
        assert drift.subject == "monitoring/drift_report: no_drift"
        assert drift.details["drifted_columns"] == "2"
        run(instance)
        sensor.tick()
        assert opened(home) == {}
        assert len(recorded_alerts(home, is_open=False)) == 3

    def test_they_are_told_in_the_order_they_happened(self, home: Settings, instance: dg.DagsterInstance) -> None:
        sensor = Sensor(home, instance, "run_alerts")
        sensor.tick()
        for passes in (False, True, False, True):
            run(instance, passes=passes)
        sensor.tick()
        assert opened(home) == {}
        assert len(recorded_alerts(home, is_open=False)) == 4

    def test_a_failure_that_dagster_retries_is_a_warning_and_the_last_one_an_error(
        self, home: Settings, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
    ) -> None:
        sensor = Sensor(home, instance, "run_alerts")
        sensor.tick()
        for retries in ("1", "0"):
            run(instance, raises=True, tags={"dagster/max_retries": retries})
            sensor.tick()
        told = [record for record in caplog.records if record.name == "mlops_platform.alerts"]
        assert [(each.levelname, "starts it again" in each.getMessage()) for each in told] == [
            ("WARNING", True),
            ("ERROR", False),
        ]
        run(instance)
        sensor.tick()
        assert opened(home) == {}

    def test_a_channel_that_is_down_stops_nothing(self, home: Settings, instance: dg.DagsterInstance) -> None:
        changes = {"alert_channels": ("email", "slack", "log")}
        broken = home.model_copy(update=changes)
        sensor = Sensor(broken, instance, "run_alerts")
        sensor.tick()
        run(instance, raises=True)
        sensor.tick()
        (recorded,) = recorded_alerts(home)
        told = {name: each.status for name, each in recorded.deliveries.items() if each is not None}
        assert told == {"email": "failed", "slack": "failed", "log": "sent"}


class TestLateness:
    def test_late_assets_are_told_by_job_until_they_are_made(
        self, home: Settings, instance: dg.DagsterInstance
    ) -> None:
        sensor = Sensor(home, instance, "late_alerts")
        sensor.tick()
        assert opened(home) == {}
        predictions = dg.AssetKey(["ml", "predictions"])
        for key in (predictions, DRIFT_REPORT):
            becomes(instance, key, FreshnessState.FAIL)
        sensor.tick()
        sensor.tick()
        (recorded,) = recorded_alerts(home)
        alert = recorded.notice.alert
        assert (alert.alert_type, alert.subject) == ("late", "ml_batch_inference_pipeline")
        assert alert.message.startswith(
            "ml_batch_inference_pipeline is late: ml/predictions, monitoring/drift_report not"
        )
        assert recorded.notice.occurrences == 2
        becomes(instance, predictions, FreshnessState.PASS)
        sensor.tick()
        assert opened(home) == {"late": "error"}
        becomes(instance, DRIFT_REPORT, FreshnessState.PASS)
        sensor.tick()
        assert opened(home) == {}

    def test_every_scheduled_asset_has_a_deadline_after_its_schedule(self, home: Settings) -> None:
        settings = home.model_copy(update={"timezone": "America/Sao_Paulo"})
        specs = build_definitions(settings).resolve_all_asset_specs()
        found = {spec.key.to_user_string(): spec.freshness_policy for spec in specs}
        assert {key for key, policy in found.items() if policy is None} == {"ml/online_predictions"}
        crons = {}
        for key, policy in found.items():
            if isinstance(policy, CronFreshnessPolicy):
                assert policy.timezone == "America/Sao_Paulo"
                crons[key] = (policy.deadline_cron, policy.lower_bound_delta)
        assert crons["bronze/crm_customers"] == ("0 2 * * *", timedelta(hours=2))
        assert crons["feature_store/customer_features"] == ("0 2 * * *", timedelta(hours=2))
        assert crons["ml/production_model"] == ("0 6 * * *", timedelta(hours=4))
        assert crons["ml/predictions"] == ("0 1,7,13,19 * * *", timedelta(hours=1))


class TestRetraining:
    def test_it_is_off_unless_asked_for(self, home: Settings) -> None:
        for wanted, status in ((False, "STOPPED"), (True, "RUNNING")):
            settings = home.model_copy(update={"retrain_on_drift": wanted})
            found = build_definitions(settings).resolve_sensor_def("drift_retraining")
            assert (found.default_status.value, found.job_name) == (status, TRAINING)

    def test_drift_starts_training_once_in_the_cooldown(self, home: Settings, instance: dg.DagsterInstance) -> None:
        settings = home.model_copy(update={"as_of": date(2024, 1, 31)})
        sensor = Sensor(settings, instance, "drift_retraining")
        assert isinstance(sensor.tick(), dg.SkipReason)
        run(instance)
        assert isinstance(sensor.tick(), dg.SkipReason)
        run(instance, passes=False)
        request = sensor.tick()
        assert isinstance(request, dg.RunRequest)
        assert request.partition_key == "2024-01-31"
        assert isinstance(sensor.tick(), dg.SkipReason), "one report starts one run"

        instance.create_run_for_job(training_job(), tags=request.tags)
        run(instance, passes=False)
        said = sensor.tick()
        assert isinstance(said, dg.SkipReason)
        assert "already" in str(said.skip_message)
        # A run that drift did not start is no reason to wait, nor is one from before the cooldown.
        short = Sensor(settings.model_copy(update={"retrain_cooldown_days": 1e-9}), instance, "drift_retraining")
        assert isinstance(short.tick(), dg.RunRequest)
        assert request.tags[REASON_TAG] == "drift"


def training_job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None:
        """Does nothing."""

    @dg.job(name=TRAINING)
    def job() -> None:
        nothing()

    return job


def becomes(instance: dg.DagsterInstance, key: dg.AssetKey, state: FreshnessState) -> None:
    """What Dagster's daemon reports when an asset's freshness changes."""
    change = FreshnessStateChange(
        key=key, previous_state=FreshnessState.UNKNOWN, new_state=state, state_change_timestamp=0.0
    )
    instance._report_runless_asset_event(change)
