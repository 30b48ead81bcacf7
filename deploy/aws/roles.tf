# One role a part, each with the policy of its name in iam/ and nothing else.
locals {
  roles = toset(["dagster", "execution", "exporter", "mlflow", "pipelines", "service"])

  policy_values = {
    name                  = var.name
    account               = data.aws_caller_identity.current.account_id
    partition             = data.aws_partition.current.partition
    region                = var.region
    lake_bucket           = aws_s3_bucket.this["lake"].id
    mlflow_bucket         = aws_s3_bucket.this["mlflow"].id
    scratch_bucket        = aws_s3_bucket.this["scratch"].id
    workgroup             = aws_athena_workgroup.this.name
    home_arn              = aws_efs_file_system.home.arn
    home_access_point_arn = aws_efs_access_point.home.arn
    cluster               = aws_ecs_cluster.this.name
    cluster_arn           = aws_ecs_cluster.this.arn
    run_family            = local.run_family
    log_group_arn         = aws_cloudwatch_log_group.this.arn
    pipelines_role_arn    = aws_iam_role.this["pipelines"].arn
    execution_role_arn    = aws_iam_role.this["execution"].arn
  }
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.roles
  name               = "${var.name}-${each.key}"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy" "this" {
  for_each = aws_iam_role.this
  name     = each.key
  role     = each.value.id
  policy   = templatefile("${path.module}/iam/${each.key}.json", local.policy_values)
}

# For people and their tools: attach it to who may read the tables.
resource "aws_iam_policy" "analyst" {
  name   = "${var.name}-analyst"
  policy = templatefile("${path.module}/iam/analyst.json", local.policy_values)
}
