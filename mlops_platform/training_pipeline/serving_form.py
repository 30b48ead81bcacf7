"""The serving form of a model: XGBoost's own file, and the declarations as JSON beside it; it needs no pickle.

Kept only where it gives the Pipeline's probabilities to the last bit. Model types that are not XGBoost's have none and
are served by their Pipeline. Does not belong here: which of both is served, validation of rows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_platform.errors import ModelError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.feature_pipeline import FeatureTransformer
    from mlops_platform.feature_pipeline.columns import Rows

SERVING_PATH = "serving"
_BOOSTER, _DECLARATIONS = "booster.ubj", "model.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ServingForm:
    """A model as the service scores with it.

    Args:
        features: Rows to matrix.
        booster: XGBoost's trees.
        slope: Of the calibration, on the log-odds.
        intercept: Of the calibration.
    """

    features: FeatureTransformer
    booster: Any = field(repr=False)
    slope: float
    intercept: float

    def predict_proba(self, rows: Rows) -> NDArray[np.float64]:
        """Probabilities to stay and to churn, shape (n, 2)."""
        from mlops_platform.training_pipeline.calibration import calibrated

        return calibrated(self.booster.inplace_predict(self.features.transform(rows)), self.slope, self.intercept)


def serving_form(pipeline: Any) -> ServingForm | None:
    """The serving form of a fitted Pipeline; None if it is not calibrated, or its classifier not XGBoost's."""
    from xgboost import XGBClassifier

    from mlops_platform.training_pipeline.calibration import CalibratedClassifier

    calibration = pipeline["classifier"]
    if not isinstance(calibration, CalibratedClassifier) or not isinstance(calibration.classifier, XGBClassifier):
        return None
    booster = calibration.classifier.get_booster()
    return ServingForm(pipeline["features"], booster, calibration.slope_, calibration.intercept_)


def save(form: ServingForm, folder: Path) -> None:
    """Writes the form's two files."""
    form.booster.save_model(folder / _BOOSTER)
    declared = {
        "format": _FORMAT,
        "features": [_declaration(form.features, name) for name in form.features.feature_names_in_],
        "calibration": {"slope": form.slope, "intercept": form.intercept},
    }
    (folder / _DECLARATIONS).write_text(json.dumps(declared, indent=1) + "\n", encoding="utf-8")


def load(folder: Path) -> ServingForm:
    """Reads what `save` wrote.

    Raises:
        ModelError: A file is missing or damaged.
    """
    from xgboost import Booster
    from xgboost.core import XGBoostError

    try:
        declared = json.loads((folder / _DECLARATIONS).read_text(encoding="utf-8"))
        if declared["format"] != _FORMAT:
            raise ModelError(f"the serving form has format {declared['format']}", expected=f"format {_FORMAT}")
        booster = Booster(model_file=folder / _BOOSTER)
        line = declared["calibration"]
        return ServingForm(_transformer(declared["features"]), booster, float(line["slope"]), float(line["intercept"]))
    except (OSError, XGBoostError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"the serving form can't be read: {error}", hint="train again.") from error


def is_equal(form: ServingForm, pipeline: Any, rows: Rows) -> bool:
    """Whether both give the same bits on some rows."""
    return np.array_equal(form.predict_proba(rows), pipeline.predict_proba(rows))


def _declaration(features: FeatureTransformer, name: str) -> dict[str, Any]:
    known = features.categories_.get(name)
    if known is None:
        return {"name": name, "kind": "numeric", "median": features.medians_[name]}
    return {"name": name, "kind": "categorical", "categories": known}


def _transformer(declared: list[dict[str, Any]]) -> FeatureTransformer:
    from mlops_platform.feature_pipeline import FeatureTransformer

    names = [str(each["name"]) for each in declared]
    made = FeatureTransformer(names)
    made.medians_ = {each["name"]: float(each["median"]) for each in declared if each["kind"] == "numeric"}
    made.categories_ = {each["name"]: list(each["categories"]) for each in declared if each["kind"] == "categorical"}
    made.feature_names_in_ = np.array(names, dtype=object)
    made.n_features_in_ = len(names)
    return made
