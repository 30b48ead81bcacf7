"""The service under everything but good manners, over HTTP: made-up requests, broken HTTP, clients that mean harm.

And 10,000 rows whose scores are the batch's and the Pipeline's to the last bit. One server answers all tests. Some
rounds run here, all of them with `make test-serving`; 18,000 more requests in `properties/test_hostile_requests.py`.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime
from itertools import islice
from typing import Any

import pyarrow as pa
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from schemathesis import GenerationMode

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.inference_pipeline.batch import predictions
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.askers import all_answers, asking
from mlops_platform_tests.integration.attackers import ATTACKS, attacking
from mlops_platform_tests.integration.boosted import boosted_versions
from mlops_platform_tests.integration.figures import quantiles_ms, write_figures
from mlops_platform_tests.integration.servers import Server, eventually, features_table, serving
from mlops_platform_tests.properties.conformance import Conformance
from mlops_platform_tests.properties.hostile import requests
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.serving.fakes import fill_store

DAY, AT = date(2024, 5, 31), datetime(2024, 6, 1, tzinfo=UTC)
ROWS, A_REQUEST = 10_000, 500
OPERATIONS = {
    "/predict": "POST", "/explain": "POST", "/model": "GET", "/livez": "GET", "/healthz": "GET", "/readyz": "GET",
    "/metrics": "GET",
}  # fmt: skip

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("hostile")
    settings = load_settings(home=folder / "home").model_copy(update={"population_days": None})
    boosted_versions(settings, 1)
    fill_store(settings, date(2024, 1, 15), C1=100, C2=300)
    with serving(settings, folder) as found:
        eventually(lambda: found.http.get("/readyz").status_code == 200, found)
        assert found.http.get("/model").json()["scoring"] == "booster"
        yield found


def port_of(server: Server) -> int:
    assert server.http.base_url.port is not None
    return server.http.base_url.port


def require_unharmed(server: Server) -> None:
    assert server.http.get("/livez").status_code == 200
    assert server.http.post("/predict", json={"customer_id": "C1"}).status_code == 200
    assert "Traceback" not in server.output.read_text()


@pytest.fixture(scope="module")
def api(server: Server) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_url(f"{server.http.base_url}/docs.json")


class TestSchemathesis:
    """Requests drawn from the service's own document, valid ones and invalid ones."""

    @pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
    @pytest.mark.parametrize("path", ["/predict", "/explain"])
    def test_drawn_bodies(self, server: Server, api: schemathesis.BaseSchema, path: str, mode: GenerationMode) -> None:
        @hypothesis_settings(
            max_examples=rounds(full=1_000, share=50),
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(api[path]["POST"].as_strategy(generation_mode=mode))
        def ask(case: schemathesis.Case) -> None:
            case.call_and_validate()

        ask()
        require_unharmed(server)

    @pytest.mark.parametrize("path", OPERATIONS)
    def test_each_corner_of_the_document(self, server: Server, api: schemathesis.BaseSchema, path: str) -> None:
        corners = api.iter_coverage_cases(
            api[path][OPERATIONS[path]],
            generation_modes=list(GenerationMode),
            generation_config=api.config.generation,
        )
        asked = [case.call_and_validate() for case in corners]
        assert asked
        require_unharmed(server)


def test_made_up_requests(server: Server) -> None:
    conformance = Conformance(server.http.get("/docs.json").json())
    connection = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=20)
    seen: Counter[int] = Counter()
    wanted = rounds(full=19_000, share=1_300)
    for number, drawn in enumerate(islice(requests(seed=99), wanted)):
        headers = {name.decode(): value.decode() for name, value in drawn.headers}
        # Every tenth is sent in chunks, and tells no length.
        body = drawn.body if number % 10 else iter([drawn.body[:1000], drawn.body[1000:]])
        connection.request(drawn.method, drawn.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        kind = response.headers.get("content-type", "").partition(";")[0]
        conformance.require(drawn.method, drawn.path, response.status, kind, content)
        seen[response.status] += 1
    connection.close()
    assert seen[200] > wanted / 10
    assert seen.keys() >= {200, 400, 404, 405, 413, 415, 422}
    require_unharmed(server)


def broken(chance: random.Random, row: dict[str, Any]) -> bytes:
    """A request of which the HTTP itself is broken, more or less."""
    body = json.dumps({"features": row}).encode()
    lengths = ["5", "-1", "99999999999", "x", "1e3", "0x10", "", "1, 2"]
    extras = [
        "transfer-encoding: chunked", "upgrade: websocket\r\nconnection: upgrade", "x: " + "a" * 70_000, "a" * 70_000,
        "expect: 100-continue", "content-type: a/b", "connection: close", "\u00e9: 1", ": 1",
    ]  # fmt: skip
    targets = ["/explain", "/model", "http://x/predict", "*", "", "/%00", "/../predict?a=%zz"]
    length = chance.choice([str(len(body))] * len(lengths) + lengths)
    extra = chance.choice(["x: y"] * len(extras) + extras)
    target = chance.choice(["/predict"] * len(targets) + targets)
    line = f"{chance.choice(['POST'] * 4 + ['GET', 'post', 'CONNECT', 'PRI'])} {target} HTTP/{chance.choice('1112')}.1"
    head = f"{line}\r\nhost: localhost\r\ncontent-type: application/json\r\n{extra}\r\ncontent-length: {length}\r\n\r\n"
    sent = bytearray(head.encode() + body)
    for _ in range(chance.choice([0, 0, 1, 5])):
        sent[chance.randrange(len(sent))] = chance.randrange(256)
    return bytes(sent) * chance.choice([1, 1, 1, 2])


def test_broken_http(server: Server) -> None:
    chance, (row,) = random.Random(5), features_table(1, seed=5).to_pylist()
    seen: Counter[int] = Counter()
    for _ in range(rounds(full=10_000, share=500)):
        answer = bytearray()
        # It may be cut off at any point.
        with socket.create_connection(("127.0.0.1", port_of(server)), timeout=20) as client, suppress(OSError):
            client.sendall(broken(chance, row))
            client.shutdown(socket.SHUT_WR)
            while received := client.recv(65_536):
                answer += received
        seen.update(int(status) for status in re.findall(rb"^HTTP/1\.1 (\d{3})", bytes(answer), re.MULTILINE))
    assert max(seen) < 500, seen
    assert seen.keys() >= {200, 400, 404, 405, 415}
    require_unharmed(server)


def test_ten_thousand_rows_are_the_batchs_and_the_pipelines(server: Server) -> None:
    lake = Lake(server.settings)
    contract = lake.features.customer_features
    made = features_table(ROWS, seed=3).to_pydict() | {
        "customer_id": [f"c{number:05}" for number in range(ROWS)],
        "feature_date": [DAY] * ROWS,
        "_feature_version": ["v"] * ROWS,
        "_created_at": [AT] * ROWS,
        "_feature_hash": [""] * ROWS,
    }
    table = pa.Table.from_pydict(made, schema=arrow_schema(contract))
    lake.publish(Draft(contract, table, scope=(Condition("feature_date", "=", DAY),)))
    predictor = Predictor.load(server.settings)
    features = lake.snapshot(contract)
    batch = predictions(server.settings, predictor, features, feature_date=DAY, tick=AT, created_at=AT).rows
    pipeline = predictor.pipeline.predict_proba(table)[:, 1]

    rows = table.select(predictor.feature_names).to_pylist()
    served: list[float] = []
    for start in range(0, ROWS, A_REQUEST):
        response = server.http.post("/predict", json={"features": rows[start : start + A_REQUEST]})
        served += [pair[1] for pair in response.json()["probability"]]
    assert len(set(served)) > 100
    assert served == pipeline.tolist() == batch["churn_probability"].to_pylist()


def livez_seconds(server: Server) -> float:
    """Time to connect, ask and be answered: a connection of its own, as a probe has."""
    started = time.monotonic()
    probe = http.client.HTTPConnection("127.0.0.1", port_of(server), timeout=10)
    probe.request("GET", "/livez")
    response = probe.getresponse()
    assert (response.status, response.read()) == (200, b"\n")
    probe.close()
    return time.monotonic() - started


def test_clients_that_mean_harm(server: Server) -> None:
    (row,) = features_table(1, seed=4).to_pylist()
    took: list[float] = []
    before = server.worker().memory_info().rss
    bodies = [json.dumps({"features": row}).encode()]
    with asking(server, bodies, askers=2, pause=0.01) as askers, attacking(port_of(server)) as attacks:
        until = time.monotonic() + rounds(full=120, share=4)
        while time.monotonic() < until:
            took.append(livez_seconds(server))
            time.sleep(0.005)  # it measures, and is no load
        memory = server.worker().memory_info().rss
    answers = all_answers(askers)
    assert [asker.lost for asker in askers] == [[], []]
    assert {answer.status for answer in answers} == {200}
    assert len(took) > 3
    assert set(attacks.rounds) == {attack.__name__ for attack in ATTACKS}
    assert attacks.failed == []
    # No body of 50 MB was kept.
    assert memory - before < 200 * 2**20
    require_unharmed(server)
    write_figures(
        "hostile_clients",
        livez=len(took),
        livez_ms=quantiles_ms(took),
        predict=len(answers),
        predict_ms=quantiles_ms([answer.ended - answer.started for answer in answers]),
        attacks=attacks.rounds,
        memory_growth_mb=(memory - before) // 2**20,
    )
