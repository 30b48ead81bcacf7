"""MLflow: is it reachable, is the experiment of training there with runs, can the Production model be loaded.

Does not belong here: what is in a model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_platform.errors import StorageError
from mlops_platform.orchestration.doctor.finding import CONNECT_SECONDS, Finding, said
from mlops_platform.orchestration.doctor.servers import START_SERVERS, postgres
from mlops_platform.settings import mask_secrets
from mlops_platform.training_pipeline.registry import MLflowManager

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

TRAIN = "mlops train"
# Enough to say that there are some.
_RUNS_COUNTED = 100


def mlflow(settings: Settings) -> Finding:
    """MLflow answers, the experiment is there, and it has runs."""
    where = mask_secrets(settings.tracking_uri)
    _require_answer(settings)
    client = MLflowManager(settings).client
    name = settings.experiment_name
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        message = f"{where} has no experiment {name!r}"
        return Finding("MLflow", is_ok=False, message=message, mend=f"{TRAIN}, which makes it")
    if experiment.lifecycle_stage != "active":
        message = f"the experiment {name!r} at {where} was deleted"
        mend = f"mlflow experiments restore --experiment-id {experiment.experiment_id}"
        return Finding("MLflow", is_ok=False, message=message, mend=mend)
    runs = client.search_runs([experiment.experiment_id], max_results=_RUNS_COUNTED)
    if not runs:
        return Finding("MLflow", is_ok=False, message=f"{where}: {name} has no run", mend=TRAIN)
    count = f"{len(runs)} runs" if len(runs) < _RUNS_COUNTED else f"{_RUNS_COUNTED} runs or more"
    latest = runs[0].info
    message = f"{where}: {name} (id {experiment.experiment_id}) has {count}, the latest {latest.status}"
    return Finding("MLflow", is_ok=True, message=message)


def model(settings: Settings) -> Finding:
    """The Production model can be fetched, is untouched, and answers."""
    from mlops_platform.inference_pipeline.predictor import Predictor

    _require_answer(settings)
    loaded = Predictor.load(settings).model
    return Finding("model", is_ok=True, message=f"{loaded.name} version {loaded.version} in Production was loaded")


def _require_answer(settings: Settings) -> None:
    """MLflow answers within seconds: its own client would go on asking for minutes.

    Raises:
        StorageError: It does not.
    """
    uri = settings.tracking_uri
    if uri.startswith("postgresql"):
        with postgres("postgresql://" + uri.partition("://")[2], "MLFLOW_TRACKING_URI"):
            return
    if not uri.startswith(("http://", "https://")):
        return
    import httpx

    try:
        answer = httpx.get(f"{uri.rstrip('/')}/health", timeout=CONNECT_SECONDS)
    except httpx.HTTPError as error:
        hint = f"start it, such as by `{START_SERVERS} mlflow`, or correct MLFLOW_TRACKING_URI"
        raise StorageError(f"MLflow at {mask_secrets(uri)} does not answer: {said(error)}", hint=hint) from error
    if answer.status_code != 200:
        hint = "correct MLFLOW_TRACKING_URI; `mlflow server --allowed-hosts` names the hosts it answers under"
        raise StorageError(f"MLflow at {mask_secrets(uri)} answers {answer.status_code}", hint=hint)
