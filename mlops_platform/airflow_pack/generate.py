"""Writes the pack, or says how the one that is there differs from what would be written.

Does not belong here: the text (`render.py`), the tasks (`tasks.py`).
"""

from __future__ import annotations

from difflib import unified_diff
from typing import TYPE_CHECKING

from mlops_platform.airflow_pack.plan import plan_dag
from mlops_platform.airflow_pack.render import Runner, Sensor, render_dag
from mlops_platform.airflow_pack.tasks import DAGS
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from typing import Any

    from mlops_platform.settings import Settings


def make_pack(
    settings: Settings, build: Callable[[Settings], Any], *, runner: Runner = "bash", sensor: Sensor = "cli"
) -> dict[str, str]:
    """The files of the pack by name.

    Args:
        settings: Their time zone is the DAGs'.
        build: Makes the Definitions of settings.
        runner: How a task reaches the platform.
        sensor: What wait_for_data asks.

    Raises:
        InputError: The documented tasks and the Definitions don't fit; the message names the asset, task or job.
    """
    from mlops_platform.orchestration.job_facts import job_facts
    from mlops_platform.orchestration.task_commands import COMMANDS

    # With Airflow as the orchestrator these jobs have no schedule, whose cron the DAGs take over.
    definitions = build(settings.model_copy(update={"orchestrator": "dagster"}))
    return {
        f"{name}.py": render_dag(plan_dag(job_facts(definitions, name), tasks, COMMANDS), runner, sensor)
        for name, tasks in DAGS.items()
    }


def write_pack(pack: Mapping[str, str], folder: Path) -> list[Path]:
    """Writes the files that differ; returns them.

    Raises:
        InputError: The folder can't be written.
    """
    stale = [folder / name for name, text in pack.items() if _read(folder / name) != text]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in stale:
            draft = path.with_suffix(".tmp")
            draft.write_text(pack[path.name], encoding="utf-8")
            draft.replace(path)
    except OSError as error:
        raise InputError(f"{folder} can't be written: {error}", hint="choose another with --out DIR.") from error
    return stale


def pack_diff(pack: Mapping[str, str], folder: Path) -> str:
    """How the files in the folder differ from the pack, as a unified diff; empty: they don't."""
    lines: list[str] = []
    for name, text in sorted(pack.items()):
        there = _read(folder / name).splitlines(keepends=True)
        lines += unified_diff(there, text.splitlines(keepends=True), str(folder / name), f"{name} as generated")
    return "".join(lines)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""
