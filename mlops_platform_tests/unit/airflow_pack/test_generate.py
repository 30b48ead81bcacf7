"""The DAG files: the committed ones are current, every variant is clean Python, and the keys in them are Dagster's.

Does not belong here: what Airflow makes of them (`mlops_platform_tests/airflow/`).
"""

from __future__ import annotations

import ast
import random
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from mlops_platform.airflow_pack.generate import make_pack, pack_diff, write_pack
from mlops_platform.airflow_pack.render import Runner, Sensor
from mlops_platform.definitions import build_definitions
from mlops_platform.orchestration import jobs
from mlops_platform.orchestration.jobs import INFERENCE, TRAINING, scheduled_key
from mlops_platform.orchestration.partitions import Partitions
from mlops_platform.settings import Settings, load_settings
from mlops_platform_tests.definitions.test_schedules import key_at
from mlops_platform_tests.integration.commands import mlops

ROOT = Path(__file__).resolve().parents[3]
COMMITTED = ROOT / "deploy/airflow/dags"
VARIANTS: list[tuple[Runner, Sensor]] = [("bash", "cli"), ("bash", "s3"), ("graphql", "cli"), ("graphql", "s3")]


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(home=tmp_path_factory.mktemp("home") / "none")


@pytest.fixture(scope="module")
def packs(settings: Settings) -> dict[tuple[Runner, Sensor], dict[str, str]]:
    return {
        (runner, sensor): make_pack(settings, build_definitions, runner=runner, sensor=sensor)
        for runner, sensor in VARIANTS
    }


class TestFiles:
    def test_the_committed_pack_is_current(self, packs: dict[tuple[Runner, Sensor], dict[str, str]]) -> None:
        assert pack_diff(packs["bash", "cli"], COMMITTED) == "", "run `mlops airflow generate`"

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_ruff_is_content(
        self, packs: dict[tuple[Runner, Sensor], dict[str, str]], variant: tuple[Runner, Sensor], tmp_path: Path
    ) -> None:
        write_pack(packs[variant], tmp_path)
        ruff = [sys.executable, "-m", "ruff"]
        ours = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(tmp_path)]
        for command in (
            ["check", "--select", "AIR", "--preview"],
            ["check"],
            ["format", "--check"],
        ):
            done = subprocess.run([*ruff, *command, *ours], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.parametrize("variant", VARIANTS)
    def test_only_airflow_and_python_are_imported(
        self, packs: dict[tuple[Runner, Sensor], dict[str, str]], variant: tuple[Runner, Sensor]
    ) -> None:
        for text in packs[variant].values():
            found = {
                name.partition(".")[0]
                for node in ast.walk(ast.parse(text))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names])
            }
            assert found - set(sys.stdlib_module_names) == {"airflow"}

    def test_airflow_as_the_orchestrator_gives_the_same_pack(
        self, settings: Settings, packs: dict[tuple[Runner, Sensor], dict[str, str]]
    ) -> None:
        there = settings.model_copy(update={"orchestrator": "airflow"})
        assert make_pack(there, build_definitions) == packs["bash", "cli"]

    def test_only_what_differs_is_written(
        self, packs: dict[tuple[Runner, Sensor], dict[str, str]], tmp_path: Path
    ) -> None:
        pack = packs["bash", "cli"]
        assert len(write_pack(pack, tmp_path / "new" / "dags")) == 2
        (tmp_path / "new" / "dags" / f"{TRAINING}.py").write_text("old\n")
        assert [path.name for path in write_pack(pack, tmp_path / "new" / "dags")] == [f"{TRAINING}.py"]
        assert pack_diff(pack, tmp_path / "new" / "dags") == ""


class TestCheck:
    def check(self, tmp_path: Path) -> Any:
        return mlops("airflow", "generate", "--check", "--out", COMMITTED, "--home", tmp_path / "none")

    def test_a_current_pack_passes(self, tmp_path: Path) -> None:
        assert self.check(tmp_path).code == 0

    def test_a_changed_cron_is_shown(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(jobs.CADENCE, TRAINING, "15 3 * * *")
        done = self.check(tmp_path)
        assert done.code == 2
        assert '-    schedule=CronTriggerTimetable("0 2 * * *", timezone="UTC"),' in done.out
        assert '+    schedule=CronTriggerTimetable("15 3 * * *", timezone="UTC"),' in done.out
        assert "stale. Next: mlops airflow generate" in done.err

    def test_a_renamed_asset_is_shown(self, settings: Settings, tmp_path: Path) -> None:
        pack = make_pack(settings, build_definitions)
        renamed = {name: text.replace("ml/churn_model", "ml/model") for name, text in pack.items()}
        write_pack(renamed, tmp_path)
        diff = pack_diff(pack, tmp_path)
        assert any(line.startswith("-") and "ml/model:" in line for line in diff.splitlines())
        assert any(line.startswith("+") and "ml/churn_model:" in line for line in diff.splitlines())

    @pytest.mark.parametrize(("option", "value"), [("--runner", "docker"), ("--sensor", "kafka")])
    def test_unknown_choices_are_refused(self, option: str, value: str, tmp_path: Path) -> None:
        assert mlops("airflow", "generate", option, value, "--home", tmp_path / "none").is_refusal(option, value)


def partition_at(text: str) -> Callable[[datetime], str]:
    """The function of a generated file, without Airflow."""
    wanted = {"ZONE", "WINDOW_HOURS", "partition_at"}
    kept = [
        node
        for node in ast.parse(text).body
        if (isinstance(node, ast.FunctionDef) and node.name in wanted)
        or (isinstance(node, ast.Assign) and wanted & {n.id for n in ast.walk(node) if isinstance(n, ast.Name)})
    ]
    names: dict[str, Any] = {"ZoneInfo": ZoneInfo, "timedelta": timedelta, "datetime": datetime}
    exec(compile(ast.Module(kept, []), "dag", "exec"), names)  # noqa: S102 - our own generated text
    found: Callable[[datetime], str] = names["partition_at"]
    return found


class TestPartitions:
    @pytest.mark.parametrize("zone", ["America/New_York", "America/Sao_Paulo"])
    def test_both_runners_give_the_schedules_keys(self, zone: str, tmp_path: Path) -> None:
        settings = load_settings(home=tmp_path / "none", timezone=zone, history_start=date(2018, 1, 1))
        definitions, partitions = build_definitions(settings), Partitions(settings)
        pack = make_pack(settings, build_definitions, runner="graphql")
        rng = random.Random(17)
        # The days on which clocks were changed are half of them.
        changes = [datetime(2024, 3, 10, tzinfo=UTC), datetime(2024, 11, 3, tzinfo=UTC)]
        changes += [datetime(2018, 2, 18, tzinfo=UTC), datetime(2018, 11, 4, tzinfo=UTC)]
        instants = [rng.choice(changes) + timedelta(minutes=rng.randrange(-720, 2_160)) for _ in range(25)]
        instants += [datetime(2019, 1, 1, tzinfo=UTC) + timedelta(minutes=rng.randrange(3_000_000)) for _ in range(25)]
        for job in (TRAINING, INFERENCE):
            in_dag = partition_at(pack[f"{job}.py"])
            for instant in instants:
                wanted = key_at(definitions, job, instant.astimezone(ZoneInfo(zone)))
                assert in_dag(instant) == wanted, (job, instant)
                assert scheduled_key(partitions, job, instant) == wanted, (job, instant)
