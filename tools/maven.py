"""Programs for the JVM from Maven Central, at the versions and hashes of `tools/maven.lock`, kept in `.maven`.

Maven itself fetches them, so that its settings say from where. Does not belong here: starting them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

from tools.fetched_file import FetchError, kept
from tools.setup_env import ROOT

LOCK = ROOT / "tools" / "maven.lock"
FOLDER = ROOT / ".maven"
# The plugin's own version is part of what is fetched, so it is pinned too.
_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
_FETCH_SECONDS = 300


def locked() -> dict[str, str]:
    """The sha256 of each artifact, by its coordinates."""
    lines = (line for line in LOCK.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split() for line in lines)


def fetched(name: str) -> Path:
    """An artifact's file; it is fetched on first use.

    Args:
        name: The artifact, such as `s3proxy`; it stands in the lock once.

    Raises:
        FetchError: There is no Maven, it can't fetch the artifact, or the file is another than the lock's.
    """
    coordinates, sha256 = next(
        (found, digest) for found, digest in locked().items() if found.split(":")[1].startswith(name)
    )
    _, artifact, version, packaging, *classifier = coordinates.split(":")
    file_name = "-".join([artifact, version, *classifier]) + f".{packaging}"
    return kept(FOLDER / file_name, sha256, partial(_copy, coordinates))


def _copy(coordinates: str, folder: Path) -> Path:
    maven = shutil.which("mvn")
    if maven is None:
        raise FetchError("there is no Maven here; Debian's package is `maven`")
    command = (maven, "--quiet", "--batch-mode", _GOAL, f"-Dartifact={coordinates}", f"-DoutputDirectory={folder}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False, cwd=ROOT)
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"Maven did not fetch {coordinates} within {_FETCH_SECONDS} s") from error
    if done.returncode:
        raise FetchError(f"Maven can't fetch {coordinates}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    # Maven's own name of the file.
    (file,) = folder.iterdir()
    return file


def main(names: list[str]) -> int:
    """Fetch the artifacts with these names."""
    try:
        for name in names:
            print(fetched(name).relative_to(ROOT))
    except FetchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
