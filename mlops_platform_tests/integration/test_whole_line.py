"""The demo on a small synthetic CRM: its result, what a second run changes, and what is left of a killed one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from mlops_platform.contracts import all_contracts
from mlops_platform.data_pipeline.crm_load import seed
from mlops_platform.settings import Settings, load_settings
from mlops_platform.storage.duck import quoted
from mlops_platform.storage.lake import Lake

UNTIL = date(2025, 3, 31)
ASSETS = {
    "bronze/crm_customers",
    "bronze/crm_transactions",
    "silver/customers",
    "silver/transactions",
    "feature_store/customer_features",
    "monitoring/performance_report",
    "ml/online_store",
    "ml/training_set",
    "ml/churn_model",
    "ml/model_evaluation",
    "ml/production_model",
    "ml/inference_input",
    "ml/serving_model",
    "ml/predictions",
    "monitoring/drift_report",
    "ml/online_predictions",
}


def demo(settings: Settings, url: str) -> dict[str, Any]:
    from mlops_platform.definitions import build_definitions
    from mlops_platform.orchestration.demo import run_demo

    done = run_demo(settings, build_definitions, crm_url=url, as_of=None, progress=lambda line: None)
    return done.as_dict()


def contents(lake: Lake) -> dict[str, Any]:
    """Each table's rows as an order-free digest, without what differs from one home to another."""
    found = {}
    for contract in all_contracts().values():
        ours = {"run_id", "feature_snapshot_id", "decision_id"}
        cells = ", ".join(quoted(name) for name in contract.content_columns if name not in ours)
        with lake.snapshot(contract).relation() as (duck, view):
            found[contract.name] = duck.execute(f"SELECT count(*), sum(hash({cells})::HUGEINT) FROM {view}").fetchall()
    return found


def snapshots(lake: Lake) -> dict[str, int | None]:
    return {name: lake.snapshot(contract).snapshot_id for name, contract in all_contracts().items()}


@pytest.fixture(scope="module")
def crm(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('crm') / 'crm.db'}"
    seed(url, customers=3_000, days=300, seed=11, until=UNTIL)
    return url


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(home=tmp_path_factory.mktemp("whole") / "home")


@pytest.fixture(scope="module")
def first(settings: Settings, crm: str) -> dict[str, Any]:
    return demo(settings, crm)


def test_the_result_is_as_documented(first: dict[str, Any]) -> None:
    assert (first["status"], first["as_of"]) == ("ok", UNTIL.isoformat())
    assert {stage["asset"] for stage in first["stages"]} == ASSETS
    for stage in first["stages"]:
        assert list(stage) == ["asset", "rows", "snapshot_id", "seconds", "checks_passed", "checks_failed"]
        # Drift is a warning: its check fails where the report says so, and nothing else may.
        is_drift = stage["asset"] == "monitoring/drift_report" and first["drift"]["drift_detected"]
        assert stage["checks_failed"] == int(is_drift)
    model = first["model"]
    assert set(model) == {
        "name", "version", "stage", "model_type", "roc_auc", "roc_auc_recency_only", "roc_auc_best_possible",
    }  # fmt: skip
    assert (model["version"], model["stage"], model["model_type"]) == ("1", "Production", "xgboost")
    assert model["roc_auc_recency_only"] < model["roc_auc"] < model["roc_auc_best_possible"] + 0.01
    assert first["predictions"]["rows"] > 1_000
    assert Path(first["drift"]["report_path"]).read_text(encoding="utf-8").startswith("<")
    json.dumps(first)


def test_every_stage_has_written_its_table(settings: Settings, first: dict[str, Any]) -> None:
    rows = {stage["asset"]: stage["rows"] for stage in first["stages"]}
    lake = Lake(settings)
    for contract in all_contracts().values():
        asset = contract.name.replace(".", "/")
        if asset in rows:
            assert lake.snapshot(contract).count() == rows[asset]


def test_the_runs_are_in_the_persistent_instance(settings: Settings, first: dict[str, Any]) -> None:
    import dagster as dg

    from mlops_platform.orchestration.instance import open_instance

    assert first["status"] == "ok"
    with open_instance(settings) as instance:
        runs = instance.get_runs()
        assert {run.status for run in runs} == {dg.DagsterRunStatus.SUCCESS}
        key = dg.AssetKey(["ml", "predictions"])
        assert instance.get_latest_materialization_event(key) is not None


def test_the_same_again_changes_nothing(settings: Settings, crm: str, first: dict[str, Any]) -> None:
    lake = Lake(settings)
    before, held = snapshots(lake), contents(lake)
    again = demo(settings, crm)
    assert snapshots(Lake(settings)) == before
    assert contents(Lake(settings)) == held
    assert again["model"] == first["model"]
    assert [(s["asset"], s["rows"]) for s in again["stages"]] == [(s["asset"], s["rows"]) for s in first["stages"]]


@pytest.fixture(scope="module")
def small_crm(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('small') / 'crm.db'}"
    seed(url, customers=150, days=190, seed=3, until=UNTIL)
    return url


def small(home: Path) -> Settings:
    """A home whose horizon fits the small CRM."""
    return load_settings(home=home, horizon_days=30)


@pytest.fixture(scope="module")
def refusing() -> Iterator[None]:
    """No model is good enough."""
    from mlops_platform.training_pipeline import promotion

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(promotion, "gate", lambda evaluation: "is refused by this test")
        yield


@pytest.fixture(scope="module")
def refused_home(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return small(tmp_path_factory.mktemp("refused") / "home")


@pytest.fixture(scope="module")
def refused(refusing: None, refused_home: Settings, small_crm: str) -> dict[str, Any]:
    return demo(refused_home, small_crm)


def test_a_refused_model_is_no_failure(refused: dict[str, Any]) -> None:
    assert (refused["status"], refused["predictions"], refused["drift"]) == ("not_promoted", None, None)
    assert refused["reason"] == "is refused by this test"
    assert refused["model"]["stage"] == "Staging"


def test_a_killed_demo_is_finished_by_the_next(
    small_crm: str, tmp_path: Path, refused: dict[str, Any], refused_home: Settings
) -> None:
    after = small(tmp_path / "home")
    kill_when(lambda line: "customer_features" in line and "3/" in line, small_crm, after.home)
    assert demo(after, small_crm)["model"] == refused["model"]
    assert contents(Lake(after)) == contents(Lake(refused_home))

    import dagster as dg

    from mlops_platform.orchestration.instance import open_instance

    with open_instance(after) as instance:
        statuses = [run.status for run in instance.get_runs()]
    assert statuses.count(dg.DagsterRunStatus.FAILURE) == 1
    assert dg.DagsterRunStatus.STARTED not in statuses


def kill_when(is_there: Callable[[str], bool], url: str, home: Path) -> None:
    """Runs the demo as a process and kills it, as the kernel would, at a line of its progress."""
    command = [sys.executable, "-m", "mlops_platform.cli", "demo", "--crm", url, "--home", str(home)]
    environment = os.environ | {"MLOPS_HORIZON_DAYS": "30"}
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if is_there(line):
                os.kill(process.pid, signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
