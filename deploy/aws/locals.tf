# What runs: each task's image, command, role, size and secrets, as docker-compose.yml has them.
locals {
  run_family = "${var.name}-run"
  ports      = { mlflow = 5000, code-location = 4000, dagster-webserver = 3001, exporter = 9101, churn-service = 8000 }
  workspace  = "/app/workspace.yaml"

  platform_environment = {
    MLOPS_PROFILE            = "aws"
    MLOPS_HOME               = "/data"
    MLOPS_WAREHOUSE_URL      = local.warehouse
    MLOPS_ENGINE             = var.engine
    MLOPS_ATHENA_WORKGROUP   = aws_athena_workgroup.this.name
    MLOPS_ATHENA_RESULTS_URL = local.results
    MLOPS_TIMEZONE           = var.timezone
    MLOPS_ALLOWED_HOSTS      = "dagster-webserver,exporter,churn-service"
    MLFLOW_TRACKING_URI      = "http://mlflow:5000"
    AWS_REGION               = var.region
    AWS_DEFAULT_REGION       = var.region
  }

  service_environment = {
    MLOPS_HOME          = "/data"
    MLOPS_TIMEZONE      = var.timezone
    MLOPS_ALLOWED_HOSTS = "churn-service"
    MLFLOW_TRACKING_URI = "http://mlflow:5000"
    BENTOML_HOME        = "/data/bentoml"
  }

  # A run's task begins with these words too; Dagster's launcher replaces the command after them.
  platform_entry = ["sh", "-c", file("${path.module}/entry.sh"), "entry"]
  pipelines      = ["MLOPS_CRM_URL", "MLOPS_DAGSTER_STORAGE_URL", "MLOPS_HMAC_KEY"]

  tasks = {
    mlflow = {
      image   = "platform", role = "mlflow", cpu = 1024, memory = 2048, has_home = false
      entry   = [], environment = { MLOPS_HOME = "/tmp/home", AWS_REGION = var.region, AWS_DEFAULT_REGION = var.region }
      secrets = ["MLFLOW_BACKEND_STORE_URI"]
      command = [
        "mlops", "exec", "--", "mlflow", "server", "--host=0.0.0.0", "--port=5000", "--workers=2",
        "--artifacts-destination=s3://${aws_s3_bucket.this["mlflow"].id}/artifacts",
        "--allowed-hosts=mlflow:5000,127.0.0.1:5000",
      ]
    }
    code-location = {
      image = "platform", role = "pipelines", cpu = 1024, memory = 4096, has_home = true
      entry = local.platform_entry, environment = local.platform_environment, secrets = local.pipelines
      command = [
        "dagster", "api", "grpc", "--host", "0.0.0.0", "--port", "4000", "--module-name", "mlops_platform.definitions",
        "--attribute", "defs", "--location-name", "mlops_platform",
      ]
    }
    dagster-webserver = {
      image   = "platform", role = "dagster", cpu = 512, memory = 2048, has_home = true
      entry   = local.platform_entry, environment = local.platform_environment
      secrets = ["MLOPS_DAGSTER_STORAGE_URL"]
      command = [
        "python", "-m", "mlops_platform.orchestration.webserver", "--workspace", local.workspace,
        "--host", "0.0.0.0", "--port", "3001",
      ]
    }
    dagster-daemon = {
      image   = "platform", role = "dagster", cpu = 512, memory = 2048, has_home = true
      entry   = local.platform_entry, environment = local.platform_environment
      secrets = ["MLOPS_DAGSTER_STORAGE_URL"]
      command = ["dagster-daemon", "run", "--workspace", local.workspace]
    }
    exporter = {
      image   = "platform", role = "exporter", cpu = 512, memory = 2048, has_home = true
      entry   = [], environment = local.platform_environment
      secrets = ["MLOPS_DAGSTER_STORAGE_URL", "MLOPS_HMAC_KEY"]
      command = ["mlops", "metrics", "serve", "--host", "0.0.0.0", "--port", "9101"]
    }
    churn-service = {
      image   = "serving", role = "service", cpu = 1024, memory = 2048, has_home = true
      entry   = [], environment = local.service_environment, secrets = ["MLOPS_API_TOKEN", "MLOPS_HMAC_KEY"]
      command = ["bentoml", "serve", "serving.service:ChurnService", "--host", "0.0.0.0", "--port", "8000"]
    }
  }

  # Runs have a definition and no service: Dagster starts a task for each.
  definitions = merge(local.tasks, {
    run = {
      image   = "platform", role = "pipelines", cpu = var.run_cpu, memory = var.run_memory, has_home = true
      entry   = local.platform_entry, environment = local.platform_environment, secrets = local.pipelines
      command = ["dagster", "--version"]
    }
  })
}
