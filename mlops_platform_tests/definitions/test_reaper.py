"""Runs whose process is gone are found by the tags their executor gave them, and marked as failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

from mlops_platform.definitions import build_definitions
from mlops_platform.orchestration import instance as instances
from mlops_platform.orchestration.heartbeat import beating
from mlops_platform.orchestration.instance import HOST_TAG, PID_TAG, STARTED_TAG, open_instance, process_tags, reap
from mlops_platform.settings import Settings, child_environment

# Runs a job of one op as Dagster's launcher does, in a process of its own; the op waits to be killed.
WORKER = """
import sys, time
import dagster as dg
from dagster import reconstructable
from mlops_platform_tests.definitions.test_reaper import waiting_job
if __name__ == "__main__":
    with dg.DagsterInstance.get() as instance:
        dg.execute_job(reconstructable(waiting_job), instance=instance)
"""


@dg.op
def wait_to_be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def waiting_job() -> dg.JobDefinition:
    from mlops_platform.orchestration.executor import in_tagged_process

    @dg.job(executor_def=in_tagged_process)
    def waiting() -> None:
        wait_to_be_killed()

    return waiting


@pytest.fixture
def instance(home: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(home) as found:
        yield found


def test_a_killed_run_is_marked_as_failed_by_the_sensor(
    home: Settings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    environment = child_environment(home, PYTHONPATH=str(Path(__file__).parents[2]))
    done = subprocess.run([sys.executable, worker], env=environment, capture_output=True, check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    (run,) = instance.get_runs()
    assert run.status is dg.DagsterRunStatus.STARTED
    assert {HOST_TAG, PID_TAG, STARTED_TAG} <= run.tags.keys()

    reaper = build_definitions(home).resolve_sensor_def("reaper")
    said = reaper(dg.build_sensor_context(instance))
    assert isinstance(said, dg.SkipReason)
    assert run.run_id in str(said.skip_message)
    (reaped,) = instance.get_runs()
    assert reaped.status is dg.DagsterRunStatus.FAILURE


def test_a_run_whose_process_lives_is_left_alone(home: Settings, instance: dg.DagsterInstance) -> None:
    run = instance.create_run_for_job(waiting_job(), status=dg.DagsterRunStatus.STARTED, tags=process_tags())
    reaper = build_definitions(home).resolve_sensor_def("reaper")
    reaper(dg.build_sensor_context(instance))
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is dg.DagsterRunStatus.STARTED


def begun(instance: dg.DagsterInstance, tags: dict[str, str]) -> dg.DagsterRun:
    """A run that has started, and whose last word is a moment old."""
    run = instance.create_run_for_job(waiting_job(), status=dg.DagsterRunStatus.STARTED, tags=tags)
    instance.report_engine_event("started", run)
    return run


# Made in a container that is gone; launched, and killed before it could name its process.
ELSEWHERE, NAMELESS = process_tags() | {HOST_TAG: "a-container-that-is-gone"}, {GRPC_INFO_TAG: "{}"}


@pytest.mark.parametrize("tags", [ELSEWHERE, NAMELESS], ids=["elsewhere", "nameless"])
def test_a_run_of_another_machine_is_failed_when_it_has_fallen_silent(
    instance: dg.DagsterInstance, tags: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = begun(instance, tags)
    assert reap(instance) == []
    monkeypatch.setattr(instances, "SILENT_SECONDS", 0.0)
    assert reap(instance) == [run.run_id]


def test_a_run_that_somebody_executes_on_his_own_is_left_alone(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(instance, {})
    monkeypatch.setattr(instances, "SILENT_SECONDS", 0.0)
    assert reap(instance) == []


def test_a_run_gives_signs_of_life_until_it_ends(instance: dg.DagsterInstance) -> None:
    run = begun(instance, ELSEWHERE)

    def signs() -> int:
        records = instance.get_records_for_run(run.run_id).records
        return sum("is alive" in record.event_log_entry.message for record in records)

    deadline = monotonic() + 30
    with beating(instance, run.run_id, seconds=0.01):
        while signs() < 2 and monotonic() < deadline:
            sleep(0.01)
    assert signs() >= 2
    last = signs()
    sleep(0.1)
    assert signs() == last
