"""Changes of stage: rows of ml.promotions, promotion and rollback by hand, deaths in between, many at once."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pytest

from mlops_platform import clock
from mlops_platform.contracts import PROMOTIONS
from mlops_platform.contracts.schemas import arrow_schema
from mlops_platform.errors import InputError, ModelError
from mlops_platform.settings import load_settings
from mlops_platform.storage.catalog import load_table
from mlops_platform.storage.lake import Lake
from mlops_platform.storage.maintenance import maintain
from mlops_platform.storage.publish import Draft
from mlops_platform.training_pipeline.registry import ARCHIVED, PRODUCTION, STAGING, MLflowManager
from mlops_platform.training_pipeline.stages import complete_history, promote, rollback
from mlops_platform_tests.integration.lines import CONTEXT
from mlops_platform_tests.scale import rounds
from mlops_platform_tests.unit.training_pipeline.versions_at_work import (
    AT,
    SERVABLE,
    add_versions,
    change_often,
    decisions,
    later,
    look,
)


class Model:
    """A model with versions 1, 2 and 3 in the shop's MLflow, and its decisions."""

    def __init__(self, mlflow: MLflowManager, name: str) -> None:
        self.mlflow, self.name, self.lake = mlflow, name, Lake(mlflow.settings)
        add_versions(mlflow, name)

    def promote(self, version: str, hour: int = 0, **arguments: Any) -> Any:
        return promote(self.mlflow, self.lake, self.name, version, at=later(hour), **arguments)

    def rollback(self, hour: int = 0, **arguments: Any) -> Any:
        return rollback(self.mlflow, self.lake, self.name, at=later(hour), **arguments)

    def stages(self) -> list[str]:
        return [version.stage for version in self.mlflow.versions(self.name)]

    def aliases(self) -> dict[str, str]:
        found = self.mlflow.client.get_registered_model(self.name).aliases
        return {alias: str(version) for alias, version in found.items()}

    def decisions(self) -> list[tuple[str, str, str | None]]:
        """Decision, version, the Production version before."""
        return [
            (row["decision"], row["model_version"], row["champion_version"]) for row in decisions(self.lake, self.name)
        ]

    def die_at(self, what: str, call: Any) -> None:
        """Makes the call and lets its process die when it would do `what`."""
        with mock.patch.object(*self._step(what), side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
            call()

    def _step(self, what: str) -> tuple[Any, str]:
        client = type(self.mlflow.client)
        return {
            "change": (client, "transition_model_version_stage"),
            "alias": (client, "set_registered_model_alias"),
            "row": (Lake, "publish"),
        }[what]


@pytest.fixture
def model(mlflow: MLflowManager, request: pytest.FixtureRequest) -> Model:
    return Model(mlflow, f"stages_{request.node.name}")


class TestTransition:
    def test_as_documented(self, model: Model) -> None:
        moved = model.mlflow.transition_model_stage(
            name=model.name, version="2", stage="Production", archive_existing_versions=True
        )
        assert (moved.version, moved.stage) == ("2", PRODUCTION)
        assert model.aliases() == {"production": "2"}
        (row,) = decisions(model.lake, model.name)
        assert (row["decision"], row["model_version"], row["change_number"]) == ("manual", "2", 1)
        assert row["run_id"] == moved.run_id
        assert row["reason"] == "moved to Production by transition_model_stage"
        assert {row[name] for name in ("rows", "evaluation_date", "roc_auc", "roc_auc_champion")} == {None}
        assert abs(clock.now(model.mlflow.settings) - row["decided_at"]).total_seconds() < 600

    def test_the_one_before_is_archived_even_unasked(self, model: Model) -> None:
        for version in ("1", "2"):
            model.mlflow.transition_model_stage(model.name, version, PRODUCTION)
        assert model.stages() == [ARCHIVED, PRODUCTION, "None"]
        assert model.decisions() == [("manual", "1", None), ("manual", "2", "1")]

    def test_again_it_adds_no_row(self, model: Model) -> None:
        for stage in ("Production", "production"):
            model.mlflow.transition_model_stage(model.name, 1, stage)
        assert model.decisions() == [("manual", "1", None)]

    def test_staging_is_nobodys_decision(self, model: Model) -> None:
        model.mlflow.transition_model_stage(model.name, "1", STAGING)
        model.mlflow.transition_model_stage(model.name, "2", STAGING)
        assert (model.stages(), model.aliases()) == ([STAGING, STAGING, "None"], {"staging": "2"})
        model.mlflow.transition_model_stage(model.name, "3", STAGING, archive_existing_versions=True)
        assert (model.stages(), model.aliases()) == ([ARCHIVED, ARCHIVED, STAGING], {"staging": "3"})
        assert model.decisions() == []

    def test_out_of_production_is_a_row_too(self, model: Model) -> None:
        model.mlflow.transition_model_stage(model.name, "1", PRODUCTION)
        model.mlflow.transition_model_stage(model.name, "1", ARCHIVED)
        assert (model.stages(), model.aliases()) == ([ARCHIVED, "None", "None"], {})
        assert model.decisions() == [("manual", "1", None), ("withdrawn", "1", "1")]
        model.rollback()
        assert model.decisions()[-1] == ("rolled_back", "1", None)


class TestPromote:
    def test_the_reason_is_kept(self, model: Model) -> None:
        model.promote("1", reason=" the new segment needs it ")
        (row,) = decisions(model.lake, model.name)
        assert (row["decision"], row["reason"], row["decided_at"]) == ("manual", "the new segment needs it", AT)
        assert (model.stages(), model.aliases()) == ([PRODUCTION, "None", "None"], {"production": "1"})

    def test_what_is_in_production_stays_and_adds_no_row(self, model: Model) -> None:
        model.promote("1")
        assert model.promote("1", 1) is None
        assert len(model.decisions()) == 1

    def test_a_version_that_cannot_serve_is_refused(self, model: Model) -> None:
        with model.mlflow.run("versions", "of a query", {}) as run_id:
            pass
        model.mlflow.register_model(f"runs:/{run_id}/model", model.name)
        with pytest.raises(ModelError, match=r"version 4 .* can't serve: it was not trained on ml\.training_set"):
            model.promote("4")
        assert model.stages() == ["None"] * 4

    def test_a_reason_has_an_end(self, model: Model) -> None:
        with pytest.raises(InputError, match="1,001 characters"):
            model.promote("1", reason="x" * 1001)
        assert model.stages() == ["None"] * 3


class TestRollback:
    def test_goes_back_one_version_at_a_time(self, model: Model) -> None:
        for hour, version in enumerate("123"):
            model.promote(version, hour)
        model.rollback(3, reason="complaints")
        assert model.stages() == [ARCHIVED, PRODUCTION, ARCHIVED]
        model.rollback(4)
        assert (model.stages(), model.aliases()) == ([PRODUCTION, ARCHIVED, ARCHIVED], {"production": "1"})
        assert model.decisions()[3:] == [("rolled_back", "2", "3"), ("rolled_back", "1", "2")]
        reasons = [row["reason"] for row in decisions(model.lake, model.name)][3:]
        assert reasons == ["back from version 3: complaints", "back from version 2"]
        with pytest.raises(ModelError, match="version 1 is in Production, and none was before"):
            model.rollback(5)
        assert len(model.decisions()) == 5

    def test_nothing_was_ever_in_production(self, model: Model) -> None:
        with pytest.raises(ModelError, match=r"no version is in Production, and none was before.*mlops models list"):
            model.rollback()

    def test_versions_that_are_gone_or_cannot_serve_are_passed_over(self, model: Model) -> None:
        add_versions(model.mlflow, model.name, 1)
        for hour, version in enumerate("1234"):
            model.promote(version, hour)
        model.mlflow.client.delete_model_version(model.name, "3")
        for tag in SERVABLE:
            model.mlflow.client.delete_model_version_tag(model.name, "2", tag)
        model.rollback(4)
        assert model.decisions()[-1] == ("rolled_back", "1", "4")
        model.promote("4", 5)
        model.mlflow.client.delete_model_version(model.name, "1")
        with pytest.raises(ModelError, match="version 4 is in Production, and none that was before can serve"):
            model.rollback(6)


class TestDeaths:
    """A process dies between the notes it takes, the change it makes and the row it writes."""

    def test_before_the_change_nothing_has_happened(self, model: Model) -> None:
        model.promote("1")
        model.die_at("change", lambda: model.promote("2", 1))
        assert complete_history(model.mlflow, model.lake, model.name, at=later(2)).production == "1"
        assert model.stages() == [PRODUCTION, "None", "None"]
        model.promote("3", 3)
        assert model.decisions() == [("manual", "1", None), ("manual", "3", "1")]

    @pytest.mark.parametrize("step", ["alias", "row"])
    def test_after_it_the_next_command_adds_the_very_row(self, model: Model, step: str) -> None:
        model.promote("1")
        model.die_at(step, lambda: model.promote("2", 1, reason="better on paper"))
        assert model.stages() == [ARCHIVED, PRODUCTION, "None"]
        assert model.decisions() == [("manual", "1", None)]
        model.rollback(2)
        assert model.decisions() == [("manual", "1", None), ("manual", "2", "1"), ("rolled_back", "1", "2")]
        row = decisions(model.lake, model.name)[1]
        assert (row["reason"], row["decided_at"], row["change_number"]) == ("better on paper", later(1), 2)
        assert model.aliases() == {"production": "1"}

    @pytest.mark.parametrize("step", ["alias", "row"])
    def test_looking_at_the_history_does(self, model: Model, step: str) -> None:
        model.promote("1")
        model.die_at(step, lambda: model.promote("2", 1))
        for _ in range(2):
            found = complete_history(model.mlflow, model.lake, model.name, at=later(2))
            assert [row["model_version"] for row in found.changes] == ["1", "2"]
        assert model.aliases() == {"production": "2"}
        assert len(model.decisions()) == 2

    def test_a_withdrawal_too(self, model: Model) -> None:
        model.promote("1")
        model.die_at("row", lambda: model.mlflow.transition_model_stage(model.name, "1", ARCHIVED))
        found = complete_history(model.mlflow, model.lake, model.name, at=later(1))
        assert (found.production, found.changes[-1]["reason"]) == (None, "moved to Archived by transition_model_stage")


class TestChangedElsewhere:
    def move(self, model: Model, version: str, stage: str) -> None:
        with pytest.warns(FutureWarning):
            model.mlflow.client.transition_model_version_stage(
                model.name, version, stage, archive_existing_versions=stage == PRODUCTION
            )

    def test_a_version_found_in_production_gets_a_row(self, model: Model) -> None:
        model.promote("1")
        self.move(model, "2", PRODUCTION)
        model.promote("3", 1)
        assert model.decisions() == [("manual", "1", None), ("manual", "2", "1"), ("manual", "3", "2")]
        assert decisions(model.lake, model.name)[1]["reason"] == "found in Production: changed past the platform"

    def test_so_does_one_that_left_even_if_it_is_deleted(self, model: Model) -> None:
        model.promote("1")
        self.move(model, "1", ARCHIVED)
        model.mlflow.client.delete_model_version(model.name, "1")
        model.promote("2", 1)
        assert model.decisions() == [("manual", "1", None), ("withdrawn", "1", "1"), ("manual", "2", None)]


# ml.promotions as homes made before had it.
OLD = replace(
    PROMOTIONS,
    columns=tuple(
        replace(column, nullable=column.name in {"champion_version", "roc_auc_champion"})
        for column in PROMOTIONS.columns
        if column.name != "change_number"
    ),
)


def test_a_home_with_the_table_of_before_goes_on(mlflow: MLflowManager, tmp_path: Path) -> None:
    lake, name = Lake(load_settings(home=tmp_path / "home")), "of_before"
    add_versions(mlflow, name)
    figures = {"rows": 9, "evaluation_date": AT.date()} | dict.fromkeys(
        ("roc_auc", "roc_auc_recency_only", "roc_auc_churn_score"), 0.8
    )
    ids = {"model_name": name, "run_id": "r", "reason": "passed every condition", "decision": "promoted"}
    old = [
        {"decision_id": f"old {version}", "model_version": version, "decided_at": later(hour), **ids, **figures}
        for version, hour in (("2", 1), ("1", 0))
    ]
    lake.publish(Draft(OLD, pa.Table.from_pylist(old, schema=arrow_schema(OLD))))
    table = load_table(lake.catalog, OLD, "UTC")
    assert table is not None
    assert table.schema().find_field("roc_auc").required
    with pytest.warns(FutureWarning):
        mlflow.client.transition_model_version_stage(name, "2", PRODUCTION)

    promote(mlflow, lake, name, "3", at=later(2))
    rollback(mlflow, lake, name, at=later(3))
    rollback(mlflow, lake, name, at=later(4))

    found = complete_history(mlflow, lake, name, at=later(5)).decisions
    assert [(row["decision"], row["model_version"], row["change_number"], row["roc_auc"]) for row in found] == [
        ("promoted", "1", None, 0.8),
        ("promoted", "2", None, 0.8),
        ("manual", "3", 1, None),
        ("rolled_back", "2", 2, None),
        ("rolled_back", "1", 3, None),
    ]


def test_one_production_version_whoever_looks_while_many_change_it(model: Model) -> None:
    add_versions(model.mlflow, model.name, 1)
    model.promote("1")
    made: list[str] = []
    stop, seen = threading.Event(), Counter[str]()
    readers = [threading.Thread(target=look, args=(MLflowManager(model.mlflow.settings), model.name, stop, seen))]
    readers += [threading.Thread(target=look, args=(model.mlflow, model.name, stop, seen))]
    for reader in readers:
        reader.start()
    try:
        for episode in range(rounds(full=10, share=1)):
            made += _change_in_processes(model, episode, processes=2, changes=rounds(full=50, share=8))
            maintain(model.lake, now=clock.now(model.mlflow.settings), keep=())
    finally:
        stop.set()
        for reader in readers:
            reader.join()

    looks = sum(count for what, count in seen.items() if what.startswith("served"))
    assert len(made) == rounds(full=1000, share=16)
    assert seen["1 in Production"] == looks >= len(made)
    assert not [what for what in seen if what.endswith("in Production") and what != "1 in Production"]
    history = decisions(model.lake, model.name)
    assert {row["decision_id"] for row in history[1:]} == set(made)
    assert [row["change_number"] for row in history] == list(range(1, len(made) + 2))
    assert all(after["champion_version"] == before["model_version"] for before, after in pairwise(history))
    assert {row["decision"] for row in history} == {"manual", "rolled_back"}
    production = model.mlflow.production(model.name)
    assert model.stages().count(PRODUCTION) == 1
    assert model.aliases() == {"production": production.version}
    assert history[-1]["model_version"] == production.version
    print(f"{len(made):,} changes, {looks:,} looks by {len(readers)} readers")  # noqa: T201 - shown with -s


def _change_in_processes(model: Model, episode: int, *, processes: int, changes: int) -> list[str]:
    home = model.mlflow.settings.home
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(processes)]
    started = []
    for number, (_, sender) in enumerate(pipes):
        arguments = (sender, home, model.name, 1000 * (processes * episode + number), changes)
        started.append(CONTEXT.Process(target=change_often, args=arguments, daemon=True))
        started[-1].start()
        sender.close()
    made = [decision for receiver, _ in pipes for decision in receiver.recv()]
    for process in started:
        process.join()
    return made
