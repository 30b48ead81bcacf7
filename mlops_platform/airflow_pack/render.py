"""A plan as the text of a DAG file: one that a person is glad to read, and that imports Airflow only.

The same plan gives the same bytes. Does not belong here: what is in a plan (`plan.py`), writing files (`generate.py`).
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Iterator
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from mlops_platform.airflow_pack.tasks import Branch, kind

if TYPE_CHECKING:
    from mlops_platform.airflow_pack.plan import DagPlan, PlannedTask

Runner = Literal["bash", "graphql"]
Sensor = Literal["cli", "s3"]

_WIDTH = 120
_WORDS = {
    "bash": "Each task is one command of the platform, `mlops airflow exec`, in the home that MLOPS_HOME names",
    "graphql": "Each task is one run on the Dagster webserver that MLOPS_DAGSTER_URL names",
}
# What each part of a file imports: of Python, and of Airflow.
_STANDARD = {
    "bash": "datetime:datetime json zoneinfo:ZoneInfo",
    "graphql": "collections.abc:Callable datetime:datetime,timedelta json os time typing:Any "
    "urllib.request:Request,urlopen zoneinfo:ZoneInfo",
    "bash+cli": "os subprocess typing:Any",
    "s3": "datetime:timedelta typing:Any",
    "branch": "typing:Any",
}
_AIRFLOW = {
    "bash": "airflow.providers.standard.operators.bash:BashOperator",
    "graphql": "airflow.sdk:BaseOperator,Context "
    "airflow.sdk.exceptions:AirflowException,AirflowFailException,AirflowSkipException",
    "sensor": "airflow.sdk:PokeReturnValue,task",
    "bash+cli": "airflow.sdk.exceptions:AirflowException",
    "s3": "airflow.providers.amazon.aws.hooks.s3:S3Hook airflow.sdk:Variable",
    "branch": "airflow.sdk:task",
}


def render_dag(plan: DagPlan, runner: Runner, sensor: Sensor) -> str:
    """The text of a plan's DAG file."""
    kinds = {kind(planned.task) for planned in plan.tasks}
    parts = [runner, *(["sensor", sensor, f"{runner}+{sensor}"] if "sensor" in kinds else []), *kinds]
    helpers = [_template(name) for name in ("s3", f"{runner}+{sensor}") if name in parts]
    sdk = "airflow.sdk:CronTriggerTimetable,DAG,chain"
    blocks = [
        _docstring(plan, runner, sensor if "sensor" in kinds else "cli"),
        _imports(_STANDARD.get(part, "") for part in parts),
        _imports([sdk, *(_AIRFLOW.get(part, "") for part in parts)]),
        "\n".join(_constants(plan, needs_zone=runner == "graphql" or "s3" in parts, needs_windows=runner == "graphql")),
        _template(runner),
        *helpers,
        "\n".join(_dag(plan, runner, sensor)),
    ]
    return _spaced([block.strip("\n") for block in blocks if block])


def _spaced(blocks: list[str]) -> str:
    """Blocks with two empty lines around functions and classes, and one elsewhere."""
    text = blocks[0]
    for earlier, block in pairwise(blocks):
        around = re.search(r"^(def|class) ", earlier, re.MULTILINE) or block.startswith(("def ", "class "))
        text += ("\n\n\n" if around else "\n\n") + block
    return text + "\n"


def _docstring(plan: DagPlan, runner: Runner, sensor: Sensor) -> str:
    options = "".join([f" --runner {runner}" * (runner != "bash"), f" --sensor {sensor}" * (sensor != "cli")])
    body = (
        f"Made by `mlops airflow generate{options}` from the Dagster definitions: change those and generate again, not "
        f"this file. {_WORDS[runner]}; it returns the references of what it made, and one that Airflow tries again "
        "finds what was done before."
    )
    # The first line ends with a stop, as a docstring's does.
    title = f"{plan.facts.description.rstrip('.')}.".replace("\\", "/").replace('"', "'")
    return f'"""{title}\n\n{textwrap.fill(body, _WIDTH)}\n"""'


def _imports(parts: Iterable[str]) -> str:
    """Import statements, sorted as ruff sorts them: whole modules, then names."""
    items = [item for part in parts for item in part.split()]
    modules = sorted({item for item in items if ":" not in item})
    names: dict[str, set[str]] = {}
    for item in items:
        module, _, wanted = item.partition(":")
        if wanted:
            names.setdefault(module, set()).update(wanted.split(","))
    # Constants and acronyms, then classes, then functions.
    order = {
        module: sorted(found, key=lambda name: (not name.isupper(), not name[0].isupper(), name))
        for module, found in names.items()
    }
    lines = [f"import {module}" for module in modules]
    return "\n".join([*lines, *(f"from {module} import {', '.join(order[module])}" for module in sorted(order))])


def _constants(plan: DagPlan, *, needs_zone: bool, needs_windows: bool) -> Iterator[str]:
    facts = plan.facts
    if needs_zone:
        yield f"ZONE = ZoneInfo({_text(facts.timezone)})"
    if needs_windows:
        yield f"WINDOW_HOURS, KEY_FORMAT = {facts.window_hours}, {_text(facts.key_format)}"


def _template(name: str) -> str:
    found = files("mlops_platform.airflow_pack") / "templates" / f"{name}.txt"
    return found.read_text(encoding="utf-8") if found.is_file() else ""


def _dag(plan: DagPlan, runner: Runner, sensor: Sensor) -> Iterator[str]:
    facts = plan.facts
    defaults = [f'"retries": {facts.retries}']
    if runner == "bash":
        defaults += ['"env": RUN_AT', '"append_env": True', '"output_processor": json.loads']
    yield "with DAG("
    yield f"    {_text(facts.name)},"
    yield f"    description={_text(facts.description)},"
    yield f"    schedule=CronTriggerTimetable({_text(facts.cron)}, timezone={_text(facts.timezone)}),"
    yield f"    start_date=datetime(2020, 1, 1, tzinfo=ZoneInfo({_text(facts.timezone)})),"
    yield "    catchup=False,"
    yield "    max_active_runs=1,"
    yield f"    default_args={{{', '.join(defaults)}}},"
    yield f"    tags=[{', '.join(map(_text, plan.tags))}],"
    yield "    doc_md=__doc__,"
    yield "):"
    # As ruff formats it.
    yield from [""] if kind(plan.tasks[0].task) == "sensor" else []
    skippers = {planned.task.name for planned in plan.tasks if planned.task.skips}
    for planned in plan.tasks:
        rule = bool(skippers.intersection(planned.upstream))
        yield from (f"    {line}".rstrip() for line in _task(planned, runner, sensor, takes_skips=rule))
        yield ""
    yield from _edges(plan)


def _task(planned: PlannedTask, runner: Runner, sensor: Sensor, *, takes_skips: bool) -> Iterator[str]:
    task, found = planned.task, kind(planned.task)
    if found == "sensor":
        yield from _sensor(planned, runner, sensor)
        return
    if task.branch is not None:
        yield from _branch(planned, task.branch)
        return
    yield f"{task.name} = {'BashOperator' if runner == 'bash' else 'DagsterRun'}("
    yield f"    task_id={_text(task.name)},"
    if runner == "bash":
        yield "    bash_command=EXEC,"
    elif found == "command":
        yield f"    command={_text(task.command or '')},"
    else:
        yield f"    assets=[{', '.join(map(_text, task.assets))}],"
        if task.skips:
            yield f"    skip_when=({', '.join(map(_text, task.skips))}),"
    if takes_skips:
        yield '    trigger_rule="none_failed",'
    yield f"    owner={_text(planned.owner)},"
    yield from _doc(planned.words)
    yield ")"


def _doc(words: str) -> Iterator[str]:
    line = f"    doc_md={_text(words)},"
    if len(line) + 4 <= _WIDTH:
        yield line
        return
    yield "    doc_md=("
    # As ruff has it: a text that fits on one line stands on one.
    lines = [words] if len(_text(words)) + 12 <= _WIDTH else textwrap.wrap(words, _WIDTH - 15)
    yield from (f"        {_text(part + ' ' * (part is not lines[-1]))}" for part in lines)
    yield "    ),"


def _sensor(planned: PlannedTask, runner: Runner, sensor: Sensor) -> Iterator[str]:
    task = planned.task
    how = f'poke_interval=300, timeout=6 * 60 * 60, mode="reschedule", owner={_text(planned.owner)}'
    yield from _call("@task.sensor", f"task_id={_text(task.name)}, {how}")
    if sensor == "s3":
        yield "def wait_until_ready(dag_run: Any) -> PokeReturnValue:"
        body = ['warehouse = Variable.get("mlops_warehouse_url")']
        body += [f"return is_ready(warehouse, {_text(task.files)}, dag_run)"]
    else:
        yield "def wait_until_ready(dag_run: Any, ti: Any) -> PokeReturnValue:"
        body = [f"return is_ready({_text(task.name)}, dag_run, ti.try_number)"]
        if runner == "graphql":
            arguments = f"{_text(task.name)}, dag_run, ti.try_number, command={_text(task.command or '')}"
            body = [f"found = dagster_run({arguments}, is_repeated=True)"]
            body += ['print(found["why"])  # noqa: T201 - a task\'s log']
            body += ['return PokeReturnValue(is_done=found["ready"], xcom_value=found)']
    yield f'    """{task.words}"""'
    yield from (f"    {line}" for line in body)
    yield ""
    yield f"{task.name} = wait_until_ready()"


def _branch(planned: PlannedTask, branch: Branch) -> Iterator[str]:
    (source,) = planned.upstream
    yield f"@task.branch(task_id={_text(planned.task.name)}, owner={_text(planned.owner)})"
    yield "def choose(ti: Any) -> str:"
    yield f'    """{planned.task.words}"""'
    yield f"    found = ti.xcom_pull(task_ids={_text(source)})[{_text(branch.asset)}]"
    choice = f"{_text(branch.then)} if found[{_text(branch.field)}] == {_text(branch.value)}"
    yield f"    return {choice} else {_text(branch.otherwise)}"
    yield ""
    yield f"{planned.task.name} = choose()"


def _edges(plan: DagPlan) -> Iterator[str]:
    """One chain from the start to where the ways part, then what is left."""
    after: dict[str, list[str]] = {planned.task.name: [] for planned in plan.tasks}
    for planned in plan.tasks:
        for earlier in planned.upstream:
            after[earlier].append(planned.task.name)
    path = [plan.tasks[0].task.name]
    while len(after[path[-1]]) == 1:
        path.append(after[path[-1]][0])
    lines = [(name, after[name]) for name in after if after[name] and name not in path[:-1]]
    yield from _chain(path)
    for name, targets in lines:
        yield f"    chain({name}, [{', '.join(targets)}])"


def _call(function: str, arguments: str) -> Iterator[str]:
    line = f"{function}({arguments})"
    yield from [line] if len(line) + 4 <= _WIDTH else [f"{function}(", f"    {arguments}", ")"]


def _chain(names: list[str]) -> Iterator[str]:
    line = f"    chain({', '.join(names)})"
    if len(line) <= _WIDTH:
        yield line
        return
    yield "    chain("
    yield from (f"        {name}," for name in names)
    yield "    )"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
