"""`mlops metrics …`: the exporter for Prometheus, and pushing its figures to a Pushgateway.

Thin commands, each calls one function; heavy imports stay inside. Does not belong here: the other commands (`cli.py`).
"""

from __future__ import annotations

import signal
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from mlops_platform.cli_options import Home, settings

if TYPE_CHECKING:
    from mlops_platform.monitoring.exporter import Exporter
    from mlops_platform.settings import Settings

metrics_app = typer.Typer(no_args_is_help=True, help="Metrics for Prometheus.")


@metrics_app.command("serve")
def metrics_serve(
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")] = 9101,
    every: Annotated[float, typer.Option("--every", min=0.1, help="Seconds between two looks at the tables.")] = 15.0,
    home: Home = None,
) -> None:
    """Answer Prometheus with what the tables and runs of this home say, and show drift reports, until Ctrl-C."""
    from mlops_platform.console import out
    from mlops_platform.monitoring.exporter import serving

    chosen, stop = settings(home), threading.Event()
    exporter = _exporter(chosen)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with serving(exporter, chosen.reports, host, port, chosen.allowed_hosts) as found:
        out.print(f"metrics on http://{host}:{found}/metrics; Ctrl-C stops", highlight=False, soft_wrap=True)
        while not stop.is_set():
            # When it was looked at is the machine's time, whatever day MLOPS_AS_OF says it is.
            exporter.refresh(datetime.now(UTC))
            stop.wait(every)


@metrics_app.command("push")
def metrics_push(
    gateway: Annotated[str, typer.Argument(help="The Pushgateway's address, such as http://127.0.0.1:9091.")],
    job: Annotated[str, typer.Option("--job", help="Group whose metrics are replaced.")] = "mlops_exporter",
    home: Home = None,
) -> None:
    """Push the exporter's figures once, where nothing can scrape it: after a cron job."""
    from mlops_platform.monitoring.exporter import registry_of
    from mlops_platform.monitoring.metrics import push

    exporter = _exporter(settings(home))
    exporter.refresh(datetime.now(UTC))
    push(registry_of(exporter), gateway, job=job)


def _exporter(found: Settings) -> Exporter:
    from mlops_platform.monitoring.exporter import Exporter
    from mlops_platform.monitoring.exporter_alerts import AlertsSource
    from mlops_platform.monitoring.exporter_tables import table_sources
    from mlops_platform.orchestration.run_metrics import RunsSource
    from mlops_platform.storage.lake import Lake

    return Exporter([*table_sources(Lake(found)), RunsSource(found), AlertsSource(found)])
