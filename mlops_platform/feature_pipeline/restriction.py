"""A snapshot's conditions as Ibis expressions, for the engines that read the table themselves.

Does not belong here: the conditions (`storage.conditions`), an engine.
"""

from __future__ import annotations

from operator import eq, ge, gt, le, lt
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.feature_pipeline.transform import SOURCE_TYPES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_platform.storage.conditions import Condition

_COMPARISONS = {"=": eq, "<": lt, "<=": le, ">": gt, ">=": ge}


def predicates(table: Any, conditions: Sequence[Condition], engine: str) -> list[Any]:
    """The conditions over an Ibis table of silver's transactions.

    Args:
        table: Its columns are `SOURCE_TYPES`.
        conditions: A snapshot's own.
        engine: Whose name the message gives.

    Raises:
        InputError: A condition is on another column.
    """
    found = []
    for condition in conditions:
        if condition.column not in SOURCE_TYPES:
            raise InputError(
                f"the engine {engine} can't compute features where {condition.text()}",
                expected=f"conditions on {', '.join(SOURCE_TYPES)}",
                hint="unset MLOPS_ENGINE.",
            )
        column, value = table[condition.column], condition.value
        is_one_of = isinstance(value, tuple)
        found.append(column.isin(value) if is_one_of else _COMPARISONS[condition.operator](column, value))
    return found
