"""`mlops features …`: which features there are, and recording what they mean.

Thin commands, each calls one function and prints what it returns; heavy imports stay inside. Does not belong here:
the other commands (`cli.py`).
"""

from __future__ import annotations

from typing import Annotated

import typer

from mlops_platform.cli_options import Home, settings

features_app = typer.Typer(no_args_is_help=True, help="The feature store: what is declared, and its version.")


@features_app.command("list")
def features_list(home: Home = None) -> None:
    """Show every feature: type, unit, window and meaning."""
    from mlops_platform.console_features import print_features
    from mlops_platform.contracts import load_feature_set

    print_features(load_feature_set(settings(home).features_module))


@features_app.command("record")
def features_record(
    keep_version: Annotated[
        bool, typer.Option("--keep-version", help="The meaning is the same: record it under the version it has.")
    ] = False,
    home: Home = None,
) -> None:
    """Record what the declarations mean now; the version rises when a feature was added, changed or removed."""
    from mlops_platform.console_features import print_record
    from mlops_platform.contracts import load_feature_set
    from mlops_platform.feature_pipeline.record import record

    print_record(record(load_feature_set(settings(home).features_module), keep_version=keep_version))


@features_app.command("backfill")
def features_backfill(
    first: Annotated[str | None, typer.Option("--from", help="First feature_date. [the last day that is over]")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last feature_date. [the last day that is over]")] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Compute this feature alone, the others stay; may be repeated.")
    ] = None,
    home: Home = None,
) -> None:
    """Compute and publish every feature_date of a range in one commit."""
    from mlops_platform import clock
    from mlops_platform.cli_options import day
    from mlops_platform.console import out, progress
    from mlops_platform.feature_pipeline.load import days_between
    from mlops_platform.feature_pipeline.pipeline import last_day, publish_features
    from mlops_platform.storage.lake import Lake

    found = settings(home)
    over = last_day(found)
    days = days_between(day(first, "--from") or over, day(last, "--to") or over)
    with progress() as note:
        done = publish_features(Lake(found), days, now=clock.now(found), only=only or (), note=note)
    change = f"snapshot {done.snapshot_id}" if done.is_new else "unchanged: it held these rows already"
    out.print(f"{done.table}: {len(days)} feature_dates, {done.rows:,} rows, {change}", highlight=False)


@features_app.command("refresh")
def features_refresh(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which feature_dates.")] = False,
    home: Home = None,
) -> None:
    """Compute anew exactly the feature_dates whose silver rows have changed since they were made."""
    from mlops_platform import clock
    from mlops_platform.console import out, progress
    from mlops_platform.feature_pipeline.pipeline import refresh_features
    from mlops_platform.storage.lake import Lake

    found = settings(home)
    with progress() as note:
        stale = refresh_features(Lake(found), now=clock.now(found), is_dry_run=dry_run, note=note)
    what = "would be computed anew" if dry_run else "computed anew"
    span = f", {stale[0]} to {stale[-1]}" if stale else ""
    out.print(f"{len(stale)} feature_dates {what}{span}", highlight=False)
