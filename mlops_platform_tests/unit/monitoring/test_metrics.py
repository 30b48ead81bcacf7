"""The documented gauge, the names of all metrics, and what a push says when it can't."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest
from prometheus_client import REGISTRY, CollectorRegistry

from mlops_platform.errors import InputError, StorageError
from mlops_platform.monitoring import exporter, exporter_alerts, exporter_rows, exporter_tables
from mlops_platform.monitoring.metrics import Family, prometheus_gauge, push
from mlops_platform.orchestration import run_metrics

PAGE = (Path(__file__).resolve().parents[3] / "docs/metrics.md").read_text()
FAMILIES: list[Family] = [
    *exporter.FAMILIES,
    *exporter_tables.FAMILIES,
    *exporter_rows.FAMILIES,
    *run_metrics.FAMILIES,
    *exporter_alerts.FAMILIES,
]
UNITS = ("_seconds", "_bytes", "_ratio", "_rows", "_total")
# What has no unit: whether, which, or how many of a thing that the name says.
BARE = {
    "mlops_exporter_up", "mlops_exporter_dropped_series", "mlops_table_files", "mlops_model_brier_score",
    "mlops_drift_detected", "mlops_drift_status", "mlops_feature_value", "mlops_job_runs_in_progress",
    "mlops_alerts_open",
}  # fmt: skip


def reported(**labels: str) -> float | None:
    return REGISTRY.get_sample_value("mlops_reported_value", labels)


def test_the_documented_call() -> None:
    metrics = {"accuracy": 0.85, "f1_score": 0.82, "prediction_volume": 1000, "avg_latency_ms": 1.5}
    for value in metrics.values():
        prometheus_gauge.labels(model="churn_model").set(value)
    assert reported(model="churn_model", metric="value") == 1.5


def test_figures_of_one_model_stay_apart_by_name() -> None:
    prometheus_gauge.labels(model="m", metric="accuracy").set(0.85)
    prometheus_gauge.labels(model="m", metric="f1").set(0.82)
    prometheus_gauge.labels("m", "roc_auc").set(0.9)
    assert [reported(model="m", metric=name) for name in ("accuracy", "f1", "roc_auc")] == [0.85, 0.82, 0.9]
    with pytest.raises(ValueError, match="label"):
        prometheus_gauge.labels(model="m", version="1")


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_name_follows_the_conventions_and_is_documented(family: Family) -> None:
    assert re.fullmatch(r"mlops_[a-z0-9_]+", family.name)
    assert family.name.endswith(UNITS) != (family.name in BARE)
    assert family.name.endswith("_total") == (family.kind == "counter")
    # Prometheus sets the first two itself; the others are a histogram's and a summary's.
    assert not {"job", "instance", "le", "quantile"} & set(family.labels)
    (row,) = re.findall(rf"^\| `{family.name}` \|.*$", PAGE, re.MULTILINE)
    assert all(label in row for label in family.labels)


def test_names_are_told_apart() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    assert set(re.findall(r"^\| `(mlops_(?!serving|reported)\w+)` \|", PAGE, re.MULTILINE)) == {
        family.name for family in FAMILIES
    }


def test_a_figure_has_a_value_for_each_label() -> None:
    with pytest.raises(ValueError, match="mlops_exporter_up"):
        exporter.UP.figure(1)


@pytest.mark.parametrize("address", ["127.0.0.1:9091", "file:///etc/passwd", "gopher://x"])
def test_only_a_web_address_is_pushed_to(address: str) -> None:
    with pytest.raises(InputError, match=r"http://127\.0\.0\.1:9091"):
        push(CollectorRegistry(), address, job="j")


def test_nobody_there_is_told_without_the_password() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and never listens
        address = f"http://me:hidden@127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StorageError, match="took nothing") as caught:
            push(CollectorRegistry(), address, job="j")
    assert "hidden" not in str(caught.value)
