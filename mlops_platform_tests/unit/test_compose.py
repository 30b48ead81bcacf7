"""What docker-compose.yml and the Dockerfile promise, read from their text: no engine is needed."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# The compose file's words for the ports in DESIGN: what a user opens.
PORTS = {"dagster-webserver": "3001", "mlflow": "5000", "churn-service": "8000", "exporter": "9101"}
# Images of others, with the ports in DESIGN.
PINNED_PORTS = {"prometheus": "9090", "alertmanager": "9093", "grafana": "3000"}

our_service = pytest.mark.parametrize("name", sorted(SERVICES.keys() - PINNED_PORTS))
pinned_service = pytest.mark.parametrize("name", sorted(PINNED_PORTS))


def commands() -> set[str]:
    """Console scripts of the project and of what it depends on."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {*own, *(script.name for script in entry_points(group="console_scripts"))}


def test_ports_are_the_documented_ones_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in (PORTS | PINNED_PORTS).items()}


@our_service
def test_its_command_exists(name: str) -> None:
    command = SERVICES[name]["command"]
    assert command[0] in commands()
    if name in PORTS:
        assert command[command.index("--port") + 1] == PORTS[name]


@our_service
def test_it_runs_unprivileged_on_the_one_home(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["home:/data"]
    assert "home" in COMPOSE["volumes"]


@our_service
def test_it_has_a_health_check(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"
    assert test[1] in commands() | {"python"}
    if name in PORTS:
        assert f"//127.0.0.1:{PORTS[name]}/" in test[-1]


@our_service
def test_its_image_is_a_target_of_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] in re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


@pinned_service
def test_an_image_of_others_is_pinned_unprivileged_and_away_from_the_home(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z]+/[a-z]+:v?\d+\.\d+\.\d+", service["image"])
    assert not service["user"].startswith("0")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert f"//127.0.0.1:{PINNED_PORTS[name]}/" in service["healthcheck"]["test"][-1]
    for volume in service["volumes"]:
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"].keys() - {"home"}


def test_nobody_can_log_in_to_grafana_and_it_calls_nobody() -> None:
    found = SERVICES["grafana"]["environment"]
    assert (found["GF_AUTH_ANONYMOUS_ORG_ROLE"], found["GF_AUTH_DISABLE_LOGIN_FORM"]) == ("Viewer", "true")
    assert found["GF_AUTH_BASIC_ENABLED"] == "false"
    assert {value for name, value in found.items() if name.startswith("GF_ANALYTICS")} == {"false"}


def test_images_run_as_the_same_user_and_home() -> None:
    assert "useradd --uid 10001" in DOCKERFILE
    runtime = DOCKERFILE.split(" AS runtime")[1]
    assert "\nUSER mlops\n" in runtime
    assert "MLOPS_HOME=/data" in runtime


def test_what_the_dockerfile_copies_is_in_its_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source.removeprefix("./")
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert ignored[1] == "*"
    assert copied == allowed
