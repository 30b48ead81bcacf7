"""PostgreSQL, or the object store, dies while tables are materialized: no row is lost or doubled, and every run ends.

The rows are those of a twin, an embedded home that goes through the same CRM undisturbed. Does not belong here: the
death of our own processes (integration/test_lake_survives.py).
"""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from mlops_platform.orchestration.jobs import INGEST
from mlops_platform.settings import child_environment
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.integration.lines import FEATURE_DATE, LINE, change_crm, content, open_home, run_line
from mlops_platform_tests.integration.object_store import ObjectStore
from mlops_platform_tests.integration.postgres import Server
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.server.outages import POLL_SECONDS, Deployed, deployed, until
from mlops_platform_tests.server.stack import running_stack

KILLS_A_RUN = 3
# After a death, a run may be unfinished for no longer.
LONGEST_SECONDS = 300.0


@dataclass
class Figures:
    """What became of the runs: deaths of the server, the daemon's retries, and nights it took besides."""

    kills: int = 0
    retries: int = 0
    more_nights: int = 0


@dataclass
class World:
    """The platform on servers, its twin, and the CRM of both."""

    platform: Deployed
    lake: Lake
    twin: Path
    crm: Path
    objects: Path
    number: int = 0


@pytest.fixture(scope="module")
def world(database: Server, store: ObjectStore, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("outages")
    crm, twin, home = folder / "crm.db", folder / "twin", folder / "home"
    change_crm(crm, 0)
    with running_stack(database, store, folder, has_mlflow=False) as stack:
        history = date(2024, 1, 1)
        settings = stack.settings(home, crm_url=f"sqlite:///{crm}", history_start=history, max_rejected_share=1.0)
        environment = {
            **stack.environment(home),
            **child_environment(settings),
            "MLOPS_HISTORY_START": history.isoformat(),
            "MLOPS_MAX_REJECTED_SHARE": "1.0",
        }
        with deployed(settings, environment, folder) as platform:
            yield World(platform, Lake(settings), twin, crm, store.folder / "data")


@pytest.mark.parametrize("victim", ["database", "store"])
def test_the_rows_are_those_of_an_undisturbed_twin(
    world: World, victim: str, database: Server, store: ObjectStore
) -> None:
    server, draws, started = {"database": database, "store": store}[victim], random.Random(victim), time.monotonic()
    wanted, figures = rounds(full=20, share=2), Figures()
    while figures.kills < wanted:
        world.number += 1
        change_crm(world.crm, world.number)
        before = count(world.twin / "warehouse")
        run_line(world.twin, world.crm, world.number)
        made = range(count(world.twin / "warehouse") - before)
        moments = sorted(draws.sample(made, min(KILLS_A_RUN, wanted - figures.kills)))
        disturb(world, server, moments, draws, figures)
        for contract in LINE:
            assert content(world.lake, contract) == content(open_home(world.twin), contract), contract.name
        # The figures of the whole proof are read with `pytest -s`.
        sys.stdout.write(f"{victim}: {moments}, {figures}, {time.monotonic() - started:.0f} s\n")


def disturb(
    world: World, server: Server | ObjectStore, moments: Sequence[int], draws: random.Random, figures: Figures
) -> None:
    """Runs the job; the server dies when the store holds so many more objects, and is back after 1 to 3 s.

    A run that failed for good is started again, as it would be the next night.
    """
    platform, before = world.platform, count(world.objects)
    run_id = platform.launch(INGEST, FEATURE_DATE.isoformat())
    for moment in moments:
        while count(world.objects) < before + moment and platform.unfinished():
            time.sleep(POLL_SECONDS)
        time.sleep(draws.uniform(0, 0.5))
        if not platform.unfinished():
            break
        server.kill()
        figures.kills += 1
        time.sleep(draws.uniform(1, 3))
        server.start()
    until(lambda: not platform.unfinished(), "every run has ended", LONGEST_SECONDS)
    has_succeeded = platform.has_succeeded(run_id)
    figures.retries += len(platform.family(run_id)) - 1
    while not has_succeeded:
        figures.more_nights += 1
        has_succeeded = platform.has_succeeded(platform.launch(INGEST, FEATURE_DATE.isoformat()))


def count(folder: Path) -> int:
    """Files below a folder, those of uploads that are under way not among them."""
    return sum(len(names) for path, _, names in os.walk(folder) if ".mpus-" not in path)
