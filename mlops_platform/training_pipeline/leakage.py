"""Leakage: a column that alone all but tells who churned comes from after the feature_date, and is refused.

Declared features can't leak: they are computed from transactions up to their feature_date. Columns of a query or a file
can. The best known churn features reach a ROC-AUC of .9 alone; a copy of the label or the days until the next purchase
reach 1. Does not belong here: what a leak of another kind shows in (the gate compares on rows later in time).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError
from mlops_platform.training_pipeline.evaluation import interval_rows, roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

LARGEST_AUC = 0.99
# Below so many rows of a class chance makes columns that tell them apart.
MIN_ROWS = 50


def require_no_leak(rows: pa.Table, names: Sequence[str]) -> None:
    """Refuses rows with a column that tells the label.

    Args:
        rows: Features and `churned`, each row once; of more than 20,000 a seeded sample is looked at.
        names: The features.

    Raises:
        InputError: There is one: its name, and how well it tells.
    """
    sample = rows.take(interval_rows(rows.num_rows))
    churned = sample.column(TARGET).to_numpy().astype(bool)
    if min(churned.sum(), (~churned).sum()) < MIN_ROWS:
        return
    leaks = {name: auc for name in names if (auc := _alone(sample.column(name), churned)) > LARGEST_AUC}
    if leaks:
        found = ", ".join(f"{name} (ROC-AUC {auc:.4f})" for name, auc in leaks.items())
        raise InputError(
            f"alone, these columns all but tell who churned: {found}",
            expected="columns known at the end of the feature_date",
            hint="leave out what is known only later, such as the next purchase or a closed account.",
        )


def _alone(column: pa.ChunkedArray, churned: NDArray[Any]) -> float:
    """ROC-AUC of a column alone, or of where it is missing; of numbers in whichever direction is better."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    values = column.combine_chunks()
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    missing = values.is_null().to_numpy(zero_copy_only=False).astype(float)
    areas = [roc_auc(churned, missing)]
    if any(is_kind(values.type) for is_kind in kinds):
        # A rate of the other rows is lower for a row that churned where the text tells nothing: one direction only.
        return max(*areas, 1.0 - areas[0], roc_auc(churned, _rates(values, churned)))
    numbers = pc.cast(values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    known = numbers[~np.isnan(numbers)]
    filled = np.where(np.isnan(numbers), np.median(known) if known.size else 0.0, numbers)
    areas.append(roc_auc(churned, filled))
    return max(*areas, *(1.0 - area for area in areas))


def _rates(texts: pa.Array, churned: NDArray[Any]) -> NDArray[Any]:
    """For each row the churn rate of the other rows with its text, so that a text of one row tells nothing."""
    import numpy as np
    import pyarrow.compute as pc

    codes = pc.fill_null(texts, "").dictionary_encode().indices.to_numpy()
    rows, churners = np.bincount(codes), np.bincount(codes, weights=churned)
    others = rows[codes] - 1
    rates: NDArray[Any] = np.where(others > 0, (churners[codes] - churned) / np.maximum(others, 1), churned.mean())
    return rates
