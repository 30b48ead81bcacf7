"""What follows from the rows of ml.promotions: their order, where a rollback leads, who took a version out."""

from __future__ import annotations

import random

import pytest

from mlops_platform.contracts.ml import MANUAL, PROMOTED, REFUSED, ROLLED_BACK, WITHDRAWN
from mlops_platform.training_pipeline.history import PromotionHistory, Row, decoded, encoded
from mlops_platform.training_pipeline.registry import PRODUCTION, RegisteredModel
from mlops_platform_tests.unit.training_pipeline.versions_at_work import AT, later


def history_of(*decisions: tuple[str, str]) -> PromotionHistory:
    """A history of decisions and the versions they were about."""
    history = PromotionHistory("m", [])
    for decision, version in decisions:
        model = RegisteredModel("m", version, PRODUCTION, f"run {version}", {})
        row = history.change(model, decision, "why", at=AT)
        number = row["change_number"] - (decision == REFUSED)
        history = history.with_row(row | {"change_number": number, "decision_id": f"{len(history.rows)}"})
    return history


class TestProduction:
    @pytest.mark.parametrize(
        ("decisions", "production"),
        [
            ([], None),
            ([(REFUSED, "1")], None),
            ([(PROMOTED, "1"), (REFUSED, "2")], "1"),
            ([(PROMOTED, "1"), (MANUAL, "2")], "2"),
            ([(PROMOTED, "1"), (MANUAL, "2"), (ROLLED_BACK, "1")], "1"),
            ([(PROMOTED, "1"), (WITHDRAWN, "1")], None),
        ],
    )
    def test_is_what_the_last_change_left(self, decisions: list[tuple[str, str]], production: str | None) -> None:
        assert history_of(*decisions).production == production


class TestOrder:
    def test_goes_by_the_number_of_the_change_whatever_the_clock_says(self) -> None:
        rows = list(history_of((PROMOTED, "1"), (REFUSED, "2"), (MANUAL, "3"), (REFUSED, "4")).rows)
        for number, row in enumerate(reversed(rows)):
            row["decided_at"] = later(number)
        random.Random(3).shuffle(rows)
        assert [row["model_version"] for row in PromotionHistory("m", rows).decisions] == ["1", "2", "3", "4"]

    def test_rows_from_before_changes_were_counted_come_first_by_time(self) -> None:
        old = [
            {"decision": decision, "model_version": version, "decided_at": later(hour), "change_number": None}
            for decision, version, hour in [(REFUSED, "2", 1), (PROMOTED, "3", 2), (PROMOTED, "1", 0)]
        ]
        history = PromotionHistory("m", old)
        assert [row["model_version"] for row in history.decisions] == ["1", "2", "3"]
        assert (history.production, history.number) == ("3", 0)
        new = history.change(RegisteredModel("m", "4", PRODUCTION, "run", {}), MANUAL, "why", at=AT)
        assert [row["model_version"] for row in history.with_row(new).changes] == ["1", "3", "4"]
        assert (new["change_number"], new["champion_version"]) == (1, "3")


class TestBefore:
    @pytest.mark.parametrize(
        ("decisions", "before"),
        [
            ([], []),
            ([(PROMOTED, "1")], []),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (MANUAL, "3")], ["2", "1"]),
            # Back again goes further back, not forward to what was taken back.
            ([(PROMOTED, "1"), (PROMOTED, "2"), (MANUAL, "3"), (ROLLED_BACK, "2")], ["1"]),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (MANUAL, "3"), (ROLLED_BACK, "2"), (ROLLED_BACK, "1")], []),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (ROLLED_BACK, "1"), (PROMOTED, "3")], ["1"]),
            # A version that came twice is gone back to once.
            ([(PROMOTED, "1"), (PROMOTED, "2"), (MANUAL, "1"), (MANUAL, "3")], ["1", "2"]),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (WITHDRAWN, "2")], ["2", "1"]),
            ([(PROMOTED, "1"), (REFUSED, "2")], []),
        ],
    )
    def test_where_a_rollback_may_lead(self, decisions: list[tuple[str, str]], before: list[str]) -> None:
        assert history_of(*decisions).before == before


class TestTakenBack:
    @pytest.mark.parametrize(
        ("decisions", "expected"),
        [
            ([(PROMOTED, "1"), (PROMOTED, "2")], False),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (PROMOTED, "3")], False),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (ROLLED_BACK, "1")], True),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (ROLLED_BACK, "1"), (PROMOTED, "3")], True),
            ([(PROMOTED, "1"), (PROMOTED, "2"), (ROLLED_BACK, "1"), (MANUAL, "2"), (PROMOTED, "3")], False),
            ([(PROMOTED, "2"), (WITHDRAWN, "2")], True),
        ],
    )
    def test_version_2(self, decisions: list[tuple[str, str]], expected: bool) -> None:
        assert history_of(*decisions).was_taken_back("2") is expected


def test_a_row_survives_being_noted() -> None:
    row: Row = history_of((MANUAL, "1")).rows[0] | {"evaluation_date": AT.date(), "roc_auc": 0.1 + 0.2}
    assert decoded(encoded(row)) == row
