"""Row conditions in the two forms a read needs: Iceberg's, to plan files, and SQL, to filter rows.

Does not belong here: any other expression; queries are SQL.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast

from mlops_platform.storage.duck import quoted

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression

# Separate spans of days that are planned one by one: 200 of them over 730 files take 30 s.
MOST_SPANS = 16

Value = str | int | date | datetime | Decimal


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a column with a value (with a tuple of values for `in`).

    `day in` compares the UTC day of a timestamp with days, as Iceberg's day transform cuts them.
    """

    column: str
    operator: Literal["=", "<", "<=", ">", ">=", "in", "day in"]
    value: Value | tuple[Value, ...]

    def iceberg(self) -> BooleanExpression:
        """The condition as an Iceberg expression."""
        from pyiceberg import expressions as ex

        if self.operator == "day in":
            at_least, below, either = (cast(Any, maker) for maker in (ex.GreaterThanOrEqual, ex.LessThan, ex.Or))
            spans = [ex.And(at_least(self.column, a), below(self.column, b)) for a, b in self._planned_spans()]
            on_a_day: BooleanExpression = either(ex.AlwaysFalse(), ex.AlwaysFalse(), *spans)
            return on_a_day
        if self.operator == "in":
            within: Any = ex.In
            found: BooleanExpression = within(self.column, {_plain(value) for value in self._values})
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

    def days(self) -> frozenset[date] | None:
        """The days of a `day in`; None for any other condition."""
        return frozenset(day for day in self._values if isinstance(day, date)) if self.operator == "day in" else None

    def text(self) -> str:
        """The condition for a person, short however many days it names."""
        if self.operator == "day in" and len(self._values) > MOST_SPANS:
            days = sorted(self.days() or ())
            return f"{quoted(self.column)} on {len(days)} days from {days[0]} to {days[-1]}"
        return self.sql()

    def _planned_spans(self) -> list[tuple[datetime, datetime]]:
        """The days' spans; of very many the one around them all: Iceberg weighs each span with each file."""
        spans = _spans(self._values)
        return spans if len(spans) <= MOST_SPANS else [(spans[0][0], spans[-1][1])]

    @property
    def _values(self) -> tuple[Value, ...]:
        return self.value if isinstance(self.value, tuple) else (self.value,)

    def sql(self) -> str:
        """The condition as DuckDB SQL."""
        if self.operator == "day in":
            spans = [
                f"{quoted(self.column)} >= {_literal(start)} AND {quoted(self.column)} < {_literal(end)}"
                for start, end in self._planned_spans()
            ]
            within = f"({' OR '.join(spans) or 'false'})"
            if len(_spans(self._values)) <= MOST_SPANS:
                return within
            days = ", ".join(map(_literal, self._values))
            return f"({within} AND (timezone('UTC', {quoted(self.column)}))::DATE IN ({days}))"
        if self.operator == "in":
            if not self._values:
                return "false"
            return f"{quoted(self.column)} IN ({', '.join(map(_literal, self._values))})"
        return f"{quoted(self.column)} {self.operator} {_literal(self.value)}"


def day_range(column: str, first: date, last: date) -> tuple[Condition, ...]:
    """The days from `first` to `last`, both included."""
    if first == last:
        return (Condition(column, "=", first),)
    return (Condition(column, ">=", first), Condition(column, "<=", last))


def all_time(column: str) -> tuple[Condition, ...]:
    """Every instant: the range of a publish that replaces all there is."""
    return (Condition(column, ">=", datetime(1, 1, 1, tzinfo=UTC)),)


def all_of(conditions: Sequence[Condition]) -> BooleanExpression:
    """The conjunction as an Iceberg expression."""
    from functools import reduce

    from pyiceberg import expressions as ex

    everything: BooleanExpression = ex.AlwaysTrue()
    return reduce(ex.And, (c.iceberg() for c in conditions), everything)


def all_of_sql(conditions: Sequence[Condition]) -> str:
    """The conjunction as SQL."""
    return " AND ".join(c.sql() for c in conditions) or "true"


def all_of_text(conditions: Sequence[Condition]) -> str:
    """The conjunction for a person."""
    return " AND ".join(c.text() for c in conditions)


def _spans(days: Iterable[Any]) -> list[tuple[datetime, datetime]]:
    """Days as spans of instants in UTC, days that follow each other as one span."""
    spans: list[tuple[date, date]] = []
    for day in sorted(set(days)):
        if spans and spans[-1][1] == day:
            spans[-1] = (spans[-1][0], day + timedelta(days=1))
        else:
            spans.append((day, day + timedelta(days=1)))
    return [(datetime.combine(a, time(), UTC), datetime.combine(b, time(), UTC)) for a, b in spans]


def _plain(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) else value


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ '{value.astimezone(UTC).isoformat()}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        return format(value, "f")
    return "'" + str(value).replace("'", "''") + "'"
