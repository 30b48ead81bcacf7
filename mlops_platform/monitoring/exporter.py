"""The exporter: keeps the figures of its sources, and answers Prometheus from memory.

`refresh` reads what has changed; a scrape only prints what the last refresh found, so it costs the same however large
the tables are. Belongs here: keeping, bounding and serving figures. Does not belong here: the sources
(`exporter_tables.py`, `orchestration/run_metrics.py`), or when to refresh (`cli_metrics.py`).
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, make_wsgi_app, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from mlops_platform.errors import InputError
from mlops_platform.monitoring.metrics import Family, Figure, Source
from mlops_platform.monitoring.report_pages import with_reports
from mlops_platform.settings import mask_secrets
from mlops_platform.web_guard import guarded_wsgi

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

LOGGER = logging.getLogger("mlops.exporter")

# More series of one metric are dropped, and counted: values of a column must not fill the memory of a Prometheus.
MAX_SERIES = 1000
MAX_LABEL_LENGTH = 100

UP = Family("mlops_exporter_up", "1: the source was read at the last refresh.", ("source",))
ERRORS = Family("mlops_exporter_errors_total", "Refreshes at which the source failed.", ("source",), "counter")
REFRESHED = Family("mlops_exporter_last_refresh_timestamp_seconds", "When the sources were last looked at.")
DROPPED = Family("mlops_exporter_dropped_series", f"Series beyond {MAX_SERIES} that were left out.", ("family",))
FAMILIES = (UP, ERRORS, REFRESHED, DROPPED)


class Exporter(Collector):
    """Figures of some sources, as of the last refresh.

    A source that can't be read has no figures but `mlops_exporter_up` 0: an old value would pass for the present one.

    Args:
        sources: Where the figures come from.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._errors: Counter[str] = Counter()
        self._said: dict[str, str] = {}
        self._metrics: tuple[Metric, ...] = ()

    def refresh(self, now: datetime) -> None:
        """Reads every source anew.

        Args:
            now: The present instant.
        """
        figures = [figure for source in self._sources for figure in self._read(source)]
        self._metrics = tuple(_metrics([*figures, REFRESHED.figure(now.timestamp())]))

    def collect(self) -> Iterator[Metric]:
        """What Prometheus is told."""
        yield from self._metrics

    def _read(self, source: Source) -> Iterator[Figure]:
        try:
            found = source.read()
        # Whatever a damaged table or a half-written file makes a library raise: the other figures are still true.
        except Exception as error:  # noqa: BLE001
            self._errors[source.name] += 1
            self._say(source.name, f"{type(error).__name__}: {mask_secrets(str(error))}")
            yield UP.figure(0, source.name)
        else:
            self._say(source.name, "")
            yield from found
            yield UP.figure(1, source.name)
        yield ERRORS.figure(self._errors[source.name], source.name)

    def _say(self, source: str, problem: str) -> None:
        """Logs a failure once, not at every refresh, and its end."""
        if self._said.get(source, "") != problem:
            LOGGER.warning("%s can't be read: %s", source, problem) if problem else LOGGER.info("%s is back", source)
        self._said[source] = problem


def _metrics(figures: Iterable[Figure]) -> Iterator[Metric]:
    """Figures by family, each at most `MAX_SERIES` of them; the first of a series counts."""
    series: dict[Family, dict[tuple[str, ...], float]] = {}
    dropped: Counter[str] = Counter()
    for figure in figures:
        held = series.setdefault(figure.family, {})
        labels = tuple(label[:MAX_LABEL_LENGTH] for label in figure.labels)
        if math.isfinite(figure.value) and labels not in held:
            if len(held) < MAX_SERIES:
                held[labels] = figure.value
            else:
                dropped[figure.family.name] += 1
    series[DROPPED] = {(name,): float(count) for name, count in dropped.items()}
    for family, values in series.items():
        kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
        metric = kind(family.name, family.meaning, labels=family.labels)
        for labels, value in values.items():
            metric.add_metric(labels, value)
        yield metric


def registry_of(exporter: Exporter) -> CollectorRegistry:
    """A registry with the exporter's figures and those of this process."""
    registry = CollectorRegistry()
    registry.register(exporter)
    ProcessCollector(registry=registry)
    return registry


@contextmanager
def serving(
    exporter: Exporter, reports: Path, host: str, port: int, allowed_hosts: Sequence[str] = ()
) -> Iterator[int]:
    """Answers GET /metrics, and /reports/NAME.html, in threads of its own until the end of the block.

    Args:
        exporter: What to answer from.
        reports: Folder of the drift reports' pages.
        host: Address to listen on.
        port: Port; 0: a free one.
        allowed_hosts: Names it may be asked under, besides loopback's.

    Yields:
        The port.

    Raises:
        InputError: It can't listen there.
    """
    registry = registry_of(exporter)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"the exporter can't listen on {host}:{port}: {error}",
            expected="a free port, and an address of this machine",
            hint="choose another with --port.",
        ) from error
    server.set_app(guarded_wsgi(with_reports(make_wsgi_app(registry), reports), allowed_hosts))
    try:
        yield int(server.server_port)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
