"""What the demo spends where: `make bench` runs it in a fresh home and writes `.mlops/bench/demo.json`.

Belongs here: measuring. Nothing is asserted: machines differ. The baseline of the training ratio is a bare
`XGBClassifier.fit` and `predict_proba` on the same matrix, in this very process, three times, the median.
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from mlops_platform.contracts import STANDARD
from mlops_platform.contracts.ml import TARGET
from mlops_platform.settings import Settings, apply_exports, load_settings
from mlops_platform.storage.lake import Lake

REPORT = Path(".mlops/bench/demo.json")


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        settings = load_settings(home=Path(folder) / "home")
        apply_exports(settings)
        from mlops_platform.definitions import build_definitions
        from mlops_platform.orchestration.demo import run_demo

        imported = time.perf_counter() - started
        demo = run_demo(settings, build_definitions, crm_url=None, as_of=None, progress=lambda line: None)
        spent = resource.getrusage(resource.RUSAGE_SELF)
        found: dict[str, Any] = {
            "seconds": round(demo.seconds, 1),
            "seconds_importing_dagster": round(imported, 1),
            "cpu_seconds": round(spent.ru_utime + spent.ru_stime, 1),
            "peak_memory_mb": round(spent.ru_maxrss / 1024),
            "seconds_by_job": {name: round(value, 1) for name, value in demo.spent.items()},
            "seconds_by_asset": {stage.asset: round(stage.seconds, 1) for stage in demo.stages},
        }
        bare = _bare_xgboost(settings)
        training = next(stage.seconds for stage in demo.stages if stage.asset == "ml/churn_model")
        found["bare_xgboost_seconds"] = round(bare, 2)
        found["churn_model_over_bare_xgboost"] = round(training / bare, 2)
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.stdout.write(json.dumps(found, indent=1) + "\n")


def _bare_xgboost(settings: Settings) -> float:
    """Median seconds of fit and predict_proba on the demo's own training matrix."""
    from mlops_platform.feature_pipeline import FeatureTransformer
    from mlops_platform.training_pipeline.dataset import split_rows
    from mlops_platform.training_pipeline.models import make_model

    rows = split_rows(Lake(settings).snapshot(STANDARD.training_set).to_arrow(), "train")
    matrix = FeatureTransformer().fit_transform(rows.select(STANDARD.names))
    labels = rows.column(TARGET).to_numpy()
    took = []
    for _ in range(3):
        classifier = make_model()["classifier"]
        started = time.perf_counter()
        classifier.fit(matrix, labels).predict_proba(matrix)
        took.append(time.perf_counter() - started)
    return statistics.median(took)


if __name__ == "__main__":
    main()
