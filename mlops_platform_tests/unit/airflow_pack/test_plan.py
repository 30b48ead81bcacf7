"""What a DAG is made of: the documented tasks on the real Definitions, and what is wrong where they don't fit.

Does not belong here: the text of a DAG file (`test_generate.py`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from mlops_platform.airflow_pack.plan import DagPlan, plan_dag
from mlops_platform.airflow_pack.tasks import DAGS, Branch, Task
from mlops_platform.definitions import build_definitions
from mlops_platform.errors import InputError
from mlops_platform.orchestration.job_facts import AssetFacts, JobFacts, job_facts
from mlops_platform.orchestration.task_commands import COMMANDS
from mlops_platform.settings import load_settings

TRAINING, INFERENCE = "ml_training_pipeline", "ml_batch_inference_pipeline"


def facts(**parents: str) -> JobFacts:
    """A job whose assets read the named ones, which lie outside it where they have no parents given."""
    everything = {*parents, *(name for found in parents.values() for name in found.split())}
    assets = {
        name: AssetFacts(f"Holds {name}. More.", ("team-a",), "group", frozenset(parents.get(name, "").split()))
        for name in everything
    }
    return JobFacts("job", "Does it.", "0 2 * * *", "UTC", 2, 24, "%Y-%m-%d", frozenset(parents), assets)


def upstream(plan: DagPlan) -> dict[str, tuple[str, ...]]:
    return {planned.task.name: planned.upstream for planned in plan.tasks}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DagPlan]:
    definitions = build_definitions(load_settings(home=tmp_path_factory.mktemp("home") / "none"))
    return {name: plan_dag(job_facts(definitions, name), tasks, COMMANDS) for name, tasks in DAGS.items()}


class TestDocumented:
    def test_training(self, plans: dict[str, DagPlan]) -> None:
        assert upstream(plans[TRAINING]) == {
            "wait_for_data": (),
            "extract_features": ("wait_for_data",),
            "prepare_training_data": ("extract_features",),
            "train_model": ("prepare_training_data",),
            "evaluate_model": ("train_model",),
            "promote_model": ("evaluate_model",),
            "send_notification": ("promote_model",),
        }
        assert plans[TRAINING].facts.cron == "0 2 * * *"

    def test_inference(self, plans: dict[str, DagPlan]) -> None:
        assert upstream(plans[INFERENCE]) == {
            "load_inference_data": (),
            "load_production_model": ("load_inference_data",),
            "generate_predictions": ("load_production_model",),
            "save_to_iceberg": ("generate_predictions",),
            "monitor_predictions": ("save_to_iceberg",),
            "check_drift_status": ("monitor_predictions",),
            "handle_drift": ("check_drift_status",),
            "complete_pipeline": ("check_drift_status",),
        }
        assert plans[INFERENCE].facts.cron == "0 */6 * * *"

    def test_the_rest_comes_from_the_definitions(self, plans: dict[str, DagPlan]) -> None:
        for plan in plans.values():
            assert plan.facts.retries == 2
            assert all(planned.owner in {"data-science", "data-platform"} for planned in plan.tasks)
            assert all(len(planned.words) > 20 for planned in plan.tasks)
        assert plans[TRAINING].tags == ("feature_store", "ml")
        assert plans[INFERENCE].tags == ("ml", "monitoring")
        windows = [(plan.facts.window_hours, plan.facts.key_format) for plan in plans.values()]
        assert windows == [(24, "%Y-%m-%d"), (6, "%Y-%m-%d-%H:%M")]


class TestEdges:
    def test_what_reads_an_asset_comes_after_its_command(self) -> None:
        tasks = (
            Task("look", command="c", about="outside"),
            Task("one", ("a",)),
            Task("check", command="c", about="a"),
            Task("two", ("b",)),
        )
        plan = plan_dag(facts(a="outside", b="a outside"), tasks, {"c"})
        assert upstream(plan) == {"look": (), "one": ("look",), "check": ("one",), "two": ("check",)}

    def test_one_task_may_hold_several_assets(self) -> None:
        plan = plan_dag(facts(a="", b="a", c="b"), (Task("one", ("a", "b")), Task("two", ("c",))), ())
        assert upstream(plan) == {"one": (), "two": ("one",)}
        assert plan.tasks[0].words == "a: Holds a. b: Holds b."

    def test_a_new_dependency_is_a_new_edge(self) -> None:
        tasks = (Task("one", ("a",)), Task("two", ("b",)), Task("three", ("c",)))
        assert upstream(plan_dag(facts(a="", b="a", c="a"), tasks, ()))["three"] == ("one",)
        assert upstream(plan_dag(facts(a="", b="a", c="a b"), tasks, ()))["three"] == ("two",)


class TestMistakes:
    @pytest.mark.parametrize(
        ("tasks", "words"),
        [
            ((Task("one", ("a",)),), ["asset b of job job is in no task"]),
            ((Task("one", ("a", "b")), Task("two", ("b",))), ["asset b of job job is in 2 tasks"]),
            ((Task("one", ("a", "b")), Task("two")), ["task two", "no asset and no command"]),
            ((Task("one", ("a", "b")), Task("two", ("b",), command="c")), ["task two", "or both"]),
            ((Task("one", ("a", "b")), Task("two", command="unknown")), ["task two", "unknown command unknown"]),
            ((Task("one", ("a", "b", "x")),), ["task one names x"]),
            ((Task("one", ("a", "b", "outside")),), ["task one names outside"]),
            ((Task("one", ("a", "b")), Task("one", command="c")), ["two tasks", "one"]),
            ((Task("one", ("a", "b")), Task("two", branch=Branch("b", "f", "v", "one", "no"))), ["goes on with no"]),
            ((Task("one", ("a", "b")), Task("two", command="c", about="x")), ["task two names x"]),
        ],
    )  # fmt: skip
    def test_the_message_names_it(self, tasks: tuple[Task, ...], words: list[str]) -> None:
        with pytest.raises(InputError) as caught:
            plan_dag(facts(a="outside", b="a"), tasks, {"c"})
        assert all(word in str(caught.value) for word in words), str(caught.value)

    def test_tasks_that_wait_for_each_other(self) -> None:
        with pytest.raises(InputError, match=r"wait for each other: one → two → one|two → one → two"):
            plan_dag(facts(a="", b="a", c="b"), (Task("one", ("a", "c")), Task("two", ("b",))), ())

    def test_a_renamed_asset_is_named(self, plans: dict[str, DagPlan]) -> None:
        found = plans[INFERENCE].facts
        renamed = {("ml/scores" if key == "ml/predictions" else key): value for key, value in found.assets.items()}
        selected = frozenset("ml/scores" if key == "ml/predictions" else key for key in found.selected)
        with pytest.raises(InputError, match="ml/predictions"):
            plan_dag(replace(found, assets=renamed, selected=selected), DAGS[INFERENCE], COMMANDS)

    @pytest.mark.parametrize("crons", [[], ["0 1 * * *", "0 2 * * *"], [["0 1 * * *", "0 2 * * *"]]])
    def test_a_job_needs_one_schedule(self, crons: list[str | list[str]], tmp_path: Path) -> None:
        @dg.asset(partitions_def=dg.DailyPartitionsDefinition("2024-01-01"))
        def a() -> None: ...

        job = dg.define_asset_job("job", selection=[a])
        schedules = [
            dg.ScheduleDefinition(name=f"s{n}", job_name="job", cron_schedule=cron) for n, cron in enumerate(crons)
        ]
        definitions = dg.Definitions(assets=[a], jobs=[job], schedules=schedules)
        with pytest.raises(InputError, match=r"job job has schedules: (none|s0, s1|s0)\. Expected: exactly one"):
            job_facts(definitions, "job")

    def test_a_job_that_is_not_there(self) -> None:
        with pytest.raises(InputError, match="no job job"):
            job_facts(dg.Definitions(), "job")
