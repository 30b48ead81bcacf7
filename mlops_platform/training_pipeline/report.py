"""The report of an evaluation: plots and the model card, kept in the model's MLflow run.

Belongs here: gathering what they show. Does not belong here: drawing (`plots.py`), the card's words (`model_card.py`),
deciding what follows (`promotion.py`).
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from mlops_platform.contracts import SILVER_CUSTOMERS, SILVER_TRANSACTIONS, load_feature_set
from mlops_platform.contracts.ml import SPLITS, TARGET
from mlops_platform.contracts.table import Column, ColumnType
from mlops_platform.storage.publish import recorded_in
from mlops_platform.training_pipeline.dataset import split_rows
from mlops_platform.training_pipeline.evaluation import AucDifference
from mlops_platform.training_pipeline.held_out import test_rows
from mlops_platform.training_pipeline.model_card import ModelFacts, SplitRows, model_card_html, model_card_markdown
from mlops_platform.training_pipeline.plots import effects_plot, held_out_plots
from mlops_platform.training_pipeline.segments import metrics_by_segment
from mlops_platform.training_pipeline.shap_summary import feature_effects

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pyarrow as pa

    from mlops_platform.settings import Settings
    from mlops_platform.storage.lake import Lake
    from mlops_platform.storage.read import TableSnapshot
    from mlops_platform.training_pipeline.held_out import Evaluation
    from mlops_platform.training_pipeline.registry import MLflowManager
    from mlops_platform.training_pipeline.train import TrainedModel

REPORT_PATH = "evaluation"
_RANKINGS = {"churn_score alone": "churn_score", "recency alone": "days_since_last_transaction"}


def report_evaluation(
    lake: Lake, manager: MLflowManager, training: TableSnapshot, trained: TrainedModel, evaluation: Evaluation
) -> dict[str, bytes]:
    """Draws and writes the report of an evaluation on ml.training_set.

    Returns:
        PNG files by name.
    """
    made = recorded_in(training)
    baselines = {"churn_score alone": evaluation.churn_score, "recency alone": evaluation.recency}
    if evaluation.champion is not None:
        baselines[f"champion, version {evaluation.champion_version}"] = evaluation.champion
    rows = training.to_arrow(["split", TARGET])
    facts = {
        "splits": _splits(rows),
        "metrics": evaluation.metrics.as_dict() | evaluation.intervals,
        "calibration_error": evaluation.calibration_error,
        "baselines": baselines,
        "feature_version": lake.features.version,
        "as_of": date.fromisoformat(made["as-of"]),
        "training_dates": [date.fromisoformat(day) for day in made["training-dates"].split(",")],
        "evaluation_date": evaluation.evaluation_date,
        "snapshots": {
            training.contract.name: int(training.snapshot_id or 0),
            lake.features.customer_features.name: int(made["feature-snapshot-id"]),
            SILVER_TRANSACTIONS.name: int(made["label-snapshot-id"]),
        },
    }
    subtitle = f"held-out customers at {evaluation.evaluation_date}"
    return _report(lake, manager, trained, test_rows(training), subtitle=subtitle, facts=facts)


def report_found(
    lake: Lake, manager: MLflowManager, trained: TrainedModel, rows: pa.Table, results: Mapping[str, float]
) -> dict[str, bytes]:
    """Draws and writes the report of a model on rows of a query or a file.

    Args:
        lake: The home's tables.
        manager: MLflow.
        trained: The model.
        rows: Features, `churned` and `split`.
        results: What `held_out_results` gave of the test rows.

    Returns:
        PNG files by name.
    """
    facts = {
        "splits": _splits(rows),
        "metrics": results,
        "calibration_error": results["ece"],
        "baselines": _baselines(results),
    }
    return _report(lake, manager, trained, split_rows(rows, "test"), subtitle="held-out rows of a query", facts=facts)


def _report(
    lake: Lake,
    manager: MLflowManager,
    trained: TrainedModel,
    test: pa.Table,
    *,
    subtitle: str,
    facts: Mapping[str, Any],
) -> dict[str, bytes]:
    """The report on test rows; `facts` are those of `ModelFacts` that don't follow from the model and the rows."""
    settings, model = lake.settings, manager.load_model(trained.run_id)
    labels, probabilities = test.column(TARGET).to_numpy(), model.predict_proba(test)[:, 1]
    rankings = {
        name: test.column(column).to_numpy() for name, column in _RANKINGS.items() if column in test.schema.names
    }
    plots = held_out_plots(labels, probabilities, trained.threshold, rankings, subtitle=subtitle)
    plots["feature_effects"] = effects_plot(feature_effects(model, test, labels), subtitle=subtitle)
    parameters = dict(manager.client.get_run(trained.run_id).data.params)
    card = ModelFacts(
        name=settings.model_name,
        model_type=parameters.pop("model_type"),
        hyperparameters=parameters,
        identity=trained.identity,
        run_id=trained.run_id,
        threshold=trained.threshold,
        horizon_days=settings.horizon_days,
        population_days=settings.population_days,
        calibration_slope=model["classifier"].slope_,
        segments=metrics_by_segment(_with_country(lake, test), labels, probabilities),
        features=_columns(settings, model["features"].feature_names_in_),
        plots=plots,
        **facts,
    )
    _log(manager, trained.run_id, card)
    return plots


def _splits(rows: pa.Table) -> list[SplitRows]:
    """Number of rows and churn rate of each split."""
    parts = [(split, split_rows(rows, split).column(TARGET).to_numpy()) for split in SPLITS]
    return [SplitRows(split, len(labels), float(labels.mean())) for split, labels in parts]


def _baselines(results: Mapping[str, float]) -> dict[str, AucDifference]:
    if "roc_auc_recency_only" not in results:
        return {}
    lower, upper = results["lift_over_recency_only_lower"], results["lift_over_recency_only_upper"]
    theirs = results["roc_auc_recency_only"]
    return {"recency alone": AucDifference(theirs + results["lift_over_recency_only"], theirs, lower, upper)}


def _log(manager: MLflowManager, run_id: str, card: ModelFacts) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for plot, png in card.plots.items():
            (folder / f"{plot}.png").write_bytes(png)
        (folder / "model_card.md").write_text(model_card_markdown(card), encoding="utf-8")
        (folder / "model_card.html").write_text(model_card_html(card), encoding="utf-8")
        manager.client.log_artifacts(run_id, name, REPORT_PATH)


def _with_country(lake: Lake, rows: pa.Table) -> pa.Table:
    """The rows with the countries that silver.customers has, where there are any."""
    import pyarrow.compute as pc

    if "customer_id" not in rows.column_names or "country" in rows.column_names:
        return rows
    customers = lake.snapshot(SILVER_CUSTOMERS).to_arrow(("customer_id", "country"))
    countries = customers.column("country").combine_chunks()
    if countries.null_count == len(countries):
        return rows
    # Looked up by place: a join does not keep the order.
    places = pc.index_in(rows.column("customer_id"), value_set=customers.column("customer_id").combine_chunks())
    return rows.append_column("country", countries.take(places.combine_chunks()))


def _columns(settings: Settings, names: Any) -> list[Column]:
    """The features' columns; one that only a query gives has no meaning that we know."""
    declared = {column.name: column for column in load_feature_set(settings.features_module).columns}
    return [declared.get(name) or Column(name, ColumnType.STRING, "A column of the query") for name in names]
