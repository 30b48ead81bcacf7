"""Makes `.venv` from `requirements.lock`, or finds that it is up to date and does nothing.

Belongs here: everything between "Python and make are there" and "the project's commands run". Does not belong here:
finding that Python (`tools/find-python`) and compiling the lock (`tools.make_lock`).

Pip installs only uv, at the version and hashes the lock names; uv installs the rest, faster than pip, and compiles
the bytecode on every core: without bytecode, first imports cost two to three times as much.
"""

from __future__ import annotations

import ast
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.lockfile import LockError, check_current, pin_with_hashes

ROOT = Path(__file__).resolve().parent.parent
# Where pip has been told to look for packages, uv has to look too; it does not read pip's configuration.
_PIP_TO_UV = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def fingerprint(root: Path, interpreter: Path) -> dict[str, str]:
    """What an environment was made of: where it stands, its interpreter, and the content of lock and pyproject.toml."""
    inputs = hashlib.sha256()
    for name in ("requirements.lock", "pyproject.toml"):
        inputs.update((root / name).read_bytes())
    # Scripts in .venv/bin hold the absolute path, so a moved clone needs a new one.
    return {
        "root": str(root),
        "interpreter": f"{interpreter} {sys.version_info[0]}.{sys.version_info[1]}",
        "inputs": inputs.hexdigest(),
    }


def uv_settings(pip_config: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Environment variables that make uv look where pip looks.

    Args:
        pip_config: Output of `pip config list`: lines such as `global.index-url='https://…'`.
        environ: The environment; what it already says to uv wins.
    """
    settings: dict[str, str] = {}
    for line in pip_config.splitlines():
        key, _, value = line.partition("=")
        option = key.rpartition(".")[2]
        if option not in _PIP_TO_UV:
            continue
        variable, separator = _PIP_TO_UV[option]
        words = str(ast.literal_eval(value)).split()
        if option == "find-links":  # pip skips a folder that is not there, uv stops
            words = [word for word in words if "://" in word or Path(word).is_dir()]
        if words and variable not in environ:
            settings[variable] = separator.join(words)
    if "UV_INDEX" in settings:  # pip's rule: the best match over all indexes; the hashes say which file is meant
        settings.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")
    return settings


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> None:
    """Run a command in the project's folder; its failure is ours."""
    subprocess.run([str(part) for part in command], cwd=ROOT, env=env, check=True)


def create_venv(venv: Path, interpreter: Path) -> None:
    """Make an empty environment that holds uv at the version and hashes of the lock."""
    run(interpreter, "-m", "venv", "--clear", venv)
    bootstrap = venv / "uv-requirement.txt"
    bootstrap.write_text(pin_with_hashes((ROOT / "requirements.lock").read_text(), "uv"))
    quiet = ("--quiet", "--disable-pip-version-check", "--only-binary=:all:")
    run(venv / "bin/python", "-m", "pip", "install", *quiet, "--require-hashes", "-r", bootstrap)


def uv_environment(venv: Path) -> dict[str, str]:
    """The environment uv runs in: ours, pip's sources, bytecode compiled, no other Python than the venv's."""
    listing = subprocess.run(
        [venv / "bin/python", "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    ).stdout
    return {**os.environ, **uv_settings(listing, os.environ), "UV_COMPILE_BYTECODE": "1", "VIRTUAL_ENV": str(venv)}


def install(venv: Path) -> None:
    """Bring the environment to exactly what the lock says, with the project itself editable on top."""
    uv, env = venv / "bin/uv", uv_environment(venv)
    run(uv, "pip", "sync", "--quiet", "--require-hashes", "requirements.lock", env=env)
    # Hatchling comes from the lock: no isolated build environment is fetched past the hashes.
    run(uv, "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".", env=env)
    run(uv, "pip", "check", "--quiet", env=env)


def set_up(root: Path) -> None:
    """Make `.venv` what lock and pyproject.toml say. Interrupted anywhere, the next call starts it afresh.

    Raises:
        LockError: The lock does not belong to pyproject.toml.
        subprocess.CalledProcessError: Pip or uv failed; they have said why.
    """
    venv, stamp = root / ".venv", root / ".venv" / ".ready"
    interpreter = Path(sys.executable).resolve()
    wanted = fingerprint(root, interpreter)
    made_of = json.loads(stamp.read_text()) if stamp.is_file() and (venv / "bin/python").exists() else {}
    if made_of == wanted:
        return
    check_current((root / "requirements.lock").read_text(), (root / "pyproject.toml").read_text())
    started = time.monotonic()
    reusable = {**made_of, "inputs": ""} == {**wanted, "inputs": ""}
    print(f"{'Updating' if reusable else 'Making, in a minute or two,'} .venv with {interpreter} …", flush=True)
    if reusable:
        stamp.unlink()
    else:
        create_venv(venv, interpreter)
    install(venv)
    stamp.write_text(json.dumps(wanted))
    print(f".venv is ready after {time.monotonic() - started:.0f} s", flush=True)


def one_at_a_time(work: Callable[[Path], None]) -> int:
    """Run a set-up, one at a time in a clone. Exit code 2: a message said what to do. 130: Ctrl-C."""
    with (ROOT / "pyproject.toml").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        try:
            work(ROOT)
        except LockError as error:
            print(error, file=sys.stderr)
            return 2
        except subprocess.CalledProcessError as error:
            print(f"Set-up stopped at: {' '.join(map(str, error.cmd))}", file=sys.stderr)
            print("Its message is above. Next: mend that and run the same command again", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("Set-up was interrupted. Next: run the same command again, it starts afresh", file=sys.stderr)
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(one_at_a_time(set_up))
