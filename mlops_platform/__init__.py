"""MLOps platform for customer churn: feature, training and inference pipelines over Iceberg tables."""

import os as _os

# Pandera sets it to 1 when it is imported, for Spark; PyArrow then takes the wall time of any zone for UTC.
_os.environ.setdefault("PYARROW_IGNORE_TIMEZONE", "")
# MLflow asks its makers for instructions as soon as it is imported, and reads DO_NOT_TRACK=1 as a no.
_os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# ONNX Runtime, from 1.29 on, tells Microsoft of every process and session; its own switch comes too late for the first.
_os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
