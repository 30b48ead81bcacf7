"""The executor of every job: in this process, which it names in the run's tags, so that a killed run can be told.

Six trivial assets take 0.6 s so, and 14 s with a process each. A run whose step failed because a server did not answer
is one that Dagster's daemon retries. Does not belong here: what follows from a process that is gone (`instance.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.storage.tags import RETRY_ON_ASSET_OR_OP_FAILURE_TAG

from mlops_platform.orchestration.heartbeat import beating
from mlops_platform.orchestration.instance import process_tags
from mlops_platform.orchestration.run_cost import metered
from mlops_platform.storage.outage import tells_of_outage


class _Tagging(dg.Executor):
    """Another executor that first tags the run with this process."""

    def __init__(self, inner: dg.Executor) -> None:
        self._inner = inner

    @property
    def retries(self) -> Any:
        """The other's."""
        return self._inner.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Tags the run, executes it, and tags it with what it cost."""
        instance, run_id = plan_context.instance, plan_context.run_id
        instance.add_run_tags(run_id, process_tags())
        with metered(instance, run_id), beating(instance, run_id):
            for event in self._inner.execute(plan_context, execution_plan):
                if event.is_step_failure and _is_outage(event):
                    instance.add_run_tags(run_id, {RETRY_ON_ASSET_OR_OP_FAILURE_TAG: "true"})
                yield event


def _is_outage(event: dg.DagsterEvent) -> bool:
    error = event.step_failure_data.error
    return error is not None and tells_of_outage(error.to_string())


_CONFIG: Any = dg.in_process_executor.config_schema


@dg.executor(name="in_process", config_schema=_CONFIG)
def in_tagged_process(context: dg.InitExecutorContext) -> dg.Executor:
    """All steps in one process, which the run's tags name."""
    create: Any = dg.in_process_executor.executor_creation_fn
    return _Tagging(create(context))
