"""What a row must look like before it is scored: every feature, of its type, inside its contract.

Belongs here: the check of one row of features against the contract's columns, its description for readers, a valid
example. Does not belong here: HTTP, JSON text, scoring.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import load_feature_set
from mlops_platform.contracts.table import Column, ColumnType
from mlops_platform.errors import ModelError
from mlops_platform.inference_pipeline.typed_rows import row_type

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from msgspec import Struct

    from mlops_platform.settings import Settings

# The model's matrix is float32: XGBoost refuses a number that becomes an infinity there.
LARGEST_NUMBER = 3.4028234e38
_LIMITS: dict[ColumnType, float] = {
    ColumnType.INT: 2**31 - 1,
    ColumnType.LONG: 2**63 - 1,
    ColumnType.DOUBLE: LARGEST_NUMBER,
}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Rule:
    """A column's check, prepared once: one comparison a number, one look-up a text."""

    name: str
    is_text: bool
    is_integer: bool
    low: float
    high: float
    allowed: frozenset[Any] | None
    expected: str


@dataclass(frozen=True, slots=True)
class RowSchema:
    """The features a model needs, and what each may hold.

    Args:
        columns: Their columns, in the model's order.
        rules: The prepared checks, one a column.
        row_type: What a checked row is.
    """

    columns: tuple[Column, ...]
    rules: tuple[Rule, ...]
    row_type: type[Struct]

    @classmethod
    def of(cls, settings: Settings, names: Iterable[str] | None = None) -> RowSchema:
        """The schema of the named features, by default of all that the home declares.

        Raises:
            ModelError: A name is no declared feature.
        """
        features = load_feature_set(settings.features_module)
        wanted = features.names if names is None else tuple(names)
        require_declared(wanted, features.names)
        columns = tuple(features.customer_features.column(name) for name in wanted)
        rules = tuple(_rule(column) for column in columns)
        return cls(columns, rules, row_type(rules))

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names."""
        return tuple(column.name for column in self.columns)

    def check(self, row: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Checks a row as JSON gives it (text, int, float, bool, None, list, dict).

        Returns:
            The row in the features' order and types, and what is wrong by field name; a row at fault must not be used.
        """
        clean: dict[str, Any] = {}
        faults: dict[str, str] = {}
        missing = 0
        for rule in self.rules:
            try:
                value = row[rule.name]
            except KeyError:
                missing += 1
                faults[rule.name] = f"is missing; expected {rule.expected}"
                continue
            if rule.is_text:
                fits = type(value) is str and is_encodable(value)
            elif type(value) is float:
                # Written so that NaN, which compares false with everything, does not fit either.
                fits = rule.low <= value <= rule.high and (not rule.is_integer or value.is_integer())
                value = int(value) if fits and rule.is_integer else value
            else:
                fits = type(value) is int and rule.low <= value <= rule.high
                value = float(value) if fits and not rule.is_integer else value
            if fits and (rule.allowed is None or value in rule.allowed):
                clean[rule.name] = value
            else:
                faults[rule.name] = f"is {_shown(value)}; expected {rule.expected}"
        if len(row) > len(self.rules) - missing:
            known = {rule.name for rule in self.rules}
            faults |= {name: "is no feature of this model" for name in row if name not in known}
        return clean, faults

    def example(self) -> dict[str, Any]:
        """A valid row, the same every time: for documentation and for trying a model before it is used."""
        return {column.name: _example(column, rule) for column, rule in zip(self.columns, self.rules, strict=True)}

    def describe(self) -> list[dict[str, Any]]:
        """Each feature's name, type, unit, meaning and limits, as plain data."""
        found = []
        for column, rule in zip(self.columns, self.rules, strict=True):
            facts: dict[str, Any] = {"name": column.name, "type": _type_name(column), "meaning": column.meaning}
            if column.unit is not None:
                facts["unit"] = column.unit
            if not rule.is_text:
                facts |= {"minimum": rule.low, "maximum": rule.high}
            if column.isin is not None:
                facts["allowed"] = list(column.isin)
            found.append(facts)
        return found


def require_declared(names: Iterable[str], declared: Collection[str]) -> None:
    """Refuses a model's features that the home does not declare (any more).

    Raises:
        ModelError: One is missing.
    """
    undeclared = [name for name in names if name not in declared]
    if undeclared:
        raise ModelError(
            f"the model needs {', '.join(undeclared)}, which no feature declares",
            expected="a model trained on the declared features",
            hint="set MLOPS_FEATURES_MODULE to the module that declares it, or train again with `mlops train`.",
        )


def _rule(column: Column) -> Rule:
    limit = _LIMITS.get(column.type, LARGEST_NUMBER)
    return Rule(
        name=column.name,
        is_text=column.type is ColumnType.STRING,
        is_integer=column.type in {ColumnType.INT, ColumnType.LONG},
        low=-limit if column.ge is None else column.ge,
        high=limit if column.le is None else column.le,
        allowed=None if column.isin is None else frozenset(column.isin),
        expected=_expected(column),
    )


def _type_name(column: Column) -> str:
    if column.type is ColumnType.STRING:
        return "string"
    return "integer" if column.type in {ColumnType.INT, ColumnType.LONG} else "number"


def _expected(column: Column) -> str:
    if column.isin is not None:
        return f"one of {', '.join(map(str, column.isin))}"
    words = {"string": "a text", "integer": "an integer", "number": "a finite number"}[_type_name(column)]
    if column.ge is not None and column.le is not None:
        words += f" from {column.ge:g} to {column.le:g}"
    elif column.ge is not None:
        words += f" of at least {column.ge:g}"
    elif column.le is not None:
        words += f" of at most {column.le:g}"
    return f"{words} [{column.unit}]" if column.unit else words


def _example(column: Column, rule: Rule) -> str | int | float:
    if column.isin is not None:
        return column.isin[0]
    if rule.is_text:
        return "unknown"
    if column.le is None:
        inside = (column.ge or 0) + 1
    else:
        inside = column.le if column.ge is None else (column.ge + column.le) / 2
    return int(inside) if rule.is_integer else float(inside)


def is_encodable(text: str) -> bool:
    """Whether the text is Unicode: JSON can write half a surrogate pair, which no file can hold."""
    if text.isascii():
        return True
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: Any) -> str:
    """The value as JSON names it, shortened."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    shown = ascii(value)
    return shown if len(shown) <= _SHOWN_CHARACTERS else shown[:_SHOWN_CHARACTERS] + "…"
