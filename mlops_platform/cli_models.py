"""`mlops models …`: the registered versions, putting one into Production or back, and who decided what.

Thin commands, each calls one function and prints what it returns; heavy imports stay inside. Does not belong here:
the other commands (`cli.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mlops_platform.cli_options import Home, settings

models_app = typer.Typer(no_args_is_help=True, help="The model registry: versions, promotion, rollback, history.")

Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept in ml.promotions.")]


@models_app.command("list")
def models_list(home: Home = None) -> None:
    """Show every version: stage, model type, held-out ROC-AUC."""
    from mlops_platform.console_models import print_versions
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.versions import list_versions

    found = settings(home)
    print_versions(found.model_name, list_versions(MLflowManager(found), found.model_name), found.zone)


@models_app.command("compare")
def models_compare(
    one: Annotated[str, typer.Argument(metavar="A", help="A version.")],
    other: Annotated[str, typer.Argument(metavar="B", help="Another version.")],
    home: Home = None,
) -> None:
    """Show the metrics of two versions side by side."""
    from mlops_platform.console_models import print_comparison
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.versions import compare_versions

    found = settings(home)
    print_comparison(compare_versions(MLflowManager(found), found.model_name, one, other))


@models_app.command("promote")
def models_promote(
    version: Annotated[str, typer.Argument(metavar="VERSION", help="The version to put into Production.")],
    reason: Reason = None,
    home: Home = None,
) -> None:
    """Put a version into Production, whatever the gate says; the one before is archived."""
    from mlops_platform import clock
    from mlops_platform.console_models import print_promotion
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.stages import promote

    found = settings(home)
    manager, at = MLflowManager(found), clock.now(found)
    print_promotion(version, promote(manager, Lake(found), found.model_name, version, at=at, reason=reason))


@models_app.command("rollback")
def models_rollback(reason: Reason = None, home: Home = None) -> None:
    """Put the version back that was in Production before; again: the one before that."""
    from mlops_platform import clock
    from mlops_platform.console_models import print_rollback
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.stages import rollback

    found = settings(home)
    row = rollback(MLflowManager(found), Lake(found), found.model_name, at=clock.now(found), reason=reason)
    print_rollback(row)


@models_app.command("history")
def models_history(home: Home = None) -> None:
    """Show every decision about Production, the newest last: the gate's and people's."""
    from mlops_platform import clock
    from mlops_platform.console_models import print_history
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.stages import complete_history

    found = settings(home)
    history = complete_history(MLflowManager(found), Lake(found), found.model_name, at=clock.now(found))
    print_history(history, found.zone)
