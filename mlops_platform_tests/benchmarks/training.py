"""What training reaches and costs: `make bench-training` prints it and writes `.mlops/bench/training.json`.

Belongs here: held-out quality of model types beside recency-only, churn_score and the best possible, on a synthetic
CRM and on the real histories where they are at hand; the pipeline's time against a bare fit of the same matrix. Nothing
is asserted: machines differ.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from mlops_platform.contracts import SILVER_TRANSACTIONS
from mlops_platform.data_pipeline.crm import SOURCE_TABLES, span
from mlops_platform.data_pipeline.crm_load import import_files, seed, synthetic_model
from mlops_platform.data_pipeline.ingestion import new_rows
from mlops_platform.data_pipeline.processing import silver_draft
from mlops_platform.data_pipeline.transformations import SILVER_TABLES
from mlops_platform.feature_pipeline.load import features_draft
from mlops_platform.orchestration.best_possible import best_possible_auc
from mlops_platform.settings import load_settings
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.publish import Draft
from mlops_platform.storage.read import TableSnapshot
from mlops_platform.training_pipeline.dataset import split_rows, training_set
from mlops_platform.training_pipeline.evaluation import auc_difference
from mlops_platform.training_pipeline.fitting import fit, labels_of
from mlops_platform.training_pipeline.held_out import evaluate_held_out
from mlops_platform.training_pipeline.intervals import ece
from mlops_platform.training_pipeline.labels import labelled_dates
from mlops_platform.training_pipeline.models import MODEL_TYPES, make_model
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.train import train
from mlops_platform_tests.benchmarks.measuring import ROUNDS, interleaved, ratio, show

REPORT = Path(".mlops/bench/training.json")
DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CUSTOMERS, DAYS, ROWS = 50_000, 730, 1_000_000
UNTIL, AT = date(2026, 6, 30), datetime(2026, 7, 1, tzinfo=UTC)
MEASURED_TYPES = ("xgboost", "logistic_regression", "average")


@dataclass(frozen=True)
class History:
    """A real history: its name in the data folder, its evaluation date E, and who is scored."""

    name: str
    evaluation: date
    population_days: int | None = 365


REAL = {
    "CDNOW, all customers": History("cdnow", date(1998, 3, 31), None),
    "CDNOW, active in 365 d": History("cdnow", date(1998, 3, 31)),
    "Complete Journey": History("completejourney_sample", date(2017, 9, 30)),
}


def main() -> None:
    """Measures and prints; `--quality` leaves out the times."""
    rows = int(os.environ.get("BENCH_ROWS", ROWS))
    found: dict[str, Any] = {"customers": CUSTOMERS, "rows": rows, "rounds": ROUNDS}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake, training = _synthetic(folder / "synthetic")
        found["synthetic"] = _synthetic_quality(lake, training, f"sqlite:///{folder / 'synthetic.db'}")
        show(found["synthetic"])
        found["real"] = {what: _real_quality(folder / what.replace(" ", "_"), it) for what, it in REAL.items()}
        show(found["real"])
        if "--quality" not in sys.argv:
            found["time"] = _time(lake, training, rows)
            show(found["time"])
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _synthetic(folder: Path) -> tuple[Lake, TableSnapshot]:
    url = f"sqlite:///{folder.parent / 'synthetic.db'}"
    seed(url, customers=CUSTOMERS, days=DAYS, seed=7, until=UNTIL)
    return _training_set(folder, url, UNTIL, population_days=365)


def _training_set(folder: Path, url: str, as_of: date, population_days: int | None) -> tuple[Lake, TableSnapshot]:
    """The line from a CRM to a published training set."""
    settings = load_settings(home=folder).model_copy(update={"population_days": population_days})
    first = span(settings, url).first_day
    lake = Lake(settings.model_copy(update={"history_start": first}))
    for table in SOURCE_TABLES:
        lake.publish(new_rows(lake, url, table, source="crm", ingested_at=AT))
    for table in SILVER_TABLES:
        lake.publish(silver_draft(lake, table))
    transactions = lake.snapshot(SILVER_TRANSACTIONS)
    dates = labelled_dates(as_of, first, settings.horizon_days)
    lake.publish(features_draft(lake, transactions, dates.all, created_at=AT))
    features = lake.snapshot(lake.features.customer_features)
    lake.publish(training_set(lake.settings, features, transactions, as_of=as_of))
    return lake, lake.snapshot(lake.features.training_set)


def _synthetic_quality(lake: Lake, training: TableSnapshot, url: str) -> dict[str, Any]:
    model = synthetic_model(url)
    if model is None:
        raise AssertionError("the synthetic CRM does not say what it was made from")
    best = best_possible_auc(lake, model, UNTIL - timedelta(days=lake.settings.horizon_days))
    found = _quality(lake, training)
    for each in found["models"].values():
        each["share_of_the_way_to_best"] = round((each["roc_auc"] - 0.5) / (best - 0.5), 4)
    return found | {"best_possible": round(best, 4)}


def _real_quality(folder: Path, history: History) -> dict[str, Any] | str:
    if not (DATA / history.name).is_dir():
        return "the data is no part of the project, and is not beside it"
    folder.mkdir()
    url = f"sqlite:///{folder / 'crm.db'}"
    import_files(DATA / history.name, url)
    as_of = history.evaluation + timedelta(days=90)
    return _quality(*_training_set(folder / "home", url, as_of, history.population_days))


def _quality(lake: Lake, training: TableSnapshot) -> dict[str, Any]:
    """Held-out figures with default settings; the differences have 95 % intervals."""
    rows = training.to_arrow(order_by=("feature_date", "customer_id"))
    test = split_rows(rows, "test")
    labels = labels_of(test)
    baselines = {
        "churn_score": test["churn_score"].to_numpy(),
        "recency": test["days_since_last_transaction"].to_numpy(),
    }
    found: dict[str, Any] = {"test_rows": len(labels), "churn_rate": round(float(labels.mean()), 4), "models": {}}
    for kind in MEASURED_TYPES:
        model = make_model(kind).set_params(features__features=list(lake.features.names))
        scores = fit(model, rows).pipeline.predict_proba(test)[:, 1]
        against = {name: auc_difference(labels, scores, theirs) for name, theirs in baselines.items()}
        found |= {f"roc_auc_{name}": round(it.theirs, 5) for name, it in against.items()}
        found["models"][kind] = {
            "roc_auc": round(against["recency"].ours, 5),
            "ece": round(ece(labels, scores), 4),
            **{
                f"lift_over_{name}": [round(x, 4) for x in (it.difference, it.lower, it.upper)]
                for name, it in against.items()
            },
        }
    return found


def _time(lake: Lake, training: TableSnapshot, rows: int) -> dict[str, Any]:
    """Training and evaluation without intervals, against a bare fit and predict_proba of the same matrices."""
    large = _enlarged(lake, training, rows)
    manager, rounds = MLflowManager(lake.settings), iter(range(1, 100))
    table = large.to_arrow(order_by=("feature_date", "customer_id"))
    parts = {split: split_rows(table, split) for split in ("train", "test")}
    transformer = make_model()["features"].set_params(features=list(lake.features.names)).fit(parts["train"])
    matrices = {split: transformer.transform(part) for split, part in parts.items()}
    labels = labels_of(parts["train"])

    def bare() -> None:
        MODEL_TYPES["xgboost"]().fit(matrices["train"], labels).predict_proba(matrices["test"])

    def pipeline() -> None:
        # Another seed each round: an equal model would be found and not trained.
        trained = train(lake.settings, manager, large, hyperparameters={"random_state": next(rounds)})
        evaluate_held_out(lake.settings, manager, large, trained, with_intervals=False)

    took = interleaved({"bare_fit_and_predict": bare, "pipeline": pipeline}, lake.settings.home)
    return took | {
        "train_rows": len(labels),
        "pipeline_over_bare": ratio(took, "pipeline", "bare_fit_and_predict"),
        "pipeline_over_bare_cpu": round(took["pipeline"]["cpu"] / took["bare_fit_and_predict"]["cpu"], 2),
    }


def _enlarged(lake: Lake, training: TableSnapshot, rows: int) -> TableSnapshot:
    """The training set with its customers as often as it takes, published."""
    table = training.to_arrow()
    copies = -(-rows // table.num_rows)
    at = table.schema.get_field_index("customer_id")
    named = [
        table.set_column(at, table.schema.field(at), pc.binary_join_element_wise(table["customer_id"], f"copy{n}", "/"))
        for n in range(copies)
    ]
    lake.publish(Draft(training.contract, pa.concat_tables(named).slice(0, rows)))
    return lake.snapshot(training.contract)


if __name__ == "__main__":
    main()
