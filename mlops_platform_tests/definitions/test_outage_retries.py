"""A run that lost a server is one that the daemon retries; a run that failed for another reason is not."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import reconstructable

from mlops_platform.errors import InputError, StorageError
from mlops_platform.orchestration.executor import in_tagged_process
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.jobs import RETRIES
from mlops_platform.settings import Settings

# Nobody listens there.
NOWHERE = "127.0.0.1:9"


@dg.op
def lose_the_database() -> None:
    from sqlalchemy import create_engine
    from sqlalchemy.exc import OperationalError

    try:
        create_engine(f"postgresql+psycopg2://nobody@{NOWHERE}/nothing").connect()
    except OperationalError as error:
        raise StorageError("the catalog can't be opened") from error


@dg.op
def lose_the_store() -> None:
    from pyarrow.fs import AwsDefaultS3RetryStrategy, S3FileSystem

    once = AwsDefaultS3RetryStrategy(max_attempts=1)
    S3FileSystem(
        anonymous=True, region="us-east-1", endpoint_override=f"http://{NOWHERE}", retry_strategy=once
    ).open_input_file("bucket/key")


@dg.op
def err() -> None:
    raise InputError("there is no such day")


def database_job() -> dg.JobDefinition:
    return job_of(lose_the_database)


def store_job() -> dg.JobDefinition:
    return job_of(lose_the_store)


def erring_job() -> dg.JobDefinition:
    return job_of(err)


def job_of(op: dg.OpDefinition) -> dg.JobDefinition:
    return dg.GraphDefinition("work", node_defs=[op]).to_job(executor_def=in_tagged_process, tags=RETRIES)


@pytest.fixture
def instance(home: Settings) -> Iterator[dg.DagsterInstance]:
    with open_instance(home) as found:
        yield found


@pytest.mark.parametrize(("job", "is_retried"), [(database_job, True), (store_job, True), (erring_job, False)])
def test_what_lost_a_server_is_retried(instance: dg.DagsterInstance, job: object, is_retried: bool) -> None:
    with dg.execute_job(reconstructable(job), instance=instance) as result:  # type: ignore[arg-type]
        assert not result.success
    (run,) = instance.get_runs()
    # Dagster's own decision, which its daemon follows.
    assert run.tags["dagster/will_retry"] == str(is_retried).lower()
