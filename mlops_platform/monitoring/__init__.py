"""What happens to data and models after training: drift, reports, delayed-label performance, metrics, alerts.

Belongs here: judging what was scored against what the model was trained on, and telling people about it. Does not
belong here: scoring, training, and the schedules that start all this. What is public loads when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_platform.monitoring.alerts import AlertManager
    from mlops_platform.monitoring.model_monitor import ModelMonitor

_PLACES = {"AlertManager": "alerts", "ModelMonitor": "model_monitor"}

__all__ = ["AlertManager", "ModelMonitor"]


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
