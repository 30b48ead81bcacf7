"""Scores the population for one 6-hour tick and reports drift.

Made by `mlops airflow generate` from the Dagster definitions: change those and generate again, not this file. Each task
is one command of the platform, `mlops airflow exec`, in the home that MLOPS_HOME names; it returns the references of
what it made, and one that Airflow tries again finds what was done before.
"""

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, CronTriggerTimetable, chain, task

# Values reach the shell as variables, never as part of a command.
EXEC = (
    'exec "${MLOPS_BIN:-mlops}" airflow exec "$AIRFLOW_CTX_DAG_ID" "$AIRFLOW_CTX_TASK_ID" '
    '--dag-run "$AIRFLOW_CTX_DAG_RUN_ID" --try "$AIRFLOW_CTX_TRY_NUMBER" --at "$RUN_AT"'
)
# A triggered run has no logical date.
RUN_AT = {"RUN_AT": "{{ (dag_run.logical_date or dag_run.run_after).isoformat() }}"}

with DAG(
    "ml_batch_inference_pipeline",
    description="Scores the population for one 6-hour tick and reports drift.",
    schedule=CronTriggerTimetable("0 */6 * * *", timezone="UTC"),
    start_date=datetime(2020, 1, 1, tzinfo=ZoneInfo("UTC")),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "env": RUN_AT, "append_env": True, "output_processor": json.loads},
    tags=["ml", "monitoring"],
    doc_md=__doc__,
):
    load_inference_data = BashOperator(
        task_id="load_inference_data",
        bash_command=EXEC,
        owner="data-science",
        doc_md=(
            "ml/inference_input: Which rows the tick scores: the population at the feature_date before it, by snapshot."
        ),
    )

    load_production_model = BashOperator(
        task_id="load_production_model",
        bash_command=EXEC,
        owner="data-science",
        doc_md="ml/serving_model: The model version that was in Production when the tick was scored.",
    )

    generate_predictions = BashOperator(
        task_id="generate_predictions",
        bash_command=EXEC,
        owner="data-platform",
        doc_md="ml/predictions: Batch predictions: one row a customer, 6-hour tick and model version.",
    )

    save_to_iceberg = BashOperator(
        task_id="save_to_iceberg",
        bash_command=EXEC,
        owner="data-platform",
        doc_md="Reads the published predictions back from their Iceberg snapshot.",
    )

    monitor_predictions = BashOperator(
        task_id="monitor_predictions",
        bash_command=EXEC,
        owner="data-platform",
        doc_md=(
            "monitoring/drift_report: Drift of each feature and of the scores against the Production model's training "
            "rows, by tick."
        ),
    )

    @task.branch(task_id="check_drift_status", owner="data-platform")
    def choose(ti: Any) -> str:
        """Goes on with handle_drift where drift was found."""
        found = ti.xcom_pull(task_ids="monitor_predictions")["monitoring/drift_report"]
        return "handle_drift" if found["status"] == "drift" else "complete_pipeline"

    check_drift_status = choose()

    handle_drift = BashOperator(
        task_id="handle_drift",
        bash_command=EXEC,
        owner="data-platform",
        doc_md="Tells the team which columns drifted.",
    )

    complete_pipeline = BashOperator(
        task_id="complete_pipeline",
        bash_command=EXEC,
        owner="data-platform",
        doc_md="Sums up a tick without drift.",
    )

    chain(
        load_inference_data,
        load_production_model,
        generate_predictions,
        save_to_iceberg,
        monitor_predictions,
        check_drift_status,
    )
    chain(check_drift_status, [handle_drift, complete_pipeline])
