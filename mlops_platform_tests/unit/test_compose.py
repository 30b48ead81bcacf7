"""What docker-compose.yml, its Dockerfile and its proxy promise, read from their text: no engine is needed.

Does not belong here: running the services' commands (`server/test_compose_commands.py`).
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from tools import docker_compose, make_secrets
from tools.fetched_file import FetchError

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "deploy/docker/Dockerfile").read_text()
NGINX = (ROOT / "deploy/proxy/nginx.conf").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# DESIGN's ports, and who answers there behind the proxy.
UPSTREAMS = {
    3001: "dagster-webserver",
    5000: "mlflow",
    8000: "churn-service",
    9101: "exporter",
    9090: "prometheus",
    9093: "alertmanager",
    3000: "grafana",
    8080: "airflow-webserver",
}
TEAM_PORT = 8443
# They do one thing and end.
ONE_SHOT = {"bucket", "airflow-init"}
PINNED = {name for name, service in SERVICES.items() if "build" not in service}
# Of the images of others; ours brings what its lock says.
OTHERS_COMMANDS = {"java", "bash", "sh", "python", "airflow"}

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def commands() -> set[str]:
    """Console scripts of the project and of what it depends on, and what the images of others bring."""
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    return {*own, *(script.name for script in entry_points(group="console_scripts")), *OTHERS_COMMANDS}


@pytest.mark.parametrize("profiles", [(), ("--profile", "airflow")])
def test_docker_compose_itself_accepts_the_file(profiles: tuple[str, ...]) -> None:
    try:
        program = docker_compose.fetched()
    except FetchError as error:
        pytest.skip(str(error))
    command = [program, *profiles, "--file", ROOT / "docker-compose.yml", "config", "--services"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "", "HOME": "/"})
    assert (done.returncode, done.stderr) == (0, "")
    expected = {name for name, service in SERVICES.items() if profiles or "profiles" not in service}
    assert set(done.stdout.split()) == expected


def test_a_word_that_compose_does_not_know_is_found(tmp_path: Path) -> None:
    try:
        program = docker_compose.fetched()
    except FetchError as error:
        pytest.skip(str(error))
    (tmp_path / "docker-compose.yml").write_text("services: {a: {image: b, read_onyl: true}}\n")
    command = [program, "--file", tmp_path / "docker-compose.yml", "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": "", "HOME": "/"})
    assert done.returncode
    assert "read_onyl" in done.stderr


def test_the_documented_services_are_there() -> None:
    # `docker-compose logs airflow-scheduler airflow-webserver`, `docker-compose restart airflow-scheduler`.
    assert {"airflow-scheduler", "airflow-webserver"} <= SERVICES.keys()
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {
        name for name in SERVICES if name.startswith("airflow-")
    }


def test_only_the_proxy_publishes_ports_and_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    team = f"${{MLOPS_TEAM_ADDRESS:-127.0.0.1}}:{TEAM_PORT}:{TEAM_PORT}"
    assert published == {"proxy": [*(f"127.0.0.1:{port}:{port}" for port in sorted(UPSTREAMS)), team]}


def test_no_container_but_the_proxy_has_a_way_out() -> None:
    assert COMPOSE["networks"] == {"backend": {"internal": True}, "edge": None}
    assert {name: service["networks"] for name, service in SERVICES.items()} == {
        name: ["backend", "edge"] if name == "proxy" else ["backend"] for name in SERVICES
    }
    assert not {"network_mode", "pid", "ipc", "privileged", "devices", "cap_add"} & {
        key for service in SERVICES.values() for key in service
    }


@each_service
def test_it_runs_unprivileged_within_limits(name: str) -> None:
    service = SERVICES[name]
    user, _, _ = service["user"].partition(":")
    assert int(user) > 0
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    limits = service["deploy"]["resources"]["limits"]
    assert limits.keys() == {"cpus", "memory", "pids"}
    assert service["restart"] == ("on-failure" if name in ONE_SHOT else "unless-stopped")


@each_service
def test_it_writes_only_where_it_may(name: str) -> None:
    for volume in SERVICES[name].get("volumes", []):
        source, _, *mode = volume.split(":")
        if source.startswith("./"):
            assert (ROOT / source).is_dir()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]
            assert (source == "home") <= (SERVICES[name]["user"] == "10001:10001")


@each_service
def test_it_has_a_health_check_of_a_command_it_has(name: str) -> None:
    if name in ONE_SHOT:
        assert "healthcheck" not in SERVICES[name]
        return
    test = SERVICES[name]["healthcheck"]["test"]
    assert test[0] == "CMD"
    assert test[1] in commands() | {"wget", "pg_isready"}


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - PINNED))
def test_its_image_is_a_target_of_the_dockerfile_and_has_its_command(name: str) -> None:
    build = SERVICES[name]["build"]
    assert (ROOT / build["dockerfile"]).is_file()
    assert build["target"] in re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert SERVICES[name]["command"][0] in commands()


@pytest.mark.parametrize("name", sorted(PINNED))
def test_an_image_of_others_is_pinned(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(/[a-z-]+)?:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", SERVICES[name]["image"])


def test_it_waits_for_what_it_needs_to_be_healthy_or_done() -> None:
    for name, service in SERVICES.items():
        for other, wait in service.get("depends_on", {}).items():
            done = "service_completed_successfully" if other in ONE_SHOT else "service_healthy"
            assert wait == {"condition": done}, name
            assert set(SERVICES[other].get("profiles", [])) <= set(service.get("profiles", []))


def test_secrets_are_files_that_the_tool_makes() -> None:
    made = {*make_secrets.contents(), "proxy_certificate", "proxy_key", "proxy_domain"}
    assert COMPOSE["secrets"] == {name: {"file": f"./deploy/secrets/{name}"} for name in COMPOSE["secrets"]}
    assert COMPOSE["secrets"].keys() == made
    assert {name for service in SERVICES.values() for name in service.get("secrets", [])} == made
    assert "deploy/secrets/" in (ROOT / ".gitignore").read_text().splitlines()


def test_no_secret_stands_in_an_environment_or_a_command() -> None:
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|TOKEN|KEY|CREDENTIALS|CONN|STORAGE_URL|CATALOG_URL", variable):
                assert "/run/secrets" in value or value.endswith("/airflow_passwords"), f"{name}: {variable}"
        assert "${" not in " ".join(service.get("command", []))


def test_the_service_that_faces_callers_knows_no_database() -> None:
    assert SERVICES["churn-service"]["secrets"] == ["mlops_api_token", "mlops_hmac_key"]


def test_nobody_can_log_in_to_grafana_and_it_calls_nobody() -> None:
    found = SERVICES["grafana"]["environment"]
    assert (found["GF_AUTH_ANONYMOUS_ORG_ROLE"], found["GF_AUTH_DISABLE_LOGIN_FORM"]) == ("Viewer", "true")
    assert found["GF_AUTH_BASIC_ENABLED"] == "false"
    assert {value for name, value in found.items() if name.startswith("GF_ANALYTICS")} == {"false"}


def test_the_proxy_knows_every_page_by_port_and_by_name() -> None:
    pages = dict(re.findall(r"^\s+(\d+) ([a-z]+);$", NGINX, re.MULTILINE))
    upstreams = dict(re.findall(r"^\s+([a-z]+) ([a-z-]+:\d+);$", NGINX, re.MULTILINE))
    assert {port: upstreams[page] for port, page in pages.items()} == {
        str(port): f"{name}:{port}" for port, name in UPSTREAMS.items()
    }
    assert set(pages.values()) == set(upstreams) == set(make_secrets.UIS)
    names = re.search(r"<page>([a-z|]+)\)", NGINX)
    assert names is not None
    assert set(names[1].split("|")) == set(make_secrets.UIS)
    for port in UPSTREAMS:
        # Once for the names that are served, once for all others.
        assert re.findall(rf"listen {port}( default_server)?;", NGINX) == [" default_server", ""]


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
    assert {path for path in copied if not path.startswith("tools/")} == allowed
    assert all((ROOT / path).exists() for path in copied)
