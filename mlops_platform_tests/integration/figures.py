"""What the serving proofs measured when they ran whole: `.mlops/bench/serving_proofs.json`.

Does not belong here: what is measured.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlops_platform_tests.scale import IS_FULL

REPORT = Path(".mlops/bench/serving_proofs.json")


def quantiles_ms(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99 % and largest of times, in milliseconds."""
    ordered = sorted(seconds)
    places = {"p50": len(ordered) // 2, "p99": len(ordered) * 99 // 100, "max": -1}
    return {name: round(ordered[place] * 1000, 1) for name, place in places.items()}


def write_figures(proof: str, **figures: Any) -> None:
    """Prints a proof's figures; a whole proof's are kept, beside those of the others."""
    sys.stdout.write(json.dumps({proof: figures}, indent=1) + "\n")
    if IS_FULL:
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        known = json.loads(REPORT.read_text()) if REPORT.is_file() else {}
        REPORT.write_text(json.dumps(known | {proof: figures}, indent=1) + "\n")
