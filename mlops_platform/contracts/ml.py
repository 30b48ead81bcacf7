"""Contracts of promotion, prediction and monitoring tables; that of the training set follows from `feature_set.py`."""

from __future__ import annotations

from mlops_platform.contracts.table import Column, ColumnType, Partition, Replace, TableContract

STRING, INT, LONG, DOUBLE = ColumnType.STRING, ColumnType.INT, ColumnType.LONG, ColumnType.DOUBLE
DATE, TIMESTAMP, BOOLEAN = ColumnType.DATE, ColumnType.TIMESTAMP, ColumnType.BOOLEAN

TARGET = "churned"
SPLITS = ("train", "validation", "test")
BATCH, ONLINE = "batch", "online"
ALL_SEGMENTS = "all"

PROMOTED, REFUSED, MANUAL, ROLLED_BACK, WITHDRAWN = "promoted", "refused", "manual", "rolled_back", "withdrawn"

_CREATED_AT = Column("_created_at", TIMESTAMP, "When the row was written")
_MODEL_NAME = Column("model_name", STRING, "Name in the model registry")
_MODEL_VERSION = Column("model_version", STRING, "Version in the model registry")


def _probability(name: str, meaning: str) -> Column:
    return Column(name, DOUBLE, meaning, ge=0, le=1)


def _figure(name: str, meaning: str) -> Column:
    return Column(name, DOUBLE, meaning, nullable=True, ge=0, le=1)


PROMOTIONS = TableContract(
    name="ml.promotions",
    description="Every decision about Production: those of the gate, passed or not, with figures and reason, and those "
    "of people. Every change of the Production version is a row.",
    columns=(
        Column("decision_id", STRING, "Hash of the model, the held-out rows and the champion; of the change by hand"),
        Column("decided_at", TIMESTAMP, "When it was decided"),
        _MODEL_NAME,
        _MODEL_VERSION,
        Column(
            "decision",
            STRING,
            "promoted or refused by the gate; by hand: manual (into Production), rolled_back (to this version), "
            "withdrawn (this version left, and none is in Production)",
            isin=(PROMOTED, REFUSED, MANUAL, ROLLED_BACK, WITHDRAWN),
        ),
        Column("reason", STRING, "Why"),
        Column(
            "champion_version", STRING, "Production version it was judged against, or took over from", nullable=True
        ),
        Column("run_id", STRING, "MLflow run of the model"),
        Column(
            "evaluation_date", DATE, "feature_date of the held-out rows; null where none were scored", nullable=True
        ),
        Column("rows", LONG, "Held-out rows", nullable=True, ge=0),
        _figure("roc_auc", "Held-out ROC-AUC of the model"),
        _figure("roc_auc_recency_only", "ROC-AUC of days since the last purchase alone"),
        _figure("roc_auc_churn_score", "ROC-AUC of churn_score alone"),
        _figure("roc_auc_champion", "ROC-AUC of the champion on the same rows"),
        Column(
            "change_number",
            LONG,
            "Changes of the Production version so far, this one included; null: from before they were counted",
            nullable=True,
            ge=0,
        ),
    ),
    key=("decision_id",),
    replace=Replace.NOTHING,
    append_once=("decision_id",),
    volatile=frozenset({"decided_at"}),
)

PREDICTIONS = TableContract(
    name="ml.predictions",
    description="Batch predictions: one row a customer, 6-hour tick and model version.",
    columns=(
        Column("prediction_id", STRING, "Hash of customer, feature_date, model version and tick"),
        Column("customer_id", STRING, "Customer"),
        Column("feature_date", DATE, "Local day at whose end the features hold"),
        Column("tick", TIMESTAMP, "Start of the 6-hour window the prediction belongs to"),
        _MODEL_NAME,
        _MODEL_VERSION,
        _probability("churn_probability", "Predicted chance of no purchase in the horizon"),
        Column("prediction", INT, "1: predicted to churn, by the model's threshold", isin=(0, 1)),
        Column("confidence", DOUBLE, "Probability of the predicted class's side", ge=0, le=1),
        Column("inference_latency_ms", DOUBLE, "Scoring time a row", unit="ms", ge=0),
        Column("feature_snapshot_id", LONG, "Iceberg snapshot of the features"),
        _CREATED_AT,
    ),
    key=("prediction_id",),
    partitions=(Partition("tick", "day"),),
    replace=Replace.RANGE,
    range_column="tick",
    volatile=frozenset({"_created_at", "inference_latency_ms"}),
)

OUTSIDE_POPULATION = "outside_population"

NOT_SCORED = TableContract(
    name="ml.not_scored",
    description="Customers with features that a tick did not score, and why: one row a customer and 6-hour tick.",
    columns=(
        Column("customer_id", STRING, "Customer"),
        Column("feature_date", DATE, "Local day at whose end the features hold"),
        Column("tick", TIMESTAMP, "Start of the 6-hour window"),
        Column(
            "reason",
            STRING,
            "Why: no purchase in the days that make the population",
            isin=(OUTSIDE_POPULATION,),
        ),
        Column("feature_snapshot_id", LONG, "Iceberg snapshot of the features"),
        _CREATED_AT,
    ),
    key=("tick", "customer_id"),
    partitions=(Partition("tick", "day"),),
    replace=Replace.RANGE,
    range_column="tick",
    volatile=frozenset({"_created_at"}),
)

ONLINE_PREDICTIONS = TableContract(
    name="ml.online_predictions",
    description="Predictions the online service answered, from its prediction log.",
    columns=(
        Column("prediction_id", STRING, "Identifier given with the answer"),
        Column("predicted_at", TIMESTAMP, "When it was answered"),
        _MODEL_NAME,
        _MODEL_VERSION,
        Column("features", STRING, "The request's features as JSON"),
        Column("prediction", INT, "1: predicted to churn", isin=(0, 1)),
        _probability("churn_probability", "Predicted chance of no purchase in the horizon"),
        Column("confidence", DOUBLE, "Probability of the predicted class's side", ge=0, le=1),
        Column("inference_latency_ms", DOUBLE, "Time to answer", unit="ms", ge=0),
        Column(
            "customer_hmac", STRING, "Keyed hash of the customer asked for; null where features came", nullable=True
        ),
    ),
    key=("prediction_id",),
    partitions=(Partition("predicted_at", "day"),),
    replace=Replace.NOTHING,
    append_once=("prediction_id",),
)

DRIFT = TableContract(
    name="monitoring.drift",
    description="Drift of each feature and of the scores against the Production model's training rows, by tick.",
    columns=(
        Column("tick", TIMESTAMP, "Start of the 6-hour window compared"),
        Column("column_name", STRING, "Feature, or churn_probability"),
        Column("kind", STRING, "numeric or categorical", isin=("numeric", "categorical")),
        Column("method", STRING, "Statistical test"),
        Column("statistic", DOUBLE, "The test's statistic", nullable=True),
        Column("p_value", DOUBLE, "The test's p-value", nullable=True, ge=0, le=1),
        Column("effect", DOUBLE, "Effect size the decision uses", nullable=True, ge=0),
        Column("is_drifted", BOOLEAN, "Significant after correction, and large enough to matter"),
        Column("status", STRING, "Outcome for the whole tick", isin=("ok", "drift", "insufficient_data")),
        Column("reference_rows", LONG, "Rows compared against", ge=0),
        Column("current_rows", LONG, "Rows compared", ge=0),
        _MODEL_NAME,
        _MODEL_VERSION,
        _CREATED_AT,
    ),
    key=("tick", "column_name"),
    replace=Replace.RANGE,
    range_column="tick",
    volatile=frozenset({"_created_at"}),
)

PERFORMANCE = TableContract(
    name="monitoring.performance",
    description="How predictions turned out once their labels had matured, by feature_date, model version, source and "
    "segment. Before that an estimate stands in the row's place; look at is_estimate.",
    columns=(
        Column("report_date", DATE, "Local day at whose end the labels have matured: feature_date + horizon"),
        Column("feature_date", DATE, "feature_date of the predictions; online: the local day before the answer"),
        _MODEL_NAME,
        _MODEL_VERSION,
        Column("rows", LONG, "Customers with a prediction and a label; of an estimate: with a prediction", ge=0),
        _probability("churn_rate", "Share of customers that churned"),
        _probability("accuracy", "Share of right predictions"),
        _probability("f1", "F1 of the churned class"),
        Column("roc_auc", DOUBLE, "ROC-AUC; null when only one class occurred", nullable=True, ge=0, le=1),
        _probability("brier", "Mean squared error of the probability"),
        _CREATED_AT,
        Column(
            "source",
            STRING,
            "batch: of ml.predictions; online: of ml.online_predictions; null: batch, from before there were both",
            nullable=True,
            isin=(BATCH, ONLINE),
        ),
        Column("segment", STRING, "customer_segment, or all; null: all, from before segments", nullable=True),
        Column(
            "is_estimate",
            BOOLEAN,
            "The labels had not matured: every figure is what the probabilities let expect; null: false, from before "
            "there were estimates",
            nullable=True,
        ),
        _figure("accuracy_lower", "Lower 95 % bound of accuracy (Wilson); null for an estimate"),
        _figure("accuracy_upper", "Upper 95 % bound of accuracy (Wilson); null for an estimate"),
        _figure("f1_lower", "Lower 95 % bound of F1 (Wilson); null for an estimate, and where F1 has no case"),
        _figure("f1_upper", "Upper 95 % bound of F1 (Wilson); null for an estimate, and where F1 has no case"),
        _figure("roc_auc_lower", "Lower 95 % bound of ROC-AUC (DeLong); null for an estimate, and where it has none"),
        _figure("roc_auc_upper", "Upper 95 % bound of ROC-AUC (DeLong); null for an estimate, and where it has none"),
        Column(
            "rows_without_customer",
            LONG,
            "Predictions left out of the row, since they name no customer or one that silver.transactions lacks; null "
            "but in the segment all",
            nullable=True,
            ge=0,
        ),
    ),
    key=("feature_date", "model_name", "model_version", "source", "segment"),
    replace=Replace.RANGE,
    range_column="feature_date",
    volatile=frozenset({"_created_at"}),
)
