"""Airflow, where one is set up: DAG files that it can't import.

Does not belong here: generating the DAGs (`mlops_platform.airflow_pack`).
"""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_platform.orchestration.doctor.finding import Finding

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

AIRFLOW_SECONDS = 60.0
_GENERATE = "mlops airflow generate"


def airflow(settings: Settings) -> Finding:
    """Airflow imports every DAG file; without its program, every file is Python at least."""
    home = settings.airflow_home
    if home is None:
        if settings.orchestrator == "airflow":
            message = "MLOPS_ORCHESTRATOR is airflow, and AIRFLOW_HOME is not set here"
            return Finding("Airflow", is_ok=True, message=message, mend='export AIRFLOW_HOME="$HOME/airflow"')
        return Finding("Airflow", is_ok=True, message="not used: AIRFLOW_HOME is not set")
    program = shutil.which("airflow")
    errors = _import_errors(program) if program is not None else _syntax_errors(home / "dags")
    if errors:
        file = next(iter(errors))
        message = "; ".join(f"{path}: {said}" for path, said in errors.items())
        mend = f"{_GENERATE} --out {Path(file).parent}, then: airflow dags reserialize"
        return Finding("Airflow", is_ok=False, message=message[:1_000], mend=mend)
    how = "airflow dags list-import-errors" if program is not None else "read as Python; no `airflow` on the PATH"
    return Finding("Airflow", is_ok=True, message=f"{home}: no DAG file with an error ({how})")


def _import_errors(program: str) -> dict[str, str]:
    """Errors by file, as Airflow tells them."""
    # Read anew: what the DAG processor saw last may be old, and there may be none.
    command = [program, "dags", "list-import-errors", "--local", "--output", "json"]
    done = subprocess.run(  # noqa: S603 - a fixed command line
        command, capture_output=True, text=True, check=False, timeout=AIRFLOW_SECONDS - 5, stdin=subprocess.DEVNULL
    )
    rows = _rows(done.stdout)
    if rows is None:
        last = (done.stderr.strip() or done.stdout.strip() or "nothing was said").splitlines()[-1]
        return {"airflow": f"dags list-import-errors ended with {done.returncode}: {last}"} if done.returncode else {}
    return {str(row["filepath"]): str(row["error"]).strip().splitlines()[-1] for row in rows}


def _rows(output: str) -> list[dict[str, Any]] | None:
    """The JSON list among what else is printed."""
    for line in reversed(output.splitlines()):
        if line.startswith("["):
            try:
                found = json.loads(line)
            except ValueError:
                continue
            return found if isinstance(found, list) else None
    return None


def _syntax_errors(folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(folder.rglob("*.py")):
        try:
            ast.parse(path.read_text(encoding="utf-8"))
        except (SyntaxError, ValueError) as error:
            found[str(path)] = f"{type(error).__name__}: {error}"
    return found
