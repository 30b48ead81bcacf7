"""The house's rules as tables, to be read and adjusted: who may import whom, what is heavy, who knows the time.

Belongs here: data only. Does not belong here: how a source file is held against it (`checker.py`).
"""

from __future__ import annotations

# Part of mlops_platform → the parts it may import, at the top of a module or inside a function. A dotted name allows
# that module only. A part may always import itself. A new part needs a row.
_GROUND = {"clock", "contracts", "errors", "settings", "storage"}
_PIPELINES = {"data_pipeline", "feature_pipeline", "training_pipeline", "inference_pipeline"}
_COMMANDS = {"cli_options", "console", "definitions", "orchestration"}
ALLOWED: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "source_settings": set(),
    "settings": {"errors", "source_settings"},
    "clock": {"settings"},
    "web_guard": set(),
    "contracts": {"errors"},
    "storage": {"contracts", "errors", "settings"},
    "data_pipeline": _GROUND | {"source_settings"},
    "feature_pipeline": _GROUND,
    "training_pipeline": _GROUND | {"feature_pipeline"},
    "inference_pipeline": _GROUND | {"feature_pipeline", "training_pipeline"},
    "monitoring": _GROUND | {"training_pipeline.labels", "web_guard"},
    "home_backup": {"errors", "settings", "storage"},
    "erasure": _GROUND | _PIPELINES,
    "orchestration": _GROUND | _PIPELINES | {"erasure", "home_backup", "monitoring", "web_guard"},
    "definitions": {"orchestration", "settings", "errors"},
    "console": {"data_pipeline", "erasure", "home_backup", "orchestration", "errors", "storage"},
    "console_alerts": {"console", "monitoring.alerts", "storage.csv_cells"},
    "console_features": {"console", "contracts", "errors", "feature_pipeline"},
    "console_lineage": {"console", "errors", "training_pipeline"},
    "console_models": {"console", "errors", "training_pipeline"},
    "cli_options": {"console", "errors", "settings"},
    "cli_airflow": _COMMANDS | {"airflow_pack", "errors"},
    "cli_alerts": {"cli_options", "console_alerts", "monitoring.alerts", "settings"},
    "cli_environment": _COMMANDS | {"errors", "settings"},
    "cli_features": _GROUND | _PIPELINES | _COMMANDS | {"console_features"},
    "cli_lineage": _GROUND | _PIPELINES | _COMMANDS | {"console_lineage"},
    "cli_metrics": _COMMANDS | {"monitoring", "settings", "storage"},
    "cli_models": _GROUND | _PIPELINES | _COMMANDS | {"console_models"},
    "cli_training": _COMMANDS | {"training_pipeline"},
    "cli": _GROUND
    | _PIPELINES
    | _COMMANDS
    | {"cli_airflow", "cli_alerts", "cli_features", "cli_lineage", "cli_metrics", "cli_models", "cli_training"}
    | {"cli_environment", "erasure", "home_backup", "monitoring"},
    "airflow_pack": {"definitions", "errors", "orchestration", "settings"},
    "client": {"errors"},
    "serving": {"inference_pipeline", "errors", "monitoring.alerts", "settings", "web_guard"},
}

# Part → parts it reaches only inside the functions that need them: `mlops query` must not pay for Dagster.
LAZY: dict[str, set[str]] = {
    "cli": {"definitions", "orchestration"},
    "airflow_pack": {"definitions", "orchestration"},
    "cli_airflow": {"definitions", "orchestration"},
    "cli_environment": {"definitions", "orchestration"},
    "cli_features": {"definitions", "orchestration"},
    "cli_metrics": {"definitions", "orchestration"},
    "cli_models": {"definitions", "orchestration"},
    "cli_training": {"definitions", "orchestration"},
}

# The only parts that import dagster or its libraries.
DAGSTER_PARTS = {"orchestration", "definitions"}

# The only part that reads environment variables; `__init__` sets one that must stand before any library is imported.
ENVIRONMENT_PARTS = {"settings", "__init__"}

# Parts that may ask what time it is. Everything else gets days, ticks and instants as arguments.
CLOCK_PARTS = {"clock", "cli", "cli_features", "cli_metrics", "cli_models", "orchestration", "serving"}

# Documented calls and `python -m` entry points inside pipelines: without an argument they mean now, or the last
# complete day or tick. The documented transition_model_stage (`registry`) has none for when somebody decided.
CLOCK_MODULES = {
    "mlops_platform.data_pipeline.ingestion_pipeline",
    "mlops_platform.feature_pipeline.__main__",
    "mlops_platform.feature_pipeline.pipeline",
    "mlops_platform.inference_pipeline.batch_pipeline",
    "mlops_platform.monitoring.alerts.manager",
    "mlops_platform.training_pipeline.pipeline",
    "mlops_platform.training_pipeline.registry",
}

# Libraries imported inside functions only: 0.5 to 4.7 CPU seconds each, paid by every process that imports the module.
# duckdb (0.1 s) and pyarrow may stand at the top.
HEAVY = {
    "bentoml",
    "dagster_mlflow",
    "dagster_pandera",
    "evidently",
    "ibis",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "optuna",
    "pandas",
    "pandera",
    "pyiceberg",
    "pyspark",
    "scipy",
    "skops",
    "sklearn",
    "xgboost",
}

# (module, library) → why it stands at the top all the same.
HEAVY_EXCEPTIONS: dict[tuple[str, str], str] = {
    ("mlops_platform.feature_pipeline.transformer", "sklearn"): "FeatureTransformer inherits from scikit-learn's bases",
    ("mlops_platform.training_pipeline.calibration", "sklearn"): "CalibratedClassifier does, too",
}

# Module → libraries that importing it must not load, directly or through others.
STAYS_LIGHT: dict[str, set[str]] = {
    "mlops_platform.cli": HEAVY | {"dagster"},
    "mlops_platform.settings": HEAVY | {"dagster"},
    "mlops_platform.contracts": HEAVY | {"dagster"},
    "mlops_platform.definitions": {"evidently", "mlflow", "xgboost", "sklearn", "matplotlib", "bentoml"},
}
