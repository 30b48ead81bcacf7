"""Writers and a reader for the tests of many at once. Does not belong here: assertions."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import date, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.integration.lines import CONTEXT
from mlops_platform_tests.unit.storage.things import APPEND, RANGE, on, rows


def start(target: Any, *arguments: Any) -> BaseProcess:
    """Starts `target` in a process of its own."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def append_and_replace(home: Path, catalog_url: str | None, writer: int, commits: int) -> None:
    """Appends to one table and replaces a day of another, `commits` times each."""
    lake = Lake(load_settings(home=home, catalog_url=catalog_url))
    day = date(2024, 1, 1) + timedelta(days=writer)
    for number in range(commits):
        lake.publish(Draft(APPEND, rows(f"{writer}/{number}")))
        mine = [f"{writer}/{number}/{k}" for k in (0, 1)]
        lake.publish(Draft(RANGE, rows(*mine, day=day), scope=on(day)))


def poll(home: Path, stop: threading.Event, seen: Counter[str]) -> None:
    """Reads the range table until told to stop; counts the things it ever saw, and its own readings."""
    lake = Lake(load_settings(home=home))
    while not stop.is_set():
        seen.update(str(thing) for thing in lake.snapshot(RANGE).to_arrow(["thing"])["thing"].to_pylist())
        seen["polls"] += 1
