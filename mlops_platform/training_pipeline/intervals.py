"""Bootstrap intervals of held-out metrics, and how far probabilities are from the rates seen (calibration error).

Belongs here: what a person needs to read a metric as an estimate. Does not belong here: the metrics themselves and the
interval of a difference (`evaluation.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import NotEnoughDataError
from mlops_platform.training_pipeline.evaluation import interval_rows
from mlops_platform.training_pipeline.models import RANDOM_STATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

RESAMPLES = 400
BINS = 10
# 20,000 rows × 25 resamples of 8 bytes: an array of weights takes 4 MB.
_TOGETHER = 25


def bootstrap_intervals(
    labels: Floats, probabilities: Floats, threshold: float, *, resamples: int = RESAMPLES
) -> dict[str, float]:
    """95 % percentile intervals of the metrics of `evaluate`, by the bootstrap over rows (Efron 1979).

    Of more than 20,000 rows a seeded sample stands for all: its intervals are those of 20,000 rows. A resample without
    one of the classes has no ROC-AUC and counts for no metric.

    Args:
        labels: 0 or 1, shape (n,), both present.
        probabilities: Probability of 1, shape (n,).
        threshold: A row is predicted 1 at or above it.
        resamples: Resamples drawn.

    Returns:
        `{metric}_lower` and `{metric}_upper` for roc_auc, pr_auc, accuracy, precision, recall, f1, brier and log_loss.

    Raises:
        NotEnoughDataError: No resample holds both classes.
    """
    import numpy as np

    sample = interval_rows(len(labels))
    labels, probabilities = np.asarray(labels)[sample], np.asarray(probabilities)[sample]
    rows, generator = len(labels), np.random.default_rng(RANDOM_STATE)
    found: list[dict[str, Floats]] = []
    for start in range(0, resamples, _TOGETHER):
        weights = np.stack(
            [
                np.bincount(generator.integers(0, rows, rows), minlength=rows)
                for _ in range(min(_TOGETHER, resamples - start))
            ]
        )
        with_both = (weights @ labels > 0) & (weights @ (1 - labels) > 0)
        found.append(weighted_metrics(labels, probabilities, threshold, weights[with_both]))
    drawn = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    if not drawn["roc_auc"].size:
        raise NotEnoughDataError(
            f"none of {resamples} resamples of {rows} rows holds both classes",
            expected="customers that churned and customers that stayed",
        )
    bounds = {name: np.quantile(values, [0.025, 0.975]) for name, values in drawn.items()}
    return {
        f"{name}_{side}": float(pair[place])
        for name, pair in bounds.items()
        for place, side in enumerate(("lower", "upper"))
    }


def weighted_metrics(labels: Floats, probabilities: Floats, threshold: float, weights: Floats) -> dict[str, Floats]:
    """Metrics of the same rows under several weightings at once; scikit-learn's, with its `sample_weight`.

    Args:
        labels: 0 or 1, shape (n,).
        probabilities: Probability of 1, shape (n,).
        threshold: A row is predicted 1 at or above it.
        weights: Shape (k, n), not negative; each gives both classes some weight.

    Returns:
        Metric name to k values.
    """
    import numpy as np

    labels, scores = labels.astype(np.float64), probabilities.astype(np.float64)
    weights = weights.astype(np.float64)
    predicted = (probabilities >= threshold).astype(np.float64)
    # As scikit-learn clips: by the precision the probabilities came in.
    edge = np.finfo(probabilities.dtype).eps
    likely = np.clip(scores, edge, 1 - edge)
    loss = -np.log(np.where(labels == 1, likely, 1 - likely))
    columns = np.column_stack(
        [np.ones_like(scores), labels, predicted, labels * predicted, (scores - labels) ** 2, loss]
    )
    total, churned, flagged, hits, squares, losses = (weights @ columns).T
    roc_auc, pr_auc = _areas(labels, scores, weights)
    return {
        "roc_auc": roc_auc,
        "pr_auc": pr_auc,
        "accuracy": (total - churned - flagged + 2 * hits) / total,
        "precision": np.divide(hits, flagged, out=np.zeros_like(hits), where=flagged > 0),
        "recall": hits / churned,
        "f1": 2 * hits / (flagged + churned),
        "brier": squares / total,
        "log_loss": losses / total,
    }


def _areas(labels: Floats, scores: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """ROC-AUC, and PR-AUC as the average precision Σ (recallᵢ − recallᵢ₋₁) precisionᵢ, each of shape (k,).

    Rows of one score stand or fall together: a tie of a churned row and one that stayed counts ½.
    """
    import numpy as np

    order = np.argsort(-scores, kind="stable")
    descending = scores[order]
    starts = np.flatnonzero(np.r_[True, descending[1:] != descending[:-1]])
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * labels[order], starts, axis=1)
    everyone = np.add.reduceat(ordered, starts, axis=1)
    above = np.cumsum(everyone, axis=1)
    hits = np.cumsum(positives, axis=1)
    precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
    churned = hits[:, -1]
    stayed = above[:, -1] - churned
    negatives = everyone - positives
    # Of each positive: the negatives below its score, and half of those at it.
    beaten = stayed[:, None] - (above - hits) + negatives / 2
    return (positives * beaten).sum(axis=1) / (churned * stayed), (positives * precision).sum(axis=1) / churned


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Probabilities beside what happened, in bins of equal width over 0 … 1; empty bins are left out.

    Args:
        rows: Rows in each bin, shape (b,).
        mean_probability: Shape (b,).
        churn_rate: Shape (b,).
    """

    rows: Floats
    mean_probability: Floats
    churn_rate: Floats


def reliability(labels: Floats, probabilities: Floats, bins: int = BINS) -> Reliability:
    """Rows by probability: bin i of b holds i/b ≤ p < (i + 1)/b, the last one also p = 1.

    Args:
        labels: 0 or 1, shape (n,), n ≥ 1.
        probabilities: Probability of 1, shape (n,).
        bins: b.
    """
    import numpy as np

    at = np.minimum((probabilities * bins).astype(int), bins - 1)
    rows = np.bincount(at, minlength=bins)
    filled = rows > 0
    sums = (np.bincount(at, weights=values, minlength=bins)[filled] for values in (probabilities, labels))
    mean_probability, churn_rate = (total / rows[filled] for total in sums)
    return Reliability(rows[filled], mean_probability, churn_rate)


def ece(labels: Floats, probabilities: Floats, bins: int = BINS) -> float:
    """Expected calibration error: the gap between mean probability and churn rate, averaged over the rows' bins.

    Σ_b (rows_b / n) · |churn rate_b − mean probability_b|, bins of equal width: Naeini, Cooper & Hauskrecht, "Obtaining
    Well Calibrated Probabilities Using Bayesian Binning", AAAI 2015.

    Args:
        labels: 0 or 1, shape (n,), n ≥ 1.
        probabilities: Probability of 1, shape (n,).
        bins: Number of bins.
    """
    import numpy as np

    found = reliability(labels, probabilities, bins)
    gaps = np.abs(found.churn_rate - found.mean_probability)
    return float(np.average(gaps, weights=found.rows))
