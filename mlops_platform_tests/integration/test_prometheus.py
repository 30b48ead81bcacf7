"""Real servers: Prometheus scrapes the service and the exporter, every panel has a value, an alert reaches people.

One stack answers all tests of this module, in order. Prometheus and Alertmanager run with the configuration in deploy/
(`prometheus.py`), the exporter as `mlops metrics serve`, the service as `bentoml serve`.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlops_platform.monitoring.alerts import send
from mlops_platform.orchestration.instance import open_instance
from mlops_platform.orchestration.runner import Runner
from mlops_platform.settings import Settings, child_environment, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.definitions.test_run_metrics import DEFINITIONS
from mlops_platform_tests.integration.commands import mlops
from mlops_platform_tests.integration.prometheus import (
    Prometheus,
    Told,
    alertmanager,
    free_port,
    listening,
    program,
    prometheus,
    started,
    wait_for,
)
from mlops_platform_tests.integration.servers import (
    ROOT,
    Server,
    eventually,
    features_table,
    promote,
    register_version,
    serving,
)
from mlops_platform_tests.unit.monitoring import watched
from mlops_platform_tests.unit.serving.fakes import fill_store
from tools.dashboards import BOARDS

pytestmark = [
    # Importing MLflow warns of MLflow: SQLAlchemy 2.1 deprecates a loader strategy of its, and its types are `Any`.
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
    # It leaves database connections to the collector.
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
EVALUATIONS_AFTERWARDS = 4


@dataclass
class Stack:
    """Everything running."""

    lake: Lake
    service: Server
    prometheus: Prometheus
    told: Told
    exporter_port: int


def fill(settings: Settings) -> Lake:
    """A home in which everything has happened once: a model, predictions, a run, an alert."""
    promote(settings, register_version(settings, seed=1)[0])
    fill_store(settings, date(2024, 1, 15), C0000001=100)
    with open_instance(settings) as instance:
        Runner(DEFINITIONS, instance, lambda _: None).run("make_things", None)
    send(settings, "drift", "Something moved")
    return watched.fill(settings)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    program("prometheus")
    program("prometheus-alertmanager", "alertmanager", "prometheus-alertmanager")
    folder = tmp_path_factory.mktemp("prometheus")
    settings = load_settings(home=folder / "home")
    settings.home.mkdir()
    lake = fill(settings)
    port = free_port()
    command = [sys.executable, "-m", "mlops_platform.cli", "metrics", "serve", "--port", str(port), "--every", "0.5"]
    environment = child_environment(settings, PYTHONPATH=str(ROOT))
    with ExitStack() as running:
        told, mail_port, hook = running.enter_context(listening())
        running.enter_context(started(command, folder, "exporter", env=environment))
        service = running.enter_context(serving(settings, folder))
        targets = {
            "alertmanager": running.enter_context(alertmanager(folder, mail_port, hook)),
            "exporter": port,
            "churn-service": int(service.http.base_url.port or 0),
        }
        server = running.enter_context(prometheus(folder, targets))
        eventually(lambda: service.http.get("/readyz").status_code == 200, service)
        wait_for(lambda: httpx.get(f"http://127.0.0.1:{port}/metrics").status_code == 200, "the exporter")
        yield Stack(lake, service, server, told, port)


def predict(service: Server, times: int) -> None:
    for row in features_table(times, seed=5).to_pylist():
        assert service.http.post("/predict", json={"features": row}).status_code == 200


def test_both_are_scraped_and_listen_on_loopback_only(stack: Stack) -> None:
    def up() -> dict[str, float]:
        return {labels["job"]: value for labels, value in stack.prometheus.ask("up")}

    wait_for(lambda: up() == {"churn-service": 1, "exporter": 1}, "both targets")
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.2:{stack.exporter_port}/metrics")


def test_every_panel_has_a_value(stack: Stack) -> None:
    predict(stack.service, 20)
    wait_for(lambda: stack.prometheus.ask('mlops_serving_requests_total{route="/predict"} >= 20'), "the requests")
    # A rate needs a second, larger value.
    predict(stack.service, 20)
    missing = [
        (board.uid, panel.title, expression, re.findall(r"{{(\w+)}}", legend), board.variable)
        for board in BOARDS
        for panel in board.panels
        for legend, expression in panel.queries.items()
    ]
    assert len(missing) > 50

    def nothing_is_missing() -> bool:
        missing[:] = [query for query in missing if not _has_a_value(stack.prometheus, *query[2:])]
        return not missing

    try:
        wait_for(nothing_is_missing, "every panel's query")
    except pytest.fail.Exception as failure:
        pytest.fail(f"{failure}: {missing}")


def _has_a_value(server: Prometheus, expression: str, labels: list[str], variable: Any) -> bool:
    """Whether a query gives a finite point, with every label that its legend shows."""
    if variable is not None and f"${variable[0]}" in expression:
        metric, label = re.findall(r"label_values\((\w+), (\w+)\)", variable[1])[0]
        values = server.values_of(label, metric)
        assert "tenure_days" in values
        expression = expression.replace(f"${variable[0]}", values[0])
    found = server.ask(expression)
    return any(math.isfinite(value) and set(labels) <= set(series) for series, value in found)


def test_figures_are_those_of_the_tables(stack: Stack) -> None:
    ask = stack.prometheus.ask
    assert [value for _, value in ask('mlops_model_accuracy_ratio{segment="all", source="online"}')] == [0.8]
    assert {labels["asset"]: value for labels, value in ask("mlops_asset_rows")} == {"bronze/things": 1234}
    (made,) = ask("mlops_job_last_run_cpu_seconds")
    assert made[0]["job_name"] == "make_things"
    assert 0.01 < made[1] < 60
    assert [labels["version"] for labels, _ in ask("mlops_serving_model_info == 1")] == ["1"]


def test_an_alert_fires_and_resolves_once_each_at_every_receiver(stack: Stack) -> None:
    told, name = stack.told, "DriftDetected"
    assert not stack.prometheus.ask(f'ALERTS{{alertname="{name}"}}')
    watched.drift(stack.lake, watched.TICK + timedelta(hours=6), tenure_days=0.5, peak_hour_transactions=0.3)
    wait_for(lambda: told.mails_about(name) and told.posts_about(name), "the alert")
    (mail,) = (mail for mail in told.mails if name in mail["Subject"])
    assert (mail["Subject"], mail["To"]) == (f"[firing] {name} (warning)", "team@localhost")
    assert "2 columns drifted at the newest tick" in mail.get_body(("plain",)).get_content()
    watched.drift(stack.lake, watched.TICK + timedelta(hours=12), tenure_days=0.02)
    wait_for(lambda: min(len(told.mails_about(name)), len(told.posts_about(name))) > 1, "its end")
    evaluations = {stack.prometheus.evaluated(name)}

    def have_passed() -> bool:
        evaluations.add(stack.prometheus.evaluated(name))
        return len(evaluations) > EVALUATIONS_AFTERWARDS

    wait_for(have_passed, "more evaluations")
    assert told.mails_about(name) == told.posts_about(name) == ["firing", "resolved"]


def test_a_pushgateway_holds_what_was_pushed_last(stack: Stack, tmp_path: Path) -> None:
    port, home = free_port(), stack.lake.settings.home
    address = f"http://127.0.0.1:{port}"
    command = [program("prometheus-pushgateway", "pushgateway", "prometheus-pushgateway")]
    with started([*command, f"--web.listen-address=127.0.0.1:{port}"], tmp_path, "pushgateway"):
        wait_for(lambda: httpx.get(f"{address}/-/ready").status_code == 200, "the Pushgateway")
        for _ in range(2):
            done = mlops("metrics", "push", address, "--home", home)
            assert done.code == 0, done
        page = httpx.get(f"{address}/metrics").text
    held = [line for line in page.splitlines() if line.startswith("mlops_table_rows") and "ml.predictions" in line]
    assert held == ['mlops_table_rows{instance="",job="mlops_exporter",table="ml.predictions"} 40']
    assert mlops("metrics", "push", address, "--home", home).is_refusal("took nothing", address)


def test_a_taken_port_is_told(stack: Stack) -> None:
    done = mlops("metrics", "serve", "--port", stack.exporter_port, "--home", stack.lake.settings.home)
    assert done.is_refusal("can't listen", "--port")
