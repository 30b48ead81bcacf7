"""`mlops tune`: searching hyperparameters from the command line.

A thin command: it calls one function and prints what it returns; heavy imports stay inside. Does not belong here: the
other commands (`cli.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Protocol

import typer

from mlops_platform.cli_options import Home, Profile, day, settings

if TYPE_CHECKING:
    from mlops_platform.training_pipeline.tuning import Tuned


class _Say(Protocol):
    def __call__(self, line: str, share: float | None = None) -> None: ...


def tune(
    *,
    trials: Annotated[
        int | None,
        typer.Option("--trials", help="Trials in all, those of an earlier call included. [20, without --minutes]"),
    ] = None,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Begin no trial later than this.")] = None,
    model_type: Annotated[
        str,
        typer.Option("--model-type", help="xgboost, random_forest, logistic_regression, average, or one of your own."),
    ] = "xgboost",
    seed: Annotated[int, typer.Option(min=0, help="Equal seeds try equal values.")] = 42,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Train with the best found, or only print it.")
    ] = True,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Last complete day; none: the last in silver.")] = None,
    home: Home = None,
    profile: Profile = None,
) -> None:
    """Search the best hyperparameters, train with them, and promote the model if it passes the gate."""
    from mlops_platform.console import out

    until = day(as_of, "--as-of")
    with _progress_bar() as say:
        say("loading the platform")
        found = settings(home, profile=profile)
        from mlops_platform.definitions import build_definitions
        from mlops_platform.orchestration.demo import run_tuning
        from mlops_platform.training_pipeline.tuning import DEFAULT_TRIALS

        tuned, decision = run_tuning(
            found,
            build_definitions,
            as_of=until,
            progress=say,
            say=say,
            model_type=model_type,
            trials=DEFAULT_TRIALS if trials is None and minutes is None else trials,
            seconds=None if minutes is None else minutes * 60,
            seed=seed,
            is_trained=train,
        )
    _print_tuned(tuned)
    if decision is not None:
        model, auc = decision.model, decision.evaluation.metrics.roc_auc
        out.print(f"{model.name} version {model.version}: {model.stage}, held-out ROC-AUC {auc:.4f}", highlight=False)
        out.print(f"Gate: {decision.reason}.", markup=False, highlight=False, soft_wrap=True)


def _print_tuned(tuned: Tuned) -> None:
    from mlops_platform.console import out

    counts = tuned.trials
    out.print(
        f"{tuned.model_type}: cross-validated ROC-AUC {tuned.score:.4f}, defaults {tuned.default_score:.4f} "
        f"({counts.complete} trials complete, {counts.pruned} pruned, {counts.failed} failed)",
        highlight=False,
        soft_wrap=True,
    )
    for name, value in tuned.hyperparameters.items():
        out.print(f"  {name} = {value!r}", markup=False, highlight=False)
    out.print(f"MLflow run of the trials: {tuned.run_id}", highlight=False)


@contextmanager
def _progress_bar() -> Iterator[_Say]:
    """A bar that fills with the share of the budget spent; on a pipe or a log, one line a step."""
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from mlops_platform.console import err

    def print_line(line: str, share: float | None = None) -> None:
        err.print(f"· {line}", markup=False, highlight=False)

    if not err.is_terminal:
        yield print_line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(line: str, share: float | None = None) -> None:
            # Without a share rich leaves both as they are: a bar that only moves to and fro.
            total = None if share is None else 1.0
            bar.update(task, description=escape(line), total=total, completed=share)

        yield show
