"""Evaluation: metrics of scores against labels, and the significance of a difference in ROC-AUC (DeLong).

Does not belong here: deciding what follows (`promotion.py`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.training_pipeline.models import RANDOM_STATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[Any]

MAX_INTERVAL_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Metrics:
    """Quality of churn probabilities on labelled rows, at a threshold."""

    roc_auc: float
    pr_auc: float
    accuracy: float
    precision: float
    recall: float
    f1: float
    brier: float
    log_loss: float
    threshold: float
    churn_rate: float

    def as_dict(self) -> dict[str, float]:
        """Metric name to value."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class AucDifference:
    """ROC-AUC of `ours` minus ROC-AUC of `theirs` on the same rows, with its 95 % interval."""

    ours: float
    theirs: float
    lower: float
    upper: float

    @property
    def difference(self) -> float:
        """Ours minus theirs."""
        return self.ours - self.theirs


def evaluate(labels: Floats, probabilities: Floats, threshold: float) -> Metrics:
    """Metrics of probabilities of the churned class.

    Args:
        labels: 0 or 1, shape (n,), both present.
        probabilities: Probability of 1, shape (n,).
        threshold: A row is predicted 1 at or above it.
    """
    from sklearn import metrics

    predicted = (probabilities >= threshold).astype(int)
    return Metrics(
        roc_auc=float(metrics.roc_auc_score(labels, probabilities)),
        pr_auc=float(metrics.average_precision_score(labels, probabilities)),
        accuracy=float(metrics.accuracy_score(labels, predicted)),
        precision=float(metrics.precision_score(labels, predicted, zero_division=0)),
        recall=float(metrics.recall_score(labels, predicted, zero_division=0)),
        f1=float(metrics.f1_score(labels, predicted, zero_division=0)),
        brier=float(metrics.brier_score_loss(labels, probabilities)),
        log_loss=float(metrics.log_loss(labels, probabilities)),
        threshold=threshold,
        churn_rate=float(labels.mean()),
    )


def best_threshold(labels: Floats, probabilities: Floats) -> float:
    """The threshold of the highest F1 on these rows: validation rows, never test rows."""
    import numpy as np
    from sklearn.metrics import precision_recall_curve

    precision, recall, thresholds = precision_recall_curve(labels, probabilities)
    both = precision[:-1] + recall[:-1]
    f1 = np.divide(2 * precision[:-1] * recall[:-1], both, out=np.zeros_like(both), where=both > 0)
    return float(thresholds[int(np.argmax(f1))])


def interval_rows(n: int) -> Any:
    """Places of the rows that intervals are computed on: all of n, or a seeded sample of 20,000."""
    import numpy as np

    if n <= MAX_INTERVAL_ROWS:
        return np.arange(n)
    return np.sort(np.random.default_rng(RANDOM_STATE).choice(n, MAX_INTERVAL_ROWS, replace=False))


def auc_difference(labels: Floats, ours: Floats, theirs: Floats) -> AucDifference:
    """Paired difference of two ROC-AUCs with DeLong's 95 % interval.

    The variance comes from the structural components by mid-ranks: Sun & Xu, "Fast Implementation of DeLong's Algorithm
    for Comparing the Areas Under Correlated Receiver Operating Characteristic Curves", IEEE Signal Processing Letters
    21(11), 2014.

    Args:
        labels: 0 or 1, shape (n,), both present.
        ours: Scores, shape (n,); larger means churned.
        theirs: Scores, shape (n,).
    """
    import numpy as np

    positive = labels.astype(bool)
    m, n = int(positive.sum()), int((~positive).sum())
    if min(m, n) < 2:
        # One row of a class has no variance: nothing is known of the difference but that it lies between −1 and 1.
        ours_auc, theirs_auc = (_components(scores, positive)[0] for scores in (ours, theirs))
        return AucDifference(ours_auc, theirs_auc, -1.0, 1.0)
    aucs, of_positives, of_negatives = zip(*(_components(s, positive) for s in (ours, theirs)), strict=True)
    covariance = np.cov(np.vstack(of_positives)) / m + np.cov(np.vstack(of_negatives)) / n
    contrast = np.array([1.0, -1.0])
    deviation = float(np.sqrt(max(float(contrast @ covariance @ contrast), 0.0)))
    difference = aucs[0] - aucs[1]
    return AucDifference(aucs[0], aucs[1], difference - 1.96 * deviation, difference + 1.96 * deviation)


def roc_auc(labels: Floats, scores: Floats) -> float:
    """ROC-AUC by ranks (Mann–Whitney): 2.2 ms of CPU at 20,000 rows, scikit-learn's takes 7.7.

    Args:
        labels: 0 or 1, shape (n,), both present.
        scores: Larger means churned, shape (n,).
    """
    from scipy.stats import rankdata

    positive = labels.astype(bool)
    m = int(positive.sum())
    ahead = float(rankdata(scores)[positive].sum()) - m * (m + 1) / 2
    return ahead / (m * (len(positive) - m))


def _components(scores: Floats, positive: Floats) -> tuple[float, Floats, Floats]:
    """ROC-AUC and its structural components: for each positive the share of negatives below it, and the reverse."""
    from scipy.stats import rankdata

    m, n = int(positive.sum()), int((~positive).sum())
    everywhere = rankdata(scores)
    of_positives = (everywhere[positive] - rankdata(scores[positive])) / n
    of_negatives = 1.0 - (everywhere[~positive] - rankdata(scores[~positive])) / m
    return float(of_positives.mean()), of_positives, of_negatives
