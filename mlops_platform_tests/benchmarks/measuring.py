"""How the benchmarks measure: interleaved rounds, medians, peak memory of one process.

Does not belong here: what is measured.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3


def peak_mb() -> int:
    """Peak resident memory of this process alone: `ru_maxrss` begins with its parent's."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20
    found = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(found.split()[1]) // 1024


def interleaved(
    parts: dict[str, Callable[[], object]], folder: Path, leftovers: tuple[str, ...] = (), rounds: int = ROUNDS
) -> dict[str, Any]:
    """Median wall and CPU seconds of each part over interleaved rounds; what a round writes is removed after it."""
    wall: dict[str, list[float]] = {name: [] for name in parts}
    cpu: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            started, spent = time.perf_counter(), time.process_time()
            part()
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - spent)
        for leftover in leftovers:
            shutil.rmtree(folder / leftover, ignore_errors=True)
    return {
        name: {"seconds": round(statistics.median(wall[name]), 2), "cpu": round(statistics.median(cpu[name]), 2)}
        for name in parts
    }


def ratio(took: dict[str, Any], part: str, baseline: str) -> float:
    """How many times a baseline's wall time a part took."""
    return round(took[part]["seconds"] / took[baseline]["seconds"], 2)


def show(found: dict[str, Any]) -> None:
    """Prints figures as soon as they are there."""
    sys.stdout.write(json.dumps(found, indent=1) + "\n")
    sys.stdout.flush()
