"""Makes `.venv-airflow` from `deploy/airflow/requirements.lock`, or, with `lock`, that lock from `requirements.in`.

Airflow and the platform pin different versions of the same libraries, so that neither can hold the other. Does not
belong here: `.venv` itself (`tools.setup_env`), Airflow's configuration.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.lockfile import LockError, changes
from tools.setup_env import ROOT, one_at_a_time, run, uv_environment

FOLDER = Path("deploy/airflow")
HEADER = "# Made by `make lock-airflow` from requirements.in; its sha256:"
_COMPILE = (
    *("--universal", "--python-version", "3.11", "--quiet", "--generate-hashes"),
    *("--no-emit-index-url", "--no-header", "--no-annotate", "--no-strip-extras"),
)


def headed(compiled: str, wanted: str) -> str:
    """The compiled pins under the line that names what they were compiled from.

    Raises:
        LockError: An address is in it, so it would install from that place only.
    """
    if "://" in compiled:
        raise LockError("The lock of Airflow would hold an address. Next: depend on released versions only")
    return f"{HEADER}{_digest(wanted)}\n{compiled}"


def check_current(lock: str, wanted: str) -> None:
    """Refuse a lock that was compiled from another requirements.in.

    Raises:
        LockError: The recorded digest is missing or differs.
    """
    if lock.partition("\n")[0] != HEADER + _digest(wanted):
        raise LockError(f"{FOLDER}/requirements.lock does not match requirements.in. Next: make lock-airflow")


def set_up(root: Path) -> None:
    """Make `.venv-airflow` what its lock says. Interrupted anywhere, the next call starts it afresh.

    Raises:
        LockError: The lock does not belong to requirements.in.
        subprocess.CalledProcessError: Uv failed; it has said why.
    """
    venv, stamp = root / ".venv-airflow", root / ".venv-airflow" / ".ready"
    lock = (root / FOLDER / "requirements.lock").read_text()
    check_current(lock, (root / FOLDER / "requirements.in").read_text())
    # Its scripts hold the absolute path, so a moved clone needs a new one.
    python = str(Path(sys.executable).resolve())
    wanted = {"root": str(root), "python": python, "lock": hashlib.sha256(lock.encode()).hexdigest()}
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return
    started = time.monotonic()
    print("Making, in half a minute, .venv-airflow …", flush=True)
    run(python, "-m", "venv", "--clear", "--without-pip", venv)
    env = {**uv_environment(root / ".venv"), "VIRTUAL_ENV": str(venv)}
    uv = root / ".venv/bin/uv"
    run(uv, "pip", "sync", "--quiet", "--require-hashes", FOLDER / "requirements.lock", env=env)
    stamp.write_text(json.dumps(wanted))
    print(f".venv-airflow is ready after {time.monotonic() - started:.0f} s", flush=True)


def compile_lock(arguments: list[str]) -> int:
    """Replace the lock in one step; an interrupted or failed compilation leaves the old one. Arguments are uv's."""
    wanted, lock = ROOT / FOLDER / "requirements.in", ROOT / FOLDER / "requirements.lock"
    before = lock.read_text() if lock.is_file() else ""
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".lock-") as folder:
        target = Path(folder) / lock.name
        if before:
            shutil.copy(lock, target)  # pins already in the target are preferred
        try:
            uv: tuple[str | Path, ...] = (
                ROOT / ".venv/bin/uv",
                "pip",
                "compile",
                wanted,
                *_COMPILE,
                *arguments,
                "--output-file",
                target,
            )
            run(*uv, env=uv_environment(ROOT / ".venv"))
            target.write_text(headed(target.read_text(), wanted.read_text()))
        except LockError as error:
            print(error, file=sys.stderr)
            return 2
        except subprocess.CalledProcessError:
            print("Uv could not compile the lock; its message is above. The old lock stands", file=sys.stderr)
            return 2
        target.replace(lock)
    for line in changes(before, lock.read_text()) or ["No pin changed"]:
        print(line)
    return 0


def _digest(wanted: str) -> str:
    lines = [line for line in wanted.splitlines() if line and not line.startswith("#")]
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(compile_lock(sys.argv[2:]) if sys.argv[1:2] == ["lock"] else one_at_a_time(set_up))
