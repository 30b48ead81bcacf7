"""Makes `.venv-engines`, PySpark on top of `.venv`, from `requirements.engines.lock`, or finds that it is up to date.

Only the tests of other engines need it: 480 MB that every other command does without. Does not belong here: `.venv`
itself (`tools.setup_env`), Java.
"""

from __future__ import annotations

import hashlib
import json
import sys
import sysconfig
import time
from pathlib import Path

from tools.lockfile import ENGINES_LOCK, check_current, pin_with_hashes
from tools.setup_env import one_at_a_time, run, uv_environment


def set_up(root: Path) -> None:
    """Make `.venv-engines` what its lock says. Interrupted anywhere, the next call starts it afresh.

    Raises:
        LockError: The lock does not belong to pyproject.toml.
        subprocess.CalledProcessError: Uv failed; it has said why.
    """
    venv, stamp = root / ".venv-engines", root / ".venv-engines" / ".ready"
    lock = (root / ENGINES_LOCK).read_text()
    check_current(lock, (root / "pyproject.toml").read_text(), ENGINES_LOCK)
    # The environment this runs in, whatever is in it: only its place and its Python count.
    below = {"below": sysconfig.get_path("purelib"), "python": str(Path(sys.executable).resolve())}
    wanted = {**below, "lock": hashlib.sha256(lock.encode()).hexdigest()}
    if stamp.is_file() and json.loads(stamp.read_text()) == wanted:
        return
    started = time.monotonic()
    print("Making, in half a minute, .venv-engines …", flush=True)
    create(venv, Path(below["below"]))
    install(venv, root / ".venv", lock)
    stamp.write_text(json.dumps(wanted))
    print(f".venv-engines is ready after {time.monotonic() - started:.0f} s", flush=True)


def create(venv: Path, below: Path) -> None:
    """Make an environment that sees all that another one holds."""
    run(sys.executable, "-m", "venv", "--clear", "--without-pip", venv)
    own = venv / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # Not the bare path: its own .pth files, such as the editable project's, have to be read too.
    (own / "below.pth").write_text(f"import site; site.addsitedir({str(below)!r})\n")


def install(venv: Path, below: Path, lock: str) -> None:
    """Install the lock with the uv of the environment below."""
    env = {**uv_environment(below), "VIRTUAL_ENV": str(venv)}
    backend = venv / "setuptools-requirement.txt"
    backend.write_text(pin_with_hashes(lock, "setuptools"))
    # As in .venv, no isolated build environment is fetched past the hashes.
    run(below / "bin/uv", "pip", "install", "--quiet", "--require-hashes", "-r", backend, env=env)
    hashed = ("--quiet", "--require-hashes", "--no-build-isolation")
    run(below / "bin/uv", "pip", "sync", *hashed, ENGINES_LOCK, env=env)


if __name__ == "__main__":
    sys.exit(one_at_a_time(set_up))
