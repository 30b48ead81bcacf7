"""What the drift decision finds and what it and its report cost; a part of `make bench-monitoring`.

Belongs here: rates of wrong alarms and of found shifts over 200 draws each; the report over 1M × 30 in a process of its
own, beside the raw SciPy tests of the same columns and rows. Nothing is asserted: machines differ.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from mlops_platform.monitoring.drift import Kind, detect_drift
from mlops_platform.monitoring.report import SAMPLE_ROWS, SEED, write_drift_report
from mlops_platform_tests.benchmarks.measuring import peak_mb, show
from mlops_platform_tests.unit.monitoring.drifting import COLUMNS, REFERENCE_ROWS, draw, outcomes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DRAWS, ROWS = 200, 1_000_000
CURRENT_ROWS = (500, 5_000)
# Five more columns, copies under other names: 30 in all.
_EXTRA = ("normal_0", "spend_0", "count_0", "category_0", "category_1")
WIDE: dict[str, Kind] = {**COLUMNS, **{f"more_{name}": COLUMNS[name] for name in _EXTRA}}
_DRAWN_AT_ONCE = 100_000


def measure(draws: int = DRAWS, rows: int = ROWS) -> dict[str, Any]:
    """Rates and cost.

    Args:
        draws: Draws a rate.
        rows: Rows of each side of the large report.
    """
    command = [sys.executable, "-m", "mlops_platform_tests.benchmarks.drift", str(rows)]
    # A process of its own: its peak memory is the report's.
    large = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {"rates": _rates(draws), "report": large}


def _rates(draws: int) -> dict[str, Any]:
    found: dict[str, Any] = {"draws": draws, "columns": len(COLUMNS), "reference_rows": REFERENCE_ROWS}
    for rows in CURRENT_ROWS:
        unchanged = outcomes(draws, rows, is_planted=False)
        planted = outcomes(draws, rows, is_planted=True)
        found[f"{rows}_rows"] = {
            "alarms_without_drift": unchanged.alarms / draws,
            "planted_found_and_no_other": planted.exact / draws,
            "others_named": planted.others_named / draws,
            "missed": dict(Counter(planted.missed)),
        }
    return found


def _report(rows: int) -> dict[str, Any]:
    """CPU seconds of the decision, of the raw tests and of the page; peak memory; size."""
    reference, current = _wide(rows, seed=1), _wide(rows, seed=2)
    _raw_tests(reference.slice(0, 1000), current.slice(0, 1000))  # imports SciPy
    before = peak_mb()
    raw = _cpu(lambda: _raw_tests(reference, current))
    took = time.process_time()
    result = detect_drift(reference, current, columns=WIDE)
    decision = time.process_time() - took
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "drift.html"
        page = _cpu(lambda: write_drift_report(reference, current, result, columns=WIDE, path=path))
        again = _cpu(lambda: write_drift_report(reference, current, result, columns=WIDE, path=path))
        size = path.stat().st_size
    return {
        "rows": rows,
        "columns": len(WIDE),
        "status": result.status,
        "sample_rows": SAMPLE_ROWS,
        "seed": SEED,
        "decision_cpu": round(decision, 2),
        "raw_scipy_tests_cpu": round(raw, 2),
        "decision_over_raw": round(decision / raw, 2),
        "page_cpu": round(page, 2),
        "report_cpu": round(decision + page, 2),
        "equal_page_again_cpu": round(again, 2),
        "data_mb": round((reference.nbytes + current.nbytes) / 1e6),
        "peak_mb_before": before,
        "peak_mb": peak_mb(),
        "html_mb": round(size / 1e6, 2),
    }


def _wide(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    parts = [draw(rng, min(_DRAWN_AT_ONCE, rows - at)) for at in range(0, rows, _DRAWN_AT_ONCE)]
    table = pa.concat_tables(parts).combine_chunks()
    for name in _EXTRA:
        table = table.append_column(f"more_{name}", table[name])
    return table


def _raw_tests(reference: pa.Table, current: pa.Table) -> None:
    """SciPy's tests alone, of arrays, and of counts as Arrow makes them."""
    from scipy.stats import chi2_contingency, ks_2samp

    for name, kind in WIDE.items():
        if kind == "numeric":
            ks_2samp(reference[name].to_numpy(), current[name].to_numpy(), method="asymp")
        else:
            chi2_contingency(_counts(reference[name], current[name]), correction=False)


def _counts(*sides: pa.ChunkedArray) -> NDArray[np.int64]:
    tallies = [{str(each["values"]): each["counts"] for each in side.value_counts().to_pylist()} for side in sides]
    return np.array([[tally.get(value, 0) for value in sorted(tallies[0])] for tally in tallies])


def _cpu(part: Callable[[], object]) -> float:
    spent = time.process_time()
    part()
    return time.process_time() - spent


if __name__ == "__main__":
    show(_report(int(sys.argv[1])) if len(sys.argv) > 1 else measure())
