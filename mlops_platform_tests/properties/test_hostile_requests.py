"""Whatever is sent to the service's routes, it answers below 500, as its document says and with finite numbers.

18,000 made-up requests through the whole application but for sockets (980,000 with FULL_PROOFS=1), against a fitted
model's serving form; over HTTP: `integration/test_service_hostile.py`. Does not belong here: what exactly is answered
(`unit/serving`).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from datetime import date
from itertools import islice

import pytest
from prometheus_client import REGISTRY

from mlops_platform.inference_pipeline.current import CurrentModel
from mlops_platform.settings import load_settings
from mlops_platform_tests.integration.boosted import boosted_versions
from mlops_platform_tests.properties.conformance import Conformance
from mlops_platform_tests.properties.hostile import requests
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.serving.fakes import ask, asked, fill_store, make_endpoint
from serving.answers import Answerer
from serving.endpoint import Endpoint
from serving.gate import Gate
from serving.metrics import Metrics

A_SEED = rounds(full=19_600, share=18_000)
LENGTHS = [b"99999999999", b"-1", b"x", "²".encode(), b"5"]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    settings = load_settings(home=tmp_path_factory.mktemp("hostile") / "home")
    boosted_versions(settings, 1)
    fill_store(settings, date(2024, 1, 15), C1=100, C2=300)
    current = CurrentModel(settings)
    current.refresh()
    assert current.served is not None
    assert current.served.predictor.scoring == "booster"
    ours = set(REGISTRY._collector_to_names)
    answerer = Answerer(settings, current, Metrics())
    yield make_endpoint(answerer, Gate.of(settings))
    answerer.log.close()
    answerer.store.close()
    # Another module of this process may make its own.
    for collector in set(REGISTRY._collector_to_names) - ours:
        REGISTRY.unregister(collector)


@pytest.mark.parametrize("seed", range(rounds(full=50, share=1)))
def test_nothing_hostile_breaks_it(endpoint: Endpoint, seed: int) -> None:
    conformance = Conformance(asked(endpoint, "/docs.json", method="GET").json())
    chance, seen = random.Random(seed), Counter[int]()

    async def ask_all() -> None:
        for drawn in islice(requests(seed), A_SEED):
            headers = list(drawn.headers)
            if chance.random() < 0.05:
                headers.append((b"content-length", chance.choice(LENGTHS)))
            found = await ask(endpoint, drawn.path, drawn.body, method=drawn.method, headers=headers)
            kind = found.headers.get(b"content-type", b"").decode()
            conformance.require(drawn.method, drawn.path, found.status, kind, found.body)
            seen[found.status] += 1

    asyncio.run(ask_all())
    # Not everything was refused at the door.
    assert seen[200] > A_SEED / 10
    assert seen.keys() >= {200, 204, 400, 404, 405, 413, 415, 422}
