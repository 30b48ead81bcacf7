"""A sign of life of a long run, so that a run whose machine is gone can be told from one that is at work.

Does not belong here: what follows from its absence (`instance.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dagster as dg

BEAT_SECONDS = 45.0


@contextmanager
def beating(instance: dg.DagsterInstance, run_id: str, *, seconds: float = BEAT_SECONDS) -> Iterator[None]:
    """Writes an event to the run's log every so often while the block runs.

    Not a tag: a run's tags are written as a whole, and two writers would lose each other's.
    """
    is_over = threading.Event()

    def beat() -> None:
        while not is_over.wait(seconds):
            # Of any kind, an error of the storage costs one beat; the next may be written again.
            with suppress(Exception):
                if (run := instance.get_run_by_id(run_id)) is not None and not run.is_finished:
                    instance.report_engine_event("The run's process is alive.", run)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
