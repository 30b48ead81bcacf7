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
PORTS = {"dagster-webserver": "3001", "mlflow": "5000", "churn-service": "8000"}

every_service = pytest.mark.parametrize("name", sorted(SERVICES))


def commands() -> set[str]:
    """Console scripts of the project and of what it depends on."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {*own, *(script.name for script in entry_points(group="console_scripts"))}


def test_ports_are_the_documented_ones_on_loopback_only() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {name: [f"127.0.0.1:{port}:{port}"] for name, port in PORTS.items()}


@every_service
def test_its_command_exists(name: str) -> None:
    command = SERVICES[name]["command"]
    assert command[0] in commands()
    if name in PORTS:
        assert command[command.index("--port") + 1] == PORTS[name]


@every_service
def test_it_runs_unprivileged_on_the_one_home(name: str) -> None:
    service = SERVICES[name]
    assert service["user"] == "10001:10001"
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"] == ["home:/data"]
    assert "home" in COMPOSE["volumes"]


@every_service
def test_it_has_a_health_check(name: str) -> None:
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"
    assert test[1] in commands() | {"python"}
    if name in PORTS:
        assert f"//127.0.0.1:{PORTS[name]}/" in test[-1]


@every_service
def test_its_image_is_a_target_of_the_dockerfile(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] in re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


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
