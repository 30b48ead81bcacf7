"""The model types: one small registry from a name to an estimator with its defaults.

Every model is one scikit-learn Pipeline, FeatureTransformer first and the classifier second, so that what was fitted is
what is served; once fitted, the classifier is calibrated (`calibration.py`). A user adds a type of classifier with a
function that makes an unfitted one with its defaults, in a notebook or in the module that MLOPS_FEATURES_MODULE names;
it has to be made of scikit-learn's and XGBoost's types, since no other is loaded from a saved model.
Does not belong here: fitting, saving.

    from mlops_platform.training_pipeline import model_type

    @model_type("extra_trees")
    def extra_trees():
        return ExtraTreesClassifier(n_estimators=200, min_samples_leaf=20, random_state=42)

No type weighs the classes: weights move every probability away from the churn rate that was seen, and a probability is
what batch and service hand out. An uneven churn rate is met by the threshold, chosen on held-back customers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import InputError
from mlops_platform.training_pipeline.search_spaces import SEARCH_SPACES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.training_pipeline.search_spaces import SearchSpace

RANDOM_STATE = 42

# Types a saved model may hold beside scikit-learn's and NumPy's own; fixed here, never read from the model.
TRUSTED_TYPES = (
    "mlops_platform.feature_pipeline.transformer.FeatureTransformer",
    "mlops_platform.training_pipeline.calibration.CalibratedClassifier",
    "mlops_platform.training_pipeline.models.signed_log",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBClassifier",
)

ModelType = Callable[[], Any]
"""Makes an unfitted classifier with its defaults: an estimator, or a Pipeline that ends in one."""
MODEL_TYPES: dict[str, ModelType] = {}
DEFAULT_MODEL_TYPE = "xgboost"


def model_type(name: str, search_space: SearchSpace | None = None) -> Callable[[ModelType], ModelType]:
    """Registers a model type under a name for `make_model`, `TrainingPipeline.run` and `mlops train`.

    A notebook's cell that runs again puts its function in the place of its former self.

    Args:
        name: Of the type.
        search_space: What `mlops tune` searches, by hyperparameter; None: it can't be tuned.

    Raises:
        InputError: The name is taken by another function.
    """

    def register(function: ModelType) -> ModelType:
        known = MODEL_TYPES.get(name, function)
        if (known.__module__, known.__qualname__) != (function.__module__, function.__qualname__):
            raise InputError(f"there is a model type {name} already", expected="a name of its own")
        MODEL_TYPES[name] = function
        if search_space is not None:
            SEARCH_SPACES[name] = search_space
        return function

    return register


@model_type("xgboost")
def xgboost() -> Any:
    """Boosted trees, shallow and regularised."""
    from xgboost import XGBClassifier

    # 100 trees of depth 10 overfit churn data (CDNOW .810 against .838 ROC-AUC). Of 96 combinations these have the
    # lowest log loss on held-back customers of CDNOW and Complete Journey together; no test row was looked at.
    return XGBClassifier(
        n_estimators=200,
        max_depth=3,
        learning_rate=0.05,
        subsample=0.5,
        colsample_bytree=0.5,
        min_child_weight=20,
        reg_lambda=20,
        random_state=RANDOM_STATE,
        n_jobs=2,
        tree_method="hist",
        eval_metric="logloss",
    )


@model_type("random_forest")
def random_forest() -> Any:
    """Averaged trees with leaves of 20 rows or more: a leaf of one row gives probabilities of 0 and 1."""
    from sklearn.ensemble import RandomForestClassifier

    # One job: with more, the trees' probabilities are added in whatever order threads end, and the last bit varies.
    return RandomForestClassifier(n_estimators=200, min_samples_leaf=20, random_state=RANDOM_STATE, n_jobs=1)


@model_type("logistic_regression")
def logistic_regression() -> Any:
    """Logistic regression on scaled logarithms: counts and amounts have long tails (CDNOW .835 ROC-AUC)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    # A file names the function by its module: renaming it makes every saved model unreadable.
    return Pipeline(
        [
            ("log", FunctionTransformer(signed_log)),
            ("scale", StandardScaler()),
            ("logistic", LogisticRegression(max_iter=1000, random_state=RANDOM_STATE)),
        ]
    )


@model_type("average")
def average() -> Any:
    """The mean of the probabilities of xgboost and logistic_regression (CDNOW .840, Complete Journey .840 ROC-AUC)."""
    from sklearn.ensemble import VotingClassifier

    return VotingClassifier(
        [("xgboost", xgboost()), ("logistic_regression", logistic_regression())], voting="soft", weights=None
    )


def signed_log(matrix: NDArray[Any]) -> NDArray[Any]:
    """log(1 + |x|) with the sign of x: a user's own feature may be negative."""
    import numpy as np

    logarithms: NDArray[Any] = np.sign(matrix) * np.log1p(np.abs(matrix))
    return logarithms


def make_model(model_type: str = DEFAULT_MODEL_TYPE, hyperparameters: Mapping[str, Any] | None = None) -> Any:
    """An unfitted Pipeline of FeatureTransformer and classifier.

    Args:
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: Override the type's defaults; for `average` with the name of the part in front, such as
            `xgboost__max_depth`.

    Raises:
        InputError: Unknown model type or hyperparameter.
    """
    from sklearn.pipeline import Pipeline

    from mlops_platform.feature_pipeline import FeatureTransformer

    classifier = find_model_type(model_type)()
    places = _places(classifier)
    unknown = set(hyperparameters or {}) - set(places)
    if unknown:
        raise InputError(
            f"{model_type} has no hyperparameter {', '.join(sorted(unknown))}",
            expected=f"some of {', '.join(sorted(places))}",
        )
    classifier.set_params(**{places[name]: value for name, value in (hyperparameters or {}).items()})
    return Pipeline([("features", FeatureTransformer()), ("classifier", classifier)])


def hyperparameters_of(classifier: Any) -> dict[str, Any]:
    """Every hyperparameter of a classifier by the name `make_model` takes."""
    values = classifier.get_params()
    return {name: values[place] for name, place in _places(classifier).items()}


def use_one_thread(classifier: Any) -> None:
    """Makes a fitted classifier score in one thread; parameters don't reach the fitted parts of a mean of several."""
    from sklearn.ensemble import VotingClassifier

    from mlops_platform.training_pipeline.calibration import uncalibrated

    fitted = uncalibrated(classifier)
    parts = fitted.estimators_ if isinstance(fitted, VotingClassifier) else []
    for each in (fitted, *parts):
        if "n_jobs" in each.get_params(deep=False):
            each.set_params(n_jobs=1)


def find_model_type(name: str) -> ModelType:
    """The function of a model type.

    Raises:
        InputError: Unknown.
    """
    if name not in MODEL_TYPES:
        raise InputError(
            f"{name!r} is no model type",
            expected=f"one of {', '.join(sorted(MODEL_TYPES))}",
            hint="register your own with @model_type(NAME) from mlops_platform.training_pipeline.",
        )
    return MODEL_TYPES[name]


def _places(classifier: Any) -> dict[str, str]:
    """Hyperparameters by the name a person types, and where scikit-learn's set_params has them."""
    from sklearn.ensemble import VotingClassifier
    from sklearn.pipeline import Pipeline

    if isinstance(classifier, Pipeline):
        last, estimator = classifier.steps[-1]
        return {name: f"{last}__{place}" for name, place in _places(estimator).items()}
    if isinstance(classifier, VotingClassifier):
        inside = {
            f"{part}__{name}": f"{part}__{place}"
            for part, estimator in classifier.estimators
            for name, place in _places(estimator).items()
        }
        return inside | {"weights": "weights"}
    return {name: name for name in classifier.get_params(deep=False)}


def code_digest(model_type: str = DEFAULT_MODEL_TYPE) -> str:
    """Digest of the source that shapes a model: part of its identity.

    Raises:
        InputError: The source of the model type's function is nowhere to be read.
    """
    import hashlib

    from mlops_platform.feature_pipeline import columns, transformer
    from mlops_platform.training_pipeline import calibration, fitting

    function = find_model_type(model_type)
    found = hashlib.sha256()
    try:
        for source in (columns, transformer, calibration, fitting, inspect.getmodule(make_model), function):
            found.update(inspect.getsource(source).encode())  # type: ignore[arg-type]
    except (OSError, TypeError) as error:
        raise InputError(
            f"the source of model type {model_type} can't be read: {error}",
            expected="a function written in a file or a notebook's cell: its code is part of what a model is",
        ) from error
    return found.hexdigest()[:16]
