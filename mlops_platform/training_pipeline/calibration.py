"""Calibration: a fitted classifier's probabilities brought to the churn rates seen on customers it was not fitted on.

The correction is a line on the log-odds (Platt 1999, with the classifier's log-odds as its score), so the order of the
customers stays, "no correction" is among what can be learnt, and contributions to the log-odds stay a sum. Churn rates
move, so the level is that of the newest training date. Does not belong here: fitting the classifier, choosing a
threshold (`fitting.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin  # base classes must exist when the class is made

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

# What float32 probabilities are exact to near 1.
_EDGE = 1e-7


class CalibratedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A fitted binary classifier with corrected probabilities.

    Args:
        classifier: Fitted already; `fit` learns the correction and leaves it as it is.
    """

    def __init__(self, classifier: Any) -> None:
        self.classifier = classifier

    def fit(self, X: Floats, y: Any, recent: Any = None) -> CalibratedClassifier:
        """Learns the correction.

        Args:
            X: Matrix of n rows the classifier was not fitted on.
            y: 0 or 1, shape (n,), both present.
            recent: The rows whose level the probabilities are brought to, as booleans of shape (n,); None: all. The
                slope comes from all rows.
        """
        from sklearn.linear_model import LogisticRegression

        known = margins(self.classifier, X)
        older = np.zeros(len(known)) if recent is None else 1.0 - np.asarray(recent, dtype=np.float64)
        # C leaves the line free, and keeps it finite where the classes are apart.
        line = LogisticRegression(C=1e6, max_iter=1000).fit(np.column_stack([known, older]), y)
        self.slope_, self.intercept_ = float(line.coef_[0, 0]), float(line.intercept_[0])
        if self.slope_ <= 0:
            # It would turn the order round: a classifier that has learnt nothing is for the gate to see.
            self.slope_, self.intercept_ = 1.0, 0.0
        self.classes_ = np.array([0, 1])
        return self

    def predict_proba(self, X: Floats) -> Floats:
        """Probabilities to stay and to churn, shape (n, 2)."""
        churns = calibrated(margins(self.classifier, X), self.slope_, self.intercept_)
        return np.column_stack([1.0 - churns, churns])

    def predict(self, X: Floats) -> NDArray[np.int64]:
        """1 where churning is the likelier."""
        predicted: NDArray[np.int64] = self.classes_[(self.predict_proba(X)[:, 1] >= 0.5).astype(int)]
        return predicted


def calibrated(margins: Floats, slope: float, intercept: float) -> Floats:
    """Corrected probabilities of 1, shape (n,), of a classifier's log-odds, shape (n,)."""
    churns: Floats = 1.0 / (1.0 + np.exp(-slope * margins - intercept))
    return churns


def margins(classifier: Any, X: Floats) -> Floats:
    """A fitted classifier's log-odds of 1, shape (n,).

    XGBoost's are the sum of its trees, which it has before it makes a probability of it.
    """
    if hasattr(classifier, "get_booster"):
        return np.asarray(classifier.predict(X, output_margin=True), dtype=np.float64)
    return log_odds(classifier.predict_proba(X)[:, 1])


def log_odds(probabilities: NDArray[Any]) -> Floats:
    """log(p / (1 − p)), finite also where p is 0 or 1."""
    inside = np.clip(probabilities.astype(np.float64), _EDGE, 1.0 - _EDGE)
    found: Floats = np.log(inside) - np.log1p(-inside)
    return found


def uncalibrated(classifier: Any) -> Any:
    """The classifier that was fitted, whether a calibration stands around it or not."""
    return classifier.classifier if isinstance(classifier, CalibratedClassifier) else classifier
