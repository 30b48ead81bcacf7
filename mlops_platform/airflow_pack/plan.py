"""What a DAG is made of: the documented tasks, with everything else taken from the facts of the Dagster job.

Does not belong here: how it is written down (`render.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TYPE_CHECKING

from mlops_platform.airflow_pack.tasks import Task
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from mlops_platform.orchestration.job_facts import JobFacts


@dataclass(frozen=True)
class PlannedTask:
    """A task with what the Definitions say of it.

    Args:
        task: The documented task.
        owner: Teams that own its assets.
        words: What it does; of a task with assets, their names and what they hold.
        upstream: The tasks right before it, in the documented order.
    """

    task: Task
    owner: str
    words: str
    upstream: tuple[str, ...]


@dataclass(frozen=True)
class DagPlan:
    """A DAG.

    Args:
        facts: Of its Dagster job.
        tags: Groups of its assets.
        tasks: In an order in which they can run.
    """

    facts: JobFacts
    tags: tuple[str, ...]
    tasks: tuple[PlannedTask, ...]


def plan_dag(facts: JobFacts, tasks: Sequence[Task], commands: Collection[str]) -> DagPlan:
    """The plan of a job's DAG.

    Args:
        facts: Of the job.
        tasks: The documented tasks.
        commands: Names of the commands there are.

    Raises:
        InputError: The tasks and the job don't fit; the message names the asset or the task.
    """
    _check(facts, tasks, commands)
    before = _direct(_edges(facts, tasks), [task.name for task in tasks])
    planned = []
    for task in tasks:
        assets = task.assets or ((task.about,) if task.about else _about_before(task, tasks))
        owners = sorted({owner for asset in assets for owner in facts.assets[asset].owners})
        words = task.words or " ".join(f"{a}: {_first_sentence(facts.assets[a].description)}" for a in task.assets)
        planned.append(PlannedTask(task, ", ".join(owners), words, before[task.name]))
    tags = sorted({facts.assets[asset].group for asset in facts.selected})
    return DagPlan(facts, tuple(tags), tuple(planned))


def _check(facts: JobFacts, tasks: Sequence[Task], commands: Collection[str]) -> None:
    hint = "mend the grouping in airflow_pack/tasks.py."
    names = [task.name for task in tasks]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tasks of {facts.name} are called {name}", hint=hint)
    for task in tasks:
        ways = bool(task.assets) + (task.command is not None) + (task.branch is not None)
        if ways != 1:
            raise InputError(f"task {task.name} of {facts.name} has no asset and no command, or both", hint=hint)
        if task.command is not None and task.command not in commands:
            raise InputError(f"task {task.name} runs the unknown command {task.command}", hint=hint)
        read = [*task.assets, *([task.about] if task.about else []), *([task.branch.asset] if task.branch else [])]
        for asset in read:
            if asset not in facts.assets or (task.assets and asset not in facts.selected):
                raise InputError(f"task {task.name} names {asset}, which job {facts.name} has no asset of", hint=hint)
        for target in (task.branch.then, task.branch.otherwise) if task.branch else ():
            if target not in names:
                raise InputError(f"task {task.name} goes on with {target}, which is no task", hint=hint)
    held = [asset for task in tasks for asset in task.assets]
    for asset in sorted(facts.selected):
        if held.count(asset) != 1:
            count = "no task" if asset not in held else f"{held.count(asset)} tasks"
            raise InputError(f"asset {asset} of job {facts.name} is in {count}", expected="one task", hint=hint)


def _edges(facts: JobFacts, tasks: Sequence[Task]) -> dict[str, set[str]]:
    """Which tasks come before each, by what the assets read; not yet without the needless ones."""
    home = {asset: task.name for task in tasks for asset in task.assets}
    about: dict[str, list[str]] = {}
    for task in tasks:
        if task.about is not None and task.branch is None:
            about.setdefault(task.about, []).append(task.name)
    before: dict[str, set[str]] = {task.name: set() for task in tasks}
    for task in tasks:
        for asset in task.assets:
            for parent in facts.assets[asset].parents:
                before[task.name] |= {home[parent]} if parent in home else set()
                before[task.name] |= set(about.get(parent, ()))
            before[task.name].discard(task.name)
        if task.about in home:
            before[task.name].add(home[task.about])
        for target in (task.branch.then, task.branch.otherwise) if task.branch else ():
            before[target].add(task.name)
    # Two that could begin side by side follow each other as documented: a refusal by one finds nothing half started.
    starts = [task.name for task in tasks if not before[task.name]]
    for earlier, later in pairwise(starts):
        before[later].add(earlier)
    try:
        TopologicalSorter(before).prepare()
    except CycleError as error:
        raise InputError(
            f"the tasks of {facts.name} wait for each other: {' → '.join(reversed(error.args[1]))}",
            hint="mend the grouping in airflow_pack/tasks.py.",
        ) from error
    return before


def _direct(before: Mapping[str, set[str]], order: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The edges without those that others imply, so that the graph reads as people draw it."""
    behind: dict[str, set[str]] = {}
    for name in TopologicalSorter(before).static_order():
        behind[name] = before[name].union(*(behind[earlier] for earlier in before[name]))
    return {
        name: tuple(e for e in order if e in before[name] and not any(e in behind[o] for o in before[name] - {e}))
        for name in order
    }


def _about_before(task: Task, tasks: Sequence[Task]) -> tuple[str, ...]:
    """What the branch before a task is about."""
    branches = (other.branch for other in tasks if other.branch is not None)
    return tuple(branch.asset for branch in branches if task.name in (branch.then, branch.otherwise))


def _first_sentence(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "."
