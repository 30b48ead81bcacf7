"""Prometheus metrics of the service; BentoML's /metrics adds up those of all workers.

Belongs here: names, labels and buckets. Does not belong here: when they count.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from functools import cache
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARES = tuple(step / 10 for step in range(1, 11))
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The service's metrics; made once a process, after BentoML has named the folder that workers share."""

    def __init__(self) -> None:
        self._requests = Counter("mlops_serving_requests", "Requests answered.", ["route", "code"])
        self._seconds = Histogram("mlops_serving_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS)
        self._predictions = Counter("mlops_serving_predictions", "Rows predicted.", ["prediction"])
        self._scores = Histogram("mlops_serving_churn_probability", "Chances of churn answered.", buckets=_SHARES)
        self._log_failures = Counter("mlops_serving_prediction_log_failures", "Predictions that could not be logged.")
        self._model = Gauge(
            "mlops_serving_model_info",
            "1: the version is served by at least one worker.",
            ["name", "version"],
            multiprocess_mode="livemax",
        )
        self._refused = _seen_by_all(
            "mlops_serving_model_refused", "1: the Production version can't be used, and another is served, or none."
        )
        self._backlog_bytes = _seen_by_all("mlops_serving_prediction_log_bytes", "Bytes of the log not ingested yet.")
        self._backlog_files = _seen_by_all("mlops_serving_prediction_log_files", "Files of the log not ingested yet.")
        self._store_age = _seen_by_all(
            "mlops_serving_online_store_age_days", "Days by which the online store lags behind.", ["store"]
        )
        self._version: tuple[str, str] | None = None
        # Looking a label's child up costs more than counting it.
        self._code = cache(lambda route, code: self._requests.labels(route, str(code)))
        self._route = cache(self._seconds.labels)
        self._class = (self._predictions.labels("0"), self._predictions.labels("1"))

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Counts an answer."""
        self._code(route, code).inc()
        self._route(route).observe(seconds)

    def predicted(self, predictions: Sequence[int], churns: Sequence[float]) -> None:
        """Counts predictions, and the chances of churn they stand for."""
        for each, count in Tally(predictions).items():
            self._class[each].inc(count)
        # What `observe` does, for all rows at once: it costs 3 µs a row.
        for bucket, count in Tally([bisect_left(_SHARES, chance) for chance in churns]).items():
            self._scores._buckets[bucket].inc(count)
        self._scores._sum.inc(sum(churns))

    def refuses(self, *, is_refused: bool) -> None:
        """Says whether the Production version can't be used."""
        self._refused.set(is_refused)

    def waits(self, files: int, size: int) -> None:
        """Says what of the prediction log waits to be ingested: files, and their size in bytes."""
        self._backlog_files.set(files)
        self._backlog_bytes.set(size)

    def store_lags(self, store: str, days: int) -> None:
        """Says how old the online store's features are."""
        self._store_age.labels(store).set(days)

    def log_failed(self, rows: int) -> None:
        """Counts predictions that are missing from the log."""
        self._log_failures.inc(rows)

    def serves(self, name: str, version: str) -> None:
        """Names the version served from now on."""
        if self._version == (name, version):
            return
        if self._version is not None:
            self._model.labels(*self._version).set(0)
        self._model.labels(name, version).set(1)
        self._version = (name, version)


def _seen_by_all(name: str, meaning: str, labels: Sequence[str] = ()) -> Gauge:
    """A gauge of something that every worker sees the same way."""
    return Gauge(name, meaning, labels, multiprocess_mode="livemax")
