"""The scripts behind the Makefile: the lock belongs to pyproject.toml, and set-up does its work once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools import airflow_env, lockfile, setup_engines, setup_env
from tools.make_lock import headed

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = """
[build-system]
requires = ["hatchling>=1"]
[project]
name = "x"
requires-python = ">=3.11"
dependencies = ["b>=1", "a>=2"]
[project.optional-dependencies]
dev = ["uv"]
[tool.ruff]
line-length = 100
"""
COMPILED = """a==2.0 \\
    --hash=sha256:aa
b[extra]==1.0 ; python_version < '3.12' \\
    --hash=sha256:bb
uv==9.1 \\
    --hash=sha256:cc \\
    --hash=sha256:dd
"""
LOCK = headed(COMPILED, PYPROJECT)


def test_the_projects_lock_is_current_hashed_and_names_no_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    lockfile.check_current(lock, (ROOT / "pyproject.toml").read_text())
    assert "://" not in lock
    pinned = [line for line in lock.splitlines() if "==" in line.partition(";")[0]]
    assert len(pinned) > 100
    assert all(line.endswith("\\") for line in pinned)


def test_the_engines_lock_is_current_and_only_what_the_other_lacks() -> None:
    lock = (ROOT / lockfile.ENGINES_LOCK).read_text()
    lockfile.check_current(lock, (ROOT / "pyproject.toml").read_text(), lockfile.ENGINES_LOCK)
    assert "://" not in lock
    held = lockfile.pins((ROOT / lockfile.LOCK).read_text())
    assert {"pyspark", "setuptools"} <= lockfile.pins(lock).keys()
    assert not lockfile.pins(lock).keys() & held.keys()


@pytest.mark.parametrize(
    ("old", "new", "is_current"),
    [
        ("line-length = 100", "line-length = 120", True),
        ('["b>=1", "a>=2"]', '["a>=2", "b>=1"] # order and comments', True),
        ('"b>=1"', '"b>=2"', False),
        ('dev = ["uv"]', 'dev = ["uv", "pytest"]', False),
        (">=3.11", ">=3.12", False),
        ("hatchling>=1", "hatchling>=2", False),
    ],
)
def test_only_a_change_of_dependencies_asks_for_a_new_lock(old: str, new: str, is_current: bool) -> None:
    assert old in PYPROJECT
    edited = PYPROJECT.replace(old, new)
    if is_current:
        lockfile.check_current(LOCK, edited)
    else:
        with pytest.raises(lockfile.LockError, match="make lock"):
            lockfile.check_current(LOCK, edited)


def test_a_lock_without_its_first_line_is_refused() -> None:
    with pytest.raises(lockfile.LockError, match="make lock"):
        lockfile.check_current(COMPILED, PYPROJECT)


def test_a_lock_with_an_address_is_refused() -> None:
    with pytest.raises(lockfile.LockError, match="git"):
        headed("a @ git+https://example.org/a\n", PYPROJECT)


def test_one_pin_is_cut_out_with_all_its_hashes() -> None:
    assert lockfile.pin_with_hashes(LOCK, "uv") == "uv==9.1 \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
    with pytest.raises(lockfile.LockError, match="does not pin pip"):
        lockfile.pin_with_hashes(LOCK, "pip")


def test_what_a_lock_lacks_is_cut_out_with_all_its_hashes() -> None:
    twice = "c==1 ; os_name == 'nt' \\\n    --hash=sha256:ee\nc==2 ; os_name != 'nt' \\\n    --hash=sha256:ff\n"
    assert lockfile.beside(COMPILED + twice, LOCK) == twice
    assert lockfile.beside(COMPILED, LOCK) == ""


def test_changes_name_what_moved() -> None:
    after = LOCK.replace("a==2.0", "a==2.1").replace("b[extra]==1.0", "c==1.0")
    assert lockfile.changes(LOCK, after) == ["a: 2.0 → 2.1", "b: 1.0 → (none)", "c: (none) → 1.0"]


def test_uv_looks_where_pip_looks(tmp_path: Path) -> None:
    listing = "\n".join(
        [
            "global.index-url='https://pkgs.example.org/simple'",
            "global.extra-index-url='\\nhttps://one.example.org\\nhttps://two.example.org'",
            f":env:.find-links='{tmp_path} {tmp_path / 'absent'}'",
            "global.cert='/etc/ca.pem'",
            "global.timeout='60'",
        ]
    )
    assert setup_env.uv_settings(listing, {"SSL_CERT_FILE": "/mine.pem"}) == {
        "UV_DEFAULT_INDEX": "https://pkgs.example.org/simple",
        "UV_INDEX": "https://one.example.org https://two.example.org",
        "UV_FIND_LINKS": str(tmp_path),
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }
    assert setup_env.uv_settings("", {}) == {}


class Recorder:
    """Stands in for pip and uv: makes the files they would make, and can be told to fail."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.broken = False

    def create_venv(self, venv: Path, _interpreter: Path) -> None:
        self.calls.append("create")
        (venv / "bin").mkdir(parents=True, exist_ok=True)
        (venv / "bin/python").touch()

    def install(self, _venv: Path) -> None:
        self.calls.append("install")
        if self.broken:
            raise KeyboardInterrupt


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    made = Recorder()
    monkeypatch.setattr(setup_env, "create_venv", made.create_venv)
    monkeypatch.setattr(setup_env, "install", made.install)
    return made


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    root = tmp_path / "clone"
    root.mkdir()
    (root / "pyproject.toml").write_text(PYPROJECT)
    (root / "requirements.lock").write_text(LOCK)
    return root


def test_set_up_works_once_and_updates_in_place(clone: Path, recorder: Recorder) -> None:
    setup_env.set_up(clone)
    assert recorder.calls == ["create", "install"]
    (clone / "pyproject.toml").touch()  # newer, but says the same
    setup_env.set_up(clone)
    assert recorder.calls == ["create", "install"]
    (clone / "pyproject.toml").write_text(PYPROJECT.replace("line-length = 100", "line-length = 120"))
    setup_env.set_up(clone)
    assert recorder.calls == ["create", "install", "install"]


@pytest.mark.parametrize("again", ["first time", "update"])
def test_an_interrupted_set_up_starts_afresh(clone: Path, recorder: Recorder, again: str) -> None:
    if again == "update":
        setup_env.set_up(clone)
        (clone / "pyproject.toml").write_text(PYPROJECT + "\n# more\n")
    recorder.broken = True
    with pytest.raises(KeyboardInterrupt):
        setup_env.set_up(clone)
    assert not (clone / ".venv/.ready").exists()
    recorder.broken, recorder.calls = False, []
    setup_env.set_up(clone)
    assert recorder.calls == ["create", "install"]


def test_a_moved_clone_or_another_interpreter_starts_afresh(clone: Path, recorder: Recorder) -> None:
    setup_env.set_up(clone)
    recorder.calls.clear()
    moved = clone.rename(clone.with_name("moved"))
    setup_env.set_up(moved)
    assert recorder.calls == ["create", "install"]
    stamp = moved / ".venv/.ready"
    stamp.write_text(json.dumps({**json.loads(stamp.read_text()), "interpreter": "/usr/bin/python3.12 3.12"}))
    recorder.calls.clear()
    setup_env.set_up(moved)
    assert recorder.calls == ["create", "install"]


def test_the_engines_are_set_up_once_and_anew_for_another_lock(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def create(venv: Path, _below: Path) -> None:
        calls.append("create")
        venv.mkdir(exist_ok=True)

    monkeypatch.setattr(setup_engines, "create", create)
    monkeypatch.setattr(setup_engines, "install", lambda _venv, _below, _lock: calls.append("install"))
    (clone / lockfile.ENGINES_LOCK).write_text(LOCK)
    setup_engines.set_up(clone)
    setup_engines.set_up(clone)
    assert calls == ["create", "install"]
    (clone / lockfile.ENGINES_LOCK).write_text(LOCK.replace("9.1", "9.2"))
    setup_engines.set_up(clone)
    assert calls == ["create", "install"] * 2
    (clone / "pyproject.toml").write_text(PYPROJECT.replace("b>=1", "b>=2"))
    with pytest.raises(lockfile.LockError, match=r"requirements\.engines\.lock.*make lock"):
        setup_engines.set_up(clone)


def test_airflows_lock_is_current_hashed_and_names_no_address() -> None:
    folder = ROOT / airflow_env.FOLDER
    lock = (folder / "requirements.lock").read_text()
    airflow_env.check_current(lock, (folder / "requirements.in").read_text())
    assert "://" not in lock
    assert {"apache-airflow", "apache-airflow-providers-amazon"} <= lockfile.pins(lock).keys()
    assert lockfile.pins(lock)["apache-airflow"][0].startswith("3.3.")
    assert all(line.endswith("\\") for line in lock.splitlines() if "==" in line.partition(";")[0])


def test_airflow_is_set_up_once_and_anew_for_another_lock(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def run(*command: str | Path, env: object = None) -> None:
        calls.append(str(command[1]))
        (clone / ".venv-airflow").mkdir(exist_ok=True)

    monkeypatch.setattr(airflow_env, "run", run)
    monkeypatch.setattr(airflow_env, "uv_environment", lambda _venv: {})
    folder = clone / airflow_env.FOLDER
    folder.mkdir(parents=True)
    (folder / "requirements.in").write_text("# why\nb>=1\na>=2\n")
    for version in ("1", "2"):
        lock = airflow_env.headed(COMPILED.replace("9.1", f"9.{version}"), "a>=2\nb>=1\n")
        (folder / "requirements.lock").write_text(lock)
        airflow_env.set_up(clone)
        airflow_env.set_up(clone)
        assert calls == ["-m", "pip"] * int(version)
    (folder / "requirements.in").write_text("b>=2\na>=2\n")
    with pytest.raises(lockfile.LockError, match=r"requirements\.lock does not match.*make lock-airflow"):
        airflow_env.set_up(clone)
    with pytest.raises(lockfile.LockError, match="address"):
        airflow_env.headed("a @ https://example.org/a.whl", "a")


def test_the_engines_environment_sees_all_of_the_one_below(tmp_path: Path) -> None:
    below = tmp_path / "below"
    (below / "elsewhere").mkdir(parents=True)
    (below / "elsewhere/editable_project.py").write_text("found = 1")
    (below / "editable.pth").write_text(str(below / "elsewhere"))
    setup_engines.create(tmp_path / "venv", below)
    code = "import editable_project; print(editable_project.found)"
    run = subprocess.run([tmp_path / "venv/bin/python", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "1\n"


def test_set_up_refuses_a_lock_of_other_dependencies_and_touches_nothing(clone: Path, recorder: Recorder) -> None:
    setup_env.set_up(clone)
    recorder.calls.clear()
    (clone / "pyproject.toml").write_text(PYPROJECT.replace("b>=1", "b>=2"))
    with pytest.raises(lockfile.LockError, match="make lock"):
        setup_env.set_up(clone)
    assert recorder.calls == []
    assert (clone / ".venv/.ready").exists()


def find_python(path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", str(ROOT / "tools/find-python")]
    return subprocess.run(command, env={"PATH": str(path), **env}, check=False, capture_output=True, text=True)


def script(path: Path, body: str) -> None:
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def test_find_python_runs_its_candidates(tmp_path: Path) -> None:
    script(tmp_path / "python3", "exit 127  # a version manager's shim without a version")
    script(tmp_path / "python3.12", f'exec {sys.executable} "$@"')
    assert find_python(tmp_path).stdout.strip() == str(tmp_path / "python3.12")


def test_find_python_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "tail").symlink_to("/usr/bin/tail")
    none = find_python(tmp_path)
    assert none.returncode == 2
    assert "3.11, 3.12 or 3.13" in none.stderr
    script(tmp_path / "old", "echo 'it is Python 3.9' >&2; exit 1")
    named = find_python(tmp_path, PYTHON=str(tmp_path / "old"))
    assert named.returncode == 2
    assert "it is Python 3.9" in named.stderr


def test_every_make_target_explains_itself() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    assert targets == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))
    assert {"help", "demo", "test", "check", "up", "train", "bench", "lock", "clean"} <= targets
