resource "aws_ecs_task_definition" "this" {
  for_each                 = local.definitions
  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  execution_role_arn       = aws_iam_role.this["execution"].arn
  task_role_arn            = aws_iam_role.this[each.value.role].arn

  container_definitions = jsonencode([{
    # Fargate gives an empty volume to root alone.
    name                   = "tmp"
    image                  = "${aws_ecr_repository.this[each.value.image].repository_url}:${var.image_tag}"
    essential              = false
    entryPoint             = []
    command                = ["chmod", "1777", "/tmp"]
    user                   = "0:0"
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    }, {
    name                   = each.key
    dependsOn              = [{ containerName = "tmp", condition = "SUCCESS" }]
    image                  = "${aws_ecr_repository.this[each.value.image].repository_url}:${var.image_tag}"
    essential              = true
    entryPoint             = each.value.entry
    command                = each.value.command
    user                   = "10001:10001"
    readonlyRootFilesystem = true
    stopTimeout            = 60

    # Names of environment variables, and where ECS finds their values when a task starts.
    secrets = [for name in each.value.secrets : { name = name, valueFrom = aws_secretsmanager_secret.this[name].arn }]

    environment = concat(
      [for name, value in each.value.environment : { name = name, value = value }],
      contains(["code-location", "dagster-daemon", "dagster-webserver", "run"], each.key)
      ? [{ name = "MLOPS_DAGSTER_YAML", value = local.dagster_yaml }] : [],
    )

    portMappings = [
      for name, port in local.ports : { name = name, containerPort = port, protocol = "tcp" } if name == each.key
    ]

    mountPoints = concat(
      [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }],
      each.value.has_home ? [{ sourceVolume = "home", containerPath = "/data", readOnly = false }] : [],
    )

    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.this.name
        awslogs-region        = var.region
        awslogs-stream-prefix = each.key
      }
    }
  }])

  volume {
    name = "tmp"
  }

  dynamic "volume" {
    for_each = each.value.has_home ? ["home"] : []

    content {
      name = volume.value

      efs_volume_configuration {
        file_system_id     = aws_efs_file_system.home.id
        transit_encryption = "ENABLED"

        authorization_config {
          access_point_id = aws_efs_access_point.home.id
          iam             = "ENABLED"
        }
      }
    }
  }
}

locals {
  dagster_yaml = templatefile("${path.module}/dagster.yaml", {
    region         = var.region
    scratch_bucket = aws_s3_bucket.this["scratch"].id
    cluster        = aws_ecs_cluster.this.name
    run_family     = local.run_family
    subnets        = join(", ", var.subnet_ids)
    security_group = aws_security_group.tasks.id
  })
}

resource "aws_ecs_service" "this" {
  for_each               = local.tasks
  name                   = each.key
  cluster                = aws_ecs_cluster.this.id
  task_definition        = aws_ecs_task_definition.this[each.key].arn
  desired_count          = 1
  launch_type            = "FARGATE"
  enable_execute_command = false

  # Never two daemons at once; the others may overlap.
  deployment_maximum_percent         = each.key == "dagster-daemon" ? 100 : 200
  deployment_minimum_healthy_percent = each.key == "dagster-daemon" ? 0 : 100

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.subnet_ids
    security_groups  = [aws_security_group.tasks.id]
    assign_public_ip = false
  }

  service_connect_configuration {
    enabled   = true
    namespace = aws_service_discovery_http_namespace.this.arn

    dynamic "service" {
      for_each = { for name, port in local.ports : name => port if name == each.key }

      content {
        port_name = service.key

        client_alias {
          port     = service.value
          dns_name = service.key
        }
      }
    }
  }

  depends_on = [aws_efs_mount_target.home, aws_iam_role_policy.this]
}
