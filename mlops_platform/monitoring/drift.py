"""Whether the data being scored still looks like the data the model was trained on.

Belongs here: the decision, as a pure function of two Arrow tables. Does not belong here: the statistics of one column
(`two_samples.py`), drawing the report (`report.py`), storing results, alerting.

A column drifts when the difference is both real and large enough to matter:
    numeric      two-sample Kolmogorov-Smirnov test; effect = the larger of the KS statistic (largest gap between the
                 two cumulative shares) and Cliff's delta (how much more often one side's value is the larger)
    categorical  chi² test of homogeneity; effect = Cramér's V (see `cramers_v`)
    decision     significant after Holm's correction at the family-wise level `drift_threshold`, AND effect ≥
                 `effect_limit`. Significance alone flags differences nobody cares about once there are a million rows;
                 effect alone flags noise when there are few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

import pyarrow as pa

from mlops_platform.errors import InputError
from mlops_platform.monitoring.two_samples import (
    Comparison,
    compare_categories,
    compare_numbers,
    contingency,
    has_null_share_moved,
    holm,
    read_categories,
    read_numbers,
)

Kind = Literal["numeric", "categorical"]
Status = Literal["ok", "drift", "insufficient_data"]

METHODS: Mapping[Kind, str] = {"numeric": "ks_2samp", "categorical": "chi2_contingency"}

# A categorical column is refused when more than this share of its rows had to be pooled: the test would not see them.
_MAX_POOLED_SHARE = 0.5


@dataclass(frozen=True)
class ColumnDrift:
    """What was found in one column.

    Args:
        column: Its name.
        kind: How it was compared.
        method: The SciPy test, one of `METHODS`.
        statistic: The test's statistic; None when the column could not be compared (`DriftResult.problems` says why).
        p_value: The test's p-value before correction, or None.
        effect: Effect size, 0 (alike) to 1, or None.
        drifted: Significant after correction and at least as large as the effect limit.
    """

    column: str
    kind: Kind
    method: str
    statistic: float | None = None
    p_value: float | None = None
    effect: float | None = None
    drifted: bool = False


@dataclass(frozen=True)
class DriftResult:
    """The decision for a whole table.

    Args:
        status: `drift`: at least one column drifted. `insufficient_data`: none was seen to drift, but too few rows, or
            `problems`, stand against calling it `ok`. `ok`: every column was compared and none drifted.
        drift_detected: Whether status is `drift`.
        columns: One entry for each column asked for, in the order asked.
        reference_rows: Rows compared against.
        current_rows: Rows compared.
        problems: Findings about schema, nulls and row counts, each naming its column. Plain text: nothing is escaped.
        drift_threshold: Family-wise significance level the decision used.
        effect_limit: Smallest effect that counts as drift.
    """

    status: Status
    drift_detected: bool
    columns: tuple[ColumnDrift, ...]
    reference_rows: int
    current_rows: int
    problems: tuple[str, ...]
    drift_threshold: float
    effect_limit: float

    @property
    def drifted(self) -> tuple[str, ...]:
        """Names of the columns that drifted, in the order asked."""
        return tuple(column.column for column in self.columns if column.drifted)


def kind_of(found: pa.DataType) -> Kind | None:
    """How a column of a type is compared where nothing else says: numbers as such, texts and truth values by value.

    None: not at all, such as dates.
    """
    if pa.types.is_dictionary(found):
        return kind_of(found.value_type)
    if pa.types.is_boolean(found) or pa.types.is_null(found):
        return "categorical"
    if _is_number(found):
        return "numeric"
    return "categorical" if _is_category(found) and not pa.types.is_temporal(found) else None


def detect_drift(
    reference: pa.Table,
    current: pa.Table,
    *,
    columns: Mapping[str, Kind],
    drift_threshold: float = 0.05,
    effect_limit: float = 0.1,
    min_rows: int = 100,
) -> DriftResult:
    """Decide whether `current` has drifted away from `reference`.

    Schema, row counts and null shares come first. A column that is missing, of the wrong type, or has fewer than
    `min_rows` values on either side is not compared. Null, NaN and infinite values count as null. A null share that
    moved by at least `effect_limit`, significantly at drift_threshold ÷ number of columns, is a problem of its own: the
    tests see only the values that are there.

    Args:
        reference: Rows the model was trained on; at least the columns asked for.
        current: Rows scored since.
        columns: Column → how to compare it. Order is kept.
        drift_threshold: Family-wise significance level, between 0 and 1: the chance that any column is called
            significant when nothing changed.
        effect_limit: Smallest effect that counts, 0 to 1.
        min_rows: Fewest values on each side, at least 2. With 100 rows and 25 columns a shift has to reach 0.5 sd to be
            seen at all, and the KS statistic of unchanged data is already near the effect limit; below that, "ok" would
            say nothing.

    Returns:
        The decision, with one entry for each column.

    Raises:
        InputError: An argument is out of range, or no column is asked for.
    """
    _check_arguments(columns, drift_threshold, effect_limit, min_rows)
    rules = _Rules(drift_threshold / len(columns), effect_limit, min_rows)
    problems = [
        f"{side} has {table.num_rows} rows, fewer than the {min_rows} needed"
        for side, table in (("reference", reference), ("current", current))
        if table.num_rows < min_rows
    ]
    has_rows = not problems
    found: list[ColumnDrift] = []
    for name, kind in columns.items():
        issues = _schema_issues("reference", reference, name, kind) + _schema_issues("current", current, name, kind)
        comparison = None
        if has_rows and not issues:
            comparison, issues = _compare(reference[name], current[name], kind, rules)
        found.append(ColumnDrift(name, kind, METHODS[kind], **(vars(comparison) if comparison else {})))
        problems += [f"column {name!r}: {issue}" for issue in issues]

    decided = _decide(found, drift_threshold, effect_limit)
    is_drift = any(column.drifted for column in decided)
    return DriftResult(
        status="drift" if is_drift else "insufficient_data" if problems else "ok",
        drift_detected=is_drift,
        columns=decided,
        reference_rows=reference.num_rows,
        current_rows=current.num_rows,
        problems=tuple(problems),
        drift_threshold=drift_threshold,
        effect_limit=effect_limit,
    )


@dataclass(frozen=True)
class _Rules:
    """What a column is held against: significance level of its null share, smallest change, fewest values."""

    level: float
    limit: float
    min_rows: int


def _check_arguments(columns: Mapping[str, Kind], drift_threshold: float, effect_limit: float, min_rows: int) -> None:
    if not columns:
        raise InputError("No column to compare", expected="at least one column and its kind")
    for name, kind in columns.items():
        if kind not in get_args(Kind):
            raise InputError(f"Column {name!r} has kind {kind!r}", expected="numeric or categorical")
    if not 0 < drift_threshold < 1:
        raise InputError(f"drift_threshold is {drift_threshold}", expected="a significance level between 0 and 1")
    if not 0 <= effect_limit <= 1:
        raise InputError(f"effect_limit is {effect_limit}", expected="an effect size from 0 to 1")
    if min_rows < 2:
        raise InputError(f"min_rows is {min_rows}", expected="2 or more")


def _schema_issues(side: str, table: pa.Table, name: str, kind: Kind) -> list[str]:
    places = table.schema.get_all_field_indices(name)
    if len(places) != 1:
        return [f"stands {len(places)} times in {side}" if places else f"missing in {side}"]
    found = table.schema.field(places[0]).type
    if (_is_number(found) if kind == "numeric" else _is_category(found)) or pa.types.is_null(found):
        return []
    return [f"is {found} in {side}, which can't be compared as {kind}"]


def _is_number(found: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(found) for test in tests)


def _is_category(found: pa.DataType) -> bool:
    if pa.types.is_dictionary(found):
        return _is_category(found.value_type)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_temporal, _is_number)
    return any(test(found) for test in tests)


def _compare(
    reference: pa.ChunkedArray, current: pa.ChunkedArray, kind: Kind, rules: _Rules
) -> tuple[Comparison | None, list[str]]:
    """One column's null shares, then its test; None and the reason where the test would mean nothing."""
    read = read_numbers if kind == "numeric" else read_categories
    sides = {"reference": read(reference), "current": read(current)}
    present = {side: len(values) - values.null_count for side, values in sides.items()}
    issues = [
        f"{count} of {len(sides[side])} rows of {side} hold a value, fewer than the {rules.min_rows} needed"
        for side, count in present.items()
        if count < rules.min_rows
    ]
    if issues:
        return None, issues
    if has_null_share_moved(sides["reference"], sides["current"], level=rules.level, limit=rules.limit):
        shares = [f"{values.null_count / len(values):.1%} in {side}" for side, values in sides.items()]
        issues.append(f"null share is {shares[0]}, {shares[1]}")
    if kind == "numeric":
        return compare_numbers(sides["reference"].drop_null(), sides["current"].drop_null()), issues
    counts, pooled_share = contingency(sides["reference"].drop_null(), sides["current"].drop_null())
    if pooled_share > _MAX_POOLED_SHARE:
        return None, [*issues, f"{pooled_share:.0%} of the rows hold values too rare to compare"]
    return compare_categories(counts), issues


def _decide(found: Iterable[ColumnDrift], drift_threshold: float, effect_limit: float) -> tuple[ColumnDrift, ...]:
    tested = {column.column: column.p_value for column in found if column.p_value is not None}
    significant = dict(zip(tested, holm(list(tested.values()), drift_threshold), strict=True))
    return tuple(
        replace(
            column,
            drifted=significant.get(column.column, False)
            and column.effect is not None
            and column.effect >= effect_limit,
        )
        for column in found
    )
