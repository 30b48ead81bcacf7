"""The service as other machines and impatient clients meet it: SIGTERM under load, tokens, half-open connections.

Every test here starts a server of its own. Does not belong here: what is answered (`test_service.py`).
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_platform.settings import Settings, child_environment, load_settings
from mlops_platform_tests.integration.servers import (
    ROOT,
    Server,
    eventually,
    features_table,
    promote,
    register_version,
    serving,
)

CONNECTIONS = 8
TOKEN = "a-token-of-enough-characters"  # noqa: S105 - made up

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = load_settings(home=tmp_path_factory.mktemp("limits") / "home")
    settings.home.mkdir()
    promote(settings, register_version(settings, seed=1)[0])
    return settings


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[Server]:
    with serving(settings, tmp_path) as found:
        eventually(lambda: found.http.get("/readyz").status_code == 200, found)
        yield found


@dataclass
class Client(threading.Thread):
    """Asks on one connection, again and again, until it can't connect any more."""

    port: int
    body: bytes
    answered: int = 0
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        while True:
            if connection.sock is None:
                try:
                    connection.connect()
                except ConnectionRefusedError:
                    return
                except OSError as error:
                    self.lost.append(f"connecting: {error!r}")
                    return
            try:
                connection.request("POST", "/predict", self.body, {"content-type": "application/json"})
                response = connection.getresponse()
                response.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection.close()
                continue
            if response.status == 200:
                self.answered += 1
            else:
                self.lost.append(str(response.status))


def test_sigterm_under_load_loses_no_request(server: Server) -> None:
    body = json.dumps({"features": features_table(1, seed=1).to_pylist()[0]}).encode()
    assert server.http.base_url.port is not None
    clients = [Client(server.http.base_url.port, body) for _ in range(CONNECTIONS)]
    for client in clients:
        client.start()
    eventually(lambda: min(client.answered for client in clients) > 50, server)
    server.process.send_signal(signal.SIGTERM)
    for client in clients:
        client.join(30)
    assert server.process.wait(30) == 0
    assert not any(client.is_alive() for client in clients)
    assert [client.lost for client in clients] == [[]] * CONNECTIONS
    answered = sum(client.answered for client in clients)
    logged = sum(len(f.read_bytes().splitlines()) for f in server.settings.prediction_spool.glob("predictions-*.jsonl"))
    assert logged >= answered > 50 * CONNECTIONS


def connect(server: Server, sent: bytes) -> socket.socket:
    """A connection on which no more than this is sent."""
    assert server.http.base_url.port is not None
    found = socket.create_connection(("127.0.0.1", server.http.base_url.port), timeout=20)
    found.sendall(sent)
    return found


def test_clients_that_never_finish_hold_up_nobody_and_no_stop(server: Server) -> None:
    head = b"POST /predict HTTP/1.1\r\nhost: localhost\r\n"
    head += b"content-type: application/json\r\ncontent-length: 900000\r\n\r\n"
    features = features_table(1, seed=1).to_pylist()[0]
    with ExitStack() as stack:
        for sent in (b"", b"POST /pred", head, head + b'{"features"'):
            for _ in range(25):
                stack.enter_context(connect(server, sent))
        took = []
        for path in ["/livez", "/predict"] * 20:
            started = time.monotonic()
            if path == "/livez":
                response = server.http.get(path)
            else:
                response = server.http.post(path, json={"features": features})
            took.append(time.monotonic() - started)
            assert response.status_code == 200
        assert sorted(took)[-2] < 1.0
        # An idle connection is told of the end only with an answer, so that it must not hold the stop up either.
        server.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert server.process.wait(30) == 0
        assert time.monotonic() - started < 10
    assert "Traceback" not in server.output.read_text()


def test_a_token_is_asked_for_and_never_written_down(settings: Settings, tmp_path: Path) -> None:
    with serving(settings, tmp_path, MLOPS_API_TOKEN=TOKEN) as server:
        eventually(lambda: server.http.get("/readyz").status_code == 200, server)
        assert server.http.get("/metrics").status_code == 200
        for path in ("/model", "/", "/docs.json", "/schema.json", "/no-such-page"):
            response = server.http.get(path)
            assert (response.status_code, response.headers["www-authenticate"][:6]) == (401, "Bearer"), path
        wrong = server.http.post("/predict", json={}, headers={"authorization": f"Bearer {TOKEN}x"})
        assert wrong.status_code == 401
        right = {"authorization": f"Bearer {TOKEN}"}
        assert server.http.get("/model", headers=right).status_code == 200
        assert server.http.post("/predict", json={}, headers=right).status_code == 422
        assert 'mlops_serving_requests_total{code="401",route="other"} 2' in server.http.get("/metrics").text
    assert TOKEN not in server.output.read_text()


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])  # noqa: S104 - refused
def test_it_does_not_listen_to_everybody_without_a_token(settings: Settings, tmp_path: Path, host: str) -> None:
    command = [sys.executable, "-m", "bentoml", "serve", "serving.service:ChurnService", "--host", host, "--port", "1"]
    environment = child_environment(settings, PYTHONPATH=str(ROOT), BENTOML_HOME=str(tmp_path))
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode != 0
    assert f"the service would listen on {host}" in run.stdout + run.stderr
    assert "MLOPS_API_TOKEN" in run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
