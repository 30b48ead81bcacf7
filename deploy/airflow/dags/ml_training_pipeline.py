"""Features → labelled rows → model → held-out evaluation → Production, if it passes the gate.

Made by `mlops airflow generate` from the Dagster definitions: change those and generate again, not this file. Each task
is one command of the platform, `mlops airflow exec`, in the home that MLOPS_HOME names; it returns the references of
what it made, and one that Airflow tries again finds what was done before.
"""

import json
import os
import subprocess
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronTriggerTimetable, PokeReturnValue, chain, task
from airflow.sdk.exceptions import AirflowException

# Values reach the shell as variables, never as part of a command.
EXEC = (
    'exec "${MLOPS_BIN:-mlops}" airflow exec "$AIRFLOW_CTX_DAG_ID" "$AIRFLOW_CTX_TASK_ID" '
    '--dag-run "$AIRFLOW_CTX_DAG_RUN_ID" --try "$AIRFLOW_CTX_TRY_NUMBER" --at "$RUN_AT"'
)
# A triggered run has no logical date.
RUN_AT = {"RUN_AT": "{{ (dag_run.logical_date or dag_run.run_after).isoformat() }}"}

NOT_READY = 3


def is_ready(task_id: str, dag_run: Any, attempt: int) -> PokeReturnValue:
    """Asks the platform; what it answers is the XCom."""
    at = (dag_run.logical_date or dag_run.run_after).isoformat()
    command = [os.environ.get("MLOPS_BIN", "mlops"), "airflow", "exec", dag_run.dag_id, task_id]
    options = ["--dag-run", dag_run.run_id, "--try", str(attempt), "--at", at]
    asked = subprocess.run([*command, *options], stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - no shell
    if asked.returncode not in {0, NOT_READY}:
        raise AirflowException(f"The platform ended with exit code {asked.returncode}; its message is above.")
    answer = json.loads(asked.stdout.splitlines()[-1])
    print(answer["why"])  # noqa: T201 - a task's log
    return PokeReturnValue(is_done=answer["ready"], xcom_value=answer)


with DAG(
    "ml_training_pipeline",
    description="Features → labelled rows → model → held-out evaluation → Production, if it passes the gate.",
    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "env": RUN_AT, "append_env": True, "output_processor": json.loads},
    tags=["feature_store", "ml"],
    doc_md=__doc__,
):

    @task.sensor(
        task_id="wait_for_data", poke_interval=300, timeout=6 * 60 * 60, mode="reschedule", owner="data-platform"
    )
    def wait_until_ready(dag_run: Any, ti: Any) -> PokeReturnValue:
        """Waits until the day's transactions are in silver."""
        return is_ready("wait_for_data", dag_run, ti.try_number)

    wait_for_data = wait_until_ready()

    extract_features = BashOperator(
        task_id="extract_features",
        bash_command=EXEC,
        owner="data-platform",
        doc_md=(
            "feature_store/customer_features: The feature store: the state of every customer with a purchase so far, "
            "at the end of local day feature_date."
        ),
    )

    prepare_training_data = BashOperator(
        task_id="prepare_training_data",
        bash_command=EXEC,
        owner="data-platform",
        doc_md=(
            "ml/training_set: Labelled rows of the last training: features at past feature_dates, and whether the "
            "customer churned after each."
        ),
    )

    train_model = BashOperator(
        task_id="train_model",
        bash_command=EXEC,
        owner="data-science",
        doc_md=(
            "ml/churn_model: The churn model of the last training in an MLflow run: one scikit-learn Pipeline, "
            "threshold chosen on held-back customers."
        ),
    )

    evaluate_model = BashOperator(
        task_id="evaluate_model",
        bash_command=EXEC,
        owner="data-science",
        doc_md=(
            "ml/model_evaluation: The model's quality on held-out rows that lie later in time than every training "
            "label, beside recency-only, churn_score alone and the champion."
        ),
    )

    promote_model = BashOperator(
        task_id="promote_model",
        bash_command=EXEC,
        owner="data-science",
        doc_md=(
            "ml/production_model: The gate's decision: Staging → Production, the old version Archived, or refused with "
            "the reason."
        ),
    )

    send_notification = BashOperator(
        task_id="send_notification",
        bash_command=EXEC,
        trigger_rule="none_failed",
        owner="data-science",
        doc_md="Tells the team whether the model was promoted, and why.",
    )

    chain(
        wait_for_data,
        extract_features,
        prepare_training_data,
        train_model,
        evaluate_model,
        promote_model,
        send_notification,
    )
