# Secrets are made empty: their values never stand in Terraform's state (README.md says how they get there).
locals {
  secrets = {
    MLOPS_DAGSTER_STORAGE_URL = "PostgreSQL of Dagster's runs and the tables' locks"
    MLFLOW_BACKEND_STORE_URI  = "PostgreSQL of the MLflow server"
    MLOPS_CRM_URL             = "The CRM's database"
    MLOPS_HMAC_KEY            = "Key of the hashes that stand for customers"
    MLOPS_API_TOKEN           = "Bearer token of the churn service's callers"
  }
}

resource "aws_secretsmanager_secret" "this" {
  for_each    = local.secrets
  name        = "${var.name}/${each.key}"
  description = each.value
}
