"""MLOps platform for customer churn: feature, training and inference pipelines over Iceberg tables."""

__version__ = "0.1.0"
