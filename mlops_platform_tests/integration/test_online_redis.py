"""The online store on a real Redis: a whole day at a time, for every reader, and nothing of those forgotten."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
import redis
from pydantic import SecretStr

from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import StorageError
from mlops_platform.inference_pipeline.online_redis import KEY, RedisStore
from mlops_platform.inference_pipeline.online_store import forget, materialize, open_store
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.settings import load_settings
from mlops_platform.storage.conditions import Condition
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.ports import free_port
from mlops_platform_tests.unit.serving.fakes import asked, make_answerer, make_endpoint

MONDAY, TUESDAY = date(2024, 1, 15), date(2024, 1, 16)
START_SECONDS = 20.0


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no Redis here: Debian's package redis-server brings it")
    port = free_port()
    folder = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        with redis.Redis(port=port) as client:
            while True:
                try:
                    client.ping()
                    break
                except redis.ConnectionError:
                    assert server.poll() is None and time.monotonic() < deadline
                    time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def client(url: str) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(url) as found:
        found.flushall()
        yield found


@pytest.fixture
def lake(tmp_path: Path, url: str, client: redis.Redis) -> Lake:
    return Lake(load_settings(home=tmp_path / "home").model_copy(update={"redis_url": SecretStr(url)}))


def publish(lake: Lake, day: date, tenure: int, *customers: str) -> None:
    contract = lake.features.customer_features
    meta = {"feature_date": day, "_feature_version": "v1", "_created_at": datetime(2024, 1, 17, tzinfo=UTC)}
    example = RowSchema.of(lake.settings).example() | {"tenure_days": tenure}
    rows = [meta | example | {"customer_id": name, "_feature_hash": name} for name in customers]
    table = pa.Table.from_pylist(rows, schema=arrow_schema(contract))
    lake.publish(Draft(contract, table, scope=(Condition("feature_date", "=", day),)))


def test_it_holds_the_latest_day_with_types_and_all(lake: Lake) -> None:
    publish(lake, MONDAY, 1, "C1", "C3")
    publish(lake, TUESDAY, 2, "C1", "C2")
    state = materialize(lake)
    assert (state.feature_date, state.customers) == (TUESDAY, 2)
    store = open_store(lake.settings)
    assert isinstance(store, RedisStore)
    assert store.state() == state
    found = store.rows(["C2", " C1\t", "C3", "state", " state"])
    assert [row is not None for row in found] == [True, True, False, False, False]
    schema = RowSchema.of(lake.settings)
    assert found[0] is not None
    assert schema.check({name: found[0][name] for name in schema.names}) == (schema.example() | {"tenure_days": 2}, {})


def test_made_again_it_stays_and_a_new_day_takes_its_place(lake: Lake, client: redis.Redis) -> None:
    publish(lake, MONDAY, 1, "C1")
    assert materialize(lake) == materialize(lake)
    publish(lake, TUESDAY, 2, "C1")
    materialize(lake)
    assert client.keys("mlops:*") == [KEY.encode()]
    assert client.ttl(KEY) == -1


def test_a_reader_sees_one_whole_day(lake: Lake) -> None:
    customers = [f"C{n:03}" for n in range(200)]
    publish(lake, MONDAY, 1, *customers)
    publish(lake, TUESDAY, 2, *customers)
    snapshot, state = lake.snapshot(lake.features.customer_features), materialize(lake)
    store, writer = open_store(lake.settings), open_store(lake.settings)
    seen: list[set[int]] = []
    stopped = threading.Event()

    def read() -> None:
        while not stopped.is_set():
            seen.append({row["tenure_days"] if row else 0 for row in store.rows(customers)})

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(10):
            day = (MONDAY, TUESDAY)[number % 2]
            writer.replace(snapshot, type(state)(day, 0, state.snapshot_id, state.features))
    finally:
        stopped.set()
        reader.join()
    assert {1} in seen
    assert {2} in seen
    assert all(len(days) == 1 and 0 not in days for days in seen)


def test_who_is_forgotten_is_gone(lake: Lake, client: redis.Redis) -> None:
    publish(lake, MONDAY, 1, "C1", "C2")
    materialize(lake)
    assert forget(lake.settings, ["C1", "C9"]) == 1
    store = open_store(lake.settings)
    assert [row is not None for row in store.rows(["C1", "C2"])] == [False, True]
    state = store.state()
    assert state is not None
    assert state.customers == 1
    assert not client.hexists(KEY, "C1")
    assert forget(lake.settings, ["C1"]) == 0


def test_none_one_that_is_damaged_and_one_that_is_gone(lake: Lake, client: redis.Redis) -> None:
    store = open_store(lake.settings)
    assert store.state() is None
    with pytest.raises(StorageError, match="no online store yet"):
        store.rows(["C1"])
    client.hset(KEY, " state", "{")
    with pytest.raises(StorageError, match="can't be read"):
        store.state()
    publish(lake, MONDAY, 1, "C1")
    assert materialize(lake).customers == 1
    with pytest.raises(StorageError, match="does not answer") as caught:
        RedisStore("redis://:secret-word@127.0.0.1:1/0").state()
    assert "secret-word" not in str(caught.value)
    with pytest.raises(StorageError, match="MLOPS_REDIS_URL can't be read") as caught:
        RedisStore("http://:secret-word@127.0.0.1")
    assert "secret-word" not in str(caught.value)


def test_the_service_looks_customers_up(lake: Lake, tmp_path: Path) -> None:
    publish(lake, MONDAY, 1, "C1")
    materialize(lake)
    answerer = make_answerer(lake.settings.home, settings=lake.settings)
    body = json.dumps({"customer_id": "C1"}).encode()
    assert answerer.takes_long(body)
    found = asked(make_endpoint(answerer), "/predict", body)
    assert found.status == 200
    assert asked(make_endpoint(answerer), "/predict", b'{"customer_id": "C2"}').status == 404
    assert json.loads(answerer.model().body)["online_store"]["customers"] == 1
