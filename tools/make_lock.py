"""`make lock`: compiles both locks from pyproject.toml and says what changed.

Arguments are uv's: `--upgrade` for everything, `--upgrade-package NAME` for one. Without them the pins stay as they
are wherever pyproject.toml still allows them. Does not belong here: installing the lock (`tools.setup_env`).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.lockfile import ENGINES_LOCK, HEADER, LOCK, LockError, beside, changes, dependency_digest
from tools.setup_env import ROOT, create_venv, run, uv_environment

# One lock for every platform and Python from 3.11 on. Extras stay in the pins, or `pip install --require-hashes` would
# refuse it. No index address: a lock must not say where somebody's packages come from, the hashes hold wherever.
_COMPILE = (
    *("pip", "compile", "pyproject.toml", "--universal", "--python-version", "3.11", "--quiet"),
    *("--generate-hashes", "--no-emit-index-url", "--no-header", "--no-annotate", "--no-strip-extras"),
)


def headed(compiled: str, pyproject: str) -> str:
    """The compiled pins under the line that names the dependencies they were compiled from.

    Raises:
        LockError: An address is in it, so it would install from that place only.
    """
    if "://" in compiled:
        address = next(line for line in compiled.splitlines() if "://" in line)
        raise LockError(f"The lock would hold an address: {address.strip()}. Next: depend on a released version")
    return f"{HEADER}{dependency_digest(pyproject)}\n{compiled}"


def main(arguments: list[str]) -> int:
    """Replace the locks, each in one step; an interrupted or failed compilation leaves the old ones."""
    pyproject = (ROOT / "pyproject.toml").read_text()
    with tempfile.TemporaryDirectory(dir=ROOT, prefix=".lock-") as folder:
        venv = ROOT / ".venv"
        if not (venv / "bin/uv").exists():
            venv = Path(folder) / "venv"
            create_venv(venv, Path(sys.executable).resolve())
        new, engines = Path(folder) / LOCK, Path(folder) / ENGINES_LOCK
        for target in (new, engines):
            old = ROOT / target.name
            if old.is_file():
                shutil.copy(old, target)
        compile_: tuple[str | Path, ...] = (venv / "bin/uv", *_COMPILE, *arguments)
        env = uv_environment(venv)
        try:
            # pins already in the target are preferred
            run(*compile_, "--extra", "dev", "--output-file", new, env=env)
            run(*compile_, "--extra", "engines", "--constraint", new, "--output-file", engines, env=env)
            engines.write_text(headed(beside(engines.read_text(), new.read_text()), pyproject))
            new.write_text(headed(new.read_text(), pyproject))
        except LockError as error:
            print(error, file=sys.stderr)
            return 2
        except subprocess.CalledProcessError:
            print("Uv could not compile the lock; its message is above. The old lock stands", file=sys.stderr)
            return 2
        lines = [line for target in (new, engines) for line in _replaced(target)]
    for line in lines or ["No pin changed"]:
        print(line)
    return 0


def _replaced(target: Path) -> list[str]:
    """Puts a new lock in the old one's place; returns what changed."""
    lock = ROOT / target.name
    before, after = lock.read_text() if lock.is_file() else "", target.read_text()
    target.replace(lock)
    return changes(before, after)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
