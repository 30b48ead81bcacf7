# The catalog's databases, and Athena's workgroup. The tables are the platform's own to make.
locals {
  databases = ["bronze", "feature_store", "ml", "monitoring", "silver"]
  warehouse = "s3://${aws_s3_bucket.this["lake"].id}/lake"
  results   = "s3://${aws_s3_bucket.this["scratch"].id}/athena"
}

resource "aws_glue_catalog_database" "this" {
  for_each     = toset(local.databases)
  name         = each.key
  location_uri = "${local.warehouse}/${each.key}"
}

resource "aws_athena_workgroup" "this" {
  name = var.name

  configuration {
    # UNLOAD names its place itself; where a role may write is its policy's to say.
    enforce_workgroup_configuration    = false
    publish_cloudwatch_metrics_enabled = true
    bytes_scanned_cutoff_per_query     = var.bytes_scanned_limit

    engine_version {
      selected_engine_version = "Athena engine version 3"
    }

    result_configuration {
      output_location = "${local.results}/"

      encryption_configuration {
        encryption_option = "SSE_S3"
      }
    }
  }
}
