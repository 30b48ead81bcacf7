"""Instants of any zone are the same instants in Arrow, whatever library has been imported."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import mlops_platform.contracts
import pandera.ibis, pandera.pandas
from datetime import datetime
from zoneinfo import ZoneInfo
import pyarrow as pa
tokyo = datetime(2024, 4, 1, tzinfo=ZoneInfo("Asia/Tokyo"))
print(pa.array([tokyo], pa.timestamp("us", tz="UTC"))[0].as_py().isoformat())
"""


def test_arrow_heeds_the_offset_once_pandera_is_imported() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "2024-03-31T15:00:00+00:00"
