"""MLOps platform for customer churn: feature, training and inference pipelines over Iceberg tables."""
