"""`bentoml build` makes a bento of the project's own lock; what its image will be is read from its files."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlops_platform.settings import child_environment, load_settings
from mlops_platform_tests.integration.servers import ROOT


@pytest.fixture(scope="module")
def bento(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bento")
    settings = load_settings(home=folder / "home")
    command = [sys.executable, "-m", "bentoml", "build", "-f", "deploy/docker/bentofile.yaml", "-o", "tag", "."]
    environment = child_environment(settings, BENTOML_HOME=str(folder))
    run = subprocess.run(  # noqa: PLW1510 - what it said is shown
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120
    )
    assert run.returncode == 0, run.stdout
    (found,) = folder.glob("bentos/churn_service/*/bento.yaml")
    return found.parent


def files_of(folder: Path, package: str) -> set[Path]:
    found = (path for path in (folder / package).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder) for path in found}


def test_it_holds_the_lock_and_the_code_and_nothing_else(bento: Path) -> None:
    lock, required = (path.read_text() for path in (ROOT / "requirements.lock", bento / "env/python/requirements.txt"))
    pinned = re.compile(r"^[a-zA-Z0-9._\[\]-]+==[^\s;\\]+|--hash=\S+", re.MULTILINE)
    # BentoML writes markers in its own way, and adds itself, at the version that builds.
    assert len(pinned.findall(lock)) > 1000
    assert set(pinned.findall(required)) == set(pinned.findall(lock))
    packed = {path.relative_to(bento / "src").parts[0] for path in (bento / "src").rglob("*") if path.is_file()}
    assert packed == {"serving", "mlops_platform", "requirements.lock", "bentofile.yaml"}
    for package in ("serving", "mlops_platform"):
        assert files_of(bento / "src", package) == files_of(ROOT, package)


def test_its_image_is_unprivileged_and_reads_no_pickles(bento: Path) -> None:
    lines = (bento / "env/docker/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER bentoml"]
    assert lines.index("USER bentoml") < next(n for n, line in enumerate(lines) if line.startswith("ENTRYPOINT"))
    for setting in ("MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false", "BENTOML_DO_NOT_TRACK=True", "BENTOML_HOST=0.0.0.0"):
        assert f"ARG {setting}" in lines
