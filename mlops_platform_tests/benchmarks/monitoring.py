"""What batches and monitoring cost: `make bench-monitoring` prints it and writes `.mlops/bench/monitoring.json`.

`ARGS=batch` or `ARGS=drift` measures one of them and leaves the other's figures as they are; BENCH_ROWS and
BENCH_ROUNDS make the batch smaller. Does not belong here: what is measured (`batch_inference.py`, `drift.py`).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from mlops_platform_tests.benchmarks import batch_inference, drift
from mlops_platform_tests.benchmarks.measuring import ROUNDS, show

REPORT = Path(".mlops/bench/monitoring.json")


def main() -> None:
    """Measures what is asked for, by default everything."""
    rows = int(os.environ.get("BENCH_ROWS", batch_inference.ROWS))
    rounds = int(os.environ.get("BENCH_ROUNDS", ROUNDS))
    parts = {"batch": lambda: batch_inference.measure(rows, rounds), "drift": drift.measure}
    for name in sys.argv[1:] or parts:
        found: dict[str, Any] = {name: parts[name]()}
        show(found)
        known = json.loads(REPORT.read_text(encoding="utf-8")) if REPORT.is_file() else {}
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        REPORT.write_text(json.dumps(known | found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
