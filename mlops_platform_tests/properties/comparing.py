"""Feature rows of the platform beside the oracle's: exact where a value is whole or text, 1e-9 where it is a float.

Does not belong here: where either comes from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mlops_platform.contracts import STANDARD

Cells = Mapping[str, object]


def by_customer(rows: pa.Table) -> dict[str, dict[str, Any]]:
    """Feature cells by customer; a customer may have one row only."""
    found = {row["customer_id"]: {name: row[name] for name in STANDARD.names} for row in rows.to_pylist()}
    assert len(found) == rows.num_rows
    return found


def differences(found: Mapping[str, Cells], expected: Mapping[str, Cells]) -> list[str]:
    """Every cell that differs, in words; none means equal."""
    wrong = [f"{c}: only in one of them" for c in sorted(found.keys() ^ expected.keys())]
    for customer in sorted(found.keys() & expected.keys()):
        for name, value in expected[customer].items():
            if not same(found[customer][name], value):
                wrong.append(f"{customer}.{name}: {found[customer][name]!r}, expected {value!r}")
    return wrong


def same(found: object, expected: object) -> bool:
    """Whether two cells are equal, of the same type, floats to 9 digits."""
    if isinstance(expected, float) and isinstance(found, float):
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=0.0)
    return type(found) is type(expected) and found == expected
