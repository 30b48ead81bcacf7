"""Writers that run in processes of their own, for the tests of locks and of sudden death.

Processes come from a fork server that has the heavy modules loaded: a fork of the test's own process would copy its
threads' locks, and a fresh interpreter costs seconds. Does not belong here: assertions.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.storage.things import draft

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["filelock", "ibis", "pandera.ibis", "pyiceberg.catalog.sql", __name__])
PATIENCE_SECONDS = 60


def start(target: Callable[..., None], *arguments: Any) -> BaseProcess:
    """Starts `target` in its own process."""
    process = CONTEXT.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def publish_when_free(home: Path, waiting: Event) -> None:
    """Publishes thing b; sets `waiting` when the table's lock turns out to be taken."""
    import filelock

    acquire = filelock.FileLock._acquire

    def reporting(self: filelock.FileLock) -> None:
        acquire(self)
        if not self.is_locked:
            waiting.set()

    filelock.FileLock._acquire = reporting  # type: ignore[method-assign]
    Lake(load_settings(home=home)).publish(draft("b"))


def publish_and_die(home: Path, call: str, moment: str, number: int) -> None:
    """Publishes things b and c, and kills itself before or after the `number`-th call of a kind.

    Args:
        home: The home.
        call: `file` (any data or metadata file is made) or `commit` (the catalog is asked to commit).
        moment: `before` or `after`.
        number: Counted from 1.
    """
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.io.pyarrow import PyArrowFile

    owner, name = {"file": (PyArrowFile, "create"), "commit": (SqlCatalog, "commit_table")}[call]
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
    Lake(load_settings(home=home)).publish(draft("b", "c"))
