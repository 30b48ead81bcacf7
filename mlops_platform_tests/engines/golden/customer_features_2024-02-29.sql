-- Made by `make docs` from mlops_platform/contracts and feature_pipeline/transform.py; edit those.
SELECT
  "t19"."customer_id",
  FROM_ISO8601_DATE('2024-02-29') AS "feature_date",
  CAST("t19"."count_7d" AS INTEGER) AS "total_transactions_7d",
  COALESCE(
    (
      CAST("t19"."sum_7d" AS DOUBLE) / CAST(100.0 AS DOUBLE)
    ) / CAST(NULLIF("t19"."count_7d", 0) AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "avg_transaction_value_7d",
  COALESCE(CAST("t19"."max_7d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "max_transaction_value_7d",
  COALESCE(CAST("t19"."min_7d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "min_transaction_value_7d",
  COALESCE(
    SQRT(
      "t19"."spread_7d" / CAST(NULLIF("t19"."count_7d" * (
        "t19"."count_7d" - 1
      ), 0) AS DOUBLE)
    ) / CAST(100.0 AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "std_transaction_value_7d",
  CAST("t19"."count_30d" AS INTEGER) AS "total_transactions_30d",
  COALESCE(
    (
      CAST("t19"."sum_30d" AS DOUBLE) / CAST(100.0 AS DOUBLE)
    ) / CAST(NULLIF("t19"."count_30d", 0) AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "avg_transaction_value_30d",
  COALESCE(CAST("t19"."max_30d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "max_transaction_value_30d",
  COALESCE(CAST("t19"."min_30d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "min_transaction_value_30d",
  COALESCE(
    SQRT(
      "t19"."spread_30d" / CAST(NULLIF("t19"."count_30d" * (
        "t19"."count_30d" - 1
      ), 0) AS DOUBLE)
    ) / CAST(100.0 AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "std_transaction_value_30d",
  CAST("t19"."count_90d" AS INTEGER) AS "total_transactions_90d",
  COALESCE(
    (
      CAST("t19"."sum_90d" AS DOUBLE) / CAST(100.0 AS DOUBLE)
    ) / CAST(NULLIF("t19"."count_90d", 0) AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "avg_transaction_value_90d",
  COALESCE(CAST("t19"."max_90d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "max_transaction_value_90d",
  COALESCE(CAST("t19"."min_90d" AS DOUBLE) / CAST(100.0 AS DOUBLE), CAST(0.0 AS DOUBLE)) AS "min_transaction_value_90d",
  COALESCE(
    SQRT(
      "t19"."spread_90d" / CAST(NULLIF("t19"."count_90d" * (
        "t19"."count_90d" - 1
      ), 0) AS DOUBLE)
    ) / CAST(100.0 AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "std_transaction_value_90d",
  COALESCE("t19"."mode_category_90d", 'unknown') AS "preferred_category",
  COALESCE("t19"."mode_payment_method_90d", 'unknown') AS "preferred_payment_method",
  CAST("t19"."last_all" AS INTEGER) AS "days_since_last_transaction",
  COALESCE(
    CAST("t19"."count_is_weekend_90d" AS DOUBLE) / CAST(NULLIF("t19"."count_90d", 0) AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "transactions_weekend_ratio",
  COALESCE("t19"."mode_transaction_hour_90d", -1) AS "peak_hour_transactions",
  CAST("t19"."first_all" AS INTEGER) AS "tenure_days",
  CAST("t19"."count_365d" AS INTEGER) AS "total_transactions_365d",
  CAST("t19"."sum_365d" AS DOUBLE) / CAST(100.0 AS DOUBLE) AS "total_value_365d",
  CAST((
    "t19"."first_all" - "t19"."last_all"
  ) + 90 AS DOUBLE) / CAST("t19"."days_all" AS DOUBLE) AS "mean_gap_days",
  COALESCE(
    (
      CAST("t19"."count_is_in_calendar_month_365d" AS DOUBLE) * 12
    ) / CAST(NULLIF("t19"."count_365d", 0) AS DOUBLE),
    CAST(0.0 AS DOUBLE)
  ) AS "monthly_seasonality",
  CAST(CAST(FLOOR(
    CAST((
      (
        RANK() OVER (ORDER BY -(
          "t19"."last_all"
        ) ASC) - 1
      ) * 5
    ) AS DOUBLE) / (
      COUNT("t19"."last_all") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
  ) AS BIGINT) + 1 AS INTEGER) AS "recency_score",
  CAST(CAST(FLOOR(
    CAST((
      (
        RANK() OVER (ORDER BY "t19"."count_365d" ASC) - 1
      ) * 5
    ) AS DOUBLE) / (
      COUNT("t19"."count_365d") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
  ) AS BIGINT) + 1 AS INTEGER) AS "frequency_score",
  CAST(CAST(FLOOR(
    CAST((
      (
        RANK() OVER (ORDER BY "t19"."sum_365d" ASC) - 1
      ) * 5
    ) AS DOUBLE) / (
      COUNT("t19"."sum_365d") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
    )
  ) AS BIGINT) + 1 AS INTEGER) AS "monetary_score",
  CASE
    WHEN (
      CAST(FLOOR(
        CAST((
          (
            RANK() OVER (ORDER BY "t19"."sum_365d" ASC) - 1
          ) * 5
        ) AS DOUBLE) / (
          COUNT("t19"."sum_365d") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
        )
      ) AS BIGINT) + 1
    ) = 5
    THEN 'premium'
    WHEN (
      CAST(FLOOR(
        CAST((
          (
            RANK() OVER (ORDER BY "t19"."sum_365d" ASC) - 1
          ) * 5
        ) AS DOUBLE) / (
          COUNT("t19"."sum_365d") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
        )
      ) AS BIGINT) + 1
    ) >= 3
    THEN 'regular'
    ELSE 'bronze'
  END AS "customer_segment",
  EXP(
    (
      CAST("t19"."days_all" AS DOUBLE) / CAST("t19"."first_all" + 90 AS DOUBLE)
    ) * CAST(-90.0 AS DOUBLE) * (
      CAST((
        CAST((
          "t19"."first_all" - "t19"."last_all"
        ) + 90 AS DOUBLE) / CAST("t19"."days_all" AS DOUBLE)
      ) AS DOUBLE) / (
        (
          CAST((
            "t19"."first_all" - "t19"."last_all"
          ) + 90 AS DOUBLE) / CAST("t19"."days_all" AS DOUBLE)
        ) + CAST("t19"."last_all" AS DOUBLE)
      )
    )
  ) AS "churn_score",
  (
    (
      CAST((
        CAST(FLOOR(
          CAST((
            (
              RANK() OVER (ORDER BY "t19"."count_365d" ASC) - 1
            ) * 5
          ) AS DOUBLE) / (
            COUNT("t19"."count_365d") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
          )
        ) AS BIGINT) + 1
      ) - 1 AS DOUBLE) * CAST(0.5 AS DOUBLE)
    ) / CAST(4.0 AS DOUBLE)
  ) + (
    (
      CAST((
        CAST(FLOOR(
          CAST((
            (
              RANK() OVER (ORDER BY -(
                "t19"."last_all"
              ) ASC) - 1
            ) * 5
          ) AS DOUBLE) / (
            COUNT("t19"."last_all") OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
          )
        ) AS BIGINT) + 1
      ) - 1 AS DOUBLE) * CAST(0.3 AS DOUBLE)
    ) / CAST(4.0 AS DOUBLE)
  ) + (
    (
      CAST("t19"."days_90d" AS DOUBLE) / CAST(90.0 AS DOUBLE)
    ) * CAST(0.2 AS DOUBLE)
  ) AS "engagement_score"
FROM (
  SELECT
    "t12"."customer_id",
    "t12"."first_all",
    "t12"."last_all",
    "t12"."days_all",
    "t12"."days_90d",
    "t12"."count_is_in_calendar_month_365d",
    "t12"."sum_365d",
    "t12"."count_7d",
    "t12"."sum_7d",
    "t12"."max_7d",
    "t12"."min_7d",
    "t12"."spread_7d",
    "t12"."count_30d",
    "t12"."sum_30d",
    "t12"."max_30d",
    "t12"."min_30d",
    "t12"."spread_30d",
    "t12"."count_90d",
    "t12"."sum_90d",
    "t12"."max_90d",
    "t12"."min_90d",
    "t12"."spread_90d",
    "t12"."count_is_weekend_90d",
    "t12"."count_365d",
    "t16"."_value" AS "mode_category_90d",
    "t17"."_value" AS "mode_payment_method_90d",
    "t18"."_value" AS "mode_transaction_hour_90d"
  FROM (
    SELECT
      "t1"."customer_id",
      MAX("t1"."age") FILTER(WHERE
        TRUE) AS "first_all",
      MIN("t1"."age") FILTER(WHERE
        TRUE) AS "last_all",
      COUNT(DISTINCT "t1"."transaction_date") FILTER(WHERE
        TRUE) AS "days_all",
      COUNT(DISTINCT "t1"."transaction_date") FILTER(WHERE
        "t1"."age" < 90) AS "days_90d",
      COUNT(*) FILTER(WHERE
        (
          "t1"."age" < 365
        ) AND "t1"."is_in_calendar_month") AS "count_is_in_calendar_month_365d",
      COALESCE(SUM("t1"."cents") FILTER(WHERE
        "t1"."age" < 365), 0) AS "sum_365d",
      COUNT(*) FILTER(WHERE
        "t1"."age" < 7) AS "count_7d",
      COALESCE(SUM("t1"."cents") FILTER(WHERE
        "t1"."age" < 7), 0) AS "sum_7d",
      MAX("t1"."cents") FILTER(WHERE
        "t1"."age" < 7) AS "max_7d",
      MIN("t1"."cents") FILTER(WHERE
        "t1"."age" < 7) AS "min_7d",
      CAST((
        CAST(COUNT(*) FILTER(WHERE
          "t1"."age" < 7) AS DECIMAL(38, 0)) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0)) * CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 7)
      ) - (
        SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 7) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 7)
      ) AS DOUBLE) AS "spread_7d",
      COUNT(*) FILTER(WHERE
        "t1"."age" < 30) AS "count_30d",
      COALESCE(SUM("t1"."cents") FILTER(WHERE
        "t1"."age" < 30), 0) AS "sum_30d",
      MAX("t1"."cents") FILTER(WHERE
        "t1"."age" < 30) AS "max_30d",
      MIN("t1"."cents") FILTER(WHERE
        "t1"."age" < 30) AS "min_30d",
      CAST((
        CAST(COUNT(*) FILTER(WHERE
          "t1"."age" < 30) AS DECIMAL(38, 0)) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0)) * CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 30)
      ) - (
        SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 30) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 30)
      ) AS DOUBLE) AS "spread_30d",
      COUNT(*) FILTER(WHERE
        "t1"."age" < 90) AS "count_90d",
      COALESCE(SUM("t1"."cents") FILTER(WHERE
        "t1"."age" < 90), 0) AS "sum_90d",
      MAX("t1"."cents") FILTER(WHERE
        "t1"."age" < 90) AS "max_90d",
      MIN("t1"."cents") FILTER(WHERE
        "t1"."age" < 90) AS "min_90d",
      CAST((
        CAST(COUNT(*) FILTER(WHERE
          "t1"."age" < 90) AS DECIMAL(38, 0)) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0)) * CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 90)
      ) - (
        SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 90) * SUM(CAST("t1"."cents" AS DECIMAL(38, 0))) FILTER(WHERE
          "t1"."age" < 90)
      ) AS DOUBLE) AS "spread_90d",
      COUNT(*) FILTER(WHERE
        (
          "t1"."age" < 90
        ) AND "t1"."is_weekend") AS "count_is_weekend_90d",
      COUNT(*) FILTER(WHERE
        "t1"."age" < 365) AS "count_365d"
    FROM (
      SELECT
        "t0"."customer_id",
        "t0"."transaction_date",
        "t0"."category",
        "t0"."payment_method",
        "t0"."transaction_hour",
        CAST("t0"."amount" * 100 AS BIGINT) AS "cents",
        CAST((
          DOW("t0"."transaction_date") + 6
        ) % 7 AS SMALLINT) >= 5 AS "is_weekend",
        EXTRACT(month FROM "t0"."transaction_date") AS "month",
        DATE_DIFF(
          'DAY',
          DATE_TRUNC('DAY', "t0"."transaction_date"),
          DATE_TRUNC('DAY', FROM_ISO8601_DATE('2024-02-29'))
        ) AS "age",
        EXTRACT(month FROM "t0"."transaction_date") = 2 AS "is_in_calendar_month"
      FROM "silver"."transactions" AS "t0"
      WHERE
        "t0"."amount" > 0 AND "t0"."transaction_date" <= FROM_ISO8601_DATE('2024-02-29')
    ) AS "t1"
    GROUP BY
      1
  ) AS "t12"
  LEFT OUTER JOIN (
    SELECT
      "t8"."customer_id",
      "t8"."_value"
    FROM (
      SELECT
        "t5"."customer_id",
        "t5"."_value",
        "t5"."_n",
        ROW_NUMBER() OVER (PARTITION BY "t5"."customer_id" ORDER BY "t5"."_n" DESC, "t5"."_value" ASC) - 1 AS "_rank"
      FROM (
        SELECT
          "t2"."customer_id",
          "t2"."category" AS "_value",
          COUNT(*) AS "_n"
        FROM (
          SELECT
            "t0"."customer_id",
            "t0"."transaction_date",
            "t0"."category",
            "t0"."payment_method",
            "t0"."transaction_hour",
            CAST("t0"."amount" * 100 AS BIGINT) AS "cents",
            CAST((
              DOW("t0"."transaction_date") + 6
            ) % 7 AS SMALLINT) >= 5 AS "is_weekend",
            EXTRACT(month FROM "t0"."transaction_date") AS "month",
            DATE_DIFF(
              'DAY',
              DATE_TRUNC('DAY', "t0"."transaction_date"),
              DATE_TRUNC('DAY', FROM_ISO8601_DATE('2024-02-29'))
            ) AS "age",
            EXTRACT(month FROM "t0"."transaction_date") = 2 AS "is_in_calendar_month"
          FROM "silver"."transactions" AS "t0"
          WHERE
            "t0"."amount" > 0
            AND "t0"."transaction_date" <= FROM_ISO8601_DATE('2024-02-29')
            AND "t0"."category" IS NOT NULL
            AND "t0"."transaction_date" > FROM_ISO8601_DATE('2023-12-01')
        ) AS "t2"
        GROUP BY
          1,
          2
      ) AS "t5"
    ) AS "t8"
    WHERE
      "t8"."_rank" = 0
  ) AS "t16"
    ON "t12"."customer_id" = "t16"."customer_id"
  LEFT OUTER JOIN (
    SELECT
      "t9"."customer_id",
      "t9"."_value"
    FROM (
      SELECT
        "t6"."customer_id",
        "t6"."_value",
        "t6"."_n",
        ROW_NUMBER() OVER (PARTITION BY "t6"."customer_id" ORDER BY "t6"."_n" DESC, "t6"."_value" ASC) - 1 AS "_rank"
      FROM (
        SELECT
          "t3"."customer_id",
          "t3"."payment_method" AS "_value",
          COUNT(*) AS "_n"
        FROM (
          SELECT
            "t0"."customer_id",
            "t0"."transaction_date",
            "t0"."category",
            "t0"."payment_method",
            "t0"."transaction_hour",
            CAST("t0"."amount" * 100 AS BIGINT) AS "cents",
            CAST((
              DOW("t0"."transaction_date") + 6
            ) % 7 AS SMALLINT) >= 5 AS "is_weekend",
            EXTRACT(month FROM "t0"."transaction_date") AS "month",
            DATE_DIFF(
              'DAY',
              DATE_TRUNC('DAY', "t0"."transaction_date"),
              DATE_TRUNC('DAY', FROM_ISO8601_DATE('2024-02-29'))
            ) AS "age",
            EXTRACT(month FROM "t0"."transaction_date") = 2 AS "is_in_calendar_month"
          FROM "silver"."transactions" AS "t0"
          WHERE
            "t0"."amount" > 0
            AND "t0"."transaction_date" <= FROM_ISO8601_DATE('2024-02-29')
            AND "t0"."payment_method" IS NOT NULL
            AND "t0"."transaction_date" > FROM_ISO8601_DATE('2023-12-01')
        ) AS "t3"
        GROUP BY
          1,
          2
      ) AS "t6"
    ) AS "t9"
    WHERE
      "t9"."_rank" = 0
  ) AS "t17"
    ON "t12"."customer_id" = "t17"."customer_id"
  LEFT OUTER JOIN (
    SELECT
      "t10"."customer_id",
      "t10"."_value"
    FROM (
      SELECT
        "t7"."customer_id",
        "t7"."_value",
        "t7"."_n",
        ROW_NUMBER() OVER (PARTITION BY "t7"."customer_id" ORDER BY "t7"."_n" DESC, "t7"."_value" ASC) - 1 AS "_rank"
      FROM (
        SELECT
          "t4"."customer_id",
          "t4"."transaction_hour" AS "_value",
          COUNT(*) AS "_n"
        FROM (
          SELECT
            "t0"."customer_id",
            "t0"."transaction_date",
            "t0"."category",
            "t0"."payment_method",
            "t0"."transaction_hour",
            CAST("t0"."amount" * 100 AS BIGINT) AS "cents",
            CAST((
              DOW("t0"."transaction_date") + 6
            ) % 7 AS SMALLINT) >= 5 AS "is_weekend",
            EXTRACT(month FROM "t0"."transaction_date") AS "month",
            DATE_DIFF(
              'DAY',
              DATE_TRUNC('DAY', "t0"."transaction_date"),
              DATE_TRUNC('DAY', FROM_ISO8601_DATE('2024-02-29'))
            ) AS "age",
            EXTRACT(month FROM "t0"."transaction_date") = 2 AS "is_in_calendar_month"
          FROM "silver"."transactions" AS "t0"
          WHERE
            "t0"."amount" > 0
            AND "t0"."transaction_date" <= FROM_ISO8601_DATE('2024-02-29')
            AND "t0"."transaction_hour" IS NOT NULL
            AND "t0"."transaction_date" > FROM_ISO8601_DATE('2023-12-01')
        ) AS "t4"
        GROUP BY
          1,
          2
      ) AS "t7"
    ) AS "t10"
    WHERE
      "t10"."_rank" = 0
  ) AS "t18"
    ON "t12"."customer_id" = "t18"."customer_id"
) AS "t19"
