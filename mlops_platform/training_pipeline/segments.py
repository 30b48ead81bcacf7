"""Held-out quality by segment: of which customers a model knows less, or whose probabilities are off.

Belongs here: the segments and their figures. Does not belong here: figures of all rows (`evaluation.py`), where a
column that is no feature comes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.features import UNKNOWN

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[Any]

MIN_ROWS = 50
"""A segment of fewer rows is shown, but not judged."""
MAX_SEGMENTS = 15
"""So many values of a column are told apart, those with the most rows; the others count together."""
_TENURE_FROM_DAYS = (90, 365, 730)
_TENURES = ("under 90 days", "90 to 364 days", "365 to 729 days", "730 days and more", UNKNOWN)


@dataclass(frozen=True, slots=True)
class SegmentMetrics:
    """Quality on one segment's rows.

    Args:
        column: What the segment is a value of: customer_segment, tenure or country.
        segment: The value.
        rows: Its rows.
        churn_rate: Share that churned; None, as all that follow: too few rows.
        mean_probability: Mean predicted probability.
        roc_auc: ROC-AUC; None also where one class occurs only.
    """

    column: str
    segment: str
    rows: int
    churn_rate: float | None = None
    mean_probability: float | None = None
    roc_auc: float | None = None

    @property
    def calibration_gap(self) -> float | None:
        """Mean probability minus churn rate: above 0, churn is overestimated."""
        if self.mean_probability is None or self.churn_rate is None:
            return None
        return self.mean_probability - self.churn_rate


def metrics_by_segment(rows: pa.Table, labels: Floats, probabilities: Floats) -> tuple[SegmentMetrics, ...]:
    """Quality by customer_segment, tenure band and country, as far as the rows have them.

    Args:
        rows: n rows; of the columns customer_segment, tenure_days and country, those that are there are used. A null is
            of the segment `unknown`.
        labels: 0 or 1, shape (n,).
        probabilities: Probability of 1, shape (n,).

    Returns:
        The segments that have rows: by column, tenure in its order, other columns from the largest segment down.
    """
    columns = {"customer_segment": _by_value, "tenure_days": _by_tenure, "country": _by_value}
    found: list[SegmentMetrics] = []
    for column, segments_of in columns.items():
        if column in rows.column_names:
            names, codes = segments_of(rows.column(column))
            name = "tenure" if column == "tenure_days" else column
            found += [
                _metrics(name, segment, labels[codes == code], probabilities[codes == code])
                for code, segment in enumerate(names)
                if (codes == code).any()
            ]
    return tuple(found)


def _by_value(column: pa.ChunkedArray) -> tuple[list[str], Floats]:
    """Names of the segments, largest first, and each row's place among them."""
    import numpy as np
    import pyarrow.compute as pc

    encoded = pc.fill_null(column, UNKNOWN).combine_chunks().dictionary_encode()
    values, codes = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    counts = np.bincount(codes, minlength=len(values))
    order = sorted(range(len(values)), key=lambda code: (-counts[code], values[code]))
    places = np.empty(len(values), dtype=int)
    places[order] = np.arange(len(values))
    names = [values[code] for code in order]
    if len(names) <= MAX_SEGMENTS:
        return names, places[codes]
    others = f"{len(names) - MAX_SEGMENTS} others"
    return [*names[:MAX_SEGMENTS], others], np.minimum(places[codes], MAX_SEGMENTS)


def _by_tenure(column: pa.ChunkedArray) -> tuple[tuple[str, ...], Floats]:
    import numpy as np

    days = column.to_numpy().astype(np.float64)
    bands = np.searchsorted(_TENURE_FROM_DAYS, days, side="right")
    return _TENURES, np.where(np.isnan(days), len(_TENURES) - 1, bands)


def _metrics(column: str, segment: str, labels: Floats, probabilities: Floats) -> SegmentMetrics:
    from sklearn.metrics import roc_auc_score

    if len(labels) < MIN_ROWS:
        return SegmentMetrics(column, segment, len(labels))
    churn_rate = float(labels.mean())
    return SegmentMetrics(
        column,
        segment,
        len(labels),
        churn_rate,
        float(probabilities.mean()),
        float(roc_auc_score(labels, probabilities)) if 0 < churn_rate < 1 else None,
    )
