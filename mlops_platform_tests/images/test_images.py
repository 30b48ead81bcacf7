"""The Dockerfile's images are built from their locks; the demo, the service and the DAGs run in them."""

from __future__ import annotations

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from mlops_platform_tests.images.buildah import Images, images
from mlops_platform_tests.ports import free_port

USER = 10001
START_SECONDS = 120.0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Images]:
    with images(tmp_path_factory.mktemp("images")) as found:
        yield found


@pytest.fixture(scope="module")
def platform(built: Images) -> str:
    return built.container(built.build("platform"))


@pytest.fixture(scope="module")
def serving(built: Images) -> str:
    return built.container(built.build("serving"))


@pytest.fixture(scope="module")
def airflow(built: Images) -> str:
    return built.container(built.build("airflow"))


@pytest.fixture(scope="module")
def home(built: Images, platform: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the platform's image ran the demo."""
    folder = tmp_path_factory.mktemp("home")
    # The folders above are the test user's alone, and the image's user has to come by.
    for parent in (folder.parent, folder.parent.parent):
        parent.chmod(0o711)
    shutil.chown(folder, USER, USER)
    demo = json.loads(built.run(platform, "mlops", "demo", "--json", home=folder))
    assert demo["status"] == "ok"
    return folder


@pytest.mark.parametrize("image", ["platform", "serving", "airflow"])
def test_its_user_can_write_nothing_but_what_is_for_it(
    built: Images, image: str, request: pytest.FixtureRequest
) -> None:
    container = request.getfixturevalue(image)
    assert built.run(container, "id", "--user").strip() == str(USER)
    # What may not be looked into can't be written either.
    search = "find / -xdev -writable '(' -type d -o -type f ')' 2>/tmp/unseen; true"
    found = built.run(container, "sh", "-c", search)
    assert "/data" in found.splitlines()
    own = ("/data", "/app", "/tmp", "/proc", "/dev", "/sys", "/run", "/var/tmp")  # noqa: S108 - of the container
    assert [path for path in found.splitlines() if not path.startswith(own)] == []


@pytest.mark.parametrize("image", ["platform", "serving"])
def test_no_tool_of_the_tests_is_in_it(built: Images, image: str, request: pytest.FixtureRequest) -> None:
    listing = "from importlib.metadata import distributions as d; print(*sorted(x.name.lower() for x in d()))"
    names = built.run(request.getfixturevalue(image), "python", "-c", listing).split()
    assert {"mlops-platform", "bentoml", "xgboost"} <= set(names)
    assert not {"pytest", "ruff", "mypy", "hypothesis", "uv", "hatchling"} & set(names)


def test_the_service_answers_with_the_model_of_the_demo(
    built: Images, serving: str, home: Path, tmp_path: Path
) -> None:
    token, port = secrets.token_hex(32), free_port()
    with closing(sqlite3.connect(home / "cache" / "online-store.db")) as store:
        (customer,) = store.execute("SELECT customer_id FROM customers LIMIT 1").fetchone()
    command = ("bentoml", "serve", "serving.service:ChurnService", "--host", "0.0.0.0", "--port", str(port))  # noqa: S104
    log = tmp_path / "log"
    with built.running(serving, "env", f"MLOPS_API_TOKEN={token}", *command, home=home, log=log):
        service = httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30)
        with service:
            deadline = time.monotonic() + START_SECONDS
            while not _is_ready(service):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            body = {"customer_id": customer}
            assert service.post("/predict", json=body).status_code == 401
            answer = service.post("/predict", json=body, headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["model_metadata"]["stage"] == "Production"


def test_airflow_finds_both_dags(built: Images, airflow: str) -> None:
    script = (
        "airflow db migrate >/tmp/log 2>&1 && airflow dags reserialize >>/tmp/log 2>&1 && airflow dags list -o plain"
    )
    found = built.run(airflow, "sh", "-c", script)
    assert {"ml_training_pipeline", "ml_batch_inference_pipeline"} <= set(found.split())
    assert "No data found" in built.run(airflow, "airflow", "dags", "list-import-errors")


def test_the_stores_program_starts(built: Images) -> None:
    store = built.container(built.build("s3"))
    assert "3.2.0" in built.run(store, "java", "-jar", "/opt/s3proxy.jar", "--version")


def _is_ready(service: httpx.Client) -> bool:
    try:
        return service.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
