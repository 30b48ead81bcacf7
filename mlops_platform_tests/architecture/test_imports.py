"""The house holds: every source file keeps to the tables of `house.py`, and the checker notices one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform_tests.architecture import house
from mlops_platform_tests.architecture.checker import heavy_top_imports, violations

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted(path for folder in ("mlops_platform", "serving") for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    names = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def source_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def test_every_source_file_keeps_to_the_house() -> None:
    assert SOURCES
    found = [
        line
        for path in SOURCES
        for line in violations(path.read_text(), module_of(path), is_package=path.name == "__init__.py")
    ]
    assert not found, "\n" + "\n".join(found)


def test_heavy_exceptions_are_still_needed() -> None:
    stale = [
        (module, library)
        for module, library in house.HEAVY_EXCEPTIONS
        if source_of(module).exists() and library not in heavy_top_imports(source_of(module).read_text())
    ]
    assert not stale


@pytest.mark.parametrize("module", [name for name in house.STAYS_LIGHT if source_of(name).exists()])
def test_importing_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({house.STAYS_LIGHT[module]!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "code", "expected"),
    [
        ("mlops_platform.errors", "import mlops_platform.settings", "errors imports mlops_platform.settings"),
        ("mlops_platform.storage.read", "from mlops_platform import data_pipeline", "storage imports"),
        ("mlops_platform.storage.read", "def f():\n    from mlops_platform.cli import main", "storage imports"),
        ("mlops_platform.storage.read", "from ..cli import main", "storage imports mlops_platform.cli.main"),
        ("mlops_platform.storage.read", "import importlib\nimportlib.import_module('mlops_platform.cli')", "imports"),
        ("mlops_platform.feature_pipeline.load", "from mlops_platform.training_pipeline import labels", "imports"),
        ("mlops_platform.data_pipeline.crm", "import mlops_platform.feature_pipeline", "data_pipeline imports"),
        ("mlops_platform.monitoring.drift", "from mlops_platform.training_pipeline import registry", "imports"),
        ("mlops_platform.monitoring.drift", "import mlops_platform.inference_pipeline", "monitoring imports"),
        ("mlops_platform.inference_pipeline.batch", "if True:\n    import serving.service", "imports serving.service"),
        ("mlops_platform.storage.lake", "import dagster as dg", "storage imports dagster"),
        ("mlops_platform.cli", "def f():\n    import dagster_pandera", "cli imports dagster_pandera"),
        ("mlops_platform.cli", "from mlops_platform.definitions import defs", "at the top of the module"),
        ("serving.service", "from mlops_platform.storage import read", "serving imports"),
        ("mlops_platform.storage.lake", "import pandas as pd", "imports pandas at the top"),
        ("mlops_platform.storage.lake", "class A:\n    from scipy import stats", "imports scipy at the top"),
        ("mlops_platform.storage.lake", "try:\n    pass\nexcept ValueError:\n    import mlflow", "mlflow at the top"),
        ("mlops_platform.storage.lake", "import os\nHOME = os.environ['HOME']", "reads the environment"),
        ("mlops_platform.storage.lake", "from os import getenv", "reads the environment"),
        ("serving.service", "import os\nos.getenv('X')", "reads the environment"),
        ("mlops_platform.storage.lake", "import datetime\ndatetime.datetime.now()", "reads the clock"),
        ("mlops_platform.storage.lake", "from datetime import date\ndate.today()", "reads the clock"),
        ("mlops_platform.storage.lake", "import time\ntime.time()", "reads the clock"),
        ("mlops_platform.storage.lake", "from time import time_ns", "reads the clock"),
        ("mlops_platform.feature_pipeline.load", "from mlops_platform.clock import now", "reads the clock"),
        ("mlops_platform.storage.lake", "SQL = 'SELECT current_date'", "reads the clock"),
        ("mlops_platform.attic.old", "", "attic has no row"),
    ],
)
def test_the_checker_notices(module: str, code: str, expected: str) -> None:
    found = violations(f'"""A module."""\n{code}\n', module)
    assert len(found) == 1, found
    assert expected in found[0]


def test_the_checker_notices_a_missing_docstring() -> None:
    assert violations("x = 1\n", "mlops_platform.errors") == ["mlops_platform.errors: opens without a docstring"]


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("mlops_platform.storage.read", "from mlops_platform.storage.duck import quoted"),
        ("mlops_platform.storage.read", "from . import duck\nfrom .duck import quoted"),
        ("mlops_platform.storage.read", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas"),
        ("mlops_platform.storage.read", "def f():\n    import pandas"),
        ("mlops_platform.storage.read", "import time\nstarted = time.perf_counter()"),
        ("mlops_platform.monitoring.drift", "from mlops_platform.training_pipeline.labels import churned"),
        ("mlops_platform.monitoring.drift", "from mlops_platform.training_pipeline import labels"),
        ("mlops_platform.orchestration.assets.ml", "import dagster as dg"),
        ("mlops_platform.cli", "def f():\n    from mlops_platform.definitions import build_definitions"),
        ("mlops_platform.cli", "from mlops_platform.clock import now"),
        ("mlops_platform.settings", "import os\nos.environ.get('X')"),
        ("mlops_platform.feature_pipeline.transformer", "from sklearn.base import BaseEstimator"),
        ("serving.service", "import bentoml\nfrom mlops_platform.inference_pipeline import Predictor"),
    ],
)
def test_the_checker_allows(module: str, code: str) -> None:
    assert violations(f'"""A module."""\n{code}\n', module) == []
