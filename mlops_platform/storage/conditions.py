"""Row conditions in the two forms a read needs: Iceberg's, to plan files, and SQL, to filter rows.

Does not belong here: any other expression; queries are SQL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Literal

from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression

Value = str | int | date | datetime


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a column with a value (with a tuple of values for `in`)."""

    column: str
    operator: Literal["=", "<", "<=", ">", ">=", "in"]
    value: Value | tuple[Value, ...]

    def iceberg(self) -> BooleanExpression:
        """The condition as an Iceberg expression."""
        from pyiceberg import expressions as ex

        if self.operator == "in":
            values = self.value if isinstance(self.value, tuple) else (self.value,)
            within: Any = ex.In
            found: BooleanExpression = within(self.column, {_plain(value) for value in values})
            return found
        makers: dict[str, Any] = {
            "=": ex.EqualTo,
            "<": ex.LessThan,
            "<=": ex.LessThanOrEqual,
            ">": ex.GreaterThan,
            ">=": ex.GreaterThanOrEqual,
        }
        expression: BooleanExpression = makers[self.operator](self.column, _plain(self.value))
        return expression

    def sql(self) -> str:
        """The condition as DuckDB SQL."""
        if self.operator == "in":
            values = self.value if isinstance(self.value, tuple) else (self.value,)
            return f"{quoted(self.column)} IN ({', '.join(map(_literal, values))})"
        return f"{quoted(self.column)} {self.operator} {_literal(self.value)}"


def day_range(column: str, first: date, last: date) -> tuple[Condition, ...]:
    """The days from `first` to `last`, both included."""
    if first == last:
        return (Condition(column, "=", first),)
    return (Condition(column, ">=", first), Condition(column, "<=", last))


def all_of(conditions: Sequence[Condition]) -> BooleanExpression:
    """The conjunction as an Iceberg expression."""
    from functools import reduce

    from pyiceberg import expressions as ex

    everything: BooleanExpression = ex.AlwaysTrue()
    return reduce(ex.And, (c.iceberg() for c in conditions), everything)


def all_of_sql(conditions: Sequence[Condition]) -> str:
    """The conjunction as SQL."""
    return " AND ".join(c.sql() for c in conditions) or "true"


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat()}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
