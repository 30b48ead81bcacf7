"""Dashboards, rules and configuration as committed: current, of metrics that exist, and right by Prometheus' own tools.

Does not belong here: running servers (`integration/test_prometheus.py`).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops_platform.monitoring import exporter, exporter_alerts, exporter_rows, exporter_tables
from mlops_platform.orchestration import run_metrics
from tools.dashboards import BOARDS, Panel
from tools.make_dashboards import FOLDER, SOURCE, render

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
PANELS = [(board, panel) for board in BOARDS for panel in board.panels]
MODULES = (exporter, exporter_alerts, exporter_rows, exporter_tables, run_metrics)
ALERTS = {rule["alert"] for rule in RULES if "alert" in rule}

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no promtool on this machine (Debian: apt-get install prometheus)"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None, reason="no amtool on this machine (Debian: apt-get install prometheus-alertmanager)"
)


def metrics() -> set[str]:
    """Every name that a query may use."""
    serving = re.findall(r'"(mlops_serving_\w+)"', (ROOT / "serving/metrics.py").read_text())
    endings = ("", "_total", "_bucket", "_sum", "_count")
    return {
        *(family.name for module in MODULES for family in module.FAMILIES),
        *(name + ending for name in serving for ending in endings),
        *(rule["record"] for rule in RULES if "record" in rule),
    }


def unknown_names(expression: str) -> set[str]:
    bare = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\b(?:\w+:)?mlops_\w+(?::\w+)?", bare)) - metrics()


def test_the_committed_dashboards_are_current() -> None:
    assert {path.name: path.read_text() for path in FOLDER.glob("*.json")} == {
        f"{board.uid}.json": render(board) for board in BOARDS
    }


@pytest.mark.parametrize(("board", "panel"), PANELS, ids=[f"{b.uid}: {p.title}" for b, p in PANELS])
def test_a_panel_asks_for_metrics_that_exist(board: Any, panel: Panel) -> None:
    assert panel.queries
    assert panel.meaning
    for expression in panel.queries.values():
        assert not unknown_names(expression)
        assert set(re.findall(r"\$\w+", expression)) <= ({f"${board.variable[0]}"} if board.variable else set())


def test_the_documented_dashboards_are_there() -> None:
    titles = {panel.title for _, panel in PANELS}
    assert {"Accuracy over time", "Online predictions", "Batch predictions", "Data drift score"} <= titles
    latency = next(panel for _, panel in PANELS if panel.title == "Latency of a prediction")
    assert list(latency.queries) == ["p50", "p95", "p99"]
    assert {"Distribution of $feature", "Distributions: medians", "Data freshness", "Run time of assets"} <= titles
    for board in BOARDS:
        assert len({panel.title for panel in board.panels}) == len(board.panels)


def test_grafana_is_provisioned_with_the_data_source_that_panels_name() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"]
    assert (source["uid"], source["type"]) == (SOURCE.uid, SOURCE.type_val)
    (provider,) = yaml.safe_load((folder / "dashboards/mlops.yml").read_text())["providers"]
    mounted = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]["volumes"]
    assert f"./{FOLDER.relative_to(ROOT)}:{provider['options']['path']}:ro" in mounted
    for path in FOLDER.glob("*.json"):
        for panel in json.loads(path.read_text())["panels"]:
            assert panel["datasource"]["uid"] == source["uid"]


def test_places_of_a_dashboard_do_not_overlap() -> None:
    for path in FOLDER.glob("*.json"):
        places = [panel["gridPos"] for panel in json.loads(path.read_text())["panels"]]
        cells = [
            (x, y)
            for place in places
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert", rule.get("record"))))
def test_a_rule_asks_for_metrics_that_exist_and_says_what_it_means(rule: dict[str, Any]) -> None:
    assert not unknown_names(rule["expr"])
    if "alert" in rule:
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}


def test_every_alert_has_a_test_in_which_it_fires() -> None:
    tested = {
        case["alertname"]
        for path in (PROMETHEUS / "tests").glob("*.yml")
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test["alert_rule_test"]
        if case.get("exp_alerts")
    }
    assert tested == ALERTS


def test_inhibitions_name_alerts_that_exist() -> None:
    found = (ROOT / "deploy/alertmanager/alertmanager.yml").read_text()
    named = {name for line in re.findall(r'alertname =~? "([^"]+)"', found) for name in line.split("|")}
    assert named
    assert named <= ALERTS


def test_targets_are_on_loopback_or_services_of_the_compose_file() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for place in ("local", "compose"):
        names = {path.stem for path in (PROMETHEUS / "targets" / place).glob("*.yml")}
        assert names == {"churn-service", "exporter", "alertmanager"}
        for name in names:
            ((target,),) = (
                e["targets"] for e in yaml.safe_load((PROMETHEUS / f"targets/{place}/{name}.yml").read_text())
            )
            host = "127.0.0.1" if place == "local" else name
            assert target.partition(":")[2] in str(services[name]["command"])
            assert target.startswith(f"{host}:")


@needs_promtool
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "prometheus.yml"),
        ("check", "rules", "rules.yml"),
        ("test", "rules", "tests/serving.yml", "tests/pipelines.yml"),
    ],
    ids=" ".join,
)
def test_promtool_is_content(command: tuple[str, ...]) -> None:
    done = subprocess.run(["promtool", *command], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_amtool
def test_amtool_is_content() -> None:
    path = str(ROOT / "deploy/alertmanager/alertmanager.yml")
    done = subprocess.run(["amtool", "check-config", path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
