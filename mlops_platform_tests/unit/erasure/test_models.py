"""Models of an erased training set: marked once, and still able to name a drift reference."""

from __future__ import annotations

from datetime import UTC, datetime

from mlops_platform.contracts import STANDARD
from mlops_platform.erasure import erase
from mlops_platform.erasure.models import NOT_REBUILDABLE_TAG
from mlops_platform.storage.lake import Lake
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform.training_pipeline.train import TRAINING_SNAPSHOT_TAG
from mlops_platform_tests.unit.erasure.lakes import build, publish

NOW = datetime(2026, 7, 1, tzinfo=UTC)


def test_models_whose_training_rows_are_gone(lake: Lake) -> None:
    last = build(lake, ["c1", "c2", "c3", "c4"], [STANDARD.training_set])[STANDARD.training_set.name]
    table = lake.snapshot(STANDARD.training_set).table
    assert table is not None
    first = table.snapshots()[0].snapshot_id
    manager = MLflowManager(lake.settings)
    manager.client.create_registered_model("m")
    runs = {}
    for snapshot in (first, last):
        tags = {TRAINING_SNAPSHOT_TAG: str(snapshot)}
        with manager.run("e", "r", tags) as run_id:
            runs[snapshot] = run_id
        manager.register_model(f"runs:/{run_id}/model", "m", tags)
    with manager.run("e", "no training", {}) as untrained:
        pass

    assert erase(lake, ["c3"], now=NOW).models == 4
    now = str(lake.snapshot(STANDARD.training_set).snapshot_id)
    words = "a customer was erased on 2026-07-01"
    # The older training set is gone for good; the last one lives on without the customer.
    for snapshot, named in ((first, str(first)), (last, now)):
        tags = manager.client.get_run(runs[snapshot]).data.tags
        assert (tags[NOT_REBUILDABLE_TAG], tags[TRAINING_SNAPSHOT_TAG]) == (words, named)
    assert {v.tags[TRAINING_SNAPSHOT_TAG] for v in manager.client.search_model_versions()} == {str(first), now}
    assert NOT_REBUILDABLE_TAG not in manager.client.get_run(untrained).data.tags

    assert erase(lake, ["c3"], now=datetime(2026, 8, 1, tzinfo=UTC)).models == 0
    publish(lake, STANDARD.training_set, [{"customer_id": "c1", "split": "train"}])
    assert erase(lake, ["nobody"], now=NOW).models == 0


def test_a_home_without_mlflow_gets_none(lake: Lake) -> None:
    build(lake, ["c1", "c2"], [STANDARD.training_set])
    assert erase(lake, ["c1"], now=NOW).models == 0
    assert not (lake.settings.home / "mlflow.db").exists()
