"""Maintenance that is killed: every table stays readable, and the next pass completes what was left."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain
from mlops_platform.storage.maintenance.orphans import plain, reachable
from mlops_platform.storage.publish import Draft
from mlops_platform_tests.unit.storage.things import APPEND, rows
from mlops_platform_tests.unit.storage.writers import PATIENCE_SECONDS, start

LATER = timedelta(days=60)


def maintain_and_die(home: Path, call: str, moment: str, number: int) -> None:
    """Maintains, and kills itself before or after the `number`-th file made, commit, or file deleted."""
    import pyarrow.fs
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import PyArrowFile

    from mlops_platform.storage.maintenance import orphans

    class Deadly:
        """A file system that dies while deleting."""

        def __init__(self, system: pyarrow.fs.FileSystem) -> None:
            self.system = system

        def __getattr__(self, name: str) -> Any:
            return getattr(self.system, name)

        def delete_file(self, path: str) -> None:
            dying(self.system.delete_file, path)

    calls = 0

    def dying(real: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if (calls, moment) == (number, "before"):
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **kwargs)
        if (calls, moment) == (number, "after"):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    if call == "delete":
        system_of = orphans._file_system

        def deadly_system(*args: Any) -> Any:
            system, path = system_of(*args)
            return Deadly(system), path

        orphans._file_system = deadly_system
    else:
        owner, name = {"file": (PyArrowFile, "create"), "commit": (SqlCatalog, "commit_table")}[call]
        real = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: dying(real, *args, **kwargs))
    lake = Lake(load_settings(home=home))
    maintain(lake, now=datetime.now(UTC) + LATER, keep=())


# The first commit expires, the second compacts; the files are metadata, data, two manifests, their list, metadata.
DEATHS = [("file", "before", n) for n in (1, 2, 4, 6)] + [("file", "after", n) for n in (1, 2, 6)]
DEATHS += [("commit", moment, n) for moment in ("before", "after") for n in (1, 2)]
DEATHS += [("delete", "before", 1), ("delete", "after", 1), ("delete", "after", 2)]


@pytest.mark.parametrize("death", DEATHS, ids=lambda death: " ".join(map(str, death)))
def test_a_killed_pass_leaves_the_table_whole(lake: Lake, death: tuple[str, str, int]) -> None:
    for number in range(4):
        lake.publish(Draft(APPEND, rows(f"{number}")))
    worker = start(maintain_and_die, lake.settings.home, *death)
    worker.join(PATIENCE_SECONDS)
    assert worker.exitcode == -signal.SIGKILL

    def things() -> list[str]:
        return lake.snapshot(APPEND).to_arrow(["thing"], order_by=["thing"])["thing"].to_pylist()

    assert things() == ["0", "1", "2", "3"]
    for _ in range(2):
        maintain(lake, now=datetime.now(UTC) + LATER, keep=())
    assert things() == ["0", "1", "2", "3"]
    table = lake.catalog.load_table(APPEND.name)
    assert len(list(table.scan().plan_files())) == 1
    folder = lake.settings.warehouse / "test" / "appended"
    assert {plain(str(path)) for path in folder.rglob("*") if path.is_file()} == set(reachable(table))
