"""The model in use, over real registries and files: swaps, versions that must not be loaded, starts without MLflow."""

from __future__ import annotations

import pickle
import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression

from mlops_platform.inference_pipeline.current import RETRY_EVERY, CurrentModel
from mlops_platform.inference_pipeline.model_cache import cache_path
from mlops_platform.training_pipeline.model_digest import PIPELINE_FILE
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import ARCHIVED
from mlops_platform.training_pipeline.stages import move
from mlops_platform_tests.unit.inference_pipeline.versions_to_serve import (
    Versions,
    fitted,
    other_calibration,
    pickled,
    truncated,
    truncated_booster,
    without_form,
)
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

NOWHERE = "http://127.0.0.1:1"


class Untrusted(BaseEstimator):  # type: ignore[misc]
    """A type that is not ours."""


def row(current: CurrentModel) -> dict[str, Any]:
    assert current.served is not None
    return current.served.schema.example()


def churn(current: CurrentModel) -> float:
    assert current.served is not None
    return float(current.served.predictor.score([row(current)]).probability[0])


def version(current: CurrentModel) -> str | None:
    return current.served.predictor.model.version if current.served is not None else None


def offline(versions: Versions) -> CurrentModel:
    """A process that starts while MLflow can't be reached."""
    return CurrentModel(versions.settings.model_copy(update={"mlflow_tracking_uri": NOWHERE}))


def test_swaps_take_one_look_each_and_never_leave_it_without_a_model(versions: Versions) -> None:
    current = CurrentModel(versions.settings)
    versions.add(versions.variant(-1.0))
    current.refresh()
    seen: set[tuple[str | None, float]] = set()
    is_over = threading.Event()
    example = row(current)

    def use() -> None:
        # Without a pause it would hold up the registry's SQLite.
        while not is_over.wait(0.005):
            served = current.served
            assert served is not None
            seen.add((served.predictor.model.version, float(served.predictor.score([example]).probability[0])))

    user = threading.Thread(target=use)
    user.start()
    expected = {("1", churn(current))}
    try:
        for number in range(2, 8):
            pipeline = versions.variant(number / 10)
            versions.add(pipeline)
            assert current.refresh() == f"{versions.settings.model_name} version {number} is served"
            assert current.refresh() is None
            assert (version(current), current.problem, current.source) == (str(number), None, "registry")
            expected.add((str(number), float(pipeline.predict_proba([example])[0, 1])))
    finally:
        is_over.set()
        user.join()
    assert len({probability for _, probability in expected}) == 7
    assert len(seen) > 2
    assert seen <= expected


def _wrong_kind(versions: Versions, shop: Shop) -> Any:
    """Takes a number where the contract has a text."""
    rows = shop.training.to_arrow()
    model = make_model("logistic_regression").set_params(features__features=["tenure_days", "preferred_category"])
    features = model["features"].fit(rows)
    features.medians_ |= {"preferred_category": 0.0}
    features.categories_ = {}
    model["classifier"].fit(np.column_stack([rows["tenure_days"]] * 2), rows["churned"].to_numpy())
    return model


def _undeclared(versions: Versions, shop: Shop) -> Any:
    rows = shop.training.to_arrow()
    rows = rows.append_column("shoe_size", rows["tenure_days"])
    model = make_model("logistic_regression").set_params(features__features=["tenure_days", "shoe_size"])
    return model.fit(rows, rows["churned"].to_numpy())


def _three_classes(versions: Versions, shop: Shop) -> Any:
    rows = shop.training.to_arrow()
    return make_model("logistic_regression").fit(rows, np.arange(rows.num_rows) % 3)


def _untrusted(versions: Versions, shop: Shop) -> Any:
    pipeline = versions.variant(0)
    pipeline.steps[0][1].extra_ = Untrusted()
    return pipeline


def _no_pipeline(folder: Path) -> None:
    skops.io.dump(LogisticRegression(), folder / PIPELINE_FILE)


def _gone(folder: Path) -> None:
    (folder / PIPELINE_FILE).unlink()


BAD: dict[str, tuple[Callable[[Versions, Shop], Any] | None, dict[str, Any], str]] = {
    "cut later": (None, {"late_spoil": truncated}, "tampered with or damaged"),
    "booster cut later": (None, {"late_spoil": truncated_booster}, "tampered with or damaged"),
    "calibration changed later": (None, {"late_spoil": other_calibration}, "tampered with or damaged"),
    "form gone": (None, {"late_spoil": without_form}, "tampered with or damaged"),
    "cut, not recorded": (None, {"spoil": truncated, "is_recorded": False}, "no readable model"),
    "pickle later": (None, {"late_spoil": pickled(Path("{mark}"))}, "tampered with or damaged"),
    "no pipeline": (None, {"spoil": _no_pipeline}, "is no pipeline of features and classifier"),
    "no file": (None, {"late_spoil": _gone}, "can't be fetched"),
    "untrusted type": (_untrusted, {}, "types that are not trusted"),
    "wrong kind": (
        _wrong_kind,
        {},
        "does not take a valid row: feature preferred_category holds a value",
    ),
    "undeclared feature": (_undeclared, {}, "the model needs shoe_size, which no feature declares"),
    "three classes": (_three_classes, {}, r"answers 201 rows with an array of shape \(201, 3\)"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_must_not_be_loaded_is_not_and_the_old_one_stays(versions: Versions, shop: Shop, case: str) -> None:
    make, how, reason = BAD[case]
    current = CurrentModel(versions.settings)
    versions.add(versions.pipeline)
    current.refresh()
    before, kept = current.served, cache_path(versions.settings).read_bytes()
    bad = versions.add(make(versions, shop) if make is not None else versions.variant(1.0), **how)
    said = current.refresh()
    assert said is not None
    assert said == current.problem
    assert f"version {bad.version} is not used, version 1 stays: " in said
    assert re.search(reason, said)
    assert current.refresh() is None
    assert current.served is before
    assert cache_path(versions.settings).read_bytes() == kept
    versions.add(versions.variant(2.0))
    assert current.refresh() is not None
    assert (version(current), current.problem) == ("3", None)


@pytest.mark.parametrize("is_recorded", [True, False])
def test_a_pickle_is_never_loaded(versions: Versions, tmp_path: Path, is_recorded: bool) -> None:
    mark = tmp_path / "ran"
    versions.add(versions.pipeline, spoil=pickled(mark), is_recorded=is_recorded)
    current = CurrentModel(versions.settings)
    assert "no readable model" in str(current.refresh())
    assert current.served is None
    assert not mark.exists()


def test_a_refused_version_is_tried_again_later(versions: Versions) -> None:
    current = CurrentModel(versions.settings)
    model = versions.add(versions.pipeline)
    file = versions.files_of(model) / PIPELINE_FILE
    file.rename(file.with_suffix(".away"))
    assert "can't be fetched" in str(current.refresh())
    file.with_suffix(".away").rename(file)
    assert [current.refresh() for _ in range(RETRY_EVERY)] == [None] * RETRY_EVERY
    assert current.refresh() == f"{model.name} version 1 is served"


def test_nothing_in_production_leaves_the_last_one(versions: Versions) -> None:
    current = CurrentModel(versions.settings)
    model = versions.add(versions.pipeline)
    current.refresh()
    move(versions.manager, model, ARCHIVED)
    assert "is in Production" in str(current.refresh())
    assert version(current) == "1"


class TestCache:
    def test_a_start_without_the_registry_serves_what_was_served_last(self, versions: Versions) -> None:
        online = CurrentModel(versions.settings)
        for level in (0.0, 0.5):
            versions.add(versions.variant(level))
            online.refresh()
        current = offline(versions)
        said = current.refresh()
        assert said == current.problem
        assert "does not answer" in str(said)
        assert "version 2 is served from the cache" in str(said)
        assert (version(current), current.source) == ("2", "cache")
        assert churn(current) == churn(online)
        assert current.served is not None
        assert online.served is not None
        assert current.served.predictor.model == online.served.predictor.model
        assert current.served.predictor.facts == online.served.predictor.facts
        assert current.served.predictor.scoring == "booster"

    @pytest.mark.parametrize("level", [None, 0.5])
    def test_the_registrys_is_taken_once_it_is_back(self, versions: Versions, level: float | None) -> None:
        versions.add(versions.pipeline)
        CurrentModel(versions.settings).refresh()
        database = versions.settings.home / "mlflow.db"
        away = database.with_suffix(".away")
        if level is not None:
            versions.add(versions.variant(level))
        database.rename(away)
        current = CurrentModel(versions.settings)
        try:
            assert "version 1 is served from the cache" in str(current.refresh())
            assert current.refresh() is None
        finally:
            away.rename(database)
        expected = "1" if level is None else "2"
        assert current.refresh() == f"{versions.settings.model_name} version {expected} is served"
        assert (current.source, current.problem, version(current)) == ("registry", None, expected)

    def test_a_start_without_the_model_store(self, versions: Versions) -> None:
        model = versions.add(versions.pipeline)
        CurrentModel(versions.settings).refresh()
        shutil.rmtree(versions.files_of(model))
        current = CurrentModel(versions.settings)
        said = str(current.refresh())
        assert "version 1 is not used, version 1 is served from the cache: the model of run" in said
        assert (version(current), current.source) == ("1", "cache")

    def test_a_model_taken_out_of_production_is_not_served_again(self, versions: Versions) -> None:
        model = versions.add(versions.pipeline)
        CurrentModel(versions.settings).refresh()
        move(versions.manager, model, ARCHIVED)
        current = CurrentModel(versions.settings)
        assert "is in Production" in str(current.refresh())
        assert current.served is None

    def test_without_one_the_problem_stays(self, versions: Versions) -> None:
        current = offline(versions)
        assert "does not answer at 127.0.0.1:1" in str(current.refresh())
        assert (current.served, current.source) == (None, "registry")

    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "pickle", "of another model"])
    def test_a_damaged_one_is_ignored_with_a_message(self, versions: Versions, tmp_path: Path, damage: str) -> None:
        versions.add(versions.pipeline)
        CurrentModel(versions.settings).refresh()
        path, mark = cache_path(versions.settings), tmp_path / "ran"
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(
            {
                "cut": content[:middle],
                "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
                "empty": b"",
                "pickle": pickle.dumps(mark),
                "of another model": content,
            }[damage]
        )
        other = versions.named(f"another-{versions.settings.model_name}")
        if damage == "of another model":
            path = path.rename(cache_path(other.settings))
        current = offline(other if damage == "of another model" else versions)
        said = str(current.refresh())
        assert "does not answer" in said
        assert f"the last known good model in {path} can't be used" in said
        assert current.served is None
        assert "can't be used" not in str(current.refresh())  # it is read once

    def test_one_that_can_t_be_written_fails_no_swap(self, versions: Versions, tmp_path: Path) -> None:
        home = tmp_path / "home"
        home.mkdir()
        (home / "serving").write_text("in the way")
        tracking = {"home": home, "mlflow_tracking_uri": versions.settings.tracking_uri}
        versions.add(versions.pipeline)
        current = CurrentModel(versions.settings.model_copy(update=tracking))
        assert "version 1 is served, but not kept for a start without the registry" in str(current.refresh())
        assert (version(current), current.problem) == ("1", None)

    def test_it_holds_one_model_and_no_drafts(self, versions: Versions) -> None:
        current = CurrentModel(versions.settings)
        for level in (0.0, 0.5):
            versions.add(versions.variant(level))
            current.refresh()
        path = cache_path(versions.settings)
        assert [each.name for each in path.parent.iterdir() if each.name.startswith(path.stem)] == [path.name]


def test_another_type_of_model_is_served_by_its_pipeline(versions: Versions, shop: Shop) -> None:
    pipeline = fitted(shop, "logistic_regression")
    versions.add(pipeline)
    current = CurrentModel(versions.settings)
    current.refresh()
    assert current.served is not None
    assert current.served.predictor.scoring == "pipeline"
    assert churn(current) == pipeline.predict_proba([row(current)])[0, 1]
