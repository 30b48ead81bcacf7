"""What the exporter reads from Dagster's instance: runs of each job, their cost, each asset's last materialization.

One instance takes the runs of all tests of this module, in order.
"""

from collections.abc import Iterator

import dagster as dg
import pytest

from mlops_platform.monitoring.metrics import Family
from mlops_platform.orchestration import run_metrics as rm
from mlops_platform.orchestration.executor import in_tagged_process
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.run_cost import CPU_TAG, WRITTEN_TAG, metered
from mlops_platform.settings import Settings, load_settings

ROWS = 1234


@dg.asset(key=["bronze", "things"])
def things(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
    if context.run.tags.get("break"):
        raise dg.Failure("broken")
    sum(range(3_000_000))
    return dg.MaterializeResult(metadata={"dagster/row_count": ROWS})


@dg.job(executor_def=in_tagged_process)
def counting() -> None:
    @dg.op
    def count() -> None:
        sum(range(3_000_000))

    count()


JOB = dg.define_asset_job("make_things", selection=[things])
DEFINITIONS = dg.Definitions(assets=[things], jobs=[JOB])


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(home=tmp_path_factory.mktemp("ran") / "home")


@pytest.fixture(scope="module")
def instance(ran: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(ran) as found:
        yield found


def run(instance: dg.DagsterInstance, **tags: str) -> dg.ExecuteInProcessResult:
    job = DEFINITIONS.resolve_job_def("make_things")
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    return job.execute_in_process(instance=instance, raise_on_error=False, tags=tags, run_config=quiet)


def read(source: rm.RunsSource) -> dict[Family, dict[tuple[str, ...], float]]:
    found: dict[Family, dict[tuple[str, ...], float]] = {}
    for figure in source.read():
        found.setdefault(figure.family, {})[figure.labels] = figure.value
    return found


def test_a_home_where_nothing_ran_has_none_and_is_not_made(home: Settings) -> None:
    assert rm.RunsSource(home).read() == ()
    assert not home.home.exists()


def test_an_assets_rows_and_time_and_a_jobs_runs(ran: Settings, instance: dg.DagsterInstance) -> None:
    done = run(instance)
    assert done.success
    found = read(rm.RunsSource(ran))
    record = instance.get_run_records(dg.RunsFilter([done.run_id]))[0]
    assert record.start_time
    assert record.end_time
    asset, job = ("bronze/things",), ("make_things",)
    assert found[rm.ASSET_ROWS] == {asset: ROWS}
    assert 0 < found[rm.ASSET_SECONDS][asset] < record.end_time - record.start_time
    assert record.start_time < found[rm.ASSET_MADE][asset] < record.end_time
    assert found[rm.RUNS] == {(*job, "success"): 1, (*job, "failure"): 0, (*job, "canceled"): 0}
    assert found[rm.SUCCEEDED] == {job: record.end_time}
    assert found[rm.RUN_SECONDS] == {job: record.end_time - record.start_time}
    assert (found[rm.FAILED], found[rm.IN_PROGRESS]) == ({job: 0}, {job: 0})


def test_a_failed_run_leaves_what_was_made_before(ran: Settings, instance: dg.DagsterInstance) -> None:
    assert not run(instance, **{"break": "1"}).success
    found = read(rm.RunsSource(ran))
    job = ("make_things",)
    assert found[rm.RUNS][*job, "failure"] == 1
    assert found[rm.FAILED][job] > found[rm.SUCCEEDED][job]
    assert found[rm.ASSET_ROWS] == {("bronze/things",): ROWS}


def test_events_are_read_again_only_when_a_run_changed(
    ran: Settings, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    real = dg.DagsterInstance.get_latest_materialization_events

    def events(self: dg.DagsterInstance, keys: list[dg.AssetKey]) -> object:
        asked.append("events")
        return real(self, keys)

    monkeypatch.setattr(dg.DagsterInstance, "get_latest_materialization_events", events)
    source = rm.RunsSource(ran)
    first = source.read()
    assert source.read() == first
    assert asked == ["events"]
    run(instance)
    assert read(source)[rm.RUNS]["make_things", "success"] == 2
    assert asked == ["events"] * 2


def test_a_run_is_tagged_with_its_cost(ran: Settings, instance: dg.DagsterInstance) -> None:
    dg.execute_job(
        dg.reconstructable(counting_job), instance=instance,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )  # fmt: skip
    found = read(rm.RunsSource(ran))
    assert 0.01 < found[rm.RUN_COSTS[CPU_TAG]]["counting",] < 60
    assert found[rm.RUN_COSTS[WRITTEN_TAG]]["counting",] > 1000


def counting_job() -> dg.JobDefinition:
    return counting


def test_a_broken_run_is_tagged_too(instance: dg.DagsterInstance) -> None:
    made = instance.create_run_for_job(counting)
    with pytest.raises(ZeroDivisionError), metered(instance, made.run_id):
        print(1 / 0)  # noqa: T201
    found = instance.get_run_by_id(made.run_id)
    assert found is not None
    assert float(found.tags[CPU_TAG]) >= 0


def test_a_run_that_was_never_made_hides_no_error(instance: dg.DagsterInstance) -> None:
    with pytest.raises(ZeroDivisionError), metered(instance, "no such run"):
        print(1 / 0)  # noqa: T201
