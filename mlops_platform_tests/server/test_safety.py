"""Nobody foreign is answered, nothing is sent out, and no secret and no customer turns up where it does not belong.

One platform at work (`watched.py`) for all of it: starting it takes longer than everything that is asked here. Its
models are in a file; with FULL_PROOFS=1 there is a second one, in the server profile with an MLflow server.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from mlops_platform.erasure.formats import places
from mlops_platform.erasure.subjects import Subjects
from mlops_platform_tests.integration import postgres
from mlops_platform_tests.scale import only_whole
from mlops_platform_tests.server.stack import Stack, running_stack
from mlops_platform_tests.server.watched import SECRETS, Watched, customer_ids, is_here, strace, watched

PAGES = {"Dagster": "/server_info", "MLflow": "/", "service": "/model", "metrics": "/metrics"}
CHANGES = {
    "Dagster": ("/graphql", {"query": "{version}"}),
    "MLflow": ("/ajax-api/2.0/mlflow/experiments/create", {"name": "from elsewhere"}),
    "service": ("/predict", {"customer_id": "nobody"}),
    "metrics": ("/metrics", {}),
}
FOREIGN = [{"Host": "evil.example"}, {"Host": "evil.example", "Origin": "http://evil.example"}]
# Where a customer may be named, and why.
MAY_NAME_CUSTOMERS = {
    r"s3://[^/]+/lake/(bronze|silver|feature_store)/": "tables about customers, and their manifests' bounds",
    r"s3://[^/]+/lake/ml/(training_set|predictions|not_scored|online_predictions)/": "rows by customer",
    r"home/cache/online-store\.db": "what the service answers a customer_id from",
}
MAY_NAME_PEOPLE = {r"s3://[^/]+/lake/bronze/crm_customers/": "the CRM's own columns, kept as they came"}


@pytest.fixture(scope="module", params=["models in a file", pytest.param("server profile", marks=only_whole)])
def stack(
    request: pytest.FixtureRequest, database: postgres.Server, store: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("watched")
    has_mlflow, tracer = request.param == "server profile", strace(folder / "mlflow.strace")
    with running_stack(
        database, store, folder, has_mlflow=has_mlflow, password=SECRETS["database"], tracer=tracer
    ) as found:
        yield found


@pytest.fixture(scope="module")
def platform(stack: Stack) -> Iterator[Watched]:
    with watched(stack) as found:
        yield found


@pytest.fixture(scope="module")
def used(platform: Watched) -> Watched:
    """The platform after requests and commands, most of which go wrong."""
    known = customer_ids()[0]
    asked = [
        {"customer_id": known}, {"customer_id": f"{known}no"}, {"customer_id": [known] * 2}, known,
        {"features": {known: known}}, {"features": {"customer_id": known}}, {"customer_id": {known: 1}},
    ]  # fmt: skip
    bearer = {"Authorization": f"Bearer {SECRETS['token']}"}
    statuses = set()
    with httpx.Client(base_url=platform.url("service"), trust_env=False, timeout=30) as service:
        for body in asked:
            statuses |= {service.post(path, json=body, headers=bearer).status_code for path in ("/predict", "/explain")}
        statuses.add(service.post("/predict", json=asked[0], headers={"Authorization": "Bearer canary"}).status_code)
        service.post("/predict", content=f'{{"customer_id": "{known}"'.encode(), headers=bearer)
        (platform.folder / "service-metrics.txt").write_text(service.get("/metrics").text)
    assert statuses >= {200, 401, 404, 422}
    (platform.folder / "exporter-metrics.txt").write_text(httpx.get(f"{platform.url('metrics')}/metrics").text)
    for command in (
        ("settings",), ("env",), ("alerts", "test"), ("alerts", "list", "--all"), ("crm", "check", "crm"),
        ("query", f"SELECT nothing FROM silver.customers WHERE customer_id = '{known}'"),
        ("backup", str(platform.folder / "backup.tar")), ("doctor",),
    ):  # fmt: skip
        platform.run(*command)
    return platform


class TestListening:
    def test_on_loopback_only(self, platform: Watched) -> None:
        found = [each.laddr for process in platform.processes() for each in listening(process)]
        assert {port for _, port in found} >= set(platform.ports.values())
        assert [address for address in found if not is_here(address[0])] == []

    def test_our_own_pages_work(self, platform: Watched) -> None:
        for name, page in PAGES.items():
            host = {"Host": f"localhost:{platform.ports[name]}", "Authorization": f"Bearer {SECRETS['token']}"}
            assert httpx.get(platform.url(name) + page, headers=host).status_code == 200, name

    @pytest.mark.parametrize("headers", FOREIGN)
    def test_another_sites_name_is_refused(self, platform: Watched, headers: dict[str, str]) -> None:
        for name, page in PAGES.items():
            answer = httpx.get(platform.url(name) + page, headers=headers)
            assert answer.status_code == 403, name
            path, body = CHANGES[name]
            assert httpx.post(platform.url(name) + path, headers=headers, json=body).status_code == 403, name

    def test_another_sites_page_changes_and_reads_nothing(self, platform: Watched) -> None:
        origin = {"Origin": "http://evil.example"}
        for name, page in PAGES.items():
            path, body = CHANGES[name]
            assert httpx.post(platform.url(name) + path, headers=origin, json=body).status_code == 403, name
            answer = httpx.get(platform.url(name) + page, headers=origin)
            if name != "MLflow":
                assert answer.status_code == 403, name
            # MLflow answers a read; without this header the browser keeps the answer from the page.
            assert "access-control-allow-origin" not in answer.headers, name


class TestNothingGoesOut:
    def test_every_address_is_this_machine(self, used: Watched, stack: Stack) -> None:
        traces = used.addresses()
        assert traces.keys() == {"demo", "up"} | ({"mlflow"} if stack.has_mlflow else set())
        # The traces are some: the database is in each of them.
        assert all(traces.values())
        found = set.union(*traces.values())
        assert [each for each in found if not is_here(each[0])] == []
        # A name would be asked of port 53, of a resolver on this machine too.
        assert [each for each in found if each[1] in {53, 853}] == []


class TestCanaries:
    def test_no_secret_on_a_command_line(self, platform: Watched) -> None:
        lines = [" ".join(process.cmdline()) for process in platform.processes()]
        assert len(lines) > 4
        assert [line for line in lines if any(secret in line for secret in SECRETS.values())] == []

    def test_no_secret_anywhere(self, used: Watched, stack: Stack, everything: dict[str, Path]) -> None:
        secrets = Subjects((*SECRETS.values(), stack.store.secret), ())
        assert found_in(everything, secrets) == {}
        assert used.said["settings"].code == 0

    def test_customers_only_where_they_belong(self, everything: dict[str, Path]) -> None:
        hits = found_in(everything, Subjects(tuple(customer_ids()), ()))
        assert {name: where for name, where in hits.items() if not is_allowed(name, MAY_NAME_CUSTOMERS)} == {}
        # The search does find them where they are.
        for place in MAY_NAME_CUSTOMERS:
            assert any(re.search(place, name) for name in hits), place

    def test_people_only_where_they_belong(self, everything: dict[str, Path]) -> None:
        people = [f"{name.lower()}@kndc.example" for name in customer_ids()]
        people += [f"Nomen {name.lower()}" for name in customer_ids()]
        hits = found_in(everything, Subjects(tuple(people), ()))
        assert {name: where for name, where in hits.items() if not is_allowed(name, MAY_NAME_PEOPLE)} == {}
        assert any(is_allowed(name, MAY_NAME_PEOPLE) for name in hits)


@pytest.fixture(scope="module")
def everything(used: Watched, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every file that the platform wrote, by where it is: home, bucket, databases, archive, output, metrics."""
    folder = tmp_path_factory.mktemp("everything")
    found = {str(path.relative_to(used.folder)): path for path in used.folder.rglob("*") if is_read(path)}
    for number, key in enumerate(stack.bucket.listed()):
        found[f"s3://{stack.bucket.name}/{key}"] = copy = folder / f"object-{number}"
        copy.write_bytes(stack.bucket.read(key))
    databases = [stack.catalog_url, stack.dagster_storage_url, *([stack.mlflow_url] if stack.has_mlflow else [])]
    for url in databases:
        found[f"database {url.rpartition('/')[2]}"] = dump = folder / f"{url.rpartition('/')[2]}.sql"
        programs = postgres.find_programs()
        assert programs is not None
        subprocess.run([programs / "pg_dump", "--inserts", "-f", dump, url], check=True)
    for number, (command, done) in enumerate(used.said.items()):
        # What the user typed is theirs; the answer may repeat it.
        found[f"mlops {command.split(' ')[0]}"] = output = folder / f"output-{number}.txt"
        output.write_text(done.out + done.err if "query" not in command else "")
    assert len(found) > 100
    return found


def is_read(path: Path) -> bool:
    """Files but for SQLite's companions, and strace's own record of what was sent."""
    return path.is_file() and not path.name.endswith(("-wal", "-shm", "-journal", ".lock", ".strace"))


def found_in(files: dict[str, Path], subjects: Subjects) -> dict[str, list[str]]:
    """Where in which file they turn up."""
    return {name: where for name, path in files.items() if path.exists() and (where := places(path, subjects))}


def is_allowed(name: str, allowed: dict[str, str]) -> bool:
    """Whether a file is one of those."""
    return any(re.match(place, name) for place in allowed)


def listening(process: psutil.Process) -> list[Any]:
    """The process's listening sockets of the network."""
    try:
        return [each for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []
