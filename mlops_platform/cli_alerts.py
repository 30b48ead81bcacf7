"""`mlops alerts …`: what people were told, closing an alert by hand, and trying the channels.

Thin commands, each calls one function and prints what it returns. Does not belong here: the other commands (`cli.py`).
"""

from __future__ import annotations

import uuid
from typing import Annotated

import typer

from mlops_platform.cli_options import EXIT_USER_ERROR, Home

alerts_app = typer.Typer(no_args_is_help=True, help="Alerts: what is open, what was told, trying the channels.")


@alerts_app.command("list")
def alerts_list(
    every: Annotated[bool, typer.Option("--all", help="Also those that are over.")] = False,
    most: Annotated[int, typer.Option("--most", min=1, help="So many at most, the latest first.")] = 50,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV that is safe to open in a spreadsheet.")] = False,
    home: Home = None,
) -> None:
    """Show alerts that are open: since when, how often, and whether each channel was told."""
    from mlops_platform.console_alerts import print_alerts, print_alerts_csv
    from mlops_platform.monitoring.alerts import recorded_alerts
    from mlops_platform.settings import load_settings

    settings = load_settings(home=home)
    found = recorded_alerts(settings, is_open=not every, most=most)
    if as_csv:
        print_alerts_csv(found)
    else:
        print_alerts(found, settings.zone, is_open=not every)


@alerts_app.command("resolve")
def alerts_resolve(
    alert_id: Annotated[str, typer.Argument(metavar="ALERT_ID", help="As `mlops alerts list` shows it.")],
    home: Home = None,
) -> None:
    """Close an open alert; whoever was told of it is told that it is over."""
    from mlops_platform.console_alerts import print_deliveries
    from mlops_platform.monitoring.alerts import AlertManager, open_alert
    from mlops_platform.settings import load_settings

    settings = load_settings(home=home)
    print_deliveries(AlertManager(settings=settings).resolve_key(open_alert(settings, alert_id).key))


@alerts_app.command("test")
def alerts_test(
    channel: Annotated[
        list[str] | None, typer.Option("--channel", help="email, slack or log; none: those of MLOPS_ALERT_CHANNELS.")
    ] = None,
    home: Home = None,
) -> None:
    """Send a test alert, and the notice that it is over; exit code 2 if a channel could not deliver."""
    from mlops_platform.console_alerts import print_deliveries
    from mlops_platform.monitoring.alerts import AlertManager
    from mlops_platform.settings import load_settings

    manager = AlertManager(channel or None, settings=load_settings(home=home))
    # A subject of its own: a second test within the hour is not a repeated alert.
    subject = uuid.uuid4().hex[:8]
    told = manager.send_alert("test", "This is a test of the alert channels.", "info", model="", subject=subject)
    print_deliveries(told)
    manager.resolve("test", model="", subject=subject)
    if any(delivery.status == "failed" for delivery in told.values()):
        raise typer.Exit(EXIT_USER_ERROR)
