"""Metrics: what one is, the documented `prometheus_gauge`, and pushing to a Pushgateway.

Belongs here: the vocabulary (`Family`, `Figure`) and what a user's own program reports. Does not belong here: reading
tables (`exporter_tables.py`), serving (`exporter.py`), the service's metrics (`serving/metrics.py`).

Names follow https://prometheus.io/docs/practices/naming/: prefix `mlops_`, base units (seconds, bytes, ratios from 0 to
1), the unit last. Ages are given as the instant they count from: `time() - x` is the age at any moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, Self

from prometheus_client import CollectorRegistry, Gauge, push_to_gateway

from mlops_platform.errors import InputError, StorageError
from mlops_platform.settings import mask_secrets

PUSH_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Family:
    """One metric: all its series.

    Args:
        name: Name, ending in the unit; a counter's ends in `_total`.
        meaning: One sentence for a reader.
        labels: Names of the labels.
        kind: Whether the value can fall.
    """

    name: str
    meaning: str
    labels: tuple[str, ...] = ()
    kind: Literal["gauge", "counter"] = "gauge"

    def figure(self, value: float, *labels: str) -> Figure:
        """One series' present value, with a value for each label."""
        if len(labels) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, not {len(labels)} of them")
        return Figure(self, labels, float(value))


@dataclass(frozen=True, slots=True)
class Figure:
    """The present value of one series."""

    family: Family
    labels: tuple[str, ...]
    value: float


class Source(Protocol):
    """Something that figures are read from, again and again."""

    @property
    def name(self) -> str:
        """What a person calls it; the label `source` of what the exporter says about it."""

    def read(self) -> tuple[Figure, ...]:
        """The present figures; none where there is nothing yet. Unchanged since the last call, nothing is read again.

        Raises:
            Exception: It can't be read; the exporter says so and goes on.
        """


class _ReportedGauge(Gauge):
    """A gauge whose label `metric` may be left out, as in the documented call."""

    def labels(self, *labelvalues: object, **labelkwargs: object) -> Self:
        """The series of a model and metric."""
        if not labelvalues:
            labelkwargs = {"metric": "value", **labelkwargs}
        return super().labels(*labelvalues, **labelkwargs)


# What a program of the user's own says of a model: `prometheus_gauge.labels(model="churn_model").set(value)`. Several
# figures of one model need the second label, or the last one set is all that is left: labels(model=…, metric="f1").
prometheus_gauge = _ReportedGauge(
    "mlops_reported_value", "A figure that a program reported about a model, in base units.", ["model", "metric"]
)


def push(registry: CollectorRegistry, gateway: str, *, job: str) -> None:
    """Replaces what a Pushgateway holds under the job by the registry's metrics.

    Args:
        registry: What to push.
        gateway: The gateway's address, such as http://127.0.0.1:9091.
        job: The group's name. Two pushers need two: each push deletes what the group held.

    Raises:
        InputError: The address is none.
        StorageError: The gateway can't be reached, or refused.
    """
    shown = mask_secrets(gateway)
    if not gateway.startswith(("http://", "https://")):
        raise InputError(f"{shown!r} is no Pushgateway", expected="an address such as http://127.0.0.1:9091")
    try:
        push_to_gateway(gateway, job, registry, timeout=PUSH_SECONDS)
    except (OSError, ValueError) as error:
        raise StorageError(
            f"the Pushgateway {shown} took nothing: {mask_secrets(str(error))}",
            hint="check the address and that it runs.",
        ) from error
