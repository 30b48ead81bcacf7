"""The documented task names, and which asset or command each of them is.

Nothing else is written down: cron, retries, tags, owners and what depends on what come from the Definitions. Does not
belong here: reading those (`plan.py`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["assets", "command", "sensor", "branch"]


@dataclass(frozen=True)
class Branch:
    """Two ways on, by what an asset's task found.

    Args:
        asset: The asset whose metadata decides.
        field: The entry that decides.
        value: With this value the DAG goes on with `then`, with any other with `otherwise`.
        then: A task's name.
        otherwise: Another's.
    """

    asset: str
    field: str
    value: str
    then: str
    otherwise: str


@dataclass(frozen=True)
class Task:
    """One task of a DAG: it materializes assets, runs a command, waits for one, or chooses a branch.

    Args:
        name: As documented.
        assets: What it materializes.
        command: What it runs instead, one of `orchestration.task_commands.COMMANDS`.
        about: The asset a command is about: it runs after that asset's task and before those which read the asset. An
            asset of another job: before all that read it.
        words: What it does, for a command or branch; an asset says so itself.
        is_sensor: Whether the command is asked again until it answers that it is ready.
        files: What a sensor on S3 looks for instead, below the warehouse; {} is the day.
        skips: Entry and value of the asset's metadata that mean the task had nothing to do, such as a refused model.
        branch: The two ways on.
    """

    name: str
    assets: tuple[str, ...] = ()
    command: str | None = None
    about: str | None = None
    words: str = ""
    is_sensor: bool = False
    files: str = ""
    skips: tuple[str, str] | None = None
    branch: Branch | None = None


DAGS: Mapping[str, Sequence[Task]] = {
    "ml_training_pipeline": (
        Task(
            "wait_for_data",
            command="data_ready",
            about="silver/transactions",
            is_sensor=True,
            files="silver/transactions/data/transaction_ts_day={}/*.parquet",
            words="Waits until the day's transactions are in silver.",
        ),
        Task("extract_features", ("feature_store/customer_features",)),
        Task("prepare_training_data", ("ml/training_set",)),
        Task("train_model", ("ml/churn_model",)),
        Task("evaluate_model", ("ml/model_evaluation",)),
        Task("promote_model", ("ml/production_model",), skips=("decision", "refused")),
        Task(
            "send_notification",
            command="notify_training",
            about="ml/production_model",
            words="Tells the team whether the model was promoted, and why.",
        ),
    ),
    "ml_batch_inference_pipeline": (
        Task("load_inference_data", ("ml/inference_input",)),
        Task("load_production_model", ("ml/serving_model",)),
        Task("generate_predictions", ("ml/predictions",)),
        Task(
            "save_to_iceberg",
            command="verify_predictions",
            about="ml/predictions",
            words="Reads the published predictions back from their Iceberg snapshot.",
        ),
        Task("monitor_predictions", ("monitoring/drift_report",)),
        Task(
            "check_drift_status",
            about="monitoring/drift_report",
            branch=Branch("monitoring/drift_report", "status", "drift", "handle_drift", "complete_pipeline"),
            words="Goes on with handle_drift where drift was found.",
        ),
        Task(
            "handle_drift",
            command="handle_drift",
            words="Tells the team which columns drifted.",
        ),
        Task("complete_pipeline", command="complete_inference", words="Sums up a tick without drift."),
    ),
}


def kind(task: Task) -> Kind:
    """How a task is done."""
    if task.branch is not None:
        return "branch"
    if task.command is not None:
        return "sensor" if task.is_sensor else "command"
    return "assets"
