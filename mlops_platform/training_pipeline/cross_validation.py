"""Cross-validation inside the train rows: what hyperparameters are worth, before any held-back row is touched.

The customers of the train rows fall into three parts. A model is fitted on all training dates of two of them and scored
on the third at the latest training date, the one nearest to the customers it will meet. So no customer is scored by a
model that has seen it, test rows are not read at all, and validation rows stay what calibration and threshold may be
chosen on. Rows without customer_id or feature_date are parted row by row, and scored at every date.

The score is ROC-AUC: the gate compares models by it, calibration sets the probabilities right afterwards, and it tells
good trees from bad ones long before a slow learner's probabilities have left the churn rate, where log loss would have
it stopped. Does not belong here: which hyperparameters to try (`tuning.py`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.models import RANDOM_STATE, make_model

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pyarrow as pa
    from numpy.typing import NDArray

    from mlops_platform.training_pipeline.train import FitRows

    Report = Callable[[int, float], None]

FOLDS = 3
# Scores are reported at every tenth of a fold's boosting rounds: trials of 50 and of 300 trees meet at the same share.
PARTS = 10


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """The train rows as a matrix, and who is scored by whom.

    Args:
        matrix: Shape (rows, columns).
        labels: 0 or 1, shape (rows,).
        part: Which of the `FOLDS` parts a row's customer belongs to, shape (rows,).
        is_scored: Whether the row is scored when its part is held out, shape (rows,).
    """

    matrix: NDArray[Any]
    labels: NDArray[Any]
    part: NDArray[Any]
    is_scored: NDArray[Any]

    @property
    def digest(self) -> str:
        """Of everything that a score depends on but for the hyperparameters."""
        found = hashlib.sha256(repr(self.matrix.shape).encode())
        for array in (self.matrix, self.labels, self.part, self.is_scored):
            found.update(array.tobytes())
        return found.hexdigest()


def cross_validation(rows: FitRows) -> CrossValidation:
    """Reads the train rows and parts their customers.

    Medians and categories come from all train rows: they hold no label.

    Raises:
        NotEnoughDataError: A part holds one class only.
    """
    train = split_rows(rows.read(), "train")
    matrix = FeatureTransformer(features=list(rows.features)).fit_transform(train)
    labels, part = train.column(TARGET).to_numpy(), _parts(train)
    for is_scored in (_is_latest(train), labels >= 0):
        classes = [set(labels[is_scored & (part == number)].tolist()) for number in range(FOLDS)]
        if all(found == {0, 1} for found in classes):
            return CrossValidation(matrix, labels, part, is_scored)
    raise NotEnoughDataError(
        f"the {train.num_rows} train rows can't be parted into {FOLDS} with customers that churned and stayed in each",
        expected="some more customers of both kinds",
        hint="use more customers or history, or train without tuning.",
    )


def cross_validated(
    model_type: str, hyperparameters: Mapping[str, Any], data: CrossValidation, report: Report
) -> float:
    """Mean ROC-AUC over the parts, each scored by a model of the others.

    Args:
        model_type: Name in `MODEL_TYPES`.
        hyperparameters: Override its defaults.
        data: The train rows.
        report: Called with a step (part × `PARTS` + tenths of it) and the mean so far; what it raises ends the
            cross-validation. Types other than xgboost report at the end of a part only.

    Raises:
        InputError: The classifier refuses a value.
    """
    scores: list[float] = []
    for number in range(FOLDS):

        def so_far(tenth: int, score: float, number: int = number) -> None:
            report(number * PARTS + tenth, sum([*scores, score]) / (number + 1))

        classifier = _in_one_thread(make_model(model_type, hyperparameters)["classifier"])
        try:
            score = _held_out_auc(classifier, data, number, so_far)
        except ValueError as error:
            # The rows passed their contract: what a classifier refuses is a value of its parameters.
            raise InputError(
                f"{model_type} refuses {dict(hyperparameters)}: {str(error).strip().splitlines()[0]}",
                expected="a search space of values its documentation names",
            ) from error
        if number + 1 < FOLDS:
            so_far(PARTS, score)
        scores.append(score)
    return sum(scores) / FOLDS


def _in_one_thread(classifier: Any) -> Any:
    # Threads change no score, and wait for each other at every node: on a busy machine of two cores two of them took
    # 12 times as long as one (33,000 rows), and a search runs beside other work for long.
    threads = {name: value for name, value in classifier.get_params().items() if name.split("__")[-1] == "n_jobs"}
    return classifier.set_params(**{name: 1 for name, value in threads.items() if value is not None})


def _held_out_auc(classifier: Any, data: CrossValidation, number: int, so_far: Report) -> float:
    from sklearn.metrics import roc_auc_score
    from xgboost import XGBClassifier

    fitted, scored = data.part != number, data.is_scored & (data.part == number)
    matrix, labels = data.matrix[scored], data.labels[scored]
    watching: dict[str, Any] = {}
    if isinstance(classifier, XGBClassifier):
        rounds = classifier.get_num_boosting_rounds()
        classifier.set_params(eval_metric="auc", callbacks=[_boosting_callback(rounds, so_far)])
        watching = {"eval_set": [(matrix, labels)], "verbose": False}
    classifier.fit(data.matrix[fitted], data.labels[fitted], **watching)
    return float(roc_auc_score(labels, classifier.predict_proba(matrix)[:, 1]))


def _boosting_callback(rounds: int, so_far: Report) -> Any:
    from xgboost.callback import TrainingCallback

    class Reporting(TrainingCallback):
        """Reports the held-out ROC-AUC at every tenth of the rounds but the last, which ends the part."""

        def after_iteration(self, model: Any, epoch: int, evals_log: Any) -> bool:
            tenth = PARTS * (epoch + 1) // rounds
            if PARTS * epoch // rounds < tenth < PARTS:
                so_far(tenth, float(evals_log["validation_0"]["auc"][-1]))
            return False

    return Reporting()


def _parts(train: pa.Table) -> NDArray[Any]:
    """The part of each row's customer, each as likely; of each row itself where no customer is named."""
    import numpy as np

    if "customer_id" not in train.column_names:
        customers = np.arange(train.num_rows)
    else:
        ids = train.column("customer_id").combine_chunks().dictionary_encode(null_encoding="encode")
        customers = ids.indices.to_numpy()
    count = int(customers.max(initial=-1)) + 1
    shuffled = np.random.default_rng(RANDOM_STATE).permutation(count)
    parts: NDArray[Any] = (shuffled % FOLDS)[customers]
    return parts


def _is_latest(train: pa.Table) -> NDArray[Any]:
    import numpy as np
    import pyarrow.compute as pc

    if "feature_date" not in train.column_names:
        return np.ones(train.num_rows, dtype=bool)
    dates = train.column("feature_date")
    latest: NDArray[Any] = pc.fill_null(pc.equal(dates, pc.max(dates)), False).to_numpy()
    return latest
