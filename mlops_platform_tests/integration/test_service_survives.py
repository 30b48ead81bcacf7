"""The service under load while its model is swapped, and while it is killed: no request fails, no prediction is lost.

One server lives through the swaps and is the first to be killed. Some rounds run here, all of them with
`make test-serving`. Does not belong here: one swap by itself (`unit/inference_pipeline/test_current.py`), stopping
orderly (`test_service_limits.py`).
"""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import psutil
import pytest

from mlops_platform.contracts import ONLINE_PREDICTIONS
from mlops_platform.inference_pipeline.prediction_log import collect, retire
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.inference_pipeline.spool import PATTERN
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.stages import complete_history, promote, rollback
from mlops_platform_tests.integration.askers import Asked, Asker, all_answers, asking
from mlops_platform_tests.integration.boosted import boosted_versions
from mlops_platform_tests.integration.figures import quantiles_ms, write_figures
from mlops_platform_tests.integration.servers import Server, eventually, features_table, serving
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.serving.fakes import fill_store

AT = datetime(2024, 6, 1, tzinfo=UTC)
SWAPS, DEATHS, VERSIONS = rounds(full=200, share=5), rounds(full=50, share=2), rounds(full=6, share=3)
ASKERS = 4
ROWS = features_table(20, seed=6)

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed database:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = load_settings(home=tmp_path_factory.mktemp("survives") / "home")
    fill_store(found, date(2024, 1, 15), C1=100, C2=300)
    return found


@pytest.fixture(scope="module")
def versions(settings: Settings) -> list[RegisteredModel]:
    return boosted_versions(settings, VERSIONS)


@pytest.fixture(scope="module")
def server(
    settings: Settings, versions: list[RegisteredModel], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    with serving(settings, tmp_path_factory.mktemp("server")) as found:
        eventually(lambda: found.http.get("/readyz").status_code == 200, found)
        yield found


@dataclass(frozen=True)
class Stay:
    """A version's time in Production, as the clients may see it.

    Args:
        version: The version.
        since: When its promotion began.
        until: When the first answer of the next one was there.
    """

    version: str
    since: float
    until: float

    def allows(self, answer: Asked) -> bool:
        """Whether the answer overlaps it."""
        return self.since <= answer.ended and answer.started <= self.until


def first_answer(askers: Sequence[Asker], version: str, since: float) -> float | None:
    """When the first answer to a request made since then was there that names the version."""
    found = []
    for asker in askers:
        for answer in reversed(asker.answers):
            if answer.started < since:
                break
            if answer.version == version:
                found.append(answer.ended)
    return min(found, default=None)


def swap(settings: Settings, number: int, current: str) -> str:
    """Promotes another version, or each third time rolls back; returns which one is in Production then."""
    manager, lake, name, at = MLflowManager(settings), Lake(settings), settings.model_name, AT + timedelta(hours=number)
    if number % 3 == 2:
        return str(rollback(manager, lake, name, at=at)["model_version"])
    others = [model.version for model in manager.versions(name) if model.version != current]
    new = others[number % len(others)]
    promote(manager, lake, name, new, at=at)
    return new


def test_swaps_and_rollbacks_fail_no_request(server: Server, versions: list[RegisteredModel]) -> None:
    bodies = [json.dumps({"features": row}).encode() for row in ROWS.to_pylist()]
    expected = {m.version: Predictor.load(server.settings, version=m).score(ROWS).probability for m in versions}
    assert len({churns[0] for churns in expected.values()}) == len(versions)

    stays, version, since = [], versions[-1].version, 0.0
    took = []
    with asking(server, bodies, askers=ASKERS, pause=0.01) as askers:
        eventually(lambda: first_answer(askers, version, since), server)
        for number in range(SWAPS):
            begun = time.monotonic()
            new = swap(server.settings, number, version)
            changed = time.monotonic()
            seen = eventually(lambda new=new, begun=begun: first_answer(askers, new, begun), server)
            stays.append(Stay(version, since, seen))
            # Who reads the registry sees the new version a little before the change is recorded.
            took.append(max(0.0, seen - changed))
            version, since = new, begun
    stays.append(Stay(version, since, float("inf")))

    answers = all_answers(askers)
    assert [asker.lost for asker in askers] == [[]] * ASKERS
    assert {answer.status for answer in answers} == {200}
    by_version = defaultdict(list)
    for stay in stays:
        by_version[stay.version].append(stay)
    wrong = [a for a in answers if not any(stay.allows(a) for stay in by_version[a.version])]
    assert wrong == []
    assert [a for a in answers if a.churns != (expected[a.version][a.body],)] == []
    history = complete_history(MLflowManager(server.settings), Lake(server.settings), server.settings.model_name, at=AT)
    assert [stay.version for stay in stays] == [row["model_version"] for row in history.changes]
    write_figures("swaps", swaps=len(took), requests=len(answers), from_promotion_to_first_answer_ms=quantiles_ms(took))


def kill(server: Server) -> None:
    """Kills the server's processes, the one that would start others again first."""
    family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
    for process in family:
        process.kill()
    server.process.wait(30)
    psutil.wait_procs(family, timeout=30)


def ingest(lake: Lake) -> int:
    """What the asset of ml.online_predictions does; returns how many rows the table holds then."""
    lake.publish(collect(lake).draft)
    retire(lake)
    return lake.snapshot(ONLINE_PREDICTIONS).count()


def test_kill_9_loses_and_doubles_no_prediction(server: Server, settings: Settings, tmp_path: Path) -> None:
    lake, chance = Lake(settings), random.Random(7)
    rows = ROWS.to_pylist()
    asked = [{"features": rows[0]}, {"features": rows}, {"customer_id": "C1"}, {"customer_id": ["C1", "C2"]}]
    bodies = [json.dumps(document).encode() for document in asked]
    acknowledged: dict[str, float] = {}
    before = ingest(lake)
    for death in range(DEATHS):
        started: AbstractContextManager[Server] = nullcontext(server) if death == 0 else serving(settings, tmp_path)
        with started as running:
            eventually(lambda running=running: running.http.get("/readyz").status_code == 200, running)
            with asking(running, bodies, askers=ASKERS, pause=0.002) as askers:
                for wanted in sorted(chance.sample(range(20, 400), 2)):
                    eventually(lambda askers=askers, w=wanted: len(all_answers(askers)) >= w, running)
                    # First under load, then what is there at the death.
                    ingest(lake)
                kill(running)
        assert all(asker.lost for asker in askers)
        answers = all_answers(askers)
        assert {answer.status for answer in answers} == {200}
        for answer in answers:
            names = [f"{answer.prediction_id}-{row}" for row in range(len(answer.churns))]
            acknowledged |= zip(names if answer.is_list else [answer.prediction_id], answer.churns, strict=True)
        ingest(lake)
        assert list(settings.prediction_spool.glob(PATTERN)) == []

    table = lake.snapshot(ONLINE_PREDICTIONS).to_arrow(["prediction_id", "churn_probability", "customer_hmac"])
    names, churns, whose = (column.to_pylist() for column in table.itercolumns())
    assert len(names) == len(set(names))
    assert acknowledged.items() <= dict(zip(names, churns, strict=True)).items()
    assert len(set(whose)) == 3  # two customers, and rows without one
    unacknowledged = len(names) - before - len(acknowledged)
    write_figures("deaths", deaths=DEATHS, acknowledged=len(acknowledged), unacknowledged=unacknowledged)
