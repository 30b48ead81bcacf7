"""One task of the `bash` runner: what it is in the pack, and how its end reads to Airflow.

Does not belong here: running it on Dagster (`orchestration/task_runs.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.airflow_pack.tasks import DAGS, Task, kind
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mlops_platform.settings import Settings

DONE, NOT_READY, SKIPPED = 0, 3, 99


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    Args:
        code: Exit code: `DONE`; `NOT_READY`: a sensor asks again; `SKIPPED`: Airflow skips the task.
        references: What it made, for XCom.
        why: Why it was skipped, or is not ready.
    """

    code: int
    references: dict[str, Any]
    why: str = ""


def find_task(dag: str, name: str) -> Task:
    """A task of the pack that the platform runs.

    Raises:
        InputError: There is none of this name.
    """
    runnable = {task.name: task for task in DAGS.get(dag, ()) if kind(task) != "branch"}
    if not runnable:
        raise InputError(f"there is no DAG {dag!r}", expected=f"one of {', '.join(DAGS)}")
    if name not in runnable:
        raise InputError(f"{dag} has no task {name!r} to run", expected=f"one of {', '.join(runnable)}")
    return runnable[name]


def execute_task(
    settings: Settings,
    build: Callable[[Settings], Any],
    *,
    dag: str,
    task: str,
    dag_run: str,
    attempt: int,
    at: datetime,
    say: Callable[[str], None],
) -> Ended:
    """Runs a task, or takes over what an earlier try did.

    Args:
        settings: The home.
        build: Makes the Definitions of settings.
        dag: The DAG.
        task: The task.
        dag_run: Id of the DAG run.
        attempt: Number of the try, from 1.
        at: The instant the DAG run stands for.
        say: Called with a line whenever something starts.

    Raises:
        PlatformError: It failed for a reason the user can mend.
    """
    found = find_task(dag, task)
    from mlops_platform.orchestration.task_runs import TaskCall, run_task

    call = TaskCall(job=dag, task=task, dag_run=dag_run, attempt=attempt, at=at)
    is_sensor = kind(found) == "sensor"
    done = run_task(
        settings, build, call, assets=found.assets, command=found.command, is_repeated=is_sensor, say=say
    )  # fmt: skip
    references = {"dagster_run": done.run_id, "partition": done.partition, **done.found}
    if is_sensor and not references["ready"]:
        return Ended(NOT_READY, references, str(references["why"]))
    for asset in found.assets if found.skips else ():
        made = references[asset]
        if found.skips and made.get(found.skips[0]) == found.skips[1]:
            return Ended(SKIPPED, references, f"{asset}: {made.get('reason', found.skips[1])}")
    return Ended(DONE, references)
