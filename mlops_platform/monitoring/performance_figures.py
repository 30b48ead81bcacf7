"""Figures of scored rows that carry some weight of each class: accuracy, F1, ROC-AUC, Brier score, and intervals.

A row with a label weighs 1 in its class. One without weighs its probability in the churned class and the rest in the
other: that gives the figures to be expected. Sums are sums of integers, so that equal rows give equal bits in whatever
order DuckDB adds them up, and rows never come into Python. Does not belong here: where rows and labels come from.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.ml import ALL_SEGMENTS

if TYPE_CHECKING:
    import duckdb

Bounds = tuple[float, float] | None

_Z = 1.96
# Weights of expected classes are counted in 1e-9, squares of the Brier score in 1e-15. The widest integer, 1.7e38,
# holds the largest sum of 10 million rows a million times: pairs of expected weights, at most 2 (10^7 · 10^9)² / 4.
_PROBABILITY_UNITS, _SQUARE_UNITS = 10**9, 10**15

_MEASURED = f"""churned::BIGINT AS positive, (1 - churned)::BIGINT AS negative,
    round(power(churn_probability - churned, 2) * {_SQUARE_UNITS})::BIGINT AS square"""
# Where probabilities are calibrated, a share p of the rows with probability p churns. So Σ p over the rows predicted to
# churn is the expected number of true positives, and likewise for the other cells of the confusion matrix:
# confidence-based performance estimation (CBPE), NannyML's documentation, "How it works: Estimation of performance".
# That the accuracy so expected is unbiased: Kivimäki, Białek, Nurminen & Kuberski, "Confidence-based Estimators for
# Predictive Performance in Model Monitoring", arXiv 2407.08649.
_EXPECTED = f"""round(churn_probability * {_PROBABILITY_UNITS})::BIGINT AS positive,
    {_PROBABILITY_UNITS} - positive AS negative,
    round(churn_probability * (1 - churn_probability) * {_SQUARE_UNITS})::BIGINT AS square"""

_TOTALS = """SELECT model_name, model_version, CASE grouping(segment) WHEN 0 THEN segment END AS part, count(*),
    sum(positive), sum(negative), coalesce(sum(positive) FILTER (prediction = 1), 0),
    coalesce(sum(negative) FILTER (prediction = 0), 0), sum(square)
FROM weighed GROUP BY GROUPING SETS ((model_name, model_version), (model_name, model_version, segment))
ORDER BY model_name, model_version, part NULLS FIRST"""
# One part at a time: what has to be sorted is the different scores of that part and nothing else.
_RANKS = """WITH by_score AS (
    SELECT churn_probability AS score, sum(positive)::BIGINT AS positive, sum(negative)::BIGINT AS negative
    FROM weighed WHERE model_name = $name AND model_version = $version AND segment = coalesce($part, segment)
    GROUP BY score
), ranked AS (
    SELECT positive, negative, 2 * sum(negative) OVER scores - negative AS below,
        2 * ($positive::HUGEINT - sum(positive) OVER scores) + positive AS above
    FROM by_score WINDOW scores AS (ORDER BY score)
)
SELECT sum(positive * below), {spread} FROM ranked"""
# Squares of expected weights would not fit into 128 bits, and nobody needs them.
_SPREAD = {False: "sum(positive * below * below), sum(negative * above * above)", True: "NULL, NULL"}


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over the scored rows of one model version and segment, in units of one row's weight.

    Args:
        rows: Their number.
        positive: Weight of the churned class.
        negative: Weight of the other.
        true_positive: Churned weight that was predicted to churn.
        true_negative: Other weight that was predicted to stay.
        squares: (probability − label)², in 1e-15.
        ordered: Twice Σ positive · (negative below it + half of that at the same score).
        squares_below: Over churned rows, (2 · negative rows below)²; None for an estimate.
        squares_above: Over other rows, (2 · positive rows above)²; None for an estimate.
    """

    rows: int
    positive: int
    negative: int
    true_positive: int
    true_negative: int
    squares: int
    ordered: int
    squares_below: int | None = None
    squares_above: int | None = None


def sums(duck: duckdb.DuckDBPyConnection, rows: str, *, is_estimate: bool) -> list[tuple[str, str, str, Sums]]:
    """Sums by model version over all segments, and by segment.

    Args:
        duck: A session.
        rows: A table with model_name, model_version, segment, churn_probability, prediction, and but for an estimate
            churned.
        is_estimate: Rows weigh what their probabilities say.

    Returns:
        Model name, version, segment, sums.
    """
    weights = _EXPECTED if is_estimate else _MEASURED
    duck.execute(f"CREATE OR REPLACE TEMP VIEW weighed AS SELECT *, {weights} FROM {rows}")
    found = []
    for name, version, part, *cells in duck.execute(_TOTALS).fetchall():
        which = {"name": name, "version": version, "part": part, "positive": cells[1]}
        [ranks] = duck.execute(_RANKS.format(spread=_SPREAD[is_estimate]), which).fetchall()
        found.append((name, version, ALL_SEGMENTS if part is None else part, Sums(*cells, *ranks)))
    return found


def figures(found: Sums, *, is_estimate: bool) -> dict[str, Any]:
    """The columns of monitoring.performance that sums determine.

    The expected ROC-AUC is the area under the curve of expected true and false positive rates (NannyML,
    "Estimation of performance"): Σ p(i) (1 − p(j)) over pairs in order ÷ (Σ p · Σ (1 − p)).

    Args:
        found: Sums of at least one row.
        is_estimate: Whether the weights are expected ones; their figures get no intervals, for what makes an estimate
            wrong (probabilities that are not calibrated on today's customers) is in none.
    """
    total = found.positive + found.negative
    right = found.true_positive + found.true_negative
    # Rows that are churned, predicted to churn, or both: F1 = 2 true positives ÷ (true positives + these).
    either = total - found.true_negative
    accuracy_bounds = None if is_estimate else wilson(right, total)
    f1_bounds = None if is_estimate else _f1_bounds(found.true_positive, either)
    auc_bounds = None if is_estimate else roc_auc_bounds(found)
    return {
        "rows": found.rows,
        "churn_rate": found.positive / total,
        "accuracy": right / total,
        "f1": 2 * found.true_positive / (found.true_positive + either) if either else 0.0,
        "roc_auc": roc_auc(found),
        "brier": found.squares / (_SQUARE_UNITS * found.rows),
        **_pair("accuracy", accuracy_bounds),
        **_pair("f1", f1_bounds),
        **_pair("roc_auc", auc_bounds),
    }


def roc_auc(found: Sums) -> float | None:
    """ROC-AUC by ranks (Mann–Whitney); None when only one class occurs."""
    pairs = found.positive * found.negative
    return found.ordered / (2 * pairs) if pairs else None


def roc_auc_bounds(found: Sums) -> Bounds:
    """DeLong's 95 % interval of the ROC-AUC of labelled rows, by mid-ranks (Sun & Xu 2014, as `auc_difference`).

    Returns:
        Bounds within 0 … 1; None with fewer than two rows of a class, or without any variance, which is when all pairs
        stand in order or all scores are equal: the sample then says nothing of how far off it is.
    """
    m, n = found.positive, found.negative
    if min(m, n) < 2 or found.squares_below is None or found.squares_above is None:
        return None
    # m² times the variance of (2 · negatives below) over the churned rows, and likewise for the others: integers.
    of_positives = m * found.squares_below - found.ordered**2
    of_negatives = n * found.squares_above - found.ordered**2
    variance = of_positives / (4 * m**2 * n**2 * (m - 1)) + of_negatives / (4 * m**2 * n**2 * (n - 1))
    if not variance:
        return None
    auc, reach = found.ordered / (2 * m * n), _Z * sqrt(variance)
    return max(auc - reach, 0.0), min(auc + reach, 1.0)


def wilson(hits: int, total: int) -> Bounds:
    """The 95 % score interval of a proportion (Wilson 1927); None of nothing."""
    if not total:
        return None
    share, square = hits / total, _Z**2
    center = (share + square / (2 * total)) / (1 + square / total)
    reach = _Z / (1 + square / total) * sqrt(share * (1 - share) / total + square / (4 * total**2))
    # At a share of 0 or 1 the bound is that share, which floating point may miss by its last bit.
    return (0.0 if hits == 0 else center - reach), (1.0 if hits == total else center + reach)


def _f1_bounds(hits: int, either: int) -> Bounds:
    """Of F1 = 2s ÷ (1 + s) where s is the share of true positives among rows that churned or were predicted to.

    Given their number, true positives are binomial, and F1 grows with s: the indirect Wilson interval of Lam, Gopal &
    Qian, "Confidence Intervals for the F1 Score: A Comparison of Four Methods", arXiv 2309.14621, 2023.
    """
    bounds = wilson(hits, either)
    return None if bounds is None else (2 * bounds[0] / (1 + bounds[0]), 2 * bounds[1] / (1 + bounds[1]))


def _pair(name: str, bounds: Bounds) -> dict[str, float | None]:
    lower, upper = bounds if bounds is not None else (None, None)
    return {f"{name}_lower": lower, f"{name}_upper": upper}
