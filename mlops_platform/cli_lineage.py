"""`mlops rebuild` and `mlops lineage`: is a model what its inputs make, and where does a prediction come from.

Thin commands, each calls one function and prints what it returns; heavy imports stay inside. Does not belong here:
the other commands (`cli.py`).
"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mlops_platform.cli_options import EXIT_USER_ERROR, Home, settings

ModelName = Annotated[str | None, typer.Option("--model-name", help="The model. [MLOPS_MODEL_NAME]")]


def rebuild(
    version: Annotated[str, typer.Argument(metavar="MODEL_VERSION", help="The version to make again.")],
    from_features: Annotated[
        bool, typer.Option("--from-features", help="Make the training set again too, from features and labels.")
    ] = False,
    model_name: ModelName = None,
    home: Home = None,
) -> None:
    """Train a version again on its pinned rows, and compare model and predictions bit for bit; nothing is written."""
    from mlops_platform.console import progress
    from mlops_platform.console_lineage import print_rebuild
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.rebuild import rebuild as rebuild_model
    from mlops_platform.training_pipeline.registry import MLflowManager

    found = settings(home)
    name = model_name or found.model_name
    with progress() as say:
        say(f"training {name} version {version} again")
        done = rebuild_model(MLflowManager(found), Lake(found), name, version, from_features=from_features)
    print_rebuild(done)
    if not done.is_identical:
        raise typer.Exit(EXIT_USER_ERROR)


def lineage(
    which: Annotated[
        str, typer.Argument(metavar="PREDICTION_ID|MODEL_VERSION", help="A prediction, or a version's number.")
    ],
    every_batch: Annotated[bool, typer.Option("--all", help="List every bronze batch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every bronze batch.")] = False,
    model_name: ModelName = None,
    home: Home = None,
) -> None:
    """Show where a prediction or a model version comes from: run, training set, features, bronze batches."""
    from mlops_platform.console import out
    from mlops_platform.console_lineage import print_lineage
    from mlops_platform.storage.lake import Lake
    from mlops_platform.training_pipeline.lineage import lineage as trace
    from mlops_platform.training_pipeline.registry import MLflowManager

    found = settings(home)
    node = trace(MLflowManager(found), Lake(found), which, model_name=model_name or found.model_name)
    if as_json:
        out.print_json(json.dumps(node.as_dict()))
        return
    print_lineage(node, found.zone, is_complete=every_batch)
