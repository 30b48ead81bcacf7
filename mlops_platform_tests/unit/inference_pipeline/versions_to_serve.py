"""Registered versions with files to serve, and ways to spoil these. Does not belong here: assertions."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import skops.io

from mlops_platform.contracts import STANDARD
from mlops_platform.settings import Settings
from mlops_platform.training_pipeline.fitting import fit
from mlops_platform.training_pipeline.model_digest import FILES_DIGEST_TAG, PIPELINE_FILE, SERVING_FILES, files_digest
from mlops_platform.training_pipeline.models import make_model
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager, RegisteredModel
from mlops_platform.training_pipeline.serving_form import SERVING_PATH, save, serving_form
from mlops_platform.training_pipeline.stages import move
from mlops_platform.training_pipeline.train import THRESHOLD_TAG, TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.unit.training_pipeline.worlds import Shop

SERVABLE = {THRESHOLD_TAG: "0.4", TRAINING_SNAPSHOT_TAG: "1"}
Spoil = Callable[[Path], None]


def fitted(shop: Shop, model_type: str = "xgboost", *, features: tuple[str, ...] = STANDARD.names) -> Any:
    """A small calibrated Pipeline of the shop's training set."""
    parameters = {"n_estimators": 20, "min_child_weight": 1} if model_type == "xgboost" else {}
    rows = shop.training.to_arrow(order_by=("feature_date", "customer_id"))
    return fit(make_model(model_type, parameters).set_params(features__features=list(features)), rows).pipeline


@dataclass(frozen=True)
class Versions:
    """A home with MLflow on SQLite, and a fitted model that its versions are variants of."""

    settings: Settings
    pipeline: Any

    def named(self, name: str) -> Versions:
        """The same home and model, registered under another name."""
        return replace(self, settings=self.settings.model_copy(update={"model_name": name}))

    def files_of(self, model: RegisteredModel) -> Path:
        """Where MLflow keeps a version's files."""
        return self.settings.mlflow_artifacts / "serving" / model.run_id / "artifacts"

    @property
    def manager(self) -> MLflowManager:
        """The home's MLflow."""
        return MLflowManager(self.settings)

    def variant(self, level: float) -> Any:
        """The model with its log-odds moved."""
        found = copy.deepcopy(self.pipeline)
        found["classifier"].intercept_ += level
        return found

    def add(
        self,
        pipeline: Any,
        *,
        spoil: Spoil | None = None,
        late_spoil: Spoil | None = None,
        is_recorded: bool = True,
        run_tags: Mapping[str, str] | None = None,
    ) -> RegisteredModel:
        """Registers a version of the pipeline and puts it into Production.

        Args:
            pipeline: Fitted.
            spoil: Changes the files before their digest is recorded.
            late_spoil: Changes the files after that.
            is_recorded: Whether their digest is recorded at all.
            run_tags: More tags of the run.
        """
        manager = self.manager
        with manager.run("serving", "version", run_tags or {}) as run_id, TemporaryDirectory() as name:
            folder = Path(name)
            (folder / PIPELINE_FILE).parent.mkdir()
            skops.io.dump(pipeline, folder / PIPELINE_FILE)
            form = serving_form(pipeline) if hasattr(pipeline["classifier"], "classifier") else None
            if form is not None:
                (folder / SERVING_PATH).mkdir()
                save(form, folder / SERVING_PATH)
            if spoil is not None:
                spoil(folder)
            tags = SERVABLE | ({FILES_DIGEST_TAG: files_digest(folder)} if is_recorded else {})
            if is_recorded:
                manager.client.set_tag(run_id, FILES_DIGEST_TAG, tags[FILES_DIGEST_TAG])
            if late_spoil is not None:
                late_spoil(folder)
            manager.client.log_artifacts(run_id, str(folder))
        made = manager.register_model(f"runs:/{run_id}/model", self.settings.model_name, tags)
        return move(manager, made, PRODUCTION)


def truncated(folder: Path) -> None:
    """Cuts the model file."""
    content = (folder / PIPELINE_FILE).read_bytes()
    (folder / PIPELINE_FILE).write_bytes(content[:-1000])


def truncated_booster(folder: Path) -> None:
    """Cuts the serving form's trees."""
    content = (folder / SERVING_FILES[0]).read_bytes()
    (folder / SERVING_FILES[0]).write_bytes(content[:-100])


def other_calibration(folder: Path) -> None:
    """Moves the serving form's probabilities, which stays a readable form."""
    path = folder / SERVING_FILES[1]
    declared = json.loads(path.read_text())
    declared["calibration"]["intercept"] += 1e-9
    path.write_text(json.dumps(declared))


def without_form(folder: Path) -> None:
    """Takes the serving form away."""
    for name in SERVING_FILES:
        (folder / name).unlink()


class Bomb:
    """Unpickling one runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


def pickled(mark: Path) -> Spoil:
    """Puts a pickle in the model file's place, that leaves a mark when it is loaded."""

    def spoil(folder: Path) -> None:
        (folder / PIPELINE_FILE).write_bytes(pickle.dumps(Bomb(mark)))

    return spoil
