"""What a list of feature declarations must be, and how a fault in one is said.

Belongs here: everything a declaration's own fields can tell. Does not belong here: what a `Derived` expression refers
to, which only compiling it shows (`feature_pipeline/record.py`).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from mlops_platform.contracts.features import FLAGS, LABELS, MEASURES, Aggregate, Derived, Feature, MostFrequent, Score
from mlops_platform.contracts.ml import TARGET
from mlops_platform.contracts.table import Column, ColumnType
from mlops_platform.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

INT, DOUBLE, STRING = ColumnType.INT, ColumnType.DOUBLE, ColumnType.STRING

BOOKKEEPING = (
    Column("_feature_version", STRING, "Version of the feature definitions"),
    Column("_created_at", ColumnType.TIMESTAMP, "When the row was written"),
    Column("_feature_hash", STRING, "Hash of the row's key and values"),
)
# Columns that stand beside the features in some table or report.
_TAKEN = {
    "date",  # of the pairs of a point-in-time read
    "customer_id", "feature_date", "split", TARGET, "churn_probability", *(column.name for column in BOOKKEEPING),
}  # fmt: skip
# SQL's names are case-insensitive, and Athena's are lower case.
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_PYTHON_TYPES: dict[ColumnType, type] = {INT: int, STRING: str}
_WHOLE_NUMBERS = {"count", "days", "first", "last"}
_SOURCES: dict[str, tuple[str, ...]] = {"count": ("amount", *FLAGS), "share": FLAGS, "sum": ("amount", "cents")}


def require_valid(features: Iterable[Feature]) -> None:
    """Checks declarations, each against those before it.

    Raises:
        InputError: One is at fault; the message names it, and what there is to choose from.
    """
    known: dict[str, ColumnType] = dict.fromkeys(MEASURES, INT)
    for feature in features:
        _require_name(feature.name, known)
        _require_column(feature.column)
        match feature.how:
            case Aggregate():
                _require_aggregate(feature.column, feature.how)
            case MostFrequent():
                _require_most_frequent(feature.column, feature.how)
            case Score():
                _require_score(feature.column, feature.how, known)
            case Derived():
                if not callable(feature.how.expression):
                    raise _fault(feature.column, "has an expression that can't be called", "such as lambda t: t.x + 1")
            case _:
                kinds = "Aggregate(…), MostFrequent(…), Score(…) or Derived(…)"
                raise _fault(feature.column, f"is computed by {feature.how!r}", kinds)
        known[feature.name] = feature.column.type


def _fault(column: Column, problem: str, expected: str) -> InputError:
    return InputError(f"feature {column.name} {problem}", expected=expected)


def _require_name(name: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        expected = "lower case letters, digits and _, a letter first; names that begin with _ are the platform's own"
        raise InputError(f"{name!r} is no name of a feature", expected=expected)
    if name in known:
        raise InputError(f"feature {name} is declared twice", expected="one declaration a name")
    if name in _TAKEN:
        raise InputError(f"{name} can't be a feature: it is a column of the tables already", expected="another name")


def _require_column(column: Column) -> None:
    if column.type not in {INT, DOUBLE, STRING}:
        raise _fault(column, f"has the type {column.type}", "ColumnType.INT, ColumnType.DOUBLE or ColumnType.STRING")
    if column.nullable:
        raise _fault(column, "is nullable", "a value for every customer, such as 0 for one without purchases")
    if column.type is STRING and (column.ge is not None or column.le is not None):
        raise _fault(column, "is a text with bounds", "isin=(…), or nothing")
    if column.ge is not None and column.le is not None and column.ge > column.le:
        raise _fault(column, f"allows values from {column.ge:g} to {column.le:g}", "bounds that some value keeps")
    if column.isin is not None and not column.isin:
        raise _fault(column, "allows no value at all", "isin=(…) with its values, or none")


def _require_window(column: Column, days: Any, *, may_be_all: bool) -> None:
    if days is None and may_be_all:
        return
    if not isinstance(days, int) or isinstance(days, bool) or days < 1:
        expected = "window_days of 1 or more" + (", or None for all history" if may_be_all else "")
        raise _fault(column, f"has a window of {days} days", expected)


def _require_aggregate(column: Column, how: Aggregate) -> None:
    functions = get_args(get_type_hints(Aggregate)["function"])
    if how.function not in functions:
        raise _fault(column, f"asks for the aggregate {how.function!r}", f"one of {', '.join(functions)}")
    _require_window(column, how.window_days, may_be_all=True)
    sources = _SOURCES.get(how.function, ("amount",))
    if how.source not in sources:
        raise _fault(column, f"asks for the {how.function} of {how.source!r}", f"source={_one_of(sources)}")
    is_whole = how.function in _WHOLE_NUMBERS or how.source == "cents"
    # Engines turn a fraction into an integer in different ways: some round, some cut.
    allowed = (INT, DOUBLE) if is_whole else (DOUBLE,)
    if column.type not in allowed:
        types = " or ".join(f"ColumnType.{each.name}" for each in allowed)
        raise _fault(column, f"has the type {column.type} for the aggregate {how.function}", types)


def _require_most_frequent(column: Column, how: MostFrequent) -> None:
    if how.source not in LABELS:
        raise _fault(column, f"asks for the most frequent {how.source!r}", f"source={_one_of(LABELS)}")
    _require_window(column, how.window_days, may_be_all=False)
    if column.type is not LABELS[how.source]:
        raise _fault(
            column, f"has the type {column.type}, but {how.source} is another", f"ColumnType.{LABELS[how.source].name}"
        )
    wanted = _PYTHON_TYPES[column.type]
    if type(how.default) is not wanted:
        raise _fault(column, f"has the default {how.default!r}", f"a default of its type, {wanted.__name__}")


def _require_score(column: Column, how: Score, known: Mapping[str, ColumnType]) -> None:
    if column.type is not INT:
        raise _fault(column, f"has the type {column.type}, but is a score", "ColumnType.INT")
    whole = [name for name, kind in known.items() if kind is INT]
    if how.of not in known:
        problem = f"is a score of {how.of!r}, which is no feature or measure before it"
        raise _fault(column, problem, f"one of {', '.join(whole)}")
    if how.of not in whole:
        raise _fault(column, f"is a score of {how.of}, which is no whole number", f"one of {', '.join(whole)}")


def _one_of(names: Iterable[str]) -> str:
    return " or ".join(f'"{name}"' for name in names)
