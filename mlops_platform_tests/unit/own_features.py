"""Modules of a user's own features, written and imported for a test. Does not belong here: tests."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path

from mlops_platform.contracts import load_feature_set

Declare = Callable[..., str]

IMPORTS = """from mlops_platform.feature_pipeline import Aggregate, Column, ColumnType
from mlops_platform.feature_pipeline import Derived, Feature, MostFrequent, Score
INT, DOUBLE, STRING = ColumnType.INT, ColumnType.DOUBLE, ColumnType.STRING
"""
FORTNIGHT = (
    'Feature(Column("total_transactions_14d", INT, "Purchases in 14 days", unit="purchases", ge=0, le=5_000), '
    'Aggregate("count", 14))'
)
LAST_HOUR = (
    'Feature(Column("usual_hour", INT, "Most frequent hour", ge=-1, le=23), MostFrequent("transaction_hour", 7, -1))'
)
# A module's name is imported once a process, so every test gets another.
_numbers = itertools.count()


def write_module(folder: Path, *features: str, name: str | None = None) -> str:
    """Writes a module with these declarations; returns its name. `name`: one to write over."""
    module = name or f"own_features_{next(_numbers)}"
    declared = "".join(f"    {feature},\n" for feature in features)
    (folder / f"{module}.py").write_text(f"{IMPORTS}FEATURES = [\n{declared}]\n")
    sys.modules.pop(module, None)
    load_feature_set.cache_clear()
    return module
