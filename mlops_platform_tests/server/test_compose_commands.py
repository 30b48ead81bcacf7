"""docker-compose's services as processes: each one's own command and health check, and what the proxy lets in.

Does not belong here: the text of docker-compose.yml (`unit/test_compose.py`), the demo on the server profile.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import psycopg2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from mlops_platform_tests.integration.postgres import find_programs
from mlops_platform_tests.scale import IS_FULL
from mlops_platform_tests.server.callers import PAGES, TEAM, Team, eventually, graphql
from mlops_platform_tests.server.composed import Composition, composed
from mlops_platform_tests.unit.test_compose import ONE_SHOT, SERVICES, UPSTREAMS
from tools.make_secrets import contents

FOREIGN = "https://elsewhere.example"
# Airflow's own start takes as long as that of all others: `FULL_PROOFS=1`.
LEFT_OUT = {} if IS_FULL else {name: "runs with FULL_PROOFS=1" for name in SERVICES if name.startswith("airflow-")}

each_page = pytest.mark.parametrize("port", sorted(UPSTREAMS))


@pytest.fixture(scope="module")
def running() -> Iterator[Composition]:
    """Every service that this machine has the programs for, started and well."""
    programs = find_programs()
    if programs is None:
        pytest.skip("there is no PostgreSQL server here; Debian's package is `postgresql`")
    # Not below pytest's folder: that one is closed to the user who is PostgreSQL's.
    folder = Path(tempfile.mkdtemp(prefix="compose-"))
    folder.chmod(0o711)
    try:
        with composed(folder, programs) as found:
            for needed in ("s3", "proxy"):
                if reason := found.missing(needed):
                    pytest.skip(f"{needed}: {reason}")
            found.start([name for name in SERVICES if not (LEFT_OUT.get(name) or found.missing(name))])
            yield found
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    """A caller that is no browser: it sends neither Origin nor Sec-Fetch."""
    with httpx.Client(timeout=30, trust_env=False) as found:
        yield found


@pytest.fixture(scope="module")
def team(running: Composition) -> Iterator[Team]:
    found = Team(running)
    with found.client:
        yield found


def is_there(running: Composition, port: int) -> bool:
    return UPSTREAMS[port] in running.services


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_its_own_command_runs_and_its_health_check_passes(running: Composition, name: str) -> None:
    if reason := LEFT_OUT.get(name) or running.missing(name):
        pytest.skip(reason)
    # The fixture has asked its health check, until it passed.
    service = running.services[name]
    assert service.is_done
    assert service.process.poll() == (0 if name in ONE_SHOT else None)


def test_a_health_check_fails_where_nothing_answers(running: Composition) -> None:
    healthy, running.ports[9000] = running.ports[9000], running.ports[8974]
    try:
        assert not running.is_well("s3")
    finally:
        running.ports[9000] = healthy


@each_page
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_page_answers_under_this_machines_names(
    running: Composition, client: httpx.Client, port: int, host: str
) -> None:
    url = running.url(port, "127.0.0.1") + PAGES[port]
    own = f"{host}:{running.fronts[port]}"
    for headers in ({}, {"Origin": f"http://{own}"}, {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}):
        answer = client.get(url, headers={"Host": own, **headers})
        # Behind a port whose service is not there the proxy is alone.
        assert answer.status_code == (200 if is_there(running, port) else 502)
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"


@each_page
@pytest.mark.parametrize(
    "host", ["elsewhere.example", "localhost.elsewhere.example", "127.0.0.1.nip.example", "[::1]x"]
)
def test_a_foreign_host_is_refused(running: Composition, client: httpx.Client, port: int, host: str) -> None:
    for method in ("GET", "POST"):
        for name in (host, f"{host}:{running.fronts[port]}"):
            answer = client.request(method, running.url(port, "127.0.0.1") + PAGES[port], headers={"Host": name})
            assert answer.status_code == 421


@each_page
def test_a_foreign_origin_is_refused(running: Composition, client: httpx.Client, port: int) -> None:
    url = running.url(port) + PAGES[port]
    other = next(each for each in UPSTREAMS if each != port)
    near = [f"https://localhost:{running.fronts[port]}", f"http://127.0.0.1:{running.fronts[port]}", "null"]
    for origin in [FOREIGN, running.url(other), f"{running.url(port)}.elsewhere.example", *near]:
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            answer = client.request(method, url, headers={"Origin": origin})
            assert (answer.status_code, "elsewhere" in answer.text) == (403, False), (method, origin)
            assert "access-control-allow-origin" not in answer.headers


@each_page
def test_another_sites_image_or_form_is_refused_and_its_link_is_not(
    running: Composition, client: httpx.Client, port: int
) -> None:
    def asked(method: str, site: str, mode: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        return client.request(method, running.url(port) + PAGES[port], headers=headers).status_code

    for site in ("cross-site", "same-site"):
        assert asked("GET", site, "no-cors") == 403
        assert asked("POST", site, "navigate") == 403
        assert asked("GET", site, "navigate") != 403


def test_dagster_loads_the_code_location_and_its_daemon_is_well(running: Composition, client: httpx.Client) -> None:
    found = graphql(
        running,
        client,
        "{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } }"
        "  instance { daemonHealth { allDaemonStatuses { daemonType required healthy } } } }",
    )
    assert found["workspaceOrError"]["locationEntries"] == [
        {"name": "mlops_platform", "locationOrLoadError": {"__typename": "RepositoryLocation"}}
    ]
    daemons = found["instance"]["daemonHealth"]["allDaemonStatuses"]
    assert {each["daemonType"] for each in daemons if each["required"]} >= {"SCHEDULER", "SENSOR"}


def test_no_link_makes_dagster_do_anything(running: Composition, client: httpx.Client) -> None:
    # Dagster itself carries out a GET's mutation, and a link or an image of any page is a GET. Neither our webserver
    # nor the proxy lets it through.
    query = "{ version }"
    straight = f"http://127.0.0.1:{running.ports[3001]}/graphql"
    assert client.get(straight, params={"query": query}).status_code == 405
    for params in ({"query": query}, "%71uery=%7Bversion%7D"):
        for headers in ({}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}):
            answer = client.get(running.url(3001) + "/graphql", params=params, headers=headers)
            assert answer.status_code == 405
    assert graphql(running, client, query)["version"]


def test_dagsters_subscriptions_work_and_a_foreign_page_opens_none(running: Composition) -> None:
    url = running.url(3001).replace("http", "ws") + "/graphql"
    protocol = Subprotocol("graphql-ws")
    own = running.url(3001)
    with connect(url, origin=own, subprotocols=[protocol], proxy=None) as socket:  # type: ignore[arg-type]
        socket.send(json.dumps({"type": "connection_init", "payload": {}}))
        assert json.loads(socket.recv(timeout=30))["type"] == "connection_ack"
    for origin in (FOREIGN, "null", running.url(3000)):
        with pytest.raises(InvalidStatus, match="403"):
            connect(url, origin=origin, subprotocols=[protocol], proxy=None)  # type: ignore[arg-type]
    headers = {"Host": "elsewhere.example", "Connection": "Upgrade", "Upgrade": "websocket"}
    headers |= {"Sec-WebSocket-Key": "MDEyMzQ1Njc4OWFiY2RlZg==", "Sec-WebSocket-Version": "13"}
    assert httpx.get(running.url(3001, "127.0.0.1") + "/graphql", headers=headers).status_code == 421


def test_mlflow_keeps_an_artifact_in_the_bucket(running: Composition, client: httpx.Client) -> None:
    place = running.url(5000) + "/api/2.0/mlflow-artifacts/artifacts/0/plot.txt"
    client.put(place, content=b"12345").raise_for_status()
    assert client.get(place).content == b"12345"
    assert (running.folder / "volumes/s3/mlops/mlflow/0/plot.txt").read_bytes() == b"12345"


def test_the_service_has_its_own_token(running: Composition, client: httpx.Client, team: Team) -> None:
    token = {"Authorization": f"Bearer {running.secret('mlops_api_token')}"}
    local = running.url(8000) + "/model"
    # There is no model yet, which only a caller with the token is told.
    assert (client.get(local).status_code, client.get(local, headers=token).status_code) == (401, 503)
    without, login = team.get("churn", "/model"), team.get("churn", "/model", auth=("ana", team.password))
    assert without.status_code == login.status_code == 401
    assert without.headers["WWW-Authenticate"].startswith("Bearer")
    assert team.get("churn", "/model", headers=token).status_code == 503


def test_a_request_has_a_largest_size(running: Composition, client: httpx.Client) -> None:
    too_large = b" " * (2 * 2**20 + 1)
    assert client.post(running.url(3001) + "/graphql", content=too_large).status_code == 413


@pytest.mark.parametrize("ui", sorted(set(TEAM) - {"churn"}))
def test_a_team_logs_in(running: Composition, team: Team, ui: str) -> None:
    path = PAGES[TEAM[ui]]
    for login in (None, ("ana", "wrong"), ("root", team.password)):
        answer = team.get(ui, path, auth=login)
        assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, 'Basic realm="The platform\'s pages"')
    answer = team.get(ui, path, auth=("ana", team.password))
    assert answer.status_code == (200 if is_there(running, TEAM[ui]) else 502)
    assert "Strict-Transport-Security" in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("host", ["localhost", "elsewhere.example", "dagster.elsewhere.example", "x.dagster.localhost"])
def test_the_teams_port_serves_its_own_names_only(team: Team, host: str) -> None:
    assert team.get("dagster", "/", host=host, auth=("ana", team.password)).status_code == 421


def test_a_login_opens_nothing_to_a_foreign_page(team: Team) -> None:
    for headers in ({"Origin": FOREIGN}, {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}):
        assert team.get("dagster", "/server_info", headers=headers, auth=("ana", team.password)).status_code == 403


def test_the_teams_port_speaks_tls_only_and_no_old_one(running: Composition) -> None:
    port = running.fronts[8443]
    assert httpx.get(f"http://127.0.0.1:{port}/", headers={"Host": "dagster.localhost"}).status_code == 400
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"https://127.0.0.1:{port}/", verify=old)


def test_prometheus_reaches_what_it_scrapes(running: Composition, client: httpx.Client) -> None:
    def is_up() -> bool:
        found = client.get(running.url(9090) + "/api/v1/targets").json()["data"]["activeTargets"]
        return {each["labels"]["job"] for each in found if each["health"] == "up"} == {"churn-service", "exporter"}

    eventually(is_up)


def test_services_know_the_names_that_the_containers_use(running: Composition, client: httpx.Client) -> None:
    # Here every name is 127.0.0.1's: whom a container answers under its own name is asked straight.
    token = {"Authorization": f"Bearer {running.secret('mlops_api_token')}"}
    for port, path, status in ((3001, "/server_info", 200), (9101, "/metrics", 200), (8000, "/model", 503)):
        url = f"http://127.0.0.1:{running.ports[port]}{path}"
        for host, expected in ((f"{UPSTREAMS[port]}:{port}", status), ("elsewhere.example", 403)):
            assert client.get(url, headers={"Host": host, **token}).status_code == expected
    experiments = f"http://127.0.0.1:{running.ports[5000]}/api/2.0/mlflow/experiments/search?max_results=1"
    assert client.get(experiments).status_code == 200
    assert client.get(experiments, headers={"Host": "elsewhere.example"}).status_code == 403


def test_each_role_enters_its_own_database_only(running: Composition) -> None:
    urls = {
        name: running.secret(name).replace("+psycopg2", "")
        for name in contents()
        if "postgres:5432" in contents()[name]
    }
    assert len(urls) == 4
    for url in urls.values():
        psycopg2.connect(url).close()
        for other in urls.values():
            if other != url:
                with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
                    psycopg2.connect(url.rpartition("/")[0] + "/" + other.rpartition("/")[2])
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(urls["mlops_catalog_url"].replace("mlops:", "mlops:x"))


def test_no_secret_is_in_a_command_line_or_a_log(running: Composition) -> None:
    names = contents().keys() - {"proxy_users"}
    words = {part for name in names for part in running.secret(name).split() if len(part) >= 24}
    # Of an address, its password; of an option, its value.
    words = {part for word in words for part in word.replace("@", ":").replace("=", ":").split(":") if len(part) >= 24}
    assert len(words) >= 12
    family = [psutil.Process(os.getpid()), *psutil.Process(os.getpid()).children(recursive=True)]
    lines = [" ".join(each.cmdline()) for each in family if each.is_running()]
    assert any("s3proxy" in line for line in lines)
    texts = {f"log of {name}": service.log for name, service in running.services.items()}
    for place, text in {"a command line": "\n".join(lines), **texts}.items():
        assert not [word[:4] for word in words if word in text], place
