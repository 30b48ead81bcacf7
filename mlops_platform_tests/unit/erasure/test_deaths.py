"""An erasure that is killed: readers see rows of before or after, and the same command completes it."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.contracts import BRONZE_TRANSACTIONS, ERASURES
from mlops_platform.erasure import erase, verify
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.erasure.lakes import build
from mlops_platform_tests.unit.storage.writers import PATIENCE_SECONDS, start

NOW = datetime(2026, 7, 1, tzinfo=UTC)
CUSTOMERS = [f"c{n}" for n in range(6)]


def erase_and_die(home: Path, call: str, moment: str, number: int) -> None:
    """Erases c0, and kills itself before or after the `number`-th file made, commit, or file deleted."""
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO

    places = {
        "file": (PyArrowFile, "create"),
        "commit": (SqlCatalog, "commit_table"),
        "delete": (PyArrowFileIO, "delete"),
    }
    owner, name = places[call]
    real = getattr(owner, name)
    calls = 0

    def deadly(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if (calls, moment) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if (calls, moment) == (number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, deadly)
    erase(Lake(load_settings(home=home)), ["c0"], now=NOW)


# Commits: the list of the erased, the rows left out, the removed files forgotten, the snapshots expired.
DEATHS = [("commit", "before", n) for n in (1, 2, 3, 4)] + [("commit", "after", n) for n in (2, 4)]
DEATHS += [("file", "before", 7), ("file", "after", 8), ("delete", "before", 1), ("delete", "after", 2)]


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: " ".join(map(str, death)))
def test_the_same_command_completes_it(lake: Lake, death: tuple[str, str, int]) -> None:
    build(lake, CUSTOMERS, [BRONZE_TRANSACTIONS])
    worker = start(erase_and_die, lake.settings.home, *death)
    worker.join(PATIENCE_SECONDS)
    assert worker.exitcode == -signal.SIGKILL

    def held() -> set[str]:
        return set(lake.snapshot(BRONZE_TRANSACTIONS).to_arrow(["customer_id"])["customer_id"].to_pylist())

    has_erased = death[0] in {"delete"} or death in {("commit", "after", 2), *_late(3), *_late(4)}
    assert has_erased == ("c0" not in held()) or death[0] == "file"
    erase(lake, ["c0"], now=NOW)
    assert held() == set(CUSTOMERS[1:])
    assert verify(lake.settings, ["c0"]) == []
    assert lake.snapshot(ERASURES).count() == 1


def _late(number: int) -> set[tuple[str, str, int]]:
    return {("commit", "before", number), ("commit", "after", number)}
