"""The serving form of a model: XGBoost's own file, its trees as ONNX, and the declarations as JSON; it needs no pickle.

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
from mlops_platform.training_pipeline.few_rows import FEW_ROWS, FewRows, graph_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mlops_platform.feature_pipeline import FeatureTransformer
    from mlops_platform.feature_pipeline.columns import Rows
    from mlops_platform.feature_pipeline.transformer import Layout

SERVING_PATH = "serving"
_BOOSTER, _TREES, _DECLARATIONS = "booster.ubj", "trees.onnx", "model.json"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ServingForm:
    """A model as the service scores with it.

    Args:
        features: Rows to matrix.
        booster: XGBoost's trees.
        few_rows: Its trees for few rows; None where it is more than a sum of trees, and in versions from before this.
        slope: Of the calibration, on the log-odds.
        intercept: Of the calibration.
        layout: Of the features, made once: the transformer makes it each time.
    """

    features: FeatureTransformer
    booster: Any = field(repr=False)
    few_rows: FewRows | None = field(repr=False)
    slope: float
    intercept: float
    layout: Layout = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layout", self.features.layout())

    def churn_probability(self, rows: Rows) -> NDArray[np.float64]:
        """Probabilities to churn, shape (n,)."""
        from mlops_platform.training_pipeline.calibration import calibrated

        return calibrated(self._margins(self.layout.matrix(rows)), self.slope, self.intercept)

    def _margins(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.few_rows is not None and len(matrix) <= FEW_ROWS:
            return self.few_rows.margins(matrix).astype(np.float64)
        margins: NDArray[np.float32] = self.booster.inplace_predict(matrix, predict_type="margin")
        return margins.astype(np.float64)


def serving_form(pipeline: Any) -> ServingForm | None:
    """The serving form of a fitted Pipeline; None if it is not calibrated, or its classifier not XGBoost's."""
    from xgboost import XGBClassifier

    from mlops_platform.training_pipeline.calibration import CalibratedClassifier

    calibration = pipeline["classifier"]
    if not isinstance(calibration, CalibratedClassifier) or not isinstance(calibration.classifier, XGBClassifier):
        return None
    booster = calibration.classifier.get_booster()
    graph = graph_of(booster)
    return ServingForm(
        features=pipeline["features"],
        booster=booster,
        few_rows=None if graph is None else FewRows(graph),
        slope=calibration.slope_,
        intercept=calibration.intercept_,
    )


def save(form: ServingForm, folder: Path) -> None:
    """Writes the form's files."""
    form.booster.save_model(folder / _BOOSTER)
    if form.few_rows is not None:
        (folder / _TREES).write_bytes(form.few_rows.model)
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
        trees = FewRows((folder / _TREES).read_bytes()) if (folder / _TREES).is_file() else None
        line = declared["calibration"]
        features = _transformer(declared["features"])
        return ServingForm(features, booster, trees, float(line["slope"]), float(line["intercept"]))
    except (OSError, XGBoostError, ValueError, LookupError, TypeError) as error:
        raise ModelError(f"the serving form can't be read: {error}", hint="train again.") from error


def is_equal(form: ServingForm, pipeline: Any, rows: Rows) -> bool:
    """Whether both give the same bits on some rows, taken together, few at a time, and one by one."""
    matrix = form.layout.matrix(rows)
    margins = form._margins(matrix)
    # Dozens of single rows show what one shows; each costs a call.
    parts = [matrix[start : start + FEW_ROWS] for start in range(0, len(matrix), FEW_ROWS)]
    parts += [matrix[row : row + 1] for row in range(min(len(matrix), FEW_ROWS))]
    few = np.concatenate([form._margins(part) for part in parts])
    return np.array_equal(form.churn_probability(rows), pipeline.predict_proba(rows)[:, 1]) and np.array_equal(
        few, np.concatenate([margins, margins[:FEW_ROWS]])
    )


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
