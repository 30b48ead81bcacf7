"""`mlops airflow …`: generating the DAG pack, and what its tasks call.

Thin commands, each calls one function and prints what it returns; heavy imports stay inside. Does not belong here:
the other commands (`cli.py`).
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_platform.cli_options import EXIT_USER_ERROR, Home, settings
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from typing import Any

airflow_app = typer.Typer(no_args_is_help=True, help="The documented DAGs for Airflow.")

DAG_FOLDER = Path("deploy/airflow/dags")


@airflow_app.command("generate")
def generate(
    *,
    runner: Annotated[
        str, typer.Option(help="bash: Airflow's tasks run the platform; graphql: a Dagster webserver does.")
    ] = "bash",
    sensor: Annotated[
        str, typer.Option(help="What wait_for_data asks: cli, whether silver holds the day; s3, for the day's files.")
    ] = "cli",
    out: Annotated[Path, typer.Option("--out", help="Folder of the DAG files.")] = DAG_FOLDER,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; show how the files there differ.")] = False,
    home: Home = None,
) -> None:
    """Write the DAGs of the documented pipelines from the Dagster definitions."""
    from mlops_platform.airflow_pack import generate as pack
    from mlops_platform.console import err

    _one_of("--runner", runner, ("bash", "graphql"))
    _one_of("--sensor", sensor, ("cli", "s3"))
    found = settings(home)
    from mlops_platform.definitions import build_definitions

    chosen: dict[str, Any] = {"runner": runner, "sensor": sensor}
    made = pack.make_pack(found, build_definitions, **chosen)
    if not check:
        written = pack.write_pack(made, out)
        err.print(f"wrote {len(written)} of {len(made)} files in {out}", highlight=False, soft_wrap=True)
        return
    diff = pack.pack_diff(made, out)
    if diff:
        typer.echo(diff, nl=False)
        err.print(f"the DAGs in {out} are stale. Next: mlops airflow generate", highlight=False, soft_wrap=True)
        raise typer.Exit(EXIT_USER_ERROR)


@airflow_app.command("exec")
def execute(
    *,
    dag: Annotated[str, typer.Argument(metavar="DAG", help="The DAG, such as ml_training_pipeline.")],
    task: Annotated[str, typer.Argument(metavar="TASK", help="Its task, such as train_model.")],
    dag_run: Annotated[str, typer.Option("--dag-run", help="Id of the DAG run.")],
    at: Annotated[str, typer.Option("--at", help="The instant it stands for, such as 2024-01-31T02:00:00+00:00.")],
    attempt: Annotated[int, typer.Option("--try", min=1, help="Number of the try.")] = 1,
    home: Home = None,
) -> None:
    """Run one task of a DAG run; print what it made as JSON. Exit code 3: not ready yet, 99: nothing to do."""
    from mlops_platform.airflow_pack.execute import execute_task
    from mlops_platform.console import progress

    instant = _instant(at)
    with progress() as say:
        found = settings(home)
        from mlops_platform.definitions import build_definitions

        ended = execute_task(
            found, build_definitions, dag=dag, task=task, dag_run=dag_run, attempt=attempt, at=instant, say=say
        )
        if ended.why:
            say(ended.why)
    typer.echo(json.dumps(ended.references))
    if ended.code:
        raise typer.Exit(ended.code)


def _one_of(option: str, given: str, known: tuple[str, ...]) -> None:
    if given not in known:
        raise InputError(f"{option} {given!r} is not known", expected=f"one of {', '.join(known)}")


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--at {text!r} is no instant", expected="one such as 2024-01-31T02:00:00+00:00") from error
    if found.tzinfo is None:
        raise InputError(f"--at {text!r} has no offset", expected="one such as 2024-01-31T02:00:00+00:00")
    return found
