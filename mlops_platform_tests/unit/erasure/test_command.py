"""`mlops erase`: it asks first, says what it did, and the proof decides the exit code."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mlops_platform import settings
from mlops_platform.cli import app
from mlops_platform.contracts import BRONZE_TRANSACTIONS, ERASURES
from mlops_platform.errors import InputError
from mlops_platform.storage.lake import Lake
from mlops_platform_tests.unit.erasure.lakes import build


@pytest.fixture
def small(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Lake:
    # A command is a process of its own; here its variables would reach the tests after it.
    monkeypatch.setattr(settings, "apply_exports", lambda _: None)
    build(lake, ["c1", "c2", "c3", "c10"], [BRONZE_TRANSACTIONS])
    return lake


def run(lake: Lake, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["erase", *arguments, "--home", str(lake.settings.home)])


def test_nobody_is_erased_without_being_asked(small: Lake) -> None:
    answer = run(small, "c1")
    assert isinstance(answer.exception, InputError)
    assert "nobody is there to confirm" in str(answer.exception)
    assert BRONZE_TRANSACTIONS.name in answer.output
    assert small.snapshot(BRONZE_TRANSACTIONS).count() == 6
    assert small.snapshot(ERASURES).snapshot_id is None


def test_erase_and_prove(small: Lake, tmp_path: Path) -> None:
    listed = tmp_path / "ids.txt"
    listed.write_text("c2\n\nc3\n")
    assert run(small, "c1", "--ids-file", str(listed), "--verify").exit_code == 2
    assert small.snapshot(BRONZE_TRANSACTIONS).count() == 6
    answer = run(small, "c1", "--ids-file", str(listed), "--verify", "--yes")
    assert answer.exit_code == 0, answer.output
    for words in ("3 customers, 3 of them listed", "5 rows erased", "The CRM was not touched", "No file names them"):
        assert words in answer.output
    assert small.snapshot(BRONZE_TRANSACTIONS).to_arrow(["customer_id"])["customer_id"].to_pylist() == ["c10"]


def test_mistakes(small: Lake, tmp_path: Path) -> None:
    assert "no customer was named" in str(run(small, "--yes").exception)
    assert "can't be read" in str(run(small, "--yes", "--ids-file", str(tmp_path / "none.txt")).exception)
