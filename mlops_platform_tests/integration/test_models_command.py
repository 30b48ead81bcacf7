"""`mlops models …` as a person types it. Does not belong here: what a change of stage does (`test_stages.py`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops_platform.settings import load_settings
from mlops_platform.training_pipeline.registry import MLflowManager
from mlops_platform_tests.integration.commands import Done, mlops
from mlops_platform_tests.unit.training_pipeline.versions_at_work import add_versions

NAME = "customer_churn_model"


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three versions that could serve and one that could not, none of them in Production."""
    home = tmp_path_factory.mktemp("models") / "home"
    manager = MLflowManager(load_settings(home=home))
    add_versions(manager, NAME, 3, model_type="xgboost")
    for number, version in enumerate(manager.versions(NAME)):
        manager.log_metrics(
            version.run_id, {"test_roc_auc": 0.8 + number / 100, "test_rows": 500, "validation_f1": 0.5}
        )
    manager.client.log_metric(manager.version(NAME, 2).run_id, "test_ece", 0.03)
    with manager.run("versions", "of a query", {}) as run_id:
        pass
    manager.register_model(f"runs:/{run_id}/model", NAME)
    return home


@pytest.fixture
def home(registered: Path, tmp_path: Path) -> Path:
    """A copy of it: paths in it are not read."""
    shutil.copytree(registered, tmp_path / "home")
    return tmp_path / "home"


def models(home: Path, *arguments: object) -> Done:
    """`mlops models …` in that home."""
    return mlops("models", *arguments, "--home", home)


def cells(done: Done, start: str) -> list[str]:
    """The cells of the row that begins so."""
    assert done.code == 0, done
    (line,) = [line for line in done.out.splitlines() if line.split()[:1] == [start]]
    return line.split()


def test_list(home: Path) -> None:
    models(home, "promote", 2)
    done = models(home, "list")
    assert f"{NAME}: 4 versions" in done.out
    assert cells(done, "1")[:4] == ["1", "None", "xgboost", "0.8000"]
    assert cells(done, "2")[:4] == ["2", "Production", "xgboost", "0.8100"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d [0-9a-f]{32}", " ".join(cells(done, "2")[4:]))
    assert cells(done, "4")[:4] == ["4", "None", "–", "–"]


def test_compare(home: Path) -> None:
    done = models(home, "compare", 1, 2)
    assert f"{NAME}: versions 1 and 2" in done.out
    assert cells(done, "test_roc_auc") == ["test_roc_auc", "0.8000", "0.8100", "+0.0100"]
    assert cells(done, "test_rows") == ["test_rows", "500", "500", "+0.0000"]
    assert cells(done, "test_ece") == ["test_ece", "–", "0.0300", "–"]
    assert done.out.index("test_rows") < done.out.index("validation_f1")
    assert "not trained and tested on the same rows" not in done.err
    assert "not trained and tested on the same rows" in models(home, "compare", 1, 4).err


def test_promote_roll_back_and_look_at_the_history(home: Path) -> None:
    assert f"{NAME} version 1 is in Production: promoted by hand." in models(home, "promote", 1).out
    done = models(home, "promote", 3, "--reason", "campaign of May")
    assert f"{NAME} version 3 is in Production in place of version 1: campaign of May." in done.out
    assert "mlops models rollback" in done.err
    assert "Version 3 is in Production already; nothing was changed." in models(home, "promote", 3).out

    done = models(home, "rollback", "--reason", "complaints")
    assert "version 1 is in Production in place of version 3: back from version 3: complaints." in done.out

    done = models(home, "history")
    assert f"{NAME}: version 1 is in Production after 3 changes" in done.out
    rows = [line.split() for line in done.out.splitlines() if line.startswith(" 20")]
    assert [row[2:6] for row in rows] == [
        ["manual", "1", "–", "–"],
        ["manual", "3", "1", "–"],
        ["rolled_back", "1", "3", "–"],
    ]
    assert " ".join(rows[-1][6:]) == "back from version 3: complaints"


class TestMistakes:
    @pytest.mark.parametrize(
        "arguments", [("promote", "9"), ("promote", "latest"), ("compare", "1", "9"), ("compare", "9", "1")]
    )
    def test_no_such_version(self, home: Path, arguments: tuple[str, ...]) -> None:
        wrong = next(word for word in arguments[1:] if word != "1")
        assert models(home, *arguments).is_refusal(f"{NAME} has no version {wrong}", "one of 1, 2, 3, 4")

    def test_a_version_that_cannot_serve(self, home: Path) -> None:
        assert models(home, "promote", 4).is_refusal("version 4", "can't serve", "ml.training_set")

    def test_nothing_to_roll_back_to(self, home: Path) -> None:
        assert models(home, "rollback").is_refusal(
            "no version is in Production", "none was before", "mlops models list"
        )

    @pytest.mark.parametrize("command", [("list",), ("history",), ("rollback",), ("promote", "1"), ("compare", 1, 2)])
    def test_no_such_model(self, home: Path, command: tuple[str, ...]) -> None:
        done = mlops("models", *command, "--home", home, MLOPS_MODEL_NAME="another")
        assert done.is_refusal("there is no model 'another'", f"one of {NAME}", "mlops train")


def test_a_rollback_takes_less_than_ten_seconds(home: Path) -> None:
    for version in (1, 2):
        models(home, "promote", version)
    command = [str(Path(sys.executable).with_name("mlops")), "models", "rollback", "--home", str(home)]
    before = os.times()
    started = time.monotonic()
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    seconds, after = time.monotonic() - started, os.times()
    assert done.returncode == 0, done.stderr
    assert "version 1 is in Production in place of version 2" in done.stdout
    # CPU seconds: beside other tests a process waits for its turn.
    spent = sum(getattr(after, kind) - getattr(before, kind) for kind in ("children_user", "children_system"))
    assert spent < 10
    print(f"rollback: {seconds:.1f} s, {spent:.1f} CPU s")  # noqa: T201 - shown with -s
