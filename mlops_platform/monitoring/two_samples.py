"""Statistics of two samples of one column: reading it, testing it, measuring how far apart the samples are.

Belongs here: functions of columns, counts and p-values, that know nothing of tables, thresholds' defaults or what is
decided. Does not belong here: the decision (`drift.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

# Cochran's rule: the chi² approximation holds when a cell is expected to hold 5 rows; rarer values are pooled.
MIN_EXPECTED = 5.0


@dataclass(frozen=True)
class Comparison:
    """A test of two samples.

    Args:
        statistic: The test's statistic.
        p_value: Its p-value, before any correction for other tests.
        effect: Effect size, 0 (alike) to 1.
    """

    statistic: float
    p_value: float
    effect: float


def read_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A numeric column as DOUBLE, with NaN and infinities made null (they have no place on the axis)."""
    numbers = column.cast(pa.float64(), safe=False)
    return pc.if_else(pc.is_finite(numbers), numbers, pa.scalar(None, pa.float64()))


def read_categories(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A categorical column with dictionaries decoded and NaN made null."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def compare_numbers(reference: pa.ChunkedArray, current: pa.ChunkedArray) -> Comparison:
    """Two-sample Kolmogorov-Smirnov test; the effect is the larger of its statistic and Cliff's delta.

    The statistic, the largest gap between the cumulative shares, sees any change of shape, but what a shift amounts to
    in it depends on the shape: 0.3 sd are 0.12 of a normal column and 0.09 of a uniform one. Cliff's delta (1993),
    |P(current > reference) − P(current < reference)|, is 0.17 for both, and 0 when only the spread changed.

    Args:
        reference: DOUBLE without nulls, at least two values.
        current: The same.

    Returns:
        The test with its asymptotic p-value: the exact one assumes no ties, which counts and ratios are full of, and
        costs seconds at 10,000 rows.
    """
    import numpy as np
    from scipy.stats import ks_2samp

    # Sorted once, for the test and for the ranks.
    before, after = (np.sort(side.to_numpy()) for side in (reference, current))
    test = ks_2samp(before, after, method="asymp")
    below, up_to = (np.searchsorted(before, after, side=side).mean() for side in ("left", "right"))
    delta = (below + up_to) / len(before) - 1
    return Comparison(float(test.statistic), float(test.pvalue), effect=max(float(test.statistic), abs(float(delta))))


def compare_categories(counts: npt.NDArray[np.float64]) -> Comparison:
    """Chi² test of homogeneity; the effect is Cramér's V (`cramers_v`).

    Args:
        counts: Shape (2, k), rows of each sample by value, as `contingency` returns them.

    Returns:
        The test, without Yates' correction: every cell is expected to hold enough rows.
    """
    from scipy.stats import chi2_contingency

    test = chi2_contingency(counts, correction=False)
    return Comparison(float(test.statistic), float(test.pvalue), cramers_v(counts))


def cramers_v(counts: npt.NDArray[np.float64]) -> float:
    """Cramér's V of a 2 × k table with both samples weighted equally, less its bias.

    V² = ½ Σ (p − q)² ÷ (p + q) − (k − 1) ÷ 4 × (1/n₁ + 1/n₂), floored at 0, where p and q are each sample's shares.
    The usual V shrinks when one sample is much larger: the same shift would count against 1,000 reference rows and not
    against 100,000. Total variation distance does not shrink but overlooks rare values: a share doubled from 10 % to
    20 % is 0.10 there and 0.14 here. The second term is what V² comes to on average when nothing changed, the
    correction of Bergsma (2013) for these weights.

    Args:
        counts: Shape (2, k), rows of each sample by value; no row and no column of zeros.

    Returns:
        Effect size from 0 to 1.
    """
    rows = counts.sum(axis=1)
    p, q = counts[0] / rows[0], counts[1] / rows[1]
    squared = 0.5 * ((p - q) ** 2 / (p + q)).sum()
    bias = (counts.shape[1] - 1) / 4 * (1 / rows[0] + 1 / rows[1])
    return float(max(squared - bias, 0.0) ** 0.5)


def contingency(reference: pa.ChunkedArray, current: pa.ChunkedArray) -> tuple[npt.NDArray[np.float64], float]:
    """Rows by value on both sides, most frequent value first; values too rare for a chi² test become one.

    Args:
        reference: Categories without nulls, at least one.
        current: The same. Values compare as text: the same number as INT and as LONG is one category.

    Returns:
        Counts of shape (2, k), and the share of all rows whose value was pooled (0 to 1).
    """
    import numpy as np

    by_value = [_count(reference), _count(current)]
    names = sorted(by_value[0].keys() | by_value[1].keys())
    counts = np.array([[side.get(name, 0) for name in names] for side in by_value], dtype=np.float64)
    counts = counts[:, np.argsort(-counts.sum(axis=0), kind="stable")]
    rows = counts.sum(axis=1)
    # Expected rows on the smaller side if both sides were alike.
    expected = counts.sum(axis=0) * rows.min() / rows.sum()
    common = int((expected >= MIN_EXPECTED).sum())
    if common == len(names) or len(names) == 1:
        return counts, 0.0
    kept, pooled = counts[:, :common], counts[:, common:].sum(axis=1, keepdims=True)
    if common and expected[common:].sum() < MIN_EXPECTED:
        kept[:, -1:] += pooled
    else:
        kept = np.hstack([kept, pooled])
    return kept, float(pooled.sum() / rows.sum())


def has_null_share_moved(reference: pa.ChunkedArray, current: pa.ChunkedArray, *, level: float, limit: float) -> bool:
    """Whether the share of nulls differs by at least `limit` (a difference of shares) and significantly at `level`."""
    from scipy.stats import chi2_contingency

    nulls = [[values.null_count, len(values) - values.null_count] for values in (reference, current)]
    moved = abs(nulls[0][0] / len(reference) - nulls[1][0] / len(current))
    # Equal shares first: a table without any null has an empty column, which SciPy refuses.
    return moved > 0 and moved >= limit and float(chi2_contingency(nulls, correction=False).pvalue) < level


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Which hypotheses Holm's step-down procedure (1979) rejects: as safe as Bonferroni and never weaker.

    The i-th smallest of m p-values is held against level ÷ (m − i + 1) until the first one fails.

    Args:
        p_values: One p-value a hypothesis.
        level: Family-wise significance level.

    Returns:
        One decision a p-value, in the same order.
    """
    rejected = [False] * len(p_values)
    for step, position in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[position] >= level / (len(p_values) - step):
            break
        rejected[position] = True
    return rejected


def _count(values: pa.ChunkedArray) -> dict[str, int]:
    # Counting before turning values into text: there are few distinct ones.
    counted = values.value_counts()
    names, counts = counted.field("values").cast(pa.string()), counted.field("counts")
    return dict(zip(names.to_pylist(), counts.to_pylist(), strict=True))
