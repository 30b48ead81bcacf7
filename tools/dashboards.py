"""What the Grafana dashboards show: panels and their queries, as data.

Belongs here: titles, queries, units. Does not belong here: Grafana's JSON (`make_dashboards.py`). The names of the
metrics are those of `mlops_platform.monitoring`, `serving/metrics.py` and deploy/prometheus/rules.yml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "bargauge"]


@dataclass(frozen=True)
class Panel:
    """One panel.

    Args:
        title: Its title.
        meaning: What a reader is told under the title's i.
        queries: PromQL by legend; the legend `{{label}}` shows a label's value.
        unit: Grafana's name of the unit.
        kind: How it is drawn.
        width: Of 24 columns.
    """

    title: str
    meaning: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Kind = "timeseries"
    width: int = 12


@dataclass(frozen=True)
class Board:
    """One dashboard.

    Args:
        uid: Its file's name and part of its address.
        title: Its title.
        panels: In reading order.
        variable: Name, and the query of the values, of what can be chosen at the top.
        span: How far back it looks at first.
    """

    uid: str
    title: str
    panels: tuple[Panel, ...]
    variable: tuple[str, str] | None = None
    span: str = "now-24h"


def _judged(name: str, matured: str = "false", segment: str = 'segment="all"') -> str:
    return f'mlops_model_{name}{{estimated="{matured}", {segment}}}'


_VERSION = "version {{version}}, {{source}}"
QUALITY = Board(
    "mlops-model-quality",
    "Model quality",
    (
        Panel("ROC-AUC", "Of the last matured labels.", {_VERSION: _judged("roc_auc_ratio")}, "none", "stat", 6),
        Panel(
            "Accuracy", "Of the last matured labels.", {_VERSION: _judged("accuracy_ratio")}, "percentunit", "stat", 6
        ),
        Panel("F1", "Of the churned class.", {_VERSION: _judged("f1_ratio")}, "none", "stat", 6),
        Panel(
            "Judged customers", "What the figures rest on.", {_VERSION: _judged("judged_rows")}, kind="stat", width=6
        ),
        Panel(
            "Accuracy over time",
            "Share of right predictions, 90 days after they were made.",
            {_VERSION: _judged("accuracy_ratio")},
            "percentunit",
        ),
        Panel(
            "ROC-AUC over time",
            "What happened, beside what the gate saw on held-out rows.",
            {
                _VERSION: _judged("roc_auc_ratio"),
                "gate: version {{version}}": 'mlops_gate_roc_auc_ratio{scorer="model"}',
                "gate: churn_score alone": 'max(mlops_gate_roc_auc_ratio{scorer="churn_score"})',
            },
            "none",
        ),
        Panel("F1 over time", "F1 of the churned class.", {_VERSION: _judged("f1_ratio")}, "none"),
        Panel(
            "Brier score and churn over time",
            "Mean squared error of the probability, 0 is best; share of the judged customers that churned.",
            {"Brier, " + _VERSION: _judged("brier_score"), "churned, " + _VERSION: _judged("churned_ratio")},
            "none",
        ),
        Panel(
            "ROC-AUC by segment",
            "Of the last matured labels.",
            {"{{segment}}, " + _VERSION: _judged("roc_auc_ratio", segment='segment!="all"')},
            "none",
        ),
        Panel(
            "Estimated before labels mature",
            "What the probabilities themselves let expect: no substitute for what happens.",
            {
                "accuracy, " + _VERSION: _judged("accuracy_ratio", "true"),
                "ROC-AUC, " + _VERSION: _judged("roc_auc_ratio", "true"),
            },
            "none",
        ),
    ),
    span="now-90d",
)

_LATENCY = 'route:mlops_serving_request_seconds:{}_rate5m{{route="/predict"}}'
PREDICTIONS = Board(
    "mlops-predictions",
    "Predictions and latency",
    (
        Panel(
            "Online predictions",
            "Rows a second that the service predicted.",
            {"class {{prediction}}": "sum by (prediction) (rate(mlops_serving_predictions_total[5m]))"},
            "ops",
        ),
        Panel(
            "Batch predictions",
            "Rows of the newest 6-hour tick.",
            {"version {{version}}, class {{prediction}}": "mlops_batch_predictions_rows"},
        ),
        Panel(
            "Latency of a prediction",
            "Time the service took for POST /predict.",
            {name: _LATENCY.format(name) for name in ("p50", "p95", "p99")},
            "s",
        ),
        Panel(
            "Batch: time a row",
            "Mean time to score a row at the newest tick.",
            {"version {{version}}": "mlops_batch_scoring_seconds"},
            "s",
        ),
        Panel(
            "Requests",
            "Answers a second.",
            {"{{route}} {{code}}": "sum by (route, code) (rate(mlops_serving_requests_total[5m]))"},
            "reqps",
        ),
        Panel(
            "Errors",
            "Share of the answers with a 5xx code.",
            {"{{route}}": "route:mlops_serving_errors:ratio_rate5m"},
            "percentunit",
        ),
        Panel(
            "Chance of churn, online",
            "Median and mean of what was answered.",
            {
                "median": "histogram_quantile(0.5, sum by (le) (rate(mlops_serving_churn_probability_bucket[5m])))",
                "mean": "sum(rate(mlops_serving_churn_probability_sum[5m]))"
                " / sum(rate(mlops_serving_churn_probability_count[5m]))",
            },
            "percentunit",
        ),
        Panel(
            "Chance of churn, batch",
            "Percentiles of the newest tick.",
            {"p{{percentile}}": "mlops_batch_churn_probability_ratio"},
            "percentunit",
        ),
        Panel(
            "Model served", "By at least one worker.", {"version {{version}}": "mlops_serving_model_info == 1"},
            kind="stat", width=6,
        ),
        Panel(
            "Prediction log waiting", "Bytes not ingested yet.", {"": "max(mlops_serving_prediction_log_bytes)"},
            "bytes", "stat", 6,
        ),
        Panel(
            "Predictions not logged", "Since the service started.",
            {"": "sum(mlops_serving_prediction_log_failures_total)"}, kind="stat", width=6,
        ),
        Panel(
            "Age of the online store", "Days its features lag behind.",
            {"{{store}}": "max by (store) (mlops_serving_online_store_age_days)"}, "d", "stat", 6,
        ),
    ),
    span="now-6h",
)  # fmt: skip

DRIFT = Board(
    "mlops-drift",
    "Drift and features",
    (
        Panel(
            "Columns that drifted", "Significant, and large enough to matter, at the newest tick.",
            {"": "sum(mlops_drift_detected)"}, kind="stat", width=6,
        ),
        Panel("Outcome", "1 stands for what was decided.", {"{{status}}": "mlops_drift_status"}, kind="stat", width=10),
        Panel("Rows compared", "At the newest tick.", {"{{side}}": "mlops_drift_compared_rows"}, kind="stat", width=8),
        Panel(
            "Data drift score",
            "Effect size by feature and of the scores: 0 alike, 1 apart; from 0.1 on it counts.",
            {"{{feature}}": "sort_desc(mlops_drift_effect_ratio)"},
            "none",
            "bargauge",
        ),
        Panel("Data drift score over time", "The same.", {"{{feature}}": "mlops_drift_effect_ratio"}, "none"),
        Panel(
            "Distribution of $feature",
            "Percentiles over the customers of the newest feature_date.",
            {"p{{percentile}}": 'mlops_feature_value{feature="$feature"}'},
            "none",
        ),
        Panel(
            "Distributions: medians",
            "Of every numeric feature.",
            {"{{feature}}": 'mlops_feature_value{percentile="50"}'},
            "none",
            "bargauge",
        ),
        Panel(
            "Categories",
            "Share of the customers, by categorical feature.",
            {"{{feature}}: {{category}}": "mlops_feature_category_ratio"},
            "percentunit",
            width=24,
        ),
    ),
    variable=("feature", "label_values(mlops_feature_value, feature)"),
    span="now-7d",
)  # fmt: skip

PIPELINES = Board(
    "mlops-pipelines",
    "Pipeline health",
    (
        Panel("Targets", "1: scraped.", {"{{job}}": "up"}, kind="stat", width=6),
        Panel(
            "Sources the exporter can't read", "0 is right.", {"": "count(mlops_exporter_up == 0) or vector(0)"},
            kind="stat", width=6,
        ),
        Panel(
            "Alerts firing", "In Prometheus.", {"": 'count(ALERTS{alertstate="firing"}) or vector(0)'},
            kind="stat", width=6,
        ),
        Panel(
            "Runs in progress", "Begun and not ended.", {"{{job_name}}": "mlops_job_runs_in_progress"},
            kind="stat", width=6,
        ),
        Panel("Data freshness", "Age of the newest data.", {"{{table}}": "table:mlops_table_data_age:seconds"}, "s"),
        Panel("Since the last commit", "By table.", {"{{table}}": "table:mlops_table_commit_age:seconds"}, "s"),
        Panel("Run time of assets", "Of the last materialization.", {"{{asset}}": "mlops_asset_run_seconds"}, "s"),
        Panel("Rows of assets", "Of the last materialization.", {"{{asset}}": "mlops_asset_rows"}),
        Panel("Runs", "Since the home was made.", {"{{job_name}}, {{status}}": "mlops_job_runs_total"}),
        Panel("Run time of jobs", "Of the last success.", {"{{job_name}}": "mlops_job_last_run_seconds"}, "s"),
        Panel(
            "Cost of a run: CPU", "Of the last run that succeeded.",
            {"{{job_name}}": "mlops_job_last_run_cpu_seconds"}, "s",
        ),
        Panel(
            "Cost of a run: bytes", "Read and written, cached or not.",
            {
                "{{job_name}}, read": "mlops_job_last_run_read_bytes",
                "{{job_name}}, written": "mlops_job_last_run_written_bytes",
            }, "bytes",
        ),
        Panel(
            "Messages of alerts", "Of the platform's own, since the home was made.",
            {"{{channel}}, {{result}}": "sum by (channel, result) (mlops_alert_deliveries_total)"},
        ),
        Panel("Open alerts", "Of the platform's own.", {"{{severity}}": "mlops_alerts_open"}),
        Panel("Rows of tables", "Present state.", {"{{table}}": "mlops_table_rows"}),
        Panel("Size of tables", "Present state.", {"{{table}}": "mlops_table_size_bytes"}, "bytes"),
    ),
)  # fmt: skip

BOARDS = (QUALITY, PREDICTIONS, DRIFT, PIPELINES)
