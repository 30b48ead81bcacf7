"""Prometheus metrics of the service; BentoML's /metrics adds up those of all workers.

What a request counts is added up in memory and handed to prometheus_client before a scrape, and every few seconds: with
several workers each count there is a system call and a write into a shared file, half a dozen a request. Belongs here:
names, labels and buckets. Does not belong here: when they count.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from functools import partial
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHARES = tuple(step / 10 for step in range(1, 11))
_SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class _Observed:
    """Observations that a histogram does not have yet.

    Args:
        bounds: The buckets' upper bounds; one bucket more is for what lies beyond.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Counts one."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def hand_over(self, histogram: Histogram) -> None:
        """Adds them to a histogram as `observe` would one by one."""
        for bucket, count in enumerate(self.counts):
            if count:
                histogram._buckets[bucket].inc(count)
        histogram._sum.inc(self.total)


class _Pending:
    """What has been counted since the last hand-over."""

    def __init__(self) -> None:
        self.answers: Tally[tuple[str, int]] = Tally()
        self.seconds: defaultdict[str, _Observed] = defaultdict(partial(_Observed, _SECONDS))
        self.classes = [0, 0]
        self.chances = _Observed(_SHARES)


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
        # Large requests count from threads of their own.
        self._lock = threading.Lock()
        self._pending = _Pending()

    def answered(self, route: str, code: int, seconds: float) -> None:
        """Counts an answer."""
        with self._lock:
            self._pending.answers[route, code] += 1
            self._pending.seconds[route].add(seconds)

    def predicted(self, predictions: Sequence[int], churns: Sequence[float]) -> None:
        """Counts predictions, and the chances of churn they stand for."""
        with self._lock:
            pending = self._pending
            for each, chance in zip(predictions, churns, strict=True):
                pending.classes[each] += 1
                pending.chances.add(chance)

    def hand_over(self) -> None:
        """Gives what was counted to prometheus_client: before a scrape, and before the process ends."""
        with self._lock:
            pending, self._pending = self._pending, _Pending()
        for (route, code), count in pending.answers.items():
            self._requests.labels(route, str(code)).inc(count)
        for route, seconds in pending.seconds.items():
            seconds.hand_over(self._seconds.labels(route))
        for each, count in enumerate(pending.classes):
            self._predictions.labels(str(each)).inc(count)
        pending.chances.hand_over(self._scores)

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
