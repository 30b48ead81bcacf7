"""`Predictor`: the one scoring path. Batch and online load a model and score rows through it, and nowhere else.

The version's serving form scores where it says the same as the Pipeline to the last bit, else the Pipeline does.
Does not belong here: where rows come from, where predictions go.
"""

from __future__ import annotations

import struct
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from mlops_platform.errors import ModelError, PlatformError
from mlops_platform.inference_pipeline.trial import equal_form, require_probabilities, trial_rows
from mlops_platform.inference_pipeline.validation import RowSchema
from mlops_platform.inference_pipeline.version_files import fetch
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.train import (
    MODEL_HASH_TAG,
    MODEL_TYPE_TAG,
    THRESHOLD_TAG,
    TRAINING_SNAPSHOT_TAG,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.inference_pipeline.explain import Contributions
    from mlops_platform.inference_pipeline.typed_rows import TypedRows
    from mlops_platform.inference_pipeline.version_files import VersionFiles
    from mlops_platform.settings import Settings
    from mlops_platform.training_pipeline.serving_form import ServingForm

    ScoredRows: TypeAlias = pa.Table | pd.DataFrame | Sequence[Mapping[str, Any]] | TypedRows

# Facts by name, and the tag of the run or the version that holds each.
_FACT_TAGS = {
    "model_type": MODEL_TYPE_TAG,
    "model_hash": MODEL_HASH_TAG,
    "feature_version": "feature_version",
    "as_of": "mlops.as-of",
    "evaluation_date": "mlops.evaluation-date",
}
_TRAINING_DATES_TAG = "mlops.training-dates"
_NO_FORM = "the version has no serving form: its type of model has none, or it was trained before there was one"
# What reading a damaged file of a model raises, beside the errors that `model_files` and `serving_form` name.
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, ImportError, RuntimeError, ArithmeticError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of n rows.

    Args:
        probability: Chance of churn, shape (n,).
        prediction: 1 at or above the model's threshold, shape (n,).
    """

    probability: NDArray[Any]
    prediction: NDArray[Any]

    @property
    def confidence(self) -> NDArray[Any]:
        """The larger of P(stays) and P(churns), shape (n,)."""
        import numpy as np

        found: NDArray[Any] = np.maximum(self.probability, 1.0 - self.probability)
        return found


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded model version.

    Args:
        model: Its registry entry.
        pipeline: The fitted scikit-learn Pipeline.
        threshold: A row is predicted to churn at or above it.
        training_snapshot_id: Snapshot of ml.training_set it was fitted on: the drift reference.
        feature_names: Features it needs, in order.
        form: Its serving form, if that is what scores.
        fallback_reason: Why the Pipeline scores, if it does; None also where no serving form was looked for.
        facts: What is known of its training, by name: training_run_id, model_type, model_hash, feature_version, as_of,
            first_training_date, last_training_date, evaluation_date.
    """

    model: RegisteredModel
    pipeline: Any = field(repr=False)
    threshold: float
    training_snapshot_id: int
    feature_names: tuple[str, ...]
    form: ServingForm | None = field(default=None, repr=False)
    fallback_reason: str | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, settings: Settings, *, version: RegisteredModel | None = None) -> Predictor:
        """Loads a version, by default the Production one.

        Raises:
            ModelError: No version is in Production, it was trained on rows of a query, it can't be fetched or loaded
                safely, its files are not those that were recorded, or it does not answer as a model must.
        """
        manager = MLflowManager(settings)
        model = version or manager.production(settings.model_name)
        with TemporaryDirectory() as folder:
            return cls.read(settings, fetch(manager, model, Path(folder)))

    @classmethod
    def read(cls, settings: Settings, files: VersionFiles) -> Predictor:
        """Loads a version from its files and tries it.

        Raises:
            ModelError: As `load`.
        """
        files.require_untouched()
        try:
            return cls._read(settings, files)
        except PlatformError:
            raise
        except _DAMAGE as error:
            raise ModelError(f"can't be read ({type(error).__name__}: {error})", hint="train again.") from error

    @classmethod
    def _read(cls, settings: Settings, files: VersionFiles) -> Predictor:
        model = files.model
        pipeline = files.pipeline()
        names = tuple(pipeline["features"].feature_names_in_)
        rows = trial_rows(RowSchema.of(settings, names), pipeline["features"].categories_)
        require_probabilities(pipeline, rows)
        form: ServingForm | None = None
        reason: str | None = _NO_FORM
        if files.has_serving_form:
            form, reason = equal_form(files.serving_form_folder, pipeline, rows)
        return cls(
            model=model,
            pipeline=pipeline,
            threshold=float(model.tags[THRESHOLD_TAG]),
            training_snapshot_id=int(model.tags[TRAINING_SNAPSHOT_TAG]),
            feature_names=names,
            form=form,
            fallback_reason=reason,
            facts=_facts(files),
        )

    @property
    def is_production(self) -> bool:
        """Whether the version was in Production when loaded."""
        return self.model.stage == PRODUCTION

    @property
    def scoring(self) -> Literal["booster", "pipeline"]:
        """Which of the version's representations scores."""
        return "pipeline" if self.form is None else "booster"

    def use_one_thread(self) -> None:
        """Makes it score in the calling thread alone; the scores are the same bits."""
        from mlops_platform.training_pipeline.models import use_one_thread

        use_one_thread(self.pipeline["classifier"])
        if self.form is not None:
            self.form.booster.set_param({"nthread": 1})

    def score(self, rows: ScoredRows) -> Scores:
        """Scores rows that hold the model's features.

        Args:
            rows: n rows; other columns are ignored.

        Raises:
            InputError: A feature is missing or no number.
        """
        import numpy as np

        if self.form is not None:
            probability = self.form.churn_probability(rows)
        elif len(rows):
            probability = self.pipeline.predict_proba(rows)[:, 1].astype(np.float64)
        else:
            # Some classifiers refuse to score nothing.
            probability = np.zeros(0)
        return Scores(probability, (probability >= self.threshold).astype(np.int32))

    def explain(self, rows: ScoredRows) -> Contributions:
        """What each feature adds to the rows' log-odds of churning, in the order of `feature_names`.

        Args:
            rows: n ≥ 1 rows; other columns are ignored.

        Raises:
            InputError: There is no row, or a feature is missing or no number.
            ModelError: The model's type has no exact contributions.
        """
        from mlops_platform.inference_pipeline.explain import explain

        return explain(self.pipeline, rows)


def _facts(files: VersionFiles) -> dict[str, str]:
    tags = {**files.run_tags, **files.model.tags}
    found = {"training_run_id": files.model.run_id}
    found |= {name: tags[tag] for name, tag in _FACT_TAGS.items() if tag in tags}
    days = sorted(filter(None, tags.get(_TRAINING_DATES_TAG, "").split(",")))
    return found | ({"first_training_date": days[0], "last_training_date": days[-1]} if days else {})
