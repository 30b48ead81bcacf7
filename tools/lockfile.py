"""What a lock is: pins with hashes, headed by the digest of the dependencies it was compiled from.

`requirements.lock` is the environment; `requirements.engines.lock` is what the tests of other engines need beside it.

Belongs here: reading and comparing the lock, offline. Does not belong here: installing it (`tools.setup_env`) or
compiling it (`tools.make_lock`).
"""

from __future__ import annotations

import hashlib
import json
import re
import tomllib

LOCK, ENGINES_LOCK = "requirements.lock", "requirements.engines.lock"
HEADER = "# Made by `make lock` from pyproject.toml; dependencies sha256:"
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;\\]+)", re.MULTILINE)


class LockError(Exception):
    """The lock can't be used; the message says what to do."""


def dependency_digest(pyproject: str) -> str:
    """Digest of everything in pyproject.toml that a lock depends on, as a hexadecimal SHA-256.

    Comments, order and the configuration of tools don't count, so editing those asks for no new lock.
    """
    tables = tomllib.loads(pyproject)
    project = tables["project"]
    relevant = {
        "build": sorted(tables["build-system"]["requires"]),
        "dependencies": sorted(project["dependencies"]),
        "extras": {name: sorted(items) for name, items in project.get("optional-dependencies", {}).items()},
        "python": project["requires-python"],
    }
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def pins(lock: str) -> dict[str, list[str]]:
    """Versions by package; more than one where they differ by platform or Python version."""
    found: dict[str, list[str]] = {}
    for name, version in _PIN.findall(lock):
        found.setdefault(name, []).append(version)
    return found


def pin_with_hashes(lock: str, name: str) -> str:
    """The lines that pin `name`, hashes included: a requirements file that installs this one package.

    Raises:
        LockError: The lock does not pin it.
    """
    lines = lock.splitlines()
    for start, line in enumerate(lines):
        if line.startswith(f"{name}=="):
            end = start
            while lines[end].endswith("\\"):
                end += 1
            return "\n".join(lines[start : end + 1]) + "\n"
    raise LockError(f"The lock does not pin {name}. Next: make lock")


def check_current(lock: str, pyproject: str, name: str = LOCK) -> None:
    """Refuse a lock that was compiled from other dependencies than pyproject.toml names now.

    Raises:
        LockError: The recorded digest is missing or differs.
    """
    first_line = lock.partition("\n")[0]
    if first_line != HEADER + dependency_digest(pyproject):
        raise LockError(
            f"{name} does not match the dependencies in pyproject.toml. Next: make lock, and commit the files together"
        )


def beside(compiled: str, lock: str) -> str:
    """The lines of freshly compiled pins whose packages a lock does not hold."""
    held, is_kept, lines = pins(lock), False, []
    for line in compiled.splitlines(keepends=True):
        if pin := _PIN.match(line):
            is_kept = pin[1] not in held
        if is_kept:
            lines.append(line)
    return "".join(lines)


def changes(before: str, after: str) -> list[str]:
    """One line per package whose pinned versions differ between two locks."""
    old, new = pins(before), pins(after)
    lines = []
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            versions = [", ".join(side.get(name, ["(none)"])) for side in (old, new)]
            lines.append(f"{name}: {versions[0]} → {versions[1]}")
    return lines
