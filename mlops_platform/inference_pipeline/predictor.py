"""`Predictor`: the one scoring path. Batch and online load a model and score rows through it, and nowhere else.

Does not belong here: where rows come from, where predictions go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlops_platform.errors import ModelError
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.settings import Settings


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n rows.

    Args:
        probability: Chance of churn, shape (n,).
        prediction: 1 at or above the model's threshold, shape (n,).
        confidence: The larger of P(stays) and P(churns), shape (n,).
    """

    probability: NDArray[Any]
    prediction: NDArray[Any]
    confidence: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded model version.

    Args:
        model: Its registry entry.
        pipeline: The fitted scikit-learn Pipeline.
        threshold: A row is predicted to churn at or above it.
        training_snapshot_id: Snapshot of ml.training_set it was fitted on: the drift reference.
        feature_names: Features it needs, in order.
    """

    model: RegisteredModel
    pipeline: Any = field(repr=False)
    threshold: float
    training_snapshot_id: int
    feature_names: tuple[str, ...]

    @classmethod
    def load(cls, settings: Settings, *, version: RegisteredModel | None = None) -> Predictor:
        """Loads a version, by default the Production one.

        Raises:
            ModelError: No version is in Production, it was trained on rows of a query, or it can't be loaded safely.
        """
        manager = MLflowManager(settings)
        model = version or manager.production(settings.model_name)
        if not {THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG} <= model.tags.keys():
            raise ModelError(
                f"version {model.version} of {model.name} can't serve: it was not trained on ml.training_set, which "
                "drift is measured against",
                expected="a version that `mlops train` made",
                hint="put the version before back into Production, or run `mlops train`.",
            )
        pipeline = manager.load_model(model.run_id)
        return cls(
            model=model,
            pipeline=pipeline,
            threshold=float(model.tags[THRESHOLD_TAG]),
            training_snapshot_id=int(model.tags[TRAINING_SNAPSHOT_TAG]),
            feature_names=tuple(pipeline["features"].feature_names_in_),
        )

    @property
    def is_production(self) -> bool:
        """Whether the version was in Production when loaded."""
        return self.model.stage == PRODUCTION

    def score(self, rows: pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]]) -> Scores:
        """Scores rows that hold the model's features.

        Args:
            rows: n rows; other columns are ignored.

        Raises:
            InputError: A feature is missing or no number.
        """
        import numpy as np

        # Some classifiers refuse to score nothing.
        probability = self.pipeline.predict_proba(rows)[:, 1].astype(np.float64) if len(rows) else np.zeros(0)
        return Scores(
            probability=probability,
            prediction=(probability >= self.threshold).astype(np.int32),
            confidence=np.maximum(probability, 1.0 - probability),
        )
