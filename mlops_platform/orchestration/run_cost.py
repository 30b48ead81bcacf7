"""What a run costs: CPU seconds and bytes read and written by its process, kept in the run's tags.

Belongs here: measuring. Does not belong here: the metrics made of it (`run_metrics.py`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psutil

CPU_TAG, READ_TAG, WRITTEN_TAG = "mlops/cpu_seconds", "mlops/read_bytes", "mlops/written_bytes"


@contextmanager
def metered(instance: dg.DagsterInstance, run_id: str) -> Iterator[None]:
    """Tags the run at the end of the block, however it ends, with what this process has spent since its beginning.

    A process runs one run at a time, so its cost is the run's. Bytes are those of read and write calls, cached or not;
    macOS does not count them, and the run then has no such tags.
    """
    process = psutil.Process()
    before = _spent(process)
    try:
        yield
    finally:
        spent = {tag: value - before[tag] for tag, value in _spent(process).items()}
        if instance.has_run(run_id):
            instance.add_run_tags(run_id, {tag: f"{value:.2f}".removesuffix(".00") for tag, value in spent.items()})


def _spent(process: psutil.Process) -> dict[str, float]:
    times = process.cpu_times()
    children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    spent = {CPU_TAG: times.user + times.system + children}
    if hasattr(process, "io_counters"):
        counted = process.io_counters()
        spent |= {READ_TAG: float(counted.read_chars), WRITTEN_TAG: float(counted.write_chars)}
    return spent
