"""The Airflow DAG pack: the documented DAGs, generated from the loaded Dagster Definitions.

`tasks.py` groups assets into the documented tasks, `plan.py` reads everything else from the Definitions, `render.py`
writes files, `execute.py` is what a task of the `bash` runner calls. Does not belong here: anything of Airflow's own.
"""
