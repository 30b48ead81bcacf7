"""Alerts of refused versions: one a version, and one notice when it is over."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlops_platform.monitoring.alerts import recorded_alerts
from mlops_platform.settings import load_settings
from serving.refusal import ALERT_TYPE, RefusalAlert


def test_people_are_told_once_and_that_it_is_over(tmp_path: Path) -> None:
    settings = load_settings(home=tmp_path)
    alert, current = RefusalAlert(settings), SimpleNamespace(refused=None, problem="the registry does not answer")

    def look(refused: str | None, problem: str | None) -> list[str]:
        found: Any = current
        found.refused = None if refused is None else SimpleNamespace(version=refused, run_id="r1")
        found.problem = problem
        telling = alert.look(found)
        if telling is not None:
            telling.join()
        return [f"{each.notice.alert.subject}: {each.notice.alert.message}" for each in recorded_alerts(settings)]

    assert look(None, "the registry does not answer") == []
    assert look("4", "its files were tampered with") == ["version 4, run r1: its files were tampered with"]
    assert look("4", "its files were tampered with") == ["version 4, run r1: its files were tampered with"]
    assert look("5", "it holds a pickle") == ["version 5, run r1: it holds a pickle"]
    assert look(None, None) == []
    found = recorded_alerts(settings, is_open=False)
    assert {each.notice.alert.alert_type for each in found} == {ALERT_TYPE}
    assert len(found) == 2
