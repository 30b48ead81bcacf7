"""What a model goes by: how much each feature moves its log-odds (SHAP values), or its ROC-AUC.

Boosted trees have exact contributions (TreeSHAP, Lundberg et al. 2020, which XGBoost computes itself), and so has a
logistic model on features taken one by one: coefficient × (value − mean). No other type has them at hand, and is
measured by shuffling one feature after the other (permutation importance, Breiman 2001). None of it says what would
happen to a customer whose feature was changed. Does not belong here: the plot of it (`plots.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlops_platform.training_pipeline.models import RANDOM_STATE, signed_log

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Floats = NDArray[Any]

MAX_ROWS = 2000
_SHUFFLES = 3
# Spearman's correlation of a feature's value and its contribution from which on the feature works one way.
_ONE_WAY = 0.3

Direction = Literal["up", "down"] | None


@dataclass(frozen=True, slots=True)
class FeatureEffect:
    """One feature's effect on a model.

    Args:
        feature: Its name; a category's columns count together.
        importance: In the units of `FeatureEffects.measure`.
        direction: Whether a higher value goes with more churn or less; None: neither, a category, or not known.
    """

    feature: str
    importance: float
    direction: Direction = None


@dataclass(frozen=True, slots=True)
class FeatureEffects:
    """The features' effects on a model.

    Args:
        effects: One a feature, in the model's order.
        measure: What the importance is.
        rows: Rows it was measured on.
    """

    effects: tuple[FeatureEffect, ...]
    measure: str
    rows: int

    def ranked(self) -> list[FeatureEffect]:
        """The most important first."""
        return sorted(self.effects, key=lambda effect: (-effect.importance, effect.feature))


def feature_effects(model: Any, rows: pa.Table, labels: Floats) -> FeatureEffects:
    """The features' effects, measured on at most 2,000 of the rows.

    Args:
        model: Fitted Pipeline of FeatureTransformer and classifier, calibrated or not.
        rows: Held-out rows with the model's features, n.
        labels: 0 or 1, shape (n,), both present.
    """
    import numpy as np

    sampled = rows.take(_some(np.arange(rows.num_rows), MAX_ROWS))
    found = contributions(model, sampled)
    if found is None:
        return _by_shuffling(model, rows, labels)
    transformer = model["features"]
    values = transformer.transform(sampled)
    effects = tuple(
        FeatureEffect(
            feature,
            float(np.abs(shares).mean()),
            _direction(values[:, places[0]], shares) if feature in transformer.medians_ else None,
        )
        for (feature, places), shares in zip(_columns(transformer).items(), found[0].T, strict=True)
    )
    return FeatureEffects(effects, "mean |SHAP value|: shift of the log-odds of churning", sampled.num_rows)


def contributions(model: Any, rows: pa.Table) -> tuple[Floats, float] | None:
    """Each feature's share in the log-odds of churning, by row.

    Args:
        model: Fitted Pipeline of FeatureTransformer and classifier, calibrated or not.
        rows: n rows with the model's features.

    Returns:
        Shape (n, features), and what is added to each row's sum to give its log-odds; None where the type of model has
        no exact contributions.
    """
    import numpy as np

    from mlops_platform.training_pipeline.calibration import CalibratedClassifier

    classifier, slope, intercept = model["classifier"], 1.0, 0.0
    if isinstance(classifier, CalibratedClassifier):
        classifier, slope, intercept = classifier.classifier, classifier.slope_, classifier.intercept_
    found = _margins(classifier, model["features"].transform(rows))
    if found is None:
        return None
    by_column, base = found
    columns = _columns(model["features"]).values()
    by_feature = np.column_stack([by_column[:, places].sum(axis=1) for places in columns])
    return slope * by_feature, slope * base + intercept


def _margins(classifier: Any, matrix: Floats) -> tuple[Floats, float] | None:
    """As `contributions`, by column of the matrix and before calibration."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from xgboost import DMatrix, XGBClassifier

    if isinstance(classifier, XGBClassifier):
        rows = DMatrix(matrix, nthread=classifier.n_jobs)  # One row needs no team of threads.
        found = classifier.get_booster().predict(rows, pred_contribs=True).astype(float)
        return found[:, :-1], float(found[0, -1])
    if isinstance(classifier, Pipeline) and isinstance(classifier[-1], LogisticRegression):
        if not all(_keeps_columns(step) for _, step in classifier.steps[:-1]):
            return None
        # The scaler has taken the training mean off.
        shares = classifier[:-1].transform(matrix) * classifier[-1].coef_[0]
        return shares, float(classifier[-1].intercept_[0])
    return None


def _keeps_columns(step: Any) -> bool:
    """Whether each column that leaves a step comes from the same one that enters it, as far as we know the step."""
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    return isinstance(step, StandardScaler) or (isinstance(step, FunctionTransformer) and step.func is signed_log)


def _by_shuffling(model: Any, rows: pa.Table, labels: Floats) -> FeatureEffects:
    """Permutation importance, on both classes alike: that changes no ROC-AUC, and a rare class is there."""
    import numpy as np
    from sklearn.metrics import roc_auc_score

    places = np.concatenate([_some(np.flatnonzero(labels == label), MAX_ROWS // 2) for label in (0, 1)])
    matrix, generator = model["features"].transform(rows.take(places)), np.random.default_rng(RANDOM_STATE)

    def roc_auc(values: Floats) -> float:
        return float(roc_auc_score(labels[places], model["classifier"].predict_proba(values)[:, 1]))

    def shuffled(columns: range) -> Floats:
        values: Floats = matrix.copy()
        values[:, columns] = matrix[generator.permutation(len(matrix))][:, columns]
        return values

    whole = roc_auc(matrix)
    effects = tuple(
        FeatureEffect(feature, whole - float(np.mean([roc_auc(shuffled(columns)) for _ in range(_SHUFFLES)])))
        for feature, columns in _columns(model["features"]).items()
    )
    return FeatureEffects(effects, "permutation importance: ROC-AUC lost when the feature is shuffled", len(places))


def _columns(transformer: Any) -> dict[str, range]:
    """Feature to its columns in the matrix."""
    found: dict[str, range] = {}
    start = 0
    for name in transformer.feature_names_in_:
        width = len(transformer.categories_[name]) if name in transformer.categories_ else 1
        found[str(name)] = range(start, start + width)
        start += width
    return found


def _direction(values: Floats, shares: Floats) -> Direction:
    import numpy as np
    from scipy.stats import rankdata

    if not (np.ptp(values) and np.ptp(shares)):
        return None
    correlation = float(np.corrcoef(rankdata(values), rankdata(shares))[0, 1])
    return None if abs(correlation) < _ONE_WAY else "up" if correlation > 0 else "down"


def _some(places: Floats, limit: int) -> Floats:
    """All of the places, or a seeded sample of them in order."""
    import numpy as np

    if len(places) <= limit:
        return places
    chosen: Floats = np.sort(np.random.default_rng(RANDOM_STATE).choice(places, limit, replace=False))
    return chosen
