"""Cross-validation: who is scored by whom, against plain scikit-learn, and what it does not look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import roc_auc_score
from xgboost import XGBClassifier

from mlops_platform.contracts import STANDARD
from mlops_platform.errors import InputError, NotEnoughDataError
from mlops_platform.feature_pipeline import FeatureTransformer
from mlops_platform.training_pipeline.cross_validation import (
    FOLDS,
    PARTS,
    CrossValidation,
    cross_validated,
    cross_validation,
)
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.train import FitRows
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

TREES = {"n_estimators": 20, "min_child_weight": 1, "n_jobs": 2}


def fit_rows(table: pa.Table) -> FitRows:
    return FitRows(read=lambda: table, features=tuple(STANDARD.names), digest="")


@pytest.fixture(scope="module")
def table(shop: Shop) -> pa.Table:
    return shop.training.to_arrow(order_by=("feature_date", "customer_id"))


@pytest.fixture(scope="module")
def data(table: pa.Table) -> CrossValidation:
    return cross_validation(fit_rows(table))


def ignore(step: int, score: float) -> None:
    """Takes no notice of what is reported."""


class TestParts:
    def test_each_customer_belongs_to_one_part(self, table: pa.Table, data: CrossValidation) -> None:
        customers = split_rows(table, "train")["customer_id"].to_pylist()
        assert len(set(zip(customers, data.part.tolist(), strict=True))) == len(set(customers))
        sizes = [len({c for c, p in zip(customers, data.part, strict=True) if p == part}) for part in range(FOLDS)]
        assert max(sizes) - min(sizes) <= 1

    def test_the_latest_training_date_is_scored(self, table: pa.Table, data: CrossValidation) -> None:
        dates = split_rows(table, "train")["feature_date"].to_pylist()
        assert data.is_scored.tolist() == [date == max(dates) for date in dates]

    def test_rows_without_customer_and_date_are_parted_row_by_row(self, table: pa.Table) -> None:
        data = cross_validation(fit_rows(table.drop_columns(["customer_id", "feature_date"])))
        assert data.is_scored.all()
        assert np.bincount(data.part).tolist() == [data.labels.size // FOLDS] * FOLDS

    def test_a_latest_date_of_one_class_is_not_scored_alone(self, table: pa.Table) -> None:
        latest = pc.equal(table["feature_date"], pc.max(split_rows(table, "train")["feature_date"]))
        labels = pc.if_else(latest, pa.scalar(1, table["churned"].type), table["churned"])
        at = table.column_names.index("churned")
        assert cross_validation(fit_rows(table.set_column(at, "churned", labels))).is_scored.all()

    def test_too_few_of_a_class(self, table: pa.Table) -> None:
        stayed = table.filter(pc.equal(table["churned"], 0))
        with pytest.raises(NotEnoughDataError, match="can't be parted into 3"):
            cross_validation(fit_rows(stayed))


class TestWhatIsRead:
    def changed(self, table: pa.Table, splits: set[str]) -> pa.Table:
        """The rows of some splits with their features and labels in another order."""
        columns = table.to_pydict()
        places = [place for place, split in enumerate(columns["split"]) if split in splits]
        order = np.random.default_rng(5).permutation(places).tolist()
        for name in ("churned", *STANDARD.names):
            moved = [columns[name][place] for place in order]
            for place, value in zip(places, moved, strict=True):
                columns[name][place] = value
        return pa.table(columns, schema=table.schema)

    def test_test_and_validation_rows_change_nothing(self, table: pa.Table, data: CrossValidation) -> None:
        other = self.changed(table, {"test", "validation"})
        assert not other.equals(table)
        assert cross_validation(fit_rows(other)).digest == data.digest

    def test_train_rows_do(self, table: pa.Table, data: CrossValidation) -> None:
        assert cross_validation(fit_rows(self.changed(table, {"train"}))).digest != data.digest


class TestScore:
    @pytest.mark.parametrize(("model_type", "values"), [("xgboost", TREES), ("logistic_regression", {"C": 0.01})])
    def test_it_is_that_of_plain_scikit_learn(
        self, table: pa.Table, data: CrossValidation, model_type: str, values: dict[str, Any]
    ) -> None:
        train = split_rows(table, "train")
        matrix = FeatureTransformer(features=STANDARD.names).fit_transform(train)
        labels, dates = train["churned"].to_numpy(), np.array(train["feature_date"].to_pylist())
        expected = []
        for part in range(FOLDS):
            inside = data.part == part
            scored = inside & (dates == dates.max())
            model = make_model(model_type, values)["classifier"].fit(matrix[~inside], labels[~inside])
            expected.append(roc_auc_score(labels[scored], model.predict_proba(matrix[scored])[:, 1]))
        assert cross_validated(model_type, values, data, ignore) == pytest.approx(np.mean(expected), abs=1e-12)

    @pytest.mark.parametrize("model_type", ["xgboost", "average"])
    def test_it_fits_in_one_thread(
        self, data: CrossValidation, monkeypatch: pytest.MonkeyPatch, model_type: str
    ) -> None:
        threads: list[int] = []
        fit = XGBClassifier.fit
        monkeypatch.setattr(
            XGBClassifier, "fit", lambda model, *rows, **more: threads.append(model.n_jobs) or fit(model, *rows, **more)
        )
        cross_validated(model_type, {}, data, ignore)
        assert threads == [1] * FOLDS

    def test_boosting_reports_the_score_of_its_rounds_so_far(self, data: CrossValidation) -> None:
        found: dict[int, float] = {}
        score = cross_validated("xgboost", TREES, data, lambda step, so_far: found.update({step: so_far}))
        assert list(found) == list(range(1, FOLDS * PARTS))
        scored = data.is_scored & (data.part == 0)
        model = make_model("xgboost", TREES)["classifier"].fit(data.matrix[data.part != 0], data.labels[data.part != 0])
        for tenth in (1, 4, 9, 10):
            rounds = TREES["n_estimators"] * tenth // PARTS
            some = model.predict_proba(data.matrix[scored], iteration_range=(0, rounds))[:, 1]
            assert found[tenth] == pytest.approx(roc_auc_score(data.labels[scored], some), abs=1e-6)
        assert min(found.values()) < score

    def test_few_rounds_are_reported_once_each(self, data: CrossValidation) -> None:
        steps: list[int] = []
        cross_validated("xgboost", {**TREES, "n_estimators": 3}, data, lambda step, _: steps.append(step))
        assert steps == [3, 6, 10, 13, 16, 20, 23, 26]

    def test_other_types_report_at_the_end_of_a_part(self, data: CrossValidation) -> None:
        steps: list[int] = []
        cross_validated("logistic_regression", {}, data, lambda step, _: steps.append(step))
        assert steps == [PARTS, 2 * PARTS]

    @pytest.mark.parametrize(("model_type", "last"), [("xgboost", 14), ("logistic_regression", 20)])
    def test_what_the_report_raises_ends_it(self, data: CrossValidation, model_type: str, last: int) -> None:
        steps: list[int] = []
        with pytest.raises(InterruptedError):
            cross_validated(model_type, TREES if model_type == "xgboost" else {}, data, stop_at(last, steps))
        assert steps[-1] == last

    def test_a_value_the_classifier_refuses(self, data: CrossValidation) -> None:
        with pytest.raises(InputError, match=r"logistic_regression refuses \{'C': -1.0\}"):
            cross_validated("logistic_regression", {"C": -1.0}, data, ignore)


def stop_at(last: int, steps: list[int]) -> Callable[[int, float], None]:
    def report(step: int, score: float) -> None:
        steps.append(step)
        if step == last:
            raise InterruptedError

    return report
