"""MLflow's own logging of a fit, for the documented `train_model`.

scikit-learn's autologging sees the whole Pipeline; XGBoost's would see the trees without the features. Its state is
global to the process: it is on for one fit, and as it was afterwards. Does not belong here: what the platform logs
itself (`train.py`).
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mlops_platform.settings import variable_kept

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlops_platform.training_pipeline.registry import MLflowManager


@contextmanager
def autologged(manager: MLflowManager, run_id: str) -> Iterator[None]:
    """Logs the parameters and training metrics of what is fitted inside to a run."""
    import mlflow
    from mlflow.tracking._tracking_service import utils
    from mlflow.utils.autologging_utils import AUTOLOGGING_INTEGRATIONS

    known, before = dict(AUTOLOGGING_INTEGRATIONS.get("sklearn", {})), utils._tracking_uri
    # Setting the address sets the variable too, which every other home of this process would then follow.
    with variable_kept("MLFLOW_TRACKING_URI"):
        mlflow.set_tracking_uri(manager.settings.tracking_uri)
        # The platform saves the model itself, with types it trusts; saving it here as well would take 10 s.
        mlflow.sklearn.autolog(log_models=False, log_datasets=False, silent=True)
        try:
            with mlflow.start_run(run_id=run_id):
                yield
        finally:
            mlflow.sklearn.autolog(**known) if known else mlflow.sklearn.autolog(disable=True, silent=True)
            utils._tracking_uri = before  # None is not among what `set_tracking_uri` takes.
