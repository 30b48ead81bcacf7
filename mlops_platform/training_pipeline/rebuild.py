"""Rebuilding: a version's pinned rows and parameters make its model again, which is held against the saved one.

Nothing is written: no run, no version, no table. Does not belong here: fitting (`fitting.py`), where the rows
themselves come from (`lineage.py`).
"""

from __future__ import annotations

import ast
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError, StorageError
from mlops_platform.storage.duck import session
from mlops_platform.storage.publish import recorded_in
from mlops_platform.storage.rows import conform
from mlops_platform.training_pipeline.dataset import data_digest, rows_digest, split_rows, training_set
from mlops_platform.training_pipeline.fitting import fit
from mlops_platform.training_pipeline.lineage import FEATURE_SNAPSHOT, LABEL_SNAPSHOT, run_of
from mlops_platform.training_pipeline.model_files import ENVIRONMENT_FILE, environment
from mlops_platform.training_pipeline.models import code_digest, hyperparameters_of, make_model
from mlops_platform.training_pipeline.registry import IDENTITY_TAG
from mlops_platform.training_pipeline.rescoring import Agreement, agreement, pinned, rebuild_predictions, scores
from mlops_platform.training_pipeline.train import (
    CODE_DIGEST_TAG,
    DATA_DIGEST_TAG,
    MODEL_HASH_TAG,
    MODEL_TYPE_TAG,
    TRAINING_SNAPSHOT_TAG,
    identity_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.registry import MLflowManager, RegisteredModel

# What computes features, reads rows and fits: another version may give other bits.
LIBRARIES = ("duckdb", "numpy", "pandas", "pyarrow", "scikit-learn", "xgboost")

NOT_REBUILDABLE_TAG = "mlops.not_rebuildable"


@dataclass(frozen=True, slots=True)
class Rebuild:
    """A model that was made again, beside the saved one.

    Args:
        model: The version.
        model_type: Name in `MODEL_TYPES`.
        training_snapshot_id: Snapshot of ml.training_set it was fitted on.
        saved_hash: Hash of the model when it was trained.
        hash: Hash of the model made again.
        test_rows: Scores of the pinned test rows, of the saved model and of the one made again.
        predictions: Churn probabilities of up to 20 rows of ml.predictions, and what the model made again says.
        changes: What is not as it was when the model was trained.
        is_training_set_equal: Whether the training set made again from its features and labels holds the pinned rows;
            None: that was not asked for.
    """

    model: RegisteredModel
    model_type: str
    training_snapshot_id: int
    saved_hash: str
    hash: str
    test_rows: Agreement
    predictions: Agreement
    changes: tuple[str, ...]
    is_training_set_equal: bool | None = None

    @property
    def differences(self) -> list[str]:
        """What came out otherwise; empty: it is the same model."""
        found = []
        if self.hash != self.saved_hash:
            found.append(f"the model's hash is {self.hash}, and was {self.saved_hash}")
        for what, pair in (("test rows", self.test_rows), ("predictions", self.predictions)):
            if pair.identical < pair.rows:
                number = pair.rows - pair.identical
                found.append(f"{number:,} of {pair.rows:,} {what} differ, by up to {pair.largest_difference:.3g}")
        if self.is_training_set_equal is False:
            found.append("the training set made again from its features and labels holds other rows")
        return found

    @property
    def is_identical(self) -> bool:
        """Whether hash, scores and, where it was made again, training set are equal."""
        return not self.differences


def rebuild(
    manager: MLflowManager, lake: Lake, name: str, version: str | int, *, from_features: bool = False
) -> Rebuild:
    """Makes a version's model again and compares.

    Args:
        manager: MLflow.
        lake: The home's tables.
        name: The model.
        version: Its version.
        from_features: Make the training set again too, from the snapshots of features and labels it names.

    Raises:
        InputError: There is no such version, it was not trained on ml.training_set, a customer in its rows was erased,
            or its type or a hyperparameter is no longer known.
        ModelError: The run or the saved model is gone or can't be loaded.
        StorageError: The pinned rows are gone.
    """
    model = manager.version(name, version)
    run = run_of(manager, model)
    _require_rebuildable(model, run.data.tags)
    saved = manager.load_model(model.run_id)
    features = tuple(map(str, saved["features"].feature_names_in_))
    snapshot_id, model_type = int(run.data.tags[TRAINING_SNAPSHOT_TAG]), run.data.tags[MODEL_TYPE_TAG]
    training = _training_rows(lake, model, snapshot_id, features)
    libraries = _changed_libraries(manager, model.run_id)
    unfitted = make_model(model_type, _hyperparameters(model_type, run.data.params, is_complete=not libraries))
    unfitted.set_params(features__features=list(features))
    changes = _changes(run.data.tags, data_digest(lake.settings, training), model_type, unfitted)
    rows = training.to_arrow(order_by=("feature_date", "customer_id"))
    rebuilt = fit(unfitted, rows)
    test = split_rows(rows, "test")
    return Rebuild(
        model=model,
        model_type=model_type,
        training_snapshot_id=snapshot_id,
        saved_hash=run.data.tags[MODEL_HASH_TAG],
        hash=rebuilt.hash,
        test_rows=agreement(scores(saved, test), scores(rebuilt.pipeline, test)),
        predictions=rebuild_predictions(lake, model, rebuilt.pipeline),
        changes=(*changes, *libraries),
        is_training_set_equal=_is_made_again(lake, training) if from_features else None,
    )


def _require_rebuildable(model: RegisteredModel, tags: Mapping[str, str]) -> None:
    which = f"{model.name} version {model.version} can't be rebuilt"
    if NOT_REBUILDABLE_TAG in tags:
        raise InputError(
            f"{which}: {tags[NOT_REBUILDABLE_TAG]}, and with it rows the model was trained on",
            hint="`mlops train` trains a model on the rows there are.",
        )
    if TRAINING_SNAPSHOT_TAG not in tags:
        raise InputError(
            f"{which}: it was trained on rows of a query, a file or a frame, which no snapshot holds",
            expected="a version that `mlops train` made",
            hint="`mlops models list` shows all versions.",
        )
    if MODEL_HASH_TAG not in tags:
        raise InputError(f"{which}: its run keeps no hash of the model", expected="a run that training has finished")


def _training_rows(lake: Lake, model: RegisteredModel, snapshot_id: int, features: Sequence[str]) -> TableSnapshot:
    columns = ("split", "customer_id", "feature_date", *features, TARGET)
    try:
        return pinned(lake, lake.features.training_set, snapshot_id, columns)
    except StorageError as error:
        raise StorageError(
            f"{model.name} version {model.version} can't be rebuilt: {error.problem}",
            expected="the rows it was trained on, which `mlops maintain` keeps",
            hint="restore the home from a backup, or train again with `mlops train`.",
        ) from error


def _hyperparameters(model_type: str, texts: Mapping[str, str], *, is_complete: bool) -> dict[str, Any]:
    """A run's parameters as `make_model` takes them.

    Args:
        model_type: Their model type.
        texts: Parameters of the run, which has none where the value was None.
        is_complete: A hyperparameter that the run lacks was None; False: it may not have existed.
    """
    known = hyperparameters_of(make_model(model_type)["classifier"])
    missing = dict.fromkeys(known.keys() - texts.keys()) if is_complete else {}
    return missing | {name: parameter_value(text) for name, text in texts.items() if name != "model_type"}


def parameter_value(text: str) -> Any:
    """The value that MLflow keeps as text: a literal of Python's, nan or inf, or the text itself."""
    with suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    with suppress(ValueError):
        return float(text)
    return text


def _changes(tags: Mapping[str, str], digest: str, model_type: str, unfitted: Any) -> list[str]:
    """Which of rows, code and parameters are not those of the model's identity."""
    code = code_digest(model_type)
    found = []
    if tags.get(DATA_DIGEST_TAG, digest) != digest:
        found.append(f"the training rows: their digest is {digest}, and was {tags[DATA_DIGEST_TAG]}")
    if tags.get(CODE_DIGEST_TAG, code) != code:
        found.append(f"the code that shapes a model: its digest is {code}, and was {tags[CODE_DIGEST_TAG]}")
    parameters = {"model_type": model_type, **hyperparameters_of(unfitted["classifier"])}
    if not found and identity_of(digest, parameters) != tags[IDENTITY_TAG]:
        is_told = {DATA_DIGEST_TAG, CODE_DIGEST_TAG} <= tags.keys()
        found.append("the hyperparameters" if is_told else "the training rows, the hyperparameters or the code")
    return found


def _changed_libraries(manager: MLflowManager, run_id: str) -> list[str]:
    text = Path(manager.client.download_artifacts(run_id, ENVIRONMENT_FILE)).read_text(encoding="utf-8")
    before, now = _versions(text), _versions(environment())
    return [
        f"{name}: {now.get(name)}, and was {before.get(name)}"
        for name in LIBRARIES
        if before.get(name) != now.get(name)
    ]


def _versions(requirements: str) -> dict[str, str]:
    pins = (line.partition("==") for line in requirements.splitlines())
    return {name: version for name, _, version in pins}


def _is_made_again(lake: Lake, training: TableSnapshot) -> bool:
    """Whether features and labels that a training set names give its rows again."""
    made = recorded_in(training)
    as_of, evaluation = date.fromisoformat(made["as-of"]), date.fromisoformat(made["evaluation-date"])
    first = min(date.fromisoformat(day) for day in made["training-dates"].split(","))
    settings = lake.settings.model_copy(update={"horizon_days": (as_of - evaluation).days, "history_start": first})
    draft = training_set(
        settings,
        lake.snapshot(lake.features.customer_features, snapshot_id=int(made[FEATURE_SNAPSHOT])),
        lake.snapshot(SILVER_TRANSACTIONS, snapshot_id=int(made[LABEL_SNAPSHOT])),
        as_of=as_of,
    )
    columns = training.contract.column_names
    undeclared = [name for name in columns if name not in draft.contract.column_names]
    if undeclared:
        raise InputError(
            f"the training set can't be made again: {', '.join(undeclared)} is no longer declared",
            expected="the features of its time",
            hint="rebuild without --from-features: the training set itself is kept.",
        )
    with session(settings) as duck:
        duck.register("again", conform(draft.contract, draft.rows))
        return rows_digest(duck, "again", columns) == data_digest(settings, training)
