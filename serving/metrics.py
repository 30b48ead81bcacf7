"""Prometheus metrics of the service; BentoML's /metrics adds up those of all workers.

Belongs here: names, labels and buckets. Does not belong here: when they count.
"""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The service's metrics; made once a process, after BentoML has named the folder that workers share."""

    def __init__(self) -> None:
        self._requests = Counter("mlops_serving_requests", "Requests answered.", ["route", "code"])
        self._seconds = Histogram("mlops_serving_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS)
        self._predictions = Counter("mlops_serving_predictions", "Rows predicted.", ["prediction"])
        self._log_failures = Counter("mlops_serving_prediction_log_failures", "Predictions that could not be logged.")
        self._model = Gauge(
            "mlops_serving_model_info",
            "1: the version is served by at least one worker.",
            ["name", "version"],
            multiprocess_mode="livemax",
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

    def predicted(self, rows: int, churns: int) -> None:
        """Counts predictions: `rows` in all, `churns` of them of class 1."""
        self._class[0].inc(rows - churns)
        self._class[1].inc(churns)

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
