output "warehouse_url" {
  description = "MLOPS_WAREHOUSE_URL of whoever works with the tables from elsewhere."
  value       = local.warehouse
}

output "athena_results_url" {
  description = "MLOPS_ATHENA_RESULTS_URL."
  value       = local.results
}

output "database_host" {
  description = "For the addresses in the secrets."
  value       = aws_db_instance.this.address
}

output "database_password_secret" {
  description = "The secret that RDS keeps the master password in."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "repositories" {
  description = "Where the images go."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "analyst_policy_arn" {
  description = "Policy of people who read the tables with Athena."
  value       = aws_iam_policy.analyst.arn
}
