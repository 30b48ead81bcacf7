"""A study's MLflow runs: one parent, and a nested run for every trial.

They are made through the client, each named by its id: MLflow's notion of an active run plays no part. Does not belong
here: what is tried (`tuning.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlflow import MlflowClient

    from mlops_platform.training_pipeline.registry import MLflowManager

STUDY_TAG = "mlops.tuning-study"
PARENT_TAG = "mlflow.parentRunId"
SCORE = "cv_roc_auc"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """The parent.

    Args:
        client: MLflow.
        experiment_id: Experiment of the parent and its trials.
        run_id: The parent's run.
    """

    client: MlflowClient
    experiment_id: str
    run_id: str

    @contextmanager
    def trial(self, name: str, tags: Mapping[str, str], parameters: Mapping[str, Any]) -> Iterator[str]:
        """A nested run; yields its id."""
        from mlflow.entities import Param

        run = self.client.create_run(self.experiment_id, run_name=name, tags={PARENT_TAG: self.run_id, **tags})
        run_id = str(run.info.run_id)
        with _ending(self.client, run_id):
            self.client.log_batch(run_id, params=[Param(key, str(value)) for key, value in parameters.items()])
            yield run_id


@contextmanager
def study_run(
    manager: MLflowManager, experiment: str, name: str, study: str, tags: Mapping[str, str]
) -> Iterator[StudyRun]:
    """The run of a study, taken up again where there is one; trials that a killed process left running are failed.

    Args:
        manager: MLflow.
        experiment: The experiment's name.
        name: Name of a new run.
        study: The study.
        tags: More tags of a new run.
    """
    client, experiment_id = manager.client, manager.experiment_id(experiment)
    found = client.search_runs([experiment_id], f"tags.`{STUDY_TAG}` = '{study}'", max_results=1)
    run = found[0] if found else client.create_run(experiment_id, run_name=name, tags={STUDY_TAG: study, **tags})
    run_id = str(run.info.run_id)
    if found:
        client.update_run(run_id, status="RUNNING")
    left = f"tags.`{PARENT_TAG}` = '{run_id}' and attributes.status = 'RUNNING'"
    for trial in client.search_runs([experiment_id], left):
        client.set_terminated(trial.info.run_id, status="FAILED")
    with _ending(client, run_id):
        yield StudyRun(client, experiment_id, run_id)


@contextmanager
def _ending(client: MlflowClient, run_id: str) -> Iterator[None]:
    """Ends a run as FINISHED, as KILLED when it is pruned or interrupted, as FAILED when the body raises another."""
    from optuna import TrialPruned

    try:
        yield
    except BaseException as error:
        was_stopped = isinstance(error, TrialPruned | KeyboardInterrupt)
        client.set_terminated(run_id, status="KILLED" if was_stopped else "FAILED")
        raise
    client.set_terminated(run_id, status="FINISHED")
