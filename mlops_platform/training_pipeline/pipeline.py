"""`TrainingPipeline`: the documented training, for someone without Dagster; it means now where no time is given.

Belongs here: the documented calls, put together from the domain functions. Does not belong here: any of their logic.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_platform import clock
from mlops_platform.contracts import SILVER_TRANSACTIONS, load_feature_set
from mlops_platform.contracts.ml import TARGET
from mlops_platform.errors import InputError
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline import tuning
from mlops_platform.training_pipeline.dataset import last_silver_day, split_rows, training_set
from mlops_platform.training_pipeline.held_out import evaluate_held_out, held_out_results
from mlops_platform.training_pipeline.models import DEFAULT_MODEL_TYPE, RANDOM_STATE, make_model
from mlops_platform.training_pipeline.promotion import decide, register_in_staging
from mlops_platform.training_pipeline.query_rows import (
    GIVEN_TARGET,
    RECENCY,
    SILVER_RECENCY,
    feature_columns,
    labelled,
    read_path,
    read_query,
)
from mlops_platform.training_pipeline.query_split import TEMPORAL, TEST_SHARE, labelled_digest, split_labelled
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.report import report_evaluation, report_found
from mlops_platform.training_pipeline.train import FitRows, fit_frame, train, train_on
from mlops_platform.training_pipeline.tuning import DEFAULT_TRIALS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    import pandas as pd
    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.publish import Draft
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.query_rows import LabelledRows
    from mlops_platform.training_pipeline.registry import RegisteredModel
    from mlops_platform.training_pipeline.train import TrainedModel


class TrainingPipeline:
    """Trains, evaluates and registers a churn model.

    Args:
        experiment_name: MLflow experiment of the runs.
        model_name: Name in the registry.
        settings: The home; None: as the environment says.
    """

    def __init__(
        self,
        experiment_name: str = "production_training",
        model_name: str = "customer_churn_model",
        settings: Settings | None = None,
    ) -> None:
        home = settings if settings is not None else load_settings()
        self.settings = home.model_copy(update={"experiment_name": experiment_name, "model_name": model_name})
        self.lake = Lake(self.settings)
        self.manager = MLflowManager(self.settings)
        self.run_id: str | None = None

    def run(
        self,
        query: str | None = None,
        model_type: str = DEFAULT_MODEL_TYPE,
        hyperparameters: Mapping[str, Any] | None = None,
        register_model: bool = True,
        *,
        split: str = TEMPORAL,
        s3_path: str | None = None,
        tune: bool = False,
        trials: int = DEFAULT_TRIALS,
    ) -> dict[str, Any]:
        """Trains on the line's training set, or on rows of one's own, and evaluates on rows held out.

        The line's model goes to the gate, which decides on Production; one of a query's or a file's rows, or of a
        stratified split, is registered in Staging.

        Args:
            query: SELECT whose rows to train on; without `target` it has to give customer_id and feature_date, and
                labels come from silver.
            model_type: `xgboost`, `random_forest`, `logistic_regression`, `average`, or one of your own.
            hyperparameters: Override the type's defaults.
            register_model: Whether to register the model.
            split: `temporal` or `stratified`.
            s3_path: Parquet file or table to train on in place of a query.
            tune: Whether to search hyperparameters first; those given are held fixed.
            trials: How many to try.

        Returns:
            model_name, model_type, metrics (of the test rows), run_id, model_version and stage (None: not registered),
            reason (the gate's), rows (by split), dropped (rows left out, by reason).

        Raises:
            InputError: Unknown model type, hyperparameter or split, or rows that can't be labelled or split.
            NotEnoughDataError: No matured labels, or one class only.
            QueryError: The query is no SELECT over the home's tables.
            StorageError: MLflow can't be reached; nothing is registered.
        """
        load_feature_set(self.settings.features_module)  # A user's own model types stand there.
        make_model(model_type, hyperparameters)
        if query is None and s3_path is None and split == TEMPORAL:
            return self._run_line(model_type, hyperparameters, register_model, trials if tune else None)
        rows, tags = self._rows(query, s3_path)
        found = split_labelled(self.settings, labelled(self.lake, rows, complete_until=self._last_day()), split=split)
        fitted = FitRows(
            read=lambda: found.rows,
            features=found.features,
            digest=labelled_digest(self.settings, found.rows),
            tags=tags | _label_tags(found) | {"mlops.split": split},
        )
        if tune:
            hyperparameters = self._tuned(fitted, model_type, hyperparameters, trials)
        trained = train_on(self.settings, self.manager, fitted, model_type=model_type, hyperparameters=hyperparameters)
        metrics = self._held_out(trained, split_rows(found.rows, "test"))
        self._log(trained.run_id, metrics)
        report_found(self.lake, self.manager, trained, found.rows, metrics)
        self.manager.log_metrics(trained.run_id, {f"dropped_{why}": float(n) for why, n in found.dropped.items()})
        model = register_in_staging(self.settings, self.manager, trained) if register_model else None
        return self._results(trained, metrics, model, found.rows) | {"reason": None, "dropped": found.dropped}

    def load_features(self, query: str | None = None, s3_path: str | None = None) -> pd.DataFrame:
        """Rows with their label in `target`; by default those of the line's training set.

        Args:
            query: SELECT over the home's tables.
            s3_path: Parquet file or table in place of a query.

        Raises:
            InputError: The rows can't be labelled.
            NotEnoughDataError: No label has matured.
        """
        found = labelled(self.lake, self._rows(query, s3_path)[0], complete_until=self._last_day()).rows
        names = [GIVEN_TARGET if name == TARGET else name for name in found.column_names]
        frame: pd.DataFrame = found.rename_columns(names).to_pandas()
        return frame.drop(columns=SILVER_RECENCY, errors="ignore")

    def preprocess_data(self, df: pd.DataFrame, target_column: str = GIVEN_TARGET) -> tuple[pd.DataFrame, pd.Series]:
        """The columns a model is given, and the labels.

        Missing values stay: the model's FeatureTransformer fills them with what it learns from the rows it is fitted
        on, and a mean over all rows would carry test rows into the training.

        Raises:
            InputError: There is no such target.
        """
        if target_column not in df.columns:
            raise InputError(
                f"the rows have no column {target_column}",
                expected="labels, as load_features gives them",
                hint="name the column of 0 and 1: preprocess_data(df, target_column=NAME).",
            )
        names = [name for name in feature_columns(df.columns) if name != target_column]
        return df[names], df[target_column]

    def split_data(
        self, X: pd.DataFrame, y: pd.Series, test_size: float = TEST_SHARE, random_state: int = RANDOM_STATE
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series, pd.Series]:
        """X_train, X_test, y_train, y_test, stratified by label.

        Raises:
            InputError: There are too few rows of a class for it.
        """
        from sklearn.model_selection import train_test_split

        try:
            X_train, X_test, y_train, y_test = train_test_split(
                X, y, test_size=test_size, random_state=random_state, stratify=y
            )
        except ValueError as error:
            raise InputError(
                f"the rows can't be split: {error}", expected="two rows or more of each class, and a share as test_size"
            ) from error
        return X_train, X_test, y_train, y_test

    def train_model(
        self,
        X_train: pd.DataFrame,
        y_train: pd.Series,
        model_type: str = DEFAULT_MODEL_TYPE,
        hyperparameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """A fitted Pipeline of FeatureTransformer and classifier, kept in an MLflow run whose id is `self.run_id`.

        Raises:
            InputError: Unknown model type or hyperparameter, or a value it refuses.
            NotEnoughDataError: One class only.
        """
        self.run_id, model = fit_frame(
            self.settings,
            self.manager,
            X_train,
            y_train.to_numpy(),
            model_type=model_type,
            hyperparameters=hyperparameters,
        )
        return model

    def evaluate_model(
        self, model: Any, X_test: pd.DataFrame, y_test: pd.Series, threshold: float = 0.5
    ) -> dict[str, float]:
        """Metrics on held-out rows, logged to the run of the last `train_model`.

        Args:
            model: A fitted Pipeline.
            X_test: n rows.
            y_test: Their labels.
            threshold: A row is predicted 1 at or above it; .5 is what `model.predict` goes by. It must not be chosen on
                these rows.
        """
        recency = X_test[RECENCY].to_numpy() if RECENCY in X_test.columns else None
        found = held_out_results(y_test.to_numpy(), model.predict_proba(X_test)[:, 1], threshold, recency)
        if self.run_id is not None:
            self._log(self.run_id, found)
        return found

    def _run_line(
        self, model_type: str, hyperparameters: Mapping[str, Any] | None, register_model: bool, trials: int | None
    ) -> dict[str, Any]:
        published = self.lake.publish(self._training_set())
        training = self.lake.snapshot(self.lake.features.training_set, snapshot_id=published.snapshot_id)
        if trials is not None:
            hyperparameters = self._tuned(training, model_type, hyperparameters, trials)
        trained = train(self.settings, self.manager, training, model_type=model_type, hyperparameters=hyperparameters)
        evaluation = evaluate_held_out(self.settings, self.manager, training, trained)
        report_evaluation(self.lake, self.manager, training, trained, evaluation)
        model, reason = None, None
        if register_model:
            decided_at = clock.now(self.settings)
            decision, row = decide(self.settings, self.manager, self.lake, trained, evaluation, decided_at=decided_at)
            self.lake.publish(row)
            model, reason = decision.model, decision.reason
        results = self._results(trained, evaluation.results(), model, training.to_arrow(["split"]))
        return results | {"reason": reason, "dropped": {}}

    def _tuned(
        self, rows: FitRows | TableSnapshot, model_type: str, fixed: Mapping[str, Any] | None, trials: int
    ) -> dict[str, Any]:
        found = tuning.tune(
            self.settings, self.manager, rows, model_type=model_type, trials=trials, hyperparameters=fixed
        )
        return found.hyperparameters

    def _rows(self, query: str | None, s3_path: str | None) -> tuple[pa.Table, dict[str, str]]:
        if query is not None and s3_path is not None:
            raise InputError("both query and s3_path are given", expected="one of them, or neither")
        if query is not None:
            return read_query(self.lake, query)
        if s3_path is not None:
            return read_path(self.lake, s3_path)
        draft = self._training_set()
        return draft.rows, {"data_version": f"{draft.contract.name} as of {draft.properties['as-of']}"}

    def _training_set(self) -> Draft:
        features = self.lake.snapshot(self.lake.features.customer_features)
        transactions = self.lake.snapshot(SILVER_TRANSACTIONS)
        as_of = last_silver_day(self.lake, self._last_day())
        return training_set(self.settings, features, transactions, as_of=as_of)

    def _last_day(self) -> date:
        return clock.last_complete_day(clock.now(self.settings), self.settings.zone)

    def _held_out(self, trained: TrainedModel, test: pa.Table) -> dict[str, float]:
        scores = self.manager.load_model(trained.run_id).predict_proba(test)[:, 1]
        recency = test.column(SILVER_RECENCY).to_numpy() if SILVER_RECENCY in test.column_names else None
        return held_out_results(test.column(TARGET).to_numpy(), scores, trained.threshold, recency)

    def _log(self, run_id: str, found: Mapping[str, float]) -> None:
        self.manager.log_metrics(run_id, {f"test_{name}": value for name, value in found.items()})

    def _results(
        self, trained: TrainedModel, metrics: dict[str, float], model: RegisteredModel | None, rows: pa.Table
    ) -> dict[str, Any]:
        return {
            "model_name": self.settings.model_name,
            "model_type": trained.model_type,
            "metrics": metrics,
            "run_id": trained.run_id,
            "model_version": model.version if model is not None else None,
            "stage": model.stage if model is not None else None,
            "rows": {name: split_rows(rows, name).num_rows for name in ("train", "validation", "test")},
        }


def _label_tags(found: LabelledRows) -> dict[str, str]:
    snapshot_id = found.label_snapshot_id
    return {} if snapshot_id is None else {"mlops.label-snapshot-id": str(snapshot_id)}
