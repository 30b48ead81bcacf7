"""MLOps platform for customer churn: feature, training and inference pipelines over Iceberg tables."""

import os as _os

# Pandera sets it to 1 when it is imported, for Spark; PyArrow then takes the wall time of any zone for UTC.
_os.environ.setdefault("PYARROW_IGNORE_TIMEZONE", "")
