"""`BatchInferencePipeline`, the documented call, and `python -m mlops_platform.inference_pipeline.batch`.

Without rows it scores the population for the last complete tick and publishes ml.predictions, as the 6-hour job does;
with rows of a user's own it writes a file. Belongs here: both calls, which know the time. Does not belong here: what
they do (`batch.py`, `batch_input.py`, `batch_scoring.py`, `batch_files.py`).
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

from mlops_platform import clock
from mlops_platform.contracts import NOT_SCORED, PREDICTIONS
from mlops_platform.contracts.ml import OUTSIDE_POPULATION
from mlops_platform.errors import InputError, ModelError, PlatformError
from mlops_platform.feature_pipeline.pipeline import as_day
from mlops_platform.inference_pipeline.batch import inference_input, predictions
from mlops_platform.inference_pipeline.batch_files import output_file
from mlops_platform.inference_pipeline.batch_rows import score_rows
from mlops_platform.inference_pipeline.batch_scoring import SCORING_ROWS
from mlops_platform.inference_pipeline.predictor import Predictor
from mlops_platform.settings import apply_exports, load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import PRODUCTION, MLflowManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime
    from pathlib import Path

    from mlops_platform.inference_pipeline.batch_input import GivenRows
    from mlops_platform.settings import Settings

    Note: TypeAlias = Callable[[str], object]


class BatchInferencePipeline:
    """Scores customers with a registered model.

    Args:
        model_name: Name in the model registry.
        model_stage: The stage whose version scores.
        settings: The home; None: as the environment says.
    """

    def __init__(
        self,
        model_name: str = "customer_churn_model",
        model_stage: str = PRODUCTION,
        settings: Settings | None = None,
    ) -> None:
        home = settings if settings is not None else load_settings()
        self.settings = home.model_copy(update={"model_name": model_name})
        self.model_stage = model_stage
        self.lake = Lake(self.settings)

    def run(
        self,
        input_data: GivenRows | None = None,
        output_path: str | Path | None = None,
        *,
        feature_date: date | str | None = None,
        note: Note | None = None,
        batch_rows: int = SCORING_ROWS,
    ) -> dict[str, Any]:
        """Scores rows into a file, or without any the population into ml.predictions.

        Args:
            input_data: A DataFrame, an Arrow table or the path of a Parquet file, one row a customer. Features it has
                are used where they fit their contract; those it lacks come from the feature store.
            output_path: The file under the warehouse, such as `ml/predictions/batch_20240115.parquet`; what is not
                scored, and why, is written beside it, to `batch_20240115.not_scored.parquet`.
            feature_date: The day whose features complete the rows; None: the last complete one. A tick has its own.
            note: Is told of the progress, every million rows.
            batch_rows: Rows scored at once.

        Returns:
            n_predictions, n_not_scored, not_scored (rows by reason), output_path (of a tick: the table),
            not_scored_path, model_name, model_version, feature_date, tick (None: a file), snapshot_id (of
            ml.predictions; None: a file), feature_snapshot_id (None: every feature was given), is_new (False: the file
            or table held the same already and is as it was).

        Raises:
            InputError: The rows lack customer_id or hold a column of a wrong type, the path leads out of the warehouse,
                or only one of both is given.
            ModelError: There is no version in the stage, or it can't be loaded.
            NotEnoughDataError: The feature store lacks the day.
            StorageError: The file or table can't be written.
        """
        if (input_data is None) != (output_path is None):
            raise InputError(
                f"{'output_path' if input_data is None else 'input_data'} is given alone",
                expected="both, or neither to score the population into ml.predictions",
            )
        now = clock.now(self.settings)
        if input_data is None or output_path is None:
            if feature_date is not None:
                raise InputError("feature_date is given without rows", expected="a tick scores the day before it")
            return self._run_tick(clock.last_ended_tick(now, self.settings.zone), now, note, batch_rows)
        target = output_file(self.settings, output_path)
        last = clock.last_complete_day(now, self.settings.zone)
        day = last if feature_date is None else as_day(feature_date)
        predictor, features = self._predictor(), self.lake.snapshot(self.lake.features.customer_features)
        done = score_rows(
            predictor,
            input_data,
            features,
            target,
            feature_date=day,
            created_at=now,
            note=note,
            batch_rows=batch_rows,
        )
        return _results(predictor, done.scored, done.not_scored, day, done.feature_snapshot_id) | {
            "output_path": target.address,
            "not_scored_path": target.not_scored.address,
            "tick": None,
            "snapshot_id": None,
            "is_new": done.is_new,
        }

    def _run_tick(self, tick: datetime, now: datetime, note: Note | None, batch_rows: int) -> dict[str, Any]:
        if self.model_stage != PRODUCTION:
            raise InputError(
                f"{PREDICTIONS.name} holds scores of {PRODUCTION}, not of {self.model_stage}",
                hint="give input_data and output_path to score rows into a file.",
            )
        features = self.lake.snapshot(self.lake.features.customer_features)
        found = inference_input(self.settings, features, clock.feature_date_of(tick, self.settings.zone))
        predictor = self._predictor()
        draft = predictions(
            self.settings,
            predictor,
            features,
            feature_date=found.feature_date,
            tick=tick,
            created_at=now,
            note=note,
            batch_rows=batch_rows,
        )
        done = self.lake.publish(draft)
        left = {OUTSIDE_POPULATION: found.outside_population} if found.outside_population else {}
        return _results(predictor, done.rows, left, found.feature_date, found.snapshot_id) | {
            "output_path": PREDICTIONS.name,
            "not_scored_path": NOT_SCORED.name,
            "tick": tick,
            "snapshot_id": done.snapshot_id,
            "is_new": done.is_new,
        }

    def _predictor(self) -> Predictor:
        manager, name = MLflowManager(self.settings), self.settings.model_name
        if self.model_stage == PRODUCTION:
            return Predictor.load(self.settings, version=manager.production(name))
        found = manager.in_stage(name, self.model_stage)
        if found is None:
            raise ModelError(f"no version of {name} is in {self.model_stage}", hint="look with `mlops models list`.")
        return Predictor.load(self.settings, version=found)


def _results(
    predictor: Predictor, scored: int, not_scored: dict[str, int], day: date, snapshot_id: int | None
) -> dict[str, Any]:
    return {
        "n_predictions": scored,
        "n_not_scored": sum(not_scored.values()),
        "not_scored": not_scored,
        "model_name": predictor.model.name,
        "model_version": predictor.model.version,
        "feature_date": day,
        "feature_snapshot_id": snapshot_id,
    }


def main(arguments: list[str] | None = None) -> int:
    """Runs the call; returns the exit code, 2 for a mistake the user can mend."""
    parser = argparse.ArgumentParser(
        "python -m mlops_platform.inference_pipeline.batch",
        description="Score the population for the last complete tick, or the rows of a file.",
        allow_abbrev=False,
    )
    parser.add_argument("--input", metavar="FILE.parquet", help="rows to score, with customer_id")
    parser.add_argument("--output", metavar="FILE.parquet", help="where to, below the warehouse")
    parser.add_argument("--feature-date", metavar="DAY", help="day whose features complete the rows; default: the last")
    given = parser.parse_args(arguments)
    try:
        settings = load_settings()
        apply_exports(settings)
        done = BatchInferencePipeline(settings.model_name, settings=settings).run(
            given.input,
            given.output,
            feature_date=given.feature_date,
            note=lambda words: sys.stderr.write(f"batch: {words}\n"),
        )
    except PlatformError as error:
        sys.stderr.write(f"batch: {error}\n")
        return 2
    left = ", ".join(f"{count:,} {reason}" for reason, count in done["not_scored"].items()) or "none"
    sys.stdout.write(
        f"{done['output_path']}: {done['n_predictions']:,} predictions by {done['model_name']} version "
        f"{done['model_version']} on feature_date {done['feature_date']} "
        f"({'new' if done['is_new'] else 'unchanged'}); not scored: {left}\n"
    )
    return 0
