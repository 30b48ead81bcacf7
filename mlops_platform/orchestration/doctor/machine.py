"""The machine and the home's folder: is it ours, is there room and memory, are secrets closed, whose are the ports.

Does not belong here: what is in the home (`lake.py`, `runs.py`).
"""

from __future__ import annotations

import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_platform.home_backup.backup import moved_from
from mlops_platform.orchestration.doctor.finding import Finding
from mlops_platform.orchestration.processes import PORTS
from mlops_platform.storage.pseudonym import KEY_FILE

if TYPE_CHECKING:
    from mlops_platform.settings import Settings

MINIMUM_FREE_GB = 1.0
# What a process needs beside DuckDB's share: Python and its libraries.
OTHER_MEMORY_MB = 500


def home(settings: Settings) -> Finding:
    """The home is a folder that was not moved."""
    if settings.home.exists() and not settings.home.is_dir():
        mend = "choose a folder with --home DIR or MLOPS_HOME"
        return Finding("home", is_ok=False, message=f"{settings.home} is a file", mend=mend)
    if not settings.home.is_dir():
        return Finding("home", is_ok=False, message=f"{settings.home} does not exist yet", mend="mlops demo")
    if (made_at := moved_from(settings)) is not None:
        # Works on a home in the wrong place too: a backup finds the files by where they are.
        mend = f"move it with: mlops backup FILE.tar --home {shlex.quote(str(settings.home))}, then "
        mend += "mlops restore FILE.tar --home NEW_HOME"
        message = f"home was moved: made at {made_at}, now at {settings.home}; its tables name files there"
        return Finding("home", is_ok=False, message=message, mend=mend)
    return Finding("home", is_ok=True, message=f"{settings.home}, profile {settings.profile}")


def disk(settings: Settings) -> Finding:
    """There is room where the home lies, and where temporary files go."""
    folders = {"home": _nearest(settings.home), "temporary files": Path(tempfile.gettempdir())}
    free = {name: shutil.disk_usage(folder).free / 1e9 for name, folder in folders.items()}
    message = ", ".join(f"{gigabytes:.1f} GB free for {name}" for name, gigabytes in free.items())
    full = [name for name, gigabytes in free.items() if gigabytes < MINIMUM_FREE_GB]
    if full:
        mend = f"free {MINIMUM_FREE_GB:g} GB on the disk of {folders[full[0]]}; old snapshots and orphans go with: "
        return Finding("disk", is_ok=False, message=message, mend=mend + "mlops maintain")
    return Finding("disk", is_ok=True, message=message)


def memory(settings: Settings) -> Finding:
    """There is the memory that a run may take."""
    import psutil

    free, needed = psutil.virtual_memory().available / 2**20, settings.memory_limit_mb + OTHER_MEMORY_MB
    message = f"{free:,.0f} MB free; a run may take {needed:,}"
    mend = "" if free >= needed else "close other programs, or export MLOPS_MEMORY_LIMIT_MB=256"
    return Finding("memory", is_ok=True, message=message, mend=mend)


def secrets(settings: Settings) -> Finding:
    """Files that hold secrets are this user's alone."""
    folder = settings.secrets_dir
    files = [settings.home / KEY_FILE, *(sorted(folder.iterdir()) if folder is not None and folder.is_dir() else ())]
    there = [path for path in files if path.is_file()]
    # Container engines mount secrets readable for all inside the container: who may write counts there.
    wide = [path for path in there if path.stat().st_mode & (0o022 if path.parent == folder else 0o077)]
    if wide:
        names = " ".join(shlex.quote(str(path)) for path in wide)
        message = f"others may read or change: {', '.join(str(path) for path in wide)}"
        return Finding("secrets", is_ok=False, message=message, mend=f"chmod go-rwx {names}")
    if settings.home.is_dir() and settings.home.stat().st_mode & 0o022:
        message = f"others may write into {settings.home}"
        return Finding("secrets", is_ok=False, message=message, mend=f"chmod go-w {shlex.quote(str(settings.home))}")
    return Finding("secrets", is_ok=True, message=f"{len(there)} files with secrets, closed to others")


def ports(settings: Settings) -> Finding:
    """The ports of `mlops up` are free, or held by ours, on loopback."""
    from mlops_platform.orchestration.doctor.listening import Listener, listener_on

    held = {name: listener_on(name, port) for name, port in PORTS.items()}
    taken: dict[str, Listener] = {name: found for name, found in held.items() if found is not None}
    others = {name: found for name, found in taken.items() if not found.is_ours}
    if others:
        message = ", ".join(f"{name}'s port {found.port} is held by {found.who}" for name, found in others.items())
        pids = [str(found.pid) for found in others.values() if found.pid]
        mend = f"end what holds it: kill {' '.join(pids)}" if pids else "end what holds it; as root: ss -ltnp"
        return Finding("ports", is_ok=False, message=message, mend=mend)
    if wide := [found for found in taken.values() if found.is_wide and settings.profile == "embedded"]:
        message = f"port {wide[0].port} listens beyond loopback, for everybody: {wide[0].who}"
        return Finding("ports", is_ok=False, message=message, mend=f"kill {wide[0].pid}, then: mlops up")
    if taken:
        busy = ", ".join(f"{name} {found.port} ({found.who})" for name, found in taken.items())
        return Finding("ports", is_ok=True, message=f"in use by the platform: {busy}")
    return Finding("ports", is_ok=True, message=f"free: {', '.join(str(port) for port in PORTS.values())}")


def _nearest(folder: Path) -> Path:
    """The folder, or what it would be made in."""
    return next(each for each in (folder, *folder.parents) if each.exists())
