variable "name" {
  description = "Stands before the name of everything that is made."
  type        = string
  default     = "mlops"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,20}$", var.name))
    error_message = "Small letters, digits and hyphens, 2 to 21 of them."
  }
}

variable "region" {
  description = "AWS region of everything."
  type        = string
}

variable "vpc_id" {
  description = "Network of the tasks and the database."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones, with a way to AWS's services: a NAT gateway or VPC endpoints."
  type        = list(string)

  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "The database wants subnets in two zones."
  }
}

variable "image_tag" {
  description = "Tag of the images in the two repositories."
  type        = string
}

variable "timezone" {
  description = "Business time zone, MLOPS_TIMEZONE."
  type        = string
  default     = "UTC"
}

variable "engine" {
  description = "What computes features: duckdb in the run's task, or athena."
  type        = string
  default     = "duckdb"

  validation {
    condition     = contains(["duckdb", "athena"], var.engine)
    error_message = "duckdb or athena."
  }
}

variable "bytes_scanned_limit" {
  description = "Bytes that one query may scan in Athena; it fails beyond."
  type        = number
  default     = 1099511627776
}

variable "run_cpu" {
  description = "CPU units of a run's task; 1024 are one."
  type        = number
  default     = 4096
}

variable "run_memory" {
  description = "MiB of a run's task."
  type        = number
  default     = 16384
}

variable "database_class" {
  description = "RDS instance class."
  type        = string
  default     = "db.t4g.small"
}

variable "log_days" {
  description = "Days that logs, Athena's results and compute logs are kept."
  type        = number
  default     = 30
}
